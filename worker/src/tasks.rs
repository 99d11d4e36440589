//! Running tasks: get the input, compute, leave pieces for the next stage, bring rows and parts of outputs.

mod branches;

use crate::fetch;
use crate::jobs::Job;
use crate::keyed::KeyedRows;
use crate::models;
use crate::node::Node;
use crate::outputs::{self, OutputRecords};
use crate::state::StateError;
use crate::stateful::Attempt;
use crate::store::StoreError;
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::error::ArrowError;
use futures::stream::{FuturesUnordered, StreamExt};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tidemill_common::ids::{BatchId, JobId, SourceIdx, TaskId, WorkerId};
use tidemill_job::OnBadRecord;
use tidemill_metrics::{Counter, Family, Histogram, SECONDS, metric};
use tidemill_plan::{BadRecord, BatchContext, FoldOp, Models, PlanError, Stage, StageInput, StageState};
use tidemill_proto::common as common_pb;
use tidemill_proto::control::{self as pb, FailureKind, task_report, worker_message};
use tokio_util::sync::CancellationToken;

metric! {
    static TASKS: Family<Histogram, 1> = Histogram::new(
        "tidemill_task_duration_seconds",
        "Time of tasks that were done, waiting for their input and for a slot included, by what their units are.",
        SECONDS,
    )
    .by(["units"]);
    static FAILURES: Family<Counter, 1> =
        Counter::new("tidemill_failed_tasks_total", "Tasks that failed.").by(["reason"]);
}

/// Bad records that a task reports in full.
const BAD_SAMPLES: usize = 5;
/// Longest failure message sent, in bytes.
const MESSAGE_BYTES: usize = 2000;

/// Why a task failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TaskError {
    #[error("pieces could not be fetched from worker {worker}: {reason}")]
    Fetch { worker: WorkerId, reason: String },
    #[error("a block could not be read: {0}")]
    BlockLost(String),
    #[error("state is not as it should be: {0}")]
    StateVersion(String),
    #[error("a model could not be had: {0}")]
    Model(String),
    #[error("{0}")]
    User(String),
    #[error("{0}")]
    Resources(String),
    #[error("{0}")]
    Internal(String),
    #[error("cancelled")]
    Cancelled,
}

impl From<PlanError> for TaskError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Data(_) => Self::User(error.to_string()),
            PlanError::Memory(_) => Self::Resources(error.to_string()),
            PlanError::Malformed(_) | PlanError::Internal(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<StateError> for TaskError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::NotNext { .. } | StateError::NotKept { .. } => Self::StateVersion(error.to_string()),
            StateError::Full { .. } => Self::Resources(error.to_string()),
            error => Self::Internal(error.to_string()),
        }
    }
}

impl From<StoreError> for TaskError {
    fn from(error: StoreError) -> Self {
        Self::Resources(error.to_string())
    }
}

impl From<ArrowError> for TaskError {
    fn from(error: ArrowError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl TaskError {
    fn on_wire(&self) -> pb::TaskFailure {
        let (kind, lost_worker) = match self {
            Self::Fetch { worker, .. } => (FailureKind::FailureFetch, worker.0),
            Self::BlockLost(_) => (FailureKind::FailureBlockLost, 0),
            Self::StateVersion(_) => (FailureKind::FailureStateVersion, 0),
            Self::Model(_) => (FailureKind::FailureModel, 0),
            Self::User(_) => (FailureKind::FailureUser, 0),
            Self::Resources(_) => (FailureKind::FailureResources, 0),
            Self::Internal(_) => (FailureKind::FailureInternal, 0),
            Self::Cancelled => (FailureKind::FailureCancelled, 0),
        };
        let mut message = self.to_string();
        if message.len() > MESSAGE_BYTES {
            message.truncate((0..=MESSAGE_BYTES).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0));
        }
        pb::TaskFailure { kind: kind as i32, message, lost_worker }
    }
}

/// Runs a task to its end and reports it.
pub(crate) async fn run(node: Arc<Node>, task: pb::Task) {
    let started = Instant::now();
    let id = TaskId(task.task_id);
    let job = node.jobs.get(JobId(task.job));
    let result = match &job {
        None => Err(TaskError::Internal(format!("job {} is not known here", task.job))),
        Some(job) => {
            let cancelled = job.begin(id);
            node.running_tasks.fetch_add(1, Ordering::Relaxed);
            let result = tokio::select! {
                biased;
                () = cancelled.cancelled() => Err(TaskError::Cancelled),
                result = run_on(&node, job, &task, &cancelled) => result,
            };
            node.running_tasks.fetch_sub(1, Ordering::Relaxed);
            job.finished(id);
            result
        }
    };
    let result = match result {
        Ok(done) => {
            TASKS.of([units(&task)]).observe(started.elapsed().as_secs_f64());
            let micros = started.elapsed().as_micros() as u64;
            task_report::Result::Done(pb::TaskDone { micros, ..done })
        }
        Err(TaskError::Cancelled) => return,
        Err(error) => {
            let failure = error.on_wire();
            let reason = failure.kind().as_str_name().trim_start_matches("FAILURE_").to_ascii_lowercase();
            FAILURES.of([&reason]).add(1);
            task_report::Result::Failure(failure)
        }
    };
    let report = pb::TaskReport {
        task_id: task.task_id,
        job: task.job,
        batch: task.batch,
        stage: task.stage,
        result: Some(result),
    };
    node.report(worker_message::Kind::TaskReport(report)).await;
}

/// What the units of a task are.
fn units(task: &pb::Task) -> &'static str {
    match (task.splits.is_empty(), task.groups.is_empty()) {
        (false, _) => "blocks",
        (true, false) => "key_groups",
        (true, true) => "single",
    }
}

async fn run_on(
    node: &Arc<Node>,
    job: &Arc<Job>,
    task: &pb::Task,
    cancelled: &CancellationToken,
) -> Result<pb::TaskDone, TaskError> {
    let stage = job.plan.stages.get(task.stage as usize);
    let stage = stage.ok_or_else(|| TaskError::Internal(format!("job {} has no stage {}", task.job, task.stage)))?;
    check_tables(job, task)?;
    let unit = Unit {
        node: node.clone(),
        job: job.clone(),
        task: Arc::new(task.clone()),
        cancelled: cancelled.clone(),
        models: models::of_task(node, job, task).await?,
    };
    match &stage.input {
        StageInput::Source(source) | StageInput::BadRecords(source) => run_splits(unit, *source).await,
        StageInput::Exchanges(exchanges) => {
            let inputs = fetch::inputs(node, task, exchanges).await?;
            let slots = node.compute_slots.clone();
            let work = async move {
                let _slot = slots.acquire_owned().await.map_err(|_| TaskError::Cancelled)?;
                unit.models.clone().scope(unit.run_exchanged(inputs)).await
            };
            compute(node, work).await
        }
    }
}

/// Whether this worker has the contents of tables that the task is to read.
fn check_tables(job: &Job, task: &pb::Task) -> Result<(), TaskError> {
    for pb::TableAt { table, since } in &task.tables {
        let here = job.runner.tables().since(*table as usize, BatchId(task.batch)).0;
        if here != *since {
            let message = format!("table {table} should be as of batch {since}, and is as of batch {here}");
            return Err(TaskError::Internal(message));
        }
    }
    Ok(())
}

/// Runs CPU work where it cannot keep heartbeats and requests waiting.
async fn compute<T: Send + 'static>(
    node: &Node,
    work: impl Future<Output = Result<T, TaskError>> + Send + 'static,
) -> Result<T, TaskError> {
    let done = node.tracker.spawn_on(work, &node.compute).await;
    done.unwrap_or_else(|error| Err(TaskError::Internal(format!("a task panicked: {error}"))))
}

async fn run_splits(unit: Unit, source: SourceIdx) -> Result<pb::TaskDone, TaskError> {
    let node = unit.node.clone();
    let mut running: FuturesUnordered<_> = unit
        .task
        .splits
        .iter()
        .cloned()
        .map(|split| {
            let (unit, node) = (unit.clone(), node.clone());
            async move {
                let slot = node.compute_slots.clone().acquire_owned().await.map_err(|_| TaskError::Cancelled)?;
                let bytes = fetch::block(&node, &split).await?;
                compute(&node, async move {
                    let _slot = slot;
                    unit.models.clone().scope(unit.run_split(source, &split, &bytes)).await
                })
                .await
            }
        })
        .collect();
    let mut done = pb::TaskDone::default();
    let mut records = Vec::new();
    while let Some(split) = running.next().await {
        let (counts, mut outputs) = split?;
        done.records += counts.records;
        done.bad_records += counts.bad_records;
        done.bad_samples.extend(counts.bad_samples);
        records.append(&mut outputs);
    }
    done.bad_samples.sort_by_key(|bad| bad.offset);
    done.bad_samples.truncate(BAD_SAMPLES);
    records.sort_by_key(|records: &OutputRecords| (records.lane, records.order));
    outputs::deliver(&unit.node, &unit.job, &unit.task, records, &mut done).await?;
    Ok(done)
}

/// A task with what its units need.
#[derive(Clone)]
struct Unit {
    node: Arc<Node>,
    job: Arc<Job>,
    task: Arc<pb::Task>,
    cancelled: CancellationToken,
    /// Those that its expressions ask.
    models: Models,
}

impl Unit {
    fn context(&self) -> BatchContext {
        let (time_ms, previous_ms) = (self.task.time_ms, self.task.previous_ms);
        BatchContext { batch: BatchId(self.task.batch), time_ms, previous_ms }
    }

    fn stage(&self) -> &Stage {
        &self.job.plan.stages[self.task.stage as usize]
    }

    /// Decodes one split and runs all branches over it.
    async fn run_split(
        &self,
        source: SourceIdx,
        split: &pb::Split,
        bytes: &[u8],
    ) -> Result<(pb::TaskDone, Vec<OutputRecords>), TaskError> {
        let def = &self.job.plan.def.sources[source.0 as usize];
        let decoded = self.job.plan.sources[source.0 as usize].decode(bytes)?;
        let first_offset = split.block.as_ref().map_or(0, |block| block.first_offset);
        let sample = |bad: &BadRecord| common_pb::BadRecord {
            source: def.name.text.clone(),
            offset: first_offset + bad.line,
            text: bad.sample(),
            reason: bad.reason.clone(),
        };
        let bad_samples: Vec<_> = decoded.bad.samples.iter().take(BAD_SAMPLES).map(sample).collect();
        if let (OnBadRecord::Fail, Some(bad)) = (def.on_bad_record, bad_samples.first()) {
            return Err(TaskError::User(format!(
                "record {} of source `{}` does not parse: {} (record: {}); on_bad_record = \"fail\"",
                bad.offset, bad.source, bad.reason, bad.text
            )));
        }
        let counts = pb::TaskDone {
            records: decoded.records,
            bad_records: decoded.bad.count,
            bad_samples,
            ..pb::TaskDone::default()
        };
        // A source that several stages read is counted once.
        let first = self.job.plan.stages.iter().find(|stage| stage.input.source() == Some(source));
        let counts =
            if first.is_some_and(|stage| stage.id == self.stage().id) { counts } else { pb::TaskDone::default() };
        let rows = match self.stage().input {
            StageInput::BadRecords(_) => {
                let receiver = split.block.as_ref().and_then(|block| block.receiver).map_or(0, |key| key.receiver);
                vec![decoded.bad.rows(&def.name.text, receiver, first_offset)?]
            }
            _ => decoded.batches,
        };
        let records = self.run_branches(split.order, rows).await?;
        Ok((counts, records))
    }

    /// Runs a stage that reads exchanges: head, state, branches.
    async fn run_exchanged(&self, inputs: Vec<Vec<RecordBatch>>) -> Result<pb::TaskDone, TaskError> {
        let stage = self.stage();
        let rows = match &stage.head {
            Some(head) => self.job.runner.run(head, inputs, &self.context()).await?,
            None => inputs.into_iter().flatten().collect(),
        };
        let mut done = pb::TaskDone::default();
        let records = if self.task.groups.is_empty() {
            self.run_branches(0, rows).await?
        } else {
            self.run_keyed(&rows, &mut done).await?
        };
        outputs::deliver(&self.node, &self.job, &self.task, records, &mut done).await?;
        Ok(done)
    }

    async fn run_keyed(&self, rows: &[RecordBatch], done: &mut pb::TaskDone) -> Result<Vec<OutputRecords>, TaskError> {
        let stage = self.stage();
        let key_groups = self.job.plan.def.settings.key_groups;
        let mut snapshots = None;
        let mut keyed = KeyedRows::sort(&stage.head_schema(), rows, &stage.row_keys, &self.task.groups, key_groups)?;
        if let Some(state) = &stage.state {
            let (context, cancelled) = (self.context(), &self.cancelled);
            let imported = self.imported()?;
            let attempt = Attempt { node: &self.node, job: &self.job, stage: stage.id, context, cancelled, imported };
            let Some(time_ms) = self.job.plan.input_rhythm(stage).fires(&context) else {
                done.state_keys = attempt.pass(state, &self.task.groups)?;
                if attempt.imported.is_some() {
                    done.models = self.trained(state)?;
                }
                return Ok(Vec::new());
            };
            let updated = attempt.run(state, &keyed, time_ms).await?;
            keyed = updated.rows;
            done.state_keys = updated.keys;
            done.models = self.trained(state)?;
            if !updated.learnt {
                done.idle_models = done.models.iter().map(|trained| trained.model).collect();
            }
            done.champions.extend(self.champion(state, &keyed.batch));
            if stage.rhythm.fires(&context).is_none() {
                return Ok(Vec::new());
            }
            if stage.has_snapshots() {
                snapshots = Some(attempt.snapshots(state, &keyed.groups)?);
            }
        }
        self.run_branches_by_group(&keyed, snapshots.as_ref()).await
    }

    /// What takes the place of the model that the stage trains, if that lives in one of the task's groups.
    fn imported(&self) -> Result<Option<(u32, Bytes)>, TaskError> {
        let Some(model) = self.task.imported_models.first().copied() else { return Ok(None) };
        Ok(Some((model, self.job.imported.get(model, self.task.batch)?)))
    }

    /// Who answers from the next batch on, where the stage chooses that.
    fn champion(&self, state: &StageState, rows: &RecordBatch) -> Option<pb::Champion> {
        let StageState::Fold(op) = state else { return None };
        let model = op.choice()?;
        let champion = self.job.plan.models[model].candidates.get(op.champion(rows)?)?;
        Some(pb::Champion { model: model as u32, champion: *champion as u32 })
    }

    /// What the batch has made of a model that lives in one of the task's groups.
    fn trained(&self, state: &StageState) -> Result<Vec<pb::TrainedModel>, TaskError> {
        let StageState::Fold(FoldOp { model: Some(model), .. }) = state else { return Ok(Vec::new()) };
        let home = self.job.plan.models[*model].home.map(|(_, group)| group);
        if !home.is_some_and(|group| self.task.groups.contains(&group)) {
            return Ok(Vec::new());
        }
        let model = *model as u32;
        let bytes = models::read(&self.node, &self.job, model, self.task.batch);
        let bytes = bytes.map_err(|error| TaskError::StateVersion(error.message().into()))?;
        Ok(vec![pb::TrainedModel { model, bytes }])
    }
}
