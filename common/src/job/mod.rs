//! The job definition: what a user writes, read and checked as far as that needs no SQL.
//!
//! [`parse`] turns text into a [`JobDef`] or into *all* the mistakes it finds. Types of expressions are
//! checked by `tidemill-plan`, which reports into the same [`Diagnostics`](crate::diag::Diagnostics) by way of [`Sql::span`].

mod check;
mod foreign;
mod graph;
mod keys;
mod learn;
mod order;
mod parse;
mod rate;
mod reader;
mod schema;
mod sink;
mod source;
mod stream;
mod table;
#[cfg(test)]
mod tests;
mod together;
mod types;
mod window;

pub use learn::{
    AbTest, Choose, DEFAULT_KEEP, DetectDrift, DriftAction, Evaluate, ModelDef, OnDrift, Param, SaveModel, Train,
};
pub use parse::parse;
pub use schema::schema;
pub use table::{Reload, TableDef};

use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::time::Duration;

/// Byte range in the text of the definition.
pub type Span = Range<usize>;

/// A name as written, with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// The text.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// A piece of SQL as written, with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sql {
    /// The text.
    pub text: String,
    /// Where it stands (inside the quotes).
    pub span: Span,
}

/// A whole job definition, in the order it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct JobDef {
    /// The job's name: letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// Job-wide settings.
    pub settings: Settings,
    /// Where records come from.
    pub sources: Vec<SourceDef>,
    /// What learns; named in `train` and in the functions that ask a model.
    pub models: Vec<ModelDef>,
    /// What is computed; `from` names a source or another stream, or a table.
    pub streams: Vec<StreamDef>,
    /// Where results go.
    pub outputs: Vec<OutputDef>,
    /// Rows that are there for every batch.
    pub tables: Vec<TableDef>,
}

/// Job-wide settings. Every one has a default but `batch_interval`.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Length of a batch.
    pub batch_interval: Duration,
    /// How often receivers seal a block; by default the smaller of 200 ms and half the batch interval.
    pub block_interval: Duration,
    /// A block is sealed early at this size, in bytes; at most 8 MiB. Default 4 MiB.
    pub block_bytes: u64,
    /// Copies of blocks and state, counting the original. Default 2.
    pub replication: u32,
    /// What the log and the blocks survive. Default `replicated`.
    pub durability: Durability,
    /// What to do while fewer copies exist than `replication` asks for. Default `continue`.
    pub on_under_replicated: OnUnderReplicated,
    /// Shares of the key space; part of the state format. Default 64, at most 4096.
    pub key_groups: u32,
    /// How often state is written to sled. Default the larger of 5 s and the batch interval.
    pub checkpoint_interval: Duration,
    /// A batch is frozen early when this many records wait. Default none.
    pub cut_at_records: Option<u64>,
    /// A batch is frozen early when this many bytes wait. Default none.
    pub cut_at_bytes: Option<u64>,
    /// At most this many bytes go into one batch; the rest waits for the next. Default 1 GiB.
    pub max_batch_bytes: u64,
    /// A unit of work may fail this often before the job fails. Default 4.
    pub max_task_failures: u32,
    /// How sources are slowed down to what batches can take. Default not at all.
    pub backpressure: Option<Backpressure>,
}

/// Spark's `spark.streaming.backpressure`: a PID controller that finds the rate at which a source is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backpressure {
    /// Weight of the difference to the rate of the last batch. Default 1.
    pub proportional: f64,
    /// Weight of what has gathered while the batch was late. Default 0.2.
    pub integral: f64,
    /// Weight of the change of the difference. Default 0.
    pub derived: f64,
    /// The least rate of a source, in records per second. Default 100.
    pub min_rate: u64,
    /// Rate of each receiver before there is an estimate, in records per second. Default none.
    pub initial_rate: Option<u64>,
}

impl Default for Backpressure {
    fn default() -> Self {
        Self { proportional: 1.0, integral: 0.2, derived: 0.0, min_rate: 100, initial_rate: None }
    }
}

/// What data outlives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Durability {
    /// `kill -9` of any process: copies on two workers, the log handed to the operating system.
    Replicated,
    /// Power loss too: blocks and log synced to disk.
    Disk,
}

/// What to do when fewer copies exist than asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnUnderReplicated {
    /// Go on, `DEGRADED`.
    Continue,
    /// Stop reading from sources until copies exist again.
    Pause,
    /// Fail the job.
    Fail,
}

/// Where records come from.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceDef {
    /// The source's name.
    pub name: Name,
    /// How records get in.
    pub connector: Connector,
    /// How a record is read.
    pub format: Format,
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
        /// The lines of each batch; none is empty.
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
    Skip,
    /// Fail the job.
    Fail,
}

/// One step of the computation.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamDef {
    /// The stream's name.
    pub name: Name,
    /// Sources or other streams: as many as [`Operator::inputs`] says.
    pub from: Vec<Name>,
    /// What is done.
    pub operator: Operator,
    /// Place of the operator's key, for errors about the operator as a whole.
    pub operator_span: Span,
}

/// A named expression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedSql {
    /// Name of the column.
    pub name: Name,
    /// Its expression.
    pub sql: Sql,
}

/// The stream operators, by Spark's names.
#[derive(Debug, Clone, PartialEq)]
pub enum Operator {
    /// `map`: one row out per row in. `select = { name = "expr", .. }`
    Select(Vec<NamedSql>),
    /// Rows for which it is true. `filter = "expr"`
    Filter(Sql),
    /// A row for every element of a list.
    FlatMap {
        /// The list, or text to split.
        each: FlatMapEach,
        /// Name of the element's column.
        name: Name,
        /// Columns of the input that are kept beside it.
        keep: Vec<Name>,
    },
    /// Aggregates per key. `reduce_by_key = { key = "user", aggregates = { total = "sum(price)" } }`
    ReduceByKey {
        /// Key columns (names of columns of the input).
        key: Vec<Name>,
        /// Aggregates, in order.
        aggregates: Vec<NamedSql>,
    },
    /// Number of rows: exactly one row, 0 for an empty batch, column `count`. `count = true`
    Count,
    /// Aggregates over the whole batch; nothing for an empty batch. `reduce = { total = "sum(price)" }`
    Reduce(Vec<NamedSql>),
    /// Distinct rows. `distinct = true`
    Distinct,
    /// Any SQL query over the inputs, by their names, within the batch.
    Sql(Sql),
    /// Running state per key.
    UpdateStateByKey(Box<UpdateStateByKey>),
    /// A model learns from the rows. `train = { model = "price", features = "x", label = "y" }`
    Train(Box<Train>),
    /// How good predictions are. `evaluate = { prediction = "p", label = "y" }`
    Evaluate(Box<Evaluate>),
    /// An A/B test. `ab_test = { experiment = "is_new", value = "clicks" }`
    AbTest(Box<AbTest>),
    /// The best of several models, live. `choose = { losses = { a = "abs(a - y)", b = "abs(b - y)" } }`
    Choose(Box<Choose>),
    /// Where a stream of numbers changes. `detect_drift = { value = "abs(error)", detector = "adwin" }`
    DetectDrift(Box<DetectDrift>),
    /// `mapPartitions`: a registered function over all rows of a unit. `batch_map = { function = "name" }`
    BatchMap(Name),
    /// The rows of the first stream, then those of the second, and so on. `union = true`
    Union,
    /// State per key, visited with every record.
    MapWithState(Box<MapWithState>),
    /// Every key and its state, as the stream that is read left them. `state_snapshots = true`
    StateSnapshots,
    /// Rows of two streams that have the same key. `join = { on = "user" }`, `join = { on = "id", within = "10m" }`
    Join {
        /// Which rows come out.
        kind: JoinKind,
        /// The keys.
        on: On,
        /// How long a row waits for partners in later batches; without it partners are in the same batch.
        within: Option<Period>,
    },
    /// Per key, the lists of the rows of both streams. `cogroup = { on = "user" }`
    Cogroup(On),
    /// Per key, the list of its rows. `group_by_key = { key = "user", values = "price" }`
    GroupByKey {
        /// Key columns.
        key: Vec<Name>,
        /// Columns that become lists; by default all that are not keys.
        values: Option<Vec<Name>>,
    },
    /// How often each row occurs; the rows are the keys. `count_by_value = true`
    CountByValue,
    /// `transform(_.sortBy(..))`: the rows of the batch in order. `sort = { by = "-price", limit = 3 }`
    Sort {
        /// What to sort by.
        by: Vec<SortKey>,
        /// At most so many rows.
        limit: Option<u64>,
    },
    /// The greatest rows, of the batch or per key. `top_k = { k = 3, by = "price", per = "user" }`
    TopK {
        /// How many.
        k: u64,
        /// What the greatest rows have the most of: in the order in which they come.
        by: Vec<SortKey>,
        /// Key columns; none for the whole batch.
        per: Vec<Name>,
    },
    /// Spreads rows over all key groups, by some columns or by all of them. `repartition = { by = "user" }`
    Repartition {
        /// Key columns; none for all that can be keys.
        by: Vec<Name>,
    },
    /// The rows of the last batches. `window = { length = "30s", slide = "10s" }`
    Window(Frame),
    /// `reduceByKeyAndWindow`: aggregates per key over a window.
    ReduceByKeyAndWindow {
        /// Key columns.
        key: Vec<Name>,
        /// Aggregates, in order.
        aggregates: Vec<NamedSql>,
        /// The window.
        frame: Frame,
        /// Whether keys stay for ever, with the aggregates over no rows (Spark's inverse form). Default false.
        keep_zero_keys: bool,
    },
    /// `reduceByWindow`: aggregates over a window; nothing for an empty one.
    ReduceByWindow {
        /// Aggregates, in order.
        aggregates: Vec<NamedSql>,
        /// The window.
        frame: Frame,
    },
    /// `countByWindow`: the number of rows of a window, column `count`; 0 for an empty one.
    CountByWindow(Frame),
    /// `countByValueAndWindow`: how often each row is in a window, column `count`.
    CountByValueAndWindow(Frame),
    /// `groupByKeyAndWindow`: the values of each key in a window, as lists, in the order in which they came.
    GroupByKeyAndWindow {
        /// Key columns.
        key: Vec<Name>,
        /// Columns to make lists of. Default: all but the key.
        values: Option<Vec<Name>>,
        /// The window.
        frame: Frame,
    },
    /// `slice`: the rows of the batches from one time to another, once. `slice = { from = "0s", to = "2s" }`
    Slice {
        /// First batch time, in ms since 1970.
        from_ms: i64,
        /// Last batch time, in ms since 1970.
        to_ms: i64,
    },
}

/// The joins, by Spark's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinKind {
    /// Pairs of rows with the same key. `join`
    Inner,
    /// Those, and left rows without a partner. `left_outer_join`
    LeftOuter,
    /// Pairs, and right rows without a partner. `right_outer_join`
    RightOuter,
    /// Pairs, and all rows without a partner. `full_outer_join`
    FullOuter,
    /// Left rows that have a partner. `semi`
    Semi,
    /// Left rows that have none. `anti`
    Anti,
}

/// The key columns of two streams: as many on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct On {
    /// Columns of the first stream.
    pub left: Vec<Name>,
    /// Columns of the second.
    pub right: Vec<Name>,
}

/// A column to sort by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortKey {
    /// The column.
    pub column: Name,
    /// Greatest first, nulls last; otherwise smallest first, nulls first.
    pub descending: bool,
}

/// How many streams an operator reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inputs {
    /// One.
    One,
    /// Two, not the same.
    Two,
    /// Two or more; one may be read several times.
    Several,
    /// One or more.
    Any,
}

impl Operator {
    /// How many streams it reads.
    pub fn inputs(&self) -> Inputs {
        match self {
            Self::Union => Inputs::Several,
            Self::Join { .. } | Self::Cogroup(_) => Inputs::Two,
            Self::Sql(_) => Inputs::Any,
            _ => Inputs::One,
        }
    }
}

/// Which batches a window covers, and when it fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// It covers the batches of this time, the one in which it fires included.
    pub length: Period,
    /// It fires when the batch time is a multiple of this. Default: whenever its input does.
    pub slide: Option<Period>,
}

/// A duration as written, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Period {
    /// The duration.
    pub duration: Duration,
    /// Where it stands (inside the quotes).
    pub span: Span,
}

/// What a flat map goes over.
#[derive(Debug, Clone, PartialEq)]
pub enum FlatMapEach {
    /// `{ split = "value", by = " ", as = "word" }`: the pieces of a text; empty pieces are kept as Scala's `split` keeps them (trailing ones are dropped).
    Split {
        /// An expression of type string.
        text: Sql,
        /// What separates the pieces.
        by: String,
    },
    /// `{ unnest = "expr", as = "item" }`: the elements of a list.
    Unnest(Sql),
}

/// `updateStateByKey`.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateStateByKey {
    /// Key columns.
    pub key: Vec<Name>,
    /// State columns, in order.
    pub state: Vec<StateColumn>,
    /// Which keys are updated. Default `every_key`, as in Spark.
    pub update: UpdateKeys,
    /// A CSV (with header) or JSON-lines file of key and state columns, relative to the job file.
    pub initial: Option<Name>,
    /// A key whose *new* state makes this true is dropped (Spark: the function returns None).
    pub drop_when: Option<Sql>,
    /// What comes out. Default `all`, as in Spark.
    pub emit: Emit,
}

/// A state column.
#[derive(Debug, Clone, PartialEq)]
pub struct StateColumn {
    /// Its name.
    pub name: Name,
    /// Its type, where it is not to be inferred.
    pub data_type: Option<ColumnType>,
    /// Its update expression over `state.*`, key columns and aggregates of the batch.
    pub update: Sql,
}

/// Which keys an update runs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateKeys {
    /// Every known key, in every batch.
    EveryKey,
    /// Only keys with records in the batch.
    Touched,
}

/// Which keys a state operator emits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Emit {
    /// All keys, in every batch.
    All,
    /// Keys whose state was updated in this batch by records (and not dropped).
    Changed,
}

/// `mapWithState`. Expressions see `state.*` (in updates before the change, elsewhere after it), `old.*` (before it),
/// key columns, `state_exists` and `timing_out`, and a record's columns or aggregates over the records of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct MapWithState {
    /// Key columns.
    pub key: Vec<Name>,
    /// How often the state of a key changes. Default `record`, as in Spark.
    pub per: Per,
    /// State columns, in order.
    pub state: Vec<StateColumn>,
    /// What comes out. Default: key and state columns.
    pub emit: Option<Vec<NamedSql>>,
    /// A row comes out when this is true. Default: always.
    pub emit_when: Option<Sql>,
    /// The key is forgotten when this is true (Spark: `state.remove()`).
    pub remove_when: Option<Sql>,
    /// A key without records for longer than this is forgotten.
    pub timeout: Option<Duration>,
    /// A CSV (with header) or JSON-lines file of key and state columns, relative to the job file.
    pub initial: Option<Name>,
}

/// How often the state of a key changes in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Per {
    /// With every record, in order.
    Record,
    /// Once, with aggregates over its records.
    Key,
}

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
