//! Receivers of this worker: which run, and what each is given; where their blocks go is in [`replicator`].

mod manual;
mod replicator;

use crate::jobs::Job;
use crate::node::{Node, lock};
use crate::wire::ReceiverId;
use futures::FutureExt;
use manual::ManualBatch;
use replicator::Replicator;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tidemill_common::ids::WorkerId;
use tidemill_connect::{
    Backoff, BlockHolder, Context, Ended, Intake, Positions, Rate, ReceiverConfig, ReceiverEnd, ReceiverError,
    ReceiverState, ReceiverStatus, Source,
};
use tidemill_proto::common::ErrorKind;
use tidemill_proto::control::{self as pb, worker_message};
use tidemill_proto::status;
use tidemill_rows::records::Framing;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Batches that a manual receiver takes at once.
const MANUAL_QUEUE: usize = 4;

/// All receivers that run here.
#[derive(Default)]
pub(crate) struct Receivers {
    running: Mutex<HashMap<ReceiverId, Arc<Running>>>,
}

struct Running {
    epoch: u64,
    replicator: Arc<Replicator>,
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
        let replicator = Replicator::start(node, id, message, settings, kill.clone());
        let (input, manual) = if job.capture {
            let (sender, batches) = mpsc::channel(MANUAL_QUEUE);
            (Input::Manual(batches), Some(sender))
        } else {
            let factory = source.connector.function().map(|function| {
                let factory = node.config.functions.receiver_factory(&function.text);
                factory.cloned().ok_or_else(|| invalid("the receiver is not known here"))
            });
            let context = Context {
                receiver: id.receiver,
                base_dir: job.base_dir.clone(),
                batch_interval: settings.batch_interval,
                schema: job.plan.sources[id.source.0 as usize].schema.clone(),
                reconnect: Backoff::default(),
                factory: factory.transpose()?,
            };
            (Input::Source(source.connector.clone(), Box::new(context)), None)
        };
        let rate = Rate::default();
        rate.set(message.rate);
        let config = ReceiverConfig {
            framing: if job.capture { Framing::Block } else { source.framing },
            start_offset: message.start_offset,
            positions: positions(message),
            block_interval: settings.block_interval,
            block_bytes: (!source.connector.is_block_per_batch()).then_some(settings.block_bytes as usize),
            max_unheld_bytes: ReceiverConfig::MAX_UNHELD_BYTES,
            rate: rate.clone(),
        };
        let running = Arc::new(Running {
            epoch: message.epoch,
            replicator: replicator.clone(),
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
        tracker.spawn_on(async move { running.run(&node, id, config, input).await }, &data);
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
            *running.replicator.replicate_to.write().unwrap_or_else(PoisonError::into_inner) = workers;
        }
    }

    pub(crate) fn set_rate(&self, id: ReceiverId, per_second: f64) {
        if let Some(running) = lock(&self.running).get(&id) {
            running.rate.set(per_second);
        }
    }

    pub(crate) fn logged(&self, id: ReceiverId, epoch: u64, through: u64) {
        if let Some(running) = lock(&self.running).get(&id).filter(|running| running.epoch == epoch) {
            running.replicator.logged(through);
        }
    }

    pub(crate) fn positions_logged(&self, id: ReceiverId, epoch: u64, number: u64) {
        if let Some(running) = lock(&self.running).get(&id).filter(|running| running.epoch == epoch) {
            running.replicator.remembered.send_modify(|newest| *newest = number.max(*newest));
        }
    }

    /// Reports again what was reported in a session that is gone.
    pub(crate) async fn report_again(&self) {
        let running = lock(&self.running).values().map(|running| running.replicator.clone()).collect::<Vec<_>>();
        for replicator in running {
            replicator.report(None).await;
        }
    }

    /// The driver's log ends at `from`: reports again what a receiver has from there on, or ends it if it has that no more.
    pub(crate) async fn report_from(&self, node: &Node, id: ReceiverId, epoch: u64, from: u64) {
        let running = lock(&self.running).get(&id).filter(|running| running.epoch == epoch).cloned();
        let Some(running) = running else { return };
        let Err(missing) = running.replicator.report_from(from).await else { return };
        let error = format!("the driver's log ends at record {from}, and record {missing} is not here any more");
        tracing::warn!(job = id.job.0, source = id.source.0, error, "a receiver starts again");
        let report = pb::ReceiverReport { receiver: Some(id.into()), epoch, error, ..pb::ReceiverReport::default() };
        node.report(worker_message::Kind::ReceiverReport(report)).await;
        running.kill.cancel();
        self.forget(id, epoch);
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
                discarded: snapshot.discarded_partial,
                bad_files: snapshot.bad_files,
                rate: running.rate.get(),
            }
        };
        lock(&self.running).iter().map(entry).collect()
    }

    /// Gives a batch to a manual receiver; returns when it is held.
    pub(crate) async fn feed(&self, id: ReceiverId, records: Vec<String>) -> Result<(), Status> {
        let manual = lock(&self.running).get(&id).and_then(|running| running.manual.clone());
        let not_ready = || status(ErrorKind::ErrorNotReady, "the receiver does not run here (yet)");
        let (done, held) = oneshot::channel();
        manual.ok_or_else(not_ready)?.send(ManualBatch { records, done }).await.map_err(|_| not_ready())?;
        held.await.map_err(|_| status(ErrorKind::ErrorInternal, "the receiver ended before the records were held"))?;
        Ok(())
    }
}

impl Running {
    async fn run(&self, node: &Arc<Node>, id: ReceiverId, config: ReceiverConfig, input: Input) {
        let holder: Arc<dyn BlockHolder> = self.replicator.clone();
        let (status, drain) = (self.status.clone(), self.drain.clone());
        let running = tidemill_connect::run(config, holder, status, drain, |intake| input.run(intake).boxed());
        let result = tokio::select! {
            () = self.kill.cancelled() => None,
            result = running => Some(result),
        };
        self.kill.cancel();
        if let Some(result) = result {
            self.report_end(node, id, result).await;
        }
        // After the report: a receiver that heartbeats list no more has said why, or was told to end.
        node.receivers.forget(id, self.epoch);
    }

    async fn report_end(&self, node: &Node, id: ReceiverId, result: Result<ReceiverEnd, ReceiverError>) {
        let snapshot = self.status.snapshot();
        let mut report = pb::ReceiverReport {
            receiver: Some(id.into()),
            epoch: self.epoch,
            discarded: snapshot.discarded_partial,
            ..pb::ReceiverReport::default()
        };
        match result {
            Ok(ReceiverEnd { .. }) => report.drained = true,
            Err(error) => {
                report.error = error.to_string();
                report.cannot_hold = self.replicator.cannot_hold();
            }
        }
        node.report(worker_message::Kind::ReceiverReport(report)).await;
    }
}

/// Where the records of a receiver come from.
enum Input {
    Source(Source, Box<Context>),
    /// The caller gives them, batch by batch.
    Manual(mpsc::Receiver<ManualBatch>),
}

impl Input {
    async fn run(self, intake: &mut Intake) -> Result<Ended, ReceiverError> {
        match self {
            Self::Source(source, context) => source.run(*context, intake).await,
            Self::Manual(batches) => manual::run(intake, batches).await,
        }
    }
}

fn positions(message: &pb::StartReceiver) -> Positions {
    message.positions.iter().map(|position| (position.name.clone(), position.position.to_vec())).collect()
}
