//! `detect_drift`: where a stream of numbers changes, and `choose`: the best of several models, by a test.

use super::{Fold, Folded};
use crate::error::PlanError;
use crate::plan::BatchContext;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use ndarray::Array2;
use std::sync::Arc;
use tidemill_ml::champion::{Champion, ChampionSpec};
use tidemill_ml::drift::{Detector, DetectorSpec, Drift};

/// Rows: the number that is watched.
#[derive(Debug)]
pub(crate) struct DriftFold {
    pub(crate) spec: DetectorSpec,
}

impl DriftFold {
    /// A row for every number at which the detector speaks.
    pub(crate) fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("state", DataType::Utf8, false),
            Field::new("value", DataType::Float64, false),
            Field::new("seen", DataType::Int64, false),
            Field::new("estimate", DataType::Float64, true),
        ]))
    }
}

/// What a detector says, in words.
pub(super) fn said(drift: Drift) -> Option<&'static str> {
    match drift {
        Drift::None => None,
        Drift::Warning => Some("warning"),
        Drift::Detected => Some("drift"),
    }
}

impl Fold for DriftFold {
    fn every_key(&self) -> bool {
        false
    }

    fn step(&self, value: Option<&[u8]>, rows: &RecordBatch, _: &BatchContext) -> Result<Folded, PlanError> {
        let mut detector = match value {
            Some(bytes) => Detector::from_bytes(bytes).map_err(|error| PlanError::Malformed(error.to_string()))?,
            None => Detector::new(self.spec.clone()).map_err(|error| PlanError::Internal(error.to_string()))?,
        };
        let (mut states, mut values, mut seen, mut estimates) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for number in rows.column(0).as_primitive::<Float64Type>().iter().flatten() {
            let Some(state) = said(detector.update(number)) else { continue };
            states.push(state);
            values.push(number);
            seen.push(i64::try_from(detector.seen()).unwrap_or(i64::MAX));
            estimates.push(detector.estimate());
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(states)),
            Arc::new(Float64Array::from(values)),
            Arc::new(Int64Array::from(seen)),
            Arc::new(Float64Array::from(estimates)),
        ];
        Ok(Folded {
            value: Some(detector.to_bytes()),
            learnt: false,
            rows: RecordBatch::try_new(Self::schema(), columns)?,
        })
    }
}

/// Rows: the loss of each model.
#[derive(Debug)]
pub(crate) struct ChooseFold {
    pub(crate) spec: ChampionSpec,
    /// Names of the models, as many as the specification says.
    pub(crate) names: Vec<String>,
    /// The model (by position) under whose name the champion answers.
    pub(crate) choice: Option<usize>,
}

impl ChooseFold {
    /// One row per batch: who is the champion, and the mean losses over the window.
    pub(crate) fn schema(&self) -> SchemaRef {
        let mut fields = vec![
            Field::new("champion", DataType::Utf8, false),
            Field::new("changed", DataType::Boolean, false),
            Field::new("p_value", DataType::Float64, true),
        ];
        let loss = |name: &String| Field::new(format!("loss_{name}"), DataType::Float64, true);
        fields.extend(self.names.iter().map(loss));
        Arc::new(Schema::new(fields))
    }
}

impl Fold for ChooseFold {
    fn every_key(&self) -> bool {
        true
    }

    fn choice(&self) -> Option<usize> {
        self.choice
    }

    fn champion(&self, rows: &RecordBatch) -> Option<usize> {
        let told = rows.column_by_name("champion")?.as_string_opt::<i32>()?;
        let last = told.len().checked_sub(1).map(|row| told.value(row))?;
        self.names.iter().position(|name| name == last)
    }

    fn step(&self, value: Option<&[u8]>, rows: &RecordBatch, _: &BatchContext) -> Result<Folded, PlanError> {
        let mut champion = match value {
            Some(bytes) => Champion::from_bytes(bytes).map_err(|error| PlanError::Malformed(error.to_string()))?,
            None => Champion::new(self.spec.clone()).map_err(|error| PlanError::Internal(error.to_string()))?,
        };
        let columns: Vec<_> = rows.columns().iter().map(|column| column.as_primitive::<Float64Type>()).collect();
        // A row that some model was not asked about says nothing of the others.
        let whole: Vec<usize> =
            (0..rows.num_rows()).filter(|row| columns.iter().all(|column| column.is_valid(*row))).collect();
        let losses =
            Array2::from_shape_fn((whole.len(), columns.len()), |(row, model)| columns[model].value(whole[row]));
        let change = champion.update(&[losses.view()]).map_err(|error| PlanError::Data(error.to_string()))?;
        let mut out: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![self.names[champion.champion()].as_str()])),
            Arc::new(BooleanArray::from(vec![change.is_some()])),
            Arc::new(Float64Array::from(vec![change.and_then(|change| change.p_value)])),
        ];
        out.extend(champion.losses().into_iter().map(|mean| Arc::new(Float64Array::from(vec![mean])) as ArrayRef));
        Ok(Folded { value: Some(champion.to_bytes()), learnt: false, rows: RecordBatch::try_new(self.schema(), out)? })
    }
}
