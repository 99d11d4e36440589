//! The session with the driver: introduces the worker, carries out what the driver says, comes back when
//! the connection breaks.
//!
//! Messages of a job are taken strictly in order. What must be in force before the next message (membership,
//! assignment, restored state) is done here and now, plans before the next message of their job; everything else is
//! started and goes on by itself.

use crate::aside::set_aside;
use crate::jobs::Job;
use crate::node::{Identity, Node};
use crate::starting::Starting;
use crate::store::BlockId;
use crate::wire::receiver_id;
use crate::{WorkerError, fetch, heartbeat, restore, tasks};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tidemill_common::ids::{BatchId, JobId, WorkerId};
use tidemill_proto::common::ErrorKind;
use tidemill_proto::control::{self as pb, driver_message, worker_message};
use tidemill_proto::{MAX_MESSAGE_BYTES, PROTOCOL_VERSION};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Status, Streaming};

/// Messages to the driver that may wait.
const OUTBOX: usize = 4096;
/// Waits between attempts to reach the driver again.
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Keeps a session with the driver until the node stops. `joined` is told the first worker id.
pub(crate) async fn run(
    node: &Arc<Node>,
    data_address: String,
    joined: tokio::sync::oneshot::Sender<WorkerId>,
) -> Result<(), WorkerError> {
    let mut joined = Some(joined);
    let mut wait = FIRST_WAIT;
    let give_up = tokio::time::Instant::now() + node.config.connect_timeout;
    let checkpoints = node.blocking(restore::inventory).await.map_err(|e| WorkerError::Internal(e.to_string()))?;
    let mut hello = pb::Hello {
        protocol_version: PROTOCOL_VERSION,
        program_version: env!("CARGO_PKG_VERSION").to_string(),
        data_address,
        slots: node.config.slots as u32,
        memory_bytes: node.config.block_memory_bytes as u64,
        checkpoints,
        arithmetic_hash: crate::arithmetic::hash(),
        recovered_blocks: recovered_blocks(node).await?,
        functions: node.config.functions.known().map(crate::wire::function).collect(),
        ..pb::Hello::default()
    };
    let mut other_cluster = None;
    while !node.stop.is_cancelled() {
        hello.cluster_id = node.identity().cluster_id;
        let ended = tokio::select! {
            biased;
            () = node.stop.cancelled() => return Ok(()),
            ended = session(node, hello.clone(), &mut joined) => ended,
        };
        node.set_outbox(None);
        node.jobs.all().iter().for_each(|job| job.cancel_all());
        match ended {
            Ok(()) => wait = FIRST_WAIT,
            // What is held here may be all there is of the jobs of its own cluster.
            Err(Ended::Refused(WorkerError::Refused(ErrorKind::ErrorWrongCluster, reason))) if joined.is_none() => {
                if other_cluster.as_ref() != Some(&reason) {
                    tracing::warn!(reason, "another driver answers; waiting for that of this cluster");
                }
                other_cluster = Some(reason);
            }
            Err(Ended::Refused(error)) => return Err(error),
            Err(Ended::Unreachable(error)) => {
                if joined.is_some() && tokio::time::Instant::now() >= give_up {
                    let driver = node.config.driver.clone();
                    return Err(WorkerError::Unreachable { driver, reason: error.message().to_string() });
                }
                tracing::debug!(%error, "the driver cannot be reached");
            }
        }
        if joined.is_none() {
            hello.resume = Some(resume(node));
            hello.recovered_blocks.clear();
            // A driver that comes back has to know of checkpoints written since.
            if let Ok(checkpoints) = node.blocking(restore::inventory).await {
                hello.checkpoints = checkpoints;
            }
            crate::aside::offer(node, &mut hello);
        }
        tokio::select! {
            () = node.stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
    Ok(())
}

enum Ended {
    Unreachable(Status),
    Refused(WorkerError),
}

impl From<Status> for Ended {
    fn from(error: Status) -> Self {
        Self::Unreachable(error)
    }
}

async fn session(
    node: &Arc<Node>,
    hello: pb::Hello,
    joined: &mut Option<tokio::sync::oneshot::Sender<WorkerId>>,
) -> Result<(), Ended> {
    let endpoint = Endpoint::from_shared(node.config.driver.clone())
        .map_err(|error| Ended::Refused(WorkerError::DriverUrl(node.config.driver.clone(), error.to_string())))?;
    let endpoint = endpoint.tcp_nodelay(true).connect_timeout(Duration::from_secs(2));
    let channel = endpoint.connect().await.map_err(|error| Status::unavailable(chain(&error)))?;
    let mut client = pb::control_client::ControlClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (outbox, messages) = mpsc::channel(OUTBOX);
    let resuming = hello.resume.is_some();
    let first = pb::WorkerMessage { kind: Some(worker_message::Kind::Hello(hello)) };
    outbox.try_send(first).map_err(|error| Status::internal(error.to_string()))?;
    let mut messages = client.session(ReceiverStream::new(messages)).await?.into_inner();
    let welcome = welcome(&mut messages).await?;
    set_aside(node, welcome.unknown_jobs.iter().map(|job| JobId(*job))).await?;
    if !welcome.resumed && resuming {
        tracing::info!("the driver counts this worker as lost; starting afresh");
        forget_everything(node).await;
    }
    let worker = WorkerId(welcome.worker_id);
    node.set_identity(Identity { cluster_id: welcome.cluster_id.clone(), worker });
    crate::identity::save(&node.config.data_dir, &welcome.cluster_id).map_err(Ended::Refused)?;
    node.set_outbox(Some(outbox.clone()));
    tracing::info!(worker = worker.0, term = welcome.term, resumed = welcome.resumed, "joined the cluster");
    if let Some(joined) = joined.take() {
        // Nobody may be waiting for it.
        let _ = joined.send(worker);
    }
    let beats = heartbeat::run(node.clone(), outbox, Duration::from_millis(u64::from(welcome.heartbeat_ms.max(10))));
    let beats = tokio::spawn(beats);
    if welcome.resumed {
        node.receivers.report_again().await;
    }
    let ended = follow_driver(node, &mut messages).await;
    beats.abort();
    ended
}

async fn welcome(messages: &mut Streaming<pb::DriverMessage>) -> Result<pb::Welcome, Ended> {
    let first = tokio::time::timeout(Duration::from_secs(5), messages.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("the driver did not answer within 5 s"))??;
    match first.and_then(|message| message.kind) {
        Some(driver_message::Kind::Welcome(welcome)) => Ok(welcome),
        Some(driver_message::Kind::Refused(refused)) => {
            Err(Ended::Refused(WorkerError::Refused(refused.kind(), refused.message)))
        }
        _ => Err(Status::unavailable("the driver ended the session before it began").into()),
    }
}

async fn follow_driver(node: &Arc<Node>, messages: &mut Streaming<pb::DriverMessage>) -> Result<(), Ended> {
    let mut starting = Starting::default();
    loop {
        let message = tokio::select! {
            Some(compiled) = starting.next() => {
                for message in starting.finish(node, compiled).await {
                    carry_out(node, message).await;
                }
                continue;
            }
            message = messages.message(), if starting.has_room() => message,
        };
        match message {
            Ok(Some(pb::DriverMessage { kind: Some(message) })) => {
                if let Some(message) = starting.take(node, message) {
                    carry_out(node, message).await;
                }
            }
            Ok(Some(pb::DriverMessage { kind: None })) => {}
            Ok(None) | Err(_) => return Ok(()),
        }
    }
}

async fn carry_out(node: &Arc<Node>, message: driver_message::Kind) {
    if let Err(error) = take(node, message).await
        && !node.stop.is_cancelled()
    {
        tracing::warn!(%error, "a message of the driver could not be carried out");
    }
}

async fn take(node: &Arc<Node>, message: driver_message::Kind) -> Result<(), Status> {
    use driver_message::Kind;
    let job = |id: u64| node.jobs.get(JobId(id));
    match message {
        // `Starting` begins jobs.
        Kind::Welcome(_) | Kind::Refused(_) | Kind::StartJob(_) => {}
        Kind::Membership(membership) => node.set_members(&membership),
        Kind::EndJob(message) => end_job(node, JobId(message.job)).await?,
        Kind::SetAside(message) => set_aside(node, [JobId(message.job)]).await?,
        Kind::Assignment(table) => {
            if let Some(job) = job(table.job) {
                assign(node, &job, &table).await;
            }
        }
        Kind::StartReceiver(message) => {
            let id = receiver_id(message.receiver.as_ref())?;
            if let Some(job) = node.jobs.get(id.job) {
                node.receivers.start(node, &job, &message)?;
            }
        }
        Kind::StopReceiver(message) => node.receivers.stop(receiver_id(message.receiver.as_ref())?, message.drain),
        Kind::ReplicateTo(message) => {
            let workers = message.workers.iter().map(|id| WorkerId(*id)).collect();
            node.receivers.replicate_to(receiver_id(message.receiver.as_ref())?, workers);
        }
        Kind::SetRate(message) => node.receivers.set_rate(receiver_id(message.receiver.as_ref())?, message.rate),
        Kind::BlockLogged(message) => {
            node.receivers.logged(receiver_id(message.receiver.as_ref())?, message.epoch, message.through);
        }
        Kind::ReportBlocks(message) => {
            let id = receiver_id(message.receiver.as_ref())?;
            node.receivers.report_from(node, id, message.epoch, message.from).await;
        }
        Kind::PositionsLogged(message) => {
            node.receivers.positions_logged(receiver_id(message.receiver.as_ref())?, message.epoch, message.number);
        }
        Kind::RunTasks(message) => {
            for task in message.tasks {
                node.tracker.spawn_on(tasks::run(node.clone(), task), &node.data);
            }
        }
        Kind::CancelTasks(message) => {
            if let Some(job) = job(message.job) {
                job.cancel(message.task_ids);
            }
        }
        Kind::CopyBlock(message) => {
            node.tracker.spawn_on(copy_block(node.clone(), message), &node.data);
        }
        Kind::DropBlocks(message) => {
            let ids: Vec<_> = message.blocks.iter().filter_map(|b| crate::wire::block_id(Some(b)).ok()).collect();
            let unlogged = message.unlogged;
            node.blocking(move |node| {
                node.blocks.remove(&ids);
                unlogged.iter().for_each(|unlogged| drop_unlogged(node, unlogged));
            })
            .await?;
        }
        Kind::BatchComplete(message) => {
            node.shuffle.remove_batch(JobId(message.job), BatchId(message.batch));
            if let Some(job) = job(message.job) {
                job.completed.fetch_max(message.batch, Ordering::Relaxed);
            }
            // Only with state a batch may run again.
            if let Some(job) = job(message.job).filter(|job| job.stateful.is_empty()) {
                job.imported.settle(message.batch);
                job.runner.tables().settle(BatchId(message.batch));
            }
        }
        Kind::ImportedModel(message) => {
            if let Some(job) = job(message.job) {
                job.imported.put(message);
            }
        }
        Kind::ReloadedTable(message) => {
            if let Some(job) = job(message.job) {
                job.runner.tables().put(message.table as usize, BatchId(message.batch), message.bytes);
            }
        }
        Kind::WriteCheckpoint(message) => {
            if let Some(job) = job(message.job) {
                restore::write_owned(node, &job, BatchId(message.version));
            }
        }
        Kind::RetainCheckpoints(message) => retain_checkpoints(node, message),
        Kind::RestoreState(message) => {
            if let Some(job) = job(message.job) {
                restore::restore(node, &job, &message).await;
            }
        }
    }
    Ok(())
}

/// Lets go of what earlier receivers of a stream have left and the driver will never log.
fn drop_unlogged(node: &Node, unlogged: &pb::Unlogged) {
    let Ok(id) = receiver_id(unlogged.receiver.as_ref()) else { return };
    let of_receiver = |block: &BlockId| (block.source, block.receiver) == (id.source, id.receiver);
    let never = |block: &BlockId| block.epoch < unlogged.epoch && block.first_offset >= unlogged.from_offset;
    let held = node.blocks.list(id.job).into_iter().map(|(block, ..)| block);
    let ids: Vec<BlockId> = held.filter(|block| of_receiver(block) && never(block)).collect();
    node.blocks.remove(&ids);
}

async fn end_job(node: &Arc<Node>, id: JobId) -> Result<(), Status> {
    // What an earlier process left on the disk goes too.
    if let Some(job) = node.jobs.remove(id) {
        job.stop.cancel();
        node.shuffle.remove_job(id);
    }
    node.aside.remove(id);
    node.blocking(move |node| crate::aside::forget(node, id)).await
}

async fn assign(node: &Arc<Node>, job: &Arc<Job>, table: &pb::Assignment) {
    {
        let mut places = job.places.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        places.update(table, node.worker());
    }
    restore::drop_foreign(node, job);
    job.links.update(node, job);
    job.links.report_again(node, job).await;
}

fn retain_checkpoints(node: &Arc<Node>, message: pb::RetainCheckpoints) {
    if let (Some(job), Some(oldest)) = (node.jobs.get(JobId(message.job)), message.versions.iter().min()) {
        job.imported.settle(*oldest);
        job.runner.tables().settle(BatchId(*oldest));
    }
    let store = node.checkpoints.clone();
    let key = crate::state::checkpoint::JobKey::new(&node.identity().cluster_id, JobId(message.job));
    let keep: Vec<BatchId> = message.versions.iter().map(|version| BatchId(*version)).collect();
    let node_ = node.clone();
    node.tracker.spawn_on(
        async move {
            if let Ok(Err(error)) = node_.blocking(move |_| store.retain(&key, &keep)).await {
                tracing::warn!(%error, "old checkpoints could not be removed");
            }
        },
        &node.data,
    );
}

async fn copy_block(node: Arc<Node>, message: pb::CopyBlock) {
    let holders: Vec<WorkerId> = message.holders.iter().map(|id| WorkerId(*id)).collect();
    let copied = async {
        let id = crate::wire::block_id(message.block.as_ref())?;
        let bytes = fetch::block_from(&node, message.block, &holders).await?;
        let records = message.block.as_ref().map_or(0, |block| block.records);
        let durable =
            node.jobs.get(id.job).is_some_and(|job| job.plan.def.settings.durability == tidemill_job::Durability::Disk);
        let block = crate::store::blocks::Block { id, records, bytes };
        let put = move |node: &Node| if durable { node.blocks.put_durable(block) } else { node.blocks.put(block) };
        let put = node.blocking(put).await?;
        put.map_err(|error| tidemill_proto::status(ErrorKind::ErrorResources, error.to_string()))
    };
    let copied: Result<(), Status> = copied.await;
    if let Err(error) = &copied {
        tracing::debug!(%error, "a block could not be copied");
    }
    let answer = pb::BlockCopied { block: message.block, ok: copied.is_ok() };
    node.report(worker_message::Kind::BlockCopied(answer)).await;
}

/// What this worker has to offer to a driver that comes back.
fn resume(node: &Node) -> pb::Resume {
    let jobs = node.jobs.all();
    pb::Resume {
        worker_id: node.worker().0,
        blocks: jobs.iter().map(|job| crate::wire::held_blocks(node, job.id)).collect(),
        state: Vec::new(),
        receivers: node.receivers.list(),
        jobs: jobs.iter().map(|job| job.id.0).collect(),
        progress: jobs.iter().map(|job| job.progress()).collect(),
    }
}

async fn forget_everything(node: &Arc<Node>) {
    node.receivers.kill_all();
    for job in node.jobs.all() {
        node.jobs.remove(job.id);
        job.stop.cancel();
        node.shuffle.remove_job(job.id);
        node.states.remove_job(job.id);
        let id = job.id;
        // Blocks are copied again from those that still count.
        if node.blocking(move |node| node.blocks.remove_job(id)).await.is_err() {
            return;
        }
    }
}

async fn recovered_blocks(node: &Arc<Node>) -> Result<Vec<pb::HeldBlocks>, WorkerError> {
    let recovered = node.blocking(|node| node.blocks.recover()).await;
    let ids = recovered.map_err(|e| WorkerError::Internal(e.to_string()))?.map_err(WorkerError::Blocks)?;
    let jobs: std::collections::BTreeSet<JobId> = ids.iter().map(|id| id.job).collect();
    Ok(jobs.into_iter().map(|job| crate::wire::held_blocks(node, job)).collect())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
