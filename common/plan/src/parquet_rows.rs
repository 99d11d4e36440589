//! Rows of Parquet files, with the columns that were declared.

use datafusion::arrow::array::new_null_array;
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::ChunkReader;

/// Rows decoded at once.
const ROWS: usize = 4096;

/// The rows of a file with these columns, by name: others are left out, one that the file does not have is null.
///
/// # Errors
/// Says what is wrong with the file, or with a batch of it.
pub fn parquet_rows(
    file: impl ChunkReader + 'static,
    schema: &SchemaRef,
) -> Result<impl Iterator<Item = Result<RecordBatch, String>>, String> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(text)?;
    let fields = builder.schema().fields().iter().enumerate();
    let wanted: Vec<usize> =
        fields.filter(|(_, field)| schema.index_of(field.name()).is_ok()).map(|(number, _)| number).collect();
    let columns = ProjectionMask::roots(builder.parquet_schema(), wanted);
    let reader = builder.with_projection(columns).with_batch_size(ROWS).build().map_err(text)?;
    let schema = schema.clone();
    Ok(reader.map(move |batch| declared(&batch.map_err(text)?, &schema)))
}

fn declared(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, String> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let column = |field: &FieldRef| match batch.column_by_name(field.name()) {
        Some(column) => cast_with_options(column, field.data_type(), &strict)
            .map_err(|error| format!("column `{}`: {error}", field.name())),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(schema.clone(), columns).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use datafusion::arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray};
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use parquet::arrow::ArrowWriter;
    use std::sync::Arc;

    fn file() -> Bytes {
        let ids: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
        let names: ArrayRef = Arc::new(StringArray::from(vec!["a", "7"]));
        let batch = RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("name", names, true)]).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap().into()
    }

    fn read(fields: Vec<Field>) -> Result<Vec<RecordBatch>, String> {
        parquet_rows(file(), &Arc::new(Schema::new(fields)))?.collect()
    }

    #[test]
    fn columns_come_as_they_were_declared() {
        let fields = vec![Field::new("more", DataType::Utf8, true), Field::new("id", DataType::Int64, true)];
        let batches = read(fields).unwrap();
        assert_eq!((batches.len(), batches[0].column(0).null_count()), (1, 2));
        assert_eq!(
            batches[0].column(1).as_ref(),
            &Int64Array::from(vec![Some(1), None]) as &dyn datafusion::arrow::array::Array
        );
        let wrong = read(vec![Field::new("name", DataType::Int64, true)]).unwrap_err();
        assert!(wrong.starts_with("column `name`: "), "{wrong}");
        assert!(parquet_rows(Bytes::from("no parquet"), &Arc::new(Schema::empty())).is_err());
    }
}
