//! A partition together with what changed in it since its last checkpoint.
//!
//! Only the *keys* that changed are remembered; their values are read when a checkpoint is taken. So undoing
//! a batch needs no care beyond naming its keys again. When more than half the partition is dirty the
//! keys are let go of, and the next checkpoint is a base.

use super::checkpoint::Payload;
use super::delta::{Delta, Snapshot};
use super::index::KeyIndex;
use super::{StateError, StatePartition};
use bytes::Bytes;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray};
use datafusion::arrow::datatypes::SchemaRef;
use tidemill_common::ids::BatchId;

/// Every so many checkpoints one is a base, so that no restore reads more than this many pieces.
const BASE_EVERY: usize = 8;

/// A [`StatePartition`] that knows how its next checkpoint is to be written.
#[derive(Debug)]
pub struct HeldPartition {
    partition: StatePartition,
    chain: Option<Chain>,
}

/// The checkpoints that the next one may build on: a base and deltas.
#[derive(Debug)]
struct Chain {
    /// Version of the newest.
    newest: BatchId,
    /// Keys changed since then; none when they are too many.
    dirty: Option<KeyIndex>,
    deltas: usize,
    base_bytes: usize,
    delta_bytes: usize,
}

impl Chain {
    fn of_base(version: BatchId, bytes: usize) -> Self {
        Self { newest: version, dirty: Some(KeyIndex::default()), deltas: 0, base_bytes: bytes, delta_bytes: 0 }
    }

    fn takes_another_delta(&self) -> bool {
        self.deltas + 1 < BASE_EVERY && self.delta_bytes <= self.base_bytes / 2
    }

    /// Remembers keys, at most `limit` of them.
    fn note(&mut self, keys: &BinaryArray, limit: usize) {
        let Some(mut dirty) = self.dirty.take() else {
            return;
        };
        for row in 0..keys.len() {
            // An index that is full is beyond every limit.
            if dirty.find_or_insert(keys.value(row)).is_err() || dirty.len() > limit {
                return;
            }
        }
        self.dirty = Some(dirty);
    }
}

impl HeldPartition {
    /// Holds a partition of which no checkpoint is known: the first one will be a base.
    pub fn new(partition: StatePartition) -> Self {
        Self { partition, chain: None }
    }

    /// The state as of a checkpoint: its base, then its deltas, as [`StateStore::load`](super::checkpoint::StateStore::load) gave them.
    pub fn from_checkpoint(state_schema: SchemaRef, parts: &[Bytes]) -> Result<Self, StateError> {
        let Some((base, deltas)) = parts.split_first() else {
            return Err(StateError::Decode("a checkpoint without a base".to_owned()));
        };
        let base = Snapshot::decode(base.clone())?;
        let mut partition = StatePartition::from_snapshot(state_schema, &base)?;
        for delta in deltas {
            partition.overlay(&Delta::decode(delta.clone())?)?;
        }
        Ok(Self::new(partition))
    }

    /// The state, for reading.
    pub fn partition(&self) -> &StatePartition {
        &self.partition
    }

    /// See [`StatePartition::apply`].
    pub fn apply(
        &mut self,
        batch: BatchId,
        keys: &BinaryArray,
        new: &[ArrayRef],
        dropped: Option<&BooleanArray>,
    ) -> Result<Delta, StateError> {
        let delta = self.partition.apply(batch, keys, new, dropped)?;
        self.note(delta.rows.column(0).as_binary());
        Ok(delta)
    }

    /// See [`StatePartition::apply_delta`].
    pub fn apply_delta(&mut self, delta: &Delta) -> Result<(), StateError> {
        self.partition.apply_delta(delta)?;
        self.note(delta.rows.column(0).as_binary());
        Ok(())
    }

    /// See [`StatePartition::roll_back_to`].
    pub fn roll_back_to(&mut self, batch: BatchId) -> Result<(), StateError> {
        let keys = self.partition.keys_changed_after(batch).cloned();
        let keys: Vec<BinaryArray> = keys.collect();
        self.partition.roll_back_to(batch)?;
        for keys in &keys {
            self.note(keys);
        }
        Ok(())
    }

    /// See [`StatePartition::forget_undo_before`].
    pub fn forget_undo_before(&mut self, batch: BatchId) {
        self.partition.forget_undo_before(batch);
    }

    /// See [`StatePartition::load_initial`].
    pub fn load_initial(&mut self, keys: &BinaryArray, columns: &[ArrayRef]) -> Result<(), StateError> {
        self.partition.load_initial(keys, columns)?;
        self.chain = None;
        Ok(())
    }

    /// The next checkpoint, of the present version; none if the last one was of this version too.
    ///
    /// It counts as written from now on: if writing fails, say so with [`checkpoint_failed`](Self::checkpoint_failed).
    pub fn checkpoint(&mut self) -> Result<Option<Payload>, StateError> {
        let version = self.partition.version();
        let (on, dirty) = match &self.chain {
            Some(chain) if chain.newest == version => return Ok(None),
            Some(chain) if chain.newest < version && chain.takes_another_delta() => {
                (chain.newest, chain.dirty.as_ref())
            }
            _ => (version, None),
        };
        let Some(dirty) = dirty else {
            let base = self.partition.snapshot()?.encode()?;
            self.chain = Some(Chain::of_base(version, base.len()));
            return Ok(Some(Payload::Base(base)));
        };
        let sorted = dirty.sorted();
        let keys = sorted.iter().map(|&slot| Some(dirty.key(slot)));
        let rows = self.partition.present_state_of(&keys.collect())?;
        let delta = Delta { batch: version, rows };
        let bytes = delta.encode()?;
        if let Some(chain) = &mut self.chain {
            chain.newest = version;
            chain.dirty = Some(KeyIndex::default());
            chain.deltas += 1;
            chain.delta_bytes += bytes.len();
        }
        Ok(Some(Payload::Delta { on, bytes }))
    }

    /// The last checkpoint was not written, or was lost: the next one has to be a base.
    pub fn checkpoint_failed(&mut self) {
        self.chain = None;
    }

    /// Memory held, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let dirty = self.chain.as_ref().and_then(|chain| chain.dirty.as_ref());
        self.partition.memory_bytes() + dirty.map_or(0, KeyIndex::memory_bytes)
    }

    fn note(&mut self, keys: &BinaryArray) {
        if let Some(chain) = &mut self.chain {
            chain.note(keys, self.partition.len() / 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::checkpoint::{CheckpointItem, CheckpointKey, JobKey, MemoryStore, StateStore};
    use super::super::test_rows::{Change, any_change, columns, dropped, keys, schema};
    use super::*;
    use proptest::prelude::*;
    use tidemill_common::ids::{JobId, KeyGroup, StageId};

    #[derive(Debug, Clone)]
    enum Step {
        Apply(Change),
        RollBack,
        Checkpoint { fails: bool },
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => any_change().prop_map(Step::Apply),
            1 => Just(Step::RollBack),
            3 => prop::bool::weighted(0.1).prop_map(|fails| Step::Checkpoint { fails }),
        ]
    }

    fn key(version: BatchId) -> CheckpointKey {
        CheckpointKey { job: JobKey::new("cluster", JobId(1)), stage: StageId(0), group: KeyGroup(0), version }
    }

    fn new() -> HeldPartition {
        HeldPartition::new(StatePartition::new(schema()))
    }

    fn apply(held: &mut HeldPartition, change: &Change) {
        let batch = held.partition().version().next();
        let columns = columns(change.values().map(Option::as_ref));
        let keys = keys(change.keys());
        held.apply(batch, &keys, &columns, Some(&dropped(change))).unwrap();
    }

    fn rows(range: std::ops::Range<u32>, count: i64) -> Change {
        let row = (Some(count), None, None, None);
        let entry = |n: u32| (n.to_be_bytes().to_vec(), Some(row.clone()));
        range.map(entry).collect()
    }

    proptest! {
        #[test]
        fn every_checkpoint_restores_its_version(steps in prop::collection::vec(any_step(), 1..40)) {
            let (mut held, store) = (new(), MemoryStore::default());
            // Enough keys that a change is not always most of them.
            apply(&mut held, &rows(0..40, 1));
            for step in steps {
                match step {
                    Step::Apply(change) => apply(&mut held, &change),
                    Step::RollBack => {
                        let version = held.partition().version();
                        held.roll_back_to(version.prev()).ok();
                        // Run again, a batch gives the same state; these batches do not, so its checkpoint has to go.
                        if held.chain.as_ref().is_some_and(|chain| chain.newest == version) {
                            held.checkpoint_failed();
                        }
                    }
                    Step::Checkpoint { fails: true } => {
                        held.checkpoint().unwrap();
                        held.checkpoint_failed();
                    }
                    Step::Checkpoint { fails: false } => {
                        let key = key(held.partition().version());
                        if let Some(payload) = held.checkpoint().unwrap() {
                            store.write_all(&[CheckpointItem { key, payload }]).unwrap();
                        }
                        let parts = store.load(&key).unwrap().unwrap();
                        prop_assert!(parts.len() <= BASE_EVERY);
                        let restored = HeldPartition::from_checkpoint(schema(), &parts).unwrap();
                        prop_assert_eq!(
                            restored.partition().snapshot().unwrap(),
                            held.partition().snapshot().unwrap()
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn few_changes_make_a_delta_and_many_a_base() {
        let mut held = new();
        apply(&mut held, &rows(0..1_000, 1));
        assert!(matches!(held.checkpoint(), Ok(Some(Payload::Base(_)))));
        assert!(matches!(held.checkpoint(), Ok(None)));
        apply(&mut held, &rows(0..10, 2));
        apply(&mut held, &rows(5..15, 3));
        let on = match held.checkpoint() {
            Ok(Some(Payload::Delta { on, bytes })) => {
                assert_eq!(Delta::decode(bytes).unwrap().rows.num_rows(), 15);
                on
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(on, BatchId(1));
        apply(&mut held, &rows(0..600, 4));
        assert!(matches!(held.checkpoint(), Ok(Some(Payload::Base(_)))));
    }

    #[test]
    fn every_eighth_is_a_base() {
        let mut held = new();
        apply(&mut held, &rows(0..10_000, 0));
        let mut bases = Vec::new();
        for n in 0..17 {
            apply(&mut held, &rows(0..1, n + 1));
            if let Ok(Some(Payload::Base(_))) = held.checkpoint() {
                bases.push(n);
            }
        }
        assert_eq!(bases, [0, 8, 16]);
    }

    #[test]
    fn undone_batches_stay_dirty() {
        let mut held = new();
        apply(&mut held, &rows(0..1_000, 1));
        apply(&mut held, &rows(0..3, 2));
        held.checkpoint().unwrap();
        held.roll_back_to(BatchId(1)).unwrap();
        apply(&mut held, &Change::new());
        apply(&mut held, &Change::new());
        match held.checkpoint() {
            Ok(Some(Payload::Delta { bytes, .. })) => {
                assert_eq!(Delta::decode(bytes).unwrap().rows.num_rows(), 3);
            }
            other => panic!("{other:?}"),
        }
    }
}
