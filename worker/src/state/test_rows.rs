//! Rows for tests: a column of every kind of storage.

use datafusion::arrow::array::{ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Values of the columns of [`schema`]; the double as its bits.
pub(super) type Row = (Option<i64>, Option<u64>, Option<bool>, Option<String>);

/// Distinct keys with their new values, or none to drop them.
pub(super) type Change = BTreeMap<Vec<u8>, Option<Row>>;

pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("count", DataType::Int64, true),
        Field::new("sum", DataType::Float64, true),
        Field::new("seen", DataType::Boolean, true),
        Field::new("last", DataType::Utf8, true),
    ]))
}

pub(super) fn keys<'a>(keys: impl IntoIterator<Item = &'a Vec<u8>>) -> BinaryArray {
    BinaryArray::from_iter_values(keys)
}

/// Columns with these rows; values that must not matter where there is none.
pub(super) fn columns<'a>(rows: impl IntoIterator<Item = Option<&'a Row>>) -> Vec<ArrayRef> {
    let garbage = (Some(-1), Some(1), Some(true), Some("garbage".to_owned()));
    let rows: Vec<Row> = rows.into_iter().map(|row| row.unwrap_or(&garbage).clone()).collect();
    let doubles = rows.iter().map(|row| row.1.map(f64::from_bits));
    vec![
        Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()),
        Arc::new(doubles.collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.2).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|row| row.3.clone()).collect::<StringArray>()),
    ]
}

pub(super) fn dropped(change: &Change) -> BooleanArray {
    change.values().map(|row| Some(row.is_none())).collect()
}

pub(super) fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0u8..3, 0..4)
}

pub(super) fn any_change() -> impl Strategy<Value = Change> {
    let bits = prop::sample::select(vec![0.0f64, -0.0, 1.5, f64::NAN]);
    let row = (
        prop::option::of(0i64..3),
        prop::option::of(bits.prop_map(f64::to_bits)),
        prop::option::of(any::<bool>()),
        prop::option::of("[ab]{0,2}"),
    );
    let value = prop::option::weighted(0.7, row);
    prop::collection::btree_map(any_key(), value, 0..20)
}
