//! Aggregates of floats over frames that slide: computed anew for every frame. What was taken out of a sum again would
//! leave its rounding behind, and NaN and infinity would never leave.

use datafusion::arrow::array::types::Float64Type;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use std::collections::VecDeque;
use std::fmt;
use tidemill_rows::canonical;

/// From the rows of a frame that have no null to the aggregate.
type Over<const N: usize> = Box<dyn Fn(&mut dyn Iterator<Item = [f64; N]>) -> ScalarValue + Send + Sync>;

/// The rows of a frame.
pub(super) struct Frame<const N: usize> {
    rows: VecDeque<Option<[f64; N]>>,
    over: Over<N>,
}

impl<const N: usize> Frame<N> {
    pub(super) fn boxed(
        over: impl Fn(&mut dyn Iterator<Item = [f64; N]>) -> ScalarValue + Send + Sync + 'static,
    ) -> Box<dyn Accumulator> {
        Box::new(Self { rows: VecDeque::new(), over: Box::new(over) })
    }
}

impl<const N: usize> fmt::Debug for Frame<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// The rows of columns of doubles; none where a value is null.
pub(super) fn rows<const N: usize>(columns: &[ArrayRef]) -> impl Iterator<Item = Option<[f64; N]>> + '_ {
    let columns: Vec<_> = columns.iter().take(N).map(|column| column.as_primitive::<Float64Type>()).collect();
    let count = columns.first().map_or(0, |column| column.len());
    (0..count).map(move |row| {
        let mut values = [0.0; N];
        for (value, column) in values.iter_mut().zip(&columns) {
            if column.is_null(row) {
                return None;
            }
            *value = column.value(row);
        }
        Some(values)
    })
}

impl<const N: usize> Accumulator for Frame<N> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.rows.extend(rows(values));
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let gone = values.first().map_or(0, |column| column.len());
        self.rows.drain(..gone.min(self.rows.len()));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok((self.over)(&mut self.rows.iter().flatten().copied()))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.rows.capacity() * size_of::<Option<[f64; N]>>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        internal_err!("a frame has no partial state")
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        internal_err!("a frame has no partial state")
    }
}

/// The sum and the number of the rows; none without any.
pub(super) fn total(rows: &mut dyn Iterator<Item = [f64; 1]>) -> Option<(f64, u64)> {
    rows.fold(None, |total, [value]| {
        let (sum, count) = total.unwrap_or((0.0, 0));
        Some((sum + value, count + 1))
    })
}

/// A double, in its one form.
pub(super) fn double(value: Option<f64>) -> ScalarValue {
    ScalarValue::Float64(value.map(canonical))
}

/// The states of the rows, each of which is a group for itself.
pub(super) fn each_row(
    mut groups: impl GroupsAccumulator,
    values: &[ArrayRef],
    filter: Option<&BooleanArray>,
) -> Result<Vec<ArrayRef>> {
    let count = values.first().map_or(0, |column| column.len());
    groups.update_batch(values, &(0..count).collect::<Vec<_>>(), filter, count)?;
    groups.state(EmitTo::All)
}
