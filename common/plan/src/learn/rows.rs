//! The rows that a model learns from: features, label and weight out of columns.

use super::matrix::{Matrix, matrix};
use datafusion::arrow::array::{Array, AsArray, Float64Array, RecordBatch};
use datafusion::arrow::datatypes::Float64Type;
use datafusion::common::{DataFusionError, Result};
use ndarray::{Array1, Axis};
use std::ops::Range;
use tidemill_ml::{ModelError, Rows};

/// Rows of a split: sums are made per split and added in order, whoever holds the rows.
pub(crate) const SPLIT_ROWS: usize = 8192;

/// Which model learns from which columns: those of the features come first, then label and weight where there are.
#[derive(Debug, Clone)]
pub(crate) struct Lesson {
    /// Name of the model.
    pub(crate) model: String,
    /// Number of feature columns.
    pub(crate) features: usize,
    /// Whether there is a label.
    pub(crate) labelled: bool,
    /// Whether there is a weight.
    pub(crate) weighted: bool,
}

/// Rows without a null.
pub(crate) struct Learnable {
    /// Their features, and where they stood.
    pub(crate) found: Matrix,
    y: Option<Array1<f64>>,
    weight: Option<Array1<f64>>,
}

impl Lesson {
    /// The rows that can be learnt from.
    pub(crate) fn learnable(&self, rows: &RecordBatch) -> Result<Learnable> {
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

    /// Rows that the model cannot take.
    pub(crate) fn wrong(&self, error: &ModelError) -> DataFusionError {
        DataFusionError::Execution(format!("model `{}`: {error}", self.model))
    }
}

impl Learnable {
    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.found.x.nrows()
    }

    /// Some of them.
    pub(crate) fn rows(&self, rows: Range<usize>) -> Rows<'_> {
        Rows {
            x: self.found.x.slice_axis(Axis(0), rows.clone().into()),
            y: self.y.as_ref().map(|y| y.slice_axis(Axis(0), rows.clone().into())),
            weight: self.weight.as_ref().map(|weight| weight.slice_axis(Axis(0), rows.clone().into())),
        }
    }

    /// All of them, in splits.
    pub(crate) fn splits(&self) -> Vec<Rows<'_>> {
        let starts = (0..self.len()).step_by(SPLIT_ROWS);
        starts.map(|from| self.rows(from..(from + SPLIT_ROWS).min(self.len()))).collect()
    }
}
