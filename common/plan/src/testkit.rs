//! Evaluates whole plans in one process, unit by unit, as plainly as possible: what tests compare against.
//!
//! How units are spread over tasks is up to the caller, who may check that it changes nothing.

mod window;

use crate::error::PlanError;
use crate::fragment::{Fragment, Runner};
use crate::keys::{encode_keys, encode_rows, key_group};
use crate::plan::{BatchContext, BranchTarget, JobPlan, KEY_COLUMN, Placement, Stage, StageInput};
use crate::rows::rows_to_json;
use crate::state::{StageState, StateOp};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::ScalarValue;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tidemill_common::ids::{ExchangeId, SourceIdx};
use tidemill_common::job::{Emit, UpdateKeys};
use window::Panes;

const MEMORY_PER_TASK: usize = 256 << 20;

/// Rows of one batch, per output; none of one that does not fire.
pub type Outputs = Vec<Option<RecordBatch>>;

/// A job with its state.
pub struct Evaluator {
    plan: Arc<JobPlan>,
    runner: Runner,
    /// Key groups *g* with the same `g % tasks` share a head run.
    tasks: u32,
    /// Per stage: encoded key to key and state columns.
    state: HashMap<u32, BTreeMap<Vec<u8>, Vec<ScalarValue>>>,
    /// Per stage with a window.
    windows: HashMap<u32, Panes>,
}

/// Rows at an exchange, per key group (0 for a gather), in the order of their units.
type Pieces = HashMap<(ExchangeId, u32), Vec<RecordBatch>>;

impl Evaluator {
    /// Starts with the initial state.
    ///
    /// # Errors
    /// None for a plan that compiled.
    pub fn new(plan: Arc<JobPlan>, tasks: u32) -> Result<Self, PlanError> {
        let runner = Runner::new(plan.clone(), MEMORY_PER_TASK);
        let mut state = HashMap::new();
        for stage in &plan.stages {
            if let Some(StageState::ByKey(op)) = &stage.state {
                let known = match &op.initial {
                    Some(rows) => known(op, rows)?,
                    None => BTreeMap::new(),
                };
                state.insert(stage.id.0, known);
            }
        }
        Ok(Self { plan, runner, tasks: tasks.max(1), state, windows: HashMap::new() })
    }

    /// Runs a batch over blocks per source.
    ///
    /// # Errors
    /// When an expression fails on the data.
    pub async fn batch(
        &mut self,
        ctx: &BatchContext,
        blocks: &HashMap<SourceIdx, Vec<Vec<u8>>>,
    ) -> Result<Outputs, PlanError> {
        let plan = self.plan.clone();
        let mut pieces = Pieces::new();
        let mut outputs = vec![Vec::new(); plan.outputs.len()];
        for stage in &plan.stages {
            if plan.input_rhythm(stage).fires(ctx).is_none() {
                continue;
            }
            let units = self.units(stage, ctx, blocks, &pieces).await?;
            for rows in units.into_iter().filter(|_| stage.rhythm.fires(ctx).is_some()) {
                self.branches(stage, ctx, rows, &mut pieces, &mut outputs).await?;
            }
        }
        let finished = plan.outputs.iter().zip(outputs).map(|(output, batches)| {
            let stage = &plan.stages[output.from_stage.0 as usize];
            stage.rhythm.fires(ctx).map(|_| finish(&output.schema, &batches)).transpose()
        });
        finished.collect()
    }

    /// [`Evaluator::batch`], as JSON rows.
    ///
    /// # Errors
    /// The same.
    pub async fn batch_json(
        &mut self,
        ctx: &BatchContext,
        blocks: &HashMap<SourceIdx, Vec<Vec<u8>>>,
    ) -> Result<Vec<Option<Vec<String>>>, PlanError> {
        let outputs = self.batch(ctx, blocks).await?;
        outputs.iter().map(|rows| rows.as_ref().map(rows_to_json).transpose()).collect()
    }

    /// The rows of every unit of a stage.
    async fn units(
        &mut self,
        stage: &Stage,
        ctx: &BatchContext,
        blocks: &HashMap<SourceIdx, Vec<Vec<u8>>>,
        pieces: &Pieces,
    ) -> Result<Vec<Vec<RecordBatch>>, PlanError> {
        let exchange = match &stage.input {
            StageInput::Source(source) => {
                let blocks = blocks.get(source).map_or(&[][..], Vec::as_slice);
                let source = &self.plan.sources[source.0 as usize];
                return blocks.iter().map(|block| Ok(source.decode(block)?.batches)).collect();
            }
            StageInput::Exchanges(exchanges) => exchanges[0],
        };
        let input = |group| pieces.get(&(exchange, group)).cloned().unwrap_or_default();
        if stage.placement == Placement::Single {
            return Ok(vec![self.run(&stage.head, input(0), ctx).await?]);
        }
        let groups = self.plan.def.settings.key_groups;
        let mut units = vec![Vec::new(); groups as usize];
        for task in 0..self.tasks.min(groups) {
            let mine: Vec<_> = (task..groups).step_by(self.tasks as usize).collect();
            let together = mine.iter().flat_map(|group| input(*group)).collect();
            let rows = self.run(&stage.head, together, ctx).await?;
            for (group, rows) in self.divided(stage, ctx, &mine, &rows).await? {
                units[group as usize] = vec![rows];
            }
        }
        Ok(units)
    }

    /// The rows of a task's key groups, each sorted by key, with the key.
    async fn divided(
        &mut self,
        stage: &Stage,
        ctx: &BatchContext,
        groups: &[u32],
        rows: &[RecordBatch],
    ) -> Result<Vec<(u32, RecordBatch)>, PlanError> {
        let count = self.plan.def.settings.key_groups;
        let schema = match rows.first() {
            Some(batch) => batch.schema(),
            None => self.plan.head_schema(stage),
        };
        let rows = concat_batches(&schema, rows)?;
        let rows = match &stage.state {
            None => rows,
            Some(StageState::ByKey(op)) => {
                let known = self.state.entry(stage.id.0).or_default();
                updated(op, known, &rows, ctx, |key| groups.contains(&key_group(key, count)))?
            }
            Some(StageState::Window(op)) => {
                let rows = with_key(rows, op.pane(), &stage.row_keys)?;
                let panes = self.windows.entry(stage.id.0).or_default();
                panes.batch(op, &self.runner, ctx, rows, groups).await?
            }
        };
        let keys = match rows.schema().index_of(KEY_COLUMN) {
            Ok(key) => encode_rows(&rows, &[key])?,
            Err(_) => encode_rows(&rows, &stage.row_keys)?,
        };
        let rows = rows.project(&(0..stage.schema.fields().len() - 1).collect::<Vec<_>>())?;
        let mut divided = Vec::new();
        for &group in groups {
            let mut places: Vec<_> = (0..rows.num_rows() as u32)
                .filter(|&row| key_group(keys.value(row as usize), count) == group)
                .collect();
            places.sort_by(|&a, &b| keys.value(a as usize).cmp(keys.value(b as usize)));
            let mine = take_record_batch(&rows, &UInt32Array::from(places.clone()))?;
            let key = BinaryArray::from_iter_values(places.iter().map(|&row| keys.value(row as usize)));
            let mut columns = mine.columns().to_vec();
            columns.push(Arc::new(key));
            divided.push((group, RecordBatch::try_new(stage.schema.clone(), columns)?));
        }
        Ok(divided)
    }

    async fn branches(
        &self,
        stage: &Stage,
        ctx: &BatchContext,
        rows: Vec<RecordBatch>,
        pieces: &mut Pieces,
        outputs: &mut [Vec<RecordBatch>],
    ) -> Result<(), PlanError> {
        for branch in &stage.branches {
            let rows = self.run(&branch.fragment, rows.clone(), ctx).await?;
            match branch.target {
                BranchTarget::Output(output) => outputs[output.0 as usize].extend(rows),
                BranchTarget::Exchange(exchange) => {
                    let parts = self.plan.partition(exchange, &rows)?;
                    for (group, range) in parts.offsets.windows(2).enumerate() {
                        let (start, length) = (range[0] as usize, (range[1] - range[0]) as usize);
                        let piece = parts.batch.slice(start, length);
                        if length > 0 {
                            pieces.entry((exchange, group as u32)).or_default().push(piece);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    async fn run(
        &self,
        fragment: &Option<Fragment>,
        rows: Vec<RecordBatch>,
        ctx: &BatchContext,
    ) -> Result<Vec<RecordBatch>, PlanError> {
        match fragment {
            None => Ok(rows),
            Some(fragment) => self.runner.run(fragment, vec![rows], ctx).await,
        }
    }
}

/// With the encoded key as last column, if these columns have it and the rows do not yet.
fn with_key(rows: RecordBatch, columns: &SchemaRef, keys: &[usize]) -> Result<RecordBatch, PlanError> {
    if rows.num_columns() == columns.fields().len() {
        return Ok(rows);
    }
    let mut all = rows.columns().to_vec();
    all.push(Arc::new(encode_rows(&rows, keys)?));
    Ok(RecordBatch::try_new(columns.clone(), all)?)
}

/// What users see of an output: rows of key groups are put in the order of their keys.
fn finish(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch, PlanError> {
    let Some(first) = batches.first() else {
        return Ok(RecordBatch::new_empty(schema.clone()));
    };
    let visible: Vec<_> = (0..schema.fields().len()).collect();
    let all = concat_batches(&first.schema(), batches)?;
    if all.num_columns() == visible.len() {
        return Ok(all);
    }
    let keys = all.column(visible.len()).as_binary::<i32>().clone();
    let mut places: Vec<_> = (0..all.num_rows() as u32).collect();
    places.sort_by(|&a, &b| keys.value(a as usize).cmp(keys.value(b as usize)));
    Ok(take_record_batch(&all.project(&visible)?, &UInt32Array::from(places))?)
}

type Known = BTreeMap<Vec<u8>, Vec<ScalarValue>>;

fn known(op: &StateOp, rows: &RecordBatch) -> Result<Known, PlanError> {
    let keys = encode_keys(&rows.columns()[..op.key_fields.len()])?;
    (0..rows.num_rows()).map(|row| Ok((keys.value(row).to_vec(), scalars(rows.columns(), row)?))).collect()
}

fn scalars(columns: &[ArrayRef], row: usize) -> Result<Vec<ScalarValue>, PlanError> {
    Ok(columns.iter().map(|c| ScalarValue::try_from_array(c, row)).collect::<Result<_, _>>()?)
}

fn columns(rows: &[Vec<ScalarValue>], nulls: &[ArrayRef]) -> Result<Vec<ArrayRef>, PlanError> {
    if rows.is_empty() {
        return Ok(nulls.to_vec());
    }
    let columns = (0..nulls.len()).map(|i| ScalarValue::iter_to_array(rows.iter().map(|row| row[i].clone())));
    Ok(columns.collect::<Result<_, _>>()?)
}

/// Applies a batch's aggregates (keys, then aggregates) to the keys that are `mine`; gives the rows that come out.
fn updated(
    op: &StateOp,
    state: &mut Known,
    rows: &RecordBatch,
    ctx: &BatchContext,
    mine: impl Fn(&[u8]) -> bool,
) -> Result<RecordBatch, PlanError> {
    let width = op.key_fields.len();
    let (key_columns, aggregates) = rows.columns().split_at(width);
    let keys = encode_keys(key_columns)?;
    let defaults = op.aggregate_defaults(1)?;
    // Key columns, old state, aggregates of every key to update, by key.
    let mut todo: BTreeMap<Vec<u8>, (Vec<ScalarValue>, bool)> = BTreeMap::new();
    if op.update == UpdateKeys::EveryKey {
        for (key, row) in state.iter().filter(|(key, _)| mine(key)) {
            let row = [row.clone(), scalars(&defaults, 0)?].concat();
            todo.insert(key.clone(), (row, false));
        }
    }
    for row in 0..rows.num_rows() {
        let key = keys.value(row).to_vec();
        let mut whole = match state.get(&key) {
            Some(known) => known.clone(),
            None => {
                let nulls = op.state_fields.iter().map(|f| ScalarValue::try_from(f.data_type()));
                let nulls: Vec<_> = nulls.collect::<Result<_, _>>()?;
                [scalars(key_columns, row)?, nulls].concat()
            }
        };
        whole.extend(scalars(aggregates, row)?);
        todo.insert(key, (whole, true));
    }
    let fields = op.key_fields.iter().chain(&op.state_fields).cloned().collect::<Vec<_>>();
    let schema = Arc::new(Schema::new(fields));
    let empty = RecordBatch::new_empty(schema.clone());
    let nulls: Vec<_> =
        empty.columns().iter().chain(&aggregates.iter().map(|a| a.slice(0, 0)).collect::<Vec<_>>()).cloned().collect();
    let wholes: Vec<_> = todo.values().map(|(row, _)| row.clone()).collect();
    let wholes = columns(&wholes, &nulls)?;
    let (old, aggregates) = wholes.split_at(schema.fields().len());
    let new = op.update(&old[..width], &old[width..], aggregates, ctx)?;
    let mut out = Known::new();
    for (row, (key, (_, touched))) in todo.iter().enumerate() {
        if new.dropped.as_ref().is_some_and(|dropped| dropped.value(row)) {
            state.remove(key);
            continue;
        }
        let whole = [scalars(&old[..width], row)?, scalars(&new.state, row)?].concat();
        state.insert(key.clone(), whole.clone());
        if *touched {
            out.insert(key.clone(), whole);
        }
    }
    if op.emit == Emit::All {
        out = state.iter().filter(|(key, _)| mine(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
    }
    let out: Vec<_> = out.into_values().collect();
    Ok(RecordBatch::try_new(schema, columns(&out, empty.columns())?)?)
}
