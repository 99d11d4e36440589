//! The records of a file as lines.

use super::list::{FileEntry, modified_ns};
use bytes::Bytes;
use datafusion::arrow::datatypes::SchemaRef;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use tidemill_plan::{parquet_rows, rows_to_json};
use tokio::sync::mpsc;

/// Bytes read at once.
const CHUNK: usize = 256 << 10;

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
    for batch in parquet_rows(file, schema)? {
        let mut lines = rows_to_json(&batch?).map_err(text)?.join("\n");
        lines.push('\n');
        if to.blocking_send(Ok(lines.into())).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
