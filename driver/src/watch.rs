//! Those who watch jobs: a bounded broadcast per job; who is too slow is told how much was left out.

use std::collections::HashMap;
use tidemill_common::ids::JobId;
use tidemill_proto::client::{JobStatus, watch_event};
use tokio::sync::broadcast;

/// Events kept for a watcher that is behind.
const QUEUE: usize = 256;

/// Watchers of all jobs.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    by_job: HashMap<JobId, broadcast::Sender<watch_event::Kind>>,
}

impl Watchers {
    /// What happens to a job from now on; of a job that has ended, its end.
    pub(crate) fn watch(&mut self, status: JobStatus) -> broadcast::Receiver<watch_event::Kind> {
        let ended = matches!(status.state.as_str(), "STOPPED" | "FAILED");
        let job = JobId(status.job);
        if ended {
            let (sender, receiver) = broadcast::channel(1);
            // The receiver is right here, so this cannot fail.
            let _ = sender.send(watch_event::Kind::Ended(status));
            return receiver;
        }
        self.by_job.entry(job).or_insert_with(|| broadcast::channel(QUEUE).0).subscribe()
    }

    pub(crate) fn publish(&mut self, job: JobId, event: watch_event::Kind) {
        let ended = matches!(event, watch_event::Kind::Ended(_));
        if let Some(sender) = self.by_job.get(&job) {
            // No watcher left is no fault.
            let _ = sender.send(event);
        }
        if ended {
            self.by_job.remove(&job);
        }
    }
}
