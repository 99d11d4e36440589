//! Evaluates whole plans in one process, unit by unit, as plainly as possible: what tests compare against.
//!
//! How units are spread over tasks is up to the caller, who may check that it changes nothing.

mod state;
mod window;

use crate::error::PlanError;
use crate::fragment::{Fragment, Runner};
use crate::keys::{encode_rows, key_group};
use crate::plan::{BatchContext, BranchTarget, JobPlan, KEY_COLUMN, Placement, Stage, StageInput};
use crate::state::StageState;
use crate::unit::UnitRows;
use datafusion::arrow::array::{AsArray, BinaryArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use state::{Known, known, snapshot};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tidemill_common::ids::{ExchangeId, SourceIdx};
use tidemill_rows::rows_to_json;
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
    state: HashMap<u32, Known>,
    /// Per stage with a window.
    windows: HashMap<u32, Panes>,
}

/// Rows of an output, per lane.
type Lanes = BTreeMap<u32, Vec<RecordBatch>>;

/// What a unit of a stage comes to.
#[derive(Default, Clone)]
struct Unit {
    rows: Vec<RecordBatch>,
    snapshots: Vec<RecordBatch>,
}

impl Unit {
    fn of(rows: Vec<RecordBatch>) -> Self {
        Self { rows, snapshots: Vec::new() }
    }
}

/// Rows of some key groups, with the encoded key of each.
struct Keyed {
    rows: RecordBatch,
    keys: BinaryArray,
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
            if let Some(op) = &stage.state {
                state.insert(stage.id.0, known(op)?);
            }
        }
        Ok(Self { plan, runner, tasks: tasks.max(1), state, windows: HashMap::new() })
    }

    /// What tables have got since the start.
    pub fn tables(&self) -> &crate::Tables {
        self.runner.tables()
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
        let mut outputs = vec![Lanes::new(); plan.outputs.len()];
        for stage in &plan.stages {
            if plan.input_rhythm(stage).fires(ctx).is_none() {
                continue;
            }
            let units = self.units(stage, ctx, blocks, &pieces).await?;
            for unit in units.iter().filter(|_| stage.rhythm.fires(ctx).is_some()) {
                let rows = UnitRows::new(&self.runner, stage, unit.rows.clone(), unit.snapshots.clone(), ctx).await?;
                self.branches(stage, ctx, &rows, &mut pieces, &mut outputs).await?;
            }
        }
        let finished = plan.outputs.iter().zip(outputs).map(|(output, lanes)| {
            let fires = output.rhythm.fires(ctx).is_some();
            fires.then(|| finish(&output.schema, lanes)).transpose()
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
        outputs.iter().map(|rows| Ok(rows.as_ref().map(rows_to_json).transpose()?)).collect()
    }

    /// What every unit of a stage comes to.
    async fn units(
        &mut self,
        stage: &Stage,
        ctx: &BatchContext,
        blocks: &HashMap<SourceIdx, Vec<Vec<u8>>>,
        pieces: &Pieces,
    ) -> Result<Vec<Unit>, PlanError> {
        let exchanges = match &stage.input {
            StageInput::Source(source) => {
                let blocks = blocks.get(source).map_or(&[][..], Vec::as_slice);
                let source = &self.plan.sources[source.0 as usize];
                return blocks.iter().map(|block| Ok(Unit::of(source.decode(block)?.batches))).collect();
            }
            StageInput::BadRecords(source) => {
                let blocks = blocks.get(source).map_or(&[][..], Vec::as_slice);
                let source = &self.plan.sources[source.0 as usize];
                let mut offset = 0;
                let mut unit = |block: &Vec<u8>| {
                    let decoded = source.decode(block)?;
                    let rows = decoded.bad.rows(&source.name, 0, offset)?;
                    offset += decoded.records;
                    Ok(Unit::of(vec![rows]))
                };
                return blocks.iter().map(&mut unit).collect();
            }
            StageInput::Exchanges(exchanges) => exchanges,
        };
        let inputs = |groups: &[u32]| -> Vec<Vec<RecordBatch>> {
            let of = |exchange: ExchangeId| {
                groups.iter().filter_map(move |group| pieces.get(&(exchange, *group))).flatten().cloned()
            };
            exchanges.iter().map(|exchange| of(*exchange).collect()).collect()
        };
        if stage.placement == Placement::Single {
            return Ok(vec![Unit::of(self.run(&stage.head, inputs(&[0]), ctx).await?)]);
        }
        let groups = self.plan.def.settings.key_groups;
        let mut units = vec![Unit::default(); groups as usize];
        for task in 0..self.tasks.min(groups) {
            let mine: Vec<_> = (task..groups).step_by(self.tasks as usize).collect();
            let rows = self.run(&stage.head, inputs(&mine), ctx).await?;
            let (rows, snapshots) = self.keyed(stage, ctx, &mine, &rows).await?;
            for group in mine {
                let unit = &mut units[group as usize];
                unit.rows = vec![divided(&rows, group, groups)?];
                unit.snapshots = snapshots.iter().map(|all| divided(all, group, groups)).collect::<Result<_, _>>()?;
            }
        }
        Ok(units)
    }

    /// The rows of a task's key groups, and all its state if some branch asks for that.
    async fn keyed(
        &mut self,
        stage: &Stage,
        ctx: &BatchContext,
        groups: &[u32],
        rows: &[RecordBatch],
    ) -> Result<(Keyed, Option<Keyed>), PlanError> {
        let count = self.plan.def.settings.key_groups;
        let rows = concat_batches(&stage.head_schema(), rows)?;
        let Some(op) = &stage.state else {
            return Ok((keyed(rows, &stage.row_keys)?, None));
        };
        let known = self.state.entry(stage.id.0).or_default();
        let mine = |key: &[u8]| groups.contains(&key_group(key, count));
        let rows = match op {
            StageState::ByKey(op) => state::updated(op, known, &keyed(rows, &stage.row_keys)?, ctx, mine)?,
            StageState::Map(op) => state::visited(op, known, &keyed(rows, &stage.row_keys)?, ctx, mine)?,
            StageState::Join(op) => state::visited(op, known, &keyed(rows, &stage.row_keys)?, ctx, mine)?,
            StageState::Fold(op) => state::folded(op, known, &keyed(rows, &stage.row_keys)?, ctx, mine)?,
            StageState::Window(op) => {
                let rows = with_key(rows, op.pane(), &stage.row_keys)?;
                let panes = self.windows.entry(stage.id.0).or_default();
                keyed(panes.batch(op, &self.runner, ctx, rows, groups).await?, &stage.row_keys)?
            }
        };
        let snapshots = if stage.has_snapshots() { snapshot(op, known, mine)? } else { None };
        Ok((rows, snapshots))
    }

    async fn branches(
        &self,
        stage: &Stage,
        ctx: &BatchContext,
        unit: &UnitRows,
        pieces: &mut Pieces,
        outputs: &mut [Lanes],
    ) -> Result<(), PlanError> {
        for branch in &stage.branches {
            let rows = self.run(&branch.fragment, vec![unit.of(branch.reads).to_vec()], ctx).await?;
            match branch.target {
                BranchTarget::Output { output, lane } => {
                    outputs[output.0 as usize].entry(lane).or_default().extend(rows);
                }
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
        inputs: Vec<Vec<RecordBatch>>,
        ctx: &BatchContext,
    ) -> Result<Vec<RecordBatch>, PlanError> {
        match fragment {
            None => Ok(inputs.into_iter().flatten().collect()),
            Some(fragment) => self.runner.run(fragment, inputs, ctx).await,
        }
    }
}

/// Rows with their keys: those of the last column if it is [`KEY_COLUMN`], or of these columns.
fn keyed(rows: RecordBatch, keys: &[usize]) -> Result<Keyed, PlanError> {
    let Ok(last) = rows.schema().index_of(KEY_COLUMN) else {
        return Ok(Keyed { keys: encode_rows(&rows, keys)?, rows });
    };
    let keys = encode_rows(&rows, &[last])?;
    Ok(Keyed { rows: rows.project(&(0..last).collect::<Vec<_>>())?, keys })
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

/// The rows of one key group, sorted by key, with the key.
fn divided(all: &Keyed, group: u32, groups: u32) -> Result<RecordBatch, PlanError> {
    let keys = &all.keys;
    let mut places: Vec<_> =
        (0..all.rows.num_rows() as u32).filter(|&row| key_group(keys.value(row as usize), groups) == group).collect();
    places.sort_by(|&a, &b| keys.value(a as usize).cmp(keys.value(b as usize)));
    let mine = take_record_batch(&all.rows, &UInt32Array::from(places.clone()))?;
    let mut fields = mine.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(KEY_COLUMN, DataType::Binary, false)));
    let mut columns = mine.columns().to_vec();
    columns.push(Arc::new(BinaryArray::from_iter_values(places.iter().map(|&row| keys.value(row as usize)))));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// What users see of an output.
fn finish(schema: &SchemaRef, lanes: Lanes) -> Result<RecordBatch, PlanError> {
    let lanes = lanes.into_values().map(|batches| finish_lane(schema.fields().len(), &batches));
    Ok(concat_batches(schema, &lanes.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect::<Vec<_>>())?)
}

/// Rows of key groups are put in the order of their keys.
fn finish_lane(columns: usize, batches: &[RecordBatch]) -> Result<Option<RecordBatch>, PlanError> {
    let Some(first) = batches.first() else {
        return Ok(None);
    };
    let visible: Vec<_> = (0..columns).collect();
    let all = concat_batches(&first.schema(), batches)?;
    if all.num_columns() == visible.len() {
        return Ok(Some(all));
    }
    let keys = all.column(visible.len()).as_binary::<i32>().clone();
    let mut places: Vec<_> = (0..all.num_rows() as u32).collect();
    places.sort_by(|&a, &b| keys.value(a as usize).cmp(keys.value(b as usize)));
    Ok(Some(take_record_batch(&all.project(&visible)?, &UInt32Array::from(places))?))
}
