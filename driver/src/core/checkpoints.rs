//! Checkpoints: when one is begun, when it is complete, and who has which.
//!
//! ```text
//!         due, and copies are where they can be          all that were asked have written it
//!   IDLE ───────────────────────────────────────► WRITING ─────────────────────────────────► IDLE, record `Checkpoint`
//!    ▲                                               │ places have changed, or some holder is too late
//!    └───────────────────────────────────────────────┘
//! ```
//! With a checkpoint the blocks before it go, so it must not have fewer holders than the state is to have copies: while
//! a follower is being filled nothing is begun and nothing is complete. A follower of which its owner has told nothing
//! for [`FOLLOWER_PATIENCE_US`], or that is not filled within [`FILL_LIMIT_US`], is not waited for. What has too few holders since, because one of them was lost, is
//! written anew as soon as the groups are filled again.

use super::Cx;
use super::groups::Group;
use super::job::Job;
use super::run::FOLLOWER_PATIENCE_US;
use crate::record::JobRecord;
use std::collections::{BTreeMap, BTreeSet};
use tidemill_common::ids::{BatchId, WorkerId};
use tidemill_metrics::{Family, Histogram, SECONDS, metric};
use tidemill_proto::control::{self as pb, driver_message};

metric! {
    static CHECKPOINTS: Family<Histogram, 1> = Histogram::new(
        "tidemill_checkpoint_duration_seconds",
        "Time from the beginning of a checkpoint until all that were asked have written it.",
        SECONDS,
    )
    .by(["job"]);
}

/// Checkpoints do not wait longer than this for an owner to fill a follower, however well that goes on.
const FILL_LIMIT_US: u64 = 600_000_000;

/// By key group, who has written it.
pub(crate) type Holders = Vec<BTreeSet<WorkerId>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Writing {
    #[default]
    Idle,
    Version(BatchId),
}

/// How a group's copies in memory stand against what can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Copies {
    /// There are as many as can be.
    Filled,
    /// There are fewer, and those that lack have not come nearer for a while.
    Stalled,
    /// Some are being filled, or the owner restores the state.
    Awaited,
}

/// The checkpoints of a job.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    writing: Writing,
    /// When that began: monotonic, in microseconds.
    began_us: u64,
    written: BTreeMap<BatchId, Holders>,
    /// One may begin or be complete.
    due: bool,
    /// By owner and follower.
    fills: BTreeMap<(WorkerId, WorkerId), Fill>,
}

/// A follower is being filled. Times are monotonic, in microseconds.
#[derive(Debug, Clone, Copy)]
struct Fill {
    began_us: u64,
    /// When it last went on.
    heard_us: u64,
}

impl Fill {
    fn is_stalled(self, now_us: u64) -> bool {
        now_us >= self.heard_us + FOLLOWER_PATIENCE_US || now_us >= self.began_us + FILL_LIMIT_US
    }
}

impl Checkpoints {
    /// Something happened that may begin or complete one.
    pub(crate) fn look_again(&mut self) {
        self.due = true;
    }

    /// Not all that will have to have it were asked.
    pub(crate) fn abandon(&mut self) {
        self.writing = Writing::Idle;
        self.due = true;
    }

    /// A follower has got something of what it is filled with.
    pub(crate) fn fill_goes_on(&mut self, owner: WorkerId, follower: WorkerId, now_us: u64) {
        if let Some(fill) = self.fills.get_mut(&(owner, follower)) {
            fill.heard_us = now_us;
        }
    }

    /// A worker is gone, with its disk.
    pub(crate) fn lose_worker(&mut self, worker: WorkerId) {
        for holders in self.written.values_mut().flatten() {
            holders.remove(&worker);
        }
    }

    /// A worker turned out not to have a group of a version.
    pub(crate) fn lose_group(&mut self, worker: WorkerId, version: BatchId, group: usize) {
        if let Some(holders) = self.written.get_mut(&version).and_then(|groups| groups.get_mut(group)) {
            holders.remove(&worker);
        }
    }

    fn add(&mut self, worker: WorkerId, version: BatchId, groups: &[u32], count: usize) {
        let by_group = self.written.entry(version).or_insert_with(|| vec![BTreeSet::new(); count]);
        for group in groups {
            if let Some(holders) = by_group.get_mut(*group as usize) {
                holders.insert(worker);
            }
        }
    }

    /// Notes which owners fill which followers; the time of those that begin is now.
    fn note_fills(&mut self, groups: &[Group], now_us: u64) {
        let filling: BTreeSet<(WorkerId, WorkerId)> = groups.iter().flat_map(Group::fills).collect();
        self.fills.retain(|fill, _| filling.contains(fill));
        for fill in filling {
            self.fills.entry(fill).or_insert(Fill { began_us: now_us, heard_us: now_us });
        }
    }

    fn copies(&self, group: &Group, possible: usize, now_us: u64) -> Copies {
        let stalled = |fill| self.fills.get(&fill).is_some_and(|fill| fill.is_stalled(now_us));
        if group.copies() >= possible {
            Copies::Filled
        } else if group.fills().next().is_some() && group.fills().all(stalled) {
            Copies::Stalled
        } else {
            Copies::Awaited
        }
    }
}

impl Job {
    pub(crate) fn add_checkpoint(&mut self, worker: WorkerId, version: BatchId, groups: &[u32]) {
        // Of a batch that the log does not have nothing can be made.
        if version <= self.durable.last_frozen {
            self.checkpoints.add(worker, version, groups, self.groups.list.len());
            self.checkpoints.look_again();
        }
    }

    pub(crate) fn on_checkpoint_written(&mut self, worker: WorkerId, message: &pb::CheckpointWritten) {
        self.add_checkpoint(worker, BatchId(message.version), &message.groups);
    }

    /// Completes the checkpoint that is being written, or begins one while no batch is at work.
    pub(crate) fn advance_checkpoint(&mut self, cx: &mut Cx<'_>) {
        // What is being filled may stall, and then nothing happens.
        let due = std::mem::take(&mut self.checkpoints.due) | self.groups.moving;
        if !due || !self.topology.stateful() {
            return;
        }
        match self.checkpoints.writing {
            Writing::Version(version) => self.complete_checkpoint(cx, version),
            Writing::Idle if self.run.is_none() => self.begin_checkpoint(cx),
            Writing::Idle => {}
        }
    }

    /// Begins a checkpoint of the present version if it is time, or if the last one has lost holders. No batch may be at
    /// work on the state.
    pub(crate) fn begin_checkpoint(&mut self, cx: &mut Cx<'_>) {
        let replaying = self.state_version < self.durable.completed;
        if !self.topology.stateful() || replaying || self.checkpoints.writing != Writing::Idle {
            return;
        }
        let interval_ms = self.settings.checkpoint_interval.as_millis() as i64;
        let first = self.durable.checkpoint == BatchId(0) && self.durable.checkpoint_time_ms == 0;
        let since_ms = self.durable.completed_time_ms - self.durable.checkpoint_time_ms;
        let is_time = self.state_version > self.durable.checkpoint && (first || since_ms >= interval_ms);
        let is_thin = self.durable.checkpoint > BatchId(0) && self.groups_with_thin_checkpoint().any(|thin| thin);
        if !is_time && !is_thin {
            return;
        }
        let worst = self.worst_copies(cx);
        if worst == Copies::Filled || (is_time && worst == Copies::Stalled) {
            self.checkpoints.writing = Writing::Version(self.state_version);
            self.checkpoints.began_us = cx.now.mono_us;
            let message = pb::WriteCheckpoint { job: self.durable.id.0, version: self.state_version.0 };
            cx.send_all(&driver_message::Kind::WriteCheckpoint(message));
        }
    }

    fn worst_copies(&mut self, cx: &Cx<'_>) -> Copies {
        let (possible, now_us) = (self.copies_possible(), cx.now.mono_us);
        self.checkpoints.note_fills(&self.groups.list, now_us);
        let copies = self.groups.list.iter().map(|group| self.checkpoints.copies(group, possible, now_us));
        copies.max().unwrap_or(Copies::Filled)
    }

    /// A checkpoint is complete when as many have written every group as can have copies of it, or when the others
    /// are stalled and all that have it have written it.
    fn complete_checkpoint(&mut self, cx: &mut Cx<'_>, version: BatchId) {
        if self.state_version < version {
            self.checkpoints.abandon();
            return;
        }
        let (possible, now_us) = (self.copies_possible(), cx.now.mono_us);
        self.checkpoints.note_fills(&self.groups.list, now_us);
        let checkpoints = &self.checkpoints;
        let complete = checkpoints.written.get(&version).is_some_and(|written| {
            self.groups.list.iter().zip(written).all(|(group, written)| {
                let all_wrote = || group.holders().all(|worker| written.contains(&worker));
                let stalled = || checkpoints.copies(group, possible, now_us) == Copies::Stalled;
                written.len() >= possible || (stalled() && all_wrote())
            })
        });
        if !complete {
            self.abandon_late_checkpoint(version);
            return;
        }
        self.checkpoints.writing = Writing::Idle;
        let took_us = now_us.saturating_sub(self.checkpoints.began_us);
        CHECKPOINTS.of([&self.durable.name]).observe(took_us as f64 / 1e6);
        // One that had lost holders has them again.
        if version > self.durable.checkpoint {
            self.record(cx, JobRecord::Checkpoint(version));
        }
        self.checkpoints.written.retain(|other, _| *other >= version);
        let message = pb::RetainCheckpoints { job: self.durable.id.0, versions: vec![version.0] };
        cx.send_all(&driver_message::Kind::RetainCheckpoints(message));
    }

    /// Some holder will never write it: the next one will be written by all.
    fn abandon_late_checkpoint(&mut self, version: BatchId) {
        let interval_ms = self.settings.checkpoint_interval.as_millis() as i64;
        let batch_ms = self.settings.batch_interval.as_millis() as i64;
        let batches = (interval_ms / batch_ms.max(1)).max(2) as u64 * 2;
        if self.state_version.0 >= version.0 + batches {
            self.checkpoints.abandon();
        }
    }

    /// Of every group, whether fewer have written the last complete checkpoint than can have copies.
    pub(crate) fn groups_with_thin_checkpoint(&self) -> impl Iterator<Item = bool> {
        let written = self.checkpoints.written.get(&self.durable.checkpoint);
        let possible = self.copies_possible();
        (0..self.groups.list.len()).map(move |group| {
            let holders = written.and_then(|groups| groups.get(group));
            holders.map_or(0, |holders| holders.iter().filter(|worker| self.is_live(**worker)).count()) < possible
        })
    }

    /// The newest version of which every group is on some live worker's disk, with who has it; at first the initial state.
    pub(crate) fn newest_common_checkpoint(&self) -> Option<(BatchId, Holders)> {
        let versions = self.checkpoints.written.range(self.durable.checkpoint..=self.durable.completed).rev();
        for (version, groups) in versions {
            let live = |holders: &BTreeSet<WorkerId>| -> BTreeSet<WorkerId> {
                holders.iter().copied().filter(|worker| self.is_live(*worker)).collect()
            };
            let holders: Holders = groups.iter().map(live).collect();
            if holders.iter().all(|holders| !holders.is_empty()) {
                return Some((*version, holders));
            }
        }
        let everyone: BTreeSet<WorkerId> = self.live.iter().copied().collect();
        let initial = (BatchId(0), vec![everyone; self.groups.list.len()]);
        (self.durable.checkpoint == BatchId(0)).then_some(initial)
    }
}
