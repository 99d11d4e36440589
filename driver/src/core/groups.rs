//! Where key groups live: owner and followers of each, take-over, filling, promotion, rewind.
//!
//! ```text
//!            owner lost               RestoreState answered
//!  READY ───────────────► RESTORING ───────────────────────► READY
//!    ▲                      │ no copy at the state's version
//!    └──────────────────────┴─► REWIND by one batch, which all that hold a group can undo, or to the
//!                               newest checkpoint all groups have; then RESTORING
//! ```
//! A new owner always proves by [`RestoreState`](pb::RestoreState) that it has the version the job builds
//! on. A worker that joins is first filled as a follower, and made owner before a batch has touched the group.

use super::Cx;
use super::job::Job;
use super::wire::{best, rendezvous, worker_numbers};
use crate::record::{GroupPlaces, JobRecord};
use std::collections::{BTreeMap, BTreeSet};
use tidemill_common::ids::{BatchId, JobId, WorkerId};
use tidemill_metrics::{Counter, Family, metric};
use tidemill_proto::control::{self as pb, driver_message};

metric! {
    static REWINDS: Family<Counter, 2> = Counter::new(
        "tidemill_rewinds_total",
        "Times the state of a job went back: by one batch in `memory`, or to a `checkpoint`.",
    )
    .by(["job", "to"]);
}

/// What a follower has, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Follower {
    /// It is to get a snapshot; batches do not wait for it.
    Filling,
    /// The state at this version; every delta after it follows.
    Holds(BatchId),
}

impl Follower {
    fn held(self) -> Option<BatchId> {
        match self {
            Self::Filling => None,
            Self::Holds(version) => Some(version),
        }
    }
}

/// One key group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    pub(crate) owner: Option<WorkerId>,
    /// The owner has the state at the job's state version.
    pub(crate) ready: bool,
    restore_asked: bool,
    pub(crate) followers: BTreeMap<WorkerId, Follower>,
    /// The version its owner was known to hold when it became the owner.
    owner_held: Option<BatchId>,
    /// The owner has had the state once, and whatever batches did to it since.
    proven: bool,
    /// Workers that turned out not to have the state at the job's version, with the version they are known to hold.
    failed: BTreeMap<WorkerId, Option<BatchId>>,
    /// Its owner, or the one it had.
    last_owner: Option<WorkerId>,
    /// Who should have it, the owner first.
    wanted: Vec<WorkerId>,
}

impl Group {
    /// The owner has to prove again that it has the state.
    pub(crate) fn distrust(&mut self) {
        self.ready = false;
        self.restore_asked = false;
    }

    /// Workers whose memory has, as far as is known, the state at `version` or can undo what came after it.
    fn reach_back_to(&self, version: BatchId) -> BTreeSet<WorkerId> {
        let has = |held: Option<BatchId>| held >= Some(version);
        let owner = self.owner.filter(|_| self.proven || has(self.owner_held));
        let followers = self.followers.iter().map(|(worker, follower)| (*worker, follower.held()));
        let failed = self.failed.iter().map(|(worker, held)| (*worker, *held));
        let others = followers.chain(failed).filter(|(_, held)| has(*held)).map(|(worker, _)| worker);
        owner.into_iter().chain(others).collect()
    }

    /// The owner, and followers that are filled.
    pub(crate) fn holders(&self) -> impl Iterator<Item = WorkerId> {
        let filled = self.followers.iter().filter(|(_, follower)| **follower != Follower::Filling);
        self.owner.into_iter().chain(filled.map(|(worker, _)| *worker))
    }

    /// Copies in memory: the owner's, once it has proved that it has the state, and those of filled followers.
    pub(crate) fn copies(&self) -> usize {
        if self.ready { self.holders().count() } else { 0 }
    }

    /// The owner, once it has the state, with each follower that it is filling.
    pub(crate) fn fills(&self) -> impl Iterator<Item = (WorkerId, WorkerId)> {
        let owner = self.owner.filter(|_| self.ready);
        let filling = self.followers.iter().filter(|(_, follower)| **follower == Follower::Filling);
        owner.into_iter().flat_map(move |owner| filling.clone().map(move |(worker, _)| (owner, *worker)))
    }

    /// Nothing of it has to move or to be filled.
    fn is_settled(&self) -> bool {
        let is_wanted = |worker: &WorkerId| self.wanted.contains(worker);
        self.ready
            && self.owner.as_ref() == self.wanted.first()
            && self.followers.len() + 1 == self.wanted.len()
            && self.followers.iter().all(|(worker, follower)| *follower != Follower::Filling && is_wanted(worker))
    }
}

/// All key groups of a job.
#[derive(Debug, Clone, Default)]
pub(crate) struct Groups {
    pub(crate) list: Vec<Group>,
    version: u64,
    /// A worker has joined and does not know the table.
    dirty: bool,
    /// Something happened that may move a group.
    pub(crate) due: bool,
    /// Some group is not where it should be.
    pub(crate) moving: bool,
}

impl Groups {
    pub(crate) fn new(count: u32, places: &[GroupPlaces]) -> Self {
        let restored = |group: usize| {
            let places = places.get(group).cloned().unwrap_or_default();
            let followers = places.followers.into_iter().map(|worker| (worker, Follower::Filling)).collect();
            Group { owner: places.owner, last_owner: places.owner, followers, ..Group::default() }
        };
        let list = (0..count as usize).map(restored).collect();
        Self { list, version: 0, dirty: true, due: true, moving: true }
    }

    /// Says anew who should have what.
    pub(crate) fn rank(&mut self, job: JobId, live: &[WorkerId], copies: usize) {
        for (number, group) in self.list.iter_mut().enumerate() {
            group.wanted = best(job, number as u64, live, copies);
        }
        self.due = true;
    }

    fn places(&self) -> Vec<GroupPlaces> {
        let places =
            |group: &Group| GroupPlaces { owner: group.owner, followers: group.followers.keys().copied().collect() };
        self.list.iter().map(places).collect()
    }

    pub(crate) fn resend(&mut self) {
        self.dirty = true;
        self.due = true;
    }

    /// Groups owned and followed by a worker.
    pub(crate) fn count_of(&self, worker: WorkerId) -> (u64, u64) {
        let owned = self.list.iter().filter(|g| g.owner == Some(worker)).count();
        let followed = self.list.iter().filter(|g| g.followers.contains_key(&worker)).count();
        (owned as u64, followed as u64)
    }

    /// Followers of these groups that are behind no longer count, until they have been filled again.
    pub(crate) fn give_up_followers(&mut self, groups: &[usize], version: BatchId) {
        for number in groups {
            let Some(group) = self.list.get_mut(*number) else { continue };
            let behind = |follower: &&mut Follower| **follower < Follower::Holds(version);
            group.followers.values_mut().filter(behind).for_each(|follower| *follower = Follower::Filling);
        }
    }
}

impl Job {
    /// Brings the places of key groups nearer to what they should be.
    pub(crate) fn advance_groups(&mut self, cx: &mut Cx<'_>) {
        if self.live.is_empty() || !std::mem::take(&mut self.groups.due) {
            return;
        }
        let stateful = self.topology.stateful();
        let mut changed = self.drop_dead_places();
        if stateful {
            changed |= self.find_owners(cx);
            if self.durable.ending.is_some() {
                return;
            }
            changed |= self.place_followers();
            changed |= self.promote();
        } else {
            changed |= self.place_stateless();
        }
        if changed && stateful {
            // Whoever was asked to write a checkpoint may not hold the group any more: the next batch asks anew.
            self.checkpoints.abandon();
            self.record(cx, JobRecord::Assigned(self.groups.places()));
        }
        if std::mem::take(&mut self.groups.dirty) | changed {
            self.groups.version += 1;
            let message = self.assignment_message();
            cx.send_all(&message);
        }
        self.ask_to_restore(cx);
        let in_place = |group: &Group| match stateful {
            true => group.is_settled(),
            false => group.owner.as_ref() == group.wanted.first(),
        };
        self.groups.moving = !self.groups.list.iter().all(in_place);
        self.checkpoints.look_again();
    }

    fn drop_dead_places(&mut self) -> bool {
        let live = &self.live;
        let is_live = |worker: &WorkerId| live.binary_search(worker).is_ok();
        let mut changed = false;
        for group in &mut self.groups.list {
            let followers = group.followers.len();
            group.followers.retain(|worker, _| is_live(worker));
            changed |= group.followers.len() < followers;
            if group.owner.is_some_and(|owner| !is_live(&owner)) {
                group.owner = None;
                group.ready = false;
                changed = true;
            }
        }
        changed
    }

    /// Makes a worker the owner. It knows nothing of what the others hold: it fills them again.
    fn set_owner(&mut self, number: usize, owner: WorkerId) {
        let group = &mut self.groups.list[number];
        group.owner = Some(owner);
        group.ready = false;
        group.restore_asked = false;
        group.proven = false;
        group.owner_held = group.followers.remove(&owner).and_then(Follower::held);
        group.followers.values_mut().for_each(|follower| *follower = Follower::Filling);
        let Some(before) = group.last_owner.replace(owner).filter(|before| *before != owner) else { return };
        self.counters.groups_moved += 1;
        if let Some(incident) = self.incidents.iter_mut().find(|incident| incident.worker == before.0) {
            incident.groups_moved += 1;
        }
    }

    fn find_owners(&mut self, cx: &mut Cx<'_>) -> bool {
        let (job, fresh) = (self.durable.id, self.state_version == BatchId(0));
        let (mut changed, mut stuck) = (false, false);
        for number in 0..self.groups.list.len() {
            let group = &self.groups.list[number];
            if group.owner.is_some() {
                continue;
            }
            let followers = group.followers.iter().filter(|(worker, _)| !group.failed.contains_key(worker));
            let best = followers.max_by_key(|(w, follower)| (**follower, rendezvous(job, number as u64, **w)));
            let best = best.map(|(worker, _)| *worker).or_else(|| group.wanted.first().copied().filter(|_| fresh));
            match best {
                Some(owner) => {
                    self.set_owner(number, owner);
                    changed = true;
                }
                None => stuck = true,
            }
        }
        changed | (stuck && self.rewind(cx))
    }

    /// No copy of some group is at the state's version: everything goes back to a version that all groups have, if
    /// there is one.
    fn rewind(&mut self, cx: &mut Cx<'_>) -> bool {
        let on_disk = self.newest_common_checkpoint().map(|found| (found, false));
        let in_memory = self.batch_before().map(|found| (found, true));
        let newest = on_disk.into_iter().chain(in_memory).max_by_key(|((version, _), _)| *version);
        let Some(((version, holders), in_memory)) = newest else {
            self.groups.due = true;
            self.wait_for_lost_data(cx, "the state of some key groups is on no live worker, in memory or on disk");
            return false;
        };
        tracing::info!(job = self.durable.id.0, from = self.state_version.0, to = version.0, in_memory, "going back");
        let counter = if in_memory { &mut self.counters.steps_back } else { &mut self.counters.rewinds };
        *counter += 1;
        REWINDS.of([&self.durable.name, if in_memory { "memory" } else { "checkpoint" }]).add(1);
        self.cancel_run(cx);
        self.state_version = version;
        let job = self.durable.id;
        for (number, holders) in holders.iter().enumerate() {
            let group = &mut self.groups.list[number];
            group.failed.clear();
            group.followers = holders.iter().map(|worker| (*worker, Follower::Filling)).collect();
            let stays = group.owner.filter(|owner| holders.contains(owner));
            let ranked = || holders.iter().copied().max_by_key(|worker| rendezvous(job, number as u64, *worker));
            if let Some(owner) = stays.or_else(ranked) {
                self.set_owner(number, owner);
            }
        }
        true
    }

    /// The version before the last batch, and who can go back to it in memory. A follower may lack the last batch when
    /// its owner is lost, but not the one before: that is what stages with state wait for.
    fn batch_before(&self) -> Option<(BatchId, Vec<BTreeSet<WorkerId>>)> {
        // Of what a checkpoint covers the blocks are gone.
        let version = Some(self.state_version).filter(|version| *version > self.durable.checkpoint)?.prev();
        let holders = self.groups.list.iter().map(|group| {
            let holders = group.reach_back_to(version);
            Some(holders.into_iter().filter(|worker| self.is_live(*worker)).collect::<BTreeSet<_>>())
                .filter(|holders| !holders.is_empty())
        });
        Some((version, holders.collect::<Option<_>>()?))
    }

    /// Has those follow that should, and lets the others go once those that should are filled.
    fn place_followers(&mut self) -> bool {
        let state_version = self.state_version;
        let mut changed = false;
        for group in &mut self.groups.list {
            let Some(owner) = group.owner.filter(|_| group.ready && !group.is_settled()) else { continue };
            for worker in group.wanted.iter().filter(|worker| **worker != owner) {
                changed |= !group.followers.contains_key(worker);
                group.followers.entry(*worker).or_insert(Follower::Filling);
            }
            let holds = |follower: &Follower| *follower >= Follower::Holds(state_version);
            let is_filled = |worker: &WorkerId| *worker == owner || group.followers.get(worker).is_some_and(holds);
            if group.wanted.iter().all(is_filled) {
                let before = group.followers.len();
                group.followers.retain(|worker, _| group.wanted.contains(worker));
                changed |= group.followers.len() < before;
            }
        }
        changed
    }

    /// As long as the running batch has not touched a group, the worker that should own it becomes its
    /// owner, once it is filled.
    fn promote(&mut self) -> bool {
        let mut changed = false;
        for number in 0..self.groups.list.len() {
            let group = &self.groups.list[number];
            let owner = group.owner.filter(|_| group.ready);
            let Some((owner, best)) = owner.zip(group.wanted.first().copied()) else { continue };
            let filled = group.followers.get(&best) == Some(&Follower::Holds(self.state_version));
            if best != owner && filled && self.group_untouched(number) {
                self.set_owner(number, best);
                self.groups.list[number].followers.insert(owner, Follower::Filling);
                changed = true;
            }
        }
        changed
    }

    fn place_stateless(&mut self) -> bool {
        let running = self.run.is_some();
        let mut changed = false;
        for group in &mut self.groups.list {
            let best = group.wanted.first().copied();
            if group.owner != best && (group.owner.is_none() || !running) {
                group.owner = best;
                changed = true;
            }
            group.ready = group.owner.is_some();
        }
        changed
    }

    fn ask_to_restore(&mut self, cx: &mut Cx<'_>) {
        let mut wanted: BTreeMap<WorkerId, Vec<u32>> = BTreeMap::new();
        for (number, group) in self.groups.list.iter_mut().enumerate() {
            if let Some(owner) = group.owner.filter(|_| !group.ready && !group.restore_asked) {
                group.restore_asked = true;
                wanted.entry(owner).or_default().push(number as u32);
            }
        }
        for (owner, groups) in wanted {
            let message = pb::RestoreState { job: self.durable.id.0, version: self.state_version.0, groups };
            cx.send(owner, driver_message::Kind::RestoreState(message));
        }
    }

    fn assignment_message(&self) -> driver_message::Kind {
        let entry = |group: &Group| pb::GroupAssignment {
            owner: group.owner.map_or(0, |owner| owner.0),
            followers: worker_numbers(group.followers.keys()),
        };
        let groups = self.groups.list.iter().map(entry).collect();
        let (job, version) = (self.durable.id.0, self.groups.version);
        driver_message::Kind::Assignment(pb::Assignment { job, version, groups })
    }

    pub(crate) fn on_state_restored(&mut self, cx: &mut Cx<'_>, worker: WorkerId, message: &pb::StateRestored) {
        if message.version != self.state_version.0 {
            self.count_fenced();
            return;
        }
        self.groups.due = true;
        let owned = |groups: &[u32], list: &[Group]| -> BTreeSet<usize> {
            let is_owned = |number: &usize| list.get(*number).is_some_and(|group| group.owner == Some(worker));
            groups.iter().map(|number| *number as usize).filter(is_owned).collect()
        };
        for number in owned(&message.groups, &self.groups.list) {
            let group = &mut self.groups.list[number];
            group.ready = true;
            group.proven = true;
            group.restore_asked = false;
            group.failed.clear();
        }
        let failed = owned(&message.failed, &self.groups.list);
        self.distrust_groups(cx, failed.clone());
        for number in failed {
            tracing::info!(job = self.durable.id.0, group = number, worker = worker.0, "state is not there");
            let group = &mut self.groups.list[number];
            group.owner = None;
            // One that is ahead and cannot go back to this version cannot go back further.
            let behind = group.owner_held.take().filter(|held| held.0 < message.version);
            group.failed.insert(worker, behind);
            self.checkpoints.lose_group(worker, BatchId(message.version), number);
        }
    }

    /// Until the owner has answered that it restored a group, what it says of followers is from before.
    pub(crate) fn on_state_replicated(&mut self, cx: &Cx<'_>, worker: WorkerId, message: &pb::StateReplicated) {
        self.groups.due |= self.groups.moving;
        let follower = WorkerId(message.follower);
        self.checkpoints.fill_goes_on(worker, follower, cx.now.mono_us);
        for number in &message.groups {
            let group = self.groups.list.get_mut(*number as usize).filter(|g| g.ready && g.owner == Some(worker));
            if let Some(known) = group.and_then(|group| group.followers.get_mut(&follower)) {
                if *known == Follower::Filling {
                    // Filled after a checkpoint was asked for: it was not asked.
                    self.checkpoints.abandon();
                }
                *known = Follower::Holds(BatchId(message.version)).max(*known);
            }
        }
    }

    /// Whether the followers that count have the state that the next batch builds on.
    pub(crate) fn followers_keep_up(&self, number: usize) -> bool {
        let mut followers = self.groups.list[number].followers.values();
        followers.all(|follower| follower.held().is_none_or(|version| version >= self.state_version))
    }
}
