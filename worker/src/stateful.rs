//! `update_state_by_key` on a worker: old state and aggregates in, new state and rows out.
//!
//! The expressions run once over all key groups of the task; reading and writing goes partition by
//! partition. What a key's new state is depends on that key alone, so nothing here can tell how groups lie.

use crate::jobs::Job;
use crate::keyed::KeyedRows;
use crate::node::Node;
use crate::state::{PartitionHandle, PartitionKey, StateError};
use crate::tasks::TaskError;
use datafusion::arrow::array::{Array, ArrayRef, BinaryArray, BooleanArray};
use datafusion::arrow::compute::{concat, filter};
use datafusion::arrow::datatypes::DataType;
use std::ops::Range;
use tidemill_common::ids::{KeyGroup, StageId};
use tidemill_common::job::{Emit, UpdateKeys};
use tidemill_plan::{BatchContext, StateOp, decode_keys};
use tokio_util::sync::CancellationToken;

/// What a stateful stage brought.
pub(crate) struct StateRows {
    pub(crate) rows: KeyedRows,
    /// Keys in the state afterwards.
    pub(crate) keys: u64,
}

struct Share {
    group: u32,
    handle: PartitionHandle,
    /// Rows of this group in the task's arrays.
    range: Range<usize>,
    /// The first of them have records in this batch.
    touched: usize,
}

/// Applies a batch to the state of some groups. `rows` are key and aggregate columns.
pub(crate) fn update(
    node: &Node,
    job: &Job,
    stage: StageId,
    op: &StateOp,
    rows: &KeyedRows,
    context: &BatchContext,
    cancelled: &CancellationToken,
) -> Result<StateRows, TaskError> {
    let mut shares = Vec::new();
    let (mut keys, mut old, mut aggregates) = (Vec::new(), Vec::new(), Vec::new());
    let mut start = 0;
    for (group, range) in &rows.groups {
        let key = PartitionKey { job: job.id, stage, group: KeyGroup(*group) };
        let handle =
            node.states.get(&key).ok_or_else(|| TaskError::StateVersion(format!("key group {group} is not here")))?;
        let touched_keys = rows.keys.slice(range.start, range.len());
        {
            let mut held = handle.lock()?;
            if held.partition().version() >= context.batch {
                // A first attempt at this batch came this far and was given up.
                held.roll_back_to(context.batch.prev())?;
            }
            if held.partition().version() != context.batch.prev() {
                let version = held.partition().version();
                return Err(TaskError::StateVersion(format!("key group {group} is at version {version}")));
            }
            let partition = held.partition();
            old.push(partition.gather(&touched_keys)?.columns);
            aggregates.push(rows.batch.slice(range.start, range.len()).columns()[op.key_fields.len()..].to_vec());
            let mut rows_here = range.len();
            keys.push(touched_keys.clone());
            if op.update == UpdateKeys::EveryKey {
                let untouched = partition.untouched(&touched_keys);
                old.push(partition.gather(&untouched)?.columns);
                aggregates.push(op.aggregate_defaults(untouched.len())?);
                rows_here += untouched.len();
                keys.push(untouched);
            }
            shares.push(Share {
                group: *group,
                handle: handle.clone(),
                range: start..start + rows_here,
                touched: range.len(),
            });
            start += rows_here;
        }
    }
    let keys = concat_keys(&keys)?;
    let key_columns = decode_keys(&keys, &op.key_fields)?;
    let updated = op.update(&key_columns, &concat_columns(&old)?, &concat_columns(&aggregates)?, context)?;
    write(job, stage, op, &shares, &keys, &updated.state, updated.dropped.as_ref(), context, cancelled)
}

#[allow(clippy::too_many_arguments)]
fn write(
    job: &Job,
    stage: StageId,
    op: &StateOp,
    shares: &[Share],
    keys: &BinaryArray,
    state: &[ArrayRef],
    dropped: Option<&BooleanArray>,
    context: &BatchContext,
    cancelled: &CancellationToken,
) -> Result<StateRows, TaskError> {
    let mut emitted = Vec::new();
    let mut count = 0;
    for share in shares {
        let (from, length) = (share.range.start, share.range.len());
        let keys = keys.slice(from, length);
        let state: Vec<ArrayRef> = state.iter().map(|column| column.slice(from, length)).collect();
        let dropped = dropped.map(|dropped| dropped.slice(from, length));
        let all_rows = {
            let mut held = share.handle.lock()?;
            // Asked under the lock: after a cancel and a restore nothing of an old attempt is written.
            if cancelled.is_cancelled() {
                return Err(TaskError::Cancelled);
            }
            let delta = held.apply(context.batch, &keys, &state, dropped.as_ref())?;
            job.links.delta(stage, share.group, &delta);
            count += held.partition().len() as u64;
            let from_store = op.emit == Emit::All && op.update == UpdateKeys::Touched;
            if from_store { Some(held.partition().all()?) } else { None }
        };
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
    Ok(StateRows { rows: KeyedRows::of_state(op, emitted)?, keys: count })
}

pub(crate) fn binary(array: &ArrayRef) -> Result<BinaryArray, TaskError> {
    let found = array.as_any().downcast_ref::<BinaryArray>().cloned();
    found.ok_or_else(|| {
        StateError::Shape(format!("keys are {} instead of {}", array.data_type(), DataType::Binary)).into()
    })
}

fn concat_keys(parts: &[BinaryArray]) -> Result<BinaryArray, TaskError> {
    let parts: Vec<&dyn Array> = parts.iter().map(|part| part as &dyn Array).collect();
    if parts.is_empty() {
        return Ok(BinaryArray::from_iter_values(std::iter::empty::<&[u8]>()));
    }
    binary(&concat(&parts)?)
}

/// Puts the columns of many parts one below the other.
fn concat_columns(parts: &[Vec<ArrayRef>]) -> Result<Vec<ArrayRef>, TaskError> {
    let columns = parts.first().map_or(0, Vec::len);
    let column = |number: usize| {
        let column: Vec<&dyn Array> = parts.iter().map(|part| part[number].as_ref()).collect();
        concat(&column)
    };
    Ok((0..columns).map(column).collect::<Result<_, _>>()?)
}
