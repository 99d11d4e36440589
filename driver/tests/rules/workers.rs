//! Workers that come, are silent, come again, or know too little.

use crate::{Driver, compiled, running};
use std::time::Duration;
use tidemill_common::ids::WorkerId;
use tidemill_driver::core::{Action, Compiled, Event, NewJob, RequestId, SessionId};
use tidemill_driver::record::{Durable, DurableJob, Record};
use tidemill_plan::{FunctionKind, FunctionRef};
use tidemill_proto::PROTOCOL_VERSION;
use tidemill_proto::common::Function;
use tidemill_proto::control as pb;

fn lost(driver: &Driver) -> Vec<WorkerId> {
    let lost = |record: &Record| match record {
        Record::WorkerLost(worker) => Some(*worker),
        _ => None,
    };
    driver.log.iter().filter_map(lost).collect()
}

#[test]
fn without_workers_the_driver_rests() {
    let mut driver = Driver::start(Durable::default(), 1_000_000);
    driver.submit(compiled(true));
    for _ in 0..100 {
        driver.pass(Duration::from_millis(50));
        assert!(driver.core.next_deadline(driver.now()) > driver.now_us);
    }
    assert!(driver.frozen().is_empty());
}

#[test]
fn a_job_with_functions_that_a_worker_does_not_know_is_refused() {
    let mut driver = Driver::start(Durable::default(), 1_000_000);
    let knows = |versions: &[u32]| {
        let function = |version: &u32| Function { kind: "scalar".into(), name: "f".into(), version: *version };
        let functions = versions.iter().map(function).collect();
        Box::new(pb::Hello { protocol_version: PROTOCOL_VERSION, slots: 1, functions, ..pb::Hello::default() })
    };
    driver.event(Event::Connected { session: SessionId(1), hello: knows(&[1]) });
    driver.event(Event::Connected { session: SessionId(2), hello: knows(&[2]) });
    driver.event(Event::Connected { session: SessionId(3), hello: knows(&[]) });
    let durable = DurableJob { name: "j".into(), ..DurableJob::default() };
    let functions = vec![FunctionRef { kind: FunctionKind::Scalar, name: "f".into(), version: 2 }];
    let job = Box::new(NewJob { durable, compiled: Compiled { functions, ..compiled(false) } });
    let actions = driver.core.on_event(driver.now(), Event::Submit { request: RequestId(1), job });
    let refusal = actions.iter().find_map(|action| match action {
        Action::Reply { result: Err(error), .. } => Some(error.to_string()),
        _ => None,
    });
    let refusal = refusal.expect("the job is refused");
    assert!(refusal.contains("worker 1: scalar `f` version 2 is wanted, but version 1 is known there"), "{refusal}");
    assert!(refusal.contains("worker 3: scalar `f` version 2 is not known there"), "{refusal}");
    assert!(!refusal.contains("worker 2"), "{refusal}");
}

#[test]
fn a_late_loop_is_not_the_silence_of_workers() {
    let mut driver = running(false);
    driver.now_us += 20_000_000;
    driver.event(Event::Tick);
    driver.pass(Duration::from_millis(250));
    assert!(lost(&driver).is_empty());
    driver.pass(Duration::from_millis(100));
    assert_eq!(lost(&driver), [WorkerId(1)]);
}

#[test]
fn a_worker_that_connects_again_has_lost_its_old_session() {
    let mut driver = running(false);
    driver.join(2, Some(1));
    assert_eq!(lost(&driver), [WorkerId(1)]);
    assert_eq!(driver.core.members().iter().map(|member| member.id).collect::<Vec<_>>(), [WorkerId(2)]);
}
