//! `train`: a model learns from the rows of each batch, or from sums over them that were made where they are.

use super::rows::{Learnable, Lesson};
use super::show::{learned, learned_schema};
use super::{Fold, Folded};
use crate::error::PlanError;
use crate::plan::BatchContext;
use datafusion::arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float64Array, Float64Builder, Int64Array, RecordBatch,
};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use std::sync::Arc;
use tidemill_ml::{Health, Model, ModelSpec, Partial, Trained};

/// Trains one model.
#[derive(Debug)]
pub(crate) struct TrainFold {
    lesson: Lesson,
    comes: Comes,
    row_schema: SchemaRef,
    snapshot_schema: SchemaRef,
}

/// What comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comes {
    /// Rows to learn one after the other, and what passes through.
    Records,
    /// Rows that are learnt together.
    Rows,
    /// What [`PartialExec`](super::PartialExec) gives.
    Partials,
}

impl TrainFold {
    /// `passing` are the columns that come out again where each record is predicted before it is learnt.
    pub(crate) fn new(lesson: Lesson, spec: &ModelSpec, comes: Comes, passing: &Schema) -> Self {
        let fields = if comes == Comes::Records {
            let prediction = Arc::new(Field::new("prediction", DataType::Float64, true));
            passing.fields().iter().cloned().chain([prediction]).collect::<Vec<_>>()
        } else {
            let count = |name: &str| Arc::new(Field::new(name, DataType::Int64, false));
            let loss = Arc::new(Field::new("loss", DataType::Float64, true));
            let diverged = Arc::new(Field::new("diverged", DataType::Boolean, false));
            vec![count("rows"), count("skipped"), count("updates"), loss, diverged]
        };
        Self { lesson, comes, row_schema: Arc::new(Schema::new(fields)), snapshot_schema: learned_schema(spec) }
    }

    /// What comes out of the operator.
    pub(crate) fn row_schema(&self) -> SchemaRef {
        self.row_schema.clone()
    }

    /// What a model shows.
    pub(crate) fn snapshot_schema(&self) -> SchemaRef {
        self.snapshot_schema.clone()
    }

    fn in_batch(&self, model: &mut Model, rows: &RecordBatch) -> Result<RecordBatch, PlanError> {
        let learnable = self.lesson.learnable(rows)?;
        let trained = model.train(&learnable.splits()).map_err(|error| self.lesson.wrong(&error))?;
        self.report(model, &trained, rows, (rows.num_rows() - learnable.len()) as u64)
    }

    fn by_partials(&self, model: &mut Model, rows: &RecordBatch) -> Result<RecordBatch, PlanError> {
        let [partials, nulls] = rows.columns() else {
            return Err(PlanError::Internal("partial sums are two columns".into()));
        };
        let partials = partials.as_binary::<i32>().iter().flatten().map(|bytes| {
            Partial::from_bytes(bytes)
                .map_err(|error| PlanError::Malformed(format!("model `{}`: {error}", self.lesson.model)))
        });
        let partials: Vec<Partial> = partials.collect::<Result<_, _>>()?;
        let trained = model.apply(&partials).map_err(|error| self.lesson.wrong(&error))?;
        let nulls = nulls.as_primitive::<Int64Type>().iter().flatten().sum::<i64>();
        self.report(model, &trained, rows, nulls.unsigned_abs())
    }

    /// What a batch has done to the model; nothing if nothing came in.
    fn report(
        &self,
        model: &Model,
        trained: &Trained,
        rows: &RecordBatch,
        nulls: u64,
    ) -> Result<RecordBatch, PlanError> {
        if rows.num_rows() == 0 {
            return Ok(RecordBatch::new_empty(self.row_schema.clone()));
        }
        let count = |count: u64| Arc::new(Int64Array::from(vec![i64::try_from(count).unwrap_or(i64::MAX)])) as ArrayRef;
        let columns = vec![
            count(trained.rows),
            count(trained.skipped + nulls),
            count(u64::from(trained.updates)),
            Arc::new(Float64Array::from(vec![trained.loss])) as ArrayRef,
            Arc::new(BooleanArray::from(vec![model.health() != Health::Healthy])),
        ];
        Ok(RecordBatch::try_new(self.row_schema.clone(), columns)?)
    }

    fn record_by_record(&self, model: &mut Model, rows: &RecordBatch) -> Result<RecordBatch, PlanError> {
        let learnable = self.lesson.learnable(rows)?;
        let all = learnable.rows(0..learnable.len());
        let (predicted, _) = model.train_per_record(&all).map_err(|error| self.lesson.wrong(&error))?;
        let Learnable { found, .. } = &learnable;
        let mut predictions = Float64Builder::with_capacity(rows.num_rows());
        let mut learnt = found.places.iter().zip(&predicted).peekable();
        for row in 0..rows.num_rows() {
            let prediction = learnt.next_if(|(place, _)| **place == row).map(|(_, prediction)| *prediction);
            predictions.append_option(prediction);
        }
        let passing = self.row_schema.fields().len() - 1;
        let mut columns = rows.columns()[rows.num_columns() - passing..].to_vec();
        columns.push(Arc::new(predictions.finish()));
        Ok(RecordBatch::try_new(self.row_schema.clone(), columns)?)
    }

    fn read(&self, bytes: &[u8]) -> Result<Model, PlanError> {
        Model::from_bytes(bytes)
            .map_err(|error| PlanError::Malformed(format!("model `{}`: {error}", self.lesson.model)))
    }
}

impl Fold for TrainFold {
    /// A batch without rows matters to some: clusters forget.
    fn every_key(&self) -> bool {
        true
    }

    fn step(&self, value: Option<&[u8]>, rows: &RecordBatch, _: &BatchContext) -> Result<Folded, PlanError> {
        let before =
            value.ok_or_else(|| PlanError::Internal(format!("model `{}` is not in the state", self.lesson.model)))?;
        let mut model = self.read(before)?;
        let out = match self.comes {
            Comes::Records => self.record_by_record(&mut model, rows)?,
            Comes::Rows => self.in_batch(&mut model, rows)?,
            Comes::Partials => self.by_partials(&mut model, rows)?,
        };
        let after = model.to_bytes();
        Ok(Folded { value: (after != before).then_some(after), rows: out })
    }

    fn show(&self, value: &[u8]) -> Result<RecordBatch, PlanError> {
        Ok(learned(&self.read(value)?, &self.snapshot_schema)?)
    }
}
