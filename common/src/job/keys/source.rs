//! Keys of sources and tables.

use super::{
    CONNECTORS, FILE_FORMATS, FORMATS, Key, NOT_NEGATIVE, ON_BAD_RECORD, PER_MILLE, POSITIVE, RECEIVERS, Shape,
    TABLE_FORMATS, words,
};

/// Keys of every source.
pub(in crate::job) const SOURCE: &[Key] =
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
const MAX_BAD_RECORDS: Key = Key::new(
    "max_bad_records",
    Shape::CountOrTable(NOT_NEGATIVE, BAD_SHARE),
    "The job fails with more bad records than these. Default: no bound.",
);

/// Keys of `max_bad_records`.
pub(in crate::job) const BAD_SHARE: &[Key] =
    &[Key::new("per_mille", Shape::Count(PER_MILLE), "So many of a thousand.").required()];

const MULTI_LINE: Key = Key::new(
    "multi_line",
    Shape::Flag,
    "Whether a quoted field of csv may hold line breaks. Default true for files, false for sockets.",
);

const MAX_RATE: Key =
    Key::new("max_rate", Shape::Count(POSITIVE), "Most records per second and receiver. Default: no bound.");

/// Keys of a source with `connector = "socket"`, beside [`SOURCE`].
pub(in crate::job) const SOCKET: &[Key] = &[
    Key::new("address", Shape::Address, "host:port of the server that sends the lines."),
    Key::new("addresses", Shape::Addresses, "Several servers; one receiver for each."),
    Key::new("acknowledge", Shape::Flag, "Whether the sender speaks the acknowledging line protocol. Default false."),
    Key::new("receivers", Shape::Count(RECEIVERS), "Connections to a single plain address. Default 1."),
    FORMAT,
    COLUMNS,
    DELIMITER,
    NULL,
    MULTI_LINE,
    BAD_RECORD,
    MAX_BAD_RECORDS,
    MAX_RATE,
];

/// Keys of a source with `connector = "generate"`, beside [`SOURCE`].
pub(in crate::job) const GENERATE: &[Key] = &[
    Key::new("rows_per_second", Shape::Count(POSITIVE), "Rows per second over all receivers.").required(),
    Key::new("keys", Shape::Count(POSITIVE), "Number of distinct keys. Default 100."),
    Key::new("seed", Shape::Count(NOT_NEGATIVE), "Seed of the random values. Default 1."),
    Key::new("limit", Shape::Count(POSITIVE), "Stop after this many rows. Default: never."),
    Key::new("receivers", Shape::Count(RECEIVERS), "Receivers that share the rate. Default 1."),
];

/// Keys of a source with `connector = "files"`, beside [`SOURCE`].
pub(in crate::job) const FILES: &[Key] = &[
    Key::new("path", Shape::Text, "A directory, relative to the job file, or its URL in an object store.").required(),
    Key::new("pattern", Shape::Text, "Names that count, with * and ?. Default: all."),
    Key::new("new_files_only", Shape::Flag, "Whether files that are there at first are left out. Default false."),
    Key::new("poll_interval", Shape::Duration, "How often the directory is looked at. Default 1s."),
    Key::new("header", Shape::Flag, "Whether csv files begin with a line of names. Default false."),
    Key::new("format", Shape::Choice(|| words(FILE_FORMATS)), "What is in the files. Default text."),
    COLUMNS,
    DELIMITER,
    NULL,
    MULTI_LINE,
    BAD_RECORD,
    MAX_BAD_RECORDS,
    MAX_RATE,
];

/// Keys of a source with `connector = "queue"`, beside [`SOURCE`].
pub(in crate::job) const QUEUE: &[Key] = &[
    Key::new("batches", Shape::Batches, "The records of each batch.").required(),
    Key::new("repeat", Shape::Flag, "Whether it begins anew after the last one. Default false."),
    FORMAT,
    COLUMNS,
    DELIMITER,
    NULL,
    BAD_RECORD,
    MAX_BAD_RECORDS,
];

/// Keys of a source with `connector = "receiver"`, beside [`SOURCE`].
pub(in crate::job) const RECEIVER: &[Key] = &[
    Key::new("function", Shape::Text, "The name under which the receiver is registered.").required(),
    Key::new("options", Shape::TextByName, "What it is told. Default nothing."),
    Key::new("receivers", Shape::Count(RECEIVERS), "How many of it. Default 1."),
    FORMAT,
    COLUMNS,
    DELIMITER,
    NULL,
    BAD_RECORD,
    MAX_BAD_RECORDS,
    MAX_RATE,
];

/// The keys of each connector, beside [`SOURCE`].
pub(in crate::job) const CONNECTOR_KEYS: &[(&str, &[Key])] =
    &[("socket", SOCKET), ("generate", GENERATE), ("files", FILES), ("queue", QUEUE), ("receiver", RECEIVER)];

/// Keys of a table.
pub(in crate::job) const TABLE: &[Key] = &[
    Key::new("path", Shape::Text, "A file, relative to the job file, or the URL of an object.").required(),
    Key::new("format", Shape::Choice(|| words(TABLE_FORMATS)), "What is in the file.").required(),
    Key::new("columns", Shape::TypeByColumn, "Column names and types.").required(),
    Key::new("header", Shape::Flag, "Whether a csv file begins with a line of names. Default true."),
    DELIMITER,
    NULL,
    Key::new("reload", Shape::Flag, "Whether the table is read again when its file changes. Default true."),
    Key::new("reload_interval", Shape::Duration, "How often the file is looked at. Default 10s."),
];
