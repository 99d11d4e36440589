//! Tasks of a simulated worker: fetch, compute, leave pieces, report.

use crate::compute::{Rows, Shape, block_rows, show};
use crate::files::PartFile;
use crate::links::Entry;
use crate::machine::{Cx, Machine, Process, Timer};
use crate::models;
use crate::receiving::Block;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use tidemill_common::ids::BatchId;
use tidemill_connect::part_of;
use tidemill_connect::parts::PartRow;
use tidemill_driver::core::topology::{OutputKind, SinkOutput};
use tidemill_plan::BatchContext;
use tidemill_proto::control::{self as pb, FailureKind, task_report, worker_message};

/// Times a fetch is tried.
const TRIES: u32 = 4;

type Piece = Rc<Vec<Rows>>;

/// A task that was begun.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) task: pb::Task,
    pub(crate) tries: u32,
    /// What it works on, once it is here.
    pub(crate) inputs: Inputs,
}

/// What a task works on.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    /// Pieces of each input exchange by order tag.
    pieces: Vec<BTreeMap<u64, Piece>>,
    /// What the owners of models have said, in the order of the task's models.
    models: Vec<f64>,
}

/// What came of fetching.
pub(crate) enum Fetched {
    Here(Inputs),
    Again,
    Failed(FailureKind, u64),
}

fn failure(kind: FailureKind, lost_worker: u64) -> task_report::Result {
    task_report::Result::Failure(pb::TaskFailure { kind: kind as i32, message: format!("{kind:?}"), lost_worker })
}

/// Whether one machine answers another now.
pub(crate) fn reaches(machines: &[Machine], cut: &BTreeSet<(usize, usize)>, from: usize, to: u64) -> Option<usize> {
    let caller = machines[from].process.id?;
    let slot = machines.iter().position(|machine| machine.up && machine.process.id == Some(to))?;
    let machine = &machines[slot];
    let open = !machine.paused && machine.process.members.contains(&caller);
    let cut = cut.contains(&(from.min(slot), from.max(slot)));
    (slot == from || (open && !cut)).then_some(slot)
}

/// Gets a task's input from wherever the task says it is.
pub(crate) fn fetch(
    machines: &[Machine],
    cut: &BTreeSet<(usize, usize)>,
    slot: usize,
    running: &Running,
    shape: &Shape,
) -> Fetched {
    let task = &running.task;
    let stage = &shape.topology.stages[task.stage as usize];
    let exchanges: Vec<u32> = stage.inputs.iter().map(|exchange| exchange.0).collect();
    for split in &task.splits {
        let Some((job, block)) = Block::read(split.block.as_ref()) else { return Fetched::Again };
        let has = |slot: usize| machines[slot].process.blocks.get(&job).is_some_and(|blocks| blocks.contains(&block));
        let elsewhere = || split.holders.iter().filter_map(|id| reaches(machines, cut, slot, *id)).any(has);
        if !has(slot) && !elsewhere() {
            return Fetched::Failed(FailureKind::FailureBlockLost, 0);
        }
    }
    let mut pieces: Vec<BTreeMap<u64, Piece>> = exchanges.iter().map(|_| BTreeMap::new()).collect();
    for input in &task.inputs {
        let Some(provider) = reaches(machines, cut, slot, input.worker) else {
            let known = machines[slot].process.members.contains(&input.worker);
            let again = known && running.tries < TRIES;
            return if again { Fetched::Again } else { Fetched::Failed(FailureKind::FailureFetch, input.worker) };
        };
        let held = machines[provider].process.jobs.get(&task.job);
        let number = exchanges.iter().position(|exchange| *exchange == input.exchange);
        let (Some(held), Some(number)) = (held, number) else {
            return Fetched::Failed(FailureKind::FailureFetch, input.worker);
        };
        for order in &input.orders {
            let Some(piece) = held.pieces.get(&(task.batch, input.exchange, *order)) else {
                return Fetched::Failed(FailureKind::FailureFetch, input.worker);
            };
            pieces[number].insert(*order, piece.clone());
        }
    }
    let mut models = Vec::new();
    for at in task.models.iter().filter(|at| at.owner != 0) {
        let home = shape.topology.models[at.model as usize].home.expect("somebody owns it");
        let part = reaches(machines, cut, slot, at.owner)
            .and_then(|owner| machines[owner].process.jobs.get(&task.job)?.parts.get(&(home.0 as u32, home.1 as u32)));
        match part.and_then(|part| part.at(at.version)) {
            Some(state) => models.push(models::of_state(state)),
            None if running.tries < TRIES => return Fetched::Again,
            None => return Fetched::Failed(FailureKind::FailureModel, 0),
        }
    }
    Fetched::Here(Inputs { pieces, models })
}

impl Process {
    pub(crate) fn start_task(&mut self, cx: &mut Cx<'_>, task: pb::Task) {
        let (job, id) = (task.job, task.task_id);
        let Some(held) = self.jobs.get_mut(&job) else {
            let report = pb::TaskReport {
                task_id: id,
                job,
                batch: task.batch,
                stage: task.stage,
                result: Some(failure(FailureKind::FailureInternal, 0)),
            };
            self.report(cx, worker_message::Kind::TaskReport(report));
            return;
        };
        held.tasks.insert(id, Running { task, tries: 0, inputs: Inputs::default() });
        let wait = if cx.net.chance(2) { cx.net.pick(50_000..300_000) } else { cx.net.pick(100..4_000) };
        cx.net.timer(cx.proc, wait, Timer::Fetch { job, task: id });
    }

    pub(crate) fn fetched(&mut self, cx: &mut Cx<'_>, job: u64, id: u64, fetched: Fetched) {
        let Some(running) = self.jobs.get_mut(&job).and_then(|held| held.tasks.get_mut(&id)) else { return };
        match fetched {
            Fetched::Here(inputs) => {
                cx.files.counts.models_asked += inputs.models.len() as u64;
                running.inputs = inputs;
                let wait = if cx.net.chance(2) { cx.net.pick(20_000..200_000) } else { cx.net.pick(100..6_000) };
                cx.net.timer(cx.proc, wait, Timer::Compute { job, task: id });
            }
            Fetched::Again => {
                running.tries += 1;
                cx.net.timer(cx.proc, 40_000, Timer::Fetch { job, task: id });
            }
            Fetched::Failed(kind, worker) => {
                cx.files.counts.models_not_there += u64::from(kind == FailureKind::FailureModel);
                self.end_task(cx, job, id, failure(kind, worker));
            }
        }
    }

    fn end_task(&mut self, cx: &mut Cx<'_>, job: u64, id: u64, result: task_report::Result) {
        let Some(running) = self.jobs.get_mut(&job).and_then(|held| held.tasks.remove(&id)) else { return };
        let (batch, stage) = (running.task.batch, running.task.stage);
        let report = pb::TaskReport { task_id: id, job, batch, stage, result: Some(result) };
        self.report(cx, worker_message::Kind::TaskReport(report));
    }

    pub(crate) fn compute(&mut self, cx: &mut Cx<'_>, job: u64, id: u64) {
        let Some(running) = self.jobs.get_mut(&job).and_then(|held| held.tasks.get_mut(&id)) else { return };
        let (task, inputs) = (running.task.clone(), std::mem::take(&mut running.inputs));
        let fails = self.injected_failure(cx, &task);
        let result = match self.run_units(cx, &task, &inputs, fails) {
            Ok(done) => task_report::Result::Done(done),
            Err((kind, worker)) => failure(kind, worker),
        };
        self.end_task(cx, job, id, result);
    }

    /// A failure out of the blue; blocks that cannot be read are a fault of their own.
    fn injected_failure(&mut self, cx: &mut Cx<'_>, task: &pb::Task) -> Option<(FailureKind, u64)> {
        if cx.net.pick(0..1000) >= cx.knobs.task_failures {
            return None;
        }
        cx.files.counts.task_failures += 1;
        let worker = task.inputs.first().map(|input| input.worker);
        Some(match (cx.net.pick(0..5), worker) {
            (0, Some(worker)) => (FailureKind::FailureFetch, worker),
            (2, _) if !task.groups.is_empty() => (FailureKind::FailureStateVersion, 0),
            (3, _) => (FailureKind::FailureInternal, 0),
            _ => (FailureKind::FailureResources, 0),
        })
    }

    /// Runs the units of a task; one that is to fail does so after some of them.
    fn run_units(
        &mut self,
        cx: &mut Cx<'_>,
        task: &pb::Task,
        inputs: &Inputs,
        fails: Option<(FailureKind, u64)>,
    ) -> Result<pb::TaskDone, (FailureKind, u64)> {
        let stage = task.stage as usize;
        let specs = cx.specs;
        let Some(held) = self.jobs.get(&task.job) else { return Err((FailureKind::FailureInternal, 0)) };
        let shape = &specs[held.spec].shape;
        let added = held.told.added(shape, task, &inputs.models);
        cx.files.counts.tables_read += task.tables.len() as u64;
        let mut units: Vec<(u64, Rows)> = Vec::new();
        let mut done = pb::TaskDone::default();
        for split in &task.splits {
            let Some((_, block)) = Block::read(split.block.as_ref()) else { continue };
            let (rows, bad) = block_rows(block.key.0, block.key.1, block.first_offset, block.records);
            done.bad_records += bad;
            units.push((split.order, models::added(rows, added)));
        }
        let single = task.splits.is_empty() && task.groups.is_empty();
        for group in task.groups.iter().copied().chain(single.then_some(0)) {
            let pieces = inputs.pieces.iter().flat_map(BTreeMap::values);
            let rows = pieces.flat_map(|piece| shape.share(stage, piece, group)).collect();
            units.push((u64::from(group), models::added(rows, added)));
        }
        let survives = match fails {
            Some(_) => cx.net.pick(0..units.len() as u64 + 1) as usize,
            None => usize::MAX,
        };
        let mut outputs: BTreeMap<u32, Vec<(u64, Rows)>> = BTreeMap::new();
        for (number, (order, rows)) in units.into_iter().enumerate() {
            if number == survives {
                break;
            }
            for (output, rows) in self.run_unit(cx, task, order, &rows, &mut done)? {
                outputs.entry(output).or_default().push((order, rows));
            }
        }
        if let Some(failure) = fails {
            return Err(failure);
        }
        if !task.suppress_outputs {
            self.deliver(cx, task, outputs, &mut done);
        }
        Ok(done)
    }

    fn run_unit(
        &mut self,
        cx: &mut Cx<'_>,
        task: &pb::Task,
        order: u64,
        rows: &Rows,
        done: &mut pb::TaskDone,
    ) -> Result<BTreeMap<u32, Rows>, (FailureKind, u64)> {
        let (specs, stage, group) = (cx.specs, task.stage, order as u32);
        let Some(held) = self.jobs.get_mut(&task.job) else { return Err((FailureKind::FailureInternal, 0)) };
        let shape = &specs[held.spec].shape;
        let stateful = shape.topology.stages[stage as usize].stateful;
        let part = held.parts.get_mut(&(stage, group)).filter(|part| stateful && part.version + 1 == task.batch);
        if stateful && part.is_none() {
            return Err((FailureKind::FailureStateVersion, 0));
        }
        let begins = held.told.begins(shape, task, group).map(Rc::new);
        let before = begins.or_else(|| part.as_ref().map(|part| part.state.clone()));
        let (time_ms, previous_ms) = (task.time_ms, task.previous_ms);
        let batch = BatchContext { batch: BatchId(task.batch), time_ms, previous_ms };
        let brought = shape.run_unit(stage as usize, &batch, rows, before.as_deref());
        for (exchange, piece) in brought.pieces {
            held.pieces.insert((task.batch, exchange, order), Rc::new(piece));
        }
        if let Some(state) = brought.state.map(Rc::new) {
            done.state_keys += state.len() as u64;
            if let Some(part) = held.parts.get_mut(&(stage, group)) {
                part.apply(task.batch, state.clone());
            }
            self.push_entry(cx, task.job, Entry::Delta { stage, group, version: task.batch, state });
        }
        Ok(brought.outputs)
    }

    fn deliver(
        &mut self,
        cx: &mut Cx<'_>,
        task: &pb::Task,
        outputs: BTreeMap<u32, Vec<(u64, Rows)>>,
        done: &mut pb::TaskDone,
    ) {
        let Some(spec) = self.jobs.get(&task.job).map(|held| held.spec) else { return };
        let specs = cx.specs;
        let shape = &specs[spec].shape;
        for (output, mut units) in outputs {
            let total: u64 = units.iter().map(|(_, rows)| rows.len() as u64).sum();
            let lane = shape.lane(task.stage as usize, output);
            cx.files.counts.further_lanes += u64::from(lane > 0 && total > 0);
            match &shape.topology.outputs[output as usize].kind {
                OutputKind::Sink(_) if total == 0 => {}
                OutputKind::Sink(to) if is_staged(to) => {
                    let file = format!("{output}-{}-{}", task.task_id, cx.proc.slot);
                    let (job, batch) = (task.job, task.batch);
                    cx.files.parts.insert(file.clone(), PartFile { job, batch, output, lane, rows: units });
                    done.parts.push(pb::OutputPart { output, file, rows: total, ..Default::default() });
                }
                OutputKind::Sink(_) => {
                    let part = held(lane, shape.keyed(task.stage as usize), &units);
                    done.parts.push(pb::OutputPart { output, rows: total, part, ..Default::default() });
                }
                OutputKind::Seen => {}
                OutputKind::Rows { limit, .. } => {
                    let keyed = shape.keyed(task.stage as usize);
                    if keyed && cx.knobs.merged_rows && !units.is_empty() {
                        let order = units[0].0;
                        let mut rows: Rows = units.drain(..).flat_map(|(_, rows)| rows).collect();
                        rows.sort_by_key(|(key, _)| *key);
                        units.push((order, rows));
                    }
                    for (order, mut rows) in units {
                        let total = rows.len() as u64;
                        rows.truncate(limit.map_or(usize::MAX, |limit| limit as usize));
                        let keys = rows.iter().filter(|_| keyed).map(|(key, _)| key.to_be_bytes().to_vec().into());
                        done.rows.push(pb::OutputRows {
                            output,
                            lane,
                            order,
                            keys: keys.collect(),
                            rows: rows.iter().map(show).collect(),
                            total,
                        });
                    }
                }
            }
        }
    }
}

/// Whether tasks leave the rows of an output in files.
pub(crate) fn is_staged(to: &SinkOutput) -> bool {
    to.sink.staging(&to.base_dir).is_some()
}

/// The rows of a task as they come with its report.
fn held(lane: u32, keyed: bool, units: &[(u64, Rows)]) -> bytes::Bytes {
    let row = |order: u64, row: &(u32, f64)| {
        let (order, key) = if keyed { (0, row.0.to_be_bytes().to_vec()) } else { (order, Vec::new()) };
        PartRow { lane, order, key, row: show(row).into_bytes() }
    };
    let rows = units.iter().flat_map(|(order, rows)| rows.iter().map(|of| row(*order, of)));
    part_of(rows.collect()).unwrap().into()
}
