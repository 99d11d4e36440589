//! Keys of files.

use tidemill_common::definition::{Choices, Key, Shape, words};
use tidemill_rows::Compression;

pub(super) const COMPRESSIONS: Choices<Compression> = &[
    ("gzip", Compression::Gzip),
    ("zstd", Compression::Zstd),
    ("lz4", Compression::Lz4),
    ("snappy", Compression::Snappy),
    ("brotli", Compression::Brotli),
];

const PATH: Key =
    Key::new("path", Shape::Text, "A directory, relative to the job file, or its URL in an object store.");
const ROLLS: Key =
    Key::new("roll", Shape::TrueOrTable(ROLL), "One set of files for all batches. Default: a directory for each.");

const COMPRESSION: Key =
    Key::new("compression", Shape::Choice(|| words(COMPRESSIONS)), "How the files are compressed. Default not at all.");

pub(super) const JSON: &[Key] = &[PATH.required(), COMPRESSION, ROLLS];

/// Either `path` or `prefix`.
pub(super) const TEXT: &[Key] = &[
    PATH,
    Key::new("prefix", Shape::Text, "Directories are called prefix-TIME_MS, in place of path/TIME_MS."),
    Key::new("suffix", Shape::Text, "What ends their names, behind a dot; with `prefix`."),
    Key::new("column", Shape::Column, "The column that is written. Default: the only one."),
    COMPRESSION,
    ROLLS,
];

pub(super) const CSV: &[Key] = &[
    PATH.required(),
    Key::new("header", Shape::Flag, "Whether every file begins with the names of the columns. Default true."),
    Key::new("delimiter", Shape::Text, "What separates the fields: one byte. Default a comma."),
    Key::new("null", Shape::Text, "The text that is written for null. Default none."),
    COMPRESSION,
    ROLLS,
];

pub(super) const PARQUET: &[Key] = &[PATH.required(), COMPRESSION];

pub(super) const OBJECT: &[Key] = &[PATH.required()];

pub(super) const ROLL: &[Key] = &[
    Key::new("bytes", Shape::Size, "A file is full when it has this many bytes. Default 64MiB."),
    Key::new("age", Shape::Duration, "A file is full when its first batch is this old. Default 10min."),
];
