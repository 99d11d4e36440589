//! The manual source: records given batch by batch, for replays.

use tidemill_connect::{Ended, Intake, ReceiverError, ReceiverState};
use tidemill_rows::records::BYTE_ORDER_MARK;
use tokio::sync::{mpsc, oneshot};

/// Few, so that a short replay has several blocks to a batch too.
const RECORDS_PER_BLOCK: usize = 4;

/// Records to be held before the next batch is taken.
#[derive(Debug)]
pub(super) struct ManualBatch {
    /// The records, without line ends. One that begins with a byte order mark stands for the first of a file.
    pub(super) records: Vec<String>,
    /// Told the position behind the batch once all of it is held; dropped if that fails.
    pub(super) done: oneshot::Sender<u64>,
}

/// Takes batches until stopped or the channel closes.
pub(super) async fn run(intake: &mut Intake, mut batches: mpsc::Receiver<ManualBatch>) -> Result<Ended, ReceiverError> {
    intake.status().set(ReceiverState::Connected);
    loop {
        let ManualBatch { records, done } = match intake.wait_for(batches.recv()).await? {
            Some(Some(batch)) => batch,
            Some(None) => return Ok(Ended::Finished),
            None => return Ok(Ended::Stopped),
        };
        for records in records.chunks(RECORDS_PER_BLOCK) {
            for record in records {
                let record = record.as_bytes();
                intake.push(record.strip_prefix(BYTE_ORDER_MARK).unwrap_or(record));
            }
            intake.seal_now().await?;
        }
        let held = intake.drain().await?;
        if done.send(held).is_err() {
            tracing::debug!(held, "nobody waits for this batch any more");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::sync::Arc;
    use tidemill_connect::testkit::{Log, config, in_time};
    use tidemill_connect::{ReceiverEnd, ReceiverStatus};
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn batches_come_in_blocks_of_four() {
        let (batches, rx) = mpsc::channel(1);
        let (log, stop) = (Log::new(), CancellationToken::new());
        let (holder, status) = (log.holder(), Arc::<ReceiverStatus>::default());
        let receiver = tokio::spawn(async move {
            tidemill_connect::run(config(0), holder, status, stop, |intake| run(intake, rx).boxed()).await
        });
        for (first, count, held) in [(0, 6, 6), (6, 0, 6), (6, 4, 10)] {
            let (done, told) = oneshot::channel();
            let records = (first..first + count).map(|line| line.to_string()).collect();
            batches.send(ManualBatch { records, done }).await.unwrap();
            assert_eq!(in_time(told).await, Ok(held));
        }
        drop(batches);
        assert_eq!(receiver.await.unwrap(), Ok(ReceiverEnd { offset: 10, finished: true }));
        let records: Vec<u64> = log.blocks().iter().map(|block| block.records).collect();
        assert_eq!(records, [4, 2, 4]);
        assert_eq!(log.text(), (0..10).map(|line| format!("{line}\n")).collect::<String>());
    }
}
