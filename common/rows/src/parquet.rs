//! Rows of Parquet files, with the columns that were declared.
//!
//! A column of another type is cast, value by value, as long as the value stays what it is: 9.0 is a `bigint`, 9.5 makes
//! its row a bad one. As in text, only digits behind the declared ones are rounded (decimals) or left out (fractions of
//! a second).

mod cast;

use crate::caught::caught;
use crate::floats::canonical_rows;
use crate::json::rows_to_json;
use arrow::array::{ArrayRef, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::Type as PhysicalType;
use parquet::file::reader::ChunkReader;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows decoded at once.
const ROWS: usize = 4096;
/// Of a file over which the reader panics.
const PANICKED: &str = "the file is damaged, or no Parquet that can be read";

/// Some rows of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct ParquetRows {
    /// With the columns that were declared; null where a value does not fit.
    pub rows: RecordBatch,
    /// Rows with a value that does not fit, ascending.
    pub bad: Vec<BadRow>,
}

/// A row with a value that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// Its number among those it came with, from 0.
    pub row: usize,
    /// Which value, and why not.
    pub reason: String,
    /// The row as the file has it, as JSON.
    pub text: String,
}

/// The rows of a file with these columns, by name: others are left out, one that the file does not have is null.
///
/// # Errors
/// Says what is wrong with the file, or with a part of it; a column none of whose values could fit is.
pub fn parquet_rows(
    file: impl ChunkReader + 'static,
    schema: &SchemaRef,
) -> Result<impl Iterator<Item = Result<ParquetRows, String>>, String> {
    let metadata = caught(|| metadata(&file)).ok_or(PANICKED)?.map_err(text)?;
    for field in schema.fields() {
        if let Ok(found) = metadata.schema().field_with_name(field.name()) {
            cast::check(field, found.data_type())?;
        }
    }
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
    let fields = builder.schema().fields().iter().enumerate();
    let wanted: Vec<usize> =
        fields.filter(|(_, field)| schema.index_of(field.name()).is_ok()).map(|(number, _)| number).collect();
    let columns = ProjectionMask::roots(builder.parquet_schema(), wanted);
    let reader = caught(|| builder.with_projection(columns).with_batch_size(ROWS).build()).ok_or(PANICKED)?;
    let (schema, mut reader) = (schema.clone(), Some(reader.map_err(text)?));
    Ok(std::iter::from_fn(move || match caught(|| reader.as_mut()?.next()) {
        Some(batch) => batch.map(|batch| declared(&batch.map_err(text)?, &schema)),
        None => {
            reader = None;
            Some(Err(PANICKED.into()))
        }
    }))
}

/// The file's metadata. Times of 96 bits are read in microseconds: nanoseconds reach from 1677 to 2262 only, and such
/// times from other programs do not keep to that.
fn metadata(file: &impl ChunkReader) -> parquet::errors::Result<ArrowReaderMetadata> {
    let found = ArrowReaderMetadata::load(file, ArrowReaderOptions::default())?;
    let physical = found.parquet_schema().root_schema().get_fields();
    let is_96_bits = |number: usize| {
        physical.get(number).is_some_and(|of| of.is_primitive() && of.get_physical_type() == PhysicalType::INT96)
    };
    if !(0..physical.len()).any(is_96_bits) {
        return Ok(found);
    }
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    let fields = found.schema().fields().iter().enumerate().map(|(number, field)| match is_96_bits(number) {
        true => Arc::new(Field::new(field.name(), micros.clone(), field.is_nullable())),
        false => field.clone(),
    });
    let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields.collect::<Vec<_>>())));
    ArrowReaderMetadata::try_new(found.metadata().clone(), options)
}

fn declared(batch: &RecordBatch, schema: &SchemaRef) -> Result<ParquetRows, String> {
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    let mut reasons: BTreeMap<usize, String> = BTreeMap::new();
    for field in schema.fields() {
        let Some(column) = batch.column_by_name(field.name()) else {
            columns.push(new_null_array(field.data_type(), batch.num_rows()));
            continue;
        };
        let cast = cast::cast(column, field).map_err(|error| format!("column `{}`: {error}", field.name()))?;
        columns.push(cast.column);
        for (row, reason) in cast.misfits {
            reasons.entry(row).or_insert(reason);
        }
    }
    let rows = RecordBatch::try_new(schema.clone(), columns).map(canonical_rows).map_err(text)?;
    let bad = reasons.into_iter().map(|(row, reason)| {
        // What has no text has none.
        let text = rows_to_json(&batch.slice(row, 1)).map(|mut rows| rows.pop().unwrap_or_default());
        BadRow { row, reason, text: text.unwrap_or_default() }
    });
    Ok(ParquetRows { rows, bad: bad.collect() })
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests;
