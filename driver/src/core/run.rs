//! A batch as it runs: which units of which stage are waiting, running, done, and where.
//!
//! ```text
//!  PENDING ──sent──► RUNNING ──reported──► DONE
//!     ▲                 │ task failed        │ worker lost, and its pieces or its state are still needed
//!     └─────────────────┴────────────────────┘
//! ```
//! A stage starts when all units of the stages it reads are done.

use super::Cx;
use super::job::Job;
use super::wire::{best, block_ref, is_believable, worker_numbers};
use std::collections::{BTreeMap, BTreeSet};
use tidemill_common::ids::{BatchId, TaskId, WorkerId};
use tidemill_plan::{BatchContext, Placement};
use tidemill_proto::control::{self as pb, driver_message, task_report};

/// Failures to fetch pieces or to find state at the right version, per batch, after which something is wrong with the engine.
pub(crate) const CONFUSIONS_PER_BATCH: u32 = 200;
/// A follower that keeps a batch waiting for this long does not count until it has been filled again; one of which nothing
/// is heard for this long while it is filled is not waited for by checkpoints.
pub(crate) const FOLLOWER_PATIENCE_US: u64 = 5_000_000;
/// Item numbers for placing single units, apart from those of key groups and receivers.
const SINGLE_ITEMS: u64 = 1 << 33;

/// Units of a stage per worker, each entry a task.
type Placed = Vec<(WorkerId, Vec<usize>)>;

/// How far a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Pending,
    Running(TaskId, WorkerId),
    Done(WorkerId),
    /// Had no input, so was not run.
    Skipped,
}

impl Unit {
    fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Running(..))
    }
}

#[derive(Debug)]
pub(crate) struct StageRun {
    pub(crate) units: Vec<Unit>,
    /// Order tag of each unit.
    pub(crate) orders: Vec<u64>,
    pending: BTreeSet<usize>,
    /// Units that are pending or running.
    open: usize,
    pub(crate) failures: BTreeMap<usize, u32>,
    /// Units that ran before.
    pub(crate) recompute: BTreeSet<usize>,
    /// Units that are a task of their own, to see which of them fails.
    pub(crate) alone: BTreeSet<usize>,
}

impl StageRun {
    fn new(orders: Vec<u64>) -> Self {
        let count = orders.len();
        Self {
            units: vec![Unit::Pending; count],
            orders,
            pending: (0..count).collect(),
            open: count,
            failures: BTreeMap::new(),
            recompute: BTreeSet::new(),
            alone: BTreeSet::new(),
        }
    }

    pub(crate) fn set(&mut self, number: usize, unit: Unit) {
        let before = std::mem::replace(&mut self.units[number], unit);
        self.open += usize::from(unit.is_open());
        self.open -= usize::from(before.is_open());
        if unit == Unit::Pending {
            self.pending.insert(number);
        } else {
            self.pending.remove(&number);
        }
    }

    pub(crate) fn done(&self) -> bool {
        self.open == 0
    }

    pub(crate) fn done_where(&self, at: impl Fn(WorkerId) -> bool) -> BTreeSet<usize> {
        let is_there = |unit: &Unit| matches!(unit, Unit::Done(worker) if at(*worker));
        self.units.iter().enumerate().filter(|(_, unit)| is_there(unit)).map(|(number, _)| number).collect()
    }
}

#[derive(Debug)]
pub(crate) struct TaskInfo {
    pub(crate) worker: WorkerId,
    pub(crate) stage: usize,
    pub(crate) units: Vec<usize>,
}

/// What becomes of part files when all units are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommitState {
    NotAsked,
    Asked,
    Done,
}

/// A batch as it runs.
#[derive(Debug)]
pub(crate) struct BatchRun {
    pub(crate) batch: BatchId,
    pub(crate) time_ms: i64,
    pub(crate) previous_ms: i64,
    /// It was complete before: its outputs are suppressed.
    pub(crate) replayed: bool,
    pub(crate) started_us: u64,
    /// How long after its tick it began, in milliseconds; none of one that was frozen before.
    pub(crate) late_ms: Option<u64>,
    /// What the tasks have brought whose units are done: each unit once.
    pub(crate) results: Vec<TaskResult>,
    pub(crate) commit: CommitState,
    pub(crate) records: u64,
    /// By source.
    pub(crate) source_records: Vec<u64>,
    /// Until when units wait for followers that lag.
    pub(crate) lagging_until_us: Option<u64>,
    pub(crate) stages: Vec<StageRun>,
    pub(crate) tasks: BTreeMap<TaskId, TaskInfo>,
    pub(crate) confusions: u32,
}

/// What one task has brought.
#[derive(Debug)]
pub(crate) struct TaskResult {
    pub(crate) stage: usize,
    pub(crate) units: Vec<usize>,
    pub(crate) done: pb::TaskDone,
}

impl BatchRun {
    /// All units are done.
    pub(crate) fn done(&self) -> bool {
        self.stages.iter().all(StageRun::done)
    }

    /// What decides which streams fire.
    pub(crate) fn context(&self) -> BatchContext {
        BatchContext { batch: self.batch, time_ms: self.time_ms, previous_ms: self.previous_ms }
    }

    /// Stage and units of every task that is running or has brought something.
    pub(crate) fn tasks_and_results(&self) -> impl Iterator<Item = (usize, &Vec<usize>)> {
        let running = self.tasks.values().map(|task| (task.stage, &task.units));
        running.chain(self.results.iter().map(|result| (result.stage, &result.units)))
    }
}

impl Job {
    /// Starts a frozen batch, or one that is run again after a rewind.
    pub(crate) fn start_run(&mut self, cx: &Cx<'_>, batch: BatchId) {
        let Some(frozen) = self.durable.frozen.get(&batch) else { return };
        let splits_of = |source| {
            let blocks = frozen.blocks.iter().enumerate();
            blocks.filter(move |(_, b)| b.key.receiver.source == source).map(|(order, _)| order as u64).collect()
        };
        let stages = self.topology.stages.iter().map(|shape| {
            StageRun::new(match (shape.placement, shape.source) {
                (Placement::Splits, Some(source)) => splits_of(source),
                (Placement::KeyGroups, _) => (0..u64::from(self.topology.key_groups)).collect(),
                _ => vec![0],
            })
        });
        let mut source_records = vec![0; self.topology.sources.len()];
        for block in &frozen.blocks {
            if let Some(records) = source_records.get_mut(block.key.receiver.source.0 as usize) {
                *records += block.records;
            }
        }
        let interval_ms = self.settings.batch_interval.as_millis() as i64;
        let mut run = BatchRun {
            batch,
            time_ms: frozen.time_ms,
            previous_ms: frozen.previous_ms.unwrap_or(frozen.time_ms - interval_ms),
            replayed: batch <= self.durable.completed,
            started_us: cx.now.mono_us,
            late_ms: None,
            results: Vec::new(),
            commit: CommitState::NotAsked,
            records: source_records.iter().sum(),
            source_records,
            lagging_until_us: None,
            stages: stages.collect(),
            tasks: BTreeMap::new(),
            confusions: 0,
        };
        self.skip_stages_that_do_not_fire(&mut run);
        self.run = Some(run);
    }

    /// Stages with state run all the same: their state has to come to the version of the batch.
    fn skip_stages_that_do_not_fire(&self, run: &mut BatchRun) {
        let context = run.context();
        for (shape, stage) in self.topology.stages.iter().zip(&mut run.stages) {
            if !shape.stateful && shape.rhythm.fires(&context).is_none() {
                (0..stage.units.len()).for_each(|unit| stage.set(unit, Unit::Skipped));
            }
        }
    }

    /// Drops the running batch; its tasks' reports will be ignored.
    pub(crate) fn cancel_run(&mut self, cx: &mut Cx<'_>) {
        let Some(run) = self.run.take() else { return };
        self.send_cancels(cx, run.tasks);
    }

    pub(crate) fn send_cancels(&self, cx: &mut Cx<'_>, tasks: impl IntoIterator<Item = (TaskId, TaskInfo)>) {
        let mut by_worker: BTreeMap<WorkerId, Vec<u64>> = BTreeMap::new();
        for (id, task) in tasks {
            by_worker.entry(task.worker).or_default().push(id.0);
        }
        for (worker, task_ids) in by_worker {
            let message = pb::CancelTasks { job: self.durable.id.0, task_ids };
            cx.send(worker, driver_message::Kind::CancelTasks(message));
        }
    }

    /// Sends every task that can run now: one message per worker.
    pub(crate) fn dispatch(&mut self, cx: &mut Cx<'_>) {
        let Some(mut run) = self.run.take() else { return };
        let mut tasks: BTreeMap<WorkerId, Vec<pb::Task>> = BTreeMap::new();
        let mut lagging = Vec::new();
        let mut block_lost = false;
        for stage in 0..run.stages.len() {
            if run.stages[stage].pending.is_empty() || !self.inputs_done(&run, stage) {
                continue;
            }
            self.skip_units_without_input(&mut run, stage);
            let placed = match self.topology.stages[stage].placement {
                Placement::Splits => self.place_splits(cx, &run, stage, &mut block_lost),
                Placement::KeyGroups => self.place_groups(cx, &run, stage, &mut lagging),
                Placement::Single => self.place_single(&run, stage),
            };
            let fires = self.topology.stages[stage].input.fires(&run.context()).is_some();
            let inputs = if placed.is_empty() || !fires { Vec::new() } else { self.exchange_inputs(&run, stage) };
            for (worker, units) in placed {
                let task = self.make_task(cx, &mut run, stage, worker, units, inputs.clone());
                tasks.entry(worker).or_default().push(task);
            }
        }
        self.wait_for_followers(cx, &mut run, &lagging);
        self.run = Some(run);
        for (worker, tasks) in tasks {
            self.counters.tasks += tasks.len() as u64;
            self.workers_used.insert(worker);
            cx.send(worker, driver_message::Kind::RunTasks(pb::RunTasks { tasks }));
        }
        if block_lost {
            self.wait_for_lost_data(cx, "some received blocks are on no live worker (all their copies were lost)");
        }
    }

    fn inputs_done(&self, run: &BatchRun, stage: usize) -> bool {
        self.producers(stage).all(|producer| run.stages[producer].done()) && self.models_ready(run, stage)
    }

    /// Whether the models that a stage asks can be asked: their owners are at the right version.
    fn models_ready(&self, run: &BatchRun, stage: usize) -> bool {
        self.topology.stages[stage].models.iter().all(|asked| {
            match self.topology.models[self.answering(run, asked.model)].home {
                None => true,
                Some((home, group)) => {
                    let owned = self.groups.list.get(group).is_some_and(|group| group.owner.is_some() && group.ready);
                    let trained = || matches!(run.stages[home].units[group], Unit::Done(_));
                    owned && (!asked.after_training || trained())
                }
            }
        })
    }

    pub(crate) fn producers(&self, stage: usize) -> impl Iterator<Item = usize> {
        self.topology.stages[stage].inputs.iter().map(|exchange| self.topology.exchange_from[exchange.0 as usize])
    }

    fn skip_units_without_input(&self, run: &mut BatchRun, stage: usize) {
        let shape = &self.topology.stages[stage];
        if shape.stateful || shape.placement != Placement::KeyGroups {
            return;
        }
        let has_pieces = |producer: usize| run.stages[producer].units.iter().any(|unit| matches!(unit, Unit::Done(_)));
        if !self.producers(stage).any(has_pieces) {
            (0..run.stages[stage].units.len()).for_each(|unit| run.stages[stage].set(unit, Unit::Skipped));
        }
    }

    /// Splits go where their blocks are; among the holders, to the one with the least to do.
    fn place_splits(&self, cx: &Cx<'_>, run: &BatchRun, stage: usize, block_lost: &mut bool) -> Placed {
        let Some(frozen) = self.durable.frozen.get(&run.batch) else { return Vec::new() };
        let stage = &run.stages[stage];
        let slots: Vec<u64> = self.live.iter().map(|w| cx.members.get(*w).map_or(1, |m| u64::from(m.slots))).collect();
        // Bytes and units, by position in `live`.
        let mut load = vec![0; self.live.len()];
        let mut placed: Vec<Vec<usize>> = vec![Vec::new(); self.live.len()];
        let mut alone: Placed = Vec::new();
        for unit in &stage.pending {
            let block = &frozen.blocks[stage.orders[*unit] as usize];
            let Some(holders) = self.holders.get(&block.key).filter(|holders| !holders.workers.is_empty()) else {
                *block_lost = true;
                continue;
            };
            let usable = holders.workers.iter().filter_map(|worker| self.live.binary_search(worker).ok());
            let Some(place) = usable.min_by_key(|place| (load[*place] / slots[*place], *place)) else { continue };
            load[place] += block.bytes;
            if stage.alone.contains(unit) {
                alone.push((self.live[place], vec![*unit]));
            } else {
                placed[place].push(*unit);
            }
        }
        let together = self.live.iter().copied().zip(placed).filter(|(_, units)| !units.is_empty());
        together.chain(alone).collect()
    }

    fn place_groups(&self, cx: &Cx<'_>, run: &BatchRun, stage: usize, lagging: &mut Vec<usize>) -> Placed {
        let stateful = self.topology.stages[stage].stateful;
        let mut by_owner: BTreeMap<WorkerId, Vec<usize>> = BTreeMap::new();
        for unit in run.stages[stage].pending.iter().copied() {
            let group = &self.groups.list[unit];
            let Some(owner) = group.owner.filter(|_| !stateful || group.ready) else { continue };
            if stateful && !self.followers_keep_up(unit) {
                lagging.push(unit);
            } else {
                by_owner.entry(owner).or_default().push(unit);
            }
        }
        // With much to do, a worker's groups are shared out among its slots.
        let splits: usize = run.stages.iter().map(|s| s.orders.len()).next().unwrap_or(0);
        let mut placed = Vec::new();
        for (owner, units) in by_owner {
            let slots = cx.members.get(owner).map_or(1, |member| member.slots as usize);
            let tasks = if splits > 4 { slots.min(units.len()) } else { 1 };
            placed.extend(units.chunks(units.len().div_ceil(tasks)).map(|chunk| (owner, chunk.to_vec())));
        }
        placed
    }

    fn place_single(&self, run: &BatchRun, stage: usize) -> Placed {
        if run.stages[stage].pending.is_empty() {
            return Vec::new();
        }
        let worker = best(self.durable.id, SINGLE_ITEMS + stage as u64, &self.live, 1);
        worker.into_iter().map(|worker| (worker, vec![0])).collect()
    }

    /// A follower that cannot be reached by its owner must not hold the job up for ever.
    fn wait_for_followers(&mut self, cx: &Cx<'_>, run: &mut BatchRun, lagging: &[usize]) {
        if lagging.is_empty() {
            run.lagging_until_us = None;
        } else if cx.now.mono_us >= *run.lagging_until_us.get_or_insert(cx.now.mono_us + FOLLOWER_PATIENCE_US) {
            tracing::warn!(
                job = self.durable.id.0,
                batch = run.batch.0,
                groups = lagging.len(),
                "followers do not keep up"
            );
            self.groups.give_up_followers(lagging, self.state_version);
            self.groups.moving = true;
            run.lagging_until_us = None;
        }
    }

    fn make_task(
        &mut self,
        cx: &mut Cx<'_>,
        run: &mut BatchRun,
        stage: usize,
        worker: WorkerId,
        units: Vec<usize>,
        inputs: Vec<pb::ExchangeInput>,
    ) -> pb::Task {
        let id = TaskId(*cx.next_task);
        *cx.next_task += 1;
        let mut task = pb::Task {
            task_id: id.0,
            job: self.durable.id.0,
            batch: run.batch.0,
            time_ms: run.time_ms,
            previous_ms: run.previous_ms,
            stage: stage as u32,
            suppress_outputs: run.replayed,
            inputs,
            models: self.models_at(run, stage),
            imported_models: self.imported_for(run, stage, &units),
            tables: self.tables_at(run),
            ..pb::Task::default()
        };
        match self.topology.stages[stage].placement {
            Placement::Splits => task.splits = self.splits(run, stage, &units),
            Placement::KeyGroups => task.groups = units.iter().map(|unit| *unit as u32).collect(),
            Placement::Single => {}
        }
        for unit in &units {
            run.stages[stage].set(*unit, Unit::Running(id, worker));
            if run.stages[stage].recompute.remove(unit) {
                self.workers_recomputing.insert(worker);
            }
        }
        run.tasks.insert(id, TaskInfo { worker, stage, units });
        task
    }

    fn splits(&self, run: &BatchRun, stage: usize, units: &[usize]) -> Vec<pb::Split> {
        let Some(frozen) = self.durable.frozen.get(&run.batch) else { return Vec::new() };
        let split = |unit: &usize| {
            let order = run.stages[stage].orders[*unit];
            let block = &frozen.blocks[order as usize];
            let holders = self.holders.get(&block.key).map(|h| worker_numbers(&h.workers)).unwrap_or_default();
            pb::Split { order, block: Some(block_ref(self.durable.id, block)), holders }
        };
        units.iter().map(split).collect()
    }

    fn exchange_inputs(&self, run: &BatchRun, stage: usize) -> Vec<pb::ExchangeInput> {
        let mut inputs = Vec::new();
        for exchange in &self.topology.stages[stage].inputs {
            let producer = &run.stages[self.topology.exchange_from[exchange.0 as usize]];
            let mut by_worker: BTreeMap<WorkerId, Vec<u64>> = BTreeMap::new();
            for (unit, order) in producer.units.iter().zip(&producer.orders) {
                if let Unit::Done(worker) = unit {
                    by_worker.entry(*worker).or_default().push(*order);
                }
            }
            let input = |(worker, orders): (WorkerId, Vec<u64>)| pb::ExchangeInput {
                exchange: exchange.0,
                worker: worker.0,
                orders,
            };
            inputs.extend(by_worker.into_iter().map(input));
        }
        inputs
    }

    pub(crate) fn on_task_report(&mut self, cx: &mut Cx<'_>, worker: WorkerId, report: pb::TaskReport) {
        let id = TaskId(report.task_id);
        let run = self.run.as_mut().filter(|run| run.tasks.get(&id).is_some_and(|task| task.worker == worker));
        let Some((run, task)) = run.and_then(|run| run.tasks.remove(&id).map(|task| (run, task))) else {
            self.count_fenced();
            return;
        };
        match report.result {
            Some(task_report::Result::Done(done)) if !is_believable(&done) => {
                let message = format!("worker {worker} reports numbers of rows that cannot be");
                let failure =
                    pb::TaskFailure { kind: pb::FailureKind::FailureInternal as i32, message, lost_worker: 0 };
                self.task_failed(cx, &task, &failure);
            }
            Some(task_report::Result::Done(done)) => {
                task.units.iter().for_each(|unit| run.stages[task.stage].set(*unit, Unit::Done(worker)));
                run.results.push(TaskResult { stage: task.stage, units: task.units, done });
            }
            Some(task_report::Result::Failure(failure)) => self.task_failed(cx, &task, &failure),
            None => self.task_failed(cx, &task, &pb::TaskFailure::default()),
        }
    }
}
