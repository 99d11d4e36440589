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
                if !is_record(next) {
                    intake.moved(&name, [next + 1])?;
                } else if intake.record_at(record.as_bytes(), &name, [next + 1]).await?.is_none() {
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

/// A source that changes more positions than one block can carry is told, and one that settles them is not.
#[tokio::test]
async fn positions_without_records_have_to_be_settled() {
    for settles in [false, true] {
        let log = Log::new();
        let source = move |intake: &mut Intake| -> Result<(), ReceiverError> {
            (0..positions::MAX_CHANGES as u32 + 1).try_for_each(|n| intake.moved(&n.to_string(), [1]))
        };
        let run = run(config(0), log.holder(), Arc::default(), Default::default(), |intake| {
            Box::pin(async move {
                if settles {
                    for n in 0..positions::MAX_CHANGES as u32 + 1 {
                        intake.moved(&n.to_string(), [1])?;
                        if intake.is_crowded() {
                            intake.settle().await?;
                        }
                    }
                } else {
                    source(intake)?;
                }
                Ok(Ended::Finished)
            })
        });
        match run.await {
            Ok(_) => assert!(settles && log.positions().len() == positions::MAX_CHANGES + 1),
            Err(error) => assert!(!settles && error == ReceiverError::Position(PositionError::Unsettled), "{error}"),
        }
    }
}
