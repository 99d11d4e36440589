//! Intake: receivers, the blocks they report, and who holds which block.
//!
//! A receiver's epoch is raised in the log before it starts. A block is logged only with the current
//! epoch and with the offset that follows the last one (INV-2), so a receiver that was thought dead and
//! comes back cannot add anything (INV-5).

use super::Cx;
use super::job::Job;
use super::wire::{block_meta, block_ref, position_changes, ranked, receiver_key, receiver_ref, worker_numbers};
use crate::record::{BlockKey, BlockMeta, JobRecord, ReceiverKey};
use std::collections::{BTreeSet, HashMap};
use tidemill_common::ids::{SourceIdx, WorkerId};
use tidemill_common::positions::PositionChange;
use tidemill_metrics::{Counter, Family, metric};
use tidemill_proto::common as common_pb;
use tidemill_proto::control::{self as pb, driver_message};

metric! {
    static RECEIVED_RECORDS: Family<Counter, 2> =
        Counter::new("tidemill_received_records_total", "Records received and logged.").by(["job", "source"]);
    static RECEIVED_BYTES: Family<Counter, 2> =
        Counter::new("tidemill_received_bytes_total", "Bytes received and logged.").by(["job", "source"]);
}

/// Copies of blocks that may be under way at once, per job.
const COPIES_IN_FLIGHT: usize = 32;
/// A receiver that failed is started again after this long.
const RESTART_DELAY_US: u64 = 500_000;
/// Item numbers for placing receivers, apart from those of key groups.
const RECEIVER_ITEMS: u64 = 1 << 32;

/// Epochs beyond this one are not believed.
const HIGHEST_EPOCH: u64 = 1 << 48;
/// For this long after a worker could not hold a block, others are preferred.
const CANNOT_HOLD_US: u64 = 60_000_000;
/// A failed copy is tried again after this long.
const COPY_DELAY_US: u64 = 100_000;

/// A receiver as it runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct LiveReceiver {
    pub(crate) worker: Option<WorkerId>,
    pub(crate) draining: bool,
    /// It was started by an earlier driver, which may have asked it to drain.
    adopted: bool,
    /// A heartbeat has listed it.
    heard: bool,
    /// Where its copies go; unknown of one that was adopted.
    replicate_to: Option<Vec<WorkerId>>,
    /// It was asked to report again from this offset on.
    asked_from: Option<u64>,
    /// Records per second that it was told; 0 for no bound, and for one that was adopted.
    pub(crate) rate: f64,
    /// All that were ever asked to: some may have copies that were not waited for.
    asked: BTreeSet<WorkerId>,
    /// It failed and is started again at this time.
    pub(crate) not_before_us: Option<u64>,
    pub(crate) last_error: String,
}

/// Who holds a block.
#[derive(Debug, Clone)]
pub(crate) struct Holders {
    block: BlockMeta,
    pub(crate) workers: BTreeSet<WorkerId>,
    /// Those that may have it too, but do not count.
    may_have: Vec<WorkerId>,
    copying_to: Option<WorkerId>,
}

impl Holders {
    fn new(block: BlockMeta, workers: BTreeSet<WorkerId>) -> Self {
        Self { block, workers, may_have: Vec::new(), copying_to: None }
    }
}

/// Copies of blocks that are to be made.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    /// Blocks that may have too few copies.
    due: BTreeSet<BlockKey>,
    /// Any block may have too few.
    check_all: bool,
    in_flight: usize,
    /// A copy failed; nothing is tried before this time.
    pub(crate) not_before_us: Option<u64>,
}

impl Copies {
    pub(crate) fn check_all(&mut self) {
        self.check_all = true;
    }
}

impl Job {
    pub(crate) fn receiver_keys(&self) -> Vec<ReceiverKey> {
        let sources = self.topology.sources.iter().enumerate();
        let of_source = |(source, shape): (usize, &super::topology::SourceShape)| {
            (0..shape.receivers).map(move |receiver| ReceiverKey { source: SourceIdx(source as u32), receiver })
        };
        sources.flat_map(of_source).collect()
    }

    pub(crate) fn advance_receivers(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono_us;
        if !std::mem::take(&mut self.receivers_due) && self.restart_us.is_none_or(|time| now < time) {
            return;
        }
        let reading = self.stopping.is_none() && !self.paused();
        for key in self.receiver_keys() {
            let running = self.receivers.get(&key).and_then(|receiver| receiver.worker);
            match running {
                None if reading && !self.live.is_empty() => self.start_receiver(cx, key),
                None => {}
                // One that drains still waits for copies.
                Some(worker) => self.update_replicas(cx, key, worker),
            }
            if !reading {
                self.stop_receiver(cx, key, true);
            }
        }
        self.tell_rates(cx);
        let times = self.receivers.values().filter_map(|receiver| receiver.not_before_us);
        self.restart_us = times.filter(|time| now < *time).min();
    }

    fn start_receiver(&mut self, cx: &mut Cx<'_>, key: ReceiverKey) {
        let logged = self.durable.receivers.get(&key).cloned().unwrap_or_default();
        let not_before = self.receivers.get(&key).and_then(|receiver| receiver.not_before_us);
        let now = cx.now.mono_us;
        let waits = not_before.is_some_and(|time| now < time);
        if logged.finished || waits {
            return;
        }
        let busy = |worker: &WorkerId| self.receivers.values().filter(|r| r.worker == Some(*worker)).count();
        let mut order = ranked(self.durable.id, receiver_item(key), &self.live);
        order.sort_by_key(|worker| (self.cannot_hold(*worker, now), busy(worker)));
        let Some(worker) = order.first().copied() else { return };
        let epoch = logged.epoch.max(self.epochs_seen.get(&key).copied().unwrap_or(0)) + 1;
        self.record(cx, JobRecord::Receiver { key, epoch });
        if logged.epoch > 0 {
            self.counters.receivers_restarted += 1;
            // What a log that has lost entries does not have may be in the log as it was.
            if !self.doubtful {
                self.drop_unlogged(cx, key, epoch, logged.next_offset);
            }
        }
        let replicate_to = self.replicas(key, worker, now);
        let rate = self.rate_of(key);
        let message = pb::StartReceiver {
            receiver: Some(receiver_ref(self.durable.id, key)),
            epoch,
            start_offset: logged.next_offset,
            replicate_to: worker_numbers(&replicate_to),
            rate,
            positions: self.positions(key),
        };
        cx.send(worker, driver_message::Kind::StartReceiver(message));
        let receiver = self.receivers.entry(key).or_default();
        *receiver = LiveReceiver {
            worker: Some(worker),
            rate,
            asked: replicate_to.iter().copied().collect(),
            replicate_to: Some(replicate_to),
            last_error: std::mem::take(&mut receiver.last_error),
            ..LiveReceiver::default()
        };
    }

    /// What the receiver's earlier epochs have left that is not logged never will be: it must not fill disks.
    fn drop_unlogged(&self, cx: &mut Cx<'_>, key: ReceiverKey, epoch: u64, from_offset: u64) {
        let receiver = Some(receiver_ref(self.durable.id, key));
        let unlogged = vec![pb::Unlogged { receiver, epoch, from_offset }];
        cx.send_all(&driver_message::Kind::DropBlocks(pb::DropBlocks { unlogged, ..Default::default() }));
    }

    /// Whether a worker could not hold a block a short while ago.
    fn cannot_hold(&self, worker: WorkerId, now_us: u64) -> bool {
        self.cannot_hold.get(&worker).is_some_and(|until_us| now_us < *until_us)
    }

    fn replicas(&self, key: ReceiverKey, worker: WorkerId, now_us: u64) -> Vec<WorkerId> {
        let mut others = ranked(self.durable.id, receiver_item(key), &self.live);
        others.retain(|other| *other != worker);
        others.sort_by_key(|other| self.cannot_hold(*other, now_us));
        others.truncate(self.copies_possible() - 1);
        others
    }

    fn update_replicas(&mut self, cx: &mut Cx<'_>, key: ReceiverKey, worker: WorkerId) {
        let wanted = self.replicas(key, worker, cx.now.mono_us);
        let Some(receiver) = self.receivers.get_mut(&key).filter(|r| r.replicate_to.as_ref() != Some(&wanted)) else {
            return;
        };
        receiver.asked.extend(&wanted);
        receiver.replicate_to = Some(wanted.clone());
        let receiver = Some(receiver_ref(self.durable.id, key));
        let message = pb::ReplicateTo { receiver, workers: worker_numbers(&wanted) };
        cx.send(worker, driver_message::Kind::ReplicateTo(message));
    }

    /// Receivers that went on while the driver was away, if they are the ones the log knows; others are stopped.
    pub(crate) fn adopt_receivers(&mut self, cx: &mut Cx<'_>, worker: WorkerId, running: &[pb::RunningReceiver]) {
        for receiver in running {
            let Some(reference) = receiver.receiver.as_ref().filter(|r| r.job == self.durable.id.0) else { continue };
            let key = receiver_key(reference);
            let logged = self.durable.receivers.get(&key).cloned().unwrap_or_default();
            let known = receiver.epoch > 0 && self.receiver_keys().contains(&key);
            if known && (logged.epoch..HIGHEST_EPOCH).contains(&receiver.epoch) {
                if receiver.epoch > logged.epoch {
                    // The log has lost that it was started; what it has read since is there.
                    self.doubt(cx);
                    self.stop_running(cx, key);
                    self.record(cx, JobRecord::Receiver { key, epoch: receiver.epoch });
                }
                let live = LiveReceiver { worker: Some(worker), adopted: true, ..LiveReceiver::default() };
                self.receivers.insert(key, live);
                self.ask_for_blocks(cx, key, worker, logged.next_offset);
            } else {
                let message = pb::StopReceiver { receiver: Some(*reference), drain: false };
                cx.send(worker, driver_message::Kind::StopReceiver(message));
            }
        }
    }

    fn stop_running(&mut self, cx: &mut Cx<'_>, key: ReceiverKey) {
        if let Some(worker) = self.receivers.get(&key).and_then(|receiver| receiver.worker) {
            let receiver = Some(receiver_ref(self.durable.id, key));
            cx.send(worker, driver_message::Kind::StopReceiver(pb::StopReceiver { receiver, drain: false }));
        }
    }

    /// Has a receiver report again what the log lacks: it may have lost what it had.
    pub(super) fn ask_for_blocks(&mut self, cx: &mut Cx<'_>, key: ReceiverKey, worker: WorkerId, from: u64) {
        let Some(receiver) = self.receivers.get_mut(&key).filter(|receiver| receiver.asked_from != Some(from)) else {
            return;
        };
        receiver.asked_from = Some(from);
        let epoch = self.durable.receivers.get(&key).map_or(0, |logged| logged.epoch);
        let receiver = Some(receiver_ref(self.durable.id, key));
        cx.send(worker, driver_message::Kind::ReportBlocks(pb::ReportBlocks { receiver, epoch, from }));
    }

    /// An epoch that the log has lost is not given a second time.
    fn saw_epoch(&mut self, key: ReceiverKey, epoch: u64) {
        if self.durable.receivers.get(&key).is_none_or(|logged| logged.epoch < epoch) && epoch < HIGHEST_EPOCH {
            let seen = self.epochs_seen.entry(key).or_default();
            *seen = epoch.max(*seen);
        }
    }

    /// A receiver that no longer runs, and of which nothing was heard, is started again. One that was adopted may have
    /// ended while its worker had no session; one that was started is missed once a heartbeat has listed it.
    pub(crate) fn on_heartbeat(&mut self, worker: WorkerId, heartbeat: &pb::Heartbeat) {
        let of_job = heartbeat.receivers.iter().filter_map(|running| running.receiver.as_ref());
        let of_job = of_job.filter(|receiver| receiver.job == self.durable.id.0);
        let listed: BTreeSet<ReceiverKey> = of_job.map(receiver_key).collect();
        let mut ended = Vec::new();
        for (key, receiver) in self.receivers.iter_mut().filter(|(_, receiver)| receiver.worker == Some(worker)) {
            let awaited = receiver.heard || receiver.adopted;
            receiver.heard |= listed.contains(key);
            if awaited && !listed.contains(key) {
                ended.push(*key);
            }
        }
        for key in ended {
            tracing::info!(job = self.durable.id.0, source = key.source.0, "a receiver has ended without a word");
            self.receivers.remove(&key);
            self.receivers_due = true;
        }
    }

    pub(crate) fn lose_receivers(&mut self, worker: WorkerId) -> u64 {
        let mut lost = 0;
        self.cannot_hold.remove(&worker);
        for receiver in self.receivers.values_mut().filter(|receiver| receiver.worker == Some(worker)) {
            *receiver = LiveReceiver { last_error: std::mem::take(&mut receiver.last_error), ..Default::default() };
            lost += 1;
        }
        self.receivers_due = true;
        lost
    }

    pub(crate) fn on_receiver_report(&mut self, cx: &mut Cx<'_>, worker: WorkerId, report: &pb::ReceiverReport) {
        let Some(key) = report.receiver.as_ref().map(receiver_key) else { return };
        let current = self.durable.receivers.get(&key).is_some_and(|logged| logged.epoch == report.epoch);
        let Some(receiver) = self.receivers.get_mut(&key).filter(|r| current && r.worker == Some(worker)) else {
            self.count_fenced();
            return;
        };
        // One that was adopted is asked by starting it again: if its source is at an end, it says so once more.
        let asked = receiver.draining || receiver.adopted;
        let not_before_us = (!report.drained).then_some(cx.now.mono_us + RESTART_DELAY_US);
        *receiver = LiveReceiver { last_error: report.error.clone(), not_before_us, ..LiveReceiver::default() };
        self.receivers_due = true;
        if report.cannot_hold != 0 {
            let until_us = cx.now.mono_us + CANNOT_HOLD_US;
            self.cannot_hold.insert(WorkerId(report.cannot_hold), until_us);
        }
        if report.drained && !asked {
            self.record(cx, JobRecord::ReceiverFinished(key));
        } else if !report.drained {
            tracing::info!(job = self.durable.id.0, source = key.source.0, error = report.error, "receiver failed");
        }
    }

    pub(crate) fn on_block_received(&mut self, cx: &mut Cx<'_>, worker: WorkerId, report: pb::BlockReceived) {
        let Some((_, block)) = block_meta(report.block.as_ref()) else { return };
        let key = block.key.receiver;
        let running_here = self.receivers.get(&key).is_some_and(|receiver| receiver.worker == Some(worker));
        let logged = self.durable.receivers.get(&key).cloned().unwrap_or_default();
        let follows = block.key.first_offset == logged.next_offset && block.records > 0;
        if running_here && block.epoch == logged.epoch && block.key.first_offset > logged.next_offset {
            // The log has lost what came before it, and the worker has that: nothing need be lost.
            tracing::warn!(
                job = self.durable.id.0,
                worker = worker.0,
                reported = block.key.first_offset,
                logged = logged.next_offset,
                "a receiver is ahead of the log, which has lost entries; it is asked for what is missing"
            );
            self.ask_for_blocks(cx, key, worker, logged.next_offset);
            return;
        }
        if !running_here || block.epoch != logged.epoch {
            self.count_fenced();
            if !self.doubtful && !self.durable.blocks().any(|logged| *logged == block) {
                let holders: Vec<WorkerId> = report.holders.iter().map(|id| WorkerId(*id)).collect();
                self.drop_blocks(cx, &[block], &holders);
            }
            return;
        }
        if follows {
            let count = report.changes.len();
            let Some(changes) = position_changes(report.changes) else {
                tracing::error!(
                    job = self.durable.id.0,
                    worker = worker.0,
                    changes = count,
                    "a block changes more positions than it can, or longer ones; it is refused"
                );
                self.count_fenced();
                return;
            };
            self.log_block(cx, block, changes, &report.holders);
        }
        // A block that is logged already is one whose answer got lost with a driver.
        let through = self.durable.receivers.get(&key).map_or(0, |receiver| receiver.next_offset);
        let receiver = Some(receiver_ref(self.durable.id, key));
        let message = pb::BlockLogged { receiver, epoch: block.epoch, through };
        cx.send(worker, driver_message::Kind::BlockLogged(message));
    }

    fn log_block(&mut self, cx: &mut Cx<'_>, block: BlockMeta, changes: Vec<PositionChange>, holders: &[u64]) {
        if let Some(source) = self.topology.sources.get(block.key.receiver.source.0 as usize) {
            let labels = [self.durable.name.as_str(), source.name.as_str()];
            RECEIVED_RECORDS.of(labels).add(block.records);
            RECEIVED_BYTES.of(labels).add(block.bytes);
        }
        self.record(cx, JobRecord::Block(block, changes));
        let live = |worker: &WorkerId| cx.members.get(*worker).is_some();
        let workers: BTreeSet<WorkerId> = holders.iter().map(|id| WorkerId(*id)).filter(live).collect();
        self.counters.blocks += 1;
        self.counters.blocks_held_twice += u64::from(workers.len() >= 2);
        if workers.len() < self.copies_possible() || workers.iter().any(|worker| !self.is_live(*worker)) {
            self.copies.due.insert(block.key);
        }
        let asked = self.receivers.get(&block.key.receiver).map(|receiver| &receiver.asked);
        let may_have = asked.into_iter().flatten().filter(|worker| !workers.contains(worker)).copied().collect();
        self.holders.insert(block.key, Holders { may_have, ..Holders::new(block, workers) });
    }

    /// A worker that joins has these blocks: those that the log knows count, those that it never will are
    /// let go of. A block that is not logged yet can only become so with a worker that resumed.
    pub(crate) fn add_holder<'a>(
        &mut self,
        cx: &mut Cx<'_>,
        worker: WorkerId,
        resumed: bool,
        blocks: impl Iterator<Item = &'a common_pb::BlockRef>,
    ) {
        let blocks = blocks.filter_map(|block| block_meta(Some(block)));
        let of_job: Vec<BlockMeta> =
            blocks.filter(|(job, _)| *job == self.durable.id).map(|(_, block)| block).collect();
        if of_job.is_empty() {
            return;
        }
        let logged: HashMap<BlockKey, BlockMeta> = self.durable.blocks().map(|block| (block.key, *block)).collect();
        of_job.iter().for_each(|block| self.saw_epoch(block.key.receiver, block.epoch));
        let (known, unknown): (Vec<BlockMeta>, Vec<BlockMeta>) =
            of_job.into_iter().partition(|block| logged.get(&block.key) == Some(block));
        for block in known {
            let holders = self.holders.entry(block.key).or_insert_with(|| Holders::new(block, BTreeSet::new()));
            holders.workers.insert(worker);
        }
        self.copies.check_all();
        let logged = |block: &BlockMeta| self.durable.receivers.get(&block.key.receiver);
        let may_come = |block: &BlockMeta| {
            resumed && logged(block).is_some_and(|l| l.epoch == block.epoch && l.next_offset <= block.key.first_offset)
        };
        let never: Vec<BlockMeta> = unknown.into_iter().filter(|block| !may_come(block)).collect();
        // What a log that has lost entries does not know may be wanted by the log as it was.
        if !self.doubtful {
            self.drop_blocks(cx, &never, &[worker]);
        }
    }

    fn drop_blocks(&self, cx: &mut Cx<'_>, blocks: &[BlockMeta], workers: &[WorkerId]) {
        let refs: Vec<common_pb::BlockRef> = blocks.iter().map(|block| block_ref(self.durable.id, block)).collect();
        for worker in workers.iter().filter(|_| !refs.is_empty()) {
            cx.send(
                *worker,
                driver_message::Kind::DropBlocks(pb::DropBlocks { blocks: refs.clone(), ..Default::default() }),
            );
        }
    }

    /// Forgets a block; gives back who holds it, or will.
    pub(crate) fn forget_block(&mut self, key: BlockKey) -> impl Iterator<Item = WorkerId> + use<> {
        let holders = self.holders.remove(&key);
        self.copies.due.remove(&key);
        self.copies.in_flight -= holders.iter().filter(|holders| holders.copying_to.is_some()).count();
        holders.into_iter().flat_map(|holders| {
            let workers: BTreeSet<WorkerId> =
                holders.workers.into_iter().chain(holders.copying_to).chain(holders.may_have).collect();
            workers
        })
    }

    /// Forgets a worker's copies; returns how many blocks have to be copied again.
    pub(crate) fn lose_holder(&mut self, worker: WorkerId) -> u64 {
        let mut lost = 0;
        for (key, holders) in &mut self.holders {
            let held = holders.workers.remove(&worker);
            let was_copying = holders.copying_to == Some(worker);
            lost += u64::from(held);
            if was_copying {
                holders.copying_to = None;
                self.copies.in_flight -= 1;
            }
            if held || was_copying {
                self.copies.due.insert(*key);
            }
        }
        lost
    }

    /// A worker said that it does not have a block.
    pub(crate) fn lose_block(&mut self, key: BlockKey, worker: WorkerId) {
        let Some(holders) = self.holders.get_mut(&key).filter(|holders| holders.workers.contains(&worker)) else {
            return;
        };
        holders.workers.remove(&worker);
        holders.may_have.push(worker);
        self.copies.due.insert(key);
    }

    /// Has blocks copied again of which there are too few copies.
    pub(crate) fn advance_copies(&mut self, cx: &mut Cx<'_>) {
        if self.copies.not_before_us.is_some_and(|time| cx.now.mono_us < time) {
            return;
        }
        self.copies.not_before_us = None;
        if std::mem::take(&mut self.copies.check_all) {
            self.copies.due = self.durable.blocks().map(|block| block.key).collect();
        }
        while self.copies.in_flight < COPIES_IN_FLIGHT {
            let Some(key) = self.copies.due.pop_first() else { return };
            self.copy_if_needed(cx, key);
        }
    }

    fn copy_if_needed(&mut self, cx: &mut Cx<'_>, key: BlockKey) {
        let Some(holders) = self.holders.get(&key).filter(|holders| holders.copying_to.is_none()) else { return };
        let usable = holders.workers.iter().filter(|worker| self.is_live(**worker)).count();
        if holders.workers.is_empty() || usable >= self.copies_possible() {
            return;
        }
        let mut order = ranked(self.durable.id, key.first_offset ^ receiver_item(key.receiver), &self.live);
        order.sort_by_key(|worker| self.cannot_hold(*worker, cx.now.mono_us));
        let Some(target) = order.into_iter().find(|worker| !holders.workers.contains(worker)) else { return };
        let message = pb::CopyBlock {
            block: Some(block_ref(self.durable.id, &holders.block)),
            holders: worker_numbers(&holders.workers),
        };
        cx.send(target, driver_message::Kind::CopyBlock(message));
        self.copies.in_flight += 1;
        if let Some(holders) = self.holders.get_mut(&key) {
            holders.copying_to = Some(target);
        }
    }

    pub(crate) fn on_block_copied(&mut self, cx: &mut Cx<'_>, worker: WorkerId, report: &pb::BlockCopied) {
        let Some((_, block)) = block_meta(report.block.as_ref()) else { return };
        if !self.holders.contains_key(&block.key) && !self.durable.blocks().any(|logged| *logged == block) {
            // It is not needed any more.
            self.drop_blocks(cx, &[block], &[worker]);
            return;
        }
        let holders = self.holders.entry(block.key).or_insert_with(|| Holders::new(block, BTreeSet::new()));
        if holders.copying_to == Some(worker) {
            holders.copying_to = None;
            self.copies.in_flight -= 1;
        }
        if report.ok {
            holders.workers.insert(worker);
            self.counters.blocks_copied += 1;
        } else {
            self.copies.not_before_us = Some(cx.now.mono_us + COPY_DELAY_US);
        }
        self.copies.due.insert(block.key);
    }
}

fn receiver_item(key: ReceiverKey) -> u64 {
    RECEIVER_ITEMS + (u64::from(key.source.0) << 16) + u64::from(key.receiver)
}
