//! Key groups that move, and followers that lag.

use crate::{Driver, Sent, compiled, running};
use std::time::Duration;
use tidemill_common::ids::{BatchId, JobId};
use tidemill_driver::core::SessionId;
use tidemill_driver::record::Durable;
use tidemill_proto::control::{self as pb, driver_message, worker_message};

/// Owners and followers of the last table that was sent.
fn places(sent: &Sent) -> Option<Vec<(u64, Vec<u64>)>> {
    let table = |(_, message): &(SessionId, driver_message::Kind)| match message {
        driver_message::Kind::Assignment(table) => {
            Some(table.groups.iter().map(|group| (group.owner, group.followers.clone())).collect())
        }
        _ => None,
    };
    sent.iter().rev().find_map(table)
}

#[test]
fn a_single_copy_is_handed_over_by_way_of_a_follower() {
    let mut driver = running(true);
    driver.pass(Duration::from_millis(100));
    driver.run_all();
    // Workers join until one of them should own something.
    let mut joined = 1;
    let (group, follower) = loop {
        joined += 1;
        driver.join(joined, None);
        let table = places(&driver.take()).unwrap();
        let moving = table.iter().enumerate().find(|(_, (_, followers))| !followers.is_empty());
        if let Some((group, (owner, followers))) = moving {
            assert_eq!(*owner, 1);
            break (group, followers[0]);
        }
    };
    let message = pb::StateReplicated { job: 1, follower, version: 1, groups: vec![group as u32] };
    driver.says(1, worker_message::Kind::StateReplicated(message));
    let sent = driver.take();
    assert_eq!(places(&sent).unwrap()[group], (follower, vec![1]));
    let restores = sent.iter().any(|(session, message)| {
        session.0 == follower && matches!(message, driver_message::Kind::RestoreState(restore) if restore.version == 1)
    });
    assert!(restores, "the new owner has to prove that it has the state");
    driver.sent = sent;
    driver.restore_all();
    assert_eq!(places(&driver.take()).unwrap()[group], (follower, vec![]));
}

#[test]
fn a_follower_that_lags_for_ever_does_not_hold_the_job_up() {
    let mut driver = Driver::start(Durable::default(), 1_000_000);
    driver.join(1, None);
    driver.join(2, None);
    let mut job = compiled(true);
    job.settings.replication = 2;
    driver.submit(job);
    driver.restore_all();
    for (owner, follower) in [(1, 2), (2, 1)] {
        let message = pb::StateReplicated { job: 1, follower, version: 0, groups: vec![0, 1] };
        driver.says(owner, worker_message::Kind::StateReplicated(message));
    }
    for _ in 0..80 {
        driver.pass(Duration::from_millis(100));
        driver.run_all();
        for session in [1, 2] {
            driver.says(session, worker_message::Kind::Heartbeat(pb::Heartbeat::default()));
        }
    }
    assert!(driver.core.completed(JobId(1)).unwrap() > BatchId(10));
}
