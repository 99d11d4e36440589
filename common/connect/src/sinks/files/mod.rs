//! Rows in files, exactly once. Nothing is written for an empty result.
//!
//! Tasks leave parts in a directory of the batch. Those of the tasks that counted are merged into one order and written as
//! files: a directory per batch (`batch`), a rolling set of files (`rolling`), or objects in a store (`objects`). The first two
//! appear by one rename, the third by its manifest, and doing it again changes nothing: after a crash the batch runs again
//! and comes here once more.

mod batch;
mod encoding;
mod keys;
mod objects;
mod place;
mod read;
mod rolling;
#[cfg(test)]
mod tests;
mod writer;

pub use encoding::RowEncoding;
pub use place::FilePlace;
pub use writer::RowWriter;

use crate::delivery::Delivery;
use crate::sink::{Commit, CommitError, PutError, SinkConfig, SinkConnector};
use crate::staging::{UNCOMMITTED, batch_of_parts};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tidemill_common::definition::{Key, Name, Reader, Shape, Span, Value};
use tidemill_common::diag::Diagnostic;
use tidemill_common::location::Location;
use tidemill_rows::arrow::array::RecordBatch;
use tidemill_rows::arrow::datatypes::{Schema, SchemaRef};
use tidemill_rows::{Compression, RowError};
use tidemill_store::Objects;

/// Rows in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSink {
    /// Where.
    pub place: FilePlace,
    /// How.
    pub format: FileFormat,
    /// How the files are compressed. Default not at all.
    pub compression: Option<Compression>,
    /// One set of files for all batches, in place of a directory for each.
    pub roll: Option<Roll>,
}

/// How rows are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileFormat {
    /// A line of text for every row.
    Text {
        /// The column that is written; by default the only one.
        column: Option<Name>,
    },
    /// JSON lines.
    Json,
    /// Delimited text.
    Csv {
        /// Whether every file begins with the names of the columns. Default true.
        header: bool,
        /// One byte. Default `,`.
        delimiter: u8,
        /// The text that means null. Default none.
        null: String,
    },
    /// Parquet.
    Parquet,
    /// `saveAsObjectFiles`: Arrow IPC files.
    Object,
}

/// When a file of a rolling set is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roll {
    /// It has this many bytes. Default 64 MiB.
    pub bytes: u64,
    /// Its first batch is this much older than the newest, in batch time. Default 10 min.
    pub age: Duration,
}

/// A format of files as a kind of sink.
macro_rules! connector {
    ($(#[$doc:meta])* $name:ident, $key:literal, $shape:expr, $sentence:literal, $read:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl SinkConnector for $name {
            type Config = FileSink;

            const KEY: &'static [Key; 1] = &[Key::new($key, $shape, $sentence)];
            const DELIVERY: Delivery = Delivery::ExactlyOnce;

            fn read<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<FileSink> {
                $read(r, value)
            }
        }
    };
}

connector!(
    /// JSON lines.
    Json, "json", Shape::Table(keys::JSON), "Writes JSON lines, exactly once.",
    |r, value| read::plain(r, value, "`json`", keys::JSON, FileFormat::Json)
);
connector!(
    /// Lines of text.
    Text, "text", Shape::TableWithOneOf(keys::TEXT, &["path", "prefix"]),
    "Writes a line of text for every row, exactly once.", read::text
);
connector!(
    /// Delimited text.
    Csv, "csv", Shape::Table(keys::CSV), "Writes delimited text, exactly once.", read::csv
);
connector!(
    /// Parquet files.
    Parquet, "parquet", Shape::Table(keys::PARQUET), "Writes Parquet files, exactly once.",
    |r, value| read::plain(r, value, "`parquet`", keys::PARQUET, FileFormat::Parquet)
);
connector!(
    /// Arrow IPC files.
    Object, "object", Shape::Table(keys::OBJECT), "Writes Arrow IPC files, exactly once.",
    |r, value| read::plain(r, value, "`object`", keys::OBJECT, FileFormat::Object)
);

impl SinkConfig for FileSink {
    fn check(&self, schema: &Schema, from: Span) -> Result<(), Diagnostic> {
        self.encoding(Arc::new(schema.clone())).check(from)
    }

    fn encode(&self, rows: &RecordBatch) -> Result<Vec<Vec<u8>>, RowError> {
        self.encoding(rows.schema()).encode(rows)
    }

    fn staging(&self, base_dir: &Path) -> Option<Location> {
        Some(self.place.folder(base_dir))
    }

    fn place(&self) -> Option<&str> {
        Some(self.place.text())
    }

    async fn commit(&self, commit: Arc<Commit>) -> Result<(), CommitError> {
        let sink = self.clone();
        let put = move || sink.put(&commit).map_err(|error| error.at(&sink.place.root(&commit.base_dir)));
        tokio::task::spawn_blocking(put).await.map_err(CommitError::lasting)?
    }
}

impl FileSink {
    fn encoding(&self, schema: SchemaRef) -> RowEncoding {
        RowEncoding::new(self.format.clone(), schema).compressed(self.compression)
    }

    fn put(&self, commit: &Commit) -> Result<(), PutError> {
        let folder = match self.place.folder(&commit.base_dir) {
            Location::Object(url) => return objects::place(&Objects::new(url), self, commit),
            Location::Local(folder) => folder,
        };
        let parts = commit.parts_in(&folder);
        match self.roll {
            Some(roll) => rolling::append(self, commit, roll, &folder, &parts)?,
            None => batch::place(self, commit, &folder, &parts)?,
        }
        remove_parts(commit, &folder);
        Ok(())
    }
}

/// Removes what tasks have left of this batch, which is in place, and of earlier ones. A task that was cancelled may be
/// writing there still: what it leaves is no loss, must not end the job, and goes with the next batch.
fn remove_parts(commit: &Commit, folder: &Path) {
    let Ok(entries) = fs::read_dir(folder.join(UNCOMMITTED)) else { return };
    for entry in entries.flatten() {
        let batch = batch_of_parts(&entry.file_name().to_string_lossy(), commit.job, commit.number);
        if batch.is_none_or(|batch| batch > commit.batch) {
            continue;
        }
        if let Err(error) = fs::remove_dir_all(entry.path()) {
            tracing::info!(path = %entry.path().display(), %error, "what tasks have left is removed later");
        }
    }
}
