//! Checkpoints in memory, for simulations and tests.

use super::chain::{Links, chain, unneeded};
use super::{CheckpointItem, CheckpointKey, JobKey, Payload, StateStore, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tidemill_common::ids::BatchId;

/// A [`StateStore`] that forgets everything with the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    items: Mutex<BTreeMap<CheckpointKey, Payload>>,
}

impl MemoryStore {
    fn items(&self) -> MutexGuard<'_, BTreeMap<CheckpointKey, Payload>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn links(items: &BTreeMap<CheckpointKey, Payload>) -> Links {
    let all = items.iter();
    all.map(|(key, payload)| (*key, payload.on())).collect()
}

impl StateStore for MemoryStore {
    fn write_all(&self, items: &[CheckpointItem]) -> Result<(), StoreError> {
        let new = items.iter().cloned();
        self.items().extend(new.map(|item| (item.key, item.payload)));
        Ok(())
    }

    fn load(&self, key: &CheckpointKey) -> Result<Option<Vec<Bytes>>, StoreError> {
        let items = self.items();
        let chain = chain(&links(&items), *key);
        Ok(chain.map(|keys| keys.iter().map(|key| items[key].bytes().clone()).collect()))
    }

    fn inventory(&self) -> Result<Vec<CheckpointKey>, StoreError> {
        let links = links(&self.items());
        let whole = links.keys().filter(|key| chain(&links, **key).is_some());
        Ok(whole.copied().collect())
    }

    fn retain(&self, job: &JobKey, keep: &[BatchId]) -> Result<(), StoreError> {
        let mut items = self.items();
        let mut links = links(&items);
        links.retain(|key, _| key.job == *job);
        for key in unneeded(&links, keep) {
            items.remove(&key);
        }
        Ok(())
    }

    fn forget_job(&self, job: &JobKey) -> Result<(), StoreError> {
        self.items().retain(|key, _| key.job != *job);
        Ok(())
    }

    fn damaged(&self) -> u64 {
        0
    }
}
