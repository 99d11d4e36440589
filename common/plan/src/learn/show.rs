//! What a model has learnt, as columns.

use datafusion::arrow::array::{
    ArrayRef, Float64Array, Float64Builder, Int64Array, ListBuilder, RecordBatch, RecordBatchOptions, StringArray,
    StringBuilder,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use std::sync::Arc;
use tidemill_ml::{Learned, LearnedKind, Model, ModelSpec};

/// The columns of [`learned`].
pub(crate) fn learned_schema(spec: &ModelSpec) -> SchemaRef {
    let fields = Model::learned_shape(spec).into_iter().map(|(name, kind)| Field::new(name, data_type(kind), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// One row with what the model has learnt.
pub(crate) fn learned(model: &Model, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = model.learned().into_iter().map(|(_, value)| column(value)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

fn data_type(kind: LearnedKind) -> DataType {
    match kind {
        LearnedKind::Number => DataType::Float64,
        LearnedKind::Count => DataType::Int64,
        LearnedKind::List => list(DataType::Float64),
        LearnedKind::Lists => list(list(DataType::Float64)),
        LearnedKind::Text => DataType::Utf8,
        LearnedKind::Texts => list(list(DataType::Utf8)),
    }
}

fn column(value: Learned) -> ArrayRef {
    match value {
        Learned::Number(number) => Arc::new(Float64Array::from(vec![number])),
        Learned::Count(count) => Arc::new(Int64Array::from(vec![i64::try_from(count).unwrap_or(i64::MAX)])),
        Learned::List(numbers) => {
            let mut builder = ListBuilder::new(Float64Builder::new());
            builder.values().append_slice(&numbers);
            builder.append(true);
            Arc::new(builder.finish())
        }
        Learned::Lists(lists) => {
            let mut builder = ListBuilder::new(ListBuilder::new(Float64Builder::new()));
            for numbers in lists {
                builder.values().values().append_slice(&numbers);
                builder.values().append(true);
            }
            builder.append(true);
            Arc::new(builder.finish())
        }
        Learned::Texts(lists) => {
            let mut builder = ListBuilder::new(ListBuilder::new(StringBuilder::new()));
            for texts in lists {
                texts.iter().for_each(|text| builder.values().values().append_value(text));
                builder.values().append(true);
            }
            builder.append(true);
            Arc::new(builder.finish())
        }
        Learned::Text(text) => Arc::new(StringArray::from(vec![text])),
    }
}
