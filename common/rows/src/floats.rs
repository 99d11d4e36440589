//! The one form of floats: `-0.0` is `0.0`, and there is one NaN, which the order of the bits has as the greatest.

use arrow::array::types::{Float32Type, Float64Type};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, make_array};
use arrow::datatypes::DataType;
use std::sync::Arc;

/// One zero and one NaN (`-0.0 + 0.0` is `0.0`).
#[inline]
pub fn canonical(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value + 0.0 }
}

/// The same of 32 bits.
#[inline]
pub fn canonical_single(value: f32) -> f32 {
    if value.is_nan() { f32::NAN } else { value + 0.0 }
}

/// Whether values of this type are floats, or hold some.
pub fn has_floats(data_type: &DataType) -> bool {
    match data_type {
        DataType::Float32 | DataType::Float64 => true,
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            has_floats(field.data_type())
        }
        DataType::Struct(fields) => fields.iter().any(|field| has_floats(field.data_type())),
        _ => false,
    }
}

/// The same values, floats (also those in lists and structs) in their one form. No copy where they are.
pub fn canonical_array(array: &ArrayRef) -> ArrayRef {
    // Without an early end, which would keep it from being vectorised.
    if let Some(floats) = array.as_primitive_opt::<Float64Type>() {
        let other = |found, v: &f64| found | (v.to_bits() != canonical(*v).to_bits());
        return match floats.values().iter().fold(false, other) {
            true => Arc::new(floats.unary::<_, Float64Type>(canonical)),
            false => array.clone(),
        };
    }
    if let Some(floats) = array.as_primitive_opt::<Float32Type>() {
        let other = |found, v: &f32| found | (v.to_bits() != canonical_single(*v).to_bits());
        return match floats.values().iter().fold(false, other) {
            true => Arc::new(floats.unary::<_, Float32Type>(canonical_single)),
            false => array.clone(),
        };
    }
    if !has_floats(array.data_type()) {
        return array.clone();
    }
    let data = array.to_data();
    let before: Vec<_> = data.child_data().iter().map(|child| make_array(child.clone())).collect();
    let after: Vec<_> = before.iter().map(canonical_array).collect();
    if before.iter().zip(&after).all(|(before, after)| Arc::ptr_eq(before, after)) {
        return array.clone();
    }
    let children = after.iter().map(|child| child.to_data()).collect();
    // Children of the same types and lengths always fit.
    data.into_builder().child_data(children).build().map_or_else(|_| array.clone(), make_array)
}

/// The same rows, floats in their one form.
pub fn canonical_rows(rows: RecordBatch) -> RecordBatch {
    if !rows.schema().fields().iter().any(|field| has_floats(field.data_type())) {
        return rows;
    }
    let columns = rows.columns().iter().map(canonical_array).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    // Columns of the same types and lengths always fit.
    RecordBatch::try_new_with_options(rows.schema(), columns, &options).unwrap_or(rows)
}
