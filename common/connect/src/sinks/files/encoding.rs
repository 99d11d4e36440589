//! A row as bytes: a line of text, or Arrow's row format for the columnar ones.

use super::FileFormat;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::fmt::Write as _;
use tidemill_common::definition::Span;
use tidemill_common::diag::Diagnostic;
use tidemill_rows::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use tidemill_rows::arrow::datatypes::{DataType, SchemaRef};
use tidemill_rows::arrow::error::ArrowError;
use tidemill_rows::arrow::row::{RowConverter, SortField};
use tidemill_rows::arrow::util::display::{ArrayFormatter, FormatOptions};
use tidemill_rows::{Compression, RowError, rows_to_json};

/// How the rows of an output are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowEncoding {
    pub(super) format: FileFormat,
    pub(super) schema: SchemaRef,
    pub(super) compression: Option<Compression>,
}

impl RowEncoding {
    /// Rows of these columns in this format.
    pub fn new(format: FileFormat, schema: SchemaRef) -> Self {
        Self { format, schema, compression: None }
    }

    /// In compressed files.
    pub fn compressed(self, compression: Option<Compression>) -> Self {
        Self { compression, ..self }
    }

    /// What the names of files end in.
    pub fn extension(&self) -> String {
        let format = match self.format {
            // As Spark's `saveAsTextFiles`.
            FileFormat::Text { .. } => "",
            FileFormat::Json => ".jsonl",
            FileFormat::Csv { .. } => ".csv",
            // Which are compressed inside.
            FileFormat::Parquet => return ".parquet".to_owned(),
            FileFormat::Object => ".arrow",
        };
        format!("{format}{}", self.compression.map_or("", Compression::suffix))
    }

    /// Whether rows of these columns can be written so.
    pub(super) fn check(&self, from: Span) -> Result<(), Diagnostic> {
        let nested = |data_type: &DataType| data_type.is_nested();
        let fields = self.schema.fields();
        let wrong = |message: String| Err(Diagnostic::new(message).at(from.clone()));
        match &self.format {
            FileFormat::Json => Ok(()),
            FileFormat::Text { column: None } if fields.len() != 1 => {
                let names: Vec<_> = fields.iter().map(|field| format!("`{}`", field.name())).collect();
                let message =
                    format!("a line of text is one column, and there are {}: {}", names.len(), names.join(", "));
                wrong(message).map_err(|wrong| wrong.help("name one with `column`, or make one with `select`"))
            }
            FileFormat::Text { column } => self.check_text(column.as_ref().map_or(from.clone(), |c| c.span.clone())),
            FileFormat::Csv { .. } => match fields.iter().find(|field| nested(field.data_type())) {
                Some(field) => wrong(format!("column `{}` is a list or struct, which csv cannot hold", field.name())),
                None => Ok(()),
            },
            FileFormat::Parquet | FileFormat::Object => {
                if RowConverter::supports_fields(&self.sort_fields()) {
                    return Ok(());
                }
                wrong("these columns have a type that cannot be written so".to_string())
            }
        }
    }

    fn check_text(&self, place: Span) -> Result<(), Diagnostic> {
        let Some(column) = self.text_column() else {
            let FileFormat::Text { column: Some(column) } = &self.format else { return Ok(()) };
            let names = self.schema.fields().iter().map(|field| field.name().as_str());
            let wrong = Diagnostic::new(format!("there is no column `{}`", column.text)).at(place);
            return Err(wrong.did_you_mean(&column.text, names));
        };
        let field = &self.schema.fields()[column];
        if !field.data_type().is_nested() {
            return Ok(());
        }
        let message = format!("column `{}` is a list or struct, and has no text", field.name());
        Err(Diagnostic::new(message).at(place).help("name another with `column`, or make one with `select`"))
    }

    /// The column of a line of text, if it is there.
    fn text_column(&self) -> Option<usize> {
        match &self.format {
            FileFormat::Text { column: Some(name) } => self.schema.index_of(&name.text).ok(),
            _ => Some(0),
        }
    }

    pub(super) fn sort_fields(&self) -> Vec<SortField> {
        self.schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect()
    }

    /// The rows of a batch, each for itself. Lines are without their ends.
    ///
    /// # Errors
    /// For values that have no text, such as dates outside of the calendar.
    pub fn encode(&self, batch: &RecordBatch) -> Result<Vec<Vec<u8>>, RowError> {
        match &self.format {
            FileFormat::Json => Ok(rows_to_json(batch)?.into_iter().map(String::into_bytes).collect()),
            FileFormat::Text { .. } => {
                let missing = || ArrowError::SchemaError("the column of the text is not there".into());
                let cell = cells(batch.column(self.text_column().ok_or_else(missing)?))?;
                (0..batch.num_rows()).map(|row| Ok(cell(row)?.unwrap_or_else(|| "null".into()).into_bytes())).collect()
            }
            FileFormat::Csv { delimiter, null, .. } => csv_lines(batch, *delimiter, null),
            FileFormat::Parquet | FileFormat::Object => {
                let rows = RowConverter::new(self.sort_fields())?.convert_columns(batch.columns())?;
                Ok(rows.iter().map(|row| row.data().to_vec()).collect())
            }
        }
    }

    /// The line with the names of the columns, for a format that has one.
    pub(super) fn header(&self) -> Option<String> {
        let FileFormat::Csv { header: true, delimiter, ref null } = self.format else { return None };
        let mut line = String::new();
        for (i, field) in self.schema.fields().iter().enumerate() {
            push_field(&mut line, i, Some(field.name()), delimiter, null);
        }
        Some(line)
    }
}

type Cells<'a> = Box<dyn Fn(usize) -> Result<Option<String>, RowError> + 'a>;

/// The values of a column as text; none for null.
fn cells(column: &ArrayRef) -> Result<Cells<'_>, RowError> {
    if let DataType::Binary = column.data_type() {
        let array = column.as_binary::<i32>();
        return Ok(Box::new(move |row| Ok(array.is_valid(row).then(|| BASE64.encode(array.value(row))))));
    }
    let formatter = ArrayFormatter::try_new(column, &FormatOptions::new().with_display_error(false))?;
    Ok(Box::new(move |row| {
        if column.is_null(row) {
            return Ok(None);
        }
        let mut text = String::new();
        write!(text, "{}", formatter.value(row).try_to_string()?)
            .map_err(|e| ArrowError::from_external_error(Box::new(e)))?;
        Ok(Some(text))
    }))
}

fn csv_lines(batch: &RecordBatch, delimiter: u8, null: &str) -> Result<Vec<Vec<u8>>, RowError> {
    let columns = batch.columns().iter().map(cells).collect::<Result<Vec<_>, _>>()?;
    let line = |row| {
        let mut line = String::new();
        for (i, cell) in columns.iter().enumerate() {
            push_field(&mut line, i, cell(row)?.as_deref(), delimiter, null);
        }
        if line.is_empty() {
            // A blank line would be no record.
            line.push_str("\"\"");
        }
        Ok(line.into_bytes())
    };
    (0..batch.num_rows()).map(line).collect()
}

/// Null is the text for it; what would be taken for that, or for the mark that a file may begin with, is in quotes, as an
/// empty text is.
fn push_field(line: &mut String, number: usize, field: Option<&str>, delimiter: u8, null: &str) {
    if number > 0 {
        line.push(char::from(delimiter));
    }
    let Some(text) = field else { return line.push_str(null) };
    let special = text.contains([char::from(delimiter), '"', '\n', '\r']);
    if special || text.is_empty() || text == null || text.starts_with('\u{feff}') {
        line.push('"');
        line.push_str(&text.replace('"', "\"\""));
        line.push('"');
    } else {
        line.push_str(text);
    }
}
