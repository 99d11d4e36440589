//! What stages remember from batch to batch, and `update_state_by_key`: from a key's old state and the batch's
//! aggregates to its new state.

use crate::blame::Written;
use crate::clock;
use crate::error::PlanError;
use crate::fragment::Fragment;
use crate::join_within::JoinOp;
use crate::learn::FoldOp;
use crate::map_state::MapOp;
use crate::plan::BatchContext;
use crate::visit::KeyVisits;
use crate::window::WindowOp;
use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Fields, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::physical_expr::PhysicalExpr;
use std::fmt;
use std::sync::Arc;
use tidemill_job::{Emit, UpdateKeys};

/// What a stage remembers from batch to batch. Each key group of it is a partition: encoded keys with typed columns.
#[derive(Debug)]
pub enum StageState {
    /// `update_state_by_key`: a row per key.
    ByKey(StateOp),
    /// A window: a row per pane.
    Window(Box<WindowOp>),
    /// `map_with_state`: a row per key.
    Map(MapOp),
    /// A join within a time: a row per key, with lists of what waits.
    Join(JoinOp),
    /// Models and the like: a value of bytes per key.
    Fold(FoldOp),
}

impl StageState {
    /// The columns of a partition.
    pub fn fields(&self) -> &Fields {
        match self {
            Self::ByKey(op) => &op.state_fields,
            Self::Map(op) => &op.stored_fields,
            Self::Join(op) => op.stored_fields(),
            Self::Fold(op) => &op.state_fields,
            Self::Window(op) => op.state_fields(),
        }
    }

    /// The columns of a snapshot: the key's, then those of the state that users see; none of a window.
    pub fn snapshot_fields(&self) -> Option<(&Fields, &Fields)> {
        match self {
            Self::ByKey(op) => Some((&op.key_fields, &op.state_fields)),
            Self::Map(op) => Some((&op.key_fields, &op.state_fields)),
            Self::Join(op) => Some((op.key_fields(), op.stored_fields())),
            Self::Fold(op) => Some((&op.key_fields, &op.snapshot_fields)),
            Self::Window(_) => None,
        }
    }

    /// The expressions of the operator, but for those that stand in fragments.
    pub(crate) fn exprs(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        let written: Vec<&Written> = match self {
            Self::ByKey(op) => op.steps.updates.iter().chain(&op.steps.drop_when).collect(),
            Self::Map(op) => {
                let conditions = op.steps.emit_when.iter().chain(&op.steps.remove_when);
                op.steps.updates.iter().chain(&op.steps.emit).chain(conditions).collect()
            }
            Self::Join(_) | Self::Fold(_) | Self::Window(_) => Vec::new(),
        };
        written.into_iter().map(|written| &written.expr).collect()
    }

    /// The fragments of the operator.
    pub(crate) fn fragments(&self) -> Vec<&Fragment> {
        match self {
            Self::Window(op) => op.fragments(),
            Self::ByKey(_) | Self::Map(_) | Self::Join(_) | Self::Fold(_) => Vec::new(),
        }
    }

    /// What partitions hold before the first batch: rows of key columns, of which there are so many, then state.
    pub fn initial(&self) -> Option<(usize, &RecordBatch)> {
        match self {
            Self::ByKey(op) => op.initial.as_ref().map(|rows| (op.key_fields.len(), rows)),
            Self::Window(_) | Self::Join(_) => None,
            Self::Map(op) => op.initial.as_ref().map(|rows| (op.key_fields.len(), rows)),
            Self::Fold(op) => op.initial.as_ref().map(|rows| (op.key_fields.len(), rows)),
        }
    }
}

/// A prepared state operator. It sits behind a head that gives key columns, then aggregates.
pub struct StateOp {
    /// The key columns.
    pub key_fields: Fields,
    /// The state columns.
    pub state_fields: Fields,
    /// Which keys are updated.
    pub update: UpdateKeys,
    /// Which keys come out.
    pub emit: Emit,
    /// Key and state columns of the keys known before the first batch; no key twice.
    pub initial: Option<RecordBatch>,
    pub(crate) steps: Steps,
}

/// The prepared expressions of a [`StateOp`].
pub(crate) struct Steps {
    /// Key columns, old state, aggregates; new state, which updates do not see.
    pub(crate) schema: SchemaRef,
    /// One per state column, of its type.
    pub(crate) updates: Vec<Written>,
    pub(crate) drop_when: Option<Written>,
    /// The aggregates over no rows.
    pub(crate) defaults: Vec<ScalarValue>,
}

/// What [`StateOp::update`] gives.
#[derive(Debug, Clone)]
pub struct Updated {
    /// The new state columns.
    pub state: Vec<ArrayRef>,
    /// The keys that are dropped; none without `drop_when`. Never null.
    pub dropped: Option<BooleanArray>,
}

impl StateOp {
    /// The aggregates of `rows` keys without records in the batch (a count is 0, a sum null).
    ///
    /// # Errors
    /// None that data can cause.
    pub fn aggregate_defaults(&self, rows: usize) -> Result<Vec<ArrayRef>, PlanError> {
        let arrays = self.steps.defaults.iter().map(|value| value.to_array_of_size(rows));
        Ok(arrays.collect::<Result<_, _>>()?)
    }

    /// New state of keys, row by row. A key without state has nulls for its old state.
    ///
    /// # Errors
    /// When an expression fails on the data.
    pub fn update(
        &self,
        keys: &[ArrayRef],
        old_state: &[ArrayRef],
        aggregates: &[ArrayRef],
        ctx: &BatchContext,
    ) -> Result<Updated, PlanError> {
        clock::sync_at(ctx.time_ms, || {
            let rows = keys.first().map_or(0, |key| key.len());
            let mut columns: Vec<_> = keys.iter().chain(old_state).chain(aggregates).cloned().collect();
            let before = seen(&self.steps.schema, columns.clone(), rows)?;
            let mut state = Vec::with_capacity(self.steps.updates.len());
            for update in &self.steps.updates {
                state.push(update.evaluate(&before)?);
            }
            let dropped = match &self.steps.drop_when {
                None => None,
                Some(drop_when) => {
                    columns.extend(state.iter().cloned());
                    Some(true_where(drop_when, &seen(&self.steps.schema, columns, rows)?)?)
                }
            };
            Ok(Updated { state, dropped })
        })
    }
}

/// So many rows of the first columns of a schema.
pub(crate) fn seen(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, PlanError> {
    let schema = match schema.fields().len() > columns.len() {
        true => Arc::new(Schema::new(schema.fields()[..columns.len()].to_vec())),
        false => schema.clone(),
    };
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

/// Where a condition holds: false in place of null.
pub(crate) fn true_where(condition: &Written, rows: &RecordBatch) -> Result<BooleanArray, PlanError> {
    let holds = condition.evaluate(rows)?;
    Ok(holds.as_boolean().iter().map(|holds| Some(holds == Some(true))).collect())
}

/// As displayed, which says the same in every process.
pub(crate) fn shown(values: impl Iterator<Item = impl ToString>) -> Vec<String> {
    values.map(|value| value.to_string()).collect()
}

impl fmt::Debug for StateOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateOp")
            .field("key_fields", &self.key_fields)
            .field("state_fields", &self.state_fields)
            .field("update", &self.update)
            .field("emit", &self.emit)
            .field("initial", &self.initial)
            .field("updates", &shown(self.steps.updates.iter()))
            .field("drop_when", &shown(self.steps.drop_when.iter()))
            .field("defaults", &shown(self.steps.defaults.iter()))
            .finish()
    }
}
