//! The life of a batch: frozen at the tick, run, its outputs committed, complete.

use super::choices::FIRST;
use super::job::Job;
use super::run::{BatchRun, CommitState, TaskResult};
use super::topology::{OutputKind, Topology};
use super::{Action, Commit, CommitRows, Cx, SavedModel};
use crate::models::{Publication, PublishedModel};
use crate::record::{Ending, JobRecord, ReceiverKey, Totals};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tidemill_common::ids::{BatchId, OutputIdx};
use tidemill_connect::{Delivery, Part};
use tidemill_job::Durability;
use tidemill_metrics::{Counter, Family, Histogram, SECONDS, metric};
use tidemill_proto::client as client_pb;
use tidemill_proto::control::{self as pb, driver_message};

metric! {
    static BATCHES: Family<Counter, 1> = Counter::new("tidemill_batches_total", "Complete batches.").by(["job"]);
    static DURATION: Family<Histogram, 1> = Histogram::new(
        "tidemill_batch_duration_seconds",
        "Time of a batch from freeze to complete.",
        SECONDS,
    )
    .by(["job"]);
    static DELAY: Family<Histogram, 1> = Histogram::new(
        "tidemill_batch_scheduling_delay_seconds",
        "Time from the tick of a batch until it began.",
        SECONDS,
    )
    .by(["job"]);
    static REPLAYED: Family<Counter, 1> =
        Counter::new("tidemill_batches_replayed_total", "Batches run again after the state went back.").by(["job"]);
    static RECORDS: Family<Counter, 2> =
        Counter::new("tidemill_records_total", "Records in complete batches, bad ones included.").by(["job", "source"]);
    static BAD_RECORDS: Family<Counter, 2> = Counter::new(
        "tidemill_bad_records_total",
        "Records in complete batches that did not parse.",
    )
    .by(["job", "source"]);
    static OUTPUT_ROWS: Family<Counter, 2> =
        Counter::new("tidemill_output_rows_total", "Rows of outputs in complete batches.").by(["job", "output"]);
}

impl Job {
    pub(crate) fn advance_batches(&mut self, cx: &mut Cx<'_>) {
        if self.live.is_empty() {
            return;
        }
        loop {
            if self.run.is_none() && !self.start_next(cx) {
                return;
            }
            self.dispatch(cx);
            let Some(run) = self.run.as_ref().filter(|run| run.done()) else { return };
            match run.commit {
                _ if run.replayed => self.finish_replay(cx),
                CommitState::NotAsked => self.commit(cx),
                CommitState::Asked => return,
                CommitState::Done => self.complete(cx),
            }
        }
    }

    /// Starts the batch that follows on the state: one that is frozen already, or a new one if it is time.
    fn start_next(&mut self, cx: &mut Cx<'_>) -> bool {
        let next = self.state_version.next();
        if next > self.durable.last_frozen {
            let now_ms = self.time_ms(cx);
            let Some(time_ms) = self.due_time(cx, now_ms) else { return false };
            self.freeze(cx, next, time_ms);
            self.start_run(cx, next);
            if let Some(run) = &mut self.run {
                run.late_ms = u64::try_from(now_ms - time_ms).ok();
                if let Some(late_ms) = run.late_ms {
                    DELAY.of([&self.durable.name]).observe(late_ms as f64 / 1e3);
                }
            }
        } else {
            self.start_run(cx, next);
        }
        self.run.is_some()
    }

    /// Time of the batch that is due: the latest tick that has passed, or now when enough has gathered to cut early.
    fn due_time(&mut self, cx: &Cx<'_>, now_ms: i64) -> Option<i64> {
        if cx.config.manual_clock {
            return self.manual_tick.take();
        }
        // Where batches take longer than their interval there would always be one more.
        if self.stopping.is_some() && self.is_drained() {
            return None;
        }
        let interval_ms = self.settings.batch_interval.as_millis().max(1) as i64;
        let tick_ms = now_ms.div_euclid(interval_ms) * interval_ms;
        if tick_ms > self.durable.last_time_ms {
            return Some(tick_ms);
        }
        let cuts = self.settings.cut_at_records.is_some() || self.settings.cut_at_bytes.is_some();
        if !cuts || now_ms <= self.durable.last_time_ms {
            return None;
        }
        let (records, bytes) = self.waiting;
        let cut = self.settings.cut_at_records.is_some_and(|limit| records >= limit)
            || self.settings.cut_at_bytes.is_some_and(|limit| bytes >= limit);
        cut.then_some(now_ms)
    }

    /// The time as batches go by it.
    fn time_ms(&mut self, cx: &Cx<'_>) -> i64 {
        let (wall_ms, last_ms) = (cx.now.wall_ms, self.durable.last_time_ms);
        if cx.config.manual_clock {
            return wall_ms;
        }
        if let Some(behind_ms) = self.clock.follow(wall_ms, last_ms)
            && self.is_clock_behind()
        {
            tracing::warn!(
                job = self.durable.id.0,
                behind_ms,
                "this machine's clock is behind the job's last batch, it was set back; batch times go on from that batch"
            );
        }
        self.clock.read(wall_ms, last_ms)
    }

    /// Whether the driver's clock is so far behind the last batch that people should know. Corrections of less than an interval pass.
    pub(crate) fn is_clock_behind(&self) -> bool {
        self.clock.ahead_ms() > (self.settings.batch_interval.as_millis() as i64).max(1000)
    }

    /// Freezes a batch: the receivers in turn give their oldest block, until `max_batch_bytes` are reached or
    /// nothing waits. One block is always taken, of another receiver in every batch.
    fn freeze(&mut self, cx: &mut Cx<'_>, batch: BatchId, time_ms: i64) {
        let mut room = self.settings.max_batch_bytes;
        let waiting = self.durable.waiting.iter().filter(|(_, queue)| !queue.is_empty());
        let mut open: VecDeque<_> = waiting.map(|(key, queue)| (*key, queue.iter())).collect();
        if !open.is_empty() {
            let first = batch.0 as usize % open.len();
            open.rotate_left(first);
        }
        let mut counts: BTreeMap<ReceiverKey, u32> = BTreeMap::new();
        while let Some((key, mut queue)) = open.pop_front() {
            let Some(block) = queue.next() else { continue };
            if block.bytes > room && !counts.is_empty() {
                continue;
            }
            room = room.saturating_sub(block.bytes);
            *counts.entry(key).or_default() += 1;
            if !self.topology.sources[key.source.0 as usize].one_block_per_batch {
                open.push_back((key, queue));
            }
        }
        let counts = counts.into_iter().collect();
        self.record(cx, JobRecord::Frozen { batch, time_ms, counts });
        self.tell_imports(cx, batch);
        self.tell_tables(cx, batch);
    }

    fn finish_replay(&mut self, cx: &mut Cx<'_>) {
        let Some(batch) = self.run.as_ref().map(|run| run.batch) else { return };
        self.counters.batches_replayed += 1;
        REPLAYED.of([&self.durable.name]).add(1);
        self.after_run(cx, batch);
    }

    /// All units are done: brings the rows to where they go.
    fn commit(&mut self, cx: &mut Cx<'_>) {
        if let Some(reason) = self.run.as_ref().and_then(|run| self.too_many_bad_records(run)) {
            let batch = self.durable.completed.next();
            return self.end(cx, Ending::Failed(format!("batch {batch}: {reason}")));
        }
        let Some(run) = &mut self.run else { return };
        let sync = self.settings.durability == Durability::Disk;
        let mut rows: Vec<CommitRows> = rows(&self.topology, run, sync).collect();
        // Those that a failure of another one cannot double come first.
        rows.sort_by_key(|rows| rows.to.sink.delivery() != Delivery::ExactlyOnce);
        let mut outputs: Vec<Commit> = rows.into_iter().map(Commit::Rows).collect();
        outputs.extend(saved(&self.topology, run, sync).map(Commit::Model));
        run.commit = if outputs.is_empty() { CommitState::Done } else { CommitState::Asked };
        if run.commit == CommitState::Asked {
            cx.out.push(Action::Commit { job: self.durable.id, batch: run.batch, outputs });
        }
    }

    pub(crate) fn on_committed(&mut self, cx: &mut Cx<'_>, batch: BatchId, result: Result<(), String>) {
        let asked = |run: &&mut BatchRun| run.batch == batch && run.commit == CommitState::Asked;
        let Some(run) = self.run.as_mut().filter(asked) else { return };
        match result {
            // Units may run again meanwhile, because their state was lost: the batch waits for them.
            Ok(()) => run.commit = CommitState::Done,
            Err(reason) => {
                self.end(cx, Ending::Failed(format!("batch {batch}: an output could not be written: {reason}")))
            }
        }
    }

    fn complete(&mut self, cx: &mut Cx<'_>) {
        let Some(mut run) = self.run.take() else { return };
        let batch = run.batch;
        let (time_ms, context) = (run.time_ms, run.context());
        let micros = cx.now.mono_us.saturating_sub(run.started_us);
        let records = run.records;
        let (sources, bad) = self.count_bad_records(&run);
        let bad_records = sources.iter().map(|source| source.bad).sum();
        let output_rows = vec![0; self.topology.outputs.len()];
        let mut totals = Totals { records, bad_records, output_rows, sources };
        let mut state_keys = 0;
        let mut rows = BTreeMap::new();
        let mut models = Vec::new();
        let mut idle = BTreeSet::new();
        let mut champions = Vec::new();
        for TaskResult { done, .. } in std::mem::take(&mut run.results) {
            state_keys += done.state_keys;
            for part in &done.parts {
                if let Some(total) = totals.output_rows.get_mut(part.output as usize) {
                    *total += part.rows;
                }
            }
            models.extend(done.models);
            idle.extend(done.idle_models);
            champions.extend(done.champions);
            rows.extend(done.rows.into_iter().map(|rows| ((rows.output, rows.lane, rows.order), rows)));
        }
        let outputs = super::report::merge_outputs(&self.topology, &context, rows);
        for (number, output) in self.topology.outputs.iter().enumerate() {
            if let Some(batch) = outputs.iter().find(|batch| batch.name == output.name) {
                totals.output_rows[number] += batch.total;
            }
        }
        self.count(&totals, micros);
        self.state_keys = state_keys;
        self.last_batch_micros = micros;
        // First who answers from now on: a batch that is complete is not asked again.
        self.note_champions(cx, champions);
        self.publish_models(cx, batch, time_ms, models, &idle);
        self.record(cx, JobRecord::Completed { batch, totals });
        let event = client_pb::BatchOutput { batch: batch.0, time_ms, records, micros, outputs, bad };
        let event = Box::new(client_pb::watch_event::Kind::Batch(event));
        cx.out.push(Action::Publish { job: self.durable.id, event });
        self.close_incidents(cx);
        self.estimate_rates(cx, &run);
        self.after_run(cx, batch);
    }

    /// Counts a complete batch, which took `micros`.
    fn count(&self, totals: &Totals, micros: u64) {
        let job = self.durable.name.as_str();
        BATCHES.of([job]).add(1);
        DURATION.of([job]).observe(micros as f64 / 1e6);
        for (source, totals) in self.topology.sources.iter().zip(&totals.sources) {
            RECORDS.of([job, &source.name]).add(totals.records);
            BAD_RECORDS.of([job, &source.name]).add(totals.bad);
        }
        for (output, rows) in self.topology.outputs.iter().zip(&totals.output_rows) {
            OUTPUT_ROWS.of([job, &output.name]).add(*rows);
        }
    }

    /// Publishes what a batch has changed; with the first one what knew something before.
    fn publish_models(
        &self,
        cx: &mut Cx<'_>,
        batch: BatchId,
        time_ms: i64,
        trained: Vec<pb::TrainedModel>,
        idle: &BTreeSet<u32>,
    ) {
        let named = |model: pb::TrainedModel| {
            let shape = self.topology.models.get(model.model as usize)?;
            let new = !idle.contains(&model.model) || batch == FIRST && shape.initial.dimension().is_some();
            new.then(|| PublishedModel { name: shape.name.clone(), bytes: model.bytes, keep: shape.keep })
        };
        let champions = self.published_champions(batch, &trained, idle);
        let models: Vec<_> = trained.into_iter().filter_map(named).chain(champions).collect();
        if !models.is_empty() {
            let (id, job) = (self.durable.id, self.durable.name.clone());
            let sync = self.settings.durability == Durability::Disk;
            cx.out.push(Action::PublishModels(Publication { id, job, batch, time_ms, models, sync }));
        }
    }

    fn after_run(&mut self, cx: &mut Cx<'_>, batch: BatchId) {
        self.run = None;
        self.state_version = batch;
        self.groups.due |= self.groups.moving;
        self.checkpoints.look_again();
        let message = pb::BatchComplete { job: self.durable.id.0, batch: batch.0 };
        cx.send_all(&driver_message::Kind::BatchComplete(message));
        self.begin_checkpoint(cx);
        self.advance_groups(cx);
    }
}

/// The models of a batch that are saved.
fn saved<'a>(topology: &'a Topology, run: &'a BatchRun, sync: bool) -> impl Iterator<Item = SavedModel> + 'a {
    let changed = run.results.iter().map(|result| &result.done).flat_map(|done| {
        let idle = |trained: &&pb::TrainedModel| done.idle_models.contains(&trained.model);
        done.models.iter().filter(move |trained| !idle(trained))
    });
    changed.filter_map(move |trained| {
        let shape = topology.models.get(trained.model as usize)?;
        let (directory, every) = shape.save.clone()?;
        let (name, bytes, time_ms) = (shape.name.clone(), trained.bytes.clone(), run.time_ms);
        Some(SavedModel { name, directory, every, time_ms, bytes, sync })
    })
}

/// The rows of a batch that go to sinks, of each output that has some.
fn rows<'a>(topology: &'a Topology, run: &'a BatchRun, sync: bool) -> impl Iterator<Item = CommitRows> + 'a {
    let outputs = topology.outputs.iter().enumerate();
    outputs.filter_map(move |(number, output)| {
        let OutputKind::Sink(to) = &output.kind else { return None };
        let parts = run.results.iter().flat_map(|result| &result.done.parts);
        let parts = parts.filter(|part| part.output as usize == number && part.rows > 0);
        let mut parts: Vec<Part> = parts
            .map(|part| match part.file.is_empty() {
                true => Part::Held(part.part.clone()),
                false => Part::Staged(part.file.clone()),
            })
            .collect();
        if parts.is_empty() {
            return None;
        }
        parts.sort_unstable();
        let (output, name, to) = (OutputIdx(number as u32), output.name.clone(), to.clone());
        Some(CommitRows { output, name, to, time_ms: run.time_ms, parts, sync })
    })
}
