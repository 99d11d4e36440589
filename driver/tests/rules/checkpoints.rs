//! Who has to have written a checkpoint.

use crate::{Driver, compiled};
use std::time::Duration;
use tidemill_common::ids::{BatchId, JobId};
use tidemill_driver::core::{Event, SessionId};
use tidemill_driver::record::{Durable, JobRecord};
use tidemill_proto::control::{self as pb, worker_message};

/// Two workers, each of which follows what the other owns, and a job with two copies; nothing is filled.
fn two_copies() -> Driver {
    let mut driver = Driver::start(Durable::default(), 1_000_000);
    (1..=2).for_each(|worker| driver.join(worker, None));
    let mut job = compiled(true);
    job.settings.replication = 2;
    job.settings.checkpoint_interval = Duration::from_millis(100);
    driver.submit(job);
    driver.restore_all();
    driver
}

/// Runs a batch; then these workers write what they were asked to.
fn batch(driver: &mut Driver, writers: &[u64]) -> u64 {
    driver.pass(Duration::from_millis(100));
    driver.run_all();
    let version = driver.core.completed(JobId(1)).unwrap().0;
    for worker in writers {
        let message = pb::CheckpointWritten { job: 1, version, groups: vec![0, 1] };
        driver.says(*worker, worker_message::Kind::CheckpointWritten(message));
    }
    (1..=2).for_each(|worker| driver.says(worker, worker_message::Kind::Heartbeat(pb::Heartbeat::default())));
    version
}

fn fill(driver: &mut Driver, version: u64) {
    for (owner, follower) in [(1, 2), (2, 1)] {
        let message = pb::StateReplicated { job: 1, follower, version, groups: vec![0, 1] };
        driver.says(owner, worker_message::Kind::StateReplicated(message));
    }
}

fn checkpoints(driver: &Driver) -> Vec<u64> {
    let version = |record: &JobRecord| match record {
        JobRecord::Checkpoint(BatchId(version)) => Some(*version),
        _ => None,
    };
    driver.of_job().filter_map(version).collect()
}

fn to_fill(driver: &mut Driver) -> u64 {
    let now = driver.now();
    driver.core.job_status(now, "")[0].groups_to_fill
}

#[test]
fn one_copy_is_no_checkpoint_while_another_is_being_filled() {
    let mut driver = two_copies();
    for _ in 0..3 {
        batch(&mut driver, &[1]);
    }
    assert!(checkpoints(&driver).is_empty(), "one worker alone has written it");
    fill(&mut driver, 3);
    assert!(checkpoints(&driver).is_empty(), "the other worker has not written it");
    let message = pb::CheckpointWritten { job: 1, version: 3, groups: vec![0, 1] };
    driver.says(2, worker_message::Kind::CheckpointWritten(message));
    assert_eq!(checkpoints(&driver), [3]);
}

#[test]
fn a_follower_that_cannot_be_filled_does_not_keep_blocks_for_ever() {
    let mut driver = two_copies();
    for _ in 0..45 {
        batch(&mut driver, &[1]);
    }
    assert!(checkpoints(&driver).is_empty());
    // A sign of one group: the other is awaited anew.
    let message = pb::StateReplicated { job: 1, follower: 2, version: 0, groups: vec![] };
    driver.says(1, worker_message::Kind::StateReplicated(message));
    let message = pb::StateReplicated { job: 1, follower: 1, version: 0, groups: vec![] };
    driver.says(2, worker_message::Kind::StateReplicated(message));
    for _ in 0..45 {
        batch(&mut driver, &[1]);
    }
    assert!(checkpoints(&driver).is_empty());
    for _ in 0..10 {
        batch(&mut driver, &[1, 2]);
    }
    assert!(!checkpoints(&driver).is_empty());
}

#[test]
fn a_checkpoint_that_lost_a_holder_is_written_anew_before_all_is_filled() {
    let mut driver = two_copies();
    fill(&mut driver, 0);
    let version = batch(&mut driver, &[1, 2]);
    assert_eq!((checkpoints(&driver), to_fill(&mut driver)), (vec![version], 0));
    driver.event(Event::Disconnected { session: SessionId(2) });
    driver.join(3, None);
    driver.restore_all();
    fill(&mut driver, version);
    let message = pb::StateReplicated { job: 1, follower: 3, version, groups: vec![0, 1] };
    driver.says(1, worker_message::Kind::StateReplicated(message));
    assert!(to_fill(&mut driver) > 0, "only worker 1 has the checkpoint");
    // Groups that worker 3 is to own are promoted and filled back.
    driver.restore_all();
    let message = pb::StateReplicated { job: 1, follower: 1, version, groups: vec![0, 1] };
    driver.says(3, worker_message::Kind::StateReplicated(message));
    let written = pb::CheckpointWritten { job: 1, version, groups: vec![0, 1] };
    driver.says(3, worker_message::Kind::CheckpointWritten(written));
    assert_eq!(to_fill(&mut driver), 0);
}
