//! Rows of an exchange, divided by key group.

use crate::error::PlanError;
use crate::keys::{encode_rows, key_group};
use crate::plan::{ExchangeKind, JobPlan};
use datafusion::arrow::array::UInt32Array;
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::arrow::record_batch::RecordBatch;
use tidemill_common::ids::ExchangeId;

/// Rows with those of a key group next to each other.
#[derive(Debug, Clone)]
pub struct Partitioned {
    /// All rows; within a key group in the order they came.
    pub batch: RecordBatch,
    /// Key group *g* has the rows `offsets[g]..offsets[g + 1]`: one more than there are key groups. A gather has one group.
    pub offsets: Vec<u32>,
}

impl JobPlan {
    /// Divides rows among the units of the stage that reads the exchange.
    ///
    /// # Errors
    /// For an unknown exchange, rows of another schema, and for 2^32 rows or more.
    pub fn partition(&self, exchange: ExchangeId, batches: &[RecordBatch]) -> Result<Partitioned, PlanError> {
        let exchange = self
            .exchanges
            .get(exchange.0 as usize)
            .ok_or_else(|| PlanError::Internal(format!("no exchange {exchange}")))?;
        let batch = match batches {
            [one] => one.clone(),
            many => concat_batches(&exchange.schema, many)?,
        };
        match &exchange.kind {
            ExchangeKind::Gather => Ok(Partitioned { offsets: vec![0, count(batch.num_rows())?], batch }),
            ExchangeKind::Hash { keys } => divide(batch, keys, self.def.settings.key_groups),
        }
    }
}

fn count(rows: usize) -> Result<u32, PlanError> {
    u32::try_from(rows).map_err(|_| PlanError::Data("2^32 rows or more in one piece".into()))
}

/// A stable counting sort by key group.
fn divide(batch: RecordBatch, keys: &[usize], groups: u32) -> Result<Partitioned, PlanError> {
    count(batch.num_rows())?;
    let encoded = encode_rows(&batch, keys)?;
    let mut offsets = vec![0u32; groups as usize + 1];
    let group_of: Vec<u32> = (0..batch.num_rows()).map(|row| key_group(encoded.value(row), groups)).collect();
    for &group in &group_of {
        offsets[group as usize + 1] += 1;
    }
    for group in 0..groups as usize {
        offsets[group + 1] += offsets[group];
    }
    let mut next = offsets.clone();
    let mut order = vec![0u32; group_of.len()];
    for (row, &group) in group_of.iter().enumerate() {
        let place = &mut next[group as usize];
        order[*place as usize] = row as u32;
        *place += 1;
    }
    let batch = take_record_batch(&batch, &UInt32Array::from(order))?;
    Ok(Partitioned { batch, offsets })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::encode_keys;
    use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
    use datafusion::arrow::datatypes::Int64Type;
    use proptest::prelude::*;
    use std::sync::Arc;

    proptest! {
        #[test]
        fn stable_and_complete(keys in prop::collection::vec(prop::option::of("[a-f]{0,2}"), 0..200), groups in 1u32..9) {
            let rows: ArrayRef = Arc::new(Int64Array::from_iter_values(0..keys.len() as i64));
            let column: ArrayRef = Arc::new(StringArray::from(keys.clone()));
            let batch = RecordBatch::try_from_iter_with_nullable([("k", column.clone(), true), ("row", rows, false)]).unwrap();
            let encoded = encode_keys(&[column]).unwrap();
            let parts = divide(batch, &[0], groups).unwrap();
            prop_assert_eq!(parts.offsets.len(), groups as usize + 1);
            let rows = parts.batch.column(1).as_primitive::<Int64Type>();
            prop_assert_eq!(rows.len(), keys.len());
            for group in 0..groups {
                let range = parts.offsets[group as usize] as usize..parts.offsets[group as usize + 1] as usize;
                let rows = &rows.values()[range];
                prop_assert!(rows.is_sorted());
                for &row in rows {
                    prop_assert_eq!(key_group(encoded.value(row as usize), groups), group);
                }
            }
        }
    }
}
