//! Versions of partitions that outlive the process.
//!
//! A checkpoint of a partition is a *base* (everything) or a *delta* on an earlier checkpoint of the same
//! partition. A store takes many at once, and gives back only what it can prove to be whole.

mod chain;
mod lazy;
mod memory;
pub(crate) mod record;
mod sled_store;

pub use lazy::LazyStore;
pub use memory::MemoryStore;
pub use sled_store::CheckpointStore;

use bytes::Bytes;
use std::path::PathBuf;
use thiserror::Error;
use tidemill_common::ids::{BatchId, JobId, KeyGroup, StageId};
use tidemill_metrics::{Counter, metric};
use twox_hash::XxHash3_64;

metric! {
    static DAMAGED: Counter = Counter::new(
        "tidemill_damaged_checkpoints_total",
        "Checkpoints, and whole directories of them, that did not read as they were written.",
    );
}

/// A job of a cluster; a directory may have served another cluster before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey {
    /// Hash of the cluster's id.
    pub cluster: u64,
    /// The job.
    pub job: JobId,
}

impl JobKey {
    /// The job in the cluster with this id.
    pub fn new(cluster_id: &str, job: JobId) -> Self {
        Self { cluster: XxHash3_64::oneshot(cluster_id.as_bytes()), job }
    }
}

/// What a checkpoint is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckpointKey {
    /// The job.
    pub job: JobKey,
    /// The stage.
    pub stage: StageId,
    /// The key group.
    pub group: KeyGroup,
    /// The version of the state.
    pub version: BatchId,
}

impl CheckpointKey {
    /// The same partition at another version.
    pub fn at(self, version: BatchId) -> Self {
        Self { version, ..self }
    }
}

/// What a checkpoint says. The store does not look into the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// The whole partition.
    Base(Bytes),
    /// What changed since an earlier checkpoint.
    Delta {
        /// Version of the earlier checkpoint.
        on: BatchId,
        /// The changes.
        bytes: Bytes,
    },
}

impl Payload {
    fn on(&self) -> Option<BatchId> {
        match self {
            Self::Base(_) => None,
            Self::Delta { on, .. } => Some(*on),
        }
    }

    fn bytes(&self) -> &Bytes {
        match self {
            Self::Base(bytes) | Self::Delta { bytes, .. } => bytes,
        }
    }
}

/// A checkpoint to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointItem {
    /// What it is of.
    pub key: CheckpointKey,
    /// What it says.
    pub payload: Payload,
}

/// Why a store could not do as it was told.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another process has the directory open.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// What was found cannot be read; it was moved out of the way, so that the next attempt starts empty.
    #[error("{} was damaged ({reason}) and is now {}", path.display(), moved_to.display())]
    Corrupt {
        /// The directory.
        path: PathBuf,
        /// Where it is now.
        moved_to: PathBuf,
        /// What was wrong.
        reason: String,
    },
    /// A newer Tidemill wrote the directory.
    #[error("{} has format {found}, this program knows up to {known}", path.display())]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format this program knows.
        known: u32,
    },
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database refused.
    #[error("checkpoint database: {0}")]
    Database(#[from] sled::Error),
}

/// A place for checkpoints. All calls block; async callers use `spawn_blocking`.
pub trait StateStore: Send + Sync {
    /// Writes all or, after an error or a crash, some of the items. They are durable when it returns.
    /// An item that is there already is replaced as a whole.
    fn write_all(&self, items: &[CheckpointItem]) -> Result<(), StoreError>;

    /// A base and its deltas, in order, ending with this checkpoint; none unless all of them are whole.
    fn load(&self, key: &CheckpointKey) -> Result<Option<Vec<Bytes>>, StoreError>;

    /// Checkpoints that can be loaded, in order. Reads everything there is.
    fn inventory(&self) -> Result<Vec<CheckpointKey>, StoreError>;

    /// Drops checkpoints of a job that are neither of a version in `keep`, nor needed by one that is, nor
    /// newer than all of `keep`: those are still being agreed on. An empty `keep` drops nothing.
    fn retain(&self, job: &JobKey, keep: &[BatchId]) -> Result<(), StoreError>;

    /// Drops all checkpoints of a job.
    fn forget_job(&self, job: &JobKey) -> Result<(), StoreError>;

    /// Checkpoints, and whole directories, that did not read as they were written, so far.
    fn damaged(&self) -> u64;
}
