//! Numbers that are too large. Readers make infinities of them, so wherever one comes out its text is looked at: only what
//! is written as infinite is. A number of JSON that is too large for a double is infinite, as JavaScript and Python read it.

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use std::sync::Arc;

/// The columns as read, with texts in the place of floats.
pub(super) fn with_texts(raw: &Schema) -> Schema {
    let fields = raw.fields().iter().map(|field| match field.data_type() {
        DataType::Float32 | DataType::Float64 => Arc::new(Field::clone(field).with_data_type(DataType::Utf8)),
        _ => field.clone(),
    });
    Schema::new(fields.collect::<Vec<_>>())
}

/// Whether an infinity is among these rows.
pub(super) fn is_in(rows: &RecordBatch) -> bool {
    rows.columns().iter().any(|column| match column.data_type() {
        DataType::Float32 => column.as_primitive::<Float32Type>().values().iter().any(|value| value.is_infinite()),
        DataType::Float64 => column.as_primitive::<Float64Type>().values().iter().any(|value| value.is_infinite()),
        _ => false,
    })
}

/// Whether all infinities are written as such, of rows with [texts](with_texts); `json` says how these are read.
///
/// # Errors
/// Names the first that is not.
pub(super) fn check(rows: &RecordBatch, raw: &Schema, json: bool) -> Result<(), String> {
    for (field, column) in raw.fields().iter().zip(rows.columns()) {
        let (texts, float) = match field.data_type() {
            DataType::Float32 => (column, true),
            DataType::Float64 if !json => (column, false),
            _ => continue,
        };
        let texts = texts.as_string::<i32>();
        let too_large = texts.iter().flatten().find(|text| match float {
            true => text.parse::<f32>().is_ok_and(f32::is_infinite) && !is_written(text),
            false => is_too_large(text),
        });
        if let Some(text) = too_large {
            let name = if float { "float" } else { "double" };
            return Err(format!("column `{}`: `{text}` is too large for a {name}", field.name()));
        }
    }
    Ok(())
}

/// Whether a number is finite as it is written, and infinite as a double.
pub(super) fn is_too_large(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(f64::is_infinite) && !is_written(text)
}

fn is_written(text: &str) -> bool {
    text.trim_start_matches(['+', '-']).starts_with(['i', 'I'])
}
