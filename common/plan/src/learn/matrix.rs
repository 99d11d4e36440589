//! Columns of numbers and vectors as the matrices that models take.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float64Array};
use datafusion::arrow::datatypes::{DataType, FieldRef, Float64Type};
use datafusion::common::{Result, exec_err, plan_err};
use ndarray::{Array2, ArrayView1, ArrayViewMut2, Axis, s};
use std::sync::Arc;

/// Rows that are filled at once.
const ROWS_AT_ONCE: usize = 64;

/// Rows of features: those without a null, and where they stood.
pub(crate) struct Matrix {
    /// Row-major, rows x features.
    pub(crate) x: Array2<f64>,
    /// Position of each row among all.
    pub(crate) places: Vec<usize>,
}

/// How many features a column of this type holds; None if it holds no features.
pub(crate) fn width(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::Float64 => Some(1),
        DataType::FixedSizeList(field, width) if *field.data_type() == DataType::Float64 => Some(*width as usize),
        _ => None,
    }
}

/// The rows of these columns (doubles and vectors of doubles) for which `also` holds and no feature is null.
///
/// # Errors
/// For columns of other types.
pub(crate) fn matrix(columns: &[ArrayRef], rows: usize, also: impl Fn(usize) -> bool) -> Result<Matrix> {
    let mut total = 0;
    for column in columns {
        match width(column.data_type()) {
            Some(width) => total += width,
            None => return exec_err!("features are numbers or vectors, not {}", column.data_type()),
        }
    }
    let places: Vec<usize> = (0..rows).filter(|row| also(*row) && columns.iter().all(|c| is_whole(c, *row))).collect();
    let mut x = Array2::zeros((places.len(), total));
    // Some rows at a time: they stay in the cache from column to column.
    for (mut rows, places) in x.axis_chunks_iter_mut(Axis(0), ROWS_AT_ONCE).zip(places.chunks(ROWS_AT_ONCE)) {
        let mut at = 0;
        for column in columns {
            at += copy(column, places, rows.slice_mut(s![.., at..]));
        }
    }
    Ok(Matrix { x, places })
}

/// How many features columns of these types hold: a number is one.
///
/// # Errors
/// For a type that holds no features.
pub(crate) fn columns_of(fields: &[FieldRef]) -> Result<usize> {
    let mut total = 0;
    for field in fields {
        total += match width(field.data_type()) {
            Some(width) => width,
            None if field.data_type().is_numeric() || field.data_type().is_null() => 1,
            None => {
                return plan_err!("features are numbers or a vector, `{}` is a {}", field.name(), field.data_type());
            }
        };
    }
    Ok(total)
}

/// All rows of these columns (doubles and vectors of doubles), with what is null as not a number.
///
/// # Errors
/// For columns of other types.
pub(crate) fn with_gaps(columns: &[ArrayRef], rows: usize) -> Result<Array2<f64>> {
    let filled: Vec<ArrayRef> = columns.iter().map(filled).collect::<Result<_>>()?;
    Ok(matrix(&filled, rows, |_| true)?.x)
}

/// The column without nulls: they are not a number.
fn filled(column: &ArrayRef) -> Result<ArrayRef> {
    let numbers = |values: &ArrayRef| -> Float64Array {
        values.as_primitive::<Float64Type>().iter().map(|value| Some(value.unwrap_or(f64::NAN))).collect()
    };
    match column.data_type() {
        DataType::Float64 => Ok(Arc::new(numbers(column))),
        DataType::FixedSizeList(item, length) if *item.data_type() == DataType::Float64 => {
            let list = column.as_fixed_size_list();
            let width = *length as usize;
            let values = numbers(&list.values().slice(list.value_offset(0) as usize, list.len() * width));
            let missing = |at: usize| list.is_null(at / width.max(1));
            let values: Float64Array = values
                .values()
                .iter()
                .enumerate()
                .map(|(at, v)| Some(if missing(at) { f64::NAN } else { *v }))
                .collect();
            Ok(Arc::new(FixedSizeListArray::try_new(item.clone(), *length, Arc::new(values), None)?))
        }
        other => exec_err!("features are numbers or vectors, not {other}"),
    }
}

/// Copies the values at these places to the first columns of as many rows; says how many columns that are.
fn copy(column: &ArrayRef, places: &[usize], mut rows: ArrayViewMut2<'_, f64>) -> usize {
    let Some(list) = column.as_fixed_size_list_opt() else {
        let values = column.as_primitive::<Float64Type>().values();
        rows.column_mut(0).iter_mut().zip(places).for_each(|(to, place)| *to = values[*place]);
        return 1;
    };
    let values = list.values().as_primitive::<Float64Type>().values();
    let width = list.value_length() as usize;
    for (mut row, place) in rows.rows_mut().into_iter().zip(places) {
        let start = list.value_offset(*place) as usize;
        row.slice_mut(s![..width]).assign(&ArrayView1::from(&values[start..start + width]));
    }
    width
}

/// Neither null nor, for a vector, with a null inside.
fn is_whole(column: &ArrayRef, row: usize) -> bool {
    if column.is_null(row) {
        return false;
    }
    match column.as_fixed_size_list_opt() {
        Some(list) if list.values().null_count() > 0 => list.value(row).null_count() == 0,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_vectors_side_by_side_without_nulls() {
        let vectors = FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(
            [Some([Some(1.0), Some(2.0)]), None, Some([Some(5.0), None]), Some([Some(7.0), Some(8.0)])],
            2,
        );
        let numbers = Float64Array::from(vec![Some(0.5), Some(1.5), Some(2.5), Some(3.5)]);
        let columns: Vec<ArrayRef> = vec![Arc::new(numbers), Arc::new(vectors)];
        let found = matrix(&columns, 4, |_| true).unwrap();
        assert_eq!(found.places, [0, 3]);
        assert_eq!(found.x, ndarray::array![[0.5, 1.0, 2.0], [3.5, 7.0, 8.0]]);
        let sliced: Vec<ArrayRef> = columns.iter().map(|column| column.slice(3, 1)).collect();
        assert_eq!(matrix(&sliced, 1, |_| true).unwrap().x, ndarray::array![[3.5, 7.0, 8.0]]);
        assert_eq!(matrix(&columns, 4, |row| row > 0).unwrap().places, [3]);
        let gaps = with_gaps(&columns, 4).unwrap().mapv(|value| if value.is_nan() { -1.0 } else { value });
        assert_eq!(gaps, ndarray::array![[0.5, 1.0, 2.0], [1.5, -1.0, -1.0], [2.5, 5.0, -1.0], [3.5, 7.0, 8.0]]);
        assert_eq!(with_gaps(&sliced, 1).unwrap(), ndarray::array![[3.5, 7.0, 8.0]]);
    }
}
