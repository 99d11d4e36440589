//! Jobs on their way to be known here: while one is compiled, the session goes on for all others.
//!
//! What the driver says of such a job is held back, in order, until its plan is there.

use crate::jobs::Job;
use crate::node::Node;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use std::collections::HashMap;
use std::sync::Arc;
use tidemill_common::ids::JobId;
use tidemill_plan::{CompileError, CompiledJob, RECOMPILE_TIME, compile_text};
use tidemill_proto::common::ReceiverRef;
use tidemill_proto::control::{self as pb, driver_message::Kind, worker_message};

/// Messages that are held back; with more the session waits.
const HELD_BACK: usize = 1024;

/// A job that was compiled, or why it was not.
pub(crate) struct Compiled {
    start: pb::StartJob,
    result: Result<CompiledJob, CompileError>,
}

/// The jobs that are being compiled.
#[derive(Default)]
pub(crate) struct Starting {
    running: FuturesUnordered<BoxFuture<'static, Compiled>>,
    /// Of each, what the driver has said since.
    held_back: HashMap<JobId, Vec<Kind>>,
    messages: usize,
}

impl Starting {
    /// Whether another message can be held back.
    pub(crate) fn has_room(&self) -> bool {
        self.messages < HELD_BACK
    }

    /// Takes a message that begins a job, or is for one that is being compiled; gives back any other.
    pub(crate) fn take(&mut self, node: &Arc<Node>, message: Kind) -> Option<Kind> {
        let job = job_of(&message).map(JobId);
        if let Some(waiting) = job.and_then(|job| self.held_back.get_mut(&job)) {
            waiting.push(message);
            self.messages += 1;
            return None;
        }
        let Kind::StartJob(start) = message else { return Some(message) };
        let id = JobId(start.job);
        if node.jobs.get(id).is_none() {
            self.held_back.insert(id, Vec::new());
            self.running.push(Box::pin(compile(node.clone(), start)));
        }
        None
    }

    /// The next that was compiled; none if nothing is.
    pub(crate) async fn next(&mut self) -> Option<Compiled> {
        self.running.next().await
    }

    /// Makes a job known, or tells the driver why not. Gives back what was held back.
    pub(crate) async fn finish(&mut self, node: &Arc<Node>, compiled: Compiled) -> Vec<Kind> {
        let Compiled { start, result } = compiled;
        let id = JobId(start.job);
        let refusal = match result {
            Err(error) => Some(format!("it does not compile on this worker:\n{error}")),
            Ok(compiled) if compiled.plan.fingerprint != start.fingerprint => {
                Some("this worker makes another plan of it than the driver; run the same version on both".to_string())
            }
            Ok(compiled) => {
                node.jobs.insert(Arc::new(Job::new(id, compiled.plan, &start, node.config.task_memory_bytes)));
                node.aside.remove(id);
                None
            }
        };
        if let Some(reason) = refusal {
            node.report(worker_message::Kind::JobRefused(pb::JobRefused { job: id.0, reason })).await;
        }
        let messages = self.held_back.remove(&id).unwrap_or_default();
        self.messages -= messages.len();
        messages
    }
}

async fn compile(node: Arc<Node>, start: pb::StartJob) -> Compiled {
    let (definition, attachments) = (start.definition.clone(), start.attachments.clone());
    let functions = node.config.functions.clone();
    let work = move || compile_text(&definition, &attachments, &functions, RECOMPILE_TIME);
    let result = node.data.spawn_blocking(work).await;
    Compiled { start, result: result.unwrap_or_else(|error| Err(CompileError::Panicked(error.to_string()))) }
}

/// The job that a message is about, if it has to be known here for that.
fn job_of(message: &Kind) -> Option<u64> {
    let of = |receiver: &Option<ReceiverRef>| receiver.as_ref().map(|receiver| receiver.job);
    match message {
        Kind::Welcome(_) | Kind::Refused(_) | Kind::Membership(_) | Kind::CopyBlock(_) | Kind::DropBlocks(_) => None,
        Kind::StartJob(m) => Some(m.job),
        Kind::EndJob(m) => Some(m.job),
        Kind::SetAside(m) => Some(m.job),
        Kind::Assignment(m) => Some(m.job),
        Kind::StartReceiver(m) => of(&m.receiver),
        Kind::StopReceiver(m) => of(&m.receiver),
        Kind::ReplicateTo(m) => of(&m.receiver),
        Kind::SetRate(m) => of(&m.receiver),
        Kind::BlockLogged(m) => of(&m.receiver),
        Kind::ReportBlocks(m) => of(&m.receiver),
        Kind::PositionsLogged(m) => of(&m.receiver),
        // All of one message are of one job.
        Kind::RunTasks(m) => m.tasks.first().map(|task| task.job),
        Kind::CancelTasks(m) => Some(m.job),
        Kind::BatchComplete(m) => Some(m.job),
        Kind::ImportedModel(m) => Some(m.job),
        Kind::ReloadedTable(m) => Some(m.job),
        Kind::WriteCheckpoint(m) => Some(m.job),
        Kind::RetainCheckpoints(m) => Some(m.job),
        Kind::RestoreState(m) => Some(m.job),
    }
}
