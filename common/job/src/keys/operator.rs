//! Keys of streams.

use super::{DRIFT_ACTION, EMIT, Key, PER, POSITIVE, Shape, UPDATE_KEYS, words};

/// Keys of every stream.
pub(crate) const STREAM: &[Key] =
    &[Key::new("from", Shape::Names, "The source, stream or table that is read, or a list of them.").required()];

/// The operators of a stream; exactly one of them stands beside [`STREAM`].
pub(crate) const OPERATORS: &[Key] = &[
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

pub(crate) const FLAT_MAP: &[Key] = &[
    Key::new("split", Shape::Sql, "A text to split; with `by`."),
    Key::new("by", Shape::Text, "What separates the pieces."),
    Key::new("unnest", Shape::Sql, "A list to take apart, in place of `split`."),
    Key::new("as", Shape::Column, "Column of the piece.").required(),
    Key::new("keep", Shape::Columns, "Columns of the input that are kept. Default none."),
];

pub(crate) const REDUCE_BY_KEY: &[Key] =
    &[KEY, Key::new("aggregates", Shape::SqlByColumn, "Column names and their aggregates.").required()];

const JOIN_ON: Key =
    Key::new("on", Shape::ColumnsOrTable(ON), "Key columns of both inputs, or those of each.").required();

pub(crate) const JOIN: &[Key] = &[
    JOIN_ON,
    Key::new("within", Shape::Duration, "How long rows wait for partners in later batches. Default: not at all."),
];

pub(crate) const COGROUP: &[Key] = &[JOIN_ON];

pub(crate) const ON: &[Key] = &[
    Key::new("left", Shape::Columns, "Key columns of the first input.").required(),
    Key::new("right", Shape::Columns, "Key columns of the second input.").required(),
];

pub(crate) const GROUP_BY_KEY: &[Key] =
    &[KEY, Key::new("values", Shape::Columns, "Columns that become lists. Default: all others.")];

pub(crate) const SORT: &[Key] = &[
    Key::new("by", Shape::SortKeys, "Columns to sort by; with a `-` before it, greatest first.").required(),
    Key::new("descending", Shape::Flag, "Turns the order of all columns round. Default false."),
    Key::new("limit", Shape::Count(POSITIVE), "At most so many rows. Default: all."),
];

pub(crate) const TOP_K: &[Key] = &[
    Key::new("k", Shape::Count(POSITIVE), "How many rows.").required(),
    Key::new("by", Shape::SortKeys, "Columns to compare; with a `-` before it, smallest first.").required(),
    Key::new("per", Shape::Columns, "Key columns: so many rows of each key. Default: of the batch."),
];

pub(crate) const REPARTITION: &[Key] =
    &[Key::new("by", Shape::Columns, "Rows with the same values stay together. Default: all columns.")];

pub(crate) const UPDATE_STATE: &[Key] = &[
    KEY,
    Key::new("state", Shape::StateByColumn(STATE_COLUMN), "State columns and their updates.").required(),
    Key::new("update", Shape::Choice(|| words(UPDATE_KEYS)), "Which keys are updated in a batch. Default every_key."),
    Key::new("initial", Shape::Text, "A csv or JSON-lines file with the state to begin with."),
    Key::new("drop_when", Shape::Sql, "A key whose new state makes this true is dropped."),
    Key::new("emit", Shape::Choice(|| words(EMIT)), "Which keys come out. Default all."),
];

pub(crate) const MAP_WITH_STATE: &[Key] = &[
    KEY,
    Key::new("per", Shape::Choice(|| words(PER)), "How often the state of a key changes. Default record."),
    Key::new("state", Shape::StateByColumn(STATE_COLUMN), "State columns and their updates.").required(),
    Key::new("emit", Shape::SqlByColumn, "What comes out. Default: key and state columns."),
    Key::new("emit_when", Shape::Sql, "A row comes out when this is true. Default: always."),
    Key::new("remove_when", Shape::Sql, "The key is forgotten when this is true."),
    Key::new("timeout", Shape::Duration, "A key without records for longer than this is forgotten. Default: none is."),
    Key::new("initial", Shape::Text, "A csv or JSON-lines file with the state to begin with."),
];

pub(crate) const STATE_COLUMN: &[Key] = &[
    Key::new("type", Shape::Type, "The column's type. Default: that of the expression."),
    Key::new("update", Shape::Sql, "The new value.").required(),
];

pub(crate) const BATCH_MAP: &[Key] =
    &[Key::new("function", Shape::Text, "The name under which the function is registered.").required()];

const LENGTH: Key = Key::new("length", Shape::Duration, "The time covered, back from the firing batch.").required();
const SLIDE: Key =
    Key::new("slide", Shape::Duration, "How often it fires: at multiples of this. Default: whenever the input does.");
const AGGREGATES: Key = Key::new("aggregates", Shape::SqlByColumn, "Column names and their aggregates.").required();

/// Keys of `window`, `count_by_window` and `count_by_value_and_window`.
pub(crate) const WINDOW: &[Key] = &[LENGTH, SLIDE];

pub(crate) const REDUCE_BY_KEY_AND_WINDOW: &[Key] = &[
    KEY,
    AGGREGATES,
    LENGTH,
    SLIDE,
    Key::new("keep_zero_keys", Shape::Flag, "Whether keys without rows stay. Default false."),
];

pub(crate) const REDUCE_BY_WINDOW: &[Key] = &[AGGREGATES, LENGTH, SLIDE];

pub(crate) const GROUP_BY_KEY_AND_WINDOW: &[Key] =
    &[KEY, Key::new("values", Shape::Columns, "Columns to make lists of. Default: all but the key."), LENGTH, SLIDE];

pub(crate) const SLICE: &[Key] = &[
    Key::new("from", Shape::Time, "The first batch time.").required(),
    Key::new("to", Shape::Time, "The last batch time.").required(),
];

pub(crate) const TRAIN: &[Key] = &[
    Key::new("model", Shape::Name, "The model that learns.").required(),
    Key::new("features", Shape::Columns, "Columns of numbers, or one of vectors; text for `one_hot`."),
    Key::new("arm", Shape::Sql, "Which arm was chosen; for bandits."),
    Key::new("label", Shape::Sql, "What is to be predicted, or the reward; not for clustering and transformers."),
    Key::new("weight", Shape::Sql, "How much a row counts. Default 1."),
    Key::new("drift", Shape::OpenTable(ON_DRIFT), "What happens when the model's own errors rise."),
];

pub(crate) const ON_DRIFT: &[Key] = &[
    Key::new("detector", Shape::Text, "Which detector.").required(),
    Key::new("action", Shape::Choice(|| words(DRIFT_ACTION)), "What happens. Default `warn`: it is reported."),
];

const BY: Key = Key::new("key", Shape::Columns, "One for each value of these columns. Default: one for all.");

pub(crate) const EVALUATE: &[Key] = &[
    Key::new("prediction", Shape::Sql, "What was predicted.").required(),
    Key::new("label", Shape::Sql, "What was true; not for clustering."),
    Key::new("score", Shape::Sql, "Probability of the class; for clusters the distance to the second nearest centre."),
    Key::new("weight", Shape::Sql, "How much a row counts. Default 1."),
    BY,
];

pub(crate) const AB_TEST: &[Key] = &[
    Key::new("experiment", Shape::Sql, "True for rows of the experiment, false for the control.").required(),
    Key::new("value", Shape::Sql, "What is compared.").required(),
    BY,
];

pub(crate) const CHOOSE: &[Key] = &[
    Key::new("losses", Shape::SqlByColumn, "The loss of each model; the first begins as champion.").required(),
    BY,
    Key::new("publish", Shape::Text, "A name under which the champion answers and is published."),
];

pub(crate) const DETECT_DRIFT: &[Key] = &[
    Key::new("value", Shape::Sql, "What is watched.").required(),
    Key::new("detector", Shape::Text, "Which detector.").required(),
    BY,
];
