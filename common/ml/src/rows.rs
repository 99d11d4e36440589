//! Rows as callers give them, and as the models walk over them.

use crate::error::ModelError;
use ndarray::{ArrayView1, ArrayView2};
use std::borrow::Cow;

/// One split of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Features, a row each.
    pub x: ArrayView2<'a, f64>,
    /// Labels, one per row; models that learn without labels ignore them.
    pub y: Option<ArrayView1<'a, f64>>,
    /// How much a row counts; 1 each if not given. A row whose weight is not a positive number is skipped.
    pub weight: Option<ArrayView1<'a, f64>>,
}

impl Rows<'_> {
    /// Checks the shapes: as many labels and weights as rows, and labels if the model needs them.
    pub(crate) fn check(&self, kind: &'static str, supervised: bool) -> Result<(), ModelError> {
        let rows = self.x.nrows();
        if rows > 0 && self.x.ncols() == 0 {
            return Err(ModelError::NoFeatures);
        }
        match &self.y {
            Some(y) if supervised && y.len() != rows => return Err(ModelError::Labels { rows, labels: y.len() }),
            None if supervised => return Err(ModelError::NoLabels { kind }),
            _ => {}
        }
        match &self.weight {
            Some(weight) if weight.len() != rows => Err(ModelError::Weights { rows, weights: weight.len() }),
            _ => Ok(()),
        }
    }
}

/// A row to learn from.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    pub(crate) x: &'a [f64],
    /// NaN if there is none.
    pub(crate) y: f64,
    pub(crate) weight: f64,
}

impl Row<'_> {
    /// Whether the weight says that the row counts at all.
    pub(crate) fn counts(&self) -> bool {
        self.weight > 0.0 && self.weight.is_finite()
    }
}

/// The rows of a split side by side in memory: copied only if they are not so already.
pub struct Table<'a> {
    columns: usize,
    x: Cow<'a, [f64]>,
    y: Option<Cow<'a, [f64]>>,
    weight: Option<Cow<'a, [f64]>>,
}

impl<'a> Table<'a> {
    pub(crate) fn new(rows: &Rows<'a>) -> Table<'a> {
        Table { columns: rows.x.ncols(), x: contiguous(rows.x), y: rows.y.map(list), weight: rows.weight.map(list) }
    }

    /// Features only.
    pub(crate) fn of(x: ArrayView2<'a, f64>) -> Table<'a> {
        Table::new(&Rows { x, y: None, weight: None })
    }

    /// One row.
    pub(crate) fn of_row(row: &Row<'a>) -> Table<'a> {
        Table {
            columns: row.x.len(),
            x: Cow::Borrowed(row.x),
            y: Some(Cow::Owned(vec![row.y])),
            weight: Some(Cow::Owned(vec![row.weight])),
        }
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.x.len() / self.columns.max(1)
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        // `chunks_exact(0)` would panic; without columns there are no values and so no rows.
        self.x.chunks_exact(self.columns.max(1)).enumerate().map(|(i, x)| Row {
            x,
            y: self.y.as_ref().map_or(f64::NAN, |y| y[i]),
            weight: self.weight.as_ref().map_or(1.0, |weight| weight[i]),
        })
    }
}

fn contiguous(x: ArrayView2<'_, f64>) -> Cow<'_, [f64]> {
    match x.to_slice() {
        Some(slice) => Cow::Borrowed(slice),
        None => Cow::Owned(x.iter().copied().collect()),
    }
}

fn list(values: ArrayView1<'_, f64>) -> Cow<'_, [f64]> {
    match values.to_slice() {
        Some(slice) => Cow::Borrowed(slice),
        None => Cow::Owned(values.to_vec()),
    }
}
