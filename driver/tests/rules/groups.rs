//! Key groups that move, and followers that lag.

use crate::{Driver, Sent, compiled, running};
use std::time::Duration;
use tidemill_common::ids::{BatchId, JobId};
use tidemill_driver::core::{Event, SessionId};
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

/// Requests to restore state.
fn restores(sent: &Sent) -> Vec<(u64, pb::RestoreState)> {
    let restore = |(session, message): &(SessionId, driver_message::Kind)| match message {
        driver_message::Kind::RestoreState(restore) => Some((session.0, restore.clone())),
        _ => None,
    };
    sent.iter().filter_map(restore).collect()
}

#[test]
fn a_batch_that_only_the_lost_owner_had_runs_again() {
    let mut driver = Driver::start(Durable::default(), 1_000_000);
    (1..=3).for_each(|worker| driver.join(worker, None));
    let mut job = compiled(true);
    job.settings.replication = 2;
    driver.submit(job);
    driver.restore_all();
    let table = places(&driver.take()).unwrap();
    let follow = |driver: &mut Driver, version: u64| {
        for (group, (owner, followers)) in table.iter().enumerate() {
            let groups = vec![group as u32];
            let message = pb::StateReplicated { job: 1, follower: followers[0], version, groups };
            driver.says(*owner, worker_message::Kind::StateReplicated(message));
        }
    };
    follow(&mut driver, 0);
    for version in 1..=3 {
        driver.pass(Duration::from_millis(100));
        driver.run_all();
        assert_eq!(driver.core.completed(JobId(1)), Some(BatchId(version)));
        if version < 3 {
            follow(&mut driver, version);
        }
    }
    driver.event(Event::Disconnected { session: SessionId(table[0].0) });
    let (session, asked) = restores(&driver.take()).into_iter().find(|(_, restore)| restore.version == 3).unwrap();
    assert_eq!((session, asked.groups.contains(&0)), (table[0].1[0], true));
    let answer = pb::StateRestored { job: 1, version: 3, groups: Vec::new(), failed: asked.groups };
    driver.says(session, worker_message::Kind::StateRestored(answer));
    let sent = driver.take();
    let versions: Vec<u64> = restores(&sent).into_iter().map(|(_, restore)| restore.version).collect();
    assert!(!versions.is_empty() && versions.iter().all(|version| *version == 2), "{versions:?}");
    driver.sent = sent;
    driver.restore_all();
    let tasks = driver.tasks();
    assert!(!tasks.is_empty() && tasks.iter().all(|(_, task)| task.batch == 3 && task.suppress_outputs), "{tasks:?}");
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
