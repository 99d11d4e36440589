//! Operators that visit keys (`map_with_state`, joins within a time) on a worker: what is known of the keys, and their
//! records, to new state and rows out.
//!
//! An operator runs once over all key groups of the task; reading and writing goes partition by partition. A key does
//! not see the others, so nothing here can tell how groups lie.

use super::by_key::{concat_columns, concat_keys};
use super::{Attempt, StateRows, binary};
use crate::keyed::KeyedRows;
use crate::state::{Gathered, PartitionHandle, StateError, StatePartition};
use crate::tasks::TaskError;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, UInt32Array};
use datafusion::arrow::compute::{concat, take};
use std::ops::Range;
use tidemill_plan::{KeyVisits, Mapped, Visit, decode_keys};

struct Share {
    group: u32,
    handle: PartitionHandle,
    /// Keys of this group in the task's arrays.
    range: Range<usize>,
}

/// The keys of one group that are visited, in order.
struct Visited {
    keys: BinaryArray,
    counts: Vec<usize>,
    known: Gathered,
}

/// Applies a batch to the state of some groups. `rows` are key columns, then what the operator sees.
pub(super) fn visit(attempt: &Attempt<'_>, op: &dyn KeyVisits, rows: &KeyedRows) -> Result<StateRows, TaskError> {
    let mut shares = Vec::new();
    let (mut keys, mut stored, mut known, mut counts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut start = 0;
    for (group, range) in &rows.groups {
        let of_group = rows.keys.slice(range.start, range.len());
        let (handle, visited) = attempt.read(*group, |partition| visited(attempt, op, partition, &of_group))?;
        shares.push(Share { group: *group, handle, range: start..start + visited.keys.len() });
        start += visited.keys.len();
        keys.push(visited.keys);
        stored.push(visited.known.columns);
        known.push(visited.known.present);
        counts.extend(visited.counts);
    }
    let keys = concat_keys(&keys)?;
    let visit = Visit {
        keys: decode_keys(&keys, op.key_fields())?,
        stored: concat_columns(&stored)?,
        known: known.iter().flat_map(BooleanArray::iter).collect(),
        records: rows.batch.columns()[op.key_fields().len()..].to_vec(),
        counts,
    };
    let mapped = op.visit(&visit, &attempt.context)?;
    write(attempt, &shares, &keys, mapped)
}

/// Keys with records, and those that are due.
fn visited(
    attempt: &Attempt<'_>,
    op: &dyn KeyVisits,
    partition: &StatePartition,
    records: &BinaryArray,
) -> Result<Visited, StateError> {
    let (touched, counts) = distinct(records)?;
    let Some(before) = op.due_before(&attempt.context) else {
        let known = partition.gather(&touched)?;
        return Ok(Visited { keys: touched, counts, known });
    };
    let quiet = partition.untouched_below(op.stored_fields().len().saturating_sub(1), before, &touched);
    let keys = concat(&[&touched, &quiet])?;
    let keys: &BinaryArray = keys.as_binary();
    let mut order: Vec<u32> = (0..keys.len() as u32).collect();
    order.sort_by(|a, b| keys.value(*a as usize).cmp(keys.value(*b as usize)));
    let counts = order.iter().map(|key| counts.get(*key as usize).copied().unwrap_or(0)).collect();
    let keys = take(keys, &UInt32Array::from(order), None)?;
    let keys: &BinaryArray = keys.as_binary();
    Ok(Visited { keys: keys.clone(), counts, known: partition.gather(keys)? })
}

/// Sorted keys, each once, with how often each is there.
fn distinct(keys: &BinaryArray) -> Result<(BinaryArray, Vec<usize>), StateError> {
    let (mut first, mut counts): (Vec<u32>, Vec<usize>) = Default::default();
    for row in 0..keys.len() {
        match counts.last_mut() {
            Some(count) if keys.value(row) == keys.value(row - 1) => *count += 1,
            _ => {
                first.push(row as u32);
                counts.push(1);
            }
        }
    }
    let distinct = take(keys, &UInt32Array::from(first), None)?;
    Ok((distinct.as_binary::<i32>().clone(), counts))
}

fn write(attempt: &Attempt<'_>, shares: &[Share], keys: &BinaryArray, mapped: Mapped) -> Result<StateRows, TaskError> {
    let mut count = 0;
    let mut groups = Vec::with_capacity(shares.len());
    let mut start = 0;
    for share in shares {
        let (from, length) = (share.range.start, share.range.len());
        let stored: Vec<ArrayRef> = mapped.stored.iter().map(|column| column.slice(from, length)).collect();
        let removed = mapped.removed.slice(from, length);
        let keys = keys.slice(from, length);
        count += attempt.write(share.group, &share.handle, &keys, &stored, Some(&removed), |partition| {
            Ok(partition.len() as u64)
        })?;
        let end = mapped.row_keys.values().partition_point(|key| (*key as usize) < share.range.end);
        groups.push((share.group, start..end));
        start = end;
    }
    let keys = binary(&take(keys, &mapped.row_keys, None)?)?;
    Ok(StateRows { rows: KeyedRows { batch: mapped.rows, keys, groups }, keys: count, learnt: false })
}
