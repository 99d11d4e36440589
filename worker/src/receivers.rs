//! Receivers of this worker, and the way of their blocks: stored here, copied to peers, reported to the
//! driver, and held once the driver has logged them (INV-2).

use crate::jobs::Job;
use crate::node::{Node, lock, worth_retrying};
use crate::receiver::files::Content;
use crate::receiver::{
    self, Backoff, BlockSink, FileChoice, FileEntry, FileLog, HoldError, ManualBatch, Queue, Rate, ReceiverConfig,
    ReceiverEnd, ReceiverKind, ReceiverState, ReceiverStatus, SealedBlock, WatchedFiles,
};
use crate::store::BlockId;
use crate::store::blocks::Block;
use crate::wire::{ReceiverId, sealed_ref};
use datafusion::arrow::datatypes::SchemaRef;
use futures::future::BoxFuture;
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tidemill_common::ids::WorkerId;
use tidemill_common::job::{Connector, Durability, FileContent, FilesSource, Settings};
use tidemill_common::location::Location;
use tidemill_plan::registry::ReceiverOptions;
use tidemill_proto::common::ErrorKind;
use tidemill_proto::control::{self as pb, worker_message};
use tidemill_proto::data as data_pb;
use tidemill_proto::{error_kind, status};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Blocks of one receiver on their way; more than a receiver keeps unheld.
const REPORT_QUEUE: usize = 256;
/// A choice of files that is not answered for this long is sent again.
const CHOICE_PATIENCE: Duration = Duration::from_secs(1);
/// Batches that a manual receiver takes at once.
const MANUAL_QUEUE: usize = 4;

/// All receivers that run here.
#[derive(Default)]
pub(crate) struct Receivers {
    running: Mutex<HashMap<ReceiverId, Arc<Running>>>,
}

struct Running {
    epoch: u64,
    sink: Arc<Sink>,
    status: Arc<ReceiverStatus>,
    rate: Rate,
    /// Stop reading, hold what was read, end.
    drain: CancellationToken,
    /// End at once.
    kill: CancellationToken,
    /// Batches of a manual receiver.
    manual: Option<mpsc::Sender<ManualBatch>>,
}

impl Receivers {
    pub(crate) fn start(&self, node: &Arc<Node>, job: &Job, message: &pb::StartReceiver) -> Result<(), Status> {
        let id = crate::wire::receiver_id(message.receiver.as_ref())?;
        let invalid = |what: &str| status(ErrorKind::ErrorInvalid, what);
        let source = job.plan.def.sources.get(id.source.0 as usize).ok_or_else(|| invalid("no such source"))?;
        let settings = &job.plan.def.settings;
        let kill = job.stop.child_token();
        let sink = Sink::start(node, id, message, settings, kill.clone());
        let (kind, manual) = if job.capture {
            let (sender, rx) = mpsc::channel(MANUAL_QUEUE);
            (ReceiverKind::Manual { rx }, Some(sender))
        } else {
            let kind = match &source.connector {
                Connector::Files(files) => {
                    let schema = &job.plan.sources[id.source.0 as usize].schema;
                    let files = watched_files(files, schema, &job.base_dir, message, sink.clone());
                    ReceiverKind::Files(Box::new(files))
                }
                other => receiver_kind(node, other, id.receiver, settings)?,
            };
            (kind, None)
        };
        let rate = Rate::default();
        rate.set(message.rate);
        let config = ReceiverConfig {
            kind,
            start_offset: message.start_offset,
            block_interval: settings.block_interval,
            block_bytes: settings.block_bytes as usize,
            max_unheld_bytes: ReceiverConfig::MAX_UNHELD_BYTES,
            reconnect: Backoff::default(),
            rate: rate.clone(),
        };
        let running = Arc::new(Running {
            epoch: message.epoch,
            sink: sink.clone(),
            status: Arc::default(),
            rate,
            drain: CancellationToken::new(),
            kill,
            manual,
        });
        if let Some(before) = lock(&self.running).insert(id, running.clone()) {
            before.kill.cancel();
        }
        let node = node.clone();
        let (tracker, data) = (node.tracker.clone(), node.data.clone());
        tracker.spawn_on(async move { running.run(&node, id, config).await }, &data);
        Ok(())
    }

    fn forget(&self, id: ReceiverId, epoch: u64) {
        let mut running = lock(&self.running);
        if running.get(&id).is_some_and(|current| current.epoch == epoch) {
            running.remove(&id);
        }
    }

    pub(crate) fn stop(&self, id: ReceiverId, drain: bool) {
        if let Some(running) = lock(&self.running).get(&id) {
            if drain { running.drain.cancel() } else { running.kill.cancel() }
        }
    }

    pub(crate) fn kill_all(&self) {
        lock(&self.running).drain().for_each(|(_, running)| running.kill.cancel());
    }

    pub(crate) fn replicate_to(&self, id: ReceiverId, workers: Vec<WorkerId>) {
        if let Some(running) = lock(&self.running).get(&id) {
            *running.sink.replicate_to.write().unwrap_or_else(PoisonError::into_inner) = workers;
        }
    }

    pub(crate) fn set_rate(&self, id: ReceiverId, per_second: f64) {
        if let Some(running) = lock(&self.running).get(&id) {
            running.rate.set(per_second);
        }
    }

    pub(crate) fn logged(&self, id: ReceiverId, epoch: u64, through: u64) {
        if let Some(running) = lock(&self.running).get(&id).filter(|running| running.epoch == epoch) {
            running.sink.logged(through);
        }
    }

    pub(crate) fn files_chosen(&self, id: ReceiverId, epoch: u64, number: u64) {
        if let Some(running) = lock(&self.running).get(&id).filter(|running| running.epoch == epoch) {
            running.sink.chosen.send_modify(|newest| *newest = number.max(*newest));
        }
    }

    /// Reports again what was reported in a session that is gone.
    pub(crate) async fn report_again(&self) {
        let sinks: Vec<Arc<Sink>> = lock(&self.running).values().map(|running| running.sink.clone()).collect();
        for sink in sinks {
            sink.report(None).await;
        }
    }

    pub(crate) fn list(&self) -> Vec<pb::RunningReceiver> {
        let entry = |(id, running): (&ReceiverId, &Arc<Running>)| pb::RunningReceiver {
            receiver: Some((*id).into()),
            epoch: running.epoch,
        };
        lock(&self.running).iter().map(entry).collect()
    }

    pub(crate) fn status(&self) -> Vec<pb::ReceiverStatus> {
        let entry = |(id, running): (&ReceiverId, &Arc<Running>)| {
            let snapshot = running.status.snapshot();
            let (state, last_error) = match snapshot.state {
                ReceiverState::Connecting => ("connecting", String::new()),
                ReceiverState::Connected => ("connected", snapshot.reported.clone()),
                ReceiverState::BackingOff { error, .. } => ("backing off", error),
                ReceiverState::Draining => ("draining", String::new()),
                ReceiverState::Ended => ("ended", String::new()),
            };
            pb::ReceiverStatus {
                receiver: Some((*id).into()),
                state: state.to_string(),
                last_error,
                reconnects: snapshot.reconnects,
                discarded: snapshot.discarded_partial + snapshot.discarded_oversized,
                bad_files: snapshot.bad_files,
                rate: running.rate.get(),
            }
        };
        lock(&self.running).iter().map(entry).collect()
    }

    /// Gives a batch to a manual receiver; returns when it is held.
    pub(crate) async fn feed(&self, id: ReceiverId, lines: Vec<String>) -> Result<(), Status> {
        let manual = lock(&self.running).get(&id).and_then(|running| running.manual.clone());
        let not_ready = || status(ErrorKind::ErrorNotReady, "the receiver does not run here (yet)");
        let (done, held) = oneshot::channel();
        manual.ok_or_else(not_ready)?.send(ManualBatch { lines, done }).await.map_err(|_| not_ready())?;
        held.await.map_err(|_| status(ErrorKind::ErrorInternal, "the receiver ended before the records were held"))?;
        Ok(())
    }
}

impl Running {
    async fn run(&self, node: &Arc<Node>, id: ReceiverId, config: ReceiverConfig) {
        let sink: Arc<dyn BlockSink> = self.sink.clone();
        let result = tokio::select! {
            () = self.kill.cancelled() => None,
            result = receiver::run(config, sink, self.status.clone(), self.drain.clone()) => Some(result),
        };
        self.kill.cancel();
        node.receivers.forget(id, self.epoch);
        let Some(result) = result else { return };
        let snapshot = self.status.snapshot();
        let mut report = pb::ReceiverReport {
            receiver: Some(id.into()),
            epoch: self.epoch,
            discarded: snapshot.discarded_partial + snapshot.discarded_oversized,
            ..pb::ReceiverReport::default()
        };
        match result {
            Ok(ReceiverEnd { .. }) => report.drained = true,
            Err(error) => report.error = error.to_string(),
        }
        node.report(worker_message::Kind::ReceiverReport(report)).await;
    }
}

fn receiver_kind(
    node: &Node,
    connector: &Connector,
    receiver: u32,
    settings: &Settings,
) -> Result<ReceiverKind, Status> {
    let invalid = |what: &str| status(ErrorKind::ErrorInvalid, what);
    match connector {
        Connector::Socket { addresses, acknowledge, .. } => {
            let address = addresses.get(receiver as usize).or_else(|| addresses.first());
            let address = address.ok_or_else(|| invalid("no such receiver"))?;
            Ok(ReceiverKind::Socket { address: address.clone(), acknowledge: *acknowledge })
        }
        Connector::Generate { rows_per_second, keys, seed, limit, receivers } => Ok(ReceiverKind::Generate {
            rows_per_second: *rows_per_second,
            keys: *keys,
            seed: *seed,
            limit: *limit,
            share: (receiver, *receivers),
        }),
        Connector::Queue { batches, repeat } => {
            let repeat_every = repeat.then_some(settings.batch_interval);
            Ok(ReceiverKind::Queue(Queue { entries: batches.clone(), repeat_every }))
        }
        Connector::Receiver { function, options, receivers } => {
            let factory = node.config.functions.receiver_factory(&function.text);
            let factory = factory.ok_or_else(|| invalid("the receiver is not known here"))?;
            let options = ReceiverOptions { options: options.iter().cloned().collect(), receiver, of: *receivers };
            Ok(ReceiverKind::User { factory: factory.clone(), options })
        }
        Connector::Files(_) => Err(invalid("a source of files needs its log")),
    }
}

fn watched_files(
    def: &FilesSource,
    schema: &SchemaRef,
    base_dir: &Path,
    message: &pb::StartReceiver,
    log: Arc<dyn FileLog>,
) -> WatchedFiles {
    let logged = message.files.clone().unwrap_or_default();
    let known = logged.known.into_iter().map(|file| (file.name, (file.size, file.modified_ns)));
    let open = logged.open.into_iter().filter_map(|open| Some((from_wire(open.file?), open.first_offset)));
    WatchedFiles {
        directory: Location::resolve(base_dir, &def.path).into(),
        pattern: def.pattern.clone(),
        new_files_only: def.new_files_only,
        poll_interval: def.poll_interval,
        content: match def.content {
            FileContent::Lines { header } => Content::Lines { header },
            FileContent::Parquet => Content::Parquet(schema.clone()),
        },
        started: logged.started,
        known: known.collect(),
        open: open.collect(),
        log,
    }
}

fn from_wire(file: pb::SourceFile) -> FileEntry {
    FileEntry { name: file.name, size: file.size, modified_ns: file.modified_ns }
}

fn on_wire(file: FileEntry) -> pb::SourceFile {
    pb::SourceFile { name: file.name, size: file.size, modified_ns: file.modified_ns }
}

/// The driver's log, as a receiver of files sees it.
impl FileLog for Sink {
    fn remember(&self, choice: FileChoice) -> BoxFuture<'static, Result<(), HoldError>> {
        let number = self.choices.fetch_add(1, Ordering::Relaxed) + 1;
        let (file, first_offset) = choice.file.map_or((None, 0), |(file, first)| (Some(on_wire(file)), first));
        let message = pb::ChooseFiles {
            receiver: Some(self.id.into()),
            epoch: self.epoch,
            file,
            first_offset,
            skipped: choice.skipped.into_iter().map(on_wire).collect(),
            gone: choice.gone,
            number,
        };
        let (node, mut chosen, kill) = (self.node.clone(), self.chosen.subscribe(), self.kill.clone());
        Box::pin(async move {
            loop {
                node.report(worker_message::Kind::ChooseFiles(message.clone())).await;
                tokio::select! {
                    biased;
                    done = chosen.wait_for(|newest| *newest >= number) => {
                        return done.map(drop).map_err(|_| HoldError::Fenced);
                    }
                    () = kill.cancelled() => return Err(HoldError::Fenced),
                    // The driver may have been away; asking again changes nothing.
                    () = tokio::time::sleep(CHOICE_PATIENCE) => {}
                }
            }
        })
    }
}

/// Where a receiver's blocks go.
struct Sink {
    node: Arc<Node>,
    id: ReceiverId,
    epoch: u64,
    durable: bool,
    replicate_to: RwLock<Vec<WorkerId>>,
    /// Blocks in order, each with the future of its copies.
    reports: mpsc::Sender<Copying>,
    /// Reported and not answered.
    unanswered: Mutex<VecDeque<pb::BlockReceived>>,
    /// The session in which all of those were said.
    reported_in: tokio::sync::Mutex<u64>,
    through: watch::Sender<u64>,
    /// Choices of files asked for, and the newest that is logged.
    choices: AtomicU64,
    chosen: watch::Sender<u64>,
    kill: CancellationToken,
}

struct Copying {
    block: tidemill_proto::common::BlockRef,
    copies: oneshot::Receiver<Result<Vec<u64>, String>>,
}

impl Sink {
    fn start(
        node: &Arc<Node>,
        id: ReceiverId,
        message: &pb::StartReceiver,
        settings: &Settings,
        kill: CancellationToken,
    ) -> Arc<Self> {
        let (reports, queue) = mpsc::channel(REPORT_QUEUE);
        let sink = Arc::new(Self {
            node: node.clone(),
            id,
            epoch: message.epoch,
            durable: settings.durability == Durability::Disk,
            replicate_to: RwLock::new(message.replicate_to.iter().map(|id| WorkerId(*id)).collect()),
            reports,
            unanswered: Mutex::default(),
            reported_in: tokio::sync::Mutex::default(),
            through: watch::Sender::new(message.start_offset),
            choices: AtomicU64::new(0),
            chosen: watch::Sender::new(0),
            kill,
        });
        let reporter = sink.clone();
        node.tracker.spawn_on(async move { reporter.report_in_order(queue).await }, &node.data);
        sink
    }

    /// The driver logs blocks of a receiver in order, so they are reported in order.
    async fn report_in_order(&self, mut queue: mpsc::Receiver<Copying>) {
        loop {
            let next = tokio::select! {
                () = self.kill.cancelled() => None,
                next = queue.recv() => next,
            };
            let Some(Copying { block, copies }) = next else { return };
            let Ok(Ok(holders)) = copies.await else {
                self.kill.cancel();
                return;
            };
            self.report(Some(pb::BlockReceived { block: Some(block), holders })).await;
        }
    }

    /// Reports a block; in a new session only behind all that were not answered, since the driver refuses a block
    /// that does not follow on what it has logged.
    async fn report(&self, new: Option<pb::BlockReceived>) {
        let mut reported_in = self.reported_in.lock().await;
        lock(&self.unanswered).extend(new.clone());
        let Some((session, outbox)) = self.node.session() else { return };
        let due: Vec<_> = match *reported_in == session {
            true => new.into_iter().collect(),
            false => lock(&self.unanswered).iter().cloned().collect(),
        };
        for report in due {
            let kind = Some(worker_message::Kind::BlockReceived(report));
            // What a session that has ended takes no more is said in the next one.
            if outbox.send(pb::WorkerMessage { kind }).await.is_err() {
                return;
            }
        }
        *reported_in = session;
    }

    fn logged(&self, through: u64) {
        lock(&self.unanswered)
            .retain(|report| report.block.as_ref().is_some_and(|b| b.first_offset + b.records > through));
        self.through.send_modify(|logged| *logged = through.max(*logged));
    }

    /// Stores the block here and on the peers; gives back who holds it.
    async fn copy(&self, sealed: SealedBlock) -> Result<Vec<u64>, String> {
        let id = BlockId {
            job: self.id.job,
            source: self.id.source,
            receiver: self.id.receiver,
            epoch: self.epoch,
            first_offset: sealed.first_offset,
        };
        let block = Block { id, records: sealed.records, bytes: sealed.bytes.clone() };
        let durable = self.durable;
        let store = move |node: &Node| if durable { node.blocks.put_durable(block) } else { node.blocks.put(block) };
        let (stored, copied) = tokio::join!(self.node.blocking(store), self.copy_to_peers(&sealed));
        stored.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let mut holders = vec![self.node.worker().0];
        holders.extend(copied?);
        Ok(holders)
    }

    async fn copy_to_peers(&self, sealed: &SealedBlock) -> Result<Vec<u64>, String> {
        let mut holders: Vec<WorkerId> = Vec::new();
        loop {
            // The driver changes the peers when one is lost, so this looks again before every attempt.
            let wanted = self.replicate_to.read().unwrap_or_else(PoisonError::into_inner).clone();
            let missing = wanted.iter().find(|worker| !holders.contains(worker) && self.node.is_member(**worker));
            let Some(peer) = missing.copied() else {
                return Ok(holders.into_iter().map(|worker| worker.0).collect());
            };
            match self.put(peer, sealed).await {
                Ok(()) => holders.push(peer),
                Err(error) if error_kind(&error) == Some(ErrorKind::ErrorFenced) => {
                    return Err(format!("worker {peer} refused a copy: {}", error.message()));
                }
                Err(error) => {
                    tracing::debug!(%peer, %error, "a copy failed");
                    if !worth_retrying(&error).await {
                        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    }
                }
            }
        }
    }

    async fn put(&self, peer: WorkerId, sealed: &SealedBlock) -> Result<(), Status> {
        let request = data_pb::PutBlockRequest {
            caller: self.node.caller(),
            block: Some(sealed_ref(self.id, self.epoch, sealed)),
            bytes: sealed.bytes.clone(),
            durable: self.durable,
        };
        let mut client = self.node.peer(peer)?;
        self.node.while_member(peer, client.put_block(request)).await?;
        Ok(())
    }
}

/// A sink as a receiver sees it.
impl BlockSink for Sink {
    fn hold(&self, sealed: SealedBlock) -> BoxFuture<'static, Result<(), HoldError>> {
        let end = sealed.first_offset + sealed.records;
        let block = sealed_ref(self.id, self.epoch, &sealed);
        let (sender, copies) = oneshot::channel();
        let queued = self.reports.try_send(Copying { block, copies });
        let this = lock(&self.node.receivers.running).get(&self.id).map(|running| running.sink.clone());
        let (mut through, kill) = (self.through.subscribe(), self.kill.clone());
        // Copying starts now, not when the future is first polled.
        let copying = this.map(|this| {
            let (tracker, data) = (self.node.tracker.clone(), self.node.data.clone());
            let copy = async move {
                let copies = tokio::select! {
                    () = this.kill.cancelled() => Err("the receiver was stopped".to_string()),
                    copies = this.copy(sealed) => copies,
                };
                let failure = copies.as_ref().err().cloned();
                // The reporter is gone only when the receiver is.
                let _ = sender.send(copies);
                failure
            };
            tracker.spawn_on(copy, &data)
        });
        Box::pin(async move {
            let copying = copying.ok_or(HoldError::Fenced)?;
            queued.map_err(|error| HoldError::Failed(error.to_string()))?;
            let logged = async { through.wait_for(|through| *through >= end).await.map(drop) };
            let failed = async {
                match copying.await {
                    Ok(Some(failure)) => failure,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                logged = logged => logged.map_err(|_| HoldError::Fenced),
                failure = failed => Err(HoldError::Failed(failure)),
                () = kill.cancelled() => Err(HoldError::Fenced),
            }
        })
    }
}
