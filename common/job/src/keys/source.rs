//! Keys of sources and tables.

use super::{
    FILE_FORMATS, FORMATS, Key, NOT_NEGATIVE, ON_BAD_RECORD, PER_MILLE, POSITIVE, Shape, TABLE_FORMATS, words,
};
use tidemill_connect::{Description, Payload};

/// Keys of every source.
pub(crate) const SOURCE: &[Key] = &[Key::new("connector", Shape::Text, "How records get in.").required()];

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
pub(crate) const BAD_SHARE: &[Key] =
    &[Key::new("per_mille", Shape::Count(PER_MILLE), "So many of a thousand.").required()];

const MAX_RATE: Key =
    Key::new("max_rate", Shape::Count(POSITIVE), "Most records per second and receiver. Default: no bound.");

const FORMAT: Key = Key::new("format", Shape::Choice(|| words(FORMATS)), "How a record is read. Default text.");
const FILE_FORMAT: Key =
    Key::new("format", Shape::Choice(|| words(FILE_FORMATS)), "What is in the files. Default text.");
const COLUMNS: Key = Key::new("columns", Shape::TypeByColumn, "Column names and types; not for text.");
const DELIMITER: Key = Key::new("delimiter", Shape::Text, "What separates csv fields: one byte. Default a comma.");
const NULL: Key =
    Key::new("null", Shape::Text, "The csv text that means null. Default: an empty field, except for strings.");
const MULTI_LINE: Key = Key::new(
    "multi_line",
    Shape::Flag,
    "Whether a quoted field of csv may hold line breaks. Default true for files, false for sockets.",
);

/// Keys of sources that can be slowed down.
pub(crate) const PACED: &[Key] = &[MAX_RATE];

/// Keys that say how what a source gives is read.
pub(crate) fn of_payload(payload: Payload) -> &'static [Key] {
    match payload {
        Payload::Lines => &[FORMAT, COLUMNS, DELIMITER, NULL, MULTI_LINE, BAD_RECORD, MAX_BAD_RECORDS],
        Payload::Files => &[FILE_FORMAT, COLUMNS, DELIMITER, NULL, MULTI_LINE, BAD_RECORD, MAX_BAD_RECORDS],
        Payload::Records => &[FORMAT, COLUMNS, DELIMITER, NULL, BAD_RECORD, MAX_BAD_RECORDS],
        Payload::Rows(_) => &[],
    }
}

/// All keys of the sources of one kind, beside [`SOURCE`].
pub(crate) fn of_source(connector: &Description) -> [&'static [Key]; 3] {
    [connector.keys, of_payload(connector.payload), if connector.paced { PACED } else { &[] }]
}

/// Keys of a table.
pub(crate) const TABLE: &[Key] = &[
    Key::new("path", Shape::Text, "A file, relative to the job file, or the URL of an object.").required(),
    Key::new("format", Shape::Choice(|| words(TABLE_FORMATS)), "What is in the file.").required(),
    Key::new("columns", Shape::TypeByColumn, "Column names and types.").required(),
    Key::new("header", Shape::Flag, "Whether a csv file begins with a line of names. Default true."),
    DELIMITER,
    NULL,
    Key::new("reload", Shape::Flag, "Whether the table is read again when its file changes. Default true."),
    Key::new("reload_interval", Shape::Duration, "How often the file is looked at. Default 10s."),
];
