//! The socket source: connects, reads, and connects again when the connection ends.

use super::connection::Connection;
use super::intake::Intake;
use super::{Backoff, ConnectError, ReceiverError, ReceiverState};
use std::time::Duration;

/// Reads from `address` until stopped.
pub(super) async fn run(
    intake: &mut Intake,
    address: &str,
    acknowledge: bool,
    backoff: Backoff,
) -> Result<(), ReceiverError> {
    let mut wait = backoff.first;
    loop {
        // An acknowledging sender may forget what we ask to go on behind, so all of it has to be held.
        let resume = if acknowledge { Some(intake.drain().await?) } else { None };
        intake.status.set(ReceiverState::Connecting);
        let error = match intake.meanwhile(Connection::open(address, resume)).await? {
            None => return Ok(()),
            Some(Err(error)) => error,
            Some(Ok(mut connection)) => {
                intake.status.set(ReceiverState::Connected);
                // Where an acknowledging sender goes on is no beginning: what it sends there is a record as any other.
                if resume.is_none_or(|offset| offset == 0) {
                    intake.lines.begin(0);
                }
                let before = intake.position();
                let Some(error) = read(intake, &mut connection).await? else {
                    return end(intake, connection, acknowledge).await;
                };
                close_records(intake, acknowledge, &error);
                if intake.position() > before {
                    wait = backoff.first;
                }
                intake.seal();
                match error {
                    ConnectError::Closed if !acknowledge && intake.position() == before => {
                        ConnectError::ClosedWithoutLines
                    }
                    error => error,
                }
            }
        };
        let jittered = jitter(wait);
        wait = (wait * 2).min(backoff.most);
        tracing::warn!(address, %error, wait = ?jittered, "no connection to the sender");
        intake.status.back_off(&error, jittered);
        if intake.meanwhile(tokio::time::sleep(jittered)).await?.is_none() {
            return Ok(());
        }
    }
}

/// Reads and seals until stopped (`None`) or the connection is lost.
async fn read(intake: &mut Intake, connection: &mut Connection) -> Result<Option<ConnectError>, ReceiverError> {
    loop {
        if intake.lines.is_full() && intake.is_sealable() {
            intake.seal();
        }
        let (open, sealable, allowed) = (intake.window.is_open(), intake.is_sealable(), intake.allowed());
        tokio::select! {
            biased;
            () = intake.stop.cancelled() => return Ok(None),
            held = intake.window.more_held() => {
                if let Err(error) = connection.tell_held(held?).await {
                    return Ok(Some(error));
                }
            }
            _ = intake.tick.tick(), if sealable => intake.seal(),
            () = intake.limiter.wait(), if open && allowed == 0 => {}
            read = intake.lines.read_from(&mut connection.reader, allowed), if open && allowed > 0 => match read {
                Ok(0) => return Ok(Some(ConnectError::Closed)),
                Ok(bytes) => intake.limiter.read(bytes),
                Err(error) => return Ok(Some(ConnectError::Broken(error))),
            },
        }
    }
}

/// Stopped: has all whole records held, and says so.
async fn end(intake: &mut Intake, mut connection: Connection, acknowledge: bool) -> Result<(), ReceiverError> {
    intake.status.set(ReceiverState::Draining);
    if intake.lines.discard_partial() && !acknowledge {
        intake.status.partial_discarded();
    }
    let held = intake.drain().await?;
    match connection.tell_held(held).await {
        Ok(()) => connection.farewell().await,
        Err(error) => tracing::debug!(%error, held, "could not tell the sender what is held"),
    }
    Ok(())
}

/// What becomes of a record that the connection ended in: an acknowledging sender sends it again; else it is a
/// record if the sender closed the connection, as in Spark, and lost if the connection broke.
fn close_records(intake: &mut Intake, acknowledge: bool, error: &ConnectError) {
    if !acknowledge && matches!(error, ConnectError::Closed) {
        intake.lines.end_record();
    } else if intake.lines.discard_partial() && !acknowledge {
        intake.status.partial_discarded();
    }
}

fn jitter(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.75..1.25))
}
