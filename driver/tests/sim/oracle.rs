//! What must hold: evaluates every frozen batch plainly and compares all that the driver logs and tells.

use crate::compute::{Op, Rows, State, block_rows, show};
use crate::files::Files;
use crate::models;
use crate::receiving::{Block, READ, number};
use crate::scenario::Spec;
use crate::tables;
use crate::tasks::is_staged;
use std::collections::{BTreeMap, BTreeSet};
use tidemill_common::ids::{BatchId, JobId, OutputIdx};
use tidemill_connect::Part;
use tidemill_connect::parts::{merge, read_part};
use tidemill_driver::core::CommitRows;
use tidemill_driver::core::topology::{AskedShape, OutputKind};
use tidemill_driver::record::{BlockMeta, Durable, FrozenBatch, JobRecord, Record, Totals};
use tidemill_plan::{BatchContext, Placement};
use tidemill_proto::client::{self as client_pb, watch_event};
use tidemill_proto::common::BlockRef;
use tidemill_proto::control::Unlogged;

/// What a batch must bring.
#[derive(Debug)]
struct Expected {
    context: BatchContext,
    outputs: BTreeMap<u32, Rows>,
    records: u64,
    bad: u64,
    state_keys: u64,
    /// Outputs that give nothing.
    silent: u64,
}

/// The truth about a job.
#[derive(Debug, Default)]
struct Truth {
    states: BTreeMap<(u32, u32), State>,
    batches: BTreeMap<BatchId, Expected>,
    logged: BTreeSet<Block>,
    published: BatchId,
    told: Told,
}

/// Numbers that batches see until there are others.
#[derive(Debug, Default)]
struct Told {
    /// The one that the first stage asks.
    asked: Option<f64>,
    /// Those in tables that are no more as they were submitted.
    tables: BTreeMap<u32, f64>,
}

/// The judge.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// The log, folded.
    pub(crate) durable: Durable,
    truths: BTreeMap<JobId, Truth>,
}

pub(crate) fn spec_of(specs: &[Spec], job: JobId) -> &Spec {
    &specs[job.0 as usize - 1]
}

pub(crate) fn block_of(meta: &BlockMeta) -> Block {
    Block {
        key: (meta.key.receiver.source.0, meta.key.receiver.receiver),
        epoch: meta.epoch,
        first_offset: meta.key.first_offset,
        records: meta.records,
        bytes: meta.bytes,
    }
}

impl Oracle {
    /// A record is in the log.
    pub(crate) fn on_record(&mut self, specs: &[Spec], files: &mut Files, record: &Record) {
        let Record::Job(id, of_job) = record else {
            self.durable.apply(record);
            return;
        };
        let before = &self.durable.jobs[id];
        assert!(before.ending.is_none(), "job {id} has ended, then {of_job:?}");
        let truth = self.truths.entry(*id).or_default();
        let mut frozen = None;
        match of_job {
            JobRecord::Block(block, changes) => {
                let receiver = &before.receivers[&block.key.receiver];
                assert_eq!(block.epoch, receiver.epoch, "a block of another epoch was logged");
                assert_eq!(block.key.first_offset, receiver.next_offset, "a gap or an overlap in the log");
                truth.logged.insert(block_of(block));
                let read = changes.iter().find(|change| change.name == READ).and_then(|change| change.to.as_deref());
                assert_eq!(
                    read.map(number),
                    Some(block.key.first_offset + block.records),
                    "a position of another block"
                );
            }
            JobRecord::Receiver { key, epoch } => {
                let last = before.receivers.get(key).map_or(0, |receiver| receiver.epoch);
                assert_eq!(*epoch, last + 1, "epochs are raised one by one");
            }
            JobRecord::ReceiverFinished(key) => {
                let receiver = &before.receivers[key];
                assert_eq!(
                    Some(receiver.next_offset),
                    spec_of(specs, *id).limit,
                    "the source goes on after {receiver:?}"
                );
                files.counts.finished_receivers += 1;
            }
            JobRecord::Frozen { batch, time_ms, .. } => {
                assert_eq!(*batch, before.last_frozen.next(), "batches are frozen one by one");
                assert!(*time_ms > before.last_time_ms, "batch time goes on");
                assert_eq!(before.completed, before.last_frozen, "one batch runs at a time");
                frozen = Some(*batch);
            }
            JobRecord::Completed { batch, totals } => {
                assert_eq!(*batch, before.completed.next(), "batches complete one by one");
                check_totals(spec_of(specs, *id), files, *id, truth, *batch, totals);
                files.counts.batches += 1;
            }
            JobRecord::Positions(key, changes) => {
                let receiver = &before.receivers[key];
                let noted = changes.iter().map(|change| change.to.as_deref().map(number)).collect::<Vec<_>>();
                assert_eq!(noted, [Some(receiver.next_offset)], "a position ahead of the log, or behind it");
                files.counts.logged_notes += 1;
            }
            JobRecord::Imported { .. } => files.counts.imports += 1,
            JobRecord::Reloaded { .. } => files.counts.reloads += 1,
            JobRecord::Chosen { .. } => panic!("no stage here chooses"),
            JobRecord::Checkpoint(version) => {
                assert!(*version > before.checkpoint && *version <= before.completed, "checkpoint {version}");
                files.counts.checkpoints += 1;
            }
            JobRecord::Assigned(_) | JobRecord::Ended(_) => {}
        }
        self.durable.apply(record);
        if let Some((batch, truth)) = frozen.zip(self.truths.get_mut(id)) {
            let blocks = &self.durable.jobs[id].frozen[&batch];
            if let Some(import) = blocks.imported.get(&models::ASKED) {
                truth.told.asked = Some(models::value(&import.bytes));
            }
            let reloaded = blocks.reloaded.iter();
            truth.told.tables.extend(reloaded.map(|(table, content)| (*table, tables::value(&content.bytes))));
            let expected = evaluate(spec_of(specs, *id), batch, blocks, &truth.told, &mut truth.states);
            files.counts.silent_outputs += expected.silent;
            truth.batches.insert(batch, expected);
        }
    }

    /// Watchers are told something.
    pub(crate) fn on_publish(&mut self, specs: &[Spec], job: JobId, event: &watch_event::Kind) {
        let watch_event::Kind::Batch(told) = event else { return };
        let truth = self.truths.entry(job).or_default();
        let batch = BatchId(told.batch);
        assert!(batch > truth.published, "batch {batch} was published before");
        assert!(batch <= self.durable.jobs[&job].completed, "batch {batch} is not complete in the log");
        truth.published = batch;
        let expected = &truth.batches[&batch];
        assert_eq!((told.time_ms, told.records), (expected.context.time_ms, expected.records), "batch {batch}");
        let shape = &spec_of(specs, job).shape;
        let mut wanted = Vec::new();
        for (number, output) in shape.topology.outputs.iter().enumerate() {
            let OutputKind::Rows { limit, .. } = output.kind else { continue };
            if output.rhythm.fires(&expected.context).is_none() {
                continue;
            }
            let rows = expected.outputs.get(&(number as u32)).map_or(&[][..], Vec::as_slice);
            let shown = rows.iter().take(limit.map_or(usize::MAX, |limit| limit as usize)).map(show);
            let (name, total, rows) = (output.name.clone(), rows.len() as u64, shown.collect::<Vec<_>>());
            wanted.push(client_pb::OutputBatch { name, shown: rows.len() as u64, rows, total });
        }
        assert_eq!(told.outputs, wanted, "batch {batch} of job {job} is wrong");
    }

    /// Part files are put in place.
    pub(crate) fn on_commit(
        &mut self,
        specs: &[Spec],
        files: &mut Files,
        job: JobId,
        batch: BatchId,
        commit: &CommitRows,
    ) {
        let place = (job.0, commit.output.0, commit.time_ms);
        files.counts.commits_again += u64::from(files.committed.contains_key(&place));
        let mut parts = files.commit(job, batch, commit);
        parts.sort_by_key(|(place, _)| *place);
        let mut lanes: BTreeMap<u32, Rows> = BTreeMap::new();
        for ((lane, _), rows) in parts {
            lanes.entry(lane).or_default().extend(rows);
        }
        for (lane, rows) in &mut lanes {
            if is_keyed(spec_of(specs, job), commit.output, *lane) {
                rows.sort_by_key(|(key, _)| *key);
            }
        }
        let rows: Rows = lanes.into_values().flatten().collect();
        let expected = &self.truths[&job].batches[&batch];
        assert_eq!(commit.time_ms, expected.context.time_ms);
        let shown = |rows: &Rows| rows.iter().map(show).collect::<Vec<_>>();
        assert_eq!(shown(&rows), shown(&expected.outputs[&commit.output.0]), "files of batch {batch} are wrong");
    }

    /// The rows of an output are sent: at least once, and always the same.
    pub(crate) fn on_send(
        &mut self,
        specs: &[Spec],
        files: &mut Files,
        job: JobId,
        batch: BatchId,
        commit: &CommitRows,
    ) {
        let number = commit.output.0;
        assert_eq!(spec_of(specs, job).shape.topology.outputs[number as usize].name, commit.name);
        let first = files.sent.insert((job.0, number, batch));
        files.counts.sent += 1;
        files.counts.sent_again += u64::from(!first);
        let rows = self.truths[&job].batches[&batch].outputs.get(&number).expect("there are rows");
        let part = |part: &Part| match part {
            Part::Held(bytes) => read_part(std::io::Cursor::new(bytes.clone())).unwrap(),
            Part::Staged(name) => panic!("{name} is a file"),
        };
        let sent = merge(commit.parts.iter().map(part).collect()).map(|row| String::from_utf8(row.unwrap()).unwrap());
        assert_eq!(sent.collect::<Vec<_>>(), rows.iter().map(show).collect::<Vec<_>>(), "batch {batch} is wrong");
    }

    /// Workers are told to drop blocks.
    pub(crate) fn on_drop(&self, blocks: &[BlockRef]) {
        for (job, block) in blocks.iter().filter_map(|block| Block::read(Some(block))) {
            let needed = self.durable.jobs[&JobId(job)].blocks().any(|meta| block_of(meta) == block);
            assert!(!needed, "block {block:?} of job {job} is dropped and still needed");
        }
    }

    /// Workers are told to drop what earlier receivers have left.
    pub(crate) fn on_drop_unlogged(&self, unlogged: &[Unlogged]) {
        for Unlogged { receiver, epoch, from_offset } in unlogged {
            let receiver = receiver.as_ref().expect("whose blocks");
            let mut needed = self.durable.jobs[&JobId(receiver.job)].blocks().map(block_of);
            let key = (receiver.source, receiver.receiver);
            let dropped =
                |block: &Block| block.key == key && block.epoch < *epoch && block.first_offset >= *from_offset;
            assert!(!needed.any(|block| dropped(&block)), "blocks of {key:?} are dropped and still needed");
        }
    }

    /// Whether a block was logged and is not needed any more.
    pub(crate) fn is_garbage(&self, job: u64, block: &Block) -> bool {
        let id = JobId(job);
        let was_logged = self.truths.get(&id).is_some_and(|truth| truth.logged.contains(block));
        was_logged && !self.durable.jobs[&id].blocks().any(|meta| block_of(meta) == *block)
    }

    /// Keys in the state after a batch.
    pub(crate) fn state_keys(&self, job: JobId, batch: BatchId) -> u64 {
        self.truths.get(&job).and_then(|truth| truth.batches.get(&batch)).map_or(0, |batch| batch.state_keys)
    }

    /// Batches whose result nobody has heard.
    pub(crate) fn published(&self, job: JobId) -> BatchId {
        self.truths.get(&job).map_or(BatchId(0), |truth| truth.published)
    }
}

fn is_keyed(spec: &Spec, output: OutputIdx, lane: u32) -> bool {
    spec.shape.of_lane(output.0, lane).is_some_and(|stage| spec.shape.keyed(stage))
}

fn check_totals(spec: &Spec, files: &Files, job: JobId, truth: &Truth, batch: BatchId, totals: &Totals) {
    let expected = &truth.batches[&batch];
    let rows = |output: usize| expected.outputs.get(&(output as u32)).map_or(0, Vec::len) as u64;
    let outputs = &spec.shape.topology.outputs;
    assert_eq!((totals.records, totals.bad_records), (expected.records, expected.bad), "totals of batch {batch}");
    assert_eq!(totals.output_rows, (0..outputs.len()).map(rows).collect::<Vec<_>>(), "rows of batch {batch}");
    for (number, output) in outputs.iter().enumerate() {
        let in_place = files.committed.contains_key(&(job.0, number as u32, expected.context.time_ms));
        let there = match &output.kind {
            OutputKind::Sink(to) if is_staged(to) => in_place,
            OutputKind::Sink(_) => files.sent.contains(&(job.0, number as u32, batch)),
            OutputKind::Rows { .. } | OutputKind::Seen => true,
        };
        assert!(there || rows(number) == 0, "batch {batch} is complete, output {number} is not in place");
    }
}

/// The plain evaluation of a batch: stage by stage, unit by unit.
fn evaluate(
    spec: &Spec,
    batch: BatchId,
    frozen: &FrozenBatch,
    told: &Told,
    states: &mut BTreeMap<(u32, u32), State>,
) -> Expected {
    let shape = &spec.shape;
    if let Some((import, (stage, group))) = frozen.imported.get(&models::TRAINED).zip(shape.topology.models[0].home) {
        states.insert((stage as u32, group as u32), models::state(shape, models::value(&import.bytes)));
    }
    let interval_ms = spec.settings.batch_interval.as_millis() as i64;
    let (time_ms, previous_ms) = (frozen.time_ms, frozen.previous_ms.unwrap_or(frozen.time_ms - interval_ms));
    let context = BatchContext { batch, time_ms, previous_ms };
    let home = shape.topology.models[models::TRAINED as usize].home;
    let trained = |states: &BTreeMap<(u32, u32), State>| {
        let state = home.and_then(|(stage, group)| states.get(&(stage as u32, group as u32)));
        models::of_state(state.unwrap_or(&State::new()))
    };
    let trained_before = trained(states);
    let mut pieces: BTreeMap<(u32, u64), Vec<Rows>> = BTreeMap::new();
    let mut outputs: BTreeMap<u32, Rows> = BTreeMap::new();
    let mut bad = 0;
    for (number, stage) in shape.topology.stages.iter().enumerate() {
        if !stage.stateful && stage.rhythm.fires(&context).is_none() {
            continue;
        }
        let hears = |asks: &AskedShape| match (asks.model as u32, asks.after_training) {
            (models::TRAINED, false) => Some(trained_before),
            (models::TRAINED, true) => Some(trained(states)),
            _ => told.asked,
        };
        let said = stage.models.iter().filter_map(hears);
        let added = models::together(said.chain(told.tables.values().copied()));
        let mut units: Vec<(u64, Rows)> = Vec::new();
        let gathered = |group: u32| -> Rows {
            let of_exchange = |exchange: u32| pieces.range((exchange, 0)..=(exchange, u64::MAX));
            let shares = stage.inputs.iter().flat_map(|exchange| of_exchange(exchange.0));
            shares.flat_map(|(_, piece)| shape.share(number, piece, group)).collect()
        };
        match stage.placement {
            Placement::Splits => {
                for (order, block) in frozen.blocks.iter().enumerate() {
                    let block = block_of(block);
                    if stage.source.is_some_and(|source| source.0 == block.key.0) {
                        let (rows, unread) = block_rows(block.key.0, block.key.1, block.first_offset, block.records);
                        bad += unread;
                        units.push((order as u64, rows));
                    }
                }
            }
            Placement::KeyGroups => {
                units.extend((0..shape.topology.key_groups).map(|group| (u64::from(group), gathered(group))));
            }
            Placement::Single => units.push((0, gathered(0))),
        }
        let mut of_stage: BTreeMap<u32, Rows> = BTreeMap::new();
        for (order, rows) in units {
            let rows = models::added(rows, added);
            let place = (number as u32, order as u32);
            let brought = shape.run_unit(number, &context, &rows, states.get(&place));
            if let Some(state) = brought.state {
                states.insert(place, state);
            }
            pieces.extend(brought.pieces.into_iter().map(|(exchange, piece)| ((exchange, order), piece)));
            for (output, rows) in brought.outputs {
                of_stage.entry(output).or_default().extend(rows);
            }
        }
        for (output, mut rows) in of_stage {
            if stage.placement == Placement::KeyGroups {
                rows.sort_by_key(|(key, _)| *key);
            }
            outputs.entry(output).or_default().extend(rows);
        }
    }
    let stateful = |(stage, _): &(&(u32, u32), &State)| shape.stages[stage.0 as usize].op == Op::Running;
    Expected {
        context,
        outputs,
        silent: shape.topology.outputs.iter().filter(|output| output.rhythm.fires(&context).is_none()).count() as u64,
        records: frozen.blocks.iter().map(|block| block.records).sum(),
        bad,
        state_keys: states.iter().filter(stateful).map(|(_, state)| state.len() as u64).sum(),
    }
}
