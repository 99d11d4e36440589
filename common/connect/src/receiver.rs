//! Receivers: read a source, seal what came into blocks, hand them on, tell the source what is held.
//!
//! A receiver does not look into records and knows neither stores nor drivers: it gives each
//! [`SealedBlock`] to a [`BlockHolder`], in offset order and several at a time, and stops reading while too
//! much is not held yet. It never makes a gap or a duplicate: what was read is sealed once, and an
//! acknowledging sender is asked to go on only where everything before is held.

use crate::intake::Intake;
use crate::rate::Rate;
use crate::source::Ended;
use crate::status::{ReceiverState, ReceiverStatus};
use bytes::Bytes;
use futures::future::BoxFuture;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tidemill_common::positions::{PositionChange, PositionError, Positions};
use tidemill_rows::records::Framing;
use tokio_util::sync::CancellationToken;

/// Whole records of one receiver's stream, each one line ([`tidemill_rows::records`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedBlock {
    /// Offset of the first record.
    pub first_offset: u64,
    /// How many records.
    pub records: u64,
    /// The records.
    pub bytes: Bytes,
    /// What they change in the positions of their source.
    pub changes: Vec<PositionChange>,
}

/// Where sealed blocks go.
pub trait BlockHolder: Send + Sync + 'static {
    /// Takes a block; called in offset order. The future resolves when its copies exist and the driver
    /// has logged it. Tries again by itself whatever may help; a receiver takes any error as final.
    fn hold(self: Arc<Self>, block: SealedBlock) -> BoxFuture<'static, Result<(), HoldError>>;

    /// Has changed positions logged that no record is behind. All records before `offset` are held, and no block is handed
    /// on meanwhile.
    fn remember(
        self: Arc<Self>,
        offset: u64,
        changes: Vec<PositionChange>,
    ) -> BoxFuture<'static, Result<(), HoldError>>;
}

/// Why a block is not held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// A newer epoch of this receiver exists; nothing more of this one counts.
    #[error("a newer receiver has taken over")]
    Fenced,
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// How a receiver runs.
#[derive(Debug, Clone)]
pub struct ReceiverConfig {
    /// What ends a record of a socket or of a file of lines.
    pub framing: Framing,
    /// Offset of the first record this receiver seals: all before it are held.
    pub start_offset: u64,
    /// What is known of the positions of its source.
    pub positions: Positions,
    /// A block is sealed at most this long after its first whole record came in.
    pub block_interval: Duration,
    /// A block is sealed early at this many bytes; it is longer only for a single long record. None: only when the source says so.
    pub block_bytes: Option<usize>,
    /// Reading stops while more bytes than this are sealed and not held.
    pub max_unheld_bytes: usize,
    /// How fast it reads; a queue and what the caller gives are not slowed down.
    pub rate: Rate,
}

impl ReceiverConfig {
    /// Default of [`max_unheld_bytes`](Self::max_unheld_bytes): 64 MiB.
    pub const MAX_UNHELD_BYTES: usize = 64 << 20;
}

/// Growing waits between tries, each with a jitter of a quarter up or down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait.
    pub first: Duration,
    /// Waits double up to this one.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(50), most: Duration::from_secs(2) }
    }
}

/// How a receiver ended well: everything it read is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiverEnd {
    /// All records before this one are held; where the next receiver of this stream starts.
    pub offset: u64,
    /// True if the source has no more records, false if the receiver was stopped.
    pub finished: bool,
}

/// Why a receiver failed. Blocks that were not held yet count as never read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiverError {
    /// A newer epoch of this receiver exists.
    #[error("stopped: a newer receiver has taken over")]
    Fenced,
    /// A block could not be held.
    #[error("a block could not be held: {0}")]
    Hold(String),
    /// The source has a position that is not kept.
    #[error("{0}")]
    Position(#[from] PositionError),
    /// A mistake in this program.
    #[error("internal: {0}")]
    Internal(&'static str),
}

impl From<HoldError> for ReceiverError {
    fn from(error: HoldError) -> Self {
        match error {
            HoldError::Fenced => Self::Fenced,
            HoldError::Failed(why) => Self::Hold(why),
        }
    }
}

/// Why there is no connection (any more). The receiver shows it in its status and tries again.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No connection.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// `host:port`.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[source] io::Error),
    /// A registered receiver failed.
    #[error("the receiver failed: {0}")]
    Failed(String),
    /// The sender closed the connection.
    #[error("the sender closed the connection")]
    Closed,
    /// A plain connection ended before a line came.
    #[error(
        "the sender closed the connection without sending a line; if it waits to be asked, as one that speaks the \
         acknowledged line protocol does (`tidemill produce` without --plain), set `acknowledge = true`"
    )]
    ClosedWithoutLines,
    /// No answer in time.
    #[error("the sender did not answer within {waited:?}; does it speak the acknowledged line protocol?")]
    NoAnswer {
        /// The deadline.
        waited: Duration,
    },
    /// The sender's first line is not an answer.
    #[error(
        "the sender does not speak the acknowledged line protocol: its first line is `{line}`; \
         for a plain sender set `acknowledge = false`"
    )]
    NotProtocol {
        /// The beginning of that line.
        line: String,
    },
    /// The sender has the stream, but not the line that is due.
    #[error("the sender cannot go on at line {wanted}: the nearest it has is line {available}")]
    Gap {
        /// The line that is due.
        wanted: u64,
        /// The nearest line the sender has.
        available: u64,
    },
    /// The sender would go on somewhere else than asked.
    #[error("the sender was asked for line {wanted} and answers with line {answered}")]
    WrongOffset {
        /// The line that is due.
        wanted: u64,
        /// What the sender would send.
        answered: u64,
    },
}

/// Runs a receiver until `stop`, the end of its source, or a failure; `source` puts records into its intake.
///
/// On `stop` it reads no further, seals what whole records it has, waits until all is held and tells the
/// sender. Dropping the future instead is safe: what was not held counts as never read.
///
/// # Errors
/// When a block cannot be held. Trouble with the source is no error: it shows in `status`.
pub async fn run<S>(
    config: ReceiverConfig,
    holder: Arc<dyn BlockHolder>,
    status: Arc<ReceiverStatus>,
    stop: CancellationToken,
    source: S,
) -> Result<ReceiverEnd, ReceiverError>
where
    S: for<'a> FnOnce(&'a mut Intake) -> BoxFuture<'a, Result<Ended, ReceiverError>>,
{
    let mut intake = Intake::new(config, holder, status.clone(), stop);
    let ended = source(&mut intake).await?;
    status.set(ReceiverState::Draining);
    let offset = intake.drain().await?;
    status.set(ReceiverState::Ended);
    Ok(ReceiverEnd { offset, finished: ended == Ended::Finished })
}
