//! Connectors: where records come from and where rows go.
//!
//! A source is one type that implements [`SourceConnector`], in a file or folder of [`sources`] or of another crate, and
//! one line in a registry ([`Connectors`]). It brings the word that definitions name it by, its keys, what it reads of a
//! definition, and what it does on a worker: it puts records into an [`Intake`], which seals blocks of them, has these
//! replicated and logged, and says what is held.
//!
//! A sink is one type that implements [`SinkConnector`], in a file or folder of [`sinks`] or of another crate, and one line
//! in the registry: its key, what it reads of a definition, how a row becomes bytes on a worker, and how the driver commits
//! a batch.

mod delivery;
#[cfg(any(test, feature = "testkit"))]
pub mod fuzz;
mod intake;
mod lines;
mod pace;
pub mod parts;
mod rate;
mod receiver;
mod registry;
mod sink;
pub mod sinks;
mod source;
pub mod sources;
pub mod staging;
mod status;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
#[cfg(test)]
mod tests;

pub use delivery::Delivery;
pub use intake::Intake;
pub use pace::Pacer;
pub use rate::Rate;
pub use receiver::{
    Backoff, BlockHolder, ConnectError, HoldError, ReceiverConfig, ReceiverEnd, ReceiverError, SealedBlock, run,
};
pub use registry::{Connectors, RegisterError};
pub use sink::{
    Commit, CommitError, MAX_HELD_BYTES, Part, PutError, Retries, Sink, SinkConfig, SinkConnector, part_of,
};
pub use source::{Context, Description, Ended, Payload, Records, Source, SourceConfig, SourceConnector};
pub use status::{ReceiverState, ReceiverStatus, StatusSnapshot};
/// What a connector reads its keys with.
pub use tidemill_common::definition;
/// What it says of mistakes.
pub use tidemill_common::diag;
/// How far a source was read.
pub use tidemill_common::positions::{self, PositionChange, PositionError, Positions};
/// Rows as sinks get them.
pub use tidemill_rows as rows;
