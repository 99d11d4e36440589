//! The keyed state of a worker: what update operators carry from batch to batch.
//!
//! State is cut into *partitions*, one per (job, stage, key group). A [`StatePartition`] is pure: it
//! holds the live rows of one partition at a version, and turns every batch into a [`Delta`] for
//! followers and an undo for itself. [`HeldPartition`] adds what changed since the last checkpoint,
//! [`StateSet`] holds all partitions of a worker, and [`checkpoint`] keeps versions of them on disk.

pub mod checkpoint;
mod column;
pub(crate) mod delta;
mod error;
mod held;
mod index;
mod partition;
mod set;
#[cfg(test)]
mod test_rows;

pub use delta::{Delta, Snapshot};
pub use error::StateError;
pub use held::HeldPartition;
pub use partition::{Gathered, StatePartition};
pub use set::{PartitionHandle, PartitionKey, StateSet};
