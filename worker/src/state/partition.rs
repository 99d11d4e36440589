//! The live state of one (stage, key group), at a version.

use super::StateError;
use super::column::{Column, column_for};
use super::delta::{Delta, Snapshot, delta_parts, delta_schema, snapshot_parts, snapshot_schema};
use super::index::{ABSENT, KeyIndex};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, RecordBatch};
use datafusion::arrow::compute::{filter, nullif};
use datafusion::arrow::datatypes::SchemaRef;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use tidemill_common::ids::BatchId;

#[cfg(test)]
mod tests;

/// How many batches can be undone: the one that may still fail, and the one before it, whose followers may lag.
const UNDO_BATCHES: usize = 2;

/// Keys with their values in columns, changed batch by batch.
///
/// Pure: it does no I/O and depends on nothing but what it is given. Every change is checked before
/// anything is written. What it hands out never shows where a key lies in memory.
#[derive(Debug)]
pub struct StatePartition {
    version: BatchId,
    index: KeyIndex,
    columns: Vec<Box<dyn Column>>,
    /// What takes each of the last batches back, oldest first. They end at `version` without a gap.
    undo: VecDeque<Delta>,
    schema: SchemaRef,
    delta_schema: SchemaRef,
    snapshot_schema: SchemaRef,
}

/// Values of some keys, in the order of the keys.
#[derive(Debug, Clone)]
pub struct Gathered {
    /// The state columns; null where the key is absent.
    pub columns: Vec<ArrayRef>,
    /// Whether the key is in the state.
    pub present: BooleanArray,
}

/// Rows found in, or made in, the index, before anything else is written.
struct Located {
    /// By row; [`ABSENT`] for a key that is dropped but was not there.
    slots: Vec<u32>,
    /// By row: the slot was made for it.
    fresh: Vec<bool>,
}

/// What a change did.
struct Change {
    delta: RecordBatch,
    inverse: RecordBatch,
}

impl StatePartition {
    /// An empty partition at version 0 with these state columns.
    pub fn new(state_schema: SchemaRef) -> Self {
        let fields = state_schema.fields().iter();
        Self {
            version: BatchId(0),
            index: KeyIndex::default(),
            columns: fields.map(|field| column_for(field.data_type())).collect(),
            undo: VecDeque::new(),
            delta_schema: delta_schema(&state_schema),
            snapshot_schema: snapshot_schema(&state_schema),
            schema: state_schema,
        }
    }

    /// The last batch applied; 0 before the first.
    pub fn version(&self) -> BatchId {
        self.version
    }

    /// The state columns, without the key.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory held, undo included, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let columns = self.columns.iter().map(|column| column.memory_bytes());
        let undo = self.undo.iter().map(Delta::memory_bytes);
        self.index.memory_bytes() + columns.sum::<usize>() + undo.sum::<usize>()
    }

    /// Looks up the values of `keys`.
    pub fn gather(&self, keys: &BinaryArray) -> Result<Gathered, StateError> {
        let slots = self.find(keys);
        Ok(Gathered {
            present: slots.iter().map(|&slot| Some(slot != ABSENT)).collect(),
            columns: self.gather_slots(&slots)?,
        })
    }

    /// The keys of the state that are not among `keys`, in ascending order of their bytes.
    pub fn untouched(&self, keys: &BinaryArray) -> BinaryArray {
        let mut touched = vec![false; self.index.slots()];
        for slot in self.find(keys) {
            if slot != ABSENT {
                touched[slot as usize] = true;
            }
        }
        let sorted = self.index.sorted();
        let rest = sorted.iter().filter(|&&slot| !touched[slot as usize]);
        self.keys_of(rest.copied())
    }

    /// The keys of [`untouched`](Self::untouched) whose value in a column, an integer, is below `limit` or null. Costs a
    /// look at every value of the column, but at no other key.
    pub fn untouched_below(&self, column: usize, limit: i64, keys: &BinaryArray) -> BinaryArray {
        let mut slots = self.columns.get(column).map_or(Vec::new(), |column| column.slots_below(limit));
        if !slots.is_empty() {
            let touched: HashSet<u32> = self.find(keys).into_iter().collect();
            slots.retain(|slot| !touched.contains(slot) && self.index.is_live(*slot));
            slots.sort_unstable_by(|a, b| self.index.key(*a).cmp(self.index.key(*b)));
        }
        self.keys_of(slots.into_iter())
    }

    /// Everything: `__key`, then the state columns, in ascending order of the keys' bytes.
    pub fn all(&self) -> Result<RecordBatch, StateError> {
        let sorted = self.index.sorted();
        let mut columns = self.gather_slots(&sorted)?;
        columns.insert(0, Arc::new(self.keys_of(sorted.iter().copied())));
        Ok(RecordBatch::try_new(self.snapshot_schema.clone(), columns)?)
    }

    /// Applies the next batch: gives `keys` (distinct) the values `new`, or drops them where `dropped` says so.
    ///
    /// Returns the rows that made a difference: new keys, changed values (doubles bit by bit), dropped keys that were there.
    pub fn apply(
        &mut self,
        batch: BatchId,
        keys: &BinaryArray,
        new: &[ArrayRef],
        dropped: Option<&BooleanArray>,
    ) -> Result<Delta, StateError> {
        if batch != self.version.next() {
            return Err(StateError::NotNext { version: self.version, batch });
        }
        let change = self.change(keys, new, dropped)?;
        self.version = batch;
        if self.undo.len() == UNDO_BATCHES {
            self.undo.pop_front();
        }
        self.undo.push_back(Delta { batch, rows: change.inverse });
        Ok(Delta { batch, rows: change.delta })
    }

    /// The delta of a batch that changes nothing.
    pub fn empty_delta(&self, batch: BatchId) -> Delta {
        Delta { batch, rows: RecordBatch::new_empty(self.delta_schema.clone()) }
    }

    /// Applies the next batch as its owner did. Same rules as [`apply`](Self::apply).
    pub fn apply_delta(&mut self, delta: &Delta) -> Result<(), StateError> {
        let (keys, dropped, new) = delta_parts(&delta.rows, &self.delta_schema)?;
        self.apply(delta.batch, keys, new, Some(dropped))?;
        Ok(())
    }

    /// Puts a delta that spans any number of batches on top, without an undo. For checkpoints.
    pub(super) fn overlay(&mut self, delta: &Delta) -> Result<(), StateError> {
        let (keys, dropped, new) = delta_parts(&delta.rows, &self.delta_schema)?;
        self.change(keys, new, Some(dropped))?;
        self.version = delta.batch;
        self.undo.clear();
        Ok(())
    }

    /// Goes back to the state after `batch`. Only the last two batches can be undone.
    pub fn roll_back_to(&mut self, batch: BatchId) -> Result<(), StateError> {
        let oldest = self.version.0.saturating_sub(self.undo.len() as u64);
        if batch > self.version || batch.0 < oldest {
            return Err(StateError::NotKept { version: self.version, wanted: batch });
        }
        while self.version > batch {
            let Some(undo) = self.undo.pop_back() else {
                break;
            };
            let schema = self.delta_schema.clone();
            let (keys, dropped, old) = delta_parts(&undo.rows, &schema)?;
            self.change(keys, old, Some(dropped))?;
            self.version = self.version.prev();
        }
        Ok(())
    }

    /// Keys that would change if the state went back to the version `batch`.
    pub(super) fn keys_changed_after(&self, batch: BatchId) -> impl Iterator<Item = &BinaryArray> {
        let undone = self.undo.iter().filter(move |undo| undo.batch > batch);
        undone.map(|undo| undo.rows.column(0).as_binary())
    }

    /// Lets go of what is needed to undo batches before `batch`, which must not fail any more.
    pub fn forget_undo_before(&mut self, batch: BatchId) {
        self.undo.retain(|undo| undo.batch >= batch);
    }

    /// A copy of the whole partition.
    pub fn snapshot(&self) -> Result<Snapshot, StateError> {
        Ok(Snapshot { version: self.version, rows: self.all()? })
    }

    /// A partition as it was when the snapshot was taken, with nothing to undo.
    pub fn from_snapshot(state_schema: SchemaRef, snapshot: &Snapshot) -> Result<Self, StateError> {
        let mut partition = Self::new(state_schema);
        let schema = partition.snapshot_schema.clone();
        let (keys, columns) = snapshot_parts(&snapshot.rows, &schema)?;
        partition.change(keys, columns, None)?;
        partition.version = snapshot.version;
        Ok(partition)
    }

    /// What takes the last batches back, oldest first; without a gap up to the version.
    pub fn undo(&self) -> impl Iterator<Item = &Delta> {
        self.undo.iter()
    }

    /// Takes over the [`undo`](Self::undo) of another copy at the same version.
    pub fn set_undo(&mut self, undo: Vec<Delta>) -> Result<(), StateError> {
        let oldest = self.version.0.saturating_sub(undo.len() as u64);
        let in_order = undo.iter().zip(oldest + 1..).all(|(delta, batch)| delta.batch.0 == batch);
        if !in_order || undo.len() > UNDO_BATCHES || undo.len() as u64 > self.version.0 {
            let batches: Vec<BatchId> = undo.iter().map(|delta| delta.batch).collect();
            return Err(StateError::Shape(format!("{batches:?} do not lead back from version {}", self.version)));
        }
        for delta in &undo {
            delta_parts(&delta.rows, &self.delta_schema)?;
        }
        self.undo = undo.into();
        Ok(())
    }

    /// Puts initial rows into a partition that has seen no batch. May be called again with further keys.
    pub fn load_initial(&mut self, keys: &BinaryArray, columns: &[ArrayRef]) -> Result<(), StateError> {
        if self.version != BatchId(0) {
            return Err(StateError::NotNext { version: self.version, batch: BatchId(0) });
        }
        if let Some(row) = self.find(keys).iter().position(|&slot| slot != ABSENT) {
            return Err(StateError::RepeatedKey { row });
        }
        self.change(keys, columns, None)?;
        Ok(())
    }

    /// Rows of a delta that brings these keys, in ascending order, from any state to their present one.
    pub(super) fn present_state_of(&self, keys: &BinaryArray) -> Result<RecordBatch, StateError> {
        let slots = self.find(keys);
        let dropped = slots.iter().map(|&slot| slot == ABSENT).collect();
        self.delta_rows(keys, dropped, self.gather_slots(&slots)?)
    }

    /// Writes `new` (nulls for dropped keys) and says what that did. The version stays.
    fn change(
        &mut self,
        keys: &BinaryArray,
        new: &[ArrayRef],
        dropped: Option<&BooleanArray>,
    ) -> Result<Change, StateError> {
        self.check(keys, new, dropped)?;
        let dropped: Vec<bool> = match dropped {
            Some(dropped) => dropped.iter().map(|d| d.unwrap_or(false)).collect(),
            None => vec![false; keys.len()],
        };
        let new = with_nulls(new, &dropped)?;
        let located = self.locate(keys, &dropped)?;
        match self.write(keys, &new, dropped, &located) {
            Ok(change) => Ok(change),
            Err(error) => {
                self.unlocate(&located);
                Err(error)
            }
        }
    }

    fn write(
        &mut self,
        keys: &BinaryArray,
        new: &[ArrayRef],
        dropped: Vec<bool>,
        Located { slots, fresh }: &Located,
    ) -> Result<Change, StateError> {
        let mut changed: Vec<bool> = (0..slots.len()).map(|i| fresh[i] || (dropped[i] && slots[i] != ABSENT)).collect();
        for (column, new) in self.columns.iter_mut().zip(new) {
            column.grow(self.index.slots());
            column.mark_changes(slots, new, &mut changed)?;
        }
        let rows = Filter::of(changed);
        let slots = rows.pick(slots);
        let dropped = rows.pick(&dropped);
        let keys = rows.array(keys)?;
        let keys: &BinaryArray = keys.as_binary();
        let new = new.iter().map(|column| rows.array(column));
        let new = new.collect::<Result<Vec<_>, _>>()?;

        let change = Change {
            inverse: self.delta_rows(keys, rows.pick(fresh), self.gather_slots(&slots)?)?,
            delta: self.delta_rows(keys, dropped.clone(), new.clone())?,
        };
        for (column, new) in self.columns.iter_mut().zip(&new) {
            column.scatter(&slots, new)?;
        }
        for (&slot, _) in slots.iter().zip(&dropped).filter(|(_, dropped)| **dropped) {
            self.index.remove(slot);
        }
        if self.index.is_wasteful() {
            self.rebuild()?;
        }
        Ok(change)
    }

    /// Finds the slots of all rows, making those of new keys.
    fn locate(&mut self, keys: &BinaryArray, dropped: &[bool]) -> Result<Located, StateError> {
        let mut located = Located { slots: Vec::with_capacity(keys.len()), fresh: Vec::with_capacity(keys.len()) };
        let mut seen = vec![0u64; self.index.slots().div_ceil(64)];
        for (row, (key, &dropped)) in values(keys).zip(dropped).enumerate() {
            let found = if dropped { Ok((self.index.find(key), false)) } else { self.index.find_or_insert(key) };
            let (slot, fresh) = match found {
                Ok((slot, fresh)) if slot == ABSENT || mark(&mut seen, slot) => (slot, fresh),
                refused => {
                    self.unlocate(&located);
                    refused?;
                    return Err(StateError::RepeatedKey { row });
                }
            };
            located.slots.push(slot);
            located.fresh.push(fresh);
        }
        Ok(located)
    }

    /// Takes the keys out again that `locate` made.
    fn unlocate(&mut self, located: &Located) {
        for (&slot, _) in located.slots.iter().zip(&located.fresh).filter(|(_, f)| **f) {
            self.index.remove(slot);
        }
    }

    /// Moves everything to new, dense slots.
    fn rebuild(&mut self) -> Result<(), StateError> {
        let sorted = self.index.sorted();
        let mut index = KeyIndex::default();
        for &slot in sorted.iter() {
            index.find_or_insert(self.index.key(slot))?;
        }
        let slots: Vec<u32> = (0..).take(sorted.len()).collect();
        let mut columns = Vec::with_capacity(self.columns.len());
        for (old, field) in self.columns.iter().zip(self.schema.fields()) {
            let mut column = column_for(field.data_type());
            column.grow(slots.len());
            column.scatter(&slots, &old.gather(&sorted)?)?;
            columns.push(column);
        }
        self.index = index;
        self.columns = columns;
        Ok(())
    }

    fn check(&self, keys: &BinaryArray, new: &[ArrayRef], dropped: Option<&BooleanArray>) -> Result<(), StateError> {
        let fields = self.schema.fields();
        let types = fields.iter().map(|field| field.data_type());
        let rows = keys.len();
        if !types.eq(new.iter().map(|column| column.data_type())) {
            return Err(StateError::Shape(format!("expected columns {fields:?}")));
        }
        if new.iter().any(|column| column.len() != rows) || dropped.is_some_and(|d| d.len() != rows) {
            return Err(StateError::Shape("columns differ in length".to_owned()));
        }
        if keys.null_count() > 0 {
            return Err(StateError::Shape("a key is null".to_owned()));
        }
        Ok(())
    }

    fn find(&self, keys: &BinaryArray) -> Vec<u32> {
        values(keys).map(|key| self.index.find(key)).collect()
    }

    fn gather_slots(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, StateError> {
        let columns = self.columns.iter();
        columns.map(|column| column.gather(slots)).collect()
    }

    fn keys_of(&self, slots: impl Iterator<Item = u32>) -> BinaryArray {
        let mut keys = BinaryBuilder::new();
        for slot in slots {
            keys.append_value(self.index.key(slot));
        }
        keys.finish()
    }

    fn delta_rows(
        &self,
        keys: &BinaryArray,
        dropped: Vec<bool>,
        columns: Vec<ArrayRef>,
    ) -> Result<RecordBatch, StateError> {
        let mut all: Vec<ArrayRef> = vec![Arc::new(keys.clone()), Arc::new(BooleanArray::from(dropped))];
        all.extend(columns);
        Ok(RecordBatch::try_new(self.delta_schema.clone(), all)?)
    }
}

/// Chooses rows; choosing all of them costs nothing.
struct Filter {
    chosen: BooleanArray,
    all: bool,
}

impl Filter {
    fn of(chosen: Vec<bool>) -> Self {
        let all = chosen.iter().all(|&chosen| chosen);
        let chosen = chosen.into();
        Self { chosen, all }
    }

    fn pick<T: Copy>(&self, items: &[T]) -> Vec<T> {
        if self.all {
            return items.to_vec();
        }
        let chosen = self.chosen.values().set_indices();
        chosen.map(|i| items[i]).collect()
    }

    fn array(&self, array: &dyn Array) -> Result<ArrayRef, StateError> {
        if self.all {
            return Ok(array.slice(0, array.len()));
        }
        Ok(filter(array, &self.chosen)?)
    }
}

/// The keys; a null is empty here and refused by [`StatePartition::check`].
fn values(keys: &BinaryArray) -> impl Iterator<Item = &[u8]> {
    (0..keys.len()).map(|row| keys.value(row))
}

/// Marks a slot as seen; false if it was already.
fn mark(seen: &mut Vec<u64>, slot: u32) -> bool {
    let (word, bit) = (slot as usize / 64, 1 << (slot % 64));
    if word >= seen.len() {
        seen.resize(word + 1, 0);
    }
    let new = seen[word] & bit == 0;
    seen[word] |= bit;
    new
}

fn with_nulls(columns: &[ArrayRef], dropped: &[bool]) -> Result<Vec<ArrayRef>, StateError> {
    if !dropped.contains(&true) {
        return Ok(columns.to_vec());
    }
    let dropped = BooleanArray::from(dropped.to_vec());
    let nulled = columns.iter().map(|column| nullif(column, &dropped));
    Ok(nulled.collect::<Result<_, _>>()?)
}
