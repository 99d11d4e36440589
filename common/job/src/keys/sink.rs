//! Keys of outputs.

use super::{COMPRESSIONS, Key, PRINT_ROWS, RETRIES, Shape, words};

/// Keys of an output beside its sink.
pub(crate) const OUTPUT: &[Key] = &[
    Key::new("from", Shape::Name, "The source or stream that is read."),
    Key::new("from_model", Shape::Name, "In place of `from`: what a model has learnt, one row per batch."),
    Key::new("name", Shape::Name, "The output's name. Default: that of what it reads."),
];

/// The sinks of an output; exactly one of them.
pub(crate) const SINKS: &[Key] = &[
    Key::new("print", Shape::TrueOrTable(PRINT), "Shows the first rows of every batch."),
    Key::new("json", Shape::Table(JSON), "Writes JSON lines, exactly once."),
    Key::new("text", Shape::TextSink, "Writes a line of text for every row, exactly once."),
    Key::new("csv", Shape::Table(CSV), "Writes delimited text, exactly once."),
    Key::new("parquet", Shape::Table(PARQUET), "Writes Parquet files, exactly once."),
    Key::new("object", Shape::Table(OBJECT), "Writes Arrow IPC files, exactly once."),
    Key::new("http", Shape::Table(HTTP), "Posts the rows of every batch, at least once."),
    Key::new("for_each_batch", Shape::Text, "A function in Rust that sees all rows of the batch, at least once."),
];

pub(crate) const PRINT: &[Key] =
    &[Key::new("rows", Shape::Count(PRINT_ROWS), "Rows shown of every batch. Default 10.")];

const PATH: Key =
    Key::new("path", Shape::Text, "A directory, relative to the job file, or its URL in an object store.");
const ROLLS: Key =
    Key::new("roll", Shape::TrueOrTable(ROLL), "One set of files for all batches. Default: a directory for each.");

const COMPRESSION: Key =
    Key::new("compression", Shape::Choice(|| words(COMPRESSIONS)), "How the files are compressed. Default not at all.");

pub(crate) const JSON: &[Key] = &[PATH.required(), COMPRESSION, ROLLS];

/// The table of [`Shape::TextSink`].
pub(crate) const TEXT: &[Key] = &[
    PATH,
    Key::new("prefix", Shape::Text, "Directories are called prefix-TIME_MS, in place of path/TIME_MS."),
    Key::new("suffix", Shape::Text, "What ends their names, behind a dot; with `prefix`."),
    Key::new("column", Shape::Column, "The column that is written. Default: the only one."),
    COMPRESSION,
    ROLLS,
];

pub(crate) const CSV: &[Key] = &[
    PATH.required(),
    Key::new("header", Shape::Flag, "Whether every file begins with the names of the columns. Default true."),
    Key::new("delimiter", Shape::Text, "What separates the fields: one byte. Default a comma."),
    Key::new("null", Shape::Text, "The text that is written for null. Default none."),
    COMPRESSION,
    ROLLS,
];

pub(crate) const PARQUET: &[Key] = &[PATH.required(), COMPRESSION];

pub(crate) const OBJECT: &[Key] = &[PATH.required()];

pub(crate) const ROLL: &[Key] = &[
    Key::new("bytes", Shape::Size, "A file is full when it has this many bytes. Default 64MiB."),
    Key::new("age", Shape::Duration, "A file is full when its first batch is this old. Default 10min."),
];

pub(crate) const HTTP: &[Key] = &[
    Key::new("url", Shape::Text, "Where the rows are posted.").required(),
    Key::new("timeout", Shape::Duration, "How long one attempt may take. Default 10s."),
    Key::new("retries", Shape::Count(RETRIES), "Attempts after the first. Default 5."),
    Key::new("headers", Shape::TextByName, "Further headers."),
];
