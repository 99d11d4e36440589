//! Well-formed messages that make no sense: the core takes them without a panic, and what it logs can be read back.

use crate::{Driver, running};
use proptest::prelude::*;
use tidemill_common::ids::JobId;
use tidemill_driver::core::{Event, SessionId};
use tidemill_driver::record::Durable;
use tidemill_proto::PROTOCOL_VERSION;
use tidemill_proto::common::{BlockRef, ReceiverRef};
use tidemill_proto::control::{self as pb, task_report, worker_message::Kind};

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0..4_u64, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1), 1 => any::<u64>()]
}

fn small() -> impl Strategy<Value = u32> {
    prop_oneof![6 => 0..4_u32, 1 => Just(u32::MAX), 1 => any::<u32>()]
}

fn receiver() -> impl Strategy<Value = Option<ReceiverRef>> {
    let reference =
        (0..3_u64, small(), small()).prop_map(|(job, source, receiver)| ReceiverRef { job, source, receiver });
    let known = (0..2_u32).prop_map(|receiver| ReceiverRef { job: 1, source: 0, receiver });
    prop_oneof![3 => known.prop_map(Some), 2 => reference.prop_map(Some), 1 => Just(None)]
}

fn block() -> impl Strategy<Value = Option<BlockRef>> {
    (receiver(), number(), number(), number(), number()).prop_map(|(receiver, epoch, first_offset, records, bytes)| {
        Some(BlockRef { receiver, epoch, first_offset, records, bytes })
    })
}

fn task_result() -> impl Strategy<Value = task_report::Result> {
    let champion = (small(), small()).prop_map(|(model, champion)| pb::Champion { model, champion });
    let rows = (small(), number(), small(), number()).prop_map(|(output, order, lane, total)| pb::OutputRows {
        output,
        order,
        lane,
        total,
        ..Default::default()
    });
    let part = (small(), number()).prop_map(|(output, rows)| pb::OutputPart {
        output,
        rows,
        file: "f".into(),
        ..Default::default()
    });
    let model = small().prop_map(|model| pb::TrainedModel { model, bytes: vec![1, 2].into() });
    let done = (
        prop::collection::vec(champion, 0..3),
        prop::collection::vec(rows, 0..3),
        prop::collection::vec(part, 0..3),
        prop::collection::vec(model, 0..3),
        (number(), number(), number(), number()),
    );
    let done = done.prop_map(|(champions, rows, parts, models, (records, bad_records, state_keys, micros))| {
        let done = pb::TaskDone {
            champions,
            rows,
            parts,
            models,
            records,
            bad_records,
            state_keys,
            micros,
            ..Default::default()
        };
        task_report::Result::Done(done)
    });
    let failed = (0..9_i32, number()).prop_map(|(kind, lost_worker)| {
        task_report::Result::Failure(pb::TaskFailure { kind, lost_worker, message: "m".into() })
    });
    prop_oneof![done, failed]
}

fn message() -> impl Strategy<Value = Kind> {
    let groups = || prop::collection::vec(small(), 0..4);
    let holders = || prop::collection::vec(number(), 0..3);
    prop_oneof![
        (block(), holders()).prop_map(|(block, holders)| Kind::BlockReceived(pb::BlockReceived {
            block,
            holders,
            ..Default::default()
        })),
        (block(), any::<bool>()).prop_map(|(block, ok)| Kind::BlockCopied(pb::BlockCopied { block, ok })),
        (receiver(), number(), any::<bool>()).prop_map(|(receiver, epoch, drained)| {
            Kind::ReceiverReport(pb::ReceiverReport { receiver, epoch, drained, ..Default::default() })
        }),
        (number(), number(), small(), task_result()).prop_map(|(task_id, batch, stage, result)| {
            Kind::TaskReport(pb::TaskReport { task_id, job: 1, batch, stage, result: Some(result) })
        }),
        (number(), number(), groups()).prop_map(|(follower, version, groups)| {
            Kind::StateReplicated(pb::StateReplicated { job: 1, follower, version, groups })
        }),
        (number(), groups()).prop_map(|(version, groups)| Kind::CheckpointWritten(pb::CheckpointWritten {
            job: 1,
            version,
            groups
        })),
        (number(), groups(), groups()).prop_map(|(version, groups, failed)| {
            Kind::StateRestored(pb::StateRestored { job: 1, version, groups, failed })
        }),
        (receiver(), number(), number()).prop_map(|(receiver, epoch, offset)| {
            Kind::PositionsChanged(pb::PositionsChanged { receiver, epoch, offset, ..Default::default() })
        }),
    ]
}

fn hello() -> impl Strategy<Value = pb::Hello> {
    let blocks = prop::collection::vec(block().prop_map(Option::unwrap_or_default), 0..4);
    let state = (number(), number(), prop::collection::vec(small(), 0..4))
        .prop_map(|(job, version, groups)| pb::HeldState { job, version, groups });
    let running = (receiver(), number()).prop_map(|(receiver, epoch)| pb::RunningReceiver { receiver, epoch });
    let jobs = prop::collection::vec(number(), 0..4);
    let progress = (number(), number()).prop_map(|(job, completed)| pb::Progress { job, completed });
    let progress = prop::option::weighted(0.1, progress);
    (
        number(),
        blocks,
        prop::collection::vec(state, 0..3),
        prop::collection::vec(running, 0..3),
        jobs,
        progress,
        any::<bool>(),
    )
        .prop_map(|(worker_id, blocks, checkpoints, receivers, jobs, progress, resumes)| {
            let blocks = vec![pb::HeldBlocks { blocks }];
            let resume = pb::Resume {
                worker_id,
                blocks: blocks.clone(),
                receivers,
                jobs,
                progress: progress.into_iter().collect(),
                ..pb::Resume::default()
            };
            pb::Hello {
                protocol_version: PROTOCOL_VERSION,
                slots: 1,
                checkpoints,
                recovered_blocks: if resumes { Vec::new() } else { blocks },
                resume: resumes.then_some(resume),
                ..pb::Hello::default()
            }
        })
}

#[derive(Debug, Clone)]
enum Step {
    Says(Box<Kind>),
    Greets(u64, Box<pb::Hello>),
    Task(Box<task_report::Result>),
    Passes,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => message().prop_map(|message| Step::Says(Box::new(message))),
        2 => (2..5_u64, hello()).prop_map(|(session, hello)| Step::Greets(session, Box::new(hello))),
        4 => task_result().prop_map(|result| Step::Task(Box::new(result))),
        3 => Just(Step::Passes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn messages_without_sense_do_no_harm(stateful in any::<bool>(), steps in prop::collection::vec(step(), 1..40)) {
        let mut driver = running(stateful);
        let mut tasks = Vec::new();
        for step in steps {
            match step {
                Step::Says(message) => driver.says(1, *message),
                Step::Greets(session, hello) => {
                    driver.event(Event::Connected { session: SessionId(session), hello });
                }
                Step::Task(result) => {
                    tasks.extend(driver.tasks());
                    if let Some((session, task)) = tasks.pop() {
                        driver.report(session, &task, *result);
                    }
                }
                Step::Passes => driver.pass(std::time::Duration::from_millis(100)),
            }
        }
        // A driver that is started on this log says the same, and does not die of it either.
        let mut durable = Durable::default();
        driver.log.iter().for_each(|record| durable.apply(record));
        prop_assert_eq!(&durable, &driver.core.durable());
        let mut again = Driver::start(durable, driver.now_us);
        again.join(1, Some(1));
        again.pass(std::time::Duration::from_secs(2));
        let reasons = again.core.job_status(again.now(), "").into_iter().map(|job| job.reason);
        prop_assert!(!reasons.into_iter().any(|reason| reason.contains("which its definition does not have")));
        prop_assert!(again.core.completed(JobId(1)).is_none_or(|batch| batch.0 < u64::MAX));
    }
}
