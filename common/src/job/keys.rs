//! Every key a definition may hold: the one list behind the parser, the JSON Schema and the check of the documentation.
//! Here is what keys are made of, the words of choices, bounds, and the keys of the job itself.

mod operator;
mod sink;
mod source;

pub(super) use operator::*;
pub(super) use sink::*;
pub(super) use source::*;

use super::{Compression, DriftAction, Durability, Emit, OnBadRecord, OnUnderReplicated, Per, UpdateKeys};
use std::ops::RangeInclusive;

/// A key of a table.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) doc: &'static str,
    pub(super) required: bool,
}

impl Key {
    const fn new(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self { name, shape, doc, required: false }
    }

    const fn required(mut self) -> Self {
        self.required = true;
        self
    }
}

/// What may stand behind a key.
#[derive(Debug)]
pub(super) enum Shape {
    Text,
    /// The name of a job, which may hold dots.
    JobName,
    /// The name of a stream, a source or an output.
    Name,
    /// One such name, or a list of them.
    Names,
    /// The name of a column.
    Column,
    /// One column name, or a list of them.
    Columns,
    /// Those, or a table of these keys.
    ColumnsOrTable(&'static [Key]),
    /// One column name, or a list of them, each with a `-` before it or not.
    SortKeys,
    /// `host:port`.
    Address,
    Addresses,
    Duration,
    /// A point in time.
    Time,
    Size,
    Count(RangeInclusive<u64>),
    /// A count, or a table of these keys.
    CountOrTable(RangeInclusive<u64>, &'static [Key]),
    /// A number, not negative.
    Number,
    Flag,
    True,
    Choice(fn() -> Vec<&'static str>),
    Sql,
    /// The name of a column type.
    Type,
    /// Column name to expression.
    SqlByColumn,
    /// Column name to type.
    TypeByColumn,
    /// Column name to expression, or to a table of these keys.
    StateByColumn(&'static [Key]),
    /// The table of [`FLAT_MAP`], which has alternatives.
    FlatMap,
    /// The table of [`TEXT`], which has alternatives.
    TextSink,
    /// Name to text.
    TextByName,
    /// Lists of lines, one for each batch.
    Batches,
    Table(&'static [Key]),
    /// A table of these keys, and of parameters that depend on a kind.
    OpenTable(&'static [Key]),
    TrueOrTable(&'static [Key]),
    /// Any number of tables, each with its name.
    Named(TableKind),
    /// A list of tables.
    List(TableKind),
}

/// The tables whose keys depend on each other.
#[derive(Debug, Clone, Copy)]
pub(super) enum TableKind {
    Source,
    Model,
    Stream,
    Output,
    Table,
}

/// The words of a choice with their values.
pub(super) type Choices<T> = &'static [(&'static str, T)];

/// The words of a choice.
pub(super) fn words<T>(choices: Choices<T>) -> Vec<&'static str> {
    choices.iter().map(|(word, _)| *word).collect()
}

/// The connectors, as [`Shape::Choice`] of `connector`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectorKind {
    Socket,
    Generate,
    Files,
    Queue,
    Receiver,
}

/// The formats, as [`Shape::Choice`] of `format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FormatKind {
    Text,
    Csv,
    Json,
    Parquet,
}

pub(super) const DURABILITY: Choices<Durability> =
    &[("replicated", Durability::Replicated), ("disk", Durability::Disk)];
pub(super) const ON_UNDER_REPLICATED: Choices<OnUnderReplicated> = &[
    ("continue", OnUnderReplicated::Continue),
    ("pause", OnUnderReplicated::Pause),
    ("fail", OnUnderReplicated::Fail),
];
pub(super) const CONNECTORS: Choices<ConnectorKind> = &[
    ("socket", ConnectorKind::Socket),
    ("generate", ConnectorKind::Generate),
    ("files", ConnectorKind::Files),
    ("queue", ConnectorKind::Queue),
    ("receiver", ConnectorKind::Receiver),
];
pub(super) const FORMATS: Choices<FormatKind> =
    &[("text", FormatKind::Text), ("csv", FormatKind::Csv), ("json", FormatKind::Json)];
/// Of a source that reads files.
pub(super) const FILE_FORMATS: Choices<FormatKind> = &[
    ("text", FormatKind::Text),
    ("csv", FormatKind::Csv),
    ("json", FormatKind::Json),
    ("parquet", FormatKind::Parquet),
];
/// Of a table.
pub(super) const TABLE_FORMATS: Choices<FormatKind> =
    &[("csv", FormatKind::Csv), ("json", FormatKind::Json), ("parquet", FormatKind::Parquet)];
pub(super) const ON_BAD_RECORD: Choices<OnBadRecord> = &[
    ("skip", OnBadRecord::SKIP),
    ("dead_letter", OnBadRecord::DeadLetter { at_most: None }),
    ("fail", OnBadRecord::Fail),
];
pub(super) const COMPRESSIONS: Choices<Compression> = &[
    ("gzip", Compression::Gzip),
    ("zstd", Compression::Zstd),
    ("lz4", Compression::Lz4),
    ("snappy", Compression::Snappy),
    ("brotli", Compression::Brotli),
];
pub(super) const UPDATE_KEYS: Choices<UpdateKeys> =
    &[("every_key", UpdateKeys::EveryKey), ("touched", UpdateKeys::Touched)];
pub(super) const EMIT: Choices<Emit> = &[("all", Emit::All), ("changed", Emit::Changed)];
pub(super) const DRIFT_ACTION: Choices<DriftAction> =
    &[("warn", DriftAction::Warn), ("reset", DriftAction::Reset), ("replace", DriftAction::Replace)];
pub(super) const PER: Choices<Per> = &[("record", Per::Record), ("key", Per::Key)];

pub(super) const BLOCK_BYTES: RangeInclusive<u64> = 1 << 10..=8 << 20;
pub(super) const REPLICATION: RangeInclusive<u64> = 1..=8;
pub(super) const KEY_GROUPS: RangeInclusive<u64> = 1..=4096;
pub(super) const TASK_FAILURES: RangeInclusive<u64> = 1..=100;
pub(super) const RECEIVERS: RangeInclusive<u64> = 1..=64;
pub(super) const PER_MILLE: RangeInclusive<u64> = 0..=1000;
pub(super) const PRINT_ROWS: RangeInclusive<u64> = 1..=10_000;
pub(super) const RETRIES: RangeInclusive<u64> = 0..=100;
pub(super) const KEEP: RangeInclusive<u64> = 1..=1000;
/// Whole numbers in TOML have 63 bits.
pub(super) const POSITIVE: RangeInclusive<u64> = 1..=i64::MAX as u64;
pub(super) const NOT_NEGATIVE: RangeInclusive<u64> = 0..=i64::MAX as u64;

pub(super) const JOB: &[Key] = &[
    Key::new("name", Shape::JobName, "The job's name.").required(),
    Key::new("batch_interval", Shape::Duration, "Length of a batch, in whole milliseconds.").required(),
    Key::new(
        "block_interval",
        Shape::Duration,
        "How often receivers seal a block. Default: the smaller of 200ms and half the batch interval.",
    ),
    Key::new("block_bytes", Shape::Size, "A block is sealed early at this size. Default 4MiB."),
    Key::new("replication", Shape::Count(REPLICATION), "Copies of blocks and state, counting the original. Default 2."),
    Key::new(
        "durability",
        Shape::Choice(|| words(DURABILITY)),
        "What the log and the blocks survive. Default replicated.",
    ),
    Key::new(
        "on_under_replicated",
        Shape::Choice(|| words(ON_UNDER_REPLICATED)),
        "What to do while fewer copies exist than asked for. Default continue.",
    ),
    Key::new(
        "key_groups",
        Shape::Count(KEY_GROUPS),
        "Shares of the key space; fixed for the life of the state. Default 64.",
    ),
    Key::new(
        "checkpoint_interval",
        Shape::Duration,
        "How often state is written to disk. Default: the larger of 5s and the batch interval.",
    ),
    Key::new(
        "cut_at_records",
        Shape::Count(POSITIVE),
        "A batch is cut early when this many records wait. Default: never.",
    ),
    Key::new("cut_at_bytes", Shape::Size, "A batch is cut early when this many bytes wait. Default: never."),
    Key::new(
        "max_batch_bytes",
        Shape::Size,
        "At most this much goes into one batch; the rest waits for the next. Default 1GiB.",
    ),
    Key::new(
        "max_task_failures",
        Shape::Count(TASK_FAILURES),
        "A unit of work may fail this often before the job fails. Default 4.",
    ),
    Key::new(
        "backpressure",
        Shape::TrueOrTable(BACKPRESSURE),
        "Sources are read as fast as batches can take it. Default: as fast as blocks can be held.",
    ),
    Key::new("source", Shape::Named(TableKind::Source), "Where records come from."),
    Key::new("model", Shape::Named(TableKind::Model), "What learns."),
    Key::new("stream", Shape::Named(TableKind::Stream), "What is computed."),
    Key::new("output", Shape::List(TableKind::Output), "Where results go."),
    Key::new("table", Shape::Named(TableKind::Table), "Rows from files, the same for every batch."),
];

/// Keys of `backpressure`.
pub(super) const BACKPRESSURE: &[Key] = &[
    Key::new("proportional", Shape::Number, "Weight of the difference to the last batch's rate. Default 1."),
    Key::new("integral", Shape::Number, "Weight of what has gathered while a batch was late. Default 0.2."),
    Key::new("derived", Shape::Number, "Weight of the change of the difference. Default 0."),
    Key::new("min_rate", Shape::Count(POSITIVE), "The least rate of a source, in records per second. Default 100."),
    Key::new("initial_rate", Shape::Count(POSITIVE), "Rate of each receiver at first. Default: no bound."),
];

/// Keys of every model; the others are parameters of its family.
pub(super) const MODEL: &[Key] = &[
    Key::new("kind", Shape::Text, "The family.").required(),
    Key::new("initial", Shape::Text, "An exported model to begin with."),
    Key::new("keep", Shape::Count(KEEP), "Published versions that the driver keeps. Default 10."),
    Key::new("save", Shape::Table(SAVE), "Files that it is saved in."),
];

/// Keys of `save`.
pub(super) const SAVE: &[Key] = &[
    Key::new("path", Shape::Text, "A directory, relative to the job file, or its URL in an object store.").required(),
    Key::new("every", Shape::Count(POSITIVE), "Whenever it has learnt so many batches more. Default 1."),
];
