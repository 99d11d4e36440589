//! Turns a job definition into stages joined by exchanges, and runs their fragments on record batches.
//!
//! It knows nothing of workers, networks or drivers. What it promises (INV-1): the result of a fragment is a pure
//! function of its input rows, in order, and the batch context.

mod blame;
mod clock;
mod compile;
mod conditions;
mod decode;
mod error;
mod exec;
mod fragment;
mod functions;
#[cfg(any(test, feature = "testkit"))]
#[doc(hidden)]
pub mod fuzz;
mod guarded;
mod in_order;
mod ipc;
mod join_within;
mod keys;
mod learn;
mod map_state;
mod numbers;
mod partition;
mod plan;
mod planning;
pub mod registry;
mod rhythm;
mod rules;
mod session;
mod state;
mod tables;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
mod text;
mod times;
mod unit;
mod visit;
mod window;
mod words;

pub use compile::compile;
pub use datafusion::arrow;
pub use decode::{BadRecord, BadRecords, Decoded, SourcePlan};
pub use error::PlanError;
pub use fragment::{Fragment, Runner};
pub use ipc::{from_ipc, to_ipc};
pub use join_within::JoinOp;
pub use keys::{KEY_ENCODING_VERSION, decode_keys, encode_keys, encode_rows, key_group};
pub use learn::{AskedModel, FoldOp, Folded, ModelPlan, Models, row_ids};
pub use map_state::{MapOp, Timeout};
pub use partition::Partitioned;
pub use plan::{
    BatchContext, Branch, BranchTarget, Exchange, ExchangeKind, JobPlan, KEY_COLUMN, OutputPlan, Placement, Reads,
    Shared, Stage, StageInput,
};
pub use planning::{COMPILE_TIME, COMPUTE_STACK_BYTES, CompileError, RECOMPILE_TIME};
pub use registry::{FunctionKind, FunctionRef, Functions, lack};
pub use rhythm::Rhythm;
pub use state::{StageState, StateOp, Updated};
pub use tables::{Tables, content_hash, read_table};
pub use text::{CompiledJob, attachment_names, compile_text, parse_text};
pub use unit::UnitRows;
pub use visit::{KeyVisits, Mapped, UPDATED_COLUMN, Visit};
pub use window::{Contents, Firing, Folds, GroupWindow, WindowOp};
