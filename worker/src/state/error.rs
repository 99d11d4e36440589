//! What can go wrong with state in memory.

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use thiserror::Error;
use tidemill_common::ids::BatchId;

/// Why a partition refused an operation. The partition is unchanged then.
#[derive(Debug, Error)]
pub enum StateError {
    /// Batches must be applied one by one, in order.
    #[error("state is at version {version}, batch {batch} does not follow it")]
    NotNext {
        /// The version the state is at.
        version: BatchId,
        /// The batch that was offered.
        batch: BatchId,
    },
    /// The undo that leads back to this version is gone, or the version lies ahead.
    #[error("state is at version {version} and cannot go back to {wanted}")]
    NotKept {
        /// The version the state is at.
        version: BatchId,
        /// The version that was asked for.
        wanted: BatchId,
    },
    /// Rows do not have the shape of this state.
    #[error("rows do not fit the state: {0}")]
    Shape(String),
    /// A key came twice in one change.
    #[error("row {row} repeats a key")]
    RepeatedKey {
        /// Position of the second occurrence.
        row: usize,
    },
    /// A partition holds at most 4 GiB of keys and 2^32 - 1 keys.
    #[error("the partition is full: {keys} keys, {bytes} bytes of keys")]
    Full {
        /// Keys held.
        keys: usize,
        /// Bytes of keys held.
        bytes: usize,
    },
    /// Encoded state that is not whole, or not of a known format.
    #[error("cannot decode state: {0}")]
    Decode(String),
    /// A thread died in the middle of changing the partition, which can no longer be trusted.
    #[error("the partition was left half changed by a thread that died")]
    Poisoned,
    /// Arrow refused.
    #[error("arrow: {0}")]
    Arrow(#[from] ArrowError),
    /// DataFusion refused.
    #[error("datafusion: {0}")]
    DataFusion(#[from] Box<DataFusionError>),
}

impl From<DataFusionError> for StateError {
    fn from(error: DataFusionError) -> Self {
        Self::DataFusion(Box::new(error))
    }
}
