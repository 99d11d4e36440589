//! The manual source: lines given batch by batch, for replays.

use super::generate::take_in;
use super::intake::Intake;
use super::{ReceiverError, ReceiverState};
use tokio::sync::{mpsc, oneshot};

/// Few, so that a short replay has several blocks to a batch too.
const RECORDS_PER_BLOCK: usize = 4;

/// Lines to be held before the next batch is taken.
#[derive(Debug)]
pub struct ManualBatch {
    /// The records, without line ends.
    pub lines: Vec<String>,
    /// Told the position behind the batch once all of it is held; dropped if that fails.
    pub done: oneshot::Sender<u64>,
}

/// Takes batches until stopped (false) or the channel closes (true).
pub(super) async fn run(intake: &mut Intake, mut batches: mpsc::Receiver<ManualBatch>) -> Result<bool, ReceiverError> {
    intake.status.set(ReceiverState::Connected);
    loop {
        let ManualBatch { lines, done } = match intake.meanwhile(batches.recv()).await? {
            Some(Some(batch)) => batch,
            Some(None) => return Ok(true),
            None => return Ok(false),
        };
        for lines in lines.chunks(RECORDS_PER_BLOCK) {
            for line in lines {
                take_in(intake, line.as_bytes()).await?;
                take_in(intake, b"\n").await?;
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
