//! The way of a receiver's blocks: stored here, copied to peers, reported to the driver, and held once the driver has
//! logged them (INV-2). What changes in the positions of its source goes with them, or alone where no record is behind it.

use crate::node::{Node, lock, worth_retrying};
use crate::store::BlockId;
use crate::store::blocks::Block;
use crate::wire::{ReceiverId, sealed_ref};
use futures::future::BoxFuture;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tidemill_common::ids::WorkerId;
use tidemill_connect::{BlockHolder, HoldError, PositionChange, SealedBlock};
use tidemill_job::{Durability, Settings};
use tidemill_metrics::{Counter, metric};
use tidemill_proto::common::{BlockRef, ErrorKind};
use tidemill_proto::control::{self as pb, worker_message};
use tidemill_proto::data as data_pb;
use tidemill_proto::error_kind;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

metric! {
    static SEALED: Counter =
        Counter::new("tidemill_blocks_sealed_total", "Blocks that receivers of this worker have sealed.");
    static SEALED_BYTES: Counter =
        Counter::new("tidemill_sealed_bytes_total", "Bytes of the blocks that receivers of this worker have sealed.");
    static COPIES: Counter =
        Counter::new("tidemill_block_copies_total", "Copies of its blocks that other workers took from this one.");
    static FAILED_COPIES: Counter =
        Counter::new("tidemill_failed_block_copies_total", "Tries of copies that another worker did not take.");
}

/// Blocks of one receiver on their way; more than a receiver keeps unheld.
const REPORT_QUEUE: usize = 256;
/// A peer that does not take a copy for so long is reported, and the driver chooses another.
const PEER_PATIENCE: Duration = Duration::from_secs(5);
/// Wait before a copy is tried again.
const COPY_RETRY: Duration = Duration::from_millis(20);
/// Changed positions that are not answered for this long are sent again.
const CHANGE_PATIENCE: Duration = Duration::from_secs(1);

/// Changes of positions that are kept once they are logged, for a log that loses them. A receiver whose changes are kept no
/// more starts again from what the log has.
const KEPT_CHANGES: usize = 1 << 16;

/// Where a receiver's blocks go.
pub(super) struct Replicator {
    node: Arc<Node>,
    id: ReceiverId,
    epoch: u64,
    durable: bool,
    pub(super) replicate_to: RwLock<Vec<WorkerId>>,
    /// Blocks in order, each with the future of its copies.
    reports: mpsc::Sender<Copying>,
    /// Reported and not answered.
    unanswered: Mutex<VecDeque<pb::BlockReceived>>,
    /// All blocks before this offset have been reported.
    reported: AtomicU64,
    /// The session in which all of those were said.
    reported_in: tokio::sync::Mutex<u64>,
    through: watch::Sender<u64>,
    /// Requests for changed positions without a record, and the newest that is logged.
    requests: AtomicU64,
    pub(super) remembered: watch::Sender<u64>,
    changed: Mutex<Changed>,
    /// The worker that could not hold a block; 0 for none.
    cannot_hold: AtomicU64,
    kill: CancellationToken,
}

/// Changes of positions that were said, by the offset at which.
#[derive(Default)]
struct Changed {
    by_offset: BTreeMap<u64, Said>,
    count: usize,
    /// All that were said before this offset are gone.
    kept_from: u64,
}

/// What was said at one offset.
#[derive(Debug, Clone, Default, PartialEq)]
struct Said {
    /// Without a record, each in a message of its own.
    alone: Vec<Vec<pb::PositionChange>>,
    /// With the block that begins there.
    with_block: Vec<pb::PositionChange>,
}

impl Changed {
    fn alone(&mut self, offset: u64, changes: Vec<pb::PositionChange>) {
        self.count += changes.len();
        self.by_offset.entry(offset).or_default().alone.push(changes);
        self.forget_oldest();
    }

    fn with_block(&mut self, offset: u64, changes: &[pb::PositionChange]) {
        if !changes.is_empty() {
            self.count += changes.len();
            self.by_offset.entry(offset).or_default().with_block = changes.to_vec();
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        while self.count > KEPT_CHANGES {
            let Some((oldest, said)) = self.by_offset.pop_first() else { return };
            self.count -= said.with_block.len() + said.alone.iter().map(Vec::len).sum::<usize>();
            self.kept_from = oldest + 1;
        }
    }

    /// All from an offset on; none if they are not all there.
    fn from(&self, offset: u64) -> Option<BTreeMap<u64, Said>> {
        (offset >= self.kept_from)
            .then(|| self.by_offset.range(offset..).map(|(at, said)| (*at, said.clone())).collect())
    }
}

struct Copying {
    block: BlockRef,
    changes: Vec<pb::PositionChange>,
    copies: oneshot::Receiver<Result<Vec<u64>, CopyError>>,
}

/// Why a block could not be held.
#[derive(Debug, Clone, thiserror::Error)]
enum CopyError {
    #[error("{reason}")]
    Here { reason: String },
    #[error("worker {peer} did not take a copy: {reason}")]
    Peer { peer: WorkerId, reason: String },
    #[error("the receiver was stopped")]
    Stopped,
}

impl Replicator {
    pub(super) fn start(
        node: &Arc<Node>,
        id: ReceiverId,
        message: &pb::StartReceiver,
        settings: &Settings,
        kill: CancellationToken,
    ) -> Arc<Self> {
        let (reports, queue) = mpsc::channel(REPORT_QUEUE);
        let replicator = Arc::new(Self {
            node: node.clone(),
            id,
            epoch: message.epoch,
            durable: settings.durability == Durability::Disk,
            replicate_to: RwLock::new(message.replicate_to.iter().map(|id| WorkerId(*id)).collect()),
            reports,
            unanswered: Mutex::default(),
            reported: AtomicU64::new(message.start_offset),
            reported_in: tokio::sync::Mutex::default(),
            through: watch::Sender::new(message.start_offset),
            requests: AtomicU64::new(0),
            remembered: watch::Sender::new(0),
            changed: Mutex::default(),
            cannot_hold: AtomicU64::new(0),
            kill,
        });
        let reporter = replicator.clone();
        node.tracker.spawn_on(async move { reporter.report_in_order(queue).await }, &node.data);
        replicator
    }

    /// The driver logs blocks of a receiver in order, so they are reported in order.
    async fn report_in_order(&self, mut queue: mpsc::Receiver<Copying>) {
        loop {
            let next = tokio::select! {
                () = self.kill.cancelled() => None,
                next = queue.recv() => next,
            };
            let Some(Copying { block, changes, copies }) = next else { return };
            // Without this block nothing behind it is logged. The receiver hears of it and ends with a report.
            let Ok(Ok(holders)) = copies.await else { return };
            lock(&self.changed).with_block(block.first_offset, &changes);
            self.report(Some(pb::BlockReceived { block: Some(block), holders, changes })).await;
        }
    }

    /// Reports a block; in a new session only behind all that were not answered, since the driver refuses a block
    /// that does not follow on what it has logged.
    pub(super) async fn report(&self, new: Option<pb::BlockReceived>) {
        let mut reported_in = self.reported_in.lock().await;
        if let Some(block) = new.as_ref().and_then(|report| report.block.as_ref()) {
            self.reported.fetch_max(block.first_offset + block.records, Ordering::Relaxed);
        }
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

    /// Reports once more every block from an offset on that was reported before; the error is the first record that is in no
    /// block here.
    pub(super) async fn report_from(&self, from: u64) -> Result<(), u64> {
        let _order = self.reported_in.lock().await;
        let held = self.held_from(from)?;
        let Some(mut changed) = lock(&self.changed).from(from) else { return Err(from) };
        let mut messages = Vec::new();
        {
            let mut unanswered = lock(&self.unanswered);
            let before = std::mem::take(&mut *unanswered);
            for (id, records, bytes) in held {
                let block = crate::wire::block_ref(&id, records, bytes);
                let known = before.iter().find(|report| report.block.as_ref() == Some(&block));
                let holders = known.map_or_else(|| vec![self.node.worker().0], |report| report.holders.clone());
                let Said { alone, with_block } = changed.remove(&id.first_offset).unwrap_or_default();
                messages.extend(self.said_alone(id.first_offset, alone));
                let report = pb::BlockReceived { block: Some(block), holders, changes: with_block };
                unanswered.push_back(report.clone());
                messages.push(worker_message::Kind::BlockReceived(report));
            }
        }
        // What is left was said behind the last block.
        messages.extend(changed.into_iter().flat_map(|(offset, said)| self.said_alone(offset, said.alone)));
        for message in messages {
            // In the next session the driver asks again.
            self.node.report(message).await;
        }
        Ok(())
    }

    /// All blocks from an offset on that were reported; the error is the first record that is in none.
    fn held_from(&self, from: u64) -> Result<Vec<(BlockId, u64, u64)>, u64> {
        let reported = self.reported.load(Ordering::Relaxed);
        let is_wanted = |id: &BlockId| {
            let of_receiver = (id.source, id.receiver, id.epoch) == (self.id.source, self.id.receiver, self.epoch);
            of_receiver && (from..reported).contains(&id.first_offset)
        };
        let mut held = self.node.blocks.list(self.id.job);
        held.retain(|(id, _, _)| is_wanted(id));
        held.sort_unstable_by_key(|(id, _, _)| id.first_offset);
        let mut next = from;
        for (id, records, _) in &held {
            if id.first_offset != next {
                return Err(next);
            }
            next += records;
        }
        if next < reported { Err(next) } else { Ok(held) }
    }

    /// Changes that were said alone, as they were said. Nobody waits for these answers.
    fn said_alone(&self, offset: u64, alone: Vec<Vec<pb::PositionChange>>) -> Vec<worker_message::Kind> {
        let message = |changes| worker_message::Kind::PositionsChanged(self.positions_changed(offset, changes, 0));
        alone.into_iter().map(message).collect()
    }

    fn positions_changed(&self, offset: u64, changes: Vec<pb::PositionChange>, number: u64) -> pb::PositionsChanged {
        pb::PositionsChanged { receiver: Some(self.id.into()), epoch: self.epoch, offset, changes, number }
    }

    pub(super) fn logged(&self, through: u64) {
        lock(&self.unanswered)
            .retain(|report| report.block.as_ref().is_some_and(|b| b.first_offset + b.records > through));
        self.through.send_modify(|logged| *logged = through.max(*logged));
    }

    /// Stores the block here and on the peers; gives back who holds it.
    async fn copy(&self, sealed: SealedBlock) -> Result<Vec<u64>, CopyError> {
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
        let here = |reason: String| CopyError::Here { reason };
        stored.map_err(|error| here(error.to_string()))?.map_err(|error| here(error.to_string()))?;
        let mut holders = vec![self.node.worker().0];
        holders.extend(copied?);
        Ok(holders)
    }

    async fn copy_to_peers(&self, sealed: &SealedBlock) -> Result<Vec<u64>, CopyError> {
        let mut holders: Vec<WorkerId> = Vec::new();
        let mut refusing: Option<(WorkerId, Instant)> = None;
        loop {
            // The driver changes the peers when one is lost, so this looks again before every attempt.
            let wanted = self.replicate_to.read().unwrap_or_else(PoisonError::into_inner).clone();
            let missing = wanted.iter().find(|worker| !holders.contains(worker) && self.node.is_member(**worker));
            let Some(peer) = missing.copied() else {
                return Ok(holders.into_iter().map(|worker| worker.0).collect());
            };
            match self.put(peer, sealed).await {
                Ok(()) => {
                    COPIES.add(1);
                    holders.push(peer);
                }
                Err(error) if error_kind(&error) == Some(ErrorKind::ErrorFenced) => {
                    // It is this worker that does not count any more.
                    let reason = format!("worker {peer} refused a copy: {}", error.message());
                    return Err(CopyError::Here { reason });
                }
                Err(error) => {
                    tracing::debug!(%peer, %error, "a copy failed");
                    FAILED_COPIES.add(1);
                    let since =
                        refusing.filter(|(before, _)| *before == peer).map_or_else(Instant::now, |(_, since)| since);
                    refusing = Some((peer, since));
                    if since.elapsed() >= PEER_PATIENCE {
                        return Err(CopyError::Peer { peer, reason: error.message().to_string() });
                    }
                    if !worth_retrying(&error).await {
                        tokio::time::sleep(COPY_RETRY).await;
                    }
                }
            }
        }
    }

    /// Stores a block and its copies, and tells the reporter who holds it; gives back why, if nobody does.
    async fn copy_and_tell(
        self: Arc<Self>,
        sealed: SealedBlock,
        reporter: oneshot::Sender<Result<Vec<u64>, CopyError>>,
    ) -> Option<CopyError> {
        let copies = tokio::select! {
            () = self.kill.cancelled() => Err(CopyError::Stopped),
            copies = self.copy(sealed) => copies,
        };
        let failure = copies.as_ref().err().cloned();
        if let Some(worker) = failure.as_ref().and_then(|failure| self.blamed(failure)) {
            self.cannot_hold.store(worker.0, Ordering::Relaxed);
        }
        // The reporter is gone only when the receiver is.
        let _ = reporter.send(copies);
        failure
    }

    /// Who could not hold a block.
    fn blamed(&self, failure: &CopyError) -> Option<WorkerId> {
        match failure {
            CopyError::Here { .. } => Some(self.node.worker()),
            CopyError::Peer { peer, .. } => Some(*peer),
            CopyError::Stopped => None,
        }
    }

    /// The worker that could not hold a block of this receiver; 0 for none.
    pub(super) fn cannot_hold(&self) -> u64 {
        self.cannot_hold.load(Ordering::Relaxed)
    }

    async fn put(&self, peer: WorkerId, sealed: &SealedBlock) -> Result<(), Status> {
        let request = data_pb::PutBlockRequest {
            caller: self.node.caller(),
            block: Some(sealed_ref(self.id, self.epoch, sealed)),
            bytes: sealed.bytes.clone(),
            crc: crc32fast::hash(&sealed.bytes),
            durable: self.durable,
        };
        let mut client = self.node.peer(peer)?;
        self.node.while_member(peer, client.put_block(request)).await?;
        Ok(())
    }
}

/// As a receiver sees it.
impl BlockHolder for Replicator {
    fn hold(self: Arc<Self>, sealed: SealedBlock) -> BoxFuture<'static, Result<(), HoldError>> {
        SEALED.add(1);
        SEALED_BYTES.add(sealed.bytes.len() as u64);
        let end = sealed.first_offset + sealed.records;
        let block = sealed_ref(self.id, self.epoch, &sealed);
        let (sender, copies) = oneshot::channel();
        let changes = sealed.changes.iter().map(on_wire).collect();
        let queued = self.reports.try_send(Copying { block, changes, copies });
        let (mut through, kill) = (self.through.subscribe(), self.kill.clone());
        // Copying starts now, not when the future is first polled.
        let (tracker, data) = (self.node.tracker.clone(), self.node.data.clone());
        let copying = tracker.spawn_on(self.copy_and_tell(sealed, sender), &data);
        Box::pin(async move {
            queued.map_err(|error| HoldError::Failed(error.to_string()))?;
            let logged = async { through.wait_for(|through| *through >= end).await.map(drop) };
            let failed = async {
                match copying.await {
                    Ok(Some(failure)) => failure.to_string(),
                    Ok(None) => std::future::pending().await,
                    Err(error) => error.to_string(),
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

    fn remember(
        self: Arc<Self>,
        offset: u64,
        changes: Vec<PositionChange>,
    ) -> BoxFuture<'static, Result<(), HoldError>> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let message = self.positions_changed(offset, changes.iter().map(on_wire).collect(), number);
        lock(&self.changed).alone(offset, message.changes.clone());
        let (node, mut remembered, kill) = (self.node.clone(), self.remembered.subscribe(), self.kill.clone());
        Box::pin(async move {
            loop {
                node.report(worker_message::Kind::PositionsChanged(message.clone())).await;
                tokio::select! {
                    biased;
                    done = remembered.wait_for(|newest| *newest >= number) => {
                        return done.map(drop).map_err(|_| HoldError::Fenced);
                    }
                    () = kill.cancelled() => return Err(HoldError::Fenced),
                    // The driver may have been away; asking again changes nothing.
                    () = tokio::time::sleep(CHANGE_PATIENCE) => {}
                }
            }
        })
    }
}

fn on_wire(change: &PositionChange) -> pb::PositionChange {
    pb::PositionChange { name: change.name.clone(), to: change.to.clone().map(Into::into) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str) -> pb::PositionChange {
        pb::PositionChange { name: name.into(), to: None }
    }

    #[test]
    fn changes_are_kept_from_the_newest_back_to_some_offset() {
        let mut changed = Changed::default();
        changed.alone(7, vec![change("a")]);
        changed.alone(7, vec![change("b")]);
        changed.with_block(7, &[change("b")]);
        changed.with_block(9, &[]);
        changed.with_block(12, &[change("c")]);
        let of_12 = Said { with_block: vec![change("c")], ..Said::default() };
        assert_eq!(changed.from(8), Some([(12, of_12)].into()));
        let of_7 = changed.from(0).map(|all| all[&7].clone());
        assert_eq!(of_7.map(|said| (said.alone.len(), said.with_block.len())), Some((2, 1)));
        changed.with_block(20, &vec![change("d"); KEPT_CHANGES - 1]);
        // Those of offset 7 have gone, and what was said before 8 is not known any more.
        assert_eq!((changed.from(7), changed.count), (None, KEPT_CHANGES));
        assert_eq!(changed.from(8).map(|all| all.len()), Some(2));
    }
}
