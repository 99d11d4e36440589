//! The job definition: what a user writes, read and checked as far as that needs no SQL.
//!
//! [`parse`] turns text into a [`JobDef`] or into *all* the mistakes it finds. Types of expressions are
//! checked by `tidemill-plan`, which reports into the same [`Diagnostics`](tidemill_common::diag::Diagnostics) by way of [`Sql::span`].

mod check;
mod connector;
mod draft;
mod foreign;
#[cfg(any(test, feature = "testkit"))]
pub mod fuzz;
mod graph;
mod keys;
mod learn;
mod operator;
mod order;
mod output;
mod parse;
mod rate;
mod schema;
mod source;
mod state;
mod stream;
mod table;
#[cfg(test)]
mod tests;
mod together;
mod warn;
mod window;

pub use connector::{MaxBadRecords, OnBadRecord, SourceDef};
pub use learn::{
    AbTest, Choose, DEFAULT_KEEP, DetectDrift, DriftAction, Evaluate, ModelDef, OnDrift, Param, SaveModel, Train,
};
pub use operator::{FlatMapEach, Frame, Inputs, JoinKind, NamedSql, On, Operator, SortKey, StreamDef};
pub use output::{OutputDef, Target, output_keys};
pub use parse::{good_part, parse, parse_with};
pub use rate::Backpressure;
pub use schema::schema;
pub use state::{Emit, MapWithState, Per, StateColumn, UpdateKeys, UpdateStateByKey};
pub use table::{Reload, TableDef};
pub use tidemill_common::definition::{ColumnDef, ColumnType, FileContent, Format, Name, Period, Span, Sql, limits};
pub use warn::warnings;

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A whole job definition, in the order it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct JobDef {
    /// The job's name: letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// Job-wide settings.
    pub settings: Settings,
    /// Where records come from.
    pub sources: Vec<SourceDef>,
    /// What learns; named in `train` and in the functions that ask a model.
    pub models: Vec<ModelDef>,
    /// What is computed; `from` names a source or another stream, or a table.
    pub streams: Vec<StreamDef>,
    /// Where results go.
    pub outputs: Vec<OutputDef>,
    /// Rows that are there for every batch.
    pub tables: Vec<TableDef>,
}

/// Job-wide settings. Every one has a default but `batch_interval`.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Length of a batch.
    pub batch_interval: Duration,
    /// How often receivers seal a block; by default the smaller of 200 ms and half the batch interval.
    pub block_interval: Duration,
    /// A block is sealed early at this size, in bytes; at most 8 MiB. Default 4 MiB.
    pub block_bytes: u64,
    /// Copies of blocks and state, counting the original. Default 2.
    pub replication: u32,
    /// What the log and the blocks survive. Default `replicated`.
    pub durability: Durability,
    /// What to do while fewer copies exist than `replication` asks for. Default `continue`.
    pub on_under_replicated: OnUnderReplicated,
    /// Shares of the key space; part of the state format. Default 64, at most 4096.
    pub key_groups: u32,
    /// How often state is written to sled. Default the larger of 5 s and the batch interval.
    pub checkpoint_interval: Duration,
    /// A batch is frozen early when this many records wait. Default none.
    pub cut_at_records: Option<u64>,
    /// A batch is frozen early when this many bytes wait. Default none.
    pub cut_at_bytes: Option<u64>,
    /// At most this many bytes go into one batch; the rest waits for the next. Default 1 GiB.
    pub max_batch_bytes: u64,
    /// A unit of work may fail this often before the job fails. Default 4.
    pub max_task_failures: u32,
    /// How sources are slowed down to what batches can take. Default not at all.
    pub backpressure: Option<Backpressure>,
}

/// What data outlives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Durability {
    /// `kill -9` of any process: copies on two workers, the log handed to the operating system.
    Replicated,
    /// Power loss too: blocks and log synced to disk.
    Disk,
}

/// What to do when fewer copies exist than asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnUnderReplicated {
    /// Go on, `DEGRADED`.
    Continue,
    /// Stop reading from sources until copies exist again.
    Pause,
    /// Fail the job.
    Fail,
}
