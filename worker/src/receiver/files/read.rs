//! The records of a file as lines.

use super::list::{FileEntry, modified_ns};
use bytes::Bytes;
use datafusion::arrow::array::{RecordBatch, new_null_array};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::SchemaRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use tidemill_plan::rows_to_json;
use tokio::sync::mpsc;

/// Bytes read at once.
const CHUNK: usize = 256 << 10;
/// Rows decoded at once.
const ROWS: usize = 4096;

/// What is in the files.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// Lines.
    Lines {
        /// The first one is no record.
        header: bool,
    },
    /// Rows with these columns, which become JSON lines.
    Parquet(SchemaRef),
}

impl Content {
    pub(super) fn header_lines(&self) -> u64 {
        u64::from(matches!(self, Self::Lines { header: true }))
    }
}

/// Sends what is in a file, or at last why that is not all. Ends when nobody listens.
pub(super) fn chunks(path: &Path, expected: &FileEntry, content: &Content, to: &mpsc::Sender<Result<Bytes, String>>) {
    let read = open(path, expected).and_then(|file| match content {
        Content::Lines { .. } => lines(file, expected.size, to),
        Content::Parquet(schema) => rows(file, schema, to),
    });
    if let Err(reason) = read {
        // A receiver that was stopped does not listen.
        let _ = to.blocking_send(Err(reason));
    }
}

/// Only the file that was chosen has the records that its offsets speak of.
fn open(path: &Path, expected: &FileEntry) -> Result<File, String> {
    let file = File::open(path).map_err(text)?;
    let metadata = file.metadata().map_err(text)?;
    if (metadata.len(), modified_ns(&metadata)) != (expected.size, expected.modified_ns) {
        return Err("it has changed since it was chosen".into());
    }
    Ok(file)
}

fn lines(file: File, size: u64, to: &mpsc::Sender<Result<Bytes, String>>) -> Result<(), String> {
    let mut left = file.take(size);
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        left.by_ref().take(CHUNK as u64).read_to_end(&mut chunk).map_err(text)?;
        if chunk.is_empty() || to.blocking_send(Ok(chunk.into())).is_err() {
            return Ok(());
        }
    }
}

fn rows(file: File, schema: &SchemaRef, to: &mpsc::Sender<Result<Bytes, String>>) -> Result<(), String> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(text)?;
    let wanted = builder.schema().fields().iter().enumerate();
    let wanted: Vec<usize> =
        wanted.filter(|(_, field)| schema.index_of(field.name()).is_ok()).map(|(number, _)| number).collect();
    let columns = ProjectionMask::roots(builder.parquet_schema(), wanted);
    let reader = builder.with_projection(columns).with_batch_size(ROWS).build().map_err(text)?;
    for batch in reader {
        let batch = declared(&batch.map_err(text)?, schema)?;
        let mut lines = rows_to_json(&batch).map_err(text)?.join("\n");
        lines.push('\n');
        if to.blocking_send(Ok(lines.into())).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// The columns as they were declared; one that the file does not have is null.
fn declared(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, String> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let column = |field: &datafusion::arrow::datatypes::FieldRef| match batch.column_by_name(field.name()) {
        Some(column) => cast_with_options(column, field.data_type(), &strict)
            .map_err(|error| format!("column `{}`: {error}", field.name())),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(schema.clone(), columns).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
