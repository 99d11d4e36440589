//! What a worker keeps of jobs that the driver's log does not know.
//!
//! A driver that has lost its log, or a part of it, must not be able to destroy the last copies. So nothing of such a job
//! runs, and its blocks, state and checkpoints stay where they are; every later session offers them to its driver, until one
//! knows the job, or knows that it has ended.

use crate::node::{Node, lock};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tidemill_common::ids::JobId;
use tidemill_proto::control as pb;
use tonic::Status;

/// Most jobs that are kept aside; those with the lowest numbers are let go of first, and the newest never.
const MOST_JOBS: usize = 20;

/// The jobs of which something is kept aside, each with the last batch that was complete.
#[derive(Debug, Default)]
pub(crate) struct Aside(Mutex<BTreeMap<JobId, u64>>);

/// How much is kept aside.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) jobs: Vec<u64>,
    pub(crate) blocks: u64,
    /// Bytes of blocks, and of state in memory.
    pub(crate) bytes: u64,
}

impl Aside {
    pub(crate) fn jobs(&self) -> Vec<JobId> {
        lock(&self.0).keys().copied().collect()
    }

    /// The job is taken up again, or is over.
    pub(crate) fn remove(&self, job: JobId) {
        lock(&self.0).remove(&job);
    }

    pub(crate) fn kept(&self, node: &Node) -> Kept {
        let mut kept = Kept::default();
        for job in self.jobs() {
            let (blocks, bytes) = held(node, job);
            kept.jobs.push(job.0);
            kept.blocks += blocks;
            kept.bytes += bytes;
        }
        kept
    }
}

/// Blocks of a job, and bytes of these and of its state.
fn held(node: &Node, job: JobId) -> (u64, u64) {
    let blocks = node.blocks.list(job);
    let state =
        node.states.partitions(job).into_iter().filter_map(|(_, handle)| Some(handle.lock().ok()?.memory_bytes()));
    let bytes = blocks.iter().map(|(_, _, bytes)| bytes).sum::<u64>() + state.sum::<usize>() as u64;
    (blocks.len() as u64, bytes)
}

/// Ends all that runs of these jobs, and keeps what is there of them: the newest job, and of the others as many as have room in
/// half of what blocks may take on the disk.
pub(crate) async fn set_aside(node: &Arc<Node>, jobs: impl IntoIterator<Item = JobId>) -> Result<(), Status> {
    let mut any = false;
    for id in jobs {
        let mut completed = 0;
        if let Some(job) = node.jobs.remove(id) {
            job.stop.cancel();
            node.shuffle.remove_job(id);
            completed = job.progress().completed;
        }
        let new = !lock(&node.aside.0).contains_key(&id);
        if new {
            lock(&node.aside.0).insert(id, completed);
            tracing::warn!(job = id.0, "the driver does not know this job; what is here of it is kept aside");
            any = true;
        }
    }
    if any { node.blocking(keep_within_bounds).await } else { Ok(()) }
}

fn keep_within_bounds(node: &Node) {
    let held: Vec<(JobId, u64)> = node.aside.jobs().into_iter().map(|job| (job, held(node, job).1)).collect();
    for (job, bytes) in beyond_bounds(&held, node.config.disk_bytes / 2) {
        tracing::error!(job = job.0, bytes, "too much is kept aside; what is here of this job is let go of");
        node.aside.remove(job);
        forget(node, job);
    }
}

/// Those that are let go of, of jobs by ascending number: the newest is always kept, as it may be what a driver has just lost,
/// and of the others, from the newest on, as many as there is room for beside it.
fn beyond_bounds(held: &[(JobId, u64)], room: u64) -> Vec<(JobId, u64)> {
    let Some((_, others)) = held.split_last() else { return Vec::new() };
    let mut taken = 0_u64;
    let kept = others.iter().rev().take(MOST_JOBS - 1).take_while(|(_, bytes)| {
        taken = taken.saturating_add(*bytes);
        taken <= room
    });
    let kept = kept.count();
    others[..others.len() - kept].to_vec()
}

/// Lets go of all that is here of a job that does not run.
pub(crate) fn forget(node: &Node, job: JobId) {
    node.states.remove_job(job);
    node.blocks.remove_job(job);
    let key = crate::state::checkpoint::JobKey::new(&node.identity().cluster_id, job);
    if let Err(error) = node.checkpoints.forget_job(&key) {
        tracing::warn!(job = job.0, %error, "checkpoints of an ended job could not be removed");
    }
}

/// Says in a greeting what is kept aside, beside what it says already.
pub(crate) fn offer(node: &Node, hello: &mut pb::Hello) {
    let jobs = node.aside.jobs();
    hello.recovered_blocks.extend(jobs.iter().map(|job| crate::wire::held_blocks(node, *job)));
    if let Some(resume) = &mut hello.resume {
        resume.jobs.extend(jobs.iter().map(|job| job.0));
        let aside = lock(&node.aside.0);
        resume.progress.extend(aside.iter().map(|(job, completed)| pb::Progress { job: job.0, completed: *completed }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gone(bytes: &[u64]) -> Vec<u64> {
        let held: Vec<(JobId, u64)> = (1..).map(JobId).zip(bytes.iter().copied()).collect();
        beyond_bounds(&held, 50).into_iter().map(|(job, _)| job.0).collect()
    }

    #[test]
    fn the_newest_job_is_kept_however_large_it_is() {
        assert_eq!(gone(&[]), [0; 0]);
        assert_eq!(gone(&[1000]), [0; 0]);
        assert_eq!(gone(&[20, 30, 1000]), [0; 0]);
        assert_eq!(gone(&[1, 51, 0]), [1, 2]);
        assert_eq!(gone(&[30, 21, 20, 1000]), [1]);
    }

    proptest! {
        #[test]
        fn no_more_than_there_is_room_for(bytes in prop::collection::vec(0..30_u64, 0..40)) {
            let gone = gone(&bytes).len();
            prop_assert!(gone < bytes.len().max(1));
            let kept = &bytes[gone..];
            prop_assert!(kept.len() <= MOST_JOBS);
            let others = kept.split_last().map_or(0, |(_, others)| others.iter().sum());
            prop_assert!(others <= 50);
            // And no more go than have to.
            let one_more = gone.checked_sub(1).map(|last| others + bytes[last]);
            prop_assert!(one_more.is_none_or(|others| others > 50 || kept.len() == MOST_JOBS));
        }
    }
}
