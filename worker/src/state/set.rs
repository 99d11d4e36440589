//! All partitions that a worker holds.

use super::{HeldPartition, StateError, StatePartition};
use datafusion::arrow::datatypes::SchemaRef;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tidemill_common::ids::{BatchId, JobId, KeyGroup, StageId};

/// What a partition belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// The job.
    pub job: JobId,
    /// The stage whose operator keeps the state.
    pub stage: StageId,
    /// The share of the key space.
    pub group: KeyGroup,
}

/// A partition shared between tasks. Locked for as long as one operation on it takes, and never across an await.
#[derive(Debug, Clone)]
pub struct PartitionHandle(Arc<Mutex<HeldPartition>>);

impl PartitionHandle {
    fn new(held: HeldPartition) -> Self {
        Self(Arc::new(Mutex::new(held)))
    }

    /// Waits for the partition. Fails if a thread died while it changed it.
    pub fn lock(&self) -> Result<MutexGuard<'_, HeldPartition>, StateError> {
        self.0.lock().map_err(|_| StateError::Poisoned)
    }
}

/// The partitions of a worker, by key. Cheap to look into from many threads.
#[derive(Debug, Default)]
pub struct StateSet {
    partitions: RwLock<HashMap<PartitionKey, PartitionHandle>>,
}

impl StateSet {
    /// The partition, if it is held.
    pub fn get(&self, key: &PartitionKey) -> Option<PartitionHandle> {
        self.read(|partitions| partitions.get(key).cloned())
    }

    /// The partition; an empty one at version 0 if there was none.
    pub fn get_or_create(&self, key: PartitionKey, state_schema: &SchemaRef) -> PartitionHandle {
        let create = || {
            let partition = StatePartition::new(state_schema.clone());
            PartitionHandle::new(HeldPartition::new(partition))
        };
        self.get(&key).unwrap_or_else(|| self.write(|p| p.entry(key).or_insert_with(create).clone()))
    }

    /// Puts a partition in place of what was held. Who still has the old handle keeps the old partition.
    pub fn insert(&self, key: PartitionKey, held: HeldPartition) -> PartitionHandle {
        let handle = PartitionHandle::new(held);
        self.write(|partitions| partitions.insert(key, handle.clone()));
        handle
    }

    /// Lets go of a partition; false if it was not held.
    pub fn remove(&self, key: &PartitionKey) -> bool {
        self.write(|partitions| partitions.remove(key)).is_some()
    }

    /// Lets go of all partitions of a job.
    pub fn remove_job(&self, job: JobId) {
        self.write(|partitions| partitions.retain(|key, _| key.job != job));
    }

    /// The partitions of a job, in order.
    pub fn partitions(&self, job: JobId) -> Vec<(PartitionKey, PartitionHandle)> {
        let mut found: Vec<_> = self.read(|partitions| {
            let of_job = partitions.iter().filter(|(key, _)| key.job == job);
            of_job.map(|(key, handle)| (*key, handle.clone())).collect()
        });
        found.sort_unstable_by_key(|(key, _)| *key);
        found
    }

    /// The versions held of a job, in order of stage and group. A [poisoned](StateError::Poisoned) partition is at none.
    pub fn versions(&self, job: JobId) -> Vec<(StageId, KeyGroup, BatchId)> {
        let partitions = self.partitions(job).into_iter();
        let version = |(key, handle): (PartitionKey, PartitionHandle)| {
            let held = handle.lock().ok()?;
            Some((key.stage, key.group, held.partition().version()))
        };
        partitions.filter_map(version).collect()
    }

    /// Memory held by all partitions, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let handles: Vec<_> = self.read(|partitions| partitions.values().cloned().collect());
        let held = handles.iter().filter_map(|handle| handle.lock().ok());
        held.map(|held| held.memory_bytes()).sum()
    }

    // The map itself is never left half changed, so a poisoned lock around it is harmless.

    fn read<R>(&self, f: impl FnOnce(&HashMap<PartitionKey, PartitionHandle>) -> R) -> R {
        f(&self.partitions.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<R>(&self, f: impl FnOnce(&mut HashMap<PartitionKey, PartitionHandle>) -> R) -> R {
        f(&mut self.partitions.write().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_rows::schema;
    use super::*;

    fn key(job: u64, stage: u32, group: u32) -> PartitionKey {
        PartitionKey { job: JobId(job), stage: StageId(stage), group: KeyGroup(group) }
    }

    #[test]
    fn holds_partitions_by_job() {
        let set = StateSet::default();
        for key in [key(1, 1, 0), key(1, 0, 7), key(2, 0, 0)] {
            set.get_or_create(key, &schema());
        }
        let at = |stage, group| (StageId(stage), KeyGroup(group), BatchId(0));
        assert_eq!(set.versions(JobId(1)), [at(0, 7), at(1, 0)]);
        set.remove_job(JobId(1));
        assert_eq!(set.versions(JobId(1)), []);
        assert_eq!(set.versions(JobId(2)), [at(0, 0)]);
        assert!(set.remove(&key(2, 0, 0)));
        assert!(!set.remove(&key(2, 0, 0)));
        assert_eq!(set.memory_bytes(), 0);
    }

    #[test]
    fn a_partition_is_made_once() {
        let set = StateSet::default();
        let first = set.get_or_create(key(1, 0, 0), &schema());
        let second = set.get_or_create(key(1, 0, 0), &schema());
        assert!(Arc::ptr_eq(&first.0, &second.0));
    }

    #[test]
    fn a_partition_whose_thread_died_is_not_trusted() {
        let set = StateSet::default();
        let handle = set.get_or_create(key(1, 0, 0), &schema());
        let dying = handle.clone();
        let died = std::thread::spawn(move || {
            let _held = dying.lock().unwrap();
            panic!("in the middle of a change");
        });
        assert!(died.join().is_err());
        assert!(matches!(handle.lock(), Err(StateError::Poisoned)));
        assert_eq!(set.versions(JobId(1)), []);
    }
}
