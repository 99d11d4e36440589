//! `update_state_by_key` on a worker: old state and aggregates in, new state and rows out.
//!
//! The expressions run once over all key groups of the task; reading and writing goes partition by
//! partition. What a key's new state is depends on that key alone, so nothing here can tell how groups lie.

use super::{Attempt, StateRows, binary};
use crate::keyed::KeyedRows;
use crate::state::PartitionHandle;
use crate::tasks::TaskError;
use datafusion::arrow::array::{Array, ArrayRef, BinaryArray, BooleanArray};
use datafusion::arrow::compute::{concat, filter};
use std::ops::Range;
use tidemill_job::{Emit, UpdateKeys};
use tidemill_plan::{StateOp, Updated, decode_keys};

struct Share {
    group: u32,
    handle: PartitionHandle,
    /// Rows of this group in the task's arrays.
    range: Range<usize>,
    /// The first of them have records in this batch.
    touched: usize,
}

/// Applies a batch to the state of some groups. `rows` are key and aggregate columns.
pub(super) fn update(attempt: &Attempt<'_>, op: &StateOp, rows: &KeyedRows) -> Result<StateRows, TaskError> {
    let mut shares = Vec::new();
    let (mut keys, mut old, mut aggregates) = (Vec::new(), Vec::new(), Vec::new());
    let mut start = 0;
    for (group, range) in &rows.groups {
        let touched_keys = rows.keys.slice(range.start, range.len());
        let (handle, (touched, untouched)) = attempt.read(*group, |partition| {
            let touched = partition.gather(&touched_keys)?.columns;
            let untouched = match op.update {
                UpdateKeys::Touched => None,
                UpdateKeys::EveryKey => {
                    let keys = partition.untouched(&touched_keys);
                    let state = partition.gather(&keys)?.columns;
                    Some((keys, state))
                }
            };
            Ok((touched, untouched))
        })?;
        old.push(touched);
        aggregates.push(rows.batch.slice(range.start, range.len()).columns()[op.key_fields.len()..].to_vec());
        keys.push(touched_keys);
        let mut rows_here = range.len();
        if let Some((untouched, state)) = untouched {
            old.push(state);
            aggregates.push(op.aggregate_defaults(untouched.len())?);
            rows_here += untouched.len();
            keys.push(untouched);
        }
        shares.push(Share { group: *group, handle, range: start..start + rows_here, touched: range.len() });
        start += rows_here;
    }
    let keys = concat_keys(&keys)?;
    let key_columns = decode_keys(&keys, &op.key_fields)?;
    let updated = op.update(&key_columns, &concat_columns(&old)?, &concat_columns(&aggregates)?, &attempt.context)?;
    write(attempt, op, &shares, &keys, &updated)
}

fn write(
    attempt: &Attempt<'_>,
    op: &StateOp,
    shares: &[Share],
    keys: &BinaryArray,
    updated: &Updated,
) -> Result<StateRows, TaskError> {
    let mut emitted = Vec::new();
    let mut count = 0;
    let from_store = op.emit == Emit::All && op.update == UpdateKeys::Touched;
    for share in shares {
        let (from, length) = (share.range.start, share.range.len());
        let keys = keys.slice(from, length);
        let state: Vec<ArrayRef> = updated.state.iter().map(|column| column.slice(from, length)).collect();
        let dropped = updated.dropped.as_ref().map(|dropped| dropped.slice(from, length));
        let (known, all_rows) =
            attempt.write(share.group, &share.handle, &keys, &state, dropped.as_ref(), |partition| {
                Ok((partition.len() as u64, from_store.then(|| partition.all()).transpose()?))
            })?;
        count += known;
        emitted.push(match all_rows {
            Some(all) => (share.group, binary(all.column(0))?, all.columns()[1..].to_vec()),
            None => {
                let visible = if op.emit == Emit::Changed { share.touched } else { length };
                let keep: BooleanArray = (0..length)
                    .map(|row| Some(row < visible && !dropped.as_ref().is_some_and(|d| d.value(row))))
                    .collect();
                let kept = state.iter().map(|column| filter(column, &keep)).collect::<Result<Vec<_>, _>>()?;
                (share.group, binary(&filter(&keys, &keep)?)?, kept)
            }
        });
    }
    Ok(StateRows { rows: KeyedRows::of_state(&op.key_fields, &op.state_fields, emitted)?, keys: count, learnt: false })
}

pub(super) fn concat_keys(parts: &[BinaryArray]) -> Result<BinaryArray, TaskError> {
    let parts: Vec<&dyn Array> = parts.iter().map(|part| part as &dyn Array).collect();
    if parts.is_empty() {
        return Ok(BinaryArray::from_iter_values(std::iter::empty::<&[u8]>()));
    }
    binary(&concat(&parts)?)
}

/// Puts the columns of many parts one below the other.
pub(super) fn concat_columns(parts: &[Vec<ArrayRef>]) -> Result<Vec<ArrayRef>, TaskError> {
    let columns = parts.first().map_or(0, Vec::len);
    let column = |number: usize| {
        let column: Vec<&dyn Array> = parts.iter().map(|part| part[number].as_ref()).collect();
        concat(&column)
    };
    Ok((0..columns).map(column).collect::<Result<_, _>>()?)
}
