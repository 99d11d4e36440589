//! Stages under construction: where the rows of a plan are made, and how they get to where they are needed.

use super::Failure;
use super::waits::Waits;
use crate::exec::{Concat, LeafExec, OverExec, StableSort};
use crate::fragment::Fragment;
use crate::keys::is_encodable;
use crate::plan::{Branch, BranchTarget, Exchange, ExchangeKind, KEY_COLUMN, Placement, Reads, Stage, StageInput};
use crate::rhythm::Rhythm;
use crate::session::Shape;
use crate::state::StageState;
use crate::window::WindowOp;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::union::UnionExec;
use std::ops::Range;
use std::sync::Arc;
use tidemill_common::ids::{ExchangeId, OutputIdx, StageId};

/// The rows of a stream, or on their way to it: those of the first lane, then those of the second, and so on. There is
/// at least one lane, and all have the same columns.
#[derive(Debug, Clone)]
pub(super) struct Rows(pub(super) Vec<Lane>);

/// Rows on their way through one stage.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    /// Where they are made.
    pub(super) stage: StageId,
    /// What makes them from the stage's inputs (a head) or from rows of the stage (a branch).
    pub(super) plan: Arc<dyn ExecutionPlan>,
    pub(super) part: Part,
    /// Which rows of the stage the plan of a branch reads.
    pub(super) reads: Reads,
}

/// Which part of a stage a plan belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// The head of a stage that is not finished: whatever works on all its units together may still be added.
    Head(Head),
    /// A branch.
    Branch {
        /// Whether the last column is [`KEY_COLUMN`].
        keyed: bool,
    },
}

/// What a head works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Head {
    /// Key groups of these key columns: where they stand in what the plan gives.
    Keys(Vec<usize>),
    /// Everything.
    Single,
}

impl Rows {
    /// The columns that users see.
    pub(super) fn schema(&self) -> SchemaRef {
        common_schema(self.0.iter().map(Lane::schema))
    }

    /// Whether every lane has [`KEY_COLUMN`], or will have it when its head ends.
    pub(super) fn is_keyed(&self) -> bool {
        self.0.iter().all(|lane| matches!(lane.part, Part::Branch { keyed: true } | Part::Head(Head::Keys(_))))
    }

    /// Does the same with every lane.
    pub(super) fn each<E>(self, step: impl FnMut(Lane) -> Result<Lane, E>) -> Result<Self, E> {
        Ok(Self(self.0.into_iter().map(step).collect::<Result<_, E>>()?))
    }
}

impl From<Lane> for Rows {
    fn from(lane: Lane) -> Self {
        Self(vec![lane])
    }
}

impl Lane {
    /// Without [`KEY_COLUMN`].
    pub(super) fn visible(&self) -> Result<Arc<dyn ExecutionPlan>> {
        if !self.is_keyed() {
            return Ok(self.plan.clone());
        }
        let visible: Vec<_> = (0..self.plan.schema().fields().len() - 1).collect();
        project(&self.plan, &visible)
    }

    /// Whether the last column is [`KEY_COLUMN`].
    pub(super) fn is_keyed(&self) -> bool {
        self.part == (Part::Branch { keyed: true })
    }

    /// The columns that users see.
    pub(super) fn schema(&self) -> SchemaRef {
        let schema = self.plan.schema();
        if !self.is_keyed() {
            return schema;
        }
        let fields = schema.fields();
        Arc::new(Schema::new(fields[..fields.len() - 1].to_vec()))
    }

    /// The same rows of another plan.
    pub(super) fn with(self, plan: Arc<dyn ExecutionPlan>) -> Self {
        Self { plan, ..self }
    }

    /// These columns in place of those that users see.
    pub(super) fn projected(self, mut exprs: Vec<ProjectionExpr>) -> Result<Self> {
        if self.is_keyed() {
            let schema = self.plan.schema();
            exprs.push(column(&schema, schema.fields().len() - 1));
        }
        let plan = ProjectionExec::try_new(exprs, self.plan.clone())?;
        Ok(self.with(Arc::new(plan)))
    }
}

/// The columns of the first schema; a column may be null where it may be in one of them.
fn common_schema(schemas: impl Iterator<Item = SchemaRef>) -> SchemaRef {
    let common = schemas.reduce(|one, other| {
        let fields = one.fields().iter().zip(other.fields());
        let fields = fields.map(|(a, b)| match a.is_nullable() {
            true => a.clone(),
            false => Arc::new(a.as_ref().clone().with_nullable(b.is_nullable())),
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    });
    common.unwrap_or_else(|| Arc::new(Schema::empty()))
}

/// These columns of a plan's rows.
pub(super) fn project(plan: &Arc<dyn ExecutionPlan>, columns: &[usize]) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let columns = columns.iter().map(|&index| column(&schema, index));
    Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), plan.clone())?))
}

/// A column as it is.
pub(super) fn column(schema: &Schema, index: usize) -> ProjectionExpr {
    let name = schema.field(index).name().clone();
    ProjectionExpr { expr: Arc::new(Column::new(&name, index)), alias: name }
}

/// All stages so far.
#[derive(Debug, Default)]
pub(super) struct Stages {
    pub(super) stages: Vec<Stage>,
    pub(super) exchanges: Vec<Exchange>,
    pub(super) waits: Waits,
}

impl Stages {
    /// A stage that decodes a source.
    pub(super) fn source(&mut self, input: StageInput, name: &str, schema: SchemaRef) -> Rows {
        let stage = self.stage(name, input, Placement::Splits, schema.clone());
        Lane { stage, plan: leaf(0..1, schema), part: Part::Branch { keyed: false }, reads: Reads::Rows }.into()
    }

    /// Another stage that decodes the source of this one: it may wait for what this one leads to.
    pub(super) fn again(&mut self, stage: StageId) -> Option<StageId> {
        let first = &self.stages[stage.0 as usize];
        first.input.source()?;
        let (name, input, schema) = (first.name.clone(), first.input.clone(), first.schema.clone());
        Some(self.stage(&name, input, Placement::Splits, schema))
    }

    fn stage(&mut self, name: &str, input: StageInput, placement: Placement, schema: SchemaRef) -> StageId {
        let id = StageId(self.stages.len() as u32);
        self.stages.push(Stage {
            id,
            name: name.to_string(),
            input,
            placement,
            head: None,
            given: schema.clone(),
            state: None,
            row_keys: Vec::new(),
            schema,
            rhythm: Rhythm::EveryBatch,
            models: Vec::new(),
            shared: Vec::new(),
            branches: Vec::new(),
        });
        id
    }

    /// The stream that a stage computes.
    pub(super) fn name(&self, stage: StageId) -> &str {
        &self.stages[stage.0 as usize].name
    }

    /// When rows are there: the same for all their lanes.
    pub(super) fn rhythm(&self, rows: &Rows) -> Rhythm {
        rows.0.first().map_or(Rhythm::EveryBatch, |lane| self.stages[lane.stage.0 as usize].rhythm)
    }

    /// Ends a stage that consists of a window over what the exchanges before it bring. What comes out has these
    /// columns, the key columns at `keys`.
    pub(super) fn seal_window(
        &mut self,
        stage: StageId,
        window: WindowOp,
        visible: &Schema,
        keys: Vec<usize>,
        rhythm: Rhythm,
    ) -> Rows {
        let inputs = self.exchanges.iter().filter(|exchange| exchange.to == stage);
        let given = common_schema(inputs.map(|exchange| exchange.schema.clone()));
        let stage_mut = &mut self.stages[stage.0 as usize];
        stage_mut.given = given;
        stage_mut.schema = with_key(visible);
        stage_mut.row_keys = keys;
        stage_mut.rhythm = rhythm;
        stage_mut.state = Some(StageState::Window(Box::new(window)));
        let plan = leaf(0..1, stage_mut.schema.clone());
        Lane { stage, plan, part: Part::Branch { keyed: true }, reads: Reads::Rows }.into()
    }

    /// Sends rows to where they are remembered: with their keys to the key groups they have, or all to one if some have
    /// no key. Gives the stage that gets them.
    pub(super) fn remember(&mut self, rows: Rows, name: &str) -> Result<StageId> {
        let (keyed, last) = (rows.is_keyed(), rows.schema().fields().len());
        let stage = self.stage(name, StageInput::Exchanges(Vec::new()), Placement::KeyGroups, Schema::empty().into());
        let kind = ExchangeKind::Hash { keys: if keyed { vec![last] } else { Vec::new() } };
        for lane in self.seal(rows).0 {
            let plan = if keyed { lane.plan.clone() } else { lane.visible()? };
            self.exchange(&lane, &plan, kind.clone(), stage);
        }
        Ok(stage)
    }

    /// Ends the heads of stages: from now on their rows are fixed.
    pub(super) fn seal(&mut self, rows: Rows) -> Rows {
        Rows(rows.0.into_iter().map(|lane| self.seal_lane(lane)).collect())
    }

    /// Ends the head of a stage.
    pub(super) fn seal_lane(&mut self, lane: Lane) -> Lane {
        let Part::Head(head) = &lane.part else {
            return lane;
        };
        self.asks(lane.stage, &lane.plan);
        let stage = &mut self.stages[lane.stage.0 as usize];
        let inputs = match &stage.input {
            StageInput::Source(_) | StageInput::BadRecords(_) => 1,
            StageInput::Exchanges(exchanges) => exchanges.len(),
        };
        stage.head = fragment(&lane.plan, inputs, &stage.name);
        stage.given = lane.plan.schema();
        stage.schema = stage.given.clone();
        let mut keyed = false;
        if let Head::Keys(columns) = head {
            stage.row_keys = columns.clone();
            stage.schema = with_key(&stage.schema);
            keyed = true;
        }
        let plan = leaf(0..1, stage.schema.clone());
        Lane { stage: lane.stage, plan, part: Part::Branch { keyed }, reads: Reads::Rows }
    }

    /// Ends the head of a stage with a state operator behind it, which gives these columns. The head gives key columns,
    /// then what the operator works on.
    pub(super) fn seal_with_state(&mut self, lane: Lane, state: StageState, gives: &Schema) -> Rows {
        let sealed = self.seal_lane(lane);
        let stage = &mut self.stages[sealed.stage.0 as usize];
        stage.schema = with_key(gives);
        stage.row_keys = (0..state.snapshot_fields().map_or(0, |(keys, _)| keys.len())).collect();
        stage.state = Some(state);
        let plan = leaf(0..1, stage.schema.clone());
        sealed.with(plan).into()
    }

    /// All keys of the state of the stage that rows come from, if it has any.
    pub(super) fn snapshots(&self, rows: &Rows) -> Option<Rows> {
        let [Lane { stage, .. }] = rows.0[..] else {
            return None;
        };
        let (keys, state) = self.stages[stage.0 as usize].state.as_ref()?.snapshot_fields()?;
        let fields: Vec<_> = keys.iter().chain(state).cloned().collect();
        let plan = leaf(0..1, with_key(&Schema::new(fields)));
        Some(Lane { stage, plan, part: Part::Branch { keyed: true }, reads: Reads::Snapshots }.into())
    }

    /// Sends rows to the key groups of their keys: a new stage.
    pub(super) fn hash(&mut self, rows: Rows, keys: Vec<usize>, name: &str) -> Result<Lane, Failure> {
        let (stage, mut plans) = self.hash_together(vec![(rows, keys.clone())], name)?;
        // One went in, one comes out.
        let plan = plans.pop().ok_or(Failure::Uncuttable)?;
        Ok(Lane { stage, plan, part: Part::Head(Head::Keys(keys)), reads: Reads::Rows })
    }

    /// Sends several rows to the key groups of their keys, which have the same types: one new stage, and what reads
    /// each of them in its head.
    pub(super) fn hash_together(
        &mut self,
        inputs: Vec<(Rows, Vec<usize>)>,
        name: &str,
    ) -> Result<(StageId, Vec<Arc<dyn ExecutionPlan>>), Failure> {
        let stage = self.stage(name, StageInput::Exchanges(Vec::new()), Placement::KeyGroups, Schema::empty().into());
        let mut plans = Vec::with_capacity(inputs.len());
        for (rows, keys) in inputs {
            let schema = rows.schema();
            if !keys.iter().all(|&key| is_encodable(schema.field(key).data_type())) {
                return Err(Failure::Uncuttable);
            }
            let kind = ExchangeKind::Hash { keys };
            let from = self.reading(stage);
            for lane in self.seal(rows).0 {
                self.exchange(&lane, &lane.visible()?, kind.clone(), stage);
            }
            plans.push(leaf(from..self.reading(stage), schema));
        }
        Ok((stage, plans))
    }

    /// Brings all rows together, in order: a new stage. Rows of key groups come by key (before that, by `order`), all
    /// others as they are in the input.
    pub(super) fn gather(
        &mut self,
        rows: Rows,
        order: Option<LexOrdering>,
        fetch: Option<usize>,
        name: &str,
    ) -> Result<Lane, Failure> {
        let (stage, mut plans) = self.gather_together(vec![rows], name)?;
        let mut plan = plans.pop().ok_or(Failure::Uncuttable)?;
        if let Some(order) = order {
            plan = OverExec::try_new(plan, StableSort { order, fetch })?;
        } else if fetch.is_some() {
            plan = Arc::new(GlobalLimitExec::new(plan, 0, fetch));
        }
        Ok(Lane { stage, plan, part: Part::Head(Head::Single), reads: Reads::Rows })
    }

    /// Brings all rows of several together: one new stage, and what reads each of them in its head, in order.
    pub(super) fn gather_together(
        &mut self,
        inputs: Vec<Rows>,
        name: &str,
    ) -> Result<(StageId, Vec<Arc<dyn ExecutionPlan>>), Failure> {
        let stage = self.stage(name, StageInput::Exchanges(Vec::new()), Placement::Single, Schema::empty().into());
        let mut plans = Vec::with_capacity(inputs.len());
        for rows in inputs {
            let mut lanes = Vec::with_capacity(rows.0.len());
            for lane in self.seal(rows).0 {
                let input = self.reading(stage);
                self.exchange(&lane, &lane.plan, ExchangeKind::Gather, stage);
                let mut all = leaf(input..input + 1, lane.plan.schema());
                if lane.is_keyed() {
                    let order = by_last_column(&lane.plan.schema());
                    all = OverExec::try_new(all, StableSort { order, fetch: None })?;
                }
                lanes.push(lane.with(all).visible()?);
            }
            plans.push(match lanes.len() {
                1 => lanes.remove(0),
                _ => OverExec::try_new(UnionExec::try_new(lanes)?, Concat)?,
            });
        }
        Ok((stage, plans))
    }

    /// How many exchanges a stage reads so far.
    fn reading(&self, stage: StageId) -> usize {
        match &self.stages[stage.0 as usize].input {
            StageInput::Source(_) | StageInput::BadRecords(_) => 0,
            StageInput::Exchanges(exchanges) => exchanges.len(),
        }
    }

    /// Lets a stage read what a plan gives over the rows of a lane's stage.
    fn exchange(&mut self, lane: &Lane, plan: &Arc<dyn ExecutionPlan>, kind: ExchangeKind, to: StageId) {
        let lane = &self.waiting(lane.clone(), plan);
        let id = ExchangeId(self.exchanges.len() as u32);
        self.exchanges.push(Exchange { id, from: lane.stage, to, kind, schema: plan.schema() });
        // All that one stage reads fires together.
        self.stages[to.0 as usize].rhythm = self.stages[lane.stage.0 as usize].rhythm;
        if let StageInput::Exchanges(inputs) = &mut self.stages[to.0 as usize].input {
            inputs.push(id);
        }
        self.branch(lane, plan, BranchTarget::Exchange(id));
    }

    /// Rows that an output can put in order: what was made per key group and has no key any more is gathered first.
    pub(super) fn in_order(&mut self, rows: Rows, name: &str) -> Result<Rows, Failure> {
        rows.each(|lane| {
            let keyed = self.stages[lane.stage.0 as usize].placement == Placement::KeyGroups;
            if keyed && lane.part == (Part::Branch { keyed: false }) {
                let gathered = self.gather(lane.into(), None, None, name)?;
                return Ok(self.seal_lane(gathered));
            }
            Ok(lane)
        })
    }

    /// Rows that are all in one place, in order.
    pub(super) fn in_one_place(&mut self, rows: Rows, name: &str) -> Result<Rows, Failure> {
        if let [lane] = &rows.0[..]
            && self.stages[lane.stage.0 as usize].placement == Placement::Single
        {
            return Ok(rows);
        }
        let gathered = self.gather(rows, None, None, name)?;
        Ok(self.seal_lane(gathered).into())
    }

    /// Ends rows in an output.
    pub(super) fn output(&mut self, rows: &Rows, output: OutputIdx) {
        for (number, lane) in rows.0.iter().enumerate() {
            self.branch(lane, &lane.plan, BranchTarget::Output { output, lane: number as u32 });
        }
    }

    fn branch(&mut self, from: &Lane, plan: &Arc<dyn ExecutionPlan>, target: BranchTarget) {
        let of = match target {
            BranchTarget::Exchange(id) => self.exchanges[id.0 as usize].to,
            BranchTarget::Output { .. } => from.stage,
        };
        let fragment = fragment(plan, 1, &self.stages[of.0 as usize].name);
        self.stages[from.stage.0 as usize].branches.push(Branch { reads: from.reads, fragment, target });
    }

    /// Drops the stages that lead to no output and train no model, and numbers the others anew.
    pub(super) fn prune(&mut self) {
        while let Some(useless) = self.stages.iter().position(|stage| stage.branches.is_empty() && !stage.trains()) {
            let StageInput::Exchanges(inputs) = self.stages.remove(useless).input else {
                continue;
            };
            self.exchanges.retain(|exchange| !inputs.contains(&exchange.id));
            for stage in &mut self.stages {
                stage.branches.retain(|branch| match branch.target {
                    BranchTarget::Exchange(id) => !inputs.contains(&id),
                    BranchTarget::Output { .. } => true,
                });
            }
        }
        self.number();
    }

    fn number(&mut self) {
        let stages: Vec<_> = self.stages.iter().map(|stage| stage.id).collect();
        let exchanges: Vec<_> = self.exchanges.iter().map(|exchange| exchange.id).collect();
        // Everything named is there: what was dropped was dropped with all that names it.
        let stage = |old: StageId| StageId(stages.iter().position(|id| *id == old).unwrap_or(usize::MAX) as u32);
        let exchange =
            |old: ExchangeId| ExchangeId(exchanges.iter().position(|id| *id == old).unwrap_or(usize::MAX) as u32);
        for it in &mut self.exchanges {
            (it.id, it.from, it.to) = (exchange(it.id), stage(it.from), stage(it.to));
        }
        self.waits.renumber(stage);
        for it in &mut self.stages {
            it.id = stage(it.id);
            if let StageInput::Exchanges(inputs) = &mut it.input {
                inputs.iter_mut().for_each(|id| *id = exchange(*id));
            }
            for branch in &mut it.branches {
                if let BranchTarget::Exchange(id) = &mut branch.target {
                    *id = exchange(*id);
                }
            }
        }
    }
}

/// A leaf that reads all columns of inputs of the stage, or of its rows.
pub(super) fn leaf(inputs: Range<usize>, schema: SchemaRef) -> Arc<dyn ExecutionPlan> {
    Arc::new(LeafExec::new(inputs, schema, Shape::Single))
}

/// A plan that computes a stream. One that only reads is no fragment at all.
pub(super) fn fragment(plan: &Arc<dyn ExecutionPlan>, inputs: usize, stream: &str) -> Option<Fragment> {
    (!plan.is::<LeafExec>()).then(|| Fragment::new(plan.clone(), inputs, stream))
}

fn by_last_column(schema: &Schema) -> LexOrdering {
    let last = schema.fields().len() - 1;
    let options = SortOptions { descending: false, nulls_first: true };
    let key: Arc<dyn PhysicalExpr> = Arc::new(Column::new(schema.field(last).name(), last));
    [PhysicalSortExpr::new(key, options)].into()
}

pub(super) fn with_key(schema: &Schema) -> SchemaRef {
    let mut fields = schema.fields().to_vec();
    fields.push(Arc::new(Field::new(KEY_COLUMN, DataType::Binary, false)));
    Arc::new(Schema::new(fields))
}
