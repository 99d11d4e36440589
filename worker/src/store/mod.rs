//! What a worker holds for a while: blocks of input ([`blocks`]) and pieces of exchanges ([`shuffle`]).
//!
//! Both keep what is newest in memory and move what is oldest to spill files (`spool`); both have a
//! memory and a disk budget, and say so with [`StoreError::OutOfSpace`] when they are full.

pub mod blocks;
mod old_segments;
pub(crate) mod segments;
pub mod shuffle;
mod spool;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tidemill_common::ids::{JobId, SourceIdx};
use tidemill_metrics::{Counter, metric};

metric! {
    static DAMAGED: Counter =
        Counter::new("tidemill_damaged_blocks_total", "Blocks on disk that did not read as they were written.");
}

/// Which block: the records `first_offset..` of one receiver's stream, as read in one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId {
    /// The job.
    pub job: JobId,
    /// The job's source.
    pub source: SourceIdx,
    /// The source's receiver, from 0.
    pub receiver: u32,
    /// The start of the receiver that read it.
    pub epoch: u64,
    /// Position of its first record in the receiver's stream, in records.
    pub first_offset: u64,
}

/// Why something could not be stored or read back.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Memory and disk budget are both used up.
    #[error("no room for {needed} bytes: {used} of {budget} bytes of the disk budget are used and memory is full")]
    OutOfSpace {
        /// Bytes that were to be written.
        needed: u64,
        /// Bytes on disk now.
        used: u64,
        /// Bytes allowed on disk.
        budget: u64,
    },
    /// The file system failed.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb.
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What was read back is not what was written.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A piece could not be turned into bytes.
    #[error("cannot encode a piece: {0}")]
    Encode(String),
    /// An earlier sync of the block log failed, so nothing further can be promised.
    #[error("the block log in {} stopped after an error: {cause}", dir.display())]
    LogStopped {
        /// The log's directory.
        dir: PathBuf,
        /// The first error.
        cause: String,
    },
}

impl StoreError {
    /// For `map_err` on a file operation.
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

/// How much a store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Blocks or pieces.
    pub blocks: u64,
    /// Bytes in memory.
    pub memory_bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
}

/// Locks; a panic of another thread leaves nothing half done behind our locks, so poison is ignored.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
