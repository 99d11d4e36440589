//! `map_with_state`: the state of a key changes with each of its records, or once per batch, and rows come out.
//!
//! Records are visited in rounds: the *i*-th record of every key in round *i*. So expressions run over many keys at
//! once, and a key's records still come one after the other. A batch takes as many rounds as its most frequent key has
//! records; all else costs what there are records.

use crate::blame::Written;
use crate::clock;
use crate::error::PlanError;
use crate::plan::BatchContext;
use crate::state::{seen, shown, true_where};
use crate::visit::{KeyVisits, Mapped, Visit};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{
    concat, concat_batches, filter, filter_record_batch, nullif, or, take, take_record_batch,
};
use datafusion::arrow::datatypes::{Fields, Int64Type, SchemaRef, UInt32Type};
use datafusion::common::ScalarValue;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A prepared `map_with_state`. It sits behind a head that gives key columns, then those that its expressions see.
pub struct MapOp {
    /// The key columns.
    pub key_fields: Fields,
    /// The state columns.
    pub state_fields: Fields,
    /// What partitions hold: the state columns, and with a time-out [`UPDATED_COLUMN`](crate::UPDATED_COLUMN) behind them.
    pub stored_fields: Fields,
    /// The columns of what comes out.
    pub emitted: SchemaRef,
    /// When a key is forgotten.
    pub timeout: Option<Timeout>,
    /// Key and stored columns of the keys known before the first batch; no key twice.
    pub initial: Option<RecordBatch>,
    pub(crate) steps: MapSteps,
}

/// When a key is forgotten: in the first batch whose time is by more than `after_ms` later than the key's last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeout {
    /// Milliseconds.
    pub after_ms: i64,
    /// Initial state is so many milliseconds old when the stream first fires: one batch interval.
    pub initial_age_ms: i64,
}

/// The prepared expressions of a [`MapOp`].
pub(crate) struct MapSteps {
    /// Key columns, old state, what the head gives behind its keys, `state_exists`, `timing_out`; new state. Updates see
    /// all but the new state.
    pub(crate) schema: SchemaRef,
    /// One per state column, of its type.
    pub(crate) updates: Vec<Written>,
    /// One per column that comes out, of its type.
    pub(crate) emit: Vec<Written>,
    pub(crate) emit_when: Option<Written>,
    pub(crate) remove_when: Option<Written>,
    /// What the head would give for a key without records.
    pub(crate) absent: Vec<ScalarValue>,
}

/// The keys that take part in a round: their first rows of arrays in the order of [`Run::order`].
struct Round {
    keys: Vec<ArrayRef>,
    state: Vec<ArrayRef>,
    known: BooleanArray,
}

/// A visit under way.
struct Run<'a> {
    op: &'a MapOp,
    visit: &'a Visit,
    /// Keys by falling number of records, so that those of each round are the first.
    order: Vec<u32>,
    emitted: Vec<(RecordBatch, UInt32Array)>,
}

impl KeyVisits for MapOp {
    fn key_fields(&self) -> &Fields {
        &self.key_fields
    }

    fn stored_fields(&self) -> &Fields {
        &self.stored_fields
    }

    fn emitted(&self) -> &SchemaRef {
        &self.emitted
    }

    fn due_before(&self, ctx: &BatchContext) -> Option<i64> {
        self.timeout.map(|timeout| ctx.time_ms.saturating_sub(timeout.after_ms))
    }

    fn visit(&self, visit: &Visit, ctx: &BatchContext) -> Result<Mapped, PlanError> {
        clock::sync_at(ctx.time_ms, || {
            let mut order: Vec<u32> = (0..visit.counts.len() as u32).collect();
            order.sort_by_key(|&key| std::cmp::Reverse(visit.counts[key as usize]));
            let mut run = Run { op: self, visit, order, emitted: Vec::new() };
            let (mut state, removed) = run.rounds()?;
            let (dates, expired) = run.dates(ctx)?;
            run.time_out(&expired)?;
            state.extend(dates);
            let (rows, row_keys) = run.rows()?;
            Ok(Mapped { stored: state, removed: or(&removed, &expired)?, rows, row_keys })
        })
    }
}

impl Run<'_> {
    /// Visits all records. Gives the state columns by key, and which keys have no state any more.
    fn rounds(&mut self) -> Result<(Vec<ArrayRef>, BooleanArray), PlanError> {
        let order = UInt32Array::from(self.order.clone());
        let ordered = |columns: &[ArrayRef]| columns.iter().map(|c| take(c, &order, None)).collect::<Result<_, _>>();
        let mut all = Round {
            keys: ordered(&self.visit.keys)?,
            state: ordered(&self.visit.stored[..self.op.state_fields.len()])?,
            known: take(&self.visit.known, &order, None)?.as_boolean().clone(),
        };
        let starts = self.starts();
        let mut finished = Vec::new();
        for round in 0.. {
            let goes_on = |key: &u32| self.visit.counts[*key as usize] > round;
            let active = self.order.partition_point(goes_on);
            finished.push(all.slice(active..all.known.len()));
            all = all.slice(0..active);
            if active == 0 {
                break;
            }
            let positions = UInt32Array::from(self.order[..active].to_vec());
            let records = self.order[..active].iter().map(|&key| starts[key as usize] + round as u32);
            let records = UInt32Array::from_iter_values(records);
            let records = self.visit.records.iter().map(|column| take(column, &records, None));
            let records = records.collect::<Result<Vec<_>, _>>()?;
            self.change(&mut all, &records, &positions)?;
        }
        finished.reverse();
        self.by_key(&finished)
    }

    /// Where each key's records begin.
    fn starts(&self) -> Vec<u32> {
        let mut next = 0;
        let start = |&count: &usize| {
            let start = next;
            next += count as u32;
            start
        };
        self.visit.counts.iter().map(start).collect()
    }

    /// One record of each of these keys.
    fn change(&mut self, keys: &mut Round, records: &[ArrayRef], positions: &UInt32Array) -> Result<(), PlanError> {
        let steps = &self.op.steps;
        let rows = positions.len();
        let mut columns = self.columns(keys, records, false);
        let before = seen(&steps.schema, columns.clone(), rows)?;
        let new = steps.updates.iter().map(|update| update.evaluate(&before)).collect::<Result<Vec<_>, PlanError>>()?;
        columns.extend(new.iter().cloned());
        let after = seen(&steps.schema, columns, rows)?;
        let removed = match &steps.remove_when {
            None => None,
            Some(remove_when) => Some(true_where(remove_when, &after)?).filter(|removed| removed.true_count() > 0),
        };
        self.emit(&after, positions)?;
        (keys.state, keys.known) = match removed {
            None => (new, all_true(rows)),
            Some(removed) => {
                let state = new.iter().map(|column| nullif(column, &removed)).collect::<Result<_, _>>()?;
                (state, removed.iter().map(|removed| Some(removed != Some(true))).collect())
            }
        };
        Ok(())
    }

    /// What updates see of keys.
    fn columns(&self, keys: &Round, records: &[ArrayRef], timing_out: bool) -> Vec<ArrayRef> {
        let rows = keys.known.len();
        let flag: ArrayRef = Arc::new(BooleanArray::from(vec![timing_out; rows]));
        let known: ArrayRef = Arc::new(keys.known.clone());
        keys.keys.iter().chain(&keys.state).chain(records).cloned().chain([known, flag]).collect()
    }

    /// The rows that come out for what `emit` sees.
    fn emit(&mut self, after: &RecordBatch, positions: &UInt32Array) -> Result<(), PlanError> {
        let steps = &self.op.steps;
        let (mut after, mut positions) = (after.clone(), positions.clone());
        if let Some(emit_when) = &steps.emit_when {
            let wanted = true_where(emit_when, &after)?;
            after = filter_record_batch(&after, &wanted)?;
            positions = filter(&positions, &wanted)?.as_primitive().clone();
        }
        let rows = after.num_rows();
        if rows > 0 {
            let columns = steps.emit.iter().map(|expr| expr.evaluate(&after)).collect::<Result<Vec<_>, PlanError>>()?;
            self.emitted.push((seen(&self.op.emitted, columns, rows)?, positions));
        }
        Ok(())
    }

    /// The last update of each key, where that is stored, and which keys time out.
    fn dates(&self, ctx: &BatchContext) -> Result<(Option<ArrayRef>, BooleanArray), PlanError> {
        let keys = self.visit.counts.len();
        let (Some(timeout), Some(stored)) = (self.op.timeout, self.visit.stored.get(self.op.state_fields.len())) else {
            return Ok((None, vec![false; keys].into()));
        };
        let stored = stored.as_primitive::<Int64Type>();
        let of_initial = ctx.time_ms.saturating_sub(timeout.initial_age_ms);
        let date = |key: usize| match self.visit.counts[key] {
            0 if stored.is_null(key) => of_initial,
            0 => stored.value(key),
            _ => ctx.time_ms,
        };
        let dates = Int64Array::from_iter_values((0..keys).map(date));
        let expired = dates.values().iter().map(|date| ctx.time_ms.saturating_sub(*date) > timeout.after_ms);
        let expired = BooleanArray::from(expired.collect::<Vec<_>>());
        Ok((Some(Arc::new(dates)), expired))
    }

    /// The last rows of keys that time out. Nothing of them has changed.
    fn time_out(&mut self, expired: &BooleanArray) -> Result<(), PlanError> {
        let positions: Vec<u32> = expired.values().set_indices().map(|key| key as u32).collect();
        let (rows, positions) = (positions.len(), UInt32Array::from(positions));
        if rows == 0 {
            return Ok(());
        }
        let of = |columns: &[ArrayRef]| columns.iter().map(|c| take(c, &positions, None)).collect::<Result<_, _>>();
        let keys = Round {
            keys: of(&self.visit.keys)?,
            state: of(&self.visit.stored[..self.op.state_fields.len()])?,
            known: all_true(rows),
        };
        let absent = self.op.steps.absent.iter().map(|value| value.to_array_of_size(rows));
        let mut columns = self.columns(&keys, &absent.collect::<Result<Vec<_>, _>>()?, true);
        columns.extend(keys.state);
        let after = seen(&self.op.steps.schema, columns, rows)?;
        self.emit(&after, &positions)
    }

    /// From the order of the rounds to that of the keys.
    fn by_key(&self, parts: &[Round]) -> Result<(Vec<ArrayRef>, BooleanArray), PlanError> {
        let mut places = vec![0; self.order.len()];
        for (place, &key) in self.order.iter().enumerate() {
            places[key as usize] = place as u32;
        }
        let places = UInt32Array::from(places);
        let column = |number: usize| {
            let column: Vec<&dyn Array> = parts.iter().map(|part| part.state[number].as_ref()).collect();
            take(&concat(&column)?, &places, None)
        };
        let state = (0..self.op.state_fields.len()).map(column).collect::<Result<_, _>>()?;
        let known: BooleanArray = parts.iter().flat_map(|part| part.known.iter()).collect();
        let known = take(&known, &places, None)?;
        // A quiet key without state stays without.
        let removed = known.as_boolean().iter().map(|known| Some(known != Some(true))).collect();
        Ok((state, removed))
    }

    /// All rows that came out, with their keys.
    fn rows(self) -> Result<(RecordBatch, UInt32Array), PlanError> {
        let schema = &self.op.emitted;
        let Some(((_, first), rest)) = self.emitted.split_first() else {
            return Ok((RecordBatch::new_empty(schema.clone()), UInt32Array::from(Vec::<u32>::new())));
        };
        let positions = self.emitted.iter().map(|(_, positions)| positions as &dyn Array).collect::<Vec<_>>();
        let positions = if rest.is_empty() { Arc::new(first.clone()) } else { concat(&positions)? };
        let positions = positions.as_primitive::<UInt32Type>();
        let mut order: Vec<u32> = (0..positions.len() as u32).collect();
        // Stable: rounds, and with them the records of a key, stay in order.
        order.sort_by_key(|&row| positions.value(row as usize));
        let order = UInt32Array::from(order);
        let rows = concat_batches(schema, self.emitted.iter().map(|(rows, _)| rows))?;
        let rows = take_record_batch(&rows, &order)?;
        Ok((rows, take(positions, &order, None)?.as_primitive().clone()))
    }
}

impl Round {
    fn slice(&self, range: Range<usize>) -> Self {
        let of = |columns: &[ArrayRef]| columns.iter().map(|c| c.slice(range.start, range.len())).collect();
        Self { keys: of(&self.keys), state: of(&self.state), known: self.known.slice(range.start, range.len()) }
    }
}

fn all_true(rows: usize) -> BooleanArray {
    vec![true; rows].into()
}

impl fmt::Debug for MapOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapOp")
            .field("key_fields", &self.key_fields)
            .field("stored_fields", &self.stored_fields)
            .field("emitted", &self.emitted.fields())
            .field("timeout", &self.timeout)
            .field("initial", &self.initial)
            .field("updates", &shown(self.steps.updates.iter()))
            .field("emit", &shown(self.steps.emit.iter()))
            .field("emit_when", &shown(self.steps.emit_when.iter()))
            .field("remove_when", &shown(self.steps.remove_when.iter()))
            .field("absent", &shown(self.steps.absent.iter()))
            .finish()
    }
}
