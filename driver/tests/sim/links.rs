//! Followers of a simulated worker's key groups: an ordered queue of snapshots and deltas for each.

use crate::compute::State;
use crate::machine::{Cx, Process, Timer};
use crate::net::{FollowResult, PeerMessage};
use crate::state::Part;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use tidemill_proto::control::{self as pb, worker_message};

/// What goes to a follower.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    /// State after a batch, to be put on the state before it.
    Delta {
        stage: u32,
        group: u32,
        version: u64,
        state: Rc<State>,
    },
    Snapshot {
        stage: u32,
        group: u32,
        version: u64,
        state: Rc<State>,
        undo: VecDeque<Rc<State>>,
    },
    Checkpoint {
        stage: u32,
        group: u32,
        version: u64,
    },
}

impl Entry {
    fn place(&self) -> (u32, u32, u64) {
        match self {
            Self::Delta { stage, group, version, .. }
            | Self::Snapshot { stage, group, version, .. }
            | Self::Checkpoint { stage, group, version } => (*stage, *group, *version),
        }
    }
}

/// The way to one follower.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// Groups, each with the stages of which a snapshot was taken.
    groups: BTreeMap<u32, BTreeSet<u32>>,
    queue: VecDeque<Entry>,
    in_flight: Option<(u64, Vec<Entry>)>,
    acknowledged: BTreeMap<(u32, u32), u64>,
}

impl Link {
    fn takes(&self, stage: u32, group: u32) -> bool {
        self.groups.get(&group).is_some_and(|taken| taken.contains(&stage))
    }

    fn refill(&mut self, groups: &[u32]) {
        for group in groups {
            if let Some(taken) = self.groups.get_mut(group) {
                taken.clear();
            }
        }
        self.acknowledged.retain(|(_, group), _| !groups.contains(group));
        self.queue.retain(|entry| !groups.contains(&entry.place().1));
    }
}

impl Process {
    /// Links follow the table: groups owned here and restored, each with its followers.
    pub(crate) fn update_links(&mut self, cx: &mut Cx<'_>, job: u64) {
        let Some(me) = self.id else { return };
        let Some(held) = self.jobs.get_mut(&job) else { return };
        let mut wanted: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
        for group in held.places.owned(me).filter(|group| held.places.ready.contains(group)) {
            for follower in held.places.followers(group) {
                wanted.entry(*follower).or_default().insert(group);
            }
        }
        held.links.retain(|follower, _| wanted.contains_key(follower));
        let followers: Vec<u64> = wanted.keys().copied().collect();
        for (follower, groups) in wanted {
            let link = held.links.entry(follower).or_default();
            link.groups.retain(|group, _| groups.contains(group));
            link.acknowledged.retain(|(_, group), _| groups.contains(group));
            for group in groups {
                link.groups.entry(group).or_default();
            }
        }
        followers.into_iter().for_each(|follower| self.pump(cx, job, follower));
    }

    pub(crate) fn push_entry(&mut self, cx: &mut Cx<'_>, job: u64, entry: Entry) {
        let Some(held) = self.jobs.get_mut(&job) else { return };
        let (stage, group, _) = entry.place();
        let mut woken = Vec::new();
        for (follower, link) in held.links.iter_mut().filter(|(_, link)| link.takes(stage, group)) {
            link.queue.push_back(entry.clone());
            woken.push(*follower);
        }
        woken.into_iter().for_each(|follower| self.pump(cx, job, follower));
    }

    pub(crate) fn refill_links(&mut self, job: u64, groups: &[u32]) {
        if let Some(held) = self.jobs.get_mut(&job) {
            held.links.values_mut().for_each(|link| link.refill(groups));
        }
    }

    fn pump(&mut self, cx: &mut Cx<'_>, job: u64, follower: u64) {
        let request = self.number();
        let spec = self.jobs.get(&job).map(|held| held.spec);
        let (Some(me), Some(spec)) = (self.id, spec) else { return };
        let Some(held) = self.jobs.get_mut(&job) else { return };
        let Some(link) = held.links.get_mut(&follower).filter(|link| link.in_flight.is_none()) else { return };
        for (group, taken) in &mut link.groups {
            for stage in cx.specs[spec].shape.stateful() {
                let Some(part) = held.parts.get(&(stage, *group)).filter(|_| !taken.contains(&stage)) else { continue };
                taken.insert(stage);
                let (version, state, undo) = (part.version, part.state.clone(), part.undo.clone());
                link.queue.push_back(Entry::Snapshot { stage, group: *group, version, state, undo });
            }
        }
        if link.queue.is_empty() {
            return;
        }
        let count = cx.net.pick(1..6) as usize;
        let entries: Vec<Entry> = link.queue.drain(..count.min(link.queue.len())).collect();
        link.in_flight = Some((request, entries.clone()));
        cx.net.peer(cx.proc, me, follower, PeerMessage::Follow { job, request, entries });
        cx.net.timer(cx.proc, 80_000, Timer::Link { job, follower, request });
    }

    /// No answer came: once more, but for groups that are no business of this link any more.
    pub(crate) fn retry_link(&mut self, cx: &mut Cx<'_>, job: u64, follower: u64, request: u64) {
        let Some(me) = self.id else { return };
        let link = self.jobs.get_mut(&job).and_then(|held| held.links.get_mut(&follower));
        let Some(link) = link else { return };
        let Some((_, entries)) = link.in_flight.as_mut().filter(|(id, _)| *id == request) else { return };
        entries.retain(|entry| link.groups.contains_key(&entry.place().1));
        let entries = entries.clone();
        if entries.is_empty() {
            link.in_flight = None;
            return self.pump(cx, job, follower);
        }
        cx.net.peer(cx.proc, me, follower, PeerMessage::Follow { job, request, entries });
        cx.net.timer(cx.proc, 80_000, Timer::Link { job, follower, request });
    }

    pub(crate) fn followed(&mut self, cx: &mut Cx<'_>, job: u64, peer: u64, request: u64, result: FollowResult) {
        let link = self.jobs.get_mut(&job).and_then(|held| held.links.get_mut(&peer));
        let Some(link) = link.filter(|link| link.in_flight.as_ref().is_some_and(|(id, _)| *id == request)) else {
            return;
        };
        if result == FollowResult::NotNow {
            return;
        }
        let Some((_, entries)) = link.in_flight.take() else { return };
        if result == FollowResult::StateVersion {
            let groups: Vec<u32> = entries.iter().map(|entry| entry.place().1).collect();
            link.refill(&groups);
        } else {
            for (stage, group, version) in entries.iter().map(Entry::place) {
                if link.takes(stage, group) {
                    link.acknowledged.insert((stage, group), version);
                }
            }
            self.report_link(cx, job, peer);
        }
        self.pump(cx, job, peer);
    }

    pub(crate) fn report_links(&mut self, cx: &mut Cx<'_>, job: u64) {
        let followers: Vec<u64> = self.jobs.get(&job).map_or(Vec::new(), |held| held.links.keys().copied().collect());
        followers.into_iter().for_each(|follower| self.report_link(cx, job, follower));
    }

    fn report_link(&mut self, cx: &mut Cx<'_>, job: u64, follower: u64) {
        let Some(held) = self.jobs.get(&job) else { return };
        let Some(link) = held.links.get(&follower) else { return };
        let mut by_version: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for group in link.groups.keys() {
            let stages = cx.specs[held.spec].shape.stateful();
            let versions: Option<Vec<u64>> =
                stages.map(|stage| link.acknowledged.get(&(stage, *group)).copied()).collect();
            if let Some(version) = versions.and_then(|versions| versions.into_iter().min()) {
                by_version.entry(version).or_default().push(*group);
            }
        }
        for (version, groups) in by_version {
            let message = pb::StateReplicated { job, follower, version, groups };
            self.report(cx, worker_message::Kind::StateReplicated(message));
        }
    }

    /// The follower's side.
    pub(crate) fn follow(&mut self, cx: &mut Cx<'_>, job: u64, entries: Vec<Entry>) -> FollowResult {
        let Some(me) = self.id else { return FollowResult::NotNow };
        let mut due = Vec::new();
        for entry in entries {
            let Some(held) = self.jobs.get_mut(&job) else { return FollowResult::NotNow };
            let (stage, group, version) = entry.place();
            if held.places.owner(group) == Some(me) {
                return FollowResult::NotNow;
            }
            match entry {
                Entry::Snapshot { version, state, undo, .. } => {
                    held.parts.insert((stage, group), Part::filled(version, state, undo));
                }
                Entry::Delta { version, state, .. } => {
                    let Some(part) = held.parts.get_mut(&(stage, group)) else { return FollowResult::StateVersion };
                    let follows = part.version < version || part.roll_back_to(version - 1);
                    if !follows || part.version + 1 != version {
                        return FollowResult::StateVersion;
                    }
                    part.apply(version, state);
                }
                Entry::Checkpoint { .. } => due.push((stage, group, version)),
            }
        }
        self.write(cx, job, due);
        FollowResult::Ok
    }
}
