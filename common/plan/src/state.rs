//! What stages remember from batch to batch, and `update_state_by_key`: from a key's old state and the batch's
//! aggregates to its new state.

use crate::clock;
use crate::error::PlanError;
use crate::plan::BatchContext;
use crate::window::WindowOp;
use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Fields, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::physical_expr::PhysicalExpr;
use std::fmt;
use std::sync::Arc;
use tidemill_common::job::{Emit, UpdateKeys};

/// What a stage remembers from batch to batch. Each key group of it is a partition: encoded keys with typed columns.
#[derive(Debug)]
pub enum StageState {
    /// `update_state_by_key`: a row per key.
    ByKey(StateOp),
    /// A window: a row per pane.
    Window(Box<WindowOp>),
}

impl StageState {
    /// The columns of a partition.
    pub fn fields(&self) -> &Fields {
        match self {
            Self::ByKey(op) => &op.state_fields,
            Self::Window(op) => op.state_fields(),
        }
    }

    /// What partitions hold before the first batch: rows of key columns, of which there are so many, then state.
    pub fn initial(&self) -> Option<(usize, &RecordBatch)> {
        match self {
            Self::ByKey(op) => op.initial.as_ref().map(|rows| (op.key_fields.len(), rows)),
            Self::Window(_) => None,
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

/// The prepared expressions of a [`StateOp`]. They see key columns, state columns (old; new for `drop_when`),
/// aggregates.
pub(crate) struct Steps {
    pub(crate) schema: SchemaRef,
    /// One per state column, of its type.
    pub(crate) updates: Vec<Arc<dyn PhysicalExpr>>,
    pub(crate) drop_when: Option<Arc<dyn PhysicalExpr>>,
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
            let seen = self.batch(keys, old_state, aggregates, rows)?;
            let mut state = Vec::with_capacity(self.steps.updates.len());
            for update in &self.steps.updates {
                state.push(update.evaluate(&seen)?.into_array(rows)?);
            }
            let dropped = match &self.steps.drop_when {
                None => None,
                Some(drop_when) => {
                    let seen = self.batch(keys, &state, aggregates, rows)?;
                    let dropped = drop_when.evaluate(&seen)?.into_array(rows)?;
                    Some(dropped.as_boolean().iter().map(|drop| Some(drop == Some(true))).collect())
                }
            };
            Ok(Updated { state, dropped })
        })
    }

    fn batch(
        &self,
        keys: &[ArrayRef],
        state: &[ArrayRef],
        aggregates: &[ArrayRef],
        rows: usize,
    ) -> Result<RecordBatch, PlanError> {
        let columns = keys.iter().chain(state).chain(aggregates).cloned().collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.steps.schema.clone(), columns, &options)?)
    }
}

/// As displayed, which says the same in every process.
fn shown(values: impl Iterator<Item = impl ToString>) -> Vec<String> {
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
