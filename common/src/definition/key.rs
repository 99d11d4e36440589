//! What the keys of a definition are made of: the one list behind the reader, the JSON Schema and the documentation.

use std::ops::RangeInclusive;

/// A key of a table.
#[derive(Debug)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What may stand behind it.
    pub shape: Shape,
    /// One sentence, with the default.
    pub doc: &'static str,
    /// Whether it has to be there.
    pub required: bool,
}

impl Key {
    /// A key that may be left out.
    pub const fn new(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self { name, shape, doc, required: false }
    }

    /// A key that has to be there.
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }
}

/// What may stand behind a key.
#[derive(Debug)]
pub enum Shape {
    /// Any text.
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
    /// A list of them.
    Addresses,
    /// Such as `10s`.
    Duration,
    /// A point in time.
    Time,
    /// Such as `4MiB`.
    Size,
    /// A whole number of this range.
    Count(RangeInclusive<u64>),
    /// A count, or a table of these keys.
    CountOrTable(RangeInclusive<u64>, &'static [Key]),
    /// A number, not negative.
    Number,
    /// `true` or `false`.
    Flag,
    /// `true`.
    True,
    /// One of these words.
    Choice(fn() -> Vec<&'static str>),
    /// An expression or a query.
    Sql,
    /// The name of a column type.
    Type,
    /// Column name to expression.
    SqlByColumn,
    /// Column name to type.
    TypeByColumn,
    /// Column name to expression, or to a table of these keys.
    StateByColumn(&'static [Key]),
    /// The table of `flat_map`, which has alternatives.
    FlatMap,
    /// A table of these keys, of which exactly one of some has to be there.
    TableWithOneOf(&'static [Key], &'static [&'static str]),
    /// Name to text.
    TextByName,
    /// Lists of lines, one for each batch.
    Batches,
    /// A table of these keys.
    Table(&'static [Key]),
    /// A table of these keys, and of parameters that depend on a kind.
    OpenTable(&'static [Key]),
    /// `true`, or a table of these keys.
    TrueOrTable(&'static [Key]),
    /// Any number of tables, each with its name.
    Named(TableKind),
    /// A list of tables.
    List(TableKind),
}

/// The tables whose keys depend on each other.
#[derive(Debug, Clone, Copy)]
pub enum TableKind {
    /// `[source.NAME]`
    Source,
    /// `[model.NAME]`
    Model,
    /// `[stream.NAME]`
    Stream,
    /// `[[output]]`
    Output,
    /// `[table.NAME]`
    Table,
}

/// The words of a choice with their values.
pub type Choices<T> = &'static [(&'static str, T)];

/// The words of a choice.
pub fn words<T>(choices: Choices<T>) -> Vec<&'static str> {
    choices.iter().map(|(word, _)| *word).collect()
}

/// Receivers of a source.
pub const RECEIVERS: RangeInclusive<u64> = 1..=64;
/// Whole numbers in TOML have 63 bits.
pub const POSITIVE: RangeInclusive<u64> = 1..=i64::MAX as u64;
/// The same, or none.
pub const NOT_NEGATIVE: RangeInclusive<u64> = 0..=i64::MAX as u64;
