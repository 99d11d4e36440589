//! What happens to the driver, as the shell tells the core.

use super::NewModel;
use super::topology::Topology;
use crate::record::{DurableJob, TableContent};
use std::sync::Arc;
use tidemill_common::ids::{BatchId, JobId};
use tidemill_job::Settings;
use tidemill_plan::FunctionRef;
use tidemill_proto::control as pb;

/// A point in time, as the shell read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Microseconds on a monotonic clock.
    pub mono_us: u64,
    /// Milliseconds since 1970.
    pub wall_ms: i64,
}

/// A connection of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A client's request that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What happened.
#[expect(clippy::large_enum_variant, reason = "an event lives for one call; a box for every message costs more")]
#[derive(Debug)]
pub enum Event {
    /// Time went on.
    Tick,
    /// A worker opened a session.
    Connected {
        /// The connection.
        session: SessionId,
        /// What it said of itself.
        hello: Box<pb::Hello>,
    },
    /// A worker said something.
    Message {
        /// The connection.
        session: SessionId,
        /// What.
        message: pb::worker_message::Kind,
    },
    /// A connection is gone.
    Disconnected {
        /// The connection.
        session: SessionId,
    },
    /// A client submits a job that compiled.
    Submit {
        /// Where the answer goes.
        request: RequestId,
        /// The job.
        job: Box<NewJob>,
    },
    /// A client stops a job.
    Stop {
        /// Where the answer goes, when the job has ended.
        request: RequestId,
        /// Its name or number.
        job: String,
        /// Do not wait for what was received.
        now: bool,
    },
    /// A client puts another model in the place of a running job's.
    Import {
        /// Where the answer goes.
        request: RequestId,
        /// The model.
        new: Box<NewModel>,
    },
    /// The file of a table has another content, or something is wrong with it.
    Table {
        /// The job.
        job: JobId,
        /// The table, by its position among those of the job.
        table: u32,
        /// What is in it, checked; or what is wrong.
        found: Result<TableContent, String>,
    },
    /// The part files of a batch are in place, or could not be put there.
    Committed {
        /// The job.
        job: JobId,
        /// The batch.
        batch: BatchId,
        /// Why not.
        result: Result<(), String>,
    },
    /// The manual clock strikes.
    ManualTick {
        /// The job.
        job: JobId,
        /// Batch time.
        time_ms: i64,
    },
}

/// A compiled job to start.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// What the log remembers of it; number, receivers and so on are filled in by the core.
    pub durable: DurableJob,
    /// What is compiled anew after a restart.
    pub compiled: Compiled,
}

/// What the core needs of a compiled job.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// Its settings.
    pub settings: Settings,
    /// Its shape.
    pub topology: Arc<Topology>,
    /// Hash of its plan.
    pub fingerprint: u64,
    /// The functions in Rust that it uses.
    pub functions: Vec<FunctionRef>,
}
