//! Brings the rows of a batch to their sinks, and models to their files (`model`). All of it can be done again: after a crash the
//! batch runs again and comes here once more (INV-4).

mod model;

use crate::core::{Commit, CommitRows, SavedModel};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemill_common::ids::{BatchId, JobId};
use tidemill_connect::{self as connect, CommitError, MAX_HELD_BYTES, Retries};
use tokio_util::sync::CancellationToken;

/// The longest wait between attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Whose rows are committed.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    /// The cluster's id: job numbers begin anew in another one.
    pub(crate) cluster: String,
    pub(crate) job: JobId,
    pub(crate) batch: BatchId,
}

/// Commits all outputs of a batch, one after the other.
pub(crate) async fn commit(writer: Writer, outputs: Vec<Commit>, stop: CancellationToken) -> Result<(), String> {
    for output in outputs {
        match output {
            Commit::Rows(rows) => commit_rows(&writer, rows, &stop).await?,
            Commit::Model(model) => save(model, &stop).await?,
        }
    }
    Ok(())
}

async fn commit_rows(writer: &Writer, rows: CommitRows, stop: &CancellationToken) -> Result<(), String> {
    let CommitRows { output, name, to, time_ms, parts, sync } = rows;
    let commit = Arc::new(connect::Commit {
        cluster: writer.cluster.clone(),
        job: writer.job,
        batch: writer.batch,
        time_ms,
        number: output,
        output: name,
        schema: to.schema,
        base_dir: to.base_dir,
        sync,
        parts,
    });
    let wrong = |reason: String| format!("output `{}`: {reason}", commit.output);
    if commit.held_bytes() > MAX_HELD_BYTES {
        let most = MAX_HELD_BYTES >> 20;
        return Err(wrong(format!("a batch has more than {most} MiB, the most that `{}` takes", to.sink.name())));
    }
    let done = patiently(to.sink.retries(), stop, || to.sink.commit(commit.clone())).await;
    done.map_err(wrong)
}

async fn save(model: SavedModel, stop: &CancellationToken) -> Result<(), String> {
    let model = Arc::new(model);
    let save = || {
        let model = model.clone();
        async { tokio::task::spawn_blocking(move || model::save(&model)).await.map_err(CommitError::lasting)? }
    };
    let done = patiently(Retries::default(), stop, save).await;
    done.map_err(|reason| format!("model `{}`: {reason}", model.name))
}

/// Does something until it is done, or has failed for good.
async fn patiently<F: Future<Output = Result<(), CommitError>>>(
    retries: Retries,
    stop: &CancellationToken,
    work: impl Fn() -> F,
) -> Result<(), String> {
    let (began, mut wait) = (Instant::now(), retries.first_wait);
    for attempt in 0.. {
        match work().await {
            Ok(()) => return Ok(()),
            Err(CommitError { reason, passing }) => {
                if !passing || attempt >= retries.attempts || began.elapsed() >= retries.patience {
                    return Err(reason);
                }
                tracing::warn!(reason, ?wait, "an output could not be written and is written again");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Err("the driver is stopping".to_string()),
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
    Ok(())
}

/// Makes sure that the entries of a directory are on the disk.
fn sync_dir(directory: Option<&Path>) -> io::Result<()> {
    match directory.filter(|directory| !directory.as_os_str().is_empty()) {
        Some(directory) => File::open(directory)?.sync_all(),
        None => File::open(PathBuf::from("."))?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// How often something is tried that fails so many times.
    async fn attempts(failures: u32, passing: bool, retries: Retries) -> (u32, Result<(), String>) {
        let tried = AtomicU32::new(0);
        let work = || {
            let number = tried.fetch_add(1, Ordering::Relaxed);
            async move { if number < failures { Err(CommitError { reason: "away".into(), passing }) } else { Ok(()) } }
        };
        let done = patiently(retries, &CancellationToken::new(), work).await;
        (tried.into_inner(), done)
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_again_and_a_refusal_is_final() {
        let failed = || Err("away".to_string());
        assert_eq!(attempts(3, true, Retries::default()).await, (4, Ok(())));
        assert_eq!(attempts(3, false, Retries::default()).await, (1, failed()));
        assert_eq!(attempts(3, true, Retries { attempts: 1, ..Retries::default() }).await, (2, failed()));
        let impatient = Retries { patience: Duration::ZERO, ..Retries::default() };
        assert_eq!(attempts(3, true, impatient).await, (1, failed()));
    }
}
