//! When batches are frozen, what they take, and what becomes of them when tasks fail.

use crate::{Driver, compiled, running};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tidemill_common::ids::JobId;
use tidemill_driver::core::Compiled;
use tidemill_driver::core::topology::{SourceShape, Topology};
use tidemill_driver::record::Durable;
use tidemill_proto::control::{self as pb, FailureKind, task_report, worker_message};

#[test]
fn missed_ticks_are_not_invented() {
    let mut driver = running(false);
    driver.pass(Duration::from_millis(100));
    driver.run_all();
    let mut durable = driver.core.durable();
    durable.members.clear();
    let mut driver = Driver::start(durable, 60_000_000);
    driver.join(1, None);
    driver.pass(Duration::from_millis(50));
    assert_eq!(driver.frozen(), [(2, 60_000, vec![])]);
}

/// Batches go on an interval apart, and by the clock again when that is ahead of them.
#[test]
fn a_clock_that_is_set_back_stops_nothing() {
    let mut driver = running(false);
    let interval_ms = 100;
    let pass = |driver: &mut Driver, batches: u32| {
        for _ in 0..batches {
            driver.pass(Duration::from_millis(interval_ms));
            driver.run_all();
        }
        driver.frozen().iter().map(|(_, time_ms, _)| *time_ms).collect::<Vec<_>>()
    };
    let before = pass(&mut driver, 2);
    let last = before[before.len() - 1];
    driver.clock_set_ms = -3_600_000;
    let times = pass(&mut driver, 4);
    let times = &times[before.len()..];
    assert!(times.len() >= 3, "{times:?}");
    let follows = |(n, time_ms): (usize, &i64)| *time_ms == last + (n as i64 + 1) * interval_ms as i64;
    assert!(times.iter().enumerate().all(follows), "{last}: {times:?}");
    let said = |driver: &mut Driver| {
        let now = driver.now();
        let status = driver.core.job_status(now, "").remove(0);
        (status.state, status.reason)
    };
    let (state, reason) = said(&mut driver);
    assert!(state == "RUNNING" && reason.contains("the driver's clock was set back: it is 3599 s behind"), "{reason}");

    // The next driver sees it too.
    let mut durable = driver.core.durable();
    durable.members.clear();
    let (now_us, set_ms, last) = (driver.now_us, driver.clock_set_ms, durable.jobs[&JobId(1)].last_time_ms);
    let mut driver = Driver::start(durable, now_us);
    driver.clock_set_ms = set_ms;
    driver.join(1, None);
    assert!(pass(&mut driver, 3).contains(&(last + interval_ms as i64)));
    driver.clock_set_ms = 7_200_000;
    let times = pass(&mut driver, 2);
    assert_eq!(times[times.len() - 1], driver.now_us as i64 / 1000 / 100 * 100 + 7_200_000);
    assert_eq!(said(&mut driver), ("RUNNING".to_string(), String::new()));
}

#[test]
fn a_busy_receiver_does_not_starve_another() {
    let mut driver = Driver::start(Durable::default(), 1_000_000);
    driver.join(1, None);
    let mut job = compiled(false);
    job.settings.max_batch_bytes = 10;
    driver.submit(job);
    for offset in 0..10 {
        driver.block(1, 0, offset, 10);
    }
    driver.block(1, 1, 0, 10);
    for _ in 0..3 {
        driver.pass(Duration::from_millis(100));
        driver.run_all();
    }
    let taken: Vec<u32> = driver.frozen().iter().flat_map(|(_, _, counts)| counts).map(|(key, _)| *key).collect();
    assert_eq!(taken.len(), 3);
    assert!(taken.contains(&0) && taken.contains(&1), "{taken:?}");
}

/// As Spark's `queueStream`: here with two new entries per tick.
#[test]
fn of_a_queue_one_entry_comes_per_batch() {
    let mut driver = Driver::start(Durable::default(), 1_000_000);
    driver.join(1, None);
    let job = compiled(false);
    let source = SourceShape { one_block_per_batch: true, receivers: 1, ..job.topology.sources[0].clone() };
    let topology = Topology { sources: vec![source], ..(*job.topology).clone() };
    driver.submit(Compiled { topology: Arc::new(topology), ..job });
    for entries in [0..2, 2..4, 4..5, 5..5, 5..5, 5..5] {
        entries.for_each(|entry| driver.block(1, 0, entry, 10));
        driver.pass(Duration::from_millis(100));
        driver.run_all();
    }
    let taken: Vec<_> = driver.frozen().into_iter().map(|(_, _, counts)| counts).collect();
    let one = vec![(0, 1)];
    assert_eq!(taken, [one.clone(), one.clone(), one.clone(), one.clone(), one, vec![]]);
}

#[test]
fn failures_of_the_user_end_the_job_and_others_after_some_tries() {
    for (kind, tries) in [(FailureKind::FailureUser, 1), (FailureKind::FailureInternal, 4)] {
        let mut driver = running(false);
        driver.block(1, 0, 0, 10);
        driver.pass(Duration::from_millis(100));
        for tried in 0..tries {
            assert_eq!(driver.failure(), None, "after {tried} tries");
            let (session, task) = driver.tasks().remove(0);
            let failure = pb::TaskFailure { kind: kind as i32, message: "1 / 0".into(), lost_worker: 0 };
            driver.report(session, &task, task_report::Result::Failure(failure));
        }
        assert!(driver.failure().unwrap().contains("1 / 0"));
    }
}

#[test]
fn a_report_without_a_result_is_a_failure() {
    let mut driver = running(false);
    driver.block(1, 0, 0, 10);
    driver.pass(Duration::from_millis(100));
    let (session, task) = driver.tasks().remove(0);
    let (task_id, job, batch) = (task.task_id, task.job, task.batch);
    let report = pb::TaskReport { task_id, job, batch, ..pb::TaskReport::default() };
    driver.says(session.0, worker_message::Kind::TaskReport(report));
    assert_eq!(driver.tasks().len(), 1, "it runs again");
}

#[test]
fn the_log_folds_into_what_the_core_holds() {
    let mut driver = running(true);
    for offset in 0..5 {
        driver.block(1, 0, offset, 10);
        driver.pass(Duration::from_millis(100));
        driver.run_all();
    }
    let mut durable = Durable::default();
    driver.log.iter().for_each(|record| durable.apply(record));
    assert_eq!(durable, driver.core.durable());
    let waiting: BTreeMap<u64, i64> = driver.frozen().into_iter().map(|(batch, time_ms, _)| (batch, time_ms)).collect();
    assert!(waiting.len() >= 5 && waiting.values().is_sorted());
}
