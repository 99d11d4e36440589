//! Running parts of a batch again: after a task failed, or what it had brought was lost.
//!
//! Results count by task, so the units of a task are only ever taken back together. State counts by key
//! group: whenever it is in doubt, the group is restored to the version before the batch, and all that the
//! batch has done to it, in any stage, is done again.

use super::Cx;
use super::job::Job;
use super::run::{CONFUSIONS_PER_BATCH, TaskInfo, Unit};
use crate::record::{BlockKey, Ending};
use std::collections::{BTreeMap, BTreeSet};
use tidemill_common::ids::{TaskId, WorkerId};
use tidemill_proto::control::{self as pb, FailureKind};

impl Job {
    pub(crate) fn task_failed(&mut self, cx: &mut Cx<'_>, task: &TaskInfo, failure: &pb::TaskFailure) {
        let Some(run) = self.run.as_mut() else { return };
        tracing::info!(
            job = self.durable.id.0, batch = run.batch.0, stage = task.stage, worker = task.worker.0,
            kind = ?failure.kind(), reason = failure.message, "task failed"
        );
        let batch = run.batch;
        let stage = &mut run.stages[task.stage];
        task.units.iter().for_each(|unit| stage.set(*unit, Unit::Pending));
        self.counters.task_failures += 1;
        match failure.kind() {
            FailureKind::FailureUser => {
                self.end(cx, Ending::Failed(format!("batch {batch}: {}", failure.message)));
            }
            FailureKind::FailureFetch
            | FailureKind::FailureStateVersion
            | FailureKind::FailureBlockLost
            | FailureKind::FailureModel => {
                run.confusions += 1;
                if run.confusions > CONFUSIONS_PER_BATCH {
                    let reason = format!("batch {batch} cannot make progress: {}", failure.message);
                    self.end(cx, Ending::Failed(reason));
                } else {
                    self.mend(cx, task, failure);
                }
            }
            _ => {
                let limit = self.settings.max_task_failures;
                let mut most = 0;
                for unit in &task.units {
                    let failures = stage.failures.entry(*unit).or_default();
                    *failures += 1;
                    most = most.max(*failures);
                }
                if most >= limit {
                    let reason = format!("batch {batch}: a task failed {limit} times: {}", failure.message);
                    self.end(cx, Ending::Failed(reason));
                }
            }
        }
    }

    /// What a task missed is not where it should be: make it again.
    fn mend(&mut self, cx: &mut Cx<'_>, task: &TaskInfo, failure: &pb::TaskFailure) {
        match failure.kind() {
            FailureKind::FailureStateVersion => self.distrust_groups(cx, task.units.iter().copied().collect()),
            FailureKind::FailureFetch => {
                let producers: BTreeSet<usize> = self.producers(task.stage).collect();
                let missing_at = WorkerId(failure.lost_worker);
                producers
                    .into_iter()
                    .for_each(|producer| self.redo_pieces(cx, producer, |worker| worker == missing_at));
                self.redo_lost_pieces(cx);
            }
            FailureKind::FailureBlockLost => self.lose_blocks(task),
            _ => {}
        }
    }

    /// One of a task's blocks is not where the task ran; which, shows when each is tried for itself.
    fn lose_blocks(&mut self, task: &TaskInfo) {
        let Some(run) = &mut self.run else { return };
        let stage = &mut run.stages[task.stage];
        let [unit] = task.units[..] else {
            stage.alone.extend(&task.units);
            return;
        };
        let order = stage.orders[unit] as usize;
        let block = self.durable.frozen.get(&run.batch).and_then(|frozen| frozen.blocks.get(order));
        let key: Option<BlockKey> = block.map(|block| block.key);
        if let Some(key) = key {
            self.lose_block(key, task.worker);
        }
    }

    /// What a worker that is not live any more was doing, or has and is still needed, is done again by
    /// others; returns how many units.
    pub(crate) fn lose_units(&mut self, cx: &mut Cx<'_>, worker: WorkerId) -> u64 {
        let before = self.counters.units_recomputed;
        let Some(run) = &mut self.run else { return 0 };
        let running: Vec<TaskId> = run.tasks.iter().filter(|(_, t)| t.worker == worker).map(|(id, _)| *id).collect();
        let running: Vec<TaskInfo> = running.iter().filter_map(|id| run.tasks.remove(id)).collect();
        for task in running {
            self.take_back(task.stage, &task.units.iter().copied().collect());
        }
        let groups = self.groups.list.iter().enumerate();
        let owned = groups.filter(|(_, group)| group.owner == Some(worker)).map(|(number, _)| number).collect();
        self.distrust_groups(cx, owned);
        self.redo_lost_pieces(cx);
        self.counters.units_recomputed - before
    }

    /// The state of these groups is not known to be what it should be: owners restore it, and what the
    /// batch has done with it is done again.
    pub(crate) fn distrust_groups(&mut self, cx: &mut Cx<'_>, groups: BTreeSet<usize>) {
        if groups.is_empty() {
            return;
        }
        let groups = self.with_task_mates(groups);
        for number in &groups {
            if let Some(group) = self.groups.list.get_mut(*number) {
                group.distrust();
            }
        }
        self.groups.due = true;
        let Some(run) = &mut self.run else { return };
        let is_on = |task: &TaskInfo| {
            self.topology.stages[task.stage].stateful && task.units.iter().any(|unit| groups.contains(unit))
        };
        let running: Vec<TaskId> = run.tasks.iter().filter(|(_, task)| is_on(task)).map(|(id, _)| *id).collect();
        let running: BTreeMap<TaskId, TaskInfo> =
            running.into_iter().filter_map(|id| run.tasks.remove_entry(&id)).collect();
        self.send_cancels(cx, running);
        for stage in 0..self.topology.stages.len() {
            if self.topology.stages[stage].stateful {
                self.take_back(stage, &groups);
            }
        }
        self.redo_lost_pieces(cx);
    }

    /// These groups, and those that share a task with them in a stage with state, and so on.
    fn with_task_mates(&self, mut groups: BTreeSet<usize>) -> BTreeSet<usize> {
        let Some(run) = &self.run else { return groups };
        loop {
            let before = groups.len();
            for (stage, units) in run.tasks_and_results() {
                if self.topology.stages[stage].stateful && units.iter().any(|unit| groups.contains(unit)) {
                    groups.extend(units);
                }
            }
            if groups.len() == before {
                return groups;
            }
        }
    }

    /// Pieces that are still needed and were left at workers that are gone are made again.
    fn redo_lost_pieces(&mut self, cx: &mut Cx<'_>) {
        for stage in (0..self.topology.stages.len()).rev() {
            let Some(run) = &self.run else { return };
            let consumers = &self.topology.stages[stage].consumers;
            if consumers.iter().any(|consumer| !run.stages[*consumer].done()) {
                let live = self.live.clone();
                self.redo_pieces(cx, stage, |worker| live.binary_search(&worker).is_err());
            }
        }
    }

    fn redo_pieces(&mut self, cx: &mut Cx<'_>, stage: usize, at: impl Fn(WorkerId) -> bool) {
        let Some(run) = &self.run else { return };
        let lost = run.stages[stage].done_where(at);
        if lost.is_empty() {
        } else if self.topology.stages[stage].stateful {
            self.distrust_groups(cx, lost);
        } else {
            self.take_back(stage, &lost);
        }
    }

    /// Units that are running or done will run again.
    fn take_back(&mut self, stage: usize, units: &BTreeSet<usize>) {
        let Some(run) = &mut self.run else { return };
        let of_stage = &mut run.stages[stage];
        for unit in units {
            if matches!(of_stage.units[*unit], Unit::Running(..) | Unit::Done(_)) {
                of_stage.set(*unit, Unit::Pending);
                of_stage.recompute.insert(*unit);
                self.counters.units_recomputed += 1;
            }
        }
        run.results.retain(|result| result.stage != stage || !result.units.iter().any(|unit| units.contains(unit)));
    }

    /// Whether the running batch has done nothing yet with the state of a group.
    pub(crate) fn group_untouched(&self, number: usize) -> bool {
        let Some(run) = &self.run else { return true };
        let stages = self.topology.stages.iter().zip(&run.stages).filter(|(shape, _)| shape.stateful);
        stages.into_iter().all(|(_, stage)| stage.units[number] == Unit::Pending)
    }
}
