//! Stages under construction: where the rows of a plan are made, and how they get to where they are needed.

use super::Failure;
use crate::exec::{LeafExec, StableSortExec};
use crate::fragment::Fragment;
use crate::keys::is_encodable;
use crate::plan::{Branch, BranchTarget, Exchange, ExchangeKind, KEY_COLUMN, Placement, Stage, StageInput};
use crate::rhythm::Rhythm;
use crate::session::Shape;
use crate::state::{StageState, StateOp};
use crate::window::WindowOp;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use std::sync::Arc;
use tidemill_common::ids::{ExchangeId, OutputIdx, SourceIdx, StageId};

/// Rows on their way through a stage.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    /// Where they are made.
    pub(super) stage: StageId,
    /// What makes them from the stage's input (a head) or from the stage's rows (a branch). Has one leaf.
    pub(super) plan: Arc<dyn ExecutionPlan>,
    pub(super) part: Part,
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
    /// Key groups: what comes from a hash exchange with these key columns, or, with `grouped`, what an operator has
    /// made of it that has one row per key.
    Keys { columns: Vec<usize>, grouped: bool },
    /// Everything.
    Single,
}

impl Rows {
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
}

impl Stages {
    /// A stage that decodes a source.
    pub(super) fn source(&mut self, source: SourceIdx, name: &str, schema: SchemaRef) -> Rows {
        let stage = self.stage(name, StageInput::Source(source), Placement::Splits, schema.clone());
        Rows { stage, plan: leaf(schema, Shape::Distributed), part: Part::Branch { keyed: false } }
    }

    fn stage(&mut self, name: &str, input: StageInput, placement: Placement, schema: SchemaRef) -> StageId {
        let id = StageId(self.stages.len() as u32);
        self.stages.push(Stage {
            id,
            name: name.to_string(),
            input,
            placement,
            head: None,
            state: None,
            row_keys: Vec::new(),
            schema,
            rhythm: Rhythm::EveryBatch,
            branches: Vec::new(),
        });
        id
    }

    /// When rows are there.
    pub(super) fn rhythm(&self, rows: &Rows) -> Rhythm {
        self.stages[rows.stage.0 as usize].rhythm
    }

    /// Ends a stage that consists of a window: `rows` are what the exchange before it brings. What comes out has these
    /// columns, the key columns at `keys`.
    pub(super) fn seal_window(
        &mut self,
        stage: StageId,
        window: WindowOp,
        visible: &Schema,
        keys: Vec<usize>,
        rhythm: Rhythm,
    ) -> Rows {
        let stage_mut = &mut self.stages[stage.0 as usize];
        stage_mut.schema = with_key(visible);
        stage_mut.row_keys = keys;
        stage_mut.rhythm = rhythm;
        stage_mut.state = Some(StageState::Window(Box::new(window)));
        let plan = leaf(stage_mut.schema.clone(), Shape::Distributed);
        Rows { stage, plan, part: Part::Branch { keyed: true } }
    }

    /// Sends rows to where they are remembered: with their keys to the key groups they have, or without keys all to
    /// one. Gives the stage that gets them.
    pub(super) fn remember(&mut self, rows: Rows, name: &str) -> StageId {
        let rows = self.seal(rows);
        let keys = match rows.is_keyed() {
            true => vec![rows.plan.schema().fields().len() - 1],
            false => Vec::new(),
        };
        self.exchange(rows.stage, &rows.plan, ExchangeKind::Hash { keys }, Placement::KeyGroups, name)
    }

    /// Ends the head of a stage: from now on its rows are fixed.
    pub(super) fn seal(&mut self, rows: Rows) -> Rows {
        let Part::Head(head) = &rows.part else {
            return rows;
        };
        let stage = &mut self.stages[rows.stage.0 as usize];
        stage.head = fragment(&rows.plan);
        stage.schema = rows.plan.schema();
        let mut keyed = false;
        if let Head::Keys { columns, .. } = head {
            stage.row_keys = columns.clone();
            stage.schema = with_key(&stage.schema);
            keyed = true;
        }
        let plan = leaf(stage.schema.clone(), Shape::Distributed);
        Rows { stage: rows.stage, plan, part: Part::Branch { keyed } }
    }

    /// Ends the head of a stage with a state operator behind it. The head gives key columns, then aggregates.
    pub(super) fn seal_with_state(&mut self, rows: Rows, state: StateOp) -> Rows {
        let stage = rows.stage;
        self.seal(rows);
        let stage_mut = &mut self.stages[stage.0 as usize];
        let fields: Vec<_> = state.key_fields.iter().chain(&state.state_fields).cloned().collect();
        stage_mut.schema = with_key(&Schema::new(fields));
        stage_mut.row_keys = (0..state.key_fields.len()).collect();
        stage_mut.state = Some(StageState::ByKey(state));
        let plan = leaf(stage_mut.schema.clone(), Shape::Distributed);
        Rows { stage, plan, part: Part::Branch { keyed: true } }
    }

    /// Sends rows to the key groups of their keys: a new stage.
    pub(super) fn hash(&mut self, rows: Rows, keys: Vec<usize>, name: &str) -> Result<Rows, Failure> {
        let rows = self.seal(rows);
        let plan = rows.visible()?;
        let schema = plan.schema();
        if !keys.iter().all(|&key| is_encodable(schema.field(key).data_type())) {
            return Err(Failure::Uncuttable);
        }
        let kind = ExchangeKind::Hash { keys: keys.clone() };
        let stage = self.exchange(rows.stage, &plan, kind, Placement::KeyGroups, name);
        let head = Head::Keys { columns: keys, grouped: false };
        Ok(Rows { stage, plan: leaf(schema, Shape::Distributed), part: Part::Head(head) })
    }

    /// Brings all rows together, in order: a new stage. Rows of key groups come by key (before that, by `order`), all
    /// others as they are in the input.
    pub(super) fn gather(
        &mut self,
        rows: Rows,
        order: Option<LexOrdering>,
        fetch: Option<usize>,
        name: &str,
    ) -> Result<Rows, Failure> {
        let rows = self.seal(rows);
        let keyed = rows.part == Part::Branch { keyed: true };
        let schema = rows.plan.schema();
        let stage = self.exchange(rows.stage, &rows.plan, ExchangeKind::Gather, Placement::Single, name);
        let mut plan = leaf(schema.clone(), Shape::Single);
        let mut sorts: Vec<_> = order.into_iter().flatten().collect();
        if keyed {
            let key = Column::new(KEY_COLUMN, schema.fields().len() - 1);
            let options = SortOptions { descending: false, nulls_first: true };
            sorts.push(PhysicalSortExpr::new(Arc::new(key) as Arc<dyn PhysicalExpr>, options));
        }
        if let Some(order) = LexOrdering::new(sorts) {
            plan = Arc::new(StableSortExec::try_new(plan, order, fetch)?);
        } else if fetch.is_some() {
            plan = Arc::new(GlobalLimitExec::new(plan, 0, fetch));
        }
        let part = Part::Branch { keyed };
        let plan = Rows { stage, plan, part }.visible()?;
        Ok(Rows { stage, plan, part: Part::Head(Head::Single) })
    }

    fn exchange(
        &mut self,
        from: StageId,
        plan: &Arc<dyn ExecutionPlan>,
        kind: ExchangeKind,
        placement: Placement,
        name: &str,
    ) -> StageId {
        let id = ExchangeId(self.exchanges.len() as u32);
        let to = self.stage(name, StageInput::Exchanges(vec![id]), placement, plan.schema());
        self.stages[to.0 as usize].rhythm = self.stages[from.0 as usize].rhythm;
        self.exchanges.push(Exchange { id, from, to, kind, schema: plan.schema() });
        self.branch(from, plan, BranchTarget::Exchange(id));
        to
    }

    /// Ends rows in an output.
    pub(super) fn output(&mut self, rows: &Rows, output: OutputIdx) {
        self.branch(rows.stage, &rows.plan, BranchTarget::Output(output));
    }

    /// The stage that an output comes from.
    pub(super) fn end_of(&self, output: OutputIdx) -> StageId {
        let ends = |stage: &&Stage| stage.branches.iter().any(|branch| branch.target == BranchTarget::Output(output));
        self.stages.iter().find(ends).map_or(StageId(0), |stage| stage.id)
    }

    fn branch(&mut self, stage: StageId, plan: &Arc<dyn ExecutionPlan>, target: BranchTarget) {
        let branch = Branch { fragment: fragment(plan), target };
        self.stages[stage.0 as usize].branches.push(branch);
    }

    /// Drops the stages that lead to no output, and numbers the others anew.
    pub(super) fn prune(&mut self) {
        while let Some(useless) = self.stages.iter().position(|stage| stage.branches.is_empty()) {
            let StageInput::Exchanges(inputs) = self.stages.remove(useless).input else {
                continue;
            };
            self.exchanges.retain(|exchange| !inputs.contains(&exchange.id));
            for stage in &mut self.stages {
                stage.branches.retain(|branch| match branch.target {
                    BranchTarget::Exchange(id) => !inputs.contains(&id),
                    BranchTarget::Output(_) => true,
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

/// A leaf that reads all columns of the stage's input or rows.
fn leaf(schema: SchemaRef, shape: Shape) -> Arc<dyn ExecutionPlan> {
    Arc::new(LeafExec::new(0, schema, shape))
}

/// A plan that only reads is no fragment at all.
fn fragment(plan: &Arc<dyn ExecutionPlan>) -> Option<Fragment> {
    (!plan.is::<LeafExec>()).then(|| Fragment::new(plan.clone()))
}

pub(super) fn with_key(schema: &Schema) -> SchemaRef {
    let mut fields = schema.fields().to_vec();
    fields.push(Arc::new(Field::new(KEY_COLUMN, DataType::Binary, false)));
    Arc::new(Schema::new(fields))
}
