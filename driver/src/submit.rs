//! From a compiled definition to a job that the core can start.

use crate::core::topology::Topology;
use crate::core::wire::function_ref;
use crate::core::{Compiled, NewJob};
use crate::record::DurableJob;
use std::path::Path;
use std::sync::Arc;
use tidemill_plan::{COMPILE_TIME, CompileError, CompiledJob, Functions, compile_text};
use tidemill_proto::client::SubmitRequest;
use tidemill_proto::common::ErrorKind;
use tidemill_proto::status;
use tonic::Status;

/// Files that a definition refers to may have this many bytes together.
pub const MAX_ATTACHMENT_BYTES: usize = 32 << 20;
/// Most rows of an output and batch that are sent to watchers.
pub const MAX_WATCHED_ROWS: u32 = 10_000;

/// Tells a client that knows functions which this driver does not.
pub(crate) fn check_functions(request: &SubmitRequest, known: &Functions) -> Result<(), Status> {
    let used = request.functions.iter().filter_map(function_ref);
    let lacks: Vec<_> = used.filter_map(|function| known.lack(&function)).collect();
    if lacks.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the job uses functions in Rust that the driver does not know:\n  {}\nstart the driver and all workers from the same program",
        lacks.join("\n  ")
    );
    Err(status(ErrorKind::ErrorInvalid, message))
}

/// Compiles what a client submits.
pub(crate) fn compile(request: SubmitRequest, functions: &Functions) -> Result<NewJob, Status> {
    let compiled = compile_text(&request.definition, &request.attachments, functions, COMPILE_TIME);
    let compiled = compiled.map_err(|error| match error {
        CompileError::Wrong(errors) => {
            status(ErrorKind::ErrorInvalid, errors.render(&request.file_name, &request.definition, false))
        }
        CompileError::TooLong(_) => status(ErrorKind::ErrorInvalid, error.to_string()),
        CompileError::NoThread(_) => status(ErrorKind::ErrorResources, error.to_string()),
        CompileError::Panicked(_) => {
            tracing::error!(file = request.file_name, %error, "a submitted job was not compiled");
            status(ErrorKind::ErrorInternal, error.to_string())
        }
    })?;
    Ok(new_job(&compiled, request))
}

/// What the core needs of a job that was submitted like this.
pub(crate) fn for_core(job: &CompiledJob, submitted: &DurableJob) -> Compiled {
    let DurableJob { capture, watched_rows, base_dir, .. } = submitted;
    Compiled {
        settings: job.def.settings.clone(),
        topology: Arc::new(Topology::new(&job.plan, *capture, *watched_rows, Path::new(base_dir))),
        fingerprint: job.plan.fingerprint,
        functions: job.plan.functions.clone(),
    }
}

/// The job to submit.
fn new_job(job: &CompiledJob, request: SubmitRequest) -> NewJob {
    let mut durable = DurableJob {
        name: job.def.name.clone(),
        definition: request.definition,
        file_name: request.file_name,
        attachments: request.attachments.into_iter().map(|bytes| bytes.to_vec()).collect(),
        base_dir: request.base_dir,
        capture: request.capture,
        watched_rows: request.watched_rows.min(MAX_WATCHED_ROWS),
        ..DurableJob::default()
    };
    let compiled = for_core(job, &durable);
    durable.stateful = compiled.topology.stateful();
    NewJob { durable, compiled }
}
