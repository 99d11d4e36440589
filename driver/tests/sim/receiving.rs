//! Receivers of a simulated worker: seal, copy to peers, report in order, hold until logged.

use crate::machine::{Cx, Process, Timer};
use crate::net::PeerMessage;
use std::collections::{BTreeSet, VecDeque};
use tidemill_proto::common as common_pb;
use tidemill_proto::control::{self as pb, worker_message};

/// Blocks that may be under way.
pub(crate) const UNHELD: usize = 6;

/// A block, told apart as the workers' store does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Block {
    pub(crate) key: (u32, u32),
    pub(crate) epoch: u64,
    pub(crate) first_offset: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

pub(crate) fn reference(job: u64, key: (u32, u32)) -> common_pb::ReceiverRef {
    common_pb::ReceiverRef { job, source: key.0, receiver: key.1 }
}

/// Where the end of the last record that was read is said.
pub(crate) const READ: &str = "read";
/// Where it is said without a record.
pub(crate) const NOTED: &str = "noted";

fn change(name: &str, offset: u64) -> pb::PositionChange {
    pb::PositionChange { name: name.into(), to: Some(offset.to_le_bytes().to_vec().into()) }
}

/// The number that a position is.
pub(crate) fn number(position: &[u8]) -> u64 {
    u64::from_le_bytes(position.try_into().unwrap())
}

impl Receiver {
    fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.unanswered.is_empty()
    }
}

impl Block {
    fn report(&self, job: u64, holders: Vec<u64>) -> pb::BlockReceived {
        let changes = vec![change(READ, self.first_offset + self.records)];
        pb::BlockReceived { block: Some(self.reference(job)), holders, changes }
    }

    pub(crate) fn read(block: Option<&common_pb::BlockRef>) -> Option<(u64, Self)> {
        let block = block?;
        let receiver = block.receiver.as_ref()?;
        let (epoch, first_offset) = (block.epoch, block.first_offset);
        let key = (receiver.source, receiver.receiver);
        Some((receiver.job, Self { key, epoch, first_offset, records: block.records, bytes: block.bytes }))
    }

    pub(crate) fn reference(&self, job: u64) -> common_pb::BlockRef {
        common_pb::BlockRef {
            receiver: Some(reference(job, self.key)),
            epoch: self.epoch,
            first_offset: self.first_offset,
            records: self.records,
            bytes: self.bytes,
        }
    }
}

/// A receiver as it runs.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) epoch: u64,
    next_offset: u64,
    replicate_to: Vec<u64>,
    draining: bool,
    /// Sealed and not reported, with the peers that have it.
    under_way: VecDeque<(Block, BTreeSet<u64>)>,
    /// Reported and not answered.
    unanswered: VecDeque<pb::BlockReceived>,
    /// A change of a position without a record that is not answered.
    noting: Option<pb::PositionsChanged>,
}

impl Process {
    pub(crate) fn start_receiver(&mut self, cx: &mut Cx<'_>, start: &pb::StartReceiver) {
        let Some(reference) = start.receiver.as_ref() else { return };
        let (job, key, epoch) = (reference.job, (reference.source, reference.receiver), start.epoch);
        let Some(held) = self.jobs.get_mut(&job) else { return };
        let receiver = Receiver {
            epoch,
            next_offset: start.start_offset,
            replicate_to: start.replicate_to.clone(),
            draining: false,
            under_way: VecDeque::new(),
            unanswered: VecDeque::new(),
            noting: None,
        };
        // The positions are those of the last logged record.
        let position = |name| {
            start.positions.iter().find(|position| position.name == name).map(|position| number(&position.position))
        };
        assert_eq!(position(READ).unwrap_or(0), start.start_offset, "{start:?}");
        assert!(position(NOTED).unwrap_or(0) <= start.start_offset, "{start:?}");
        held.receivers.insert(key, receiver);
        let wait = cx.net.pick(1_000..30_000);
        cx.net.timer(cx.proc, wait, Timer::Seal { job, key, epoch });
    }

    pub(crate) fn stop_receiver(&mut self, cx: &mut Cx<'_>, stop: &pb::StopReceiver) {
        let Some(reference) = stop.receiver.as_ref() else { return };
        let (job, key) = (reference.job, (reference.source, reference.receiver));
        let Some(held) = self.jobs.get_mut(&job) else { return };
        if !stop.drain {
            held.receivers.remove(&key);
        } else if let Some(receiver) = held.receivers.get_mut(&key) {
            let epoch = receiver.epoch;
            if !receiver.draining {
                self.seal_now(cx, job, key, epoch);
            }
            if let Some(receiver) = self.jobs.get_mut(&job).and_then(|held| held.receivers.get_mut(&key)) {
                receiver.draining = true;
            }
            self.end_when_drained(cx, job, key);
        }
    }

    pub(crate) fn replicate_to(&mut self, cx: &mut Cx<'_>, to: &pb::ReplicateTo) {
        let Some(reference) = to.receiver.as_ref() else { return };
        let (job, key) = (reference.job, (reference.source, reference.receiver));
        let Some(receiver) = self.jobs.get_mut(&job).and_then(|held| held.receivers.get_mut(&key)) else { return };
        receiver.replicate_to.clone_from(&to.workers);
        let epoch = receiver.epoch;
        self.send_blocks(cx, job, key, epoch);
    }

    fn receiver(&mut self, job: u64, key: (u32, u32), epoch: u64) -> Option<&mut Receiver> {
        self.jobs.get_mut(&job)?.receivers.get_mut(&key).filter(|receiver| receiver.epoch == epoch)
    }

    /// The block interval is over.
    pub(crate) fn seal(&mut self, cx: &mut Cx<'_>, job: u64, key: (u32, u32), epoch: u64) {
        let fails = cx.net.chance(cx.knobs.receiver_failures);
        let Some(receiver) = self.receiver(job, key, epoch).filter(|receiver| !receiver.draining) else { return };
        if fails {
            self.fail_receiver(cx, job, key);
            return;
        }
        if receiver.noting.is_some() || (receiver.is_idle() && cx.net.chance(10)) {
            self.note(cx, job, key, epoch);
        } else if receiver.under_way.len() + receiver.unanswered.len() < UNHELD {
            self.seal_now(cx, job, key, epoch);
        }
        let Some(held) = self.jobs.get(&job) else { return };
        let spec = &cx.specs[held.spec];
        let ends = held.receivers.get(&key).is_some_and(|receiver| spec.limit == Some(receiver.next_offset));
        if ends {
            if let Some(receiver) = self.receiver(job, key, epoch) {
                receiver.draining = true;
            }
            self.end_when_drained(cx, job, key);
        }
        let interval = spec.settings.block_interval.as_micros() as u64;
        let wait = cx.net.pick(interval / 2..interval * 3 / 2);
        cx.net.timer(cx.proc, wait, Timer::Seal { job, key, epoch });
    }

    /// A position changes without a record; said until it is answered.
    fn note(&mut self, cx: &mut Cx<'_>, job: u64, key: (u32, u32), epoch: u64) {
        let Some(receiver) = self.receiver(job, key, epoch) else { return };
        let offset = receiver.next_offset;
        let note = receiver.noting.get_or_insert_with(|| pb::PositionsChanged {
            receiver: Some(reference(job, key)),
            epoch,
            offset,
            changes: vec![change(NOTED, offset)],
            number: offset + 1,
        });
        let note = note.clone();
        cx.files.counts.notes += 1;
        self.report(cx, worker_message::Kind::PositionsChanged(note));
    }

    pub(crate) fn positions_logged(&mut self, logged: &pb::PositionsLogged) {
        let Some(reference) = logged.receiver.as_ref() else { return };
        let key = (reference.source, reference.receiver);
        let Some(receiver) = self.receiver(reference.job, key, logged.epoch) else { return };
        receiver.noting.take_if(|note| note.number == logged.number);
    }

    fn seal_now(&mut self, cx: &mut Cx<'_>, job: u64, key: (u32, u32), epoch: u64) {
        let Some(held) = self.jobs.get_mut(&job) else { return };
        let spec = &cx.specs[held.spec];
        let Some(receiver) = held.receivers.get_mut(&key) else { return };
        let room = spec.limit.map_or(u64::MAX, |limit| limit.saturating_sub(receiver.next_offset));
        let records = cx.net.pick(0..spec.block_records + 1).min(room);
        if records == 0 || receiver.noting.is_some() {
            return;
        }
        let block = Block { key, epoch, first_offset: receiver.next_offset, records, bytes: records * 10 };
        receiver.next_offset += records;
        receiver.under_way.push_back((block, BTreeSet::new()));
        self.put_block(cx, job, block);
        self.send_blocks(cx, job, key, epoch);
    }

    fn fail_receiver(&mut self, cx: &mut Cx<'_>, job: u64, key: (u32, u32)) {
        let Some(receiver) = self.jobs.get_mut(&job).and_then(|held| held.receivers.remove(&key)) else { return };
        cx.files.counts.receiver_failures += 1;
        let report = pb::ReceiverReport {
            receiver: Some(reference(job, key)),
            epoch: receiver.epoch,
            error: "there is no room".into(),
            cannot_hold: self.id.filter(|_| cx.net.chance(50)).unwrap_or(0),
            ..pb::ReceiverReport::default()
        };
        self.report(cx, worker_message::Kind::ReceiverReport(report));
    }

    /// Copies what is not copied, and reports from the front what is.
    pub(crate) fn send_blocks(&mut self, cx: &mut Cx<'_>, job: u64, key: (u32, u32), epoch: u64) {
        let Some(me) = self.id else { return };
        let members = self.members.clone();
        let Some(receiver) = self.receiver(job, key, epoch) else { return };
        let wanted: Vec<u64> = receiver.replicate_to.iter().copied().filter(|peer| members.contains(peer)).collect();
        let mut reports = Vec::new();
        while let Some((block, copies)) = receiver.under_way.front() {
            if !wanted.iter().all(|peer| copies.contains(peer)) {
                break;
            }
            let holders = [me].into_iter().chain(copies.iter().copied()).collect();
            let report = block.report(job, holders);
            receiver.unanswered.push_back(report.clone());
            reports.push(report);
            receiver.under_way.pop_front();
        }
        let mut puts = Vec::new();
        for (block, copies) in &receiver.under_way {
            puts.extend(wanted.iter().filter(|peer| !copies.contains(peer)).map(|peer| (*peer, *block)));
        }
        for report in reports {
            self.report(cx, worker_message::Kind::BlockReceived(report));
        }
        if !puts.is_empty() {
            cx.net.timer(cx.proc, 60_000, Timer::RetryBlocks { job, key, epoch });
        }
        for (peer, block) in puts {
            cx.net.peer(cx.proc, me, peer, PeerMessage::PutBlock { job, block });
        }
    }

    pub(crate) fn block_put(&mut self, cx: &mut Cx<'_>, job: u64, block: Block, peer: u64) {
        let Some(receiver) = self.receiver(job, block.key, block.epoch) else { return };
        if let Some((_, copies)) = receiver.under_way.iter_mut().find(|(sealed, _)| *sealed == block) {
            copies.insert(peer);
        }
        let complete = receiver.under_way.front().is_some_and(|(front, _)| *front == block);
        if complete {
            self.send_blocks(cx, job, block.key, block.epoch);
        }
    }

    pub(crate) fn block_logged(&mut self, cx: &mut Cx<'_>, logged: &pb::BlockLogged) {
        let Some(reference) = logged.receiver.as_ref() else { return };
        let (job, key) = (reference.job, (reference.source, reference.receiver));
        let Some(receiver) = self.receiver(job, key, logged.epoch) else { return };
        let is_open = |report: &pb::BlockReceived| {
            report.block.as_ref().is_some_and(|block| block.first_offset + block.records > logged.through)
        };
        receiver.unanswered.retain(is_open);
        self.end_when_drained(cx, job, key);
    }

    fn end_when_drained(&mut self, cx: &mut Cx<'_>, job: u64, key: (u32, u32)) {
        let Some(held) = self.jobs.get_mut(&job) else { return };
        let Some(receiver) = held.receivers.get(&key) else { return };
        if !receiver.draining || !receiver.is_idle() {
            return;
        }
        let epoch = receiver.epoch;
        held.receivers.remove(&key);
        let report =
            pb::ReceiverReport { receiver: Some(reference(job, key)), epoch, drained: true, ..Default::default() };
        self.report(cx, worker_message::Kind::ReceiverReport(report));
    }

    /// What was reported in a session that is gone.
    pub(crate) fn report_blocks_again(&mut self, cx: &mut Cx<'_>) {
        let receivers = self.jobs.values().flat_map(|held| held.receivers.values());
        let again: Vec<pb::BlockReceived> = receivers.flat_map(|receiver| receiver.unanswered.clone()).collect();
        for report in again {
            self.report(cx, worker_message::Kind::BlockReceived(report));
        }
    }

    /// The log ends before what was reported: reports it again, or fails if it is not here any more.
    pub(crate) fn report_from(&mut self, cx: &mut Cx<'_>, ask: &pb::ReportBlocks) {
        let (Some(reference), Some(me)) = (ask.receiver.as_ref(), self.id) else { return };
        let (job, key) = (reference.job, (reference.source, reference.receiver));
        let held: Vec<Block> = self.blocks.get(&job).into_iter().flatten().copied().collect();
        let Some(receiver) = self.receiver(job, key, ask.epoch) else { return };
        let reported = receiver.under_way.front().map_or(receiver.next_offset, |(block, _)| block.first_offset);
        let wanted = |block: &Block| {
            (block.key, block.epoch) == (key, ask.epoch) && (ask.from..reported).contains(&block.first_offset)
        };
        let mut again: Vec<Block> = held.into_iter().filter(wanted).collect();
        again.sort_by_key(|block| block.first_offset);
        let known = std::mem::take(&mut receiver.unanswered);
        let report = |block: &Block| {
            let reference = Some(block.reference(job));
            let known = known.iter().find(|report| report.block == reference).cloned();
            known.unwrap_or_else(|| block.report(job, vec![me]))
        };
        receiver.unanswered = again.iter().map(report).collect();
        let reports = receiver.unanswered.clone();
        let end = again.iter().try_fold(ask.from, |next, block| {
            (block.first_offset == next).then_some(block.first_offset + block.records)
        });
        if ask.from < reported && end != Some(reported) {
            self.fail_receiver(cx, job, key);
            return;
        }
        for report in reports {
            self.report(cx, worker_message::Kind::BlockReceived(report));
        }
        self.end_when_drained(cx, job, key);
    }

    /// Receivers that run here, each with its epoch.
    pub(crate) fn receivers(&self) -> Vec<(common_pb::ReceiverRef, u64)> {
        let of_job = |(job, held): (&u64, &crate::machine::HeldJob)| -> Vec<_> {
            held.receivers.iter().map(|(key, receiver)| (reference(*job, *key), receiver.epoch)).collect()
        };
        self.jobs.iter().flat_map(of_job).collect()
    }

    /// Blocks that were reported and may be logged any moment.
    pub(crate) fn reported(&self, job: u64) -> Vec<Block> {
        let receivers = self.jobs.get(&job).into_iter().flat_map(|held| held.receivers.values());
        let reports = receivers.flat_map(|receiver| &receiver.unanswered);
        reports.filter_map(|report| Block::read(report.block.as_ref())).map(|(_, block)| block).collect()
    }

    pub(crate) fn put_block(&mut self, cx: &mut Cx<'_>, job: u64, block: Block) {
        // A request that was delayed beyond the life of its block.
        if self.dropped.contains(&(job, block)) {
            return;
        }
        self.blocks.entry(job).or_default().insert(block);
        let durable = cx.specs[job as usize - 1].durable();
        if durable {
            cx.disk.blocks.entry(job).or_default().insert(block);
        }
    }

    /// Lets go of what earlier receivers have left.
    pub(crate) fn drop_unlogged(&mut self, cx: &mut Cx<'_>, unlogged: &pb::Unlogged) {
        let Some(receiver) = unlogged.receiver.as_ref() else { return };
        let key = (receiver.source, receiver.receiver);
        let stays = |block: &Block| {
            block.key != key || block.epoch >= unlogged.epoch || block.first_offset < unlogged.from_offset
        };
        for held in [&mut self.blocks, &mut cx.disk.blocks] {
            if let Some(held) = held.get_mut(&receiver.job) {
                held.retain(stays);
            }
        }
    }

    pub(crate) fn drop_blocks(&mut self, cx: &mut Cx<'_>, blocks: &[common_pb::BlockRef]) {
        for (job, block) in blocks.iter().filter_map(|block| Block::read(Some(block))) {
            self.dropped.insert((job, block));
            for held in [&mut self.blocks, &mut cx.disk.blocks] {
                if let Some(held) = held.get_mut(&job) {
                    held.remove(&block);
                }
            }
        }
    }
}
