//! State, as plainly as possible: a map from encoded keys to rows of values.

use super::Keyed;
use crate::error::PlanError;
use crate::keys::{decode_keys, encode_keys};
use crate::learn::FoldOp;
use crate::plan::BatchContext;
use crate::state::{StageState, StateOp};
use crate::visit::{KeyVisits, Visit};
use datafusion::arrow::array::{ArrayRef, BinaryArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::arrow::datatypes::{FieldRef, Schema};
use datafusion::common::ScalarValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use tidemill_job::{Emit, UpdateKeys};

/// Encoded key to key and state columns.
pub(super) type Known = BTreeMap<Vec<u8>, Vec<ScalarValue>>;

/// The initial state.
pub(super) fn known(state: &StageState) -> Result<Known, PlanError> {
    let Some((width, rows)) = state.initial() else {
        return Ok(Known::new());
    };
    let keys = encode_keys(&rows.columns()[..width])?;
    (0..rows.num_rows()).map(|row| Ok((keys.value(row).to_vec(), scalars(rows.columns(), row)?))).collect()
}

fn scalars(columns: &[ArrayRef], row: usize) -> Result<Vec<ScalarValue>, PlanError> {
    Ok(columns.iter().map(|c| ScalarValue::try_from_array(c, row)).collect::<Result<_, _>>()?)
}

fn columns(rows: &[Vec<ScalarValue>], nulls: &[ArrayRef]) -> Result<Vec<ArrayRef>, PlanError> {
    if rows.is_empty() {
        return Ok(nulls.to_vec());
    }
    let columns = (0..nulls.len()).map(|i| ScalarValue::iter_to_array(rows.iter().map(|row| row[i].clone())));
    Ok(columns.collect::<Result<_, _>>()?)
}

/// All keys that are `mine`, with the state that users see; none of state that is not by key.
pub(super) fn snapshot(
    op: &StageState,
    state: &Known,
    mine: impl Fn(&[u8]) -> bool,
) -> Result<Option<Keyed>, PlanError> {
    let Some((keys, columns)) = op.snapshot_fields() else {
        return Ok(None);
    };
    let fields: Vec<_> = keys.iter().chain(columns).cloned().collect();
    if let StageState::Fold(op) = op {
        return shown(op, state, &fields, mine).map(Some);
    }
    keyed(&fields, state.iter().filter(|(key, _)| mine(key))).map(Some)
}

/// These rows, as far as there are fields.
fn keyed<'a>(
    fields: &[FieldRef],
    rows: impl Iterator<Item = (&'a Vec<u8>, &'a Vec<ScalarValue>)>,
) -> Result<Keyed, PlanError> {
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let (keys, rows): (Vec<_>, Vec<_>) = rows.map(|(key, row)| (key.clone(), row[..fields.len()].to_vec())).unzip();
    let columns = columns(&rows, RecordBatch::new_empty(schema.clone()).columns())?;
    Ok(Keyed { rows: RecordBatch::try_new(schema, columns)?, keys: BinaryArray::from_iter_values(keys) })
}

/// Applies a batch's aggregates (keys, then aggregates) to the keys that are `mine`; gives the rows that come out.
pub(super) fn updated(
    op: &StateOp,
    state: &mut Known,
    rows: &Keyed,
    ctx: &BatchContext,
    mine: impl Fn(&[u8]) -> bool,
) -> Result<Keyed, PlanError> {
    let width = op.key_fields.len();
    let Keyed { rows, keys } = rows;
    let (key_columns, aggregates) = rows.columns().split_at(width);
    let defaults = op.aggregate_defaults(1)?;
    // Key columns, old state, aggregates of every key to update, by key.
    let mut todo: BTreeMap<Vec<u8>, (Vec<ScalarValue>, bool)> = BTreeMap::new();
    if op.update == UpdateKeys::EveryKey {
        for (key, row) in state.iter().filter(|(key, _)| mine(key)) {
            let row = [row.clone(), scalars(&defaults, 0)?].concat();
            todo.insert(key.clone(), (row, false));
        }
    }
    for row in 0..rows.num_rows() {
        let key = keys.value(row).to_vec();
        let mut whole = match state.get(&key) {
            Some(known) => known.clone(),
            None => {
                let nulls = op.state_fields.iter().map(|f| ScalarValue::try_from(f.data_type()));
                let nulls: Vec<_> = nulls.collect::<Result<_, _>>()?;
                [scalars(key_columns, row)?, nulls].concat()
            }
        };
        whole.extend(scalars(aggregates, row)?);
        todo.insert(key, (whole, true));
    }
    let fields = op.key_fields.iter().chain(&op.state_fields).cloned().collect::<Vec<_>>();
    let schema = Arc::new(Schema::new(fields.clone()));
    let empty = RecordBatch::new_empty(schema.clone());
    let nulls: Vec<_> =
        empty.columns().iter().chain(&aggregates.iter().map(|a| a.slice(0, 0)).collect::<Vec<_>>()).cloned().collect();
    let wholes: Vec<_> = todo.values().map(|(row, _)| row.clone()).collect();
    let wholes = columns(&wholes, &nulls)?;
    let (old, aggregates) = wholes.split_at(schema.fields().len());
    let new = op.update(&old[..width], &old[width..], aggregates, ctx)?;
    let mut out = Known::new();
    for (row, (key, (_, touched))) in todo.iter().enumerate() {
        if new.dropped.as_ref().is_some_and(|dropped| dropped.value(row)) {
            state.remove(key);
            continue;
        }
        let whole = [scalars(&old[..width], row)?, scalars(&new.state, row)?].concat();
        state.insert(key.clone(), whole.clone());
        if *touched {
            out.insert(key.clone(), whole);
        }
    }
    if op.emit == Emit::All {
        out = state.iter().filter(|(key, _)| mine(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
    }
    keyed(&fields, out.iter())
}

/// Visits the records of each key, in order, one key after the other. A quiet key is visited in every batch.
pub(super) fn visited(
    op: &dyn KeyVisits,
    state: &mut Known,
    rows: &Keyed,
    ctx: &BatchContext,
    mine: impl Fn(&[u8]) -> bool,
) -> Result<Keyed, PlanError> {
    let width = op.key_fields().len();
    let due = op.due_before(ctx).is_some();
    let mut records: BTreeMap<Vec<u8>, Vec<u32>> = BTreeMap::new();
    for (key, _) in state.iter().filter(|(key, _)| due && mine(key)) {
        records.insert(key.clone(), Vec::new());
    }
    for row in 0..rows.rows.num_rows() {
        records.entry(rows.keys.value(row).to_vec()).or_default().push(row as u32);
    }
    let nulls = op.stored_fields().iter().map(|field| ScalarValue::try_from(field.data_type()));
    let nulls = nulls.collect::<Result<Vec<_>, _>>()?;
    let (mut out, mut keys) = (vec![RecordBatch::new_empty(op.emitted().clone())], Vec::new());
    for (key, places) in records {
        let counts = vec![places.len()];
        let key_array = BinaryArray::from_iter_values([&key]);
        let known = state.get(&key);
        let stored = known.map_or(&nulls[..], |row| &row[width..]);
        let visit = Visit {
            keys: decode_keys(&key_array, op.key_fields())?,
            stored: stored.iter().map(|value| value.to_array_of_size(1)).collect::<Result<_, _>>()?,
            known: vec![known.is_some()].into(),
            records: take_record_batch(&rows.rows, &UInt32Array::from(places))?.columns()[width..].to_vec(),
            counts,
        };
        let mapped = op.visit(&visit, ctx)?;
        keys.extend(std::iter::repeat_n(key.clone(), mapped.rows.num_rows()));
        out.push(mapped.rows);
        if mapped.removed.value(0) {
            state.remove(&key);
        } else {
            state.insert(key, [scalars(&visit.keys, 0)?, scalars(&mapped.stored, 0)?].concat());
        }
    }
    Ok(Keyed { rows: concat_batches(op.emitted(), &out)?, keys: BinaryArray::from_iter_values(keys) })
}

/// Folds the rows of each key, one key after the other.
pub(super) fn folded(
    op: &FoldOp,
    state: &mut Known,
    rows: &Keyed,
    ctx: &BatchContext,
    mine: impl Fn(&[u8]) -> bool,
) -> Result<Keyed, PlanError> {
    let width = op.key_fields.len();
    let mut places: BTreeMap<Vec<u8>, Vec<u32>> = BTreeMap::new();
    if op.every_key() {
        places.extend(state.keys().filter(|key| mine(key)).map(|key| (key.clone(), Vec::new())));
    }
    for row in 0..rows.rows.num_rows() {
        places.entry(rows.keys.value(row).to_vec()).or_default().push(row as u32);
    }
    let schema = op.schema();
    let (mut out, mut keys) = (vec![RecordBatch::new_empty(schema.clone())], Vec::new());
    for (key, places) in places {
        let of_key = take_record_batch(&rows.rows, &UInt32Array::from(places))?;
        let value = match state.get(&key).and_then(|row| row.get(width)) {
            Some(ScalarValue::Binary(value)) => value.clone(),
            _ => None,
        };
        let folded = op.step(value.as_deref(), &of_key, ctx)?;
        let key_columns = decode_keys(&BinaryArray::from_iter_values([&key]), &op.key_fields)?;
        let again = UInt32Array::from(vec![0; folded.rows.num_rows()]);
        let mut columns = Vec::new();
        if op.keys_visible {
            for column in &key_columns {
                columns.push(datafusion::arrow::compute::take(column, &again, None)?);
            }
        }
        columns.extend(folded.rows.columns().iter().cloned());
        keys.extend(std::iter::repeat_n(key.clone(), folded.rows.num_rows()));
        out.push(RecordBatch::try_new(schema.clone(), columns)?);
        if let Some(after) = folded.value {
            let since = ScalarValue::Int64(Some(ctx.batch.0 as i64));
            let row =
                [scalars(&key_columns, 0)?, vec![ScalarValue::Binary(Some(after)), since, ScalarValue::Binary(value)]];
            state.insert(key, row.concat());
        }
    }
    Ok(Keyed { rows: concat_batches(&schema, &out)?, keys: BinaryArray::from_iter_values(keys) })
}

/// What can be seen of the values of the keys that are `mine`.
fn shown(op: &FoldOp, state: &Known, fields: &[FieldRef], mine: impl Fn(&[u8]) -> bool) -> Result<Keyed, PlanError> {
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let (mut rows, mut keys) = (vec![RecordBatch::new_empty(schema.clone())], Vec::new());
    for (key, row) in state.iter().filter(|(key, _)| mine(key)) {
        if let Some(ScalarValue::Binary(Some(value))) = row.get(op.key_fields.len()) {
            let mut columns = decode_keys(&BinaryArray::from_iter_values([key]), &op.key_fields)?;
            columns.extend(op.show(value)?.columns().iter().cloned());
            rows.push(RecordBatch::try_new(schema.clone(), columns)?);
            keys.push(key.clone());
        }
    }
    Ok(Keyed { rows: concat_batches(&schema, &rows)?, keys: BinaryArray::from_iter_values(keys) })
}
