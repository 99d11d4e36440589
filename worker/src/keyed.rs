//! Rows of a stage by key group: in order of group, and within a group of encoded key.

use crate::stateful::binary;
use crate::tasks::TaskError;
use datafusion::arrow::array::{Array, ArrayRef, BinaryArray, RecordBatch, RecordBatchOptions, UInt32Array};
use datafusion::arrow::compute::{concat_batches, take, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use std::ops::Range;
use std::sync::Arc;
use tidemill_plan::{KEY_COLUMN, decode_keys, encode_rows, key_group};

/// Rows of some key groups.
pub(crate) struct KeyedRows {
    /// Visible columns.
    pub(crate) batch: RecordBatch,
    /// Encoded key of each row.
    pub(crate) keys: BinaryArray,
    /// Groups in ascending order, each with its rows; empty ones too.
    pub(crate) groups: Vec<(u32, Range<usize>)>,
}

impl KeyedRows {
    /// Sorts what a head has put out for these groups. `keys` are the positions of the key columns, as
    /// [`encode_rows`] wants them.
    pub(crate) fn sort(
        schema: &SchemaRef,
        batches: &[RecordBatch],
        keys: &[usize],
        groups: &[u32],
        key_groups: u32,
    ) -> Result<Self, TaskError> {
        let batch = concat_batches(schema, batches)?;
        let encoded = if batch.num_rows() == 0 { no_keys() } else { encode_rows(&batch, keys)? };
        let batch = visible(batch)?;
        let group_of: Vec<u32> = (0..encoded.len()).map(|row| key_group(encoded.value(row), key_groups)).collect();
        let mut order: Vec<u32> = (0..encoded.len() as u32).collect();
        order.sort_by(|a, b| {
            let (a, b) = (*a as usize, *b as usize);
            group_of[a].cmp(&group_of[b]).then_with(|| encoded.value(a).cmp(encoded.value(b)))
        });
        let mut ranges = Vec::with_capacity(groups.len());
        let mut groups = groups.to_vec();
        groups.sort_unstable();
        let mut start = 0;
        for group in groups {
            let end = start + order[start..].iter().take_while(|row| group_of[**row as usize] == group).count();
            ranges.push((group, start..end));
            start = end;
        }
        if start != order.len() {
            return Err(TaskError::Internal("a row came to a key group that it does not belong to".into()));
        }
        let order = UInt32Array::from(order);
        Ok(Self {
            batch: take_record_batch(&batch, &order)?,
            keys: binary(&take(&encoded, &order, None)?)?,
            groups: ranges,
        })
    }

    /// Keys and state columns of each group. Sorted by key within each group here.
    pub(crate) fn of_state(
        key_fields: &Fields,
        state_fields: &Fields,
        parts: Vec<(u32, BinaryArray, Vec<ArrayRef>)>,
    ) -> Result<Self, TaskError> {
        let fields = key_fields.iter().chain(state_fields).cloned().collect::<Vec<_>>();
        let schema = Arc::new(Schema::new(fields));
        let (mut batches, mut all_keys, mut groups) = (Vec::new(), Vec::new(), Vec::new());
        let mut start = 0;
        for (group, keys, state) in parts {
            let mut order: Vec<u32> = (0..keys.len() as u32).collect();
            order.sort_by(|a, b| keys.value(*a as usize).cmp(keys.value(*b as usize)));
            let order = UInt32Array::from(order);
            let keys = binary(&take(&keys, &order, None)?)?;
            let mut columns = decode_keys(&keys, key_fields)?;
            for column in &state {
                columns.push(take(column, &order, None)?);
            }
            let options = RecordBatchOptions::new().with_row_count(Some(keys.len()));
            groups.push((group, start..start + keys.len()));
            start += keys.len();
            batches.push(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?);
            all_keys.push(keys);
        }
        let parts: Vec<&dyn Array> = all_keys.iter().map(|keys| keys as &dyn Array).collect();
        let keys = if parts.is_empty() { no_keys() } else { binary(&datafusion::arrow::compute::concat(&parts)?)? };
        Ok(Self { batch: concat_batches(&schema, &batches)?, keys, groups })
    }

    /// All rows with the encoded key as last column, as branches want them.
    pub(crate) fn with_keys(&self) -> Result<RecordBatch, TaskError> {
        let mut fields: Vec<_> = self.batch.schema().fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(KEY_COLUMN, DataType::Binary, false)));
        let mut columns = self.batch.columns().to_vec();
        columns.push(Arc::new(self.keys.clone()));
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }
}

/// Without the encoded key, if that is the last column.
fn visible(batch: RecordBatch) -> Result<RecordBatch, TaskError> {
    match batch.num_columns().checked_sub(1) {
        Some(last) if batch.schema().field(last).name() == KEY_COLUMN => {
            Ok(batch.project(&(0..last).collect::<Vec<_>>())?)
        }
        _ => Ok(batch),
    }
}

fn no_keys() -> BinaryArray {
    BinaryArray::from_iter_values(std::iter::empty::<&[u8]>())
}
