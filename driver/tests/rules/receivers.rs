//! Receivers that cannot hold their blocks, and those that end without a word.

use crate::{Driver, compiled};
use std::time::Duration;
use tidemill_driver::core::SessionId;
use tidemill_driver::record::Durable;
use tidemill_proto::common::ReceiverRef;
use tidemill_proto::control::{self as pb, driver_message, worker_message};

/// Three workers and a job with two copies of every block.
fn two_copies() -> Driver {
    let mut driver = Driver::start(Durable::default(), 1_000_000);
    (1..=3).for_each(|worker| driver.join(worker, None));
    let mut job = compiled(false);
    job.settings.replication = 2;
    driver.submit(job);
    driver
}

/// Starts of the first receiver since the last look: on which worker, in which epoch, with copies where.
fn starts(driver: &mut Driver) -> Vec<(u64, u64, Vec<u64>)> {
    let start = |(session, message): (u64, driver_message::Kind)| match message {
        driver_message::Kind::StartReceiver(start) if start.receiver.is_some_and(|r| r.receiver == 0) => {
            Some((session, start.epoch, start.replicate_to))
        }
        _ => None,
    };
    driver.take().into_iter().map(|(session, message)| (session.0, message)).filter_map(start).collect()
}

fn first() -> Option<ReceiverRef> {
    Some(ReceiverRef { job: 1, source: 0, receiver: 0 })
}

fn fails(driver: &mut Driver, worker: u64, epoch: u64, cannot_hold: u64) {
    let error = "no room".to_string();
    let report = pb::ReceiverReport { receiver: first(), epoch, error, cannot_hold, ..Default::default() };
    driver.says(worker, worker_message::Kind::ReceiverReport(report));
    (1..=3).for_each(|other| driver.says(other, worker_message::Kind::Heartbeat(pb::Heartbeat::default())));
    driver.pass(Duration::from_millis(600));
}

#[test]
fn a_full_worker_is_not_asked_again_while_others_have_room() {
    let mut driver = two_copies();
    let (worker, epoch, _) = starts(&mut driver).remove(0);
    fails(&mut driver, worker, epoch, worker);
    let (next, epoch, peers) = starts(&mut driver).remove(0);
    assert_ne!(next, worker);
    assert!(!peers.contains(&worker), "copies go where there is room too");
    // Where copies of the others go has no room either: then one of the full ones has to be asked again.
    fails(&mut driver, next, epoch, peers[0]);
    let (last, epoch, _) = starts(&mut driver).remove(0);
    assert_eq!((last, epoch), (next, 3));
}

#[test]
fn what_a_receiver_has_left_is_dropped_when_it_starts_again() {
    let mut driver = two_copies();
    let (worker, epoch, _) = starts(&mut driver).remove(0);
    driver.block(worker, 0, 0, 10);
    fails(&mut driver, worker, epoch, worker);
    let unlogged_of = |(session, message): (SessionId, driver_message::Kind)| match message {
        driver_message::Kind::DropBlocks(drop) => drop.unlogged.first().map(|unlogged| (session.0, *unlogged)),
        _ => None,
    };
    let dropped: Vec<(u64, pb::Unlogged)> = driver.take().into_iter().filter_map(unlogged_of).collect();
    let unlogged = pb::Unlogged { receiver: first(), epoch: 2, from_offset: 1 };
    assert_eq!(dropped, (1..=3).map(|worker| (worker, unlogged)).collect::<Vec<_>>());
}

#[test]
fn a_receiver_that_ends_without_a_word_is_started_again() {
    let mut driver = two_copies();
    let (worker, ..) = starts(&mut driver).remove(0);
    let beat = |driver: &mut Driver, receivers: &[Option<ReceiverRef>]| {
        let status = |receiver: &Option<ReceiverRef>| pb::ReceiverStatus { receiver: *receiver, ..Default::default() };
        let receivers = receivers.iter().map(status).collect();
        driver.says(worker, worker_message::Kind::Heartbeat(pb::Heartbeat { receivers, ..Default::default() }));
    };
    // It has been told to start, and has not yet.
    beat(&mut driver, &[]);
    assert!(starts(&mut driver).is_empty());
    beat(&mut driver, &[first()]);
    assert!(starts(&mut driver).is_empty());
    beat(&mut driver, &[]);
    driver.pass(Duration::from_millis(50));
    assert_eq!(starts(&mut driver).first().map(|(_, epoch, _)| *epoch), Some(2));
}
