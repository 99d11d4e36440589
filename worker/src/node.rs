//! What all parts of a worker share: who it is, who the others are, what it holds.

use crate::aside::Aside;
use crate::config::WorkerConfig;
use crate::jobs::Jobs;
use crate::receivers::Receivers;
use crate::state::StateSet;
use crate::state::checkpoint::{LazyStore, StateStore};
use crate::store::blocks::BlockStore;
use crate::store::shuffle::ShuffleStore;
use std::collections::HashMap;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tidemill_common::ids::WorkerId;
use tidemill_metrics::{Counter, metric};
use tidemill_proto::MAX_MESSAGE_BYTES;
use tidemill_proto::common::ErrorKind;
use tidemill_proto::control::{self as pb, worker_message};
use tidemill_proto::data::{self as data_pb, data_client::DataClient};
use tidemill_proto::{error_kind, status};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// A worker's flow-control windows for bulk data, per stream and per connection.
pub(crate) const STREAM_WINDOW: u32 = 8 << 20;
pub(crate) const CONNECTION_WINDOW: u32 = 32 << 20;
/// How long a request may wait until both ends have heard of a new member.
const NOT_READY_WAIT: Duration = Duration::from_millis(20);

metric! {
    static FENCED: Counter = Counter::new(
        "tidemill_fenced_requests_total",
        "Requests of other workers refused because their sender is no member, or of another cluster.",
    );
}

/// A client for another worker.
pub(crate) type Peer = DataClient<Channel>;

/// Who this worker is, in the driver's eyes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Identity {
    pub(crate) cluster_id: String,
    pub(crate) worker: WorkerId,
}

/// One worker.
pub(crate) struct Node {
    pub(crate) config: WorkerConfig,
    pub(crate) identity: RwLock<Identity>,
    members: watch::Sender<HashMap<WorkerId, String>>,
    peers: Mutex<HashMap<WorkerId, Peer>>,
    outbox: Mutex<Outbox>,
    pub(crate) blocks: BlockStore,
    pub(crate) shuffle: ShuffleStore,
    pub(crate) states: StateSet,
    pub(crate) checkpoints: Arc<dyn StateStore>,
    pub(crate) jobs: Jobs,
    pub(crate) aside: Aside,
    pub(crate) receivers: Receivers,
    /// CPU work runs there and nowhere else.
    pub(crate) compute: Handle,
    pub(crate) compute_slots: Arc<Semaphore>,
    /// Everything that waits: requests, receivers, tasks while they fetch.
    pub(crate) data: Handle,
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) running_tasks: AtomicU32,
}

/// Where what the driver is to hear goes.
#[derive(Debug, Default)]
struct Outbox {
    /// How often it was opened and closed.
    session: u64,
    sender: Option<mpsc::Sender<pb::WorkerMessage>>,
}

impl Node {
    pub(crate) fn new(
        config: WorkerConfig,
        identity: Identity,
        blocks: BlockStore,
        shuffle: ShuffleStore,
        compute: Handle,
        data: Handle,
        stop: CancellationToken,
    ) -> Self {
        Self {
            identity: RwLock::new(identity),
            members: watch::Sender::default(),
            peers: Mutex::default(),
            outbox: Mutex::default(),
            blocks,
            shuffle,
            states: StateSet::default(),
            checkpoints: Arc::new(LazyStore::new(config.data_dir.join("state"))),
            jobs: Jobs::default(),
            aside: Aside::default(),
            receivers: Receivers::default(),
            compute,
            compute_slots: Arc::new(Semaphore::new(config.slots.max(1))),
            data,
            tracker: TaskTracker::new(),
            stop,
            running_tasks: AtomicU32::new(0),
            config,
        }
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn worker(&self) -> WorkerId {
        self.identity.read().unwrap_or_else(PoisonError::into_inner).worker
    }

    pub(crate) fn set_identity(&self, identity: Identity) {
        *self.identity.write().unwrap_or_else(PoisonError::into_inner) = identity;
    }

    /// Takes over the list of live workers; connections to others are dropped.
    pub(crate) fn set_members(&self, membership: &pb::Membership) {
        let members: HashMap<WorkerId, String> =
            membership.workers.iter().map(|m| (WorkerId(m.worker_id), m.data_address.clone())).collect();
        lock(&self.peers).retain(|worker, _| members.contains_key(worker));
        self.members.send_replace(members);
    }

    pub(crate) fn is_member(&self, worker: WorkerId) -> bool {
        self.members.borrow().contains_key(&worker)
    }

    /// Where messages to the driver go while a session is open.
    pub(crate) fn set_outbox(&self, sender: Option<mpsc::Sender<pb::WorkerMessage>>) {
        let mut outbox = lock(&self.outbox);
        outbox.session += 1;
        outbox.sender = sender;
    }

    /// The session of now, if there is one: its number, and where to say something in it.
    pub(crate) fn session(&self) -> Option<(u64, mpsc::Sender<pb::WorkerMessage>)> {
        let outbox = lock(&self.outbox);
        Some((outbox.session, outbox.sender.clone()?))
    }

    /// Says something to the driver; false when there is no session. What matters is said again in the next one.
    pub(crate) async fn report(&self, kind: worker_message::Kind) -> bool {
        match self.session() {
            Some((_, outbox)) => outbox.send(pb::WorkerMessage { kind: Some(kind) }).await.is_ok(),
            None => false,
        }
    }

    /// A client for a live worker.
    pub(crate) fn peer(&self, worker: WorkerId) -> Result<Peer, Status> {
        if let Some(peer) = lock(&self.peers).get(&worker) {
            return Ok(peer.clone());
        }
        let address = self.members.borrow().get(&worker).cloned();
        let address = address.ok_or_else(|| status(ErrorKind::ErrorFenced, format!("worker {worker} is no member")))?;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| status(ErrorKind::ErrorInvalid, format!("address of worker {worker}: {error}")))?
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(1))
            .timeout(self.config.request_timeout)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let client = DataClient::new(endpoint.connect_lazy())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        lock(&self.peers).insert(worker, client.clone());
        Ok(client)
    }

    /// Waits for a worker's answer for as long as it is a member: one that hangs is soon none any more.
    pub(crate) async fn while_member<T>(
        &self,
        worker: WorkerId,
        answer: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let mut members = self.members.subscribe();
        tokio::select! {
            answer = answer => answer,
            _ = members.wait_for(|members| !members.contains_key(&worker)) => {
                Err(status(ErrorKind::ErrorNotFound, format!("worker {worker} was lost while it was asked")))
            }
        }
    }

    /// Who asks, for requests to other workers.
    pub(crate) fn caller(&self) -> Option<data_pb::Caller> {
        let identity = self.identity();
        Some(data_pb::Caller { cluster_id: identity.cluster_id, worker_id: identity.worker.0 })
    }

    /// Refuses requests of other clusters and of workers that are no members (INV-5).
    pub(crate) fn admit(&self, caller: Option<&data_pb::Caller>) -> Result<WorkerId, Status> {
        let caller = caller.ok_or_else(|| status(ErrorKind::ErrorInvalid, "the request has no caller"))?;
        let identity = self.identity();
        if caller.cluster_id != identity.cluster_id {
            FENCED.add(1);
            let message = format!("this worker belongs to cluster {}", identity.cluster_id);
            return Err(status(ErrorKind::ErrorWrongCluster, message));
        }
        let worker = WorkerId(caller.worker_id);
        if worker.0 > self.newest_member() {
            // It joined a moment ago and the driver's word of it has not arrived here.
            return Err(status(ErrorKind::ErrorNotReady, format!("worker {worker} is not known here yet")));
        }
        if !self.is_member(worker) {
            FENCED.add(1);
            return Err(status(ErrorKind::ErrorFenced, format!("worker {worker} is no member (any more)")));
        }
        Ok(worker)
    }

    fn newest_member(&self) -> u64 {
        let members = self.members.borrow();
        members.keys().map(|worker| worker.0).max().unwrap_or(0)
    }

    /// Runs blocking file work off the asynchronous threads.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let node = self.clone();
        let done = self.data.spawn_blocking(move || work(&node)).await;
        done.map_err(|error| status(ErrorKind::ErrorInternal, error.to_string()))
    }
}

/// Whether a request may succeed if it is tried again at once.
pub(crate) async fn worth_retrying(error: &Status) -> bool {
    if error_kind(error) == Some(ErrorKind::ErrorNotReady) {
        tokio::time::sleep(NOT_READY_WAIT).await;
        return true;
    }
    false
}

/// Locks; data behind these locks is consistent after every statement.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
