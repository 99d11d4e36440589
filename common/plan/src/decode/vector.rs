//! Vectors: lists of as many doubles as the column says.

use super::infinite::is_too_large;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float64Array, StringArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use std::sync::Arc;

/// The type of a vector of this length.
pub(super) fn data_type(length: u32) -> DataType {
    DataType::FixedSizeList(item(), length as i32)
}

/// The type that JSON arrays are read as.
pub(super) fn json_type() -> DataType {
    DataType::List(item())
}

fn item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Float64, true))
}

/// From numbers separated by commas, with blanks around them if one likes.
pub(super) fn from_text(column: &StringArray, length: i32) -> Result<ArrayRef, String> {
    let length_ = length as usize;
    let mut values = Vec::with_capacity(column.len() * length_);
    for text in column {
        match text {
            None => values.resize(values.len() + length_, 0.0),
            Some(text) => {
                let before = values.len();
                for number in text.split(',') {
                    let number = number.trim();
                    if is_too_large(number) {
                        return Err(format!("`{number}` is too large for a double"));
                    }
                    values.push(number.parse::<f64>().map_err(|_| format!("`{number}` is not a number"))?);
                }
                check(values.len() - before, length)?;
            }
        }
    }
    vectors(values, column.nulls().cloned(), length)
}

/// From JSON arrays.
pub(super) fn from_lists(column: &ArrayRef, length: i32) -> Result<ArrayRef, String> {
    let lists = column.as_list::<i32>();
    let numbers = lists.values().as_primitive::<Float64Type>();
    let mut values = Vec::with_capacity(lists.len() * length as usize);
    for (row, range) in lists.value_offsets().windows(2).enumerate() {
        let (from, to) = (range[0] as usize, range[1] as usize);
        if lists.is_null(row) {
            values.resize(values.len() + length as usize, 0.0);
            continue;
        }
        check(to - from, length)?;
        if numbers.slice(from, to - from).null_count() > 0 {
            return Err("a vector has no null inside".into());
        }
        values.extend_from_slice(&numbers.values()[from..to]);
    }
    vectors(values, lists.nulls().cloned(), length)
}

fn check(found: usize, length: i32) -> Result<(), String> {
    match found == length as usize {
        true => Ok(()),
        false => Err(format!("a vector of {found} numbers instead of {length}")),
    }
}

fn vectors(values: Vec<f64>, nulls: Option<NullBuffer>, length: i32) -> Result<ArrayRef, String> {
    let values = Arc::new(Float64Array::from(values));
    let vectors = FixedSizeListArray::try_new(item(), length, values, nulls).map_err(super::reason)?;
    Ok(Arc::new(vectors))
}
