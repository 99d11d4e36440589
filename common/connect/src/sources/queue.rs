//! The queue: given records, one block for every entry.

use crate::delivery::Delivery;
use crate::intake::Intake;
use crate::receiver::ReceiverError;
use crate::source::{Context, Ended, Payload, Records, SourceConfig, SourceConnector};
use crate::status::ReceiverState;
use tidemill_common::definition::{FormatKind, Key, Reader, Shape, Table, Value};
use tidemill_common::diag::Diagnostic;

/// Records given in the definition, batch by batch (Spark's `queueStream`).
#[derive(Debug)]
pub struct Queue;

/// What a definition says of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConfig {
    /// The records of each batch; none is empty.
    pub batches: Vec<Vec<String>>,
    /// Whether it begins anew after the last one, a batch per batch interval. Default false.
    pub repeat: bool,
}

impl SourceConfig for QueueConfig {
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn is_block_per_batch(&self) -> bool {
        true
    }
}

impl SourceConnector for Queue {
    type Config = QueueConfig;

    const NAME: &'static str = "queue";
    const DOC: &'static str = "Records given in the definition, batch by batch.";
    const KEYS: &'static [Key] = &[
        Key::new("batches", Shape::Batches, "The records of each batch.").required(),
        Key::new("repeat", Shape::Flag, "Whether it begins anew after the last one. Default false."),
    ];
    const PAYLOAD: Payload = Payload::Records;
    const PACED: bool = false;

    fn read<'t>(r: &mut Reader<'t>, table: &Table<'t>, records: &Records) -> Option<QueueConfig> {
        let repeat = r.flag(table, "repeat");
        let lines = records.format != Some(FormatKind::Csv);
        let batches = table.get("batches").and_then(|v| read_batches(r, v, lines));
        Some(QueueConfig { batches: batches?, repeat: repeat? })
    }

    async fn run(config: &QueueConfig, context: Context, intake: &mut Intake) -> Result<Ended, ReceiverError> {
        intake.status.set(ReceiverState::Connected);
        while let Some(batch) = config.batch(intake.offset()) {
            for record in batch {
                intake.lines.push(record.as_bytes());
            }
            intake.seal_now().await?;
            if config.repeat && intake.wait_for(tokio::time::sleep(context.batch_interval)).await?.is_none() {
                return Ok(Ended::Stopped);
            }
        }
        Ok(Ended::Finished)
    }
}

/// One batch is one block.
const MAX_QUEUE_BATCH: usize = 8 << 20;

/// With `lines` a record has no line breaks.
fn read_batches<'t>(r: &mut Reader<'t>, value: &'t Value<'t>, lines: bool) -> Option<Vec<Vec<String>>> {
    let items = r.array(value)?;
    let mut batches = Vec::new();
    for item in items {
        let Some(records) = r.array(item) else { continue };
        let texts: Vec<String> = records.iter().filter_map(|record| read_record(r, record, lines)).collect();
        if texts.iter().map(|text| text.len() + 1).sum::<usize>() > MAX_QUEUE_BATCH {
            r.push(Diagnostic::new("a batch of a queue has at most 8 MiB").at(item.span()));
        } else if records.is_empty() {
            r.push(Diagnostic::new("a batch of a queue has at least one record").at(item.span()).label("empty"));
        } else if texts.len() == records.len() {
            batches.push(texts);
        }
    }
    if items.is_empty() {
        r.push(Diagnostic::new("expected at least one batch").at(value.span()));
    }
    (!items.is_empty() && batches.len() == items.len()).then_some(batches)
}

fn read_record<'t>(r: &mut Reader<'t>, value: &'t Value<'t>, line: bool) -> Option<String> {
    let record = r.text(value)?;
    if line && record.text.contains(['\n', '\r']) {
        let wrong = Diagnostic::new("a record is one line").at(record.span).label("expected no line break");
        r.push(wrong.help("only quoted fields of csv may hold line breaks"));
        return None;
    }
    Some(record.text)
}

impl QueueConfig {
    /// The batch that begins at this record; none behind the last one.
    fn batch(&self, position: u64) -> Option<&[String]> {
        let total: u64 = self.batches.iter().map(|batch| batch.len() as u64).sum();
        if total == 0 || (!self.repeat && position >= total) {
            return None;
        }
        let mut left = position % total;
        for batch in &self.batches {
            if left == 0 {
                return Some(batch);
            }
            left = left.saturating_sub(batch.len() as u64);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_by_position() {
        let batch = |lines: &[&str]| lines.iter().map(|line| line.to_string()).collect::<Vec<_>>();
        let mut queue = QueueConfig { batches: vec![batch(&["a", "b"]), batch(&["c"])], repeat: false };
        assert_eq!(queue.batch(0), Some(&batch(&["a", "b"])[..]));
        assert_eq!(queue.batch(2), Some(&batch(&["c"])[..]));
        assert_eq!(queue.batch(3), None);
        queue.repeat = true;
        assert_eq!(queue.batch(5), Some(&batch(&["c"])[..]));
    }
}
