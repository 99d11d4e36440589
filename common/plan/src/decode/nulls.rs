//! Texts in quotes that would be null without them: `"NA"` is a text where `NA` is null. The reader does not tell them
//! apart, so they are put back.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use memchr::memmem;
use std::collections::BTreeSet;
use std::sync::Arc;
use tidemill_rows::records;

/// Puts the text `null` back into the columns of `declared` that are strings, wherever `lines` has it in quotes.
pub(super) fn put_back(
    batches: Vec<RecordBatch>,
    lines: &[u8],
    delimiter: u8,
    null: &str,
    declared: &SchemaRef,
) -> Result<Vec<RecordBatch>, ArrowError> {
    let mut quoted = Vec::new();
    records::push_record(format!("\"{}\"", null.replace('"', "\"\"")).as_bytes(), &mut quoted);
    quoted.pop();
    if memmem::find(lines, &quoted).is_none() {
        return Ok(batches);
    }
    let mut places: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); declared.fields().len()];
    let rows = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    for (row, record) in rows.enumerate() {
        for (places, field) in places.iter_mut().zip(records::fields(record, delimiter)) {
            if field == quoted {
                places.insert(row);
            }
        }
    }
    let mut before = 0;
    let put_back = |batch: RecordBatch| {
        let columns = batch.columns().iter().zip(declared.fields()).zip(&places);
        let columns = columns.map(|((column, field), places)| match field.data_type() {
            DataType::Utf8 if !places.is_empty() => with_text(column, before, places, null),
            _ => column.clone(),
        });
        let columns = columns.collect();
        before += batch.num_rows();
        RecordBatch::try_new(batch.schema(), columns)
    };
    batches.into_iter().map(put_back).collect()
}

fn with_text(column: &ArrayRef, before: usize, places: &BTreeSet<usize>, text: &str) -> ArrayRef {
    let column = column.as_string::<i32>();
    let value = |row: usize| match places.contains(&(before + row)) {
        true => Some(text),
        false => column.is_valid(row).then(|| column.value(row)),
    };
    Arc::new((0..column.len()).map(value).collect::<StringArray>())
}
