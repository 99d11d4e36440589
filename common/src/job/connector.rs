//! What a source is: how records get in, and how they are read.

use super::Name;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where records come from.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceDef {
    /// The source's name.
    pub name: Name,
    /// How records get in.
    pub connector: Connector,
    /// How a record is read.
    pub format: Format,
    /// Whether a quoted field of csv may hold line breaks, where records come as bytes. Default true for files, false for
    /// sockets.
    pub multi_line: bool,
    /// What happens to a record that does not parse.
    pub on_bad_record: OnBadRecord,
    /// Most records per second that each of its receivers reads. Default none.
    pub max_rate: Option<u64>,
}

/// How records get in.
#[derive(Debug, Clone, PartialEq)]
pub enum Connector {
    /// Text lines from a TCP server.
    Socket {
        /// `host:port` of each server; one receiver per address, or `receivers` for a single one.
        addresses: Vec<String>,
        /// Whether the sender speaks the acknowledging line protocol.
        acknowledge: bool,
        /// Receivers for a single address. Default 1; only 1 when `acknowledge`.
        receivers: u32,
    },
    /// Rows made in the workers: CSV lines `seq,key,value` (bigint, string, double), seeded.
    Generate {
        /// Rows per second over all receivers.
        rows_per_second: u64,
        /// Distinct keys (`key_0` ..). Default 100.
        keys: u64,
        /// Seed. Default 1.
        seed: u64,
        /// Stop after this many rows. Default none.
        limit: Option<u64>,
        /// Receivers. Default 1.
        receivers: u32,
    },
    /// Files that appear in a directory, each once, by modification time and name; one receiver.
    Files(FilesSource),
    /// Records given per batch (`queueStream`): one receiver.
    Queue {
        /// The records of each batch; none is empty.
        batches: Vec<Vec<String>>,
        /// Begin anew after the last one. Default false.
        repeat: bool,
    },
    /// Records of a registered receiver.
    Receiver {
        /// Its name.
        function: Name,
        /// What it is told.
        options: Vec<(String, String)>,
        /// How many of it. Default 1.
        receivers: u32,
    },
}

/// A watched directory.
#[derive(Debug, Clone, PartialEq)]
pub struct FilesSource {
    /// The directory, relative to the job file.
    pub path: String,
    /// Which names count: `*` is any text, `?` any character. Default `*`.
    pub pattern: String,
    /// Whether files that are there when it is first looked at are left out. Default false.
    pub new_files_only: bool,
    /// How often it is looked at. Default 1 s.
    pub poll_interval: Duration,
    /// What is in the files.
    pub content: FileContent,
}

/// What is in the files of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileContent {
    /// Lines.
    Lines {
        /// Whether the first line is left out. Default false.
        header: bool,
    },
    /// Parquet. Its rows become JSON lines when they are received.
    Parquet,
}

/// How a record is read.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// A line is one string column, `value`.
    Text,
    /// Delimited text.
    Csv {
        /// Columns in order.
        columns: Vec<ColumnDef>,
        /// One byte. Default `,`.
        delimiter: u8,
        /// This text means null; an empty field is null for every type but string by default.
        null: Option<String>,
    },
    /// One JSON object per line; missing fields are null, further fields are ignored.
    Json {
        /// Columns by name.
        columns: Vec<ColumnDef>,
    },
}

/// A declared column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnDef {
    /// Its name.
    pub name: Name,
    /// Its type.
    pub data_type: ColumnType,
}

/// The types a column may be declared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ColumnType {
    /// `boolean`
    Boolean,
    /// `int`: 32 bits
    Int,
    /// `bigint`: 64 bits
    BigInt,
    /// `float`: 32 bits
    Float,
    /// `double`: 64 bits
    Double,
    /// `string`
    String,
    /// `date`
    Date,
    /// `timestamp`: microseconds, UTC
    Timestamp,
    /// `decimal(precision, scale)`
    Decimal(u8, i8),
    /// `binary`, base64 in text
    Binary,
    /// `vector(n)`: n doubles; in text separated by commas, in JSON an array
    Vector(u32),
}

/// What happens to a record that does not parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnBadRecord {
    /// Count it, keep the first few as samples, go on.
    Skip {
        /// With more of them the job fails.
        at_most: Option<MaxBadRecords>,
    },
    /// Count it, and make a row of [`SourceDef::bad_stream`] of it.
    DeadLetter {
        /// With more of them the job fails.
        at_most: Option<MaxBadRecords>,
    },
    /// Fail the job.
    Fail,
}

impl SourceDef {
    /// The stream of its bad records, which others can read, if there is one.
    pub fn bad_stream(&self) -> Option<Name> {
        let kept = matches!(self.on_bad_record, OnBadRecord::DeadLetter { .. });
        kept.then(|| Name { text: bad_stream_of(&self.name.text), span: self.name.span.clone() })
    }
}

/// How the stream of the bad records of a source is called.
pub(super) fn bad_stream_of(source: &str) -> String {
    format!("{source}_bad")
}

impl OnBadRecord {
    /// Any number of them is left out.
    pub const SKIP: Self = Self::Skip { at_most: None };

    /// How many there may be.
    pub fn at_most(self) -> Option<MaxBadRecords> {
        match self {
            Self::Skip { at_most } | Self::DeadLetter { at_most } => at_most,
            Self::Fail => None,
        }
    }
}

/// How many records of a source may be bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MaxBadRecords {
    /// So many as long as the job runs.
    Count(u64),
    /// So many of a thousand.
    PerMille(u64),
}
