//! Folds on a worker: each key's value and its rows of the batch to a new value and rows out.

use super::{Attempt, StateRows};
use crate::keyed::KeyedRows;
use crate::models;
use crate::state::{Gathered, PartitionHandle};
use crate::tasks::TaskError;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{concat, concat_batches, take};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use std::ops::Range;
use std::sync::Arc;
use tidemill_plan::{FoldOp, decode_keys};

/// The keys of a group that are folded, in order, with their rows and values.
struct Share {
    group: u32,
    handle: PartitionHandle,
    keys: BinaryArray,
    /// Rows of each key in the task's rows; empty for a key without any.
    rows: Vec<Range<usize>>,
    known: Gathered,
}

/// Applies a batch to the state of some groups. `rows` are key columns, then what is folded.
pub(super) fn fold(attempt: &Attempt<'_>, op: &FoldOp, rows: &KeyedRows) -> Result<StateRows, TaskError> {
    let schema = op.schema();
    let mut parts = Vec::new();
    let mut keys = Vec::new();
    let mut groups = Vec::new();
    let (mut start, mut count, mut learnt) = (0, 0, attempt.imported.is_some());
    for (group, range) in &rows.groups {
        let share = share(attempt, op, rows, *group, range)?;
        let before = start;
        let mut changed = Changed::default();
        for (place, of_key) in share.rows.iter().enumerate() {
            let value = share.known.columns[0].as_binary::<i32>();
            let known = share.known.present.value(place) && value.is_valid(place);
            let of_key = rows.batch.slice(of_key.start, of_key.len());
            let before = known.then(|| value.value(place));
            // A model has one key.
            let imported = attempt.imported.as_ref().map(|(_, bytes)| bytes.as_ref());
            let folded = op.step(imported.or(before), &of_key, &attempt.context)?;
            learnt |= folded.learnt;
            if let Some(after) = folded.value.or_else(|| imported.map(<[u8]>::to_vec)) {
                // Only models are asked for what they were.
                changed.push(place, before.filter(|_| op.model.is_some()), after);
            }
            let length = folded.rows.num_rows();
            parts.push(with_keys(op, &schema, &share.keys.slice(place, 1), folded.rows)?);
            keys.push(take(&share.keys, &UInt32Array::from(vec![place as u32; length]), None)?);
            start += length;
        }
        count += changed.write(attempt, &share)?;
        groups.push((*group, before..start));
    }
    let keys: Vec<&dyn Array> = keys.iter().map(|keys| keys.as_ref()).collect();
    let keys = if keys.is_empty() {
        BinaryArray::from_iter_values([] as [&[u8]; 0])
    } else {
        concat(&keys)?.as_binary().clone()
    };
    Ok(StateRows { rows: KeyedRows { batch: concat_batches(&schema, &parts)?, keys, groups }, keys: count, learnt })
}

/// Puts an imported model in the place of the one in a group, in a batch that it does not learn from; gives the keys there.
pub(super) fn replace(attempt: &Attempt<'_>, group: u32, model: u32, imported: &[u8]) -> Result<u64, TaskError> {
    let key = models::key(&attempt.job.plan.models[model as usize].name)?;
    let (handle, known) = attempt.read(group, |partition| partition.gather(&key))?;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(BinaryArray::from_iter_values([imported])),
        Arc::new(Int64Array::from(vec![attempt.context.batch.0 as i64])),
        known.columns[0].clone(),
    ];
    attempt.write(group, &handle, &key, &columns, None, |partition| Ok(partition.len() as u64))
}

/// What can be seen of all values of a partition; key column first.
pub(super) fn shown(op: &FoldOp, all: &RecordBatch) -> Result<Vec<ArrayRef>, TaskError> {
    let schema = Arc::new(Schema::new(op.snapshot_fields.clone()));
    let values = all.column(1).as_binary::<i32>();
    let rows = values.iter().flatten().map(|value| op.show(value)).collect::<Result<Vec<_>, _>>()?;
    Ok(concat_batches(&schema, &rows)?.columns().to_vec())
}

fn share(
    attempt: &Attempt<'_>,
    op: &FoldOp,
    rows: &KeyedRows,
    group: u32,
    range: &Range<usize>,
) -> Result<Share, TaskError> {
    let (touched, mut of_keys) = runs(rows, range);
    let (handle, (keys, known)) = attempt.read(group, |partition| {
        let keys = match op.every_key() {
            false => touched.clone(),
            true => {
                let untouched = partition.untouched(&touched);
                concat(&[&touched, &untouched])?.as_binary::<i32>().clone()
            }
        };
        let known = partition.gather(&keys)?;
        Ok((keys, known))
    })?;
    of_keys.resize(keys.len(), range.end..range.end);
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by(|a, b| keys.value(*a).cmp(keys.value(*b)));
    let sorted = UInt32Array::from_iter_values(order.iter().map(|place| *place as u32));
    let columns = known.columns.iter().map(|column| take(column, &sorted, None)).collect::<Result<_, _>>()?;
    let known = Gathered { columns, present: take(&known.present, &sorted, None)?.as_boolean().clone() };
    Ok(Share {
        group,
        handle,
        keys: take(&keys, &sorted, None)?.as_binary::<i32>().clone(),
        rows: order.into_iter().map(|place| of_keys[place].clone()).collect(),
        known,
    })
}

/// The keys of a range of sorted rows, each once, and their rows.
fn runs(rows: &KeyedRows, range: &Range<usize>) -> (BinaryArray, Vec<Range<usize>>) {
    let mut of_keys: Vec<Range<usize>> = Vec::new();
    for row in range.clone() {
        match of_keys.last_mut() {
            Some(last) if rows.keys.value(last.start) == rows.keys.value(row) => last.end = row + 1,
            _ => of_keys.push(row..row + 1),
        }
    }
    (BinaryArray::from_iter_values(of_keys.iter().map(|run| rows.keys.value(run.start))), of_keys)
}

/// Values of a group that are new, with those they take the place of.
#[derive(Default)]
struct Changed {
    places: Vec<u32>,
    before: Vec<Option<Vec<u8>>>,
    after: Vec<Vec<u8>>,
}

impl Changed {
    fn push(&mut self, place: usize, before: Option<&[u8]>, after: Vec<u8>) {
        self.places.push(place as u32);
        self.before.push(before.map(<[u8]>::to_vec));
        self.after.push(after);
    }

    /// Writes them; returns how many keys the group has.
    fn write(self, attempt: &Attempt<'_>, share: &Share) -> Result<u64, TaskError> {
        let keys = take(&share.keys, &UInt32Array::from(self.places), None)?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(BinaryArray::from_iter_values(&self.after)),
            Arc::new(Int64Array::from(vec![attempt.context.batch.0 as i64; self.after.len()])),
            Arc::new(BinaryArray::from_iter(self.before)),
        ];
        attempt
            .write(share.group, &share.handle, keys.as_binary(), &columns, None, |partition| Ok(partition.len() as u64))
    }
}

/// The rows of one key, with its key columns where they are to be seen.
fn with_keys(op: &FoldOp, schema: &SchemaRef, key: &BinaryArray, rows: RecordBatch) -> Result<RecordBatch, TaskError> {
    if !op.keys_visible {
        return Ok(rows);
    }
    let again = UInt32Array::from(vec![0; rows.num_rows()]);
    let mut columns = Vec::with_capacity(schema.fields().len());
    for column in decode_keys(key, &op.key_fields)? {
        columns.push(take(&column, &again, None)?);
    }
    columns.extend(rows.columns().iter().cloned());
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}
