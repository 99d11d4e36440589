//! The records of a file as lines.

use super::list::{Directory, FileEntry};
use bytes::Bytes;
use datafusion::arrow::datatypes::SchemaRef;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use tidemill_plan::records::{push_bad, push_record};
use tidemill_plan::{ParquetRows, parquet_rows, rows_to_json};
use tidemill_store::{Objects, StoreError};
use tokio::sync::mpsc;

/// Bytes read at once.
const CHUNK: usize = 256 << 10;
const CHANGED: &str = "it has changed since it was chosen";
/// Waits for a store that is away double from the first to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How often is looked meanwhile whether anybody still wants the file.
const LOOK: Duration = Duration::from_millis(100);

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

/// What comes of reading a file.
#[derive(Debug)]
pub(super) enum Piece {
    /// The next bytes.
    Bytes(Bytes),
    /// The store is away; it is asked again after a wait.
    Away {
        /// What has happened.
        reason: String,
        wait: Duration,
    },
    /// That was all; the last piece.
    End,
    /// Why that was not all; the last piece.
    Bad(String),
}

type Pieces = mpsc::Sender<Piece>;

/// Sends what is in a file, or at last why that is not all. Ends when nobody listens.
pub(super) fn pieces(directory: &Directory, expected: &FileEntry, content: &Content, to: &Pieces) {
    let read = match (directory, content) {
        (Directory::Local(path), Content::Lines { .. }) => {
            open(&path.join(&expected.name), expected).and_then(|file| lines(file, expected.size, to))
        }
        (Directory::Local(path), Content::Parquet(schema)) => {
            open(&path.join(&expected.name), expected).and_then(|file| rows(file, schema, to))
        }
        (Directory::Objects(objects), Content::Lines { .. }) => {
            object(objects, expected, to, |bytes| Ok(to.blocking_send(Piece::Bytes(bytes)).is_ok())).map(|_| ())
        }
        (Directory::Objects(objects), Content::Parquet(schema)) => {
            fetch(objects, expected, to).and_then(|file| file.map_or(Ok(()), |file| rows(file, schema, to)))
        }
    };
    let last = read.map_or_else(Piece::Bad, |()| Piece::End);
    // A receiver that was stopped does not listen.
    let _ = to.blocking_send(last);
}

/// Only the file that was chosen has the records that its offsets speak of.
fn open(path: &Path, expected: &FileEntry) -> Result<File, String> {
    let file = File::open(path).map_err(text)?;
    let metadata = file.metadata().map_err(text)?;
    if FileEntry::of_file(expected.name.clone(), &metadata) != *expected {
        return Err(CHANGED.into());
    }
    Ok(file)
}

fn lines(file: File, size: u64, to: &Pieces) -> Result<(), String> {
    let mut left = file.take(size);
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        left.by_ref().take(CHUNK as u64).read_to_end(&mut chunk).map_err(text)?;
        if chunk.is_empty() || to.blocking_send(Piece::Bytes(chunk.into())).is_err() {
            return Ok(());
        }
    }
}

fn rows(file: File, schema: &SchemaRef, to: &Pieces) -> Result<(), String> {
    for batch in parquet_rows(file, schema)? {
        if to.blocking_send(Piece::Bytes(block_of(batch?)?)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Rows as records of a block.
fn block_of(ParquetRows { rows, bad }: ParquetRows) -> Result<Bytes, String> {
    let (mut block, mut bad) = (Vec::new(), bad.into_iter().peekable());
    for (row, line) in rows_to_json(&rows).map_err(text)?.iter().enumerate() {
        match bad.next_if(|bad| bad.row == row) {
            Some(bad) => push_bad(&bad.reason, bad.text.as_bytes(), &mut block),
            None => push_record(line.as_bytes(), &mut block),
        }
    }
    Ok(block.into())
}

/// Goes through an object, however long the store is away meanwhile, until `each` wants no more; whether it has had all.
fn object(
    objects: &Objects,
    expected: &FileEntry,
    to: &Pieces,
    mut each: impl FnMut(Bytes) -> Result<bool, String>,
) -> Result<bool, String> {
    let Some(mut reader) = patiently(to, || objects.reader(&expected.name))? else { return Ok(false) };
    if reader.entry() != expected {
        return Err(CHANGED.into());
    }
    loop {
        match patiently(to, || reader.next_bytes())? {
            None => return Ok(false),
            Some(None) => return Ok(true),
            Some(Some(bytes)) => {
                if !each(bytes)? {
                    return Ok(false);
                }
            }
        }
    }
}

/// An object as a file that goes away with its last user; none if nobody listens any more.
fn fetch(objects: &Objects, expected: &FileEntry, to: &Pieces) -> Result<Option<File>, String> {
    let mut file = tempfile::tempfile().map_err(text)?;
    let all = object(objects, expected, to, |bytes| file.write_all(&bytes).map_err(text).map(|()| true))?;
    file.rewind().map_err(text)?;
    Ok(all.then_some(file))
}

/// Takes a step until it is done, or can never be; none if nobody listens any more.
fn patiently<T>(to: &Pieces, mut step: impl FnMut() -> Result<T, StoreError>) -> Result<Option<T>, String> {
    let mut wait = FIRST_WAIT;
    loop {
        let error = match step() {
            Ok(done) => return Ok(Some(done)),
            Err(error @ (StoreError::NotFound { .. } | StoreError::Changed { .. })) => return Err(error.to_string()),
            Err(error) => error,
        };
        let reason = error.to_string();
        tracing::warn!(reason, "an object cannot be read now; it is tried again");
        if to.blocking_send(Piece::Away { reason, wait }).is_err() {
            return Ok(None);
        }
        let until = Instant::now() + wait;
        while Instant::now() < until {
            if to.is_closed() {
                return Ok(None);
            }
            std::thread::sleep(LOOK.min(wait));
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
