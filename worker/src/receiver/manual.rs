//! The manual source: records given batch by batch, for replays.

use super::intake::Intake;
use super::{ReceiverError, ReceiverState};
use tidemill_plan::records::BYTE_ORDER_MARK;
use tokio::sync::{mpsc, oneshot};

/// Few, so that a short replay has several blocks to a batch too.
const RECORDS_PER_BLOCK: usize = 4;

/// Records to be held before the next batch is taken.
#[derive(Debug)]
pub struct ManualBatch {
    /// The records, without line ends. One that begins with a byte order mark stands for the first of a file.
    pub records: Vec<String>,
    /// Told the position behind the batch once all of it is held; dropped if that fails.
    pub done: oneshot::Sender<u64>,
}

/// Takes batches until stopped (false) or the channel closes (true).
pub(super) async fn run(intake: &mut Intake, mut batches: mpsc::Receiver<ManualBatch>) -> Result<bool, ReceiverError> {
    intake.status.set(ReceiverState::Connected);
    loop {
        let ManualBatch { records, done } = match intake.meanwhile(batches.recv()).await? {
            Some(Some(batch)) => batch,
            Some(None) => return Ok(true),
            None => return Ok(false),
        };
        for records in records.chunks(RECORDS_PER_BLOCK) {
            for record in records {
                let record = record.as_bytes();
                intake.lines.push(record.strip_prefix(BYTE_ORDER_MARK).unwrap_or(record));
            }
            intake.window.opened().await?;
            intake.seal();
        }
        let held = intake.drain().await?;
        if done.send(held).is_err() {
            tracing::debug!(held, "nobody waits for this batch any more");
        }
    }
}
