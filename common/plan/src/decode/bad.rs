//! Records that do not parse.

use crate::error::PlanError;
use datafusion::arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use std::sync::Arc;
use tidemill_rows::records;

/// Bad records kept of one block, unless all are.
const SAMPLES: usize = 5;
/// Characters kept of a sample.
const SAMPLE_CHARS: usize = 200;

/// Records that do not parse.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadRecords {
    /// How many there are.
    pub count: u64,
    /// The first few, shortened; all and whole of a source whose bad records are rows.
    pub samples: Vec<BadRecord>,
}

/// A record that does not parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// Its number in the block, from 0.
    pub line: u64,
    /// The record. What is not UTF-8 in it is replaced.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl BadRecords {
    /// Adds a record; with `all` it is kept whole, however many there are.
    pub(super) fn add(&mut self, line: u64, record: &[u8], reason: String, all: bool) {
        self.count += 1;
        if all || self.samples.len() < SAMPLES {
            let (reason, text) = match records::known_bad(record) {
                Some((known, text)) => (known.into_owned(), text),
                None => (reason, record),
            };
            let text = records::text(text);
            let text = String::from_utf8_lossy(&text);
            let text = text.trim_end_matches('\n');
            let text = if all { text.to_string() } else { shortened(text) };
            self.samples.push(BadRecord { line, text, reason });
        }
    }

    /// Those that are kept as rows, in order, with the columns source, receiver, offset, reason, text. `first_offset` is that of the block.
    ///
    /// # Errors
    /// Only for a block that is too large.
    pub fn rows(&self, source: &str, receiver: u32, first_offset: u64) -> Result<RecordBatch, PlanError> {
        let count = self.samples.len();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![source; count])),
            Arc::new(Int32Array::from(vec![receiver as i32; count])),
            Arc::new(Int64Array::from_iter_values(self.samples.iter().map(|bad| (first_offset + bad.line) as i64))),
            Arc::new(StringArray::from_iter_values(self.samples.iter().map(|bad| &bad.reason))),
            Arc::new(StringArray::from_iter_values(self.samples.iter().map(|bad| &bad.text))),
        ];
        RecordBatch::try_new(bad_schema(), columns).map_err(|error| PlanError::Internal(error.to_string()))
    }
}

impl BadRecord {
    /// At most 200 characters of the record.
    pub fn sample(&self) -> String {
        shortened(&self.text)
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(SAMPLE_CHARS).collect()
}

/// The columns of the rows that are made of bad records.
pub(crate) fn bad_schema() -> SchemaRef {
    let column = |name, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        column("source", DataType::Utf8),
        column("receiver", DataType::Int32),
        column("offset", DataType::Int64),
        column("reason", DataType::Utf8),
        column("text", DataType::Utf8),
    ]))
}
