//! Every key a definition may hold: the one list behind the parser, the JSON Schema and the check of the documentation.

use super::{DriftAction, Durability, Emit, OnBadRecord, OnUnderReplicated, Per, UpdateKeys};
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
pub(super) const ON_BAD_RECORD: Choices<OnBadRecord> = &[("skip", OnBadRecord::Skip), ("fail", OnBadRecord::Fail)];
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

/// Keys of every source.
pub(super) const SOURCE: &[Key] =
    &[Key::new("connector", Shape::Choice(|| words(CONNECTORS)), "How records get in.").required()];

const FORMAT: Key = Key::new("format", Shape::Choice(|| words(FORMATS)), "How a line is read. Default text.");
const COLUMNS: Key = Key::new("columns", Shape::TypeByColumn, "Column names and types; not for text.");
const DELIMITER: Key = Key::new("delimiter", Shape::Text, "What separates csv fields: one byte. Default a comma.");
const NULL: Key =
    Key::new("null", Shape::Text, "The csv text that means null. Default: an empty field, except for strings.");
const BAD_RECORD: Key = Key::new(
    "on_bad_record",
    Shape::Choice(|| words(ON_BAD_RECORD)),
    "What happens to a record that does not parse. Default skip.",
);

const MAX_RATE: Key =
    Key::new("max_rate", Shape::Count(POSITIVE), "Most records per second and receiver. Default: no bound.");

/// Keys of a source with `connector = "socket"`, beside [`SOURCE`].
pub(super) const SOCKET: &[Key] = &[
    Key::new("address", Shape::Address, "host:port of the server that sends the lines."),
    Key::new("addresses", Shape::Addresses, "Several servers; one receiver for each."),
    Key::new("acknowledge", Shape::Flag, "Whether the sender speaks the acknowledging line protocol. Default false."),
    Key::new("receivers", Shape::Count(RECEIVERS), "Connections to a single plain address. Default 1."),
    FORMAT,
    COLUMNS,
    DELIMITER,
    NULL,
    BAD_RECORD,
    MAX_RATE,
];

/// Keys of a source with `connector = "generate"`, beside [`SOURCE`].
pub(super) const GENERATE: &[Key] = &[
    Key::new("rows_per_second", Shape::Count(POSITIVE), "Rows per second over all receivers.").required(),
    Key::new("keys", Shape::Count(POSITIVE), "Number of distinct keys. Default 100."),
    Key::new("seed", Shape::Count(NOT_NEGATIVE), "Seed of the random values. Default 1."),
    Key::new("limit", Shape::Count(POSITIVE), "Stop after this many rows. Default: never."),
    Key::new("receivers", Shape::Count(RECEIVERS), "Receivers that share the rate. Default 1."),
];

/// Keys of a source with `connector = "files"`, beside [`SOURCE`].
pub(super) const FILES: &[Key] = &[
    Key::new("path", Shape::Text, "A directory, relative to the job file, or its URL in an object store.").required(),
    Key::new("pattern", Shape::Text, "Names that count, with * and ?. Default: all."),
    Key::new("new_files_only", Shape::Flag, "Whether files that are there at first are left out. Default false."),
    Key::new("poll_interval", Shape::Duration, "How often the directory is looked at. Default 1s."),
    Key::new("header", Shape::Flag, "Whether csv files begin with a line of names. Default false."),
    Key::new("format", Shape::Choice(|| words(FILE_FORMATS)), "What is in the files. Default text."),
    COLUMNS,
    DELIMITER,
    NULL,
    BAD_RECORD,
    MAX_RATE,
];

/// Keys of a source with `connector = "queue"`, beside [`SOURCE`].
pub(super) const QUEUE: &[Key] = &[
    Key::new("batches", Shape::Batches, "The lines of each batch.").required(),
    Key::new("repeat", Shape::Flag, "Whether it begins anew after the last one. Default false."),
    FORMAT,
    COLUMNS,
    DELIMITER,
    NULL,
    BAD_RECORD,
];

/// Keys of a source with `connector = "receiver"`, beside [`SOURCE`].
pub(super) const RECEIVER: &[Key] = &[
    Key::new("function", Shape::Text, "The name under which the receiver is registered.").required(),
    Key::new("options", Shape::TextByName, "What it is told. Default nothing."),
    Key::new("receivers", Shape::Count(RECEIVERS), "How many of it. Default 1."),
    FORMAT,
    COLUMNS,
    DELIMITER,
    NULL,
    BAD_RECORD,
    MAX_RATE,
];

/// The keys of each connector, beside [`SOURCE`].
pub(super) const CONNECTOR_KEYS: &[(&str, &[Key])] =
    &[("socket", SOCKET), ("generate", GENERATE), ("files", FILES), ("queue", QUEUE), ("receiver", RECEIVER)];

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

/// Keys of a table.
pub(super) const TABLE: &[Key] = &[
    Key::new("path", Shape::Text, "A file, relative to the job file, or the URL of an object.").required(),
    Key::new("format", Shape::Choice(|| words(TABLE_FORMATS)), "What is in the file.").required(),
    Key::new("columns", Shape::TypeByColumn, "Column names and types.").required(),
    Key::new("header", Shape::Flag, "Whether a csv file begins with a line of names. Default true."),
    DELIMITER,
    NULL,
    Key::new("reload", Shape::Flag, "Whether the table is read again when its file changes. Default true."),
    Key::new("reload_interval", Shape::Duration, "How often the file is looked at. Default 10s."),
];

/// Keys of every stream.
pub(super) const STREAM: &[Key] =
    &[Key::new("from", Shape::Names, "The source, stream or table that is read, or a list of them.").required()];

/// The operators of a stream; exactly one of them stands beside [`STREAM`].
pub(super) const OPERATORS: &[Key] = &[
    Key::new("select", Shape::SqlByColumn, "map: one row out for every row in."),
    Key::new("filter", Shape::Sql, "The rows for which this is true."),
    Key::new("flat_map", Shape::FlatMap, "A row for every piece of a text or list."),
    Key::new("reduce_by_key", Shape::Table(REDUCE_BY_KEY), "Aggregates per key and batch."),
    Key::new("count", Shape::True, "The number of rows of the batch, one row, also when 0."),
    Key::new("reduce", Shape::SqlByColumn, "Aggregates over the batch; no row if it is empty."),
    Key::new("distinct", Shape::True, "Distinct rows of the batch."),
    Key::new("sql", Shape::Sql, "A query over the inputs, by their names, within the batch."),
    Key::new("update_state_by_key", Shape::Table(UPDATE_STATE), "Running state per key."),
    Key::new("union", Shape::True, "The rows of all inputs, one input after the other."),
    Key::new("batch_map", Shape::Table(BATCH_MAP), "A function in Rust over all rows of a block or key group."),
    Key::new("map_with_state", Shape::Table(MAP_WITH_STATE), "State per key, visited with every record."),
    Key::new("state_snapshots", Shape::True, "Every key of a stateful stream with its state, after each batch."),
    Key::new("join", Shape::Table(JOIN), "Pairs of rows of two inputs with the same key."),
    Key::new("left_outer_join", Shape::Table(JOIN), "Pairs, and left rows without a partner."),
    Key::new("right_outer_join", Shape::Table(JOIN), "Pairs, and right rows without a partner."),
    Key::new("full_outer_join", Shape::Table(JOIN), "Pairs, and all rows without a partner."),
    Key::new("semi", Shape::Table(JOIN), "Rows of the first input that have a partner in the second."),
    Key::new("anti", Shape::Table(JOIN), "Rows of the first input that have no partner in the second."),
    Key::new("cogroup", Shape::Table(COGROUP), "Per key, the lists of the rows of two inputs."),
    Key::new("group_by_key", Shape::Table(GROUP_BY_KEY), "Per key, the list of its rows."),
    Key::new("combine_by_key", Shape::Table(REDUCE_BY_KEY), "Spark's other name for reduce_by_key."),
    Key::new("count_by_value", Shape::True, "How often each row occurs in the batch."),
    Key::new("sort", Shape::Table(SORT), "The rows in order, at most `limit` of them."),
    Key::new("top_k", Shape::Table(TOP_K), "The greatest rows of the batch, or of each key."),
    Key::new("repartition", Shape::TrueOrTable(REPARTITION), "Spreads rows over all key groups."),
    Key::new("window", Shape::Table(WINDOW), "The rows of the last batches."),
    Key::new(
        "reduce_by_key_and_window",
        Shape::Table(REDUCE_BY_KEY_AND_WINDOW),
        "Aggregates per key over the last batches.",
    ),
    Key::new("reduce_by_window", Shape::Table(REDUCE_BY_WINDOW), "Aggregates over the last batches; no row if empty."),
    Key::new("count_by_window", Shape::Table(WINDOW), "The number of rows of the last batches, one row, also when 0."),
    Key::new("count_by_value_and_window", Shape::Table(WINDOW), "How often each row is in the last batches."),
    Key::new(
        "group_by_key_and_window",
        Shape::Table(GROUP_BY_KEY_AND_WINDOW),
        "The values of each key in the last batches, as lists.",
    ),
    Key::new("slice", Shape::Table(SLICE), "The rows of the batches from one time to another, once."),
    Key::new("train", Shape::Table(TRAIN), "A model learns from the rows."),
    Key::new("evaluate", Shape::OpenTable(EVALUATE), "How good predictions are."),
    Key::new("ab_test", Shape::OpenTable(AB_TEST), "Whether an experiment differs from its control."),
    Key::new("choose", Shape::OpenTable(CHOOSE), "The best of several models, by a test."),
    Key::new("detect_drift", Shape::OpenTable(DETECT_DRIFT), "Where a stream of numbers changes."),
];

const KEY: Key = Key::new("key", Shape::Columns, "Key columns of the input.").required();

pub(super) const FLAT_MAP: &[Key] = &[
    Key::new("split", Shape::Sql, "A text to split; with `by`."),
    Key::new("by", Shape::Text, "What separates the pieces."),
    Key::new("unnest", Shape::Sql, "A list to take apart, in place of `split`."),
    Key::new("as", Shape::Column, "Column of the piece.").required(),
    Key::new("keep", Shape::Columns, "Columns of the input that are kept. Default none."),
];

pub(super) const REDUCE_BY_KEY: &[Key] =
    &[KEY, Key::new("aggregates", Shape::SqlByColumn, "Column names and their aggregates.").required()];

const JOIN_ON: Key =
    Key::new("on", Shape::ColumnsOrTable(ON), "Key columns of both inputs, or those of each.").required();

pub(super) const JOIN: &[Key] = &[
    JOIN_ON,
    Key::new("within", Shape::Duration, "How long rows wait for partners in later batches. Default: not at all."),
];

pub(super) const COGROUP: &[Key] = &[JOIN_ON];

pub(super) const ON: &[Key] = &[
    Key::new("left", Shape::Columns, "Key columns of the first input.").required(),
    Key::new("right", Shape::Columns, "Key columns of the second input.").required(),
];

pub(super) const GROUP_BY_KEY: &[Key] =
    &[KEY, Key::new("values", Shape::Columns, "Columns that become lists. Default: all others.")];

pub(super) const SORT: &[Key] = &[
    Key::new("by", Shape::SortKeys, "Columns to sort by; with a `-` before it, greatest first.").required(),
    Key::new("descending", Shape::Flag, "Turns the order of all columns round. Default false."),
    Key::new("limit", Shape::Count(POSITIVE), "At most so many rows. Default: all."),
];

pub(super) const TOP_K: &[Key] = &[
    Key::new("k", Shape::Count(POSITIVE), "How many rows.").required(),
    Key::new("by", Shape::SortKeys, "Columns to compare; with a `-` before it, smallest first.").required(),
    Key::new("per", Shape::Columns, "Key columns: so many rows of each key. Default: of the batch."),
];

pub(super) const REPARTITION: &[Key] =
    &[Key::new("by", Shape::Columns, "Rows with the same values stay together. Default: all columns.")];

pub(super) const UPDATE_STATE: &[Key] = &[
    KEY,
    Key::new("state", Shape::StateByColumn(STATE_COLUMN), "State columns and their updates.").required(),
    Key::new("update", Shape::Choice(|| words(UPDATE_KEYS)), "Which keys are updated in a batch. Default every_key."),
    Key::new("initial", Shape::Text, "A csv or JSON-lines file with the state to begin with."),
    Key::new("drop_when", Shape::Sql, "A key whose new state makes this true is dropped."),
    Key::new("emit", Shape::Choice(|| words(EMIT)), "Which keys come out. Default all."),
];

pub(super) const MAP_WITH_STATE: &[Key] = &[
    KEY,
    Key::new("per", Shape::Choice(|| words(PER)), "How often the state of a key changes. Default record."),
    Key::new("state", Shape::StateByColumn(STATE_COLUMN), "State columns and their updates.").required(),
    Key::new("emit", Shape::SqlByColumn, "What comes out. Default: key and state columns."),
    Key::new("emit_when", Shape::Sql, "A row comes out when this is true. Default: always."),
    Key::new("remove_when", Shape::Sql, "The key is forgotten when this is true."),
    Key::new("timeout", Shape::Duration, "A key without records for longer than this is forgotten. Default: none is."),
    Key::new("initial", Shape::Text, "A csv or JSON-lines file with the state to begin with."),
];

pub(super) const STATE_COLUMN: &[Key] = &[
    Key::new("type", Shape::Type, "The column's type. Default: that of the expression."),
    Key::new("update", Shape::Sql, "The new value.").required(),
];

pub(super) const BATCH_MAP: &[Key] =
    &[Key::new("function", Shape::Text, "The name under which the function is registered.").required()];

const LENGTH: Key = Key::new("length", Shape::Duration, "The time covered, back from the firing batch.").required();
const SLIDE: Key =
    Key::new("slide", Shape::Duration, "How often it fires: at multiples of this. Default: whenever the input does.");
const AGGREGATES: Key = Key::new("aggregates", Shape::SqlByColumn, "Column names and their aggregates.").required();

/// Keys of `window`, `count_by_window` and `count_by_value_and_window`.
pub(super) const WINDOW: &[Key] = &[LENGTH, SLIDE];

pub(super) const REDUCE_BY_KEY_AND_WINDOW: &[Key] = &[
    KEY,
    AGGREGATES,
    LENGTH,
    SLIDE,
    Key::new("keep_zero_keys", Shape::Flag, "Whether keys without rows stay. Default false."),
];

pub(super) const REDUCE_BY_WINDOW: &[Key] = &[AGGREGATES, LENGTH, SLIDE];

pub(super) const GROUP_BY_KEY_AND_WINDOW: &[Key] =
    &[KEY, Key::new("values", Shape::Columns, "Columns to make lists of. Default: all but the key."), LENGTH, SLIDE];

pub(super) const SLICE: &[Key] = &[
    Key::new("from", Shape::Time, "The first batch time.").required(),
    Key::new("to", Shape::Time, "The last batch time.").required(),
];

pub(super) const TRAIN: &[Key] = &[
    Key::new("model", Shape::Name, "The model that learns.").required(),
    Key::new("features", Shape::Columns, "Columns of numbers, or one of vectors; text for `one_hot`."),
    Key::new("arm", Shape::Sql, "Which arm was chosen; for bandits."),
    Key::new("label", Shape::Sql, "What is to be predicted, or the reward; not for clustering and transformers."),
    Key::new("weight", Shape::Sql, "How much a row counts. Default 1."),
    Key::new("drift", Shape::OpenTable(ON_DRIFT), "What happens when the model's own errors rise."),
];

pub(super) const ON_DRIFT: &[Key] = &[
    Key::new("detector", Shape::Text, "Which detector.").required(),
    Key::new("action", Shape::Choice(|| words(DRIFT_ACTION)), "What happens. Default `warn`: it is reported."),
];

const BY: Key = Key::new("key", Shape::Columns, "One for each value of these columns. Default: one for all.");

pub(super) const EVALUATE: &[Key] = &[
    Key::new("prediction", Shape::Sql, "What was predicted.").required(),
    Key::new("label", Shape::Sql, "What was true; not for clustering."),
    Key::new("score", Shape::Sql, "Probability of the class; for clusters the distance to the second nearest centre."),
    Key::new("weight", Shape::Sql, "How much a row counts. Default 1."),
    BY,
];

pub(super) const AB_TEST: &[Key] = &[
    Key::new("experiment", Shape::Sql, "True for rows of the experiment, false for the control.").required(),
    Key::new("value", Shape::Sql, "What is compared.").required(),
    BY,
];

pub(super) const CHOOSE: &[Key] = &[
    Key::new("losses", Shape::SqlByColumn, "The loss of each model; the first begins as champion.").required(),
    BY,
    Key::new("publish", Shape::Text, "A name under which the champion answers and is published."),
];

pub(super) const DETECT_DRIFT: &[Key] = &[
    Key::new("value", Shape::Sql, "What is watched.").required(),
    Key::new("detector", Shape::Text, "Which detector.").required(),
    BY,
];

/// Keys of an output beside its sink.
pub(super) const OUTPUT: &[Key] = &[
    Key::new("from", Shape::Name, "The source or stream that is read."),
    Key::new("from_model", Shape::Name, "In place of `from`: what a model has learnt, one row per batch."),
    Key::new("name", Shape::Name, "The output's name. Default: that of what it reads."),
];

/// The sinks of an output; exactly one of them.
pub(super) const SINKS: &[Key] = &[
    Key::new("print", Shape::TrueOrTable(PRINT), "Shows the first rows of every batch."),
    Key::new("json", Shape::Table(JSON), "Writes JSON lines, exactly once."),
    Key::new("text", Shape::TextSink, "Writes a line of text for every row, exactly once."),
    Key::new("csv", Shape::Table(CSV), "Writes delimited text, exactly once."),
    Key::new("parquet", Shape::Table(PARQUET), "Writes Parquet files, exactly once."),
    Key::new("object", Shape::Table(OBJECT), "Writes Arrow IPC files, exactly once."),
    Key::new("http", Shape::Table(HTTP), "Posts the rows of every batch, at least once."),
    Key::new("for_each_batch", Shape::Text, "A function in Rust that sees all rows of the batch, at least once."),
];

pub(super) const PRINT: &[Key] =
    &[Key::new("rows", Shape::Count(PRINT_ROWS), "Rows shown of every batch. Default 10.")];

const PATH: Key =
    Key::new("path", Shape::Text, "A directory, relative to the job file, or its URL in an object store.");
const ROLLS: Key =
    Key::new("roll", Shape::TrueOrTable(ROLL), "One set of files for all batches. Default: a directory for each.");

pub(super) const JSON: &[Key] = &[PATH.required(), ROLLS];

/// The table of [`Shape::TextSink`].
pub(super) const TEXT: &[Key] = &[
    PATH,
    Key::new("prefix", Shape::Text, "Directories are called prefix-TIME_MS, in place of path/TIME_MS."),
    Key::new("suffix", Shape::Text, "What ends their names, behind a dot; with `prefix`."),
    Key::new("column", Shape::Column, "The column that is written. Default: the only one."),
    ROLLS,
];

pub(super) const CSV: &[Key] = &[
    PATH.required(),
    Key::new("header", Shape::Flag, "Whether every file begins with the names of the columns. Default true."),
    Key::new("delimiter", Shape::Text, "What separates the fields: one byte. Default a comma."),
    ROLLS,
];

pub(super) const PARQUET: &[Key] = &[PATH.required()];

pub(super) const OBJECT: &[Key] = &[PATH.required()];

pub(super) const ROLL: &[Key] = &[
    Key::new("bytes", Shape::Size, "A file is full when it has this many bytes. Default 64MiB."),
    Key::new("age", Shape::Duration, "A file is full when its first batch is this old. Default 10min."),
];

pub(super) const HTTP: &[Key] = &[
    Key::new("url", Shape::Text, "Where the rows are posted.").required(),
    Key::new("timeout", Shape::Duration, "How long one attempt may take. Default 10s."),
    Key::new("retries", Shape::Count(RETRIES), "Attempts after the first. Default 5."),
    Key::new("headers", Shape::TextByName, "Further headers."),
];
