//! Positions of a source's own, through receivers that are dropped anywhere and logs that have only a part.

use crate::testkit::{Log, Running, config, context};
use crate::*;
use proptest::prelude::*;
use std::sync::Arc;
use tidemill_common::definition::{Key, Reader, Table};

/// A topic of some partitions, each with so many messages; some messages are no records.
#[derive(Debug)]
struct Topic;

#[derive(Debug, Clone, PartialEq)]
struct Partitions {
    messages: Vec<u8>,
}

impl SourceConfig for Partitions {
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }
}

/// Every seventh message of a partition is none of anybody's records.
fn is_record(message: u8) -> bool {
    message % 7 != 3
}

impl SourceConnector for Topic {
    type Config = Partitions;

    const NAME: &'static str = "topic";
    const DOC: &'static str = "Messages of partitions.";
    const KEYS: &'static [Key] = &[];
    const PAYLOAD: Payload = Payload::Records;

    fn read<'t>(_: &mut Reader<'t>, _: &Table<'t>, _: &Records) -> Option<Partitions> {
        None
    }

    async fn run(config: &Partitions, _: Context, intake: &mut Intake) -> Result<Ended, ReceiverError> {
        loop {
            let mut all_read = true;
            for (partition, messages) in config.messages.iter().enumerate() {
                let name = partition.to_string();
                let next = intake.positions().get(&name).map_or(0, |position| position[0]);
                if next == *messages {
                    continue;
                }
                all_read = false;
                let record = format!("{partition}:{next}");
                let moved = match is_record(next) {
                    true => intake.record_at(record.as_bytes(), &name, [next + 1]).await?,
                    false => intake.moved(&name, [next + 1]).await?,
                };
                if moved.is_none() {
                    return Ok(Ended::Stopped);
                }
            }
            if all_read {
                return Ok(Ended::Finished);
            }
        }
    }
}

fn receive(log: &Arc<Log>, messages: &[u8], block_bytes: usize) -> Running {
    let source = Source::new(Topic, Partitions { messages: messages.to_vec() });
    let (block_bytes, positions) = (Some(block_bytes), log.positions());
    Running::start(source, context(), ReceiverConfig { positions, block_bytes, ..config(log.end()) }, log)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every message comes once and in the order of its partition, whatever the log had when a receiver took over.
    #[test]
    fn every_message_comes_once(
        messages in prop::collection::vec(0..60_u8, 1..4),
        block_bytes in 1..40_usize,
        cuts in prop::collection::vec(0..200_u64, 0..5),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut log = Log::new();
            for cut in cuts {
                let running = receive(&log, &messages, block_bytes);
                log.reaches(cut.min(log.end() + 1).min(total(&messages))).await;
                running.task.abort();
                log = log.up_to(cut);
            }
            let ended = receive(&log, &messages, block_bytes).end().await.unwrap().unwrap();
            prop_assert!(ended.finished);
            let text = log.text();
            for (partition, count) in messages.iter().enumerate() {
                let prefix = format!("{partition}:");
                let came: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(&prefix)).collect();
                let expected: Vec<String> = (0..*count).filter(|m| is_record(*m)).map(|m| m.to_string()).collect();
                prop_assert_eq!(came, expected);
                // What is no record is remembered too.
                let position = log.positions().get(&partition.to_string()).map_or(0, |position| position[0]);
                prop_assert_eq!(position, *count);
            }
            Ok(())
        })?;
    }
}

fn total(messages: &[u8]) -> u64 {
    messages.iter().map(|count| (0..*count).filter(|message| is_record(*message)).count() as u64).sum()
}

/// More positions change, with and without records, than one block can carry.
#[tokio::test]
async fn any_number_of_positions_may_change() {
    let many = 2 * positions::MAX_CHANGES as u32 + 1;
    for with_records in [false, true] {
        let log = Log::new();
        let config = ReceiverConfig { block_bytes: None, ..config(0) };
        let run = run(config, log.holder(), Arc::default(), Default::default(), |intake| {
            Box::pin(async move {
                for n in 0..many {
                    let name = n.to_string();
                    let moved = match with_records {
                        true => intake.record_at(b"x", &name, [1]).await?,
                        false => intake.moved(&name, [1]).await?,
                    };
                    assert!(moved.is_some());
                }
                Ok(Ended::Finished)
            })
        });
        let ended = run.await.unwrap();
        assert_eq!(ended.offset, if with_records { many.into() } else { 0 });
        assert_eq!(log.positions().len(), many as usize);
        assert!(log.blocks().iter().all(|block| block.changes.len() <= positions::MAX_CHANGES));
    }
}

/// Positions that are let go of make room for those that come with them.
#[tokio::test]
async fn what_is_let_go_of_makes_room() {
    let log = Log::new();
    let full: Positions = (0..positions::MAX_POSITIONS).map(|n| (n.to_string(), Vec::new())).collect();
    let config = ReceiverConfig { positions: full, ..config(0) };
    let run = run(config, log.holder(), Arc::default(), Default::default(), |intake| {
        Box::pin(async move {
            let full = ReceiverError::Position(PositionError::TooMany);
            assert_eq!(intake.moved("a", [1]).await, Err(full));
            intake.forget("7").await?;
            intake.moved("-", [1]).await?;
            Ok(Ended::Finished)
        })
    });
    run.await.unwrap();
    let changes: Vec<_> = log.notes().into_iter().flat_map(|(_, changes)| changes).map(|change| change.name).collect();
    assert_eq!(changes, ["7", "-"]);
}
