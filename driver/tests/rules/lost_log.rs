//! A driver whose log has lost entries: what workers have must not go, and no number is given out twice.

use crate::{Driver, compiled};
use tidemill_common::ids::{BatchId, JobId, SourceIdx, WorkerId};
use tidemill_driver::core::{Action, Event, RequestError, RequestId, SessionId};
use tidemill_driver::record::{
    BlockKey, BlockMeta, Durable, DurableJob, DurableReceiver, Ending, JobRecord, ReceiverKey, Record, Standing,
};
use tidemill_proto::PROTOCOL_VERSION;
use tidemill_proto::client::JobStatus;
use tidemill_proto::common::{BlockRef, ReceiverRef};
use tidemill_proto::control::{self as pb, driver_message::Kind, worker_message};

const KEY: ReceiverKey = ReceiverKey { source: SourceIdx(0), receiver: 0 };

fn reference() -> Option<ReceiverRef> {
    Some(ReceiverRef { job: 1, source: 0, receiver: 0 })
}

fn block(epoch: u64, first_offset: u64) -> BlockRef {
    BlockRef { receiver: reference(), epoch, first_offset, records: 1, bytes: 10 }
}

/// A log with one worker and one job, whose receiver has run once and brought ten records.
fn logged() -> Durable {
    let mut durable = Durable { cluster_id: "c".into(), ..Durable::default() };
    let job = DurableJob { id: JobId(1), name: "j".into(), ..DurableJob::default() };
    durable.apply(&Record::WorkerJoined(WorkerId(1)));
    durable.apply(&Record::Submitted(Box::new(job)));
    if let Some(job) = durable.jobs.get_mut(&JobId(1)) {
        job.receivers.insert(KEY, DurableReceiver { epoch: 1, next_offset: 10, finished: false });
    }
    durable
}

/// A worker that comes back with a receiver and blocks.
fn back(driver: &mut Driver, epoch: u64, offsets: &[u64]) {
    let blocks = offsets.iter().map(|offset| block(epoch, *offset)).collect();
    let resume = pb::Resume {
        worker_id: 1,
        blocks: vec![pb::HeldBlocks { blocks }],
        receivers: vec![pb::RunningReceiver { receiver: reference(), epoch }],
        jobs: vec![1],
        ..pb::Resume::default()
    };
    greet(driver, 1, Some(resume));
}

fn greet(driver: &mut Driver, session: u64, resume: Option<pb::Resume>) {
    let hello = pb::Hello { protocol_version: PROTOCOL_VERSION, slots: 1, resume, ..pb::Hello::default() };
    driver.event(Event::Connected { session: SessionId(session), hello: Box::new(hello) });
}

fn messages(driver: &mut Driver) -> Vec<Kind> {
    driver.take().into_iter().map(|(_, message)| message).collect()
}

#[test]
fn a_receiver_that_is_ahead_of_the_log_is_asked_for_what_is_missing() {
    let mut driver = Driver::start(logged(), 1_000_000);
    back(&mut driver, 1, &[10, 11, 12]);
    let ask = |message: &Kind| match message {
        Kind::ReportBlocks(ask) => Some((ask.receiver, ask.epoch, ask.from)),
        _ => None,
    };
    let asked: Vec<_> = messages(&mut driver).iter().filter_map(ask).collect();
    assert_eq!(asked, [(reference(), 1, 10)]);
    // What it says of later blocks meanwhile is neither logged nor taken for something from the past.
    driver.block(1, 0, 12, 10);
    let said = messages(&mut driver);
    assert!(!said.iter().any(|message| matches!(message, Kind::DropBlocks(_) | Kind::ReportBlocks(_))), "{said:?}");
    for offset in 10..13 {
        driver.block(1, 0, offset, 10);
    }
    let logged = |record: &JobRecord| match record {
        JobRecord::Block(block, _) => Some(block.key.first_offset),
        _ => None,
    };
    assert_eq!(driver.of_job().filter_map(logged).collect::<Vec<_>>(), [10, 11, 12]);
}

fn fails(driver: &mut Driver, epoch: u64) -> Vec<Kind> {
    let report = pb::ReceiverReport { receiver: reference(), epoch, error: "gone".into(), ..Default::default() };
    driver.says(1, worker_message::Kind::ReceiverReport(report));
    driver.take();
    driver.pass(std::time::Duration::from_millis(600));
    messages(driver)
}

fn started(said: &[Kind]) -> Vec<(u64, u64)> {
    let start = |message: &Kind| match message {
        Kind::StartReceiver(start) if start.receiver == reference() => Some((start.epoch, start.start_offset)),
        _ => None,
    };
    said.iter().filter_map(start).collect()
}

/// What earlier epochs have left is dropped then, but not where the log as it was may have that.
#[test]
fn a_receiver_that_does_not_have_it_any_more_starts_anew_where_the_log_ends() {
    for doubtful in [true, false] {
        let mut durable = logged();
        if doubtful {
            durable.doubt();
        }
        let mut driver = Driver::start(durable, 1_000_000);
        back(&mut driver, 1, &[12]);
        let said = fails(&mut driver, 1);
        assert_eq!(started(&said), [(2, 10)]);
        assert_eq!(said.iter().any(|message| matches!(message, Kind::DropBlocks(_))), !doubtful, "{said:?}");
    }
}

#[test]
fn an_epoch_that_the_log_has_lost_is_taken_over_and_not_given_again() {
    let mut driver = Driver::start(logged(), 1_000_000);
    back(&mut driver, 5, &[10]);
    let said = messages(&mut driver);
    assert!(said.iter().any(|message| matches!(message, Kind::ReportBlocks(ask) if (ask.epoch, ask.from) == (5, 10))));
    assert!(driver.log.contains(&Record::JobDoubtful(JobId(1))));
    assert!(driver.of_job().any(|record| *record == JobRecord::Receiver { key: KEY, epoch: 5 }));
    assert_eq!(started(&fails(&mut driver, 5)), [(6, 10)]);

    // One that does not run any more has left its blocks.
    let mut driver = Driver::start(logged(), 1_000_000);
    let blocks = vec![pb::HeldBlocks { blocks: vec![block(7, 10)] }];
    greet(&mut driver, 1, Some(pb::Resume { worker_id: 1, blocks, jobs: vec![1], ..pb::Resume::default() }));
    assert_eq!(started(&messages(&mut driver)), [(8, 10)]);
}

/// Others have seen what followed from a batch that the log has lost: it cannot become another one.
#[test]
fn a_job_whose_log_ends_before_what_workers_have_seen_stops_and_keeps_everything() {
    let mut durable = logged();
    durable.apply(&Record::Job(JobId(1), JobRecord::Frozen { batch: BatchId(1), time_ms: 1, counts: vec![] }));
    for (completed, ends) in [(1, false), (2, true)] {
        let mut driver = Driver::start(durable.clone(), 1_000_000);
        let progress = vec![pb::Progress { job: 1, completed }];
        greet(&mut driver, 1, Some(pb::Resume { worker_id: 1, jobs: vec![1], progress, ..pb::Resume::default() }));
        let said = messages(&mut driver);
        let reason = driver.failure().unwrap_or_default();
        assert_eq!(reason.contains("it ends at batch 1, and worker 1 has seen batch 2"), ends, "{reason}");
        assert_eq!(said.iter().any(|message| matches!(message, Kind::SetAside(aside) if aside.job == 1)), ends);
        let gone = said.iter().any(|message| matches!(message, Kind::EndJob(_) | Kind::DropBlocks(_)));
        assert!(!(ends && gone), "{said:?}");
        // Also for a driver that is started again.
        let mut after = durable.clone();
        driver.log.iter().for_each(|record| after.apply(record));
        assert_eq!(after, driver.core.durable());
        assert_eq!(after.standing(JobId(1)) == Standing::Unknown, ends);
    }
}

#[test]
fn what_a_worker_has_of_unknown_jobs_is_kept_and_of_ended_ones_let_go() {
    let mut durable = logged();
    durable.apply(&Record::Job(JobId(1), JobRecord::Ended(Ending::Stopped)));
    let mut driver = Driver::start(durable, 1_000_000);
    greet(&mut driver, 1, Some(pb::Resume { worker_id: 40, jobs: vec![1, 7], ..pb::Resume::default() }));
    let said = messages(&mut driver);
    let welcome = said.iter().find_map(|message| match message {
        Kind::Welcome(welcome) => Some((welcome.worker_id, welcome.unknown_jobs.clone())),
        _ => None,
    });
    // It was worker 40 once, as it says itself.
    assert_eq!(welcome, Some((41, vec![7])));
    let ended = said.iter().filter_map(|message| match message {
        Kind::EndJob(end) => Some(end.job),
        _ => None,
    });
    assert_eq!(ended.collect::<Vec<_>>(), [1]);
    driver.submit(compiled(false));
    let submitted = driver.log.iter().find_map(|record| match record {
        Record::Submitted(job) => Some(job.id),
        _ => None,
    });
    assert_eq!(submitted, Some(JobId(8)));
}

fn stop(driver: &mut Driver, job: &str, now: bool) -> Result<Box<JobStatus>, RequestError> {
    let (request, job) = (RequestId(9), job.to_string());
    let actions = driver.core.on_event(driver.now(), Event::Stop { request, job, now });
    let (replies, others): (Vec<_>, Vec<_>) =
        actions.into_iter().partition(|action| matches!(action, Action::Reply { .. }));
    driver.carry_out(others);
    match replies.into_iter().next() {
        Some(Action::Reply { result, .. }) => result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn people_let_go_of_what_is_kept_aside() {
    let mut driver = Driver::start(Durable::default(), 1_000_000);
    greet(&mut driver, 1, Some(pb::Resume { worker_id: 1, jobs: vec![7], ..pb::Resume::default() }));
    let beat = pb::Heartbeat { aside_jobs: vec![7], aside_blocks: 3, ..pb::Heartbeat::default() };
    driver.says(1, worker_message::Kind::Heartbeat(beat));
    assert_eq!(driver.core.worker_status(driver.now())[0].aside_blocks, 3);
    let refused = stop(&mut driver, "7", false).unwrap_err();
    assert!(refused.to_string().contains("does not know job 7; workers [2] keep"), "{refused}");
    assert!(matches!(stop(&mut driver, "8", true), Err(RequestError::NoSuchJob(_))));
    driver.take();
    assert_eq!(stop(&mut driver, "7", true).unwrap().state, "STOPPED");
    assert!(messages(&mut driver).iter().any(|message| matches!(message, Kind::EndJob(end) if end.job == 7)));
    assert_eq!(driver.log.last(), Some(&Record::JobForgotten(JobId(7))));
}

/// A job that has lost entries of the log may fail for that: then the log as it was can still be put back.
#[test]
fn a_doubtful_job_that_fails_leaves_everything_where_it_is() {
    for doubtful in [true, false] {
        let mut durable = logged();
        let key = BlockKey { receiver: KEY, first_offset: 10 };
        let meta = BlockMeta { key, epoch: 1, records: 1, bytes: 10 };
        durable.apply(&Record::Job(JobId(1), JobRecord::Block(meta, Vec::new())));
        if doubtful {
            durable.doubt();
        }
        let mut driver = Driver::start_with(durable, 1_000_000, |compiled| {
            compiled.settings.on_under_replicated = tidemill_job::OnUnderReplicated::Fail;
            compiled.settings.replication = 2;
        });
        back(&mut driver, 1, &[10, 20]);
        let mut said = messages(&mut driver);
        driver.pass(std::time::Duration::from_millis(300));
        said.extend(messages(&mut driver));
        assert!(driver.failure().is_some(), "one worker is too few");
        let gone = said.iter().any(|message| matches!(message, Kind::DropBlocks(_) | Kind::EndJob(_)));
        let aside = said.iter().any(|message| matches!(message, Kind::SetAside(aside) if aside.job == 1));
        assert_eq!((gone, aside), (!doubtful, doubtful), "{said:?}");
        assert_eq!(driver.core.durable().doubtful.contains(&JobId(1)), doubtful);
    }
}

/// What the log says does not fit the definition: that job does not run, and the cluster does.
#[test]
fn a_record_that_fits_nothing_costs_its_job_and_not_the_cluster() {
    let key = ReceiverKey { source: SourceIdx(4), receiver: 0 };
    let meta = BlockMeta { key: BlockKey { receiver: key, first_offset: u64::MAX }, epoch: 1, records: 9, bytes: 9 };
    let misfits = [
        JobRecord::Chosen { model: 0, champion: 9999 },
        JobRecord::Receiver { key, epoch: 1 },
        JobRecord::Block(meta, Vec::new()),
        JobRecord::Assigned(vec![Default::default(); 3]),
        JobRecord::Reloaded {
            table: 3,
            content: tidemill_driver::record::TableContent { hash: 1, bytes: vec![].into() },
        },
    ];
    for misfit in misfits {
        let mut durable = logged();
        durable.apply(&Record::Job(JobId(1), misfit.clone()));
        durable.apply(&Record::Job(
            JobId(1),
            JobRecord::Frozen { batch: BatchId(1), time_ms: 1, counts: vec![(key, 1), (KEY, 7)] },
        ));
        let mut driver = Driver::start(durable, 1_000_000);
        back(&mut driver, 1, &[10]);
        driver.pass(std::time::Duration::from_millis(500));
        let status = driver.core.job_status(driver.now(), "j").remove(0);
        assert_eq!(status.state, "FAILED", "{misfit:?}");
        assert!(status.reason.contains("which its definition does not have"), "{}", status.reason);
        assert!(
            !messages(&mut driver).iter().any(|message| matches!(message, Kind::EndJob(_))),
            "nothing is destroyed"
        );
        assert!(stop(&mut driver, "j", false).unwrap().reason.contains("it did not run"));
        assert!(messages(&mut driver).iter().any(|message| matches!(message, Kind::EndJob(_))));
    }
}
