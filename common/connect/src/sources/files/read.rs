//! The records of a file as lines.

use super::list::{Directory, FileEntry};
use bytes::Bytes;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;
use std::time::{Duration, Instant};
use tidemill_rows::arrow::datatypes::SchemaRef;
use tidemill_rows::records::{push_bad, push_record};
use tidemill_rows::{ParquetRows, decompressed, parquet_rows, rows_to_json};
use tidemill_store::{ObjectReader, Objects, StoreError};
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
pub(super) enum Content {
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
    let name = &expected.name;
    let read = match (directory, content) {
        (Directory::Local(path), Content::Lines { .. }) => {
            open(&path.join(name), expected).and_then(|file| lines(name, file.take(expected.size), to))
        }
        (Directory::Local(path), Content::Parquet(schema)) => {
            open(&path.join(name), expected).and_then(|file| rows(file, schema, to))
        }
        (Directory::Objects(objects), Content::Lines { .. }) => {
            ObjectBytes::open(objects, expected, to).and_then(|object| lines(name, object, to))
        }
        (Directory::Objects(objects), Content::Parquet(schema)) => {
            fetch(objects, expected, to).and_then(|file| rows(file, schema, to))
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

fn lines(name: &str, file: impl Read, to: &Pieces) -> Result<(), String> {
    let mut file = decompressed(name, file).map_err(text)?;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let read = file.by_ref().take(CHUNK as u64).read_to_end(&mut chunk);
        // What comes before damage counts.
        if !chunk.is_empty() && to.blocking_send(Piece::Bytes(chunk.into())).is_err() {
            return Ok(());
        }
        if read.map_err(text)? == 0 {
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

/// The bytes of an object, however long the store is away meanwhile. It ends when nobody listens any more.
struct ObjectBytes<'a> {
    reader: Option<ObjectReader>,
    piece: Bytes,
    to: &'a Pieces,
}

impl<'a> ObjectBytes<'a> {
    fn open(objects: &Objects, expected: &FileEntry, to: &'a Pieces) -> Result<Self, String> {
        let reader = patiently(to, || objects.reader(&expected.name))?;
        if reader.as_ref().is_some_and(|reader| reader.entry() != expected) {
            return Err(CHANGED.into());
        }
        Ok(Self { reader, piece: Bytes::new(), to })
    }
}

impl Read for ObjectBytes<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty()
            && let Some(reader) = &mut self.reader
        {
            let next = patiently(self.to, || reader.next_bytes()).map_err(io::Error::other)?;
            self.piece = next.flatten().unwrap_or_default();
        }
        let few = self.piece.len().min(into.len());
        into[..few].copy_from_slice(&self.piece.split_to(few));
        Ok(few)
    }
}

/// An object as a file that goes away with its last user.
fn fetch(objects: &Objects, expected: &FileEntry, to: &Pieces) -> Result<File, String> {
    let mut file = tempfile::tempfile().map_err(text)?;
    io::copy(&mut ObjectBytes::open(objects, expected, to)?, &mut file).map_err(text)?;
    file.rewind().map_err(text)?;
    Ok(file)
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
