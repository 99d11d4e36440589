//! What an output is: where results go.

use super::Name;
use std::time::Duration;
use tidemill_rows::Compression;

/// Where results go.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputDef {
    /// Unique; by default the stream's name.
    pub name: Name,
    /// A source or stream; a model, if `of_model`.
    pub from: Name,
    /// Whether it shows what a model has learnt: one row per batch. `from_model = "price"`
    pub of_model: bool,
    /// How.
    pub sink: Sink,
}

/// How results leave.
#[derive(Debug, Clone, PartialEq)]
pub enum Sink {
    /// Spark's `print`: the first `rows` rows of every batch to whoever watches.
    Print {
        /// Rows shown. Default 10.
        rows: u32,
    },
    /// Rows in files, exactly once. Nothing is written for an empty result.
    Files(FileSink),
    /// One request per batch, at least once. None is sent for an empty result.
    Http(HttpSink),
    /// A registered function sees all rows of the batch; at least once. `for_each_batch = "name"`
    ForEachBatch(Name),
}

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

/// Where the files of batches are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilePlace {
    /// In `<path>/<TIME_MS>`, or in `<path>` when they roll.
    Directory(String),
    /// `saveAsTextFiles`: in `<prefix>-<TIME_MS>[.<suffix>]`.
    Prefix {
        /// What comes before the time.
        prefix: String,
        /// What comes behind it.
        suffix: Option<String>,
    },
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

/// Most bytes of one request: they are in the driver's memory.
pub const MAX_BODY_BYTES: usize = 64 << 20;

/// One request per batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSink {
    /// Where to.
    pub url: String,
    /// How long one attempt may take. Default 10 s.
    pub timeout: Duration,
    /// Attempts after the first. Default 5.
    pub retries: u32,
    /// Further headers.
    pub headers: Vec<(String, String)>,
}
