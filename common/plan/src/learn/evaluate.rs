//! `evaluate`: how good predictions are, and `ab_test`: whether two groups differ. One row per key and batch.

use super::{Fold, Folded};
use crate::error::PlanError;
use crate::plan::BatchContext;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use ndarray::{Array1, ArrayView1};
use std::sync::Arc;
use tidemill_ml::metrics::{Evaluator, EvaluatorSpec, Observed};
use tidemill_ml::stats::{Samples, StreamingTest, StreamingTestSpec};
use tidemill_ml::{DecodeError, ModelError, SpecError};

/// Numbers of a column; NaN for null, which is skipped where it matters.
fn numbers(column: &ArrayRef) -> Array1<f64> {
    column.as_primitive::<Float64Type>().iter().map(|value| value.unwrap_or(f64::NAN)).collect()
}

fn wrong_rows(error: ModelError) -> PlanError {
    PlanError::Data(error.to_string())
}

fn wrong_bytes(error: DecodeError) -> PlanError {
    PlanError::Malformed(error.to_string())
}

/// The definition was checked when it was compiled.
fn wrong_spec(error: SpecError) -> PlanError {
    PlanError::Internal(error.to_string())
}

/// Rows: prediction, then label, score and weight where there are.
#[derive(Debug)]
pub(crate) struct EvaluateFold {
    pub(crate) spec: EvaluatorSpec,
    pub(crate) labelled: bool,
    pub(crate) scored: bool,
    pub(crate) weighted: bool,
}

impl EvaluateFold {
    /// A double per metric.
    pub(crate) fn schema(&self) -> SchemaRef {
        let fields = self.spec.reported().iter().map(|metric| Field::new(metric.name(), DataType::Float64, true));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    fn report(&self, evaluator: &Evaluator) -> Result<RecordBatch, PlanError> {
        let report = evaluator.report().into_iter();
        let columns = report.map(|(_, value)| Arc::new(Float64Array::from(vec![value])) as ArrayRef).collect();
        Ok(RecordBatch::try_new(self.schema(), columns)?)
    }
}

impl Fold for EvaluateFold {
    fn every_key(&self) -> bool {
        true
    }

    fn step(&self, value: Option<&[u8]>, rows: &RecordBatch, _: &BatchContext) -> Result<Folded, PlanError> {
        let mut evaluator = match value {
            Some(bytes) => Evaluator::from_bytes(bytes).map_err(wrong_bytes)?,
            None => Evaluator::new(self.spec.clone()).map_err(wrong_spec)?,
        };
        let columns: Vec<Array1<f64>> = rows.columns().iter().map(numbers).collect();
        let mut columns = columns.iter().map(|column| column.view());
        let prediction = columns.next().unwrap_or_else(|| ArrayView1::from(&[]));
        let mut next = |given: bool| if given { columns.next() } else { None };
        let (label, score, weight) = (next(self.labelled), next(self.scored), next(self.weighted));
        evaluator.update(&[Observed { prediction, label, score, weight }]).map_err(wrong_rows)?;
        Ok(Folded { value: Some(evaluator.to_bytes()), learnt: false, rows: self.report(&evaluator)? })
    }
}

/// Rows: experiment (boolean), value.
#[derive(Debug)]
pub(crate) struct TestFold {
    pub(crate) spec: StreamingTestSpec,
}

impl TestFold {
    /// What a test says.
    pub(crate) fn schema() -> SchemaRef {
        let number = |name: &str| Field::new(name, DataType::Float64, true);
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        Arc::new(Schema::new(vec![
            number("p_value"),
            number("degrees_of_freedom"),
            number("statistic"),
            text("method"),
            text("null_hypothesis"),
        ]))
    }
}

impl Fold for TestFold {
    fn every_key(&self) -> bool {
        true
    }

    fn step(&self, value: Option<&[u8]>, rows: &RecordBatch, _: &BatchContext) -> Result<Folded, PlanError> {
        let mut test = match value {
            Some(bytes) => StreamingTest::from_bytes(bytes).map_err(wrong_bytes)?,
            None => StreamingTest::new(self.spec.clone()).map_err(wrong_spec)?,
        };
        let group = rows.column(0).as_boolean();
        let compared = rows.column(1).as_primitive::<Float64Type>();
        let told = |row: &usize| group.is_valid(*row) && compared.is_valid(*row);
        let places: Vec<usize> = (0..rows.num_rows()).filter(told).collect();
        let experiment: Array1<bool> = places.iter().map(|row| group.value(*row)).collect();
        let numbers: Array1<f64> = places.iter().map(|row| compared.value(*row)).collect();
        let samples = Samples { experiment: experiment.view(), value: numbers.view() };
        let result = test.update(&[samples]).map_err(wrong_rows)?;
        let number = |value: Option<f64>| Arc::new(Float64Array::from(vec![value])) as ArrayRef;
        let text = |value: Option<&str>| Arc::new(StringArray::from(vec![value])) as ArrayRef;
        let result = result.as_ref();
        let columns = vec![
            number(result.map(|r| r.p_value)),
            number(result.map(|r| r.degrees_of_freedom)),
            number(result.map(|r| r.statistic)),
            text(result.map(|r| r.method)),
            text(result.map(|r| r.null_hypothesis)),
        ];
        Ok(Folded { value: Some(test.to_bytes()), learnt: false, rows: RecordBatch::try_new(Self::schema(), columns)? })
    }
}
