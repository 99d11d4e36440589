//! A store that is opened when the first state needs it: an idle worker pays nothing for sled.

use super::{CheckpointItem, CheckpointKey, CheckpointStore, DAMAGED, JobKey, StateStore, StoreError};
use bytes::Bytes;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tidemill_common::ids::BatchId;

/// A [`CheckpointStore`] that is created by the first write, or opened by whoever asks for what is there.
///
/// A damaged directory is moved aside and an empty one takes its place: copies are elsewhere.
#[derive(Debug)]
pub struct LazyStore {
    path: PathBuf,
    open: Mutex<Option<Arc<CheckpointStore>>>,
    /// Directories that were moved aside.
    moved_aside: AtomicU64,
}

impl LazyStore {
    /// A store in the directory `path`, which is not touched yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), open: Mutex::new(None), moved_aside: AtomicU64::new(0) }
    }

    fn opened(&self) -> Result<Arc<CheckpointStore>, StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = &*open {
            return Ok(Arc::clone(store));
        }
        let store = match CheckpointStore::open(&self.path) {
            Err(error @ StoreError::Corrupt { .. }) => {
                tracing::error!(%error, "checkpoints of this worker are lost, starting empty");
                self.moved_aside.fetch_add(1, Ordering::Relaxed);
                DAMAGED.add(1);
                CheckpointStore::open(&self.path)?
            }
            result => result?,
        };
        Ok(Arc::clone(open.insert(Arc::new(store))))
    }

    /// The store, unless nothing was ever written.
    fn existing(&self) -> Result<Option<Arc<CheckpointStore>>, StoreError> {
        if self.path.exists() { self.opened().map(Some) } else { Ok(None) }
    }
}

impl StateStore for LazyStore {
    fn write_all(&self, items: &[CheckpointItem]) -> Result<(), StoreError> {
        self.opened()?.write_all(items)
    }

    fn load(&self, key: &CheckpointKey) -> Result<Option<Vec<Bytes>>, StoreError> {
        match self.existing()? {
            Some(store) => store.load(key),
            None => Ok(None),
        }
    }

    fn inventory(&self) -> Result<Vec<CheckpointKey>, StoreError> {
        match self.existing()? {
            Some(store) => store.inventory(),
            None => Ok(Vec::new()),
        }
    }

    fn retain(&self, job: &JobKey, keep: &[BatchId]) -> Result<(), StoreError> {
        match self.existing()? {
            Some(store) => store.retain(job, keep),
            None => Ok(()),
        }
    }

    fn forget_job(&self, job: &JobKey) -> Result<(), StoreError> {
        match self.existing()? {
            Some(store) => store.forget_job(job),
            None => Ok(()),
        }
    }

    fn damaged(&self) -> u64 {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        self.moved_aside.load(Ordering::Relaxed) + open.as_ref().map_or(0, |store| store.damaged())
    }
}
