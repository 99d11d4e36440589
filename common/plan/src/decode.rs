//! Blocks to record batches.
//!
//! A block is whole lines, a record is one line ([`records`]). A good block is decoded in one go; only when that fails
//! are the bad records looked for, by halving, so that one bad record costs a few more passes and never its neighbours.
//! A carriage return before the line feed is dropped. Blank lines are records of a text source only.

mod bad;
mod dates;
mod decimal;
mod infinite;
mod lines;
mod nulls;
mod strict;
mod vector;

pub(crate) use bad::bad_schema;
pub use bad::{BadRecord, BadRecords};
pub(crate) use decimal::parse as decimal_of_text;

use crate::error::PlanError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, StringArray, StringBuilder};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::csv;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::display::FormatOptions;
use lines::Lines;
use memchr::memchr;
use regex::Regex;
use std::sync::Arc;
use tidemill_job::{ColumnType, Format, OnBadRecord, SourceDef};
use tidemill_rows::canonical_rows;
use tidemill_rows::records;
use tidemill_rows::type_name;

/// Rows of a batch; what every fragment is fed with, too.
pub(crate) const BATCH_ROWS: usize = 8192;

/// What does not fit is a mistake, not null.
const STRICT: CastOptions<'static> = CastOptions { safe: false, format_options: FormatOptions::new() };

/// Characters kept of a reason.
const REASON_CHARS: usize = 200;

/// How to read a source.
#[derive(Debug)]
pub struct SourcePlan {
    /// The source's name.
    pub name: String,
    /// Its columns.
    pub schema: SchemaRef,
    /// What happens to bad records; up to the caller.
    pub on_bad_record: OnBadRecord,
    format: Format,
    /// The schema as read. Binary columns are text until base64 is undone; so are decimals, of which the reader would
    /// drop further digits, dates and timestamps, of which it would drop the time or leave the calendar, and integers in
    /// JSON, of which it would drop the fraction.
    raw: SchemaRef,
    /// The same with floats as text.
    texts: SchemaRef,
    null: Option<Regex>,
}

/// What a block holds.
#[derive(Debug)]
pub struct Decoded {
    /// The good records, in order.
    pub batches: Vec<RecordBatch>,
    /// Records in the block, bad ones included.
    pub records: u64,
    /// The others.
    pub bad: BadRecords,
}

/// The Arrow type of a declared column.
pub(crate) fn arrow_type(column: ColumnType) -> DataType {
    match column {
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Int => DataType::Int32,
        ColumnType::BigInt => DataType::Int64,
        ColumnType::Float => DataType::Float32,
        ColumnType::Double => DataType::Float64,
        ColumnType::String => DataType::Utf8,
        ColumnType::Date => DataType::Date32,
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        ColumnType::Decimal(precision, scale) => DataType::Decimal128(precision, scale),
        ColumnType::Binary => DataType::Binary,
        ColumnType::Vector(length) => vector::data_type(length),
    }
}

impl SourcePlan {
    /// How to read this source.
    pub(crate) fn new(def: &SourceDef) -> Self {
        let fields = match &def.format {
            Format::Text => vec![Field::new("value", DataType::Utf8, true)],
            Format::Csv { columns, .. } | Format::Json { columns } => {
                columns.iter().map(|c| Field::new(&c.name.text, arrow_type(c.data_type), true)).collect()
            }
        };
        Self::from_parts(&def.name.text, def.format.clone(), Schema::new(fields), def.on_bad_record)
    }

    /// How to read lines of this format into these columns.
    pub(crate) fn from_parts(name: &str, format: Format, schema: Schema, on_bad_record: OnBadRecord) -> Self {
        let json = matches!(format, Format::Json { .. });
        let raw = schema.fields().iter().map(|field| match field.data_type() {
            DataType::Binary | DataType::Decimal128(..) | DataType::Date32 | DataType::Timestamp(..) => {
                Field::new(field.name(), DataType::Utf8, true)
            }
            DataType::FixedSizeList(..) if json => Field::new(field.name(), vector::json_type(), true),
            DataType::FixedSizeList(..) => Field::new(field.name(), DataType::Utf8, true),
            integer if json && integer.is_integer() => Field::new(field.name(), DataType::Utf8, true),
            _ => field.as_ref().clone(),
        });
        let null = match &format {
            // Escaped text is always a regular expression.
            Format::Csv { null: Some(text), .. } => Regex::new(&format!(r"\A(?:{})\z", regex::escape(text))).ok(),
            _ => None,
        };
        let raw = Schema::new(raw.collect::<Vec<_>>());
        Self {
            name: name.to_string(),
            texts: Arc::new(infinite::with_texts(&raw)),
            raw: Arc::new(raw),
            schema: Arc::new(schema),
            on_bad_record,
            format,
            null,
        }
    }

    /// Reads a block.
    ///
    /// # Errors
    /// Only for a block that is too large: whatever the bytes are, what cannot be read is a bad record.
    pub fn decode(&self, block: &[u8]) -> Result<Decoded, PlanError> {
        let block = lines::without_carriage_returns(block);
        if let Ok(batches) = self.read(&block, BATCH_ROWS) {
            let records = batches.iter().map(|batch| batch.num_rows() as u64).sum();
            return Ok(Decoded { batches, records, bad: BadRecords::default() });
        }
        let is_record: fn(&[u8]) -> bool = match self.format {
            Format::Text => |_| true,
            Format::Csv { .. } => |line| !matches!(line, b"" | b"\n"),
            Format::Json { .. } => |line| !lines::is_blank(line),
        };
        let lines = Lines::new(&block, is_record);
        let mut found = Decoded { batches: Vec::new(), records: lines.len() as u64, bad: BadRecords::default() };
        self.halve(&lines, &mut found);
        Ok(found)
    }

    fn keeps_bad(&self) -> bool {
        matches!(self.on_bad_record, OnBadRecord::DeadLetter { .. })
    }

    /// Reads lines of which some may be bad.
    fn halve(&self, lines: &Lines<'_>, found: &mut Decoded) {
        match self.read(lines.text(), lines.len().min(BATCH_ROWS)) {
            Ok(batches) => found.batches.extend(batches),
            Err(reason) => match lines.split() {
                Some((first, second)) => {
                    self.halve(&first, found);
                    self.halve(&second, found);
                }
                None => found.bad.add(lines.first_line(), lines.text(), reason, self.keeps_bad()),
            },
        }
    }

    /// Reads lines all of which must be good, in batches of this size.
    fn read(&self, text: &[u8], batch_rows: usize) -> Result<Vec<RecordBatch>, String> {
        let utf8 = |text| std::str::from_utf8(text).map_err(|_| "not UTF-8".to_string());
        let raw = match &self.format {
            Format::Text => return self.read_text(utf8(text)?),
            Format::Csv { delimiter, null, .. } => {
                check_quotes(text, *delimiter)?;
                let (lines, shown) = (lines::count_not_blank(text), records::text(text));
                utf8(&shown)?;
                let read = |columns: &SchemaRef| self.read_csv(columns, &shown, *delimiter, batch_rows, lines);
                let batches = self.with_what_is_infinite(read)?;
                match null {
                    Some(null) => nulls::put_back(batches, text, *delimiter, null, &self.schema).map_err(reason)?,
                    None => batches,
                }
            }
            Format::Json { .. } => {
                utf8(text)?;
                self.with_what_is_infinite(|columns| self.read_json(columns, text, batch_rows))?
            }
        };
        raw.into_iter().map(|batch| self.finish(batch)).collect()
    }

    /// Reads the columns as they are read, and again where it has to be known how something infinite is written.
    fn with_what_is_infinite(
        &self,
        read: impl Fn(&SchemaRef) -> Result<Vec<RecordBatch>, String>,
    ) -> Result<Vec<RecordBatch>, String> {
        let batches = read(&self.raw)?;
        if batches.iter().any(infinite::is_in) {
            let json = matches!(self.format, Format::Json { .. });
            read(&self.texts)?.iter().try_for_each(|texts| infinite::check(texts, &self.raw, json))?;
        }
        Ok(batches)
    }

    fn read_text(&self, text: &str) -> Result<Vec<RecordBatch>, String> {
        let mut lines = lines::of_text(text).peekable();
        let mut batches = Vec::new();
        while lines.peek().is_some() {
            let mut builder = StringBuilder::new();
            lines.by_ref().take(BATCH_ROWS).for_each(|line| builder.append_value(line));
            let column: ArrayRef = Arc::new(builder.finish());
            batches.push(RecordBatch::try_new(self.schema.clone(), vec![column]).map_err(reason)?);
        }
        Ok(batches)
    }

    /// The quotes are checked: each of so many lines that are not blank is a record.
    fn read_csv(
        &self,
        columns: &SchemaRef,
        text: &[u8],
        delimiter: u8,
        batch_rows: usize,
        lines: usize,
    ) -> Result<Vec<RecordBatch>, String> {
        let mut builder = csv::ReaderBuilder::new(columns.clone())
            .with_delimiter(delimiter)
            .with_terminator(b'\n')
            .with_batch_size(batch_rows);
        if let Some(null) = &self.null {
            builder = builder.with_null_regex(null.clone());
        }
        let mut decoder = builder.build_decoder();
        // The decoder drops a byte order mark that it begins with, and here it would be one within a stream.
        decoder.decode(b"\n").map_err(reason)?;
        let mut batches = Vec::new();
        let mut rest = text;
        loop {
            let read = decoder.decode(rest).map_err(reason)?;
            rest = &rest[read..];
            if decoder.capacity() == 0 || read == 0 {
                match decoder.flush().map_err(|error| value_reason(error, columns))? {
                    Some(batch) => batches.push(batch),
                    None if rest.is_empty() => break,
                    None => return Err("not CSV".into()),
                }
            }
        }
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if rows != lines {
            return Err("not one record of CSV".into());
        }
        Ok(batches)
    }

    /// Line by line, because an object could go on in the next line, or end before the end of its own.
    fn read_json(&self, columns: &SchemaRef, text: &[u8], batch_rows: usize) -> Result<Vec<RecordBatch>, String> {
        let mut decoder = json::ReaderBuilder::new(columns.clone())
            .with_batch_size(batch_rows)
            .with_coerce_primitive(true)
            .build_decoder()
            .map_err(reason)?;
        let mut batches = Vec::new();
        for line in text.split(|&byte| byte == b'\n').filter(|line| !lines::is_blank(line)) {
            strict::check(line)?;
            let before = decoder.len();
            let read = decoder.decode(line).map_err(reason)?;
            if read < line.len() || decoder.len() != before + 1 || decoder.has_partial_record() {
                return Err("not one JSON object".into());
            }
            if decoder.len() == batch_rows {
                batches.extend(decoder.flush().map_err(reason)?);
            }
        }
        batches.extend(decoder.flush().map_err(reason)?);
        Ok(batches)
    }

    /// From the columns as read to the columns as declared.
    fn finish(&self, raw: RecordBatch) -> Result<RecordBatch, String> {
        let plain_csv = matches!(self.format, Format::Csv { null: None, .. });
        let json = matches!(self.format, Format::Json { .. });
        let read = |field: &Field, column: &ArrayRef| match field.data_type() {
            DataType::Binary => from_base64(column.as_string()),
            DataType::Decimal128(precision, scale) => decimal::from_text(column.as_string(), *precision, *scale),
            DataType::Date32 => dates::dates(column.as_string()),
            DataType::Timestamp(..) => dates::timestamps(column.as_string()),
            DataType::FixedSizeList(_, length) if json => vector::from_lists(column, *length),
            DataType::FixedSizeList(_, length) => vector::from_text(column.as_string(), *length),
            integer if json && integer.is_integer() => integers(column, integer),
            DataType::Utf8 if plain_csv => Ok(empty_for_null(column.as_string())),
            _ => Ok(column.clone()),
        };
        let columns = self.schema.fields().iter().zip(raw.columns()).map(|(field, column)| {
            read(field, column).map_err(|reason| format!("column `{}`: {reason}", field.name()))
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(self.schema.clone(), columns).map(canonical_rows).map_err(reason)
    }
}

fn check_quotes(records: &[u8], delimiter: u8) -> Result<(), String> {
    if memchr(b'"', records).is_none() && !records::has_line_break(records) {
        return Ok(());
    }
    records.split(|byte| *byte == b'\n').try_for_each(|record| Ok(records::check_quotes(record, delimiter)?))
}

/// The reader takes every empty field for null.
fn empty_for_null(column: &StringArray) -> ArrayRef {
    Arc::new(StringArray::new(column.offsets().clone(), column.values().clone(), None))
}

fn from_base64(column: &StringArray) -> Result<ArrayRef, String> {
    let mut builder = BinaryBuilder::with_capacity(column.len(), column.value_data().len());
    for value in column {
        match value {
            None => builder.append_null(),
            Some(text) => builder.append_value(BASE64.decode(text).map_err(|_| format!("`{text}` is not base64"))?),
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// Whole numbers out of text, which a point makes none of.
fn integers(column: &ArrayRef, integer: &DataType) -> Result<ArrayRef, String> {
    cast_with_options(column, integer, &STRICT).map_err(|error| match column.as_string_opt::<i32>() {
        // Bad records are alone at last.
        Some(one) if one.len() == 1 => format!("`{}` does not fit {}", one.value(0), type_name(integer)),
        _ => error.to_string(),
    })
}

/// What the readers say, in our words, and without the places they cannot know.
fn reason(error: ArrowError) -> String {
    let text = match error {
        ArrowError::ParseError(text) | ArrowError::CsvError(text) | ArrowError::JsonError(text) => text,
        other => other.to_string(),
    };
    let text = without_place(&text);
    let text = match text.split_once(" for line ") {
        Some((before, after)) => match after.split_once(", ") {
            Some((_, after)) => format!("{before}, {after}"),
            None => before.to_string(),
        },
        None => text,
    };
    let text = match text.strip_prefix("whilst decoding field '").and_then(|rest| rest.split_once("': ")) {
        Some((column, why)) => format!("column `{column}`: {why}"),
        None => text,
    };
    let text = text.replace("Float64", "double").replace("Float32", "float");
    text.chars().take(REASON_CHARS).collect()
}

/// The reader of csv says of which column a value is by its number.
fn value_reason(error: ArrowError, columns: &Schema) -> String {
    let known = |text: &str| {
        let (value, rest) = text.strip_prefix("Error while parsing value '")?.split_once("' as type '")?;
        let (_, rest) = rest.split_once("' for column ")?;
        let (number, _) = rest.split_once(" at line ")?;
        let field = columns.fields().get(number.parse::<usize>().ok()?)?;
        Some(format!("column `{}`: `{value}` does not fit {}", field.name(), type_name(field.data_type())))
    };
    match &error {
        ArrowError::ParseError(text) => known(text).map(|text| text.chars().take(REASON_CHARS).collect()),
        _ => None,
    }
    .unwrap_or_else(|| reason(error))
}

fn without_place(text: &str) -> String {
    text.split(" at line ").next().unwrap_or(text).to_string()
}

#[cfg(test)]
mod tests;
