//! Rates of receivers.

use crate::{Driver, Sent, compiled, running};
use std::sync::Arc;
use std::time::Duration;
use tidemill_common::ids::{BatchId, JobId};
use tidemill_driver::core::topology::{SourceShape, Topology};
use tidemill_driver::core::{Event, SessionId};
use tidemill_driver::record::Durable;
use tidemill_job::Backpressure;
use tidemill_proto::PROTOCOL_VERSION;
use tidemill_proto::common::ReceiverRef;
use tidemill_proto::control::{self as pb, driver_message, task_report, worker_message};

/// Rates that receivers were told, by number.
fn rates(sent: &Sent) -> Vec<(u32, f64)> {
    let rate = |(_, message): &(SessionId, driver_message::Kind)| match message {
        driver_message::Kind::StartReceiver(start) => Some((start.receiver?.receiver, start.rate)),
        driver_message::Kind::SetRate(set) => Some((set.receiver?.receiver, set.rate)),
        _ => None,
    };
    sent.iter().filter_map(rate).collect()
}

#[test]
fn receivers_are_slowed_down_to_what_batches_can_take() {
    let mut driver = Driver::start(Durable::default(), 1_000_000);
    driver.join(1, None);
    let mut job = compiled(false);
    job.settings.backpressure = Some(Backpressure { min_rate: 1, initial_rate: Some(300), ..Backpressure::default() });
    job.topology = Arc::new(Topology {
        sources: vec![SourceShape { max_rate: Some(400), ..job.topology.sources[0].clone() }],
        ..(*job.topology).clone()
    });
    driver.submit(job);
    assert_eq!(rates(&driver.take()), [(0, 300.0), (1, 300.0)]);
    // A batch of 10 records per receiver, frozen at its tick, that takes so long.
    let batch = |driver: &mut Driver, number: u64, ms: u64| {
        for receiver in [0, 1] {
            driver.block_with(1, receiver, (number - 1) * 10, 10, 100);
        }
        driver.now_us = (driver.now_us / 100_000 + 1) * 100_000;
        driver.event(Event::Tick);
        let tasks = driver.tasks();
        driver.now_us += ms * 1000;
        for (session, task) in tasks {
            driver.report(session, &task, task_report::Result::Done(pb::TaskDone::default()));
        }
        assert_eq!(driver.core.completed(JobId(1)), Some(BatchId(number)));
        rates(&driver.take())
    };
    // The first one is only learnt from; 20 records in 40 ms are 250 per second and receiver, in 20 ms they are 500.
    assert_eq!(batch(&mut driver, 1, 50), []);
    assert_eq!(batch(&mut driver, 2, 40), [(0, 250.0), (1, 250.0)]);
    assert_eq!(batch(&mut driver, 3, 80), [(0, 125.0), (1, 125.0)]);
    assert_eq!(batch(&mut driver, 4, 20), [(0, 400.0), (1, 400.0)], "never more than `max_rate`");
    assert_eq!(batch(&mut driver, 5, 10), [], "nothing new");
    // A receiver that starts again is told with its start.
    let failed = pb::ReceiverReport {
        receiver: Some(ReceiverRef { job: 1, source: 0, receiver: 1 }),
        epoch: 1,
        error: "no room".into(),
        ..pb::ReceiverReport::default()
    };
    driver.says(1, worker_message::Kind::ReceiverReport(failed));
    driver.pass(Duration::from_millis(600));
    assert_eq!(rates(&driver.take()), [(1, 400.0)]);
}

#[test]
fn a_receiver_that_went_on_without_a_driver_is_told_its_rate() {
    let driver = running(false);
    let worker = driver.core.members().iter().map(|member| member.id.0).next();
    let max_rate = Some(70);
    let mut driver = Driver::start_with(driver.core.durable(), 2_000_000, |job| {
        let source = SourceShape { max_rate, ..job.topology.sources[0].clone() };
        job.topology = Arc::new(Topology { sources: vec![source], ..(*job.topology).clone() });
    });
    let receiver =
        |receiver| pb::RunningReceiver { receiver: Some(ReceiverRef { job: 1, source: 0, receiver }), epoch: 1 };
    let resume = worker.map(|worker_id| pb::Resume {
        worker_id,
        jobs: vec![1],
        receivers: vec![receiver(0), receiver(1)],
        ..pb::Resume::default()
    });
    let hello = pb::Hello { protocol_version: PROTOCOL_VERSION, slots: 1, resume, ..pb::Hello::default() };
    driver.event(Event::Connected { session: SessionId(5), hello: Box::new(hello) });
    assert_eq!(rates(&driver.take()), [(0, 70.0), (1, 70.0)]);
}
