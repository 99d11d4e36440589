//! `train`: a model learns from the rows of each batch.

use super::matrix::{Matrix, matrix};
use super::show::{learned, learned_schema};
use super::{Fold, Folded};
use crate::error::PlanError;
use crate::plan::BatchContext;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Float64Builder, Int64Array, RecordBatch,
};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use ndarray::{Array1, Axis};
use std::sync::Arc;
use tidemill_ml::{Health, Model, ModelSpec, Rows, Trained};

/// Rows of a split: sums are made per split and added in order, whoever holds the rows.
const SPLIT_ROWS: usize = 8192;

/// Trains one model. Its rows are: features, label and weight where there are, then what passes through.
#[derive(Debug)]
pub(crate) struct TrainFold {
    model: String,
    per_record: bool,
    features: usize,
    labelled: bool,
    weighted: bool,
    row_schema: SchemaRef,
    snapshot_schema: SchemaRef,
}

/// Rows without a null.
struct Learnable {
    found: Matrix,
    y: Option<Array1<f64>>,
    weight: Option<Array1<f64>>,
}

impl TrainFold {
    /// `features` counts columns; `passing` are the columns that come out again where each record is predicted before
    /// it is learnt.
    pub(crate) fn new(
        model: &str,
        spec: &ModelSpec,
        (features, labelled, weighted): (usize, bool, bool),
        passing: &Schema,
    ) -> Self {
        let per_record = spec.per_record();
        let fields = if per_record {
            let prediction = Arc::new(Field::new("prediction", DataType::Float64, true));
            passing.fields().iter().cloned().chain([prediction]).collect::<Vec<_>>()
        } else {
            let count = |name: &str| Arc::new(Field::new(name, DataType::Int64, false));
            let loss = Arc::new(Field::new("loss", DataType::Float64, true));
            let diverged = Arc::new(Field::new("diverged", DataType::Boolean, false));
            vec![count("rows"), count("skipped"), count("updates"), loss, diverged]
        };
        Self {
            model: model.to_string(),
            per_record,
            features,
            labelled,
            weighted,
            row_schema: Arc::new(Schema::new(fields)),
            snapshot_schema: learned_schema(spec),
        }
    }

    /// What comes out of the operator.
    pub(crate) fn row_schema(&self) -> SchemaRef {
        self.row_schema.clone()
    }

    /// What a model shows.
    pub(crate) fn snapshot_schema(&self) -> SchemaRef {
        self.snapshot_schema.clone()
    }

    /// The rows that can be learnt from, with labels and weights.
    fn learnable(&self, rows: &RecordBatch) -> Result<Learnable, PlanError> {
        let (features, others) = rows.columns().split_at(self.features);
        let numbers: Vec<&Float64Array> = others
            .iter()
            .take(usize::from(self.labelled) + usize::from(self.weighted))
            .map(|column| column.as_primitive::<Float64Type>())
            .collect();
        let whole = |row: usize| numbers.iter().all(|column| column.is_valid(row));
        let found = matrix(features, rows.num_rows(), whole)?;
        let taken = |column: &&Float64Array| found.places.iter().map(|place| column.value(*place)).collect();
        let mut numbers = numbers.iter();
        let y = if self.labelled { numbers.next().map(taken) } else { None };
        let weight = if self.weighted { numbers.next().map(taken) } else { None };
        Ok(Learnable { found, y, weight })
    }

    fn in_batch(&self, model: &mut Model, rows: &RecordBatch) -> Result<RecordBatch, PlanError> {
        let Learnable { found, y, weight } = self.learnable(rows)?;
        let count = found.x.nrows();
        let splits: Vec<Rows<'_>> = (0..count)
            .step_by(SPLIT_ROWS)
            .map(|from| {
                let rows = from..(from + SPLIT_ROWS).min(count);
                Rows {
                    x: found.x.slice_axis(Axis(0), rows.clone().into()),
                    y: y.as_ref().map(|y| y.slice_axis(Axis(0), rows.clone().into())),
                    weight: weight.as_ref().map(|weight| weight.slice_axis(Axis(0), rows.clone().into())),
                }
            })
            .collect();
        let trained = model.train(&splits).map_err(|error| self.wrong(&error))?;
        if rows.num_rows() == 0 {
            return Ok(RecordBatch::new_empty(self.row_schema.clone()));
        }
        self.report(model, &trained, (rows.num_rows() - count) as u64)
    }

    fn report(&self, model: &Model, trained: &Trained, nulls: u64) -> Result<RecordBatch, PlanError> {
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
        let Learnable { found, y, weight } = self.learnable(rows)?;
        let (y, weight) = (y.as_ref().map(|y| y.view()), weight.as_ref().map(|weight| weight.view()));
        let all = Rows { x: found.x.view(), y, weight };
        let (predicted, _) = model.train_per_record(&all).map_err(|error| self.wrong(&error))?;
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
        Model::from_bytes(bytes).map_err(|error| PlanError::Malformed(format!("model `{}`: {error}", self.model)))
    }

    fn wrong(&self, error: &tidemill_ml::ModelError) -> PlanError {
        PlanError::Data(format!("model `{}`: {error}", self.model))
    }
}

impl Fold for TrainFold {
    /// A batch without rows matters to some: clusters forget.
    fn every_key(&self) -> bool {
        true
    }

    fn step(&self, value: Option<&[u8]>, rows: &RecordBatch, _: &BatchContext) -> Result<Folded, PlanError> {
        let before = value.ok_or_else(|| PlanError::Internal(format!("model `{}` is not in the state", self.model)))?;
        let mut model = self.read(before)?;
        let out = match self.per_record {
            true => self.record_by_record(&mut model, rows)?,
            false => self.in_batch(&mut model, rows)?,
        };
        let after = model.to_bytes();
        Ok(Folded { value: (after != before).then_some(after), rows: out })
    }

    fn show(&self, value: &[u8]) -> Result<RecordBatch, PlanError> {
        Ok(learned(&self.read(value)?, &self.snapshot_schema)?)
    }
}
