//! The engine as a library, and the `tidemill` command.
//!
//! A program of one's own *is* the engine: [`app`] gives it the whole command line, with the functions it registers, so
//! that driver and workers know the same.
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     tidemill::app().scalar("domain", 1, |mail: &str| mail.rsplit('@').next().map(str::to_owned)).run()
//! }
//! ```
//!
//! The engine itself is in `tidemill-driver` and `tidemill-worker`; here are the command line, printing, and the commands
//! that start more than one part (`local`, `replay`, `demo`).

#[macro_use]
mod say;
mod app;
mod bench;
mod cli;
mod client;
mod cluster;
mod definition;
mod demo;
mod exit;
mod keep;
mod models;
mod notes;
mod plot;
pub mod print;
mod processes;
pub mod produce;
mod producers;
mod replay;
mod roles;
mod show;
pub mod streaming;
mod watch;

pub use app::{App, app};
pub use streaming::{
    DStream, FileSource, FlatMap, GenerateSource, LineSource, MapWithState, Model, StateUpdate, StreamingContext,
    StreamingError, Toml, Training,
};
pub use tidemill_common::ids::{BatchId, JobId};
/// What a source of one's own is made of: see `docs/adding-a-source.md`.
pub use tidemill_connect as connect;
pub use tidemill_plan::arrow;
pub use tidemill_plan::registry::{
    Aggregate, Argument, Arguments, ArrowScalar, Batch, FunctionError, Functions, Receiver, ReceiverOptions,
    RegisterError, Restart, Row, Store, StoreError,
};

/// The examples of `docs/rust-api.md` compile.
#[cfg(doctest)]
#[doc = include_str!("../docs/rust-api.md")]
struct RustApi;
