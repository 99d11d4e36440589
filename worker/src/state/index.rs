//! From encoded keys to slots.
//!
//! Keys lie one after the other in an arena; a hash table of slot numbers finds them. A slot number
//! stays with its key until the key is removed, and is reused afterwards. The bytes of removed keys
//! stay behind until the owner rebuilds the index (see [`KeyIndex::is_wasteful`]).

use super::StateError;
use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The slot of a key that is not there.
pub(super) const ABSENT: u32 = u32::MAX;

/// Removed bytes below this are never worth a rebuild.
const TOLERATED_GARBAGE: usize = 64 << 10;

/// A set of keys, each with a slot number.
#[derive(Debug, Default)]
pub(super) struct KeyIndex {
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    arena: Vec<u8>,
    /// By slot; that of a free slot is stale.
    spans: Vec<Span>,
    free: Vec<u32>,
    /// Bytes of the arena that belong to no key.
    garbage: usize,
    order: Mutex<Order>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    fn of(self, arena: &[u8]) -> &[u8] {
        let start = self.start as usize;
        &arena[start..start + self.len as usize]
    }
}

/// Slots in the order of their keys as of some moment, and the slots that changed hands since then.
/// Sorting everything for every batch would cost more than all else.
#[derive(Debug, Default)]
struct Order {
    sorted: Option<Arc<Vec<u32>>>,
    changed: Vec<u32>,
}

impl Order {
    fn note(&mut self, slot: u32) {
        let Some(sorted) = &self.sorted else { return };
        if self.changed.len() > sorted.len() / 2 {
            *self = Self::default();
        } else {
            self.changed.push(slot);
        }
    }
}

impl KeyIndex {
    /// Number of keys.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// All slots are below this.
    pub(super) fn slots(&self) -> usize {
        self.spans.len()
    }

    /// The key in a live slot.
    pub(super) fn key(&self, slot: u32) -> &[u8] {
        self.spans[slot as usize].of(&self.arena)
    }

    /// Whether a slot has a key, which that of a free one no longer is.
    pub(super) fn is_live(&self, slot: u32) -> bool {
        self.find(self.key(slot)) == slot
    }

    /// The slot of `key`, or [`ABSENT`].
    pub(super) fn find(&self, key: &[u8]) -> u32 {
        let hash = self.hasher.hash_one(key);
        let found = self.table.find(hash, |&slot| self.key(slot) == key);
        found.copied().unwrap_or(ABSENT)
    }

    /// The slot of `key`, and whether it had to be made.
    pub(super) fn find_or_insert(&mut self, key: &[u8]) -> Result<(u32, bool), StateError> {
        let Self { table, hasher, arena, spans, free, .. } = self;
        let entry = table.entry(
            hasher.hash_one(key),
            |&slot| spans[slot as usize].of(arena) == key,
            |&slot| hasher.hash_one(spans[slot as usize].of(arena)),
        );
        let vacant = match entry {
            Entry::Occupied(found) => return Ok((*found.get(), false)),
            Entry::Vacant(vacant) => vacant,
        };
        let (Ok(start), Ok(len)) = (u32::try_from(arena.len()), u32::try_from(key.len())) else {
            return Err(self.full());
        };
        let span = Span { start, len };
        let slot = match free.pop() {
            Some(slot) => {
                spans[slot as usize] = span;
                slot
            }
            None => {
                let next = u32::try_from(spans.len()).ok().filter(|&s| s != ABSENT);
                let Some(slot) = next else {
                    return Err(self.full());
                };
                spans.push(span);
                slot
            }
        };
        arena.extend_from_slice(key);
        vacant.insert(slot);
        self.order().note(slot);
        Ok((slot, true))
    }

    /// Removes the key in `slot`, whose number may be reused from now on. Does nothing when the slot is free.
    pub(super) fn remove(&mut self, slot: u32) {
        let span = self.spans[slot as usize];
        let hash = self.hasher.hash_one(span.of(&self.arena));
        let Ok(found) = self.table.find_entry(hash, |&other| other == slot) else {
            return;
        };
        found.remove();
        self.garbage += span.len as usize;
        self.free.push(slot);
        self.order().note(slot);
    }

    /// Whether most of the arena belongs to removed keys, so that a rebuild pays.
    pub(super) fn is_wasteful(&self) -> bool {
        self.garbage > TOLERATED_GARBAGE && self.garbage > self.arena.len() / 2
    }

    /// Live slots in ascending order of their keys' bytes.
    pub(super) fn sorted(&self) -> Arc<Vec<u32>> {
        let mut order = self.order();
        let changed = std::mem::take(&mut order.changed);
        let sorted = match order.sorted.take() {
            Some(sorted) if changed.is_empty() => sorted,
            Some(sorted) => Arc::new(self.merged(&sorted, changed)),
            None => {
                let mut slots: Vec<u32> = self.table.iter().copied().collect();
                self.sort(&mut slots);
                Arc::new(slots)
            }
        };
        order.sorted = Some(Arc::clone(&sorted));
        sorted
    }

    /// `old` without the slots in `changed`, and with those of them that are live where they belong.
    fn merged(&self, old: &[u32], mut changed: Vec<u32>) -> Vec<u32> {
        let mut stale = vec![false; self.slots()];
        for &slot in &changed {
            stale[slot as usize] = true;
        }
        changed.sort_unstable();
        changed.dedup();
        changed.retain(|&slot| self.find(self.key(slot)) == slot);
        self.sort(&mut changed);

        let mut merged = Vec::with_capacity(self.len());
        let mut added = changed.into_iter().peekable();
        for &slot in old.iter().filter(|&&slot| !stale[slot as usize]) {
            while let Some(new) = added.next_if(|&new| self.key(new) < self.key(slot)) {
                merged.push(new);
            }
            merged.push(slot);
        }
        merged.extend(added);
        merged
    }

    /// Sorts slots by key. Most keys differ in their first bytes, which are compared without a look into the arena.
    fn sort(&self, slots: &mut [u32]) {
        let mut prefixed: Vec<(u64, u32)> = slots.iter().map(|&slot| (prefix(self.key(slot)), slot)).collect();
        prefixed.sort_unstable_by(|a, b| {
            let by_key = || self.key(a.1).cmp(self.key(b.1));
            a.0.cmp(&b.0).then_with(by_key)
        });
        for (slot, (_, sorted)) in slots.iter_mut().zip(prefixed) {
            *slot = sorted;
        }
    }

    /// Memory held, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        let order = self.order();
        let slots = self.free.capacity()
            + order.changed.capacity()
            + order.sorted.as_ref().map_or(0, |sorted| sorted.capacity());
        self.arena.capacity()
            + self.table.allocation_size()
            + self.spans.capacity() * size_of::<Span>()
            + slots * size_of::<u32>()
    }

    fn order(&self) -> MutexGuard<'_, Order> {
        // It is only a cache, taken out before it is worked on: what a dead thread left is usable.
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn full(&self) -> StateError {
        StateError::Full { keys: self.len(), bytes: self.arena.len() }
    }
}

/// The first eight bytes as a number that sorts like them; shorter keys are filled up with zeros.
fn prefix(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let len = key.len().min(8);
    bytes[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn sorted_keys(index: &KeyIndex) -> Vec<Vec<u8>> {
        let slots = index.sorted();
        slots.iter().map(|&s| index.key(s).to_vec()).collect()
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_set(
            steps in prop::collection::vec((any::<bool>(), prop::collection::vec(0u8..3, 0..12), any::<bool>()), 1..200)
        ) {
            let mut index = KeyIndex::default();
            let mut model = BTreeSet::new();
            for (insert, key, look) in steps {
                if insert {
                    let (slot, new) = index.find_or_insert(&key).unwrap();
                    prop_assert_eq!(new, model.insert(key.clone()));
                    prop_assert_eq!(index.key(slot), &key[..]);
                } else {
                    let slot = index.find(&key);
                    prop_assert_eq!(slot != ABSENT, model.remove(&key));
                    if slot != ABSENT {
                        index.remove(slot);
                    }
                }
                prop_assert_eq!(index.len(), model.len());
                if look {
                    prop_assert_eq!(sorted_keys(&index), model.iter().cloned().collect::<Vec<_>>());
                }
            }
            prop_assert_eq!(sorted_keys(&index), model.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn churn_makes_it_wasteful() {
        let mut index = KeyIndex::default();
        for n in 0..20_000u64 {
            let (slot, _) = index.find_or_insert(&n.to_be_bytes()).unwrap();
            index.remove(slot);
        }
        assert_eq!(index.slots(), 1);
        assert!(index.is_wasteful());
    }
}
