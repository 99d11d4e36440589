//! How records are written: text, csv, JSON.

use super::key::Choices;
use super::reader::{Reader, Table, Value};
use super::{ColumnDef, ColumnType, Name};
use crate::diag::Diagnostic;

/// How a record is read.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// A line is one string column, `value`.
    /// Every line is a text.
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

/// The formats, as the choices of `format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatKind {
    /// Every line is a text.
    Text,
    /// Delimited text.
    Csv,
    /// JSON lines.
    Json,
    /// Parquet files.
    Parquet,
}

/// What is in files.
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

/// Of bytes and records.
pub const FORMATS: Choices<FormatKind> =
    &[("text", FormatKind::Text), ("csv", FormatKind::Csv), ("json", FormatKind::Json)];
/// Of whole files.
pub const FILE_FORMATS: Choices<FormatKind> = &[
    ("text", FormatKind::Text),
    ("csv", FormatKind::Csv),
    ("json", FormatKind::Json),
    ("parquet", FormatKind::Parquet),
];
/// Of a table.
pub const TABLE_FORMATS: Choices<FormatKind> =
    &[("csv", FormatKind::Csv), ("json", FormatKind::Json), ("parquet", FormatKind::Parquet)];

/// The columns of a format, and what else it needs.
pub fn read_format_of<'t>(r: &mut Reader<'t>, table: &Table<'t>, format: FormatKind) -> Option<Format> {
    if format != FormatKind::Csv {
        for key in ["delimiter", "null"] {
            only_for(r, table, key, "format = \"csv\"");
        }
    }
    if format == FormatKind::Text {
        only_for(r, table, "columns", "formats with several columns, such as \"csv\"");
        return Some(Format::Text);
    }
    let columns = match table.get("columns") {
        Some(value) => read_columns(r, value),
        None => {
            r.missing(table, "`columns`");
            None
        }
    };
    if matches!(format, FormatKind::Json | FormatKind::Parquet) {
        return Some(Format::Json { columns: columns? });
    }
    let delimiter = match table.get("delimiter") {
        Some(value) => read_delimiter(r, value),
        None => Some(b','),
    };
    let null = match table.get("null") {
        Some(value) => Some(r.string(value)?.to_owned()),
        None => None,
    };
    Some(Format::Csv { columns: columns?, delimiter: delimiter?, null })
}

/// Notes a key that goes with another format only.
pub fn only_for<'t>(r: &mut Reader<'t>, table: &Table<'t>, key: &str, format: &str) {
    if table.get(key).is_some() {
        let message = format!("`{key}` does not apply to this format");
        let wrong = Diagnostic::new(message).at(table.key_span(key));
        r.push(wrong.label(format!("only for {format}")));
    }
}

/// One ASCII character that can stand between fields.
pub fn read_delimiter<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<u8> {
    let text = r.string(value)?;
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !b"\r\n\"".contains(byte) => Some(*byte),
        _ => {
            let message = "a delimiter is one ASCII character, neither a line break nor a quote";
            r.push(Diagnostic::new(message).at(value.span()));
            None
        }
    }
}

fn read_columns<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Vec<ColumnDef>> {
    let entries = r.entries(value)?;
    if entries.is_empty() {
        r.push(Diagnostic::new("expected at least one column").at(value.span()));
        return None;
    }
    let mut columns = Vec::new();
    let count = entries.len();
    for (name, value) in entries {
        let named = r.check_column(&name);
        match read_type(r, value) {
            Some(data_type) if named => columns.push(ColumnDef { name, data_type }),
            _ => {}
        }
    }
    (columns.len() == count).then_some(columns)
}

/// The name of a column type.
pub fn read_type<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<ColumnType> {
    let Name { text, span } = r.text(value)?;
    let data_type = ColumnType::from_name(&text);
    if data_type.is_none() {
        let wrong = Diagnostic::new(format!("`{text}` is not a type")).at(span);
        let wrong = wrong.label(format!("expected {}", ColumnType::EXPECTED));
        r.push(match ColumnType::suggestion(&text) {
            Some(near) => wrong.help(format!("did you mean `{near}`?")),
            None => wrong,
        });
    }
    data_type
}
