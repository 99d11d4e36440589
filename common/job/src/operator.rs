//! What a stream is: the operators.

use super::{AbTest, Choose, DetectDrift, Evaluate, MapWithState, Name, Period, Span, Sql, Train, UpdateStateByKey};
use serde::{Deserialize, Serialize};

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

/// Which batches a window covers, and when it fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// It covers the batches of this time, the one in which it fires included.
    pub length: Period,
    /// It fires when the batch time is a multiple of this. Default: whenever its input does.
    pub slide: Option<Period>,
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
