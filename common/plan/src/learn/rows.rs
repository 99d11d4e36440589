//! The rows that a model learns from: features, label and weight out of columns.

use super::matrix::{Matrix, matrix, with_gaps};
use super::{arms, prepare};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::Float64Type;
use datafusion::common::{DataFusionError, Result};
use ndarray::{Array1, Axis};
use std::ops::Range;
use std::sync::Arc;
use tidemill_ml::{Model, ModelError, Partial, Rows};

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
    /// What the columns of the features are.
    pub(crate) takes: Takes,
}

/// What columns of features are.
#[derive(Debug, Clone)]
pub(crate) enum Takes {
    /// Numbers and vectors; a row with a null is not learnt.
    Numbers,
    /// Numbers and vectors; what is null is learnt from as missing.
    Gaps,
    /// Text.
    Texts,
    /// The name of one of these arms, then numbers and vectors.
    Arms(Arc<[String]>),
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
        let found = match &self.takes {
            Takes::Arms(arms) => {
                let places = features.iter().take(1).map(|names| Arc::new(arms::places(arms, names)) as ArrayRef);
                let features: Vec<ArrayRef> = places.chain(features.iter().skip(1).cloned()).collect();
                matrix(&features, rows.num_rows(), whole)?
            }
            Takes::Gaps => {
                let all = with_gaps(features, rows.num_rows())?;
                let places: Vec<usize> = (0..rows.num_rows()).filter(|row| whole(*row)).collect();
                Matrix { x: all.select(Axis(0), &places), places }
            }
            Takes::Numbers | Takes::Texts => matrix(features, rows.num_rows(), whole)?,
        };
        let taken = |column: &&Float64Array| found.places.iter().map(|place| column.value(*place)).collect();
        let mut numbers = numbers.iter();
        let y = if self.labelled { numbers.next().map(taken) } else { None };
        let weight = if self.weighted { numbers.next().map(taken) } else { None };
        Ok(Learnable { found, y, weight })
    }

    /// What a split adds to the model, and how many of its rows have a null that keeps them from being learnt.
    pub(crate) fn partial(&self, model: &Model, rows: &RecordBatch) -> Result<(Partial, usize)> {
        if let Takes::Texts = self.takes {
            let columns = &rows.columns()[..self.features];
            let columns: Vec<&StringArray> = columns.iter().map(|column| column.as_string()).collect();
            let texts = (0..rows.num_rows()).map(|row| prepare::texts_of(&columns, row));
            return Ok((model.partial_of_text(texts).map_err(|error| self.wrong(&error))?, 0));
        }
        let learnable = self.learnable(rows)?;
        let partial = model.partial(&learnable.rows(0..learnable.len())).map_err(|error| self.wrong(&error))?;
        Ok((partial, rows.num_rows() - learnable.len()))
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
