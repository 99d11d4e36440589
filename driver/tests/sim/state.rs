//! State of a simulated worker: parts with undo, the table of places, restoring and checkpoints.

use crate::compute::State;
use crate::links::Entry;
use crate::machine::{Cx, Process, Timer};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use tidemill_proto::control::{self as pb, worker_message};

/// Batches that can be undone.
const UNDO: usize = 2;

/// State of a key group at a stage.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) version: u64,
    pub(crate) state: Rc<State>,
    /// Oldest first, up to the version before the present one.
    pub(crate) undo: VecDeque<Rc<State>>,
}

impl Part {
    pub(crate) fn new(version: u64, state: Rc<State>) -> Self {
        Self { version, state, undo: VecDeque::new() }
    }

    pub(crate) fn filled(version: u64, state: Rc<State>, undo: VecDeque<Rc<State>>) -> Self {
        Self { version, state, undo }
    }

    pub(crate) fn apply(&mut self, version: u64, state: Rc<State>) {
        self.undo.push_back(std::mem::replace(&mut self.state, state));
        if self.undo.len() > UNDO {
            self.undo.pop_front();
        }
        self.version = version;
    }

    /// As it was at a version; none if that is to come, or too long ago.
    pub(crate) fn at(&self, version: u64) -> Option<&State> {
        let back = self.version.checked_sub(version)? as usize;
        if back == 0 {
            return Some(&self.state);
        }
        self.undo.len().checked_sub(back).map(|number| &*self.undo[number])
    }

    pub(crate) fn roll_back_to(&mut self, version: u64) -> bool {
        if version > self.version || version + (self.undo.len() as u64) < self.version {
            return false;
        }
        while self.version > version {
            let Some(state) = self.undo.pop_back() else { return false };
            self.state = state;
            self.version -= 1;
        }
        true
    }
}

/// The table of key groups as last told.
#[derive(Debug, Default)]
pub(crate) struct Places {
    groups: Vec<pb::GroupAssignment>,
    /// Owned groups that were restored.
    pub(crate) ready: BTreeSet<u32>,
}

impl Places {
    pub(crate) fn owner(&self, group: u32) -> Option<u64> {
        self.groups.get(group as usize).map(|group| group.owner)
    }

    pub(crate) fn followers(&self, group: u32) -> &[u64] {
        self.groups.get(group as usize).map_or(&[], |group| &group.followers)
    }

    pub(crate) fn owned(&self, me: u64) -> impl Iterator<Item = u32> + '_ {
        self.groups.iter().enumerate().filter(move |(_, group)| group.owner == me).map(|(number, _)| number as u32)
    }
}

impl Process {
    pub(crate) fn assign(&mut self, cx: &mut Cx<'_>, table: &pb::Assignment) {
        let Some(me) = self.id else { return };
        let Some(held) = self.jobs.get_mut(&table.job) else { return };
        held.places.groups.clone_from(&table.groups);
        let owned: BTreeSet<u32> = held.places.owned(me).collect();
        held.places.ready.retain(|group| owned.contains(group));
        let places = &held.places;
        held.parts.retain(|(_, group), _| owned.contains(group) || places.followers(*group).contains(&me));
        self.update_links(cx, table.job);
        self.report_links(cx, table.job);
    }

    pub(crate) fn restore(&mut self, cx: &mut Cx<'_>, message: &pb::RestoreState) {
        let (job, version) = (message.job, message.version);
        let Some(held) = self.jobs.get_mut(&job) else { return };
        let stages: Vec<u32> = cx.specs[held.spec].shape.stateful().collect();
        let (mut restored, mut failed) = (Vec::new(), Vec::new());
        for group in &message.groups {
            let mut all = true;
            for stage in &stages {
                let place = (*stage, *group);
                if held.parts.get_mut(&place).is_some_and(|part| part.roll_back_to(version)) {
                    continue;
                }
                let on_disk = cx.disk.checkpoints.get(&(job, version, *group)).and_then(|stages| stages.get(stage));
                let state = on_disk.cloned().or_else(|| (version == 0).then(Rc::default));
                match state {
                    Some(state) => drop(held.parts.insert(place, Part::new(version, state))),
                    None => all = false,
                }
            }
            if all { restored.push(*group) } else { failed.push(*group) }
        }
        held.places.ready.extend(restored.iter().copied());
        cx.files.counts.restored += restored.len() as u64;
        cx.files.counts.not_restored += failed.len() as u64;
        self.refill_links(job, &restored);
        self.update_links(cx, job);
        let answer = pb::StateRestored { job, version, groups: restored, failed };
        self.report(cx, worker_message::Kind::StateRestored(answer));
    }

    /// Writes the groups owned here that are at the version, and has followers do the same.
    pub(crate) fn write_owned(&mut self, cx: &mut Cx<'_>, job: u64, version: u64) {
        let Some(me) = self.id else { return };
        let Some(held) = self.jobs.get(&job) else { return };
        let mut due = Vec::new();
        for group in held.places.owned(me) {
            for stage in cx.specs[held.spec].shape.stateful() {
                if held.parts.get(&(stage, group)).is_some_and(|part| part.version == version) {
                    due.push((stage, group, version));
                }
            }
        }
        for (stage, group, version) in &due {
            self.push_entry(cx, job, Entry::Checkpoint { stage: *stage, group: *group, version: *version });
        }
        self.write(cx, job, due);
    }

    pub(crate) fn write(&mut self, cx: &mut Cx<'_>, job: u64, due: Vec<(u32, u32, u64)>) {
        let number = self.number();
        let Some(held) = self.jobs.get_mut(&job) else { return };
        let mut items = Vec::new();
        for (stage, group, version) in due {
            if let Some(part) = held.parts.get(&(stage, group)).filter(|part| part.version == version) {
                items.push((version, group, stage, part.state.clone()));
            }
        }
        if !items.is_empty() {
            held.writing.insert(number, items);
            let wait = cx.net.pick(2_000..60_000);
            cx.net.timer(cx.proc, wait, Timer::Checkpoint { job, write: number });
        }
    }

    pub(crate) fn checkpoint_written(&mut self, cx: &mut Cx<'_>, job: u64, write: u64) {
        let Some(held) = self.jobs.get_mut(&job) else { return };
        let Some(items) = held.writing.remove(&write) else { return };
        let stages = cx.specs[held.spec].shape.stateful().count();
        let mut complete: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
        for (version, group, stage, state) in items {
            cx.disk.checkpoints.entry((job, version, group)).or_default().insert(stage, state);
            let written = held.written.entry((version, group)).or_default();
            written.insert(stage);
            if written.len() == stages {
                complete.entry(version).or_default().insert(group);
            }
        }
        for (version, groups) in complete {
            let message = pb::CheckpointWritten { job, version, groups: groups.into_iter().collect() };
            self.report(cx, worker_message::Kind::CheckpointWritten(message));
        }
    }
}
