//! Learning: operators that keep a value of bytes per key (a model, an evaluation, a detector) and fold each
//! batch into it, and the functions that ask a model.
//!
//! The mathematics is in `tidemill-ml`. Here is how rows become its matrices, and how its values become state: versioned
//! by batch, followed, checkpointed and recovered like any other.

mod arms;
mod evaluate;
pub(crate) mod matrix;
mod partial;
pub(crate) mod predict;
pub(crate) mod prepare;
mod rows;
mod show;
pub(crate) mod train;
mod watch;

pub use arms::row_ids;
pub(crate) use evaluate::{EvaluateFold, TestFold};
pub(crate) use partial::Partial;
pub use predict::{AskedModel, Models};
pub(crate) use rows::{Lesson, Takes};
pub(crate) use train::{Comes, TrainFold, WATCHED, Watch};
pub(crate) use watch::{ChooseFold, DriftFold};

use crate::error::PlanError;
use crate::plan::BatchContext;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use tidemill_common::ids::StageId;
use tidemill_ml::{Model, ModelSpec};
use tidemill_rows::canonical_rows;

/// A model of a job.
#[derive(Debug)]
pub struct ModelPlan {
    /// Its name.
    pub name: String,
    /// What it is.
    pub spec: ModelSpec,
    /// As it is before the first batch.
    pub initial: Arc<Model>,
    /// Features of the rows that it is trained with, or that it was made for; none if any number will do.
    pub features: Option<usize>,
    /// The stage that trains it, and the key group it lives in; none for a model that only answers.
    pub home: Option<(StageId, u32)>,
    /// The models (by position) whose champion answers under this name; empty for a model of its own.
    pub candidates: Vec<usize>,
}

/// A state operator that keeps a value of bytes per key.
pub struct FoldOp {
    /// The key columns: the first ones of the rows that come in.
    pub key_fields: Fields,
    /// Whether the key columns come out; a hidden key is one constant.
    pub keys_visible: bool,
    /// What comes out, without key columns.
    pub row_schema: SchemaRef,
    /// What can be seen of the state.
    pub snapshot_fields: Fields,
    /// Columns of the state.
    pub state_fields: Fields,
    /// Keys and state known before the first batch.
    pub initial: Option<RecordBatch>,
    /// The model that it trains, by position.
    pub model: Option<usize>,
    pub(crate) fold: Box<dyn Fold>,
}

/// The state columns of a [`FoldOp`]: the value, the batch it is from, and the value before that.
pub(crate) fn state_fields() -> Fields {
    Fields::from(vec![
        Field::new("value", DataType::Binary, true),
        Field::new("since", DataType::Int64, true),
        Field::new("before", DataType::Binary, true),
    ])
}

/// What a fold makes of one key's rows of a batch.
#[derive(Debug)]
pub struct Folded {
    /// The new value; none if it stays.
    pub value: Option<Vec<u8>>,
    /// Whether the value is a model that has learnt from the rows, or has begun anew.
    pub learnt: bool,
    /// What comes out.
    pub rows: RecordBatch,
}

/// The heart of a [`FoldOp`]: a pure function of a value and rows.
pub(crate) trait Fold: fmt::Debug + Send + Sync {
    /// Whether keys without rows are folded, too.
    fn every_key(&self) -> bool;

    /// The model (by position) whose champion it chooses, if there is one.
    fn choice(&self) -> Option<usize> {
        None
    }

    /// Which of the candidates the rows of a batch tell to be the champion.
    fn champion(&self, _rows: &RecordBatch) -> Option<usize> {
        None
    }

    /// One key's step; `rows` are without the key columns.
    fn step(&self, value: Option<&[u8]>, rows: &RecordBatch, ctx: &BatchContext) -> Result<Folded, PlanError>;

    /// The model in a value, in its stored form; of a value that is a model, the value.
    fn model<'v>(&self, value: &'v [u8]) -> Result<Cow<'v, [u8]>, PlanError> {
        Ok(Cow::Borrowed(value))
    }

    /// What can be seen of a value: one row; nothing, unless it is a model.
    fn show(&self, _value: &[u8]) -> Result<RecordBatch, PlanError> {
        Ok(RecordBatch::new_empty(Arc::new(Schema::empty())))
    }
}

impl FoldOp {
    /// The columns that come out: key columns where they are to be seen, then those of the fold.
    pub fn schema(&self) -> SchemaRef {
        let keys = self.key_fields.iter().filter(|_| self.keys_visible);
        Arc::new(Schema::new(keys.chain(self.row_schema.fields()).cloned().collect::<Vec<_>>()))
    }

    /// Whether keys without rows are folded, too.
    pub fn every_key(&self) -> bool {
        self.fold.every_key()
    }

    /// The model (by position) whose champion it chooses, if there is one.
    pub fn choice(&self) -> Option<usize> {
        self.fold.choice()
    }

    /// Which of the candidates the operator's rows of a batch tell to be the champion; none without rows.
    pub fn champion(&self, rows: &RecordBatch) -> Option<usize> {
        self.fold.champion(rows)
    }

    /// Folds the rows of one key (all columns, key columns first) into its value.
    ///
    /// # Errors
    /// For rows that the fold cannot take.
    pub fn step(&self, value: Option<&[u8]>, rows: &RecordBatch, ctx: &BatchContext) -> Result<Folded, PlanError> {
        let width = self.key_fields.len();
        let columns: Vec<usize> = (width..rows.num_columns()).collect();
        let folded = self.fold.step(value, &rows.project(&columns)?, ctx)?;
        Ok(Folded { rows: canonical_rows(folded.rows), ..folded })
    }

    /// The model in a value of a stage that trains one: [`Model::to_bytes`](tidemill_ml::Model::to_bytes).
    ///
    /// # Errors
    /// For bytes that are no value of this operator.
    pub fn model_bytes<'v>(&self, value: &'v [u8]) -> Result<Cow<'v, [u8]>, PlanError> {
        self.fold.model(value)
    }

    /// What can be seen of a value: one row of [`FoldOp::snapshot_fields`].
    ///
    /// # Errors
    /// For bytes that are no value of this operator.
    pub fn show(&self, value: &[u8]) -> Result<RecordBatch, PlanError> {
        self.fold.show(value).map(canonical_rows)
    }
}

impl fmt::Debug for FoldOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FoldOp")
            .field("key_fields", &self.key_fields)
            .field("keys_visible", &self.keys_visible)
            .field("initial", &self.initial)
            .field("fold", &self.fold)
            .finish()
    }
}
