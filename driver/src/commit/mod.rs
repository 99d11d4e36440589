//! Brings the rows of a batch to their sinks, and models to their files (`model`). All of it can be done again: after a crash the
//! batch runs again and comes here once more (INV-4).

mod model;

use crate::core::{Commit, CommitRows, SavedModel};
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemill_common::ids::{BatchId, JobId};
use tidemill_connect::{self as connect, CommitError, MAX_HELD_BYTES, Retries};
use tidemill_metrics::{Counter, metric};
use tokio_util::sync::CancellationToken;

metric! {
    static RETRIES: Counter =
        Counter::new("tidemill_commit_retries_total", "Times that an output was not brought to its sink, or a model not saved, and was tried again.");
}

/// Waits between attempts.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);
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
    if commit.is_longer_than(MAX_HELD_BYTES).map_err(|error| wrong(error.to_string()))? {
        let most = MAX_HELD_BYTES >> 20;
        return Err(wrong(format!("a batch has more than {most} MiB, the most that `{}` takes", to.sink.name())));
    }
    let attempt = || async {
        let attempt = AssertUnwindSafe(to.sink.commit(commit.clone())).catch_unwind().await;
        attempt.unwrap_or_else(|_| Err(CommitError::lasting(format!("the sink `{}` panicked", to.sink.name()))))
    };
    let tell = |reason: &str, wait: Duration| {
        let (job, batch, output) = (commit.job.0, commit.batch.0, &commit.output);
        tracing::warn!(job, batch, output, reason, ?wait, "a batch could not be committed and is committed again");
    };
    patiently(to.sink.retries(), stop, attempt, tell).await.map_err(wrong)
}

async fn save(model: SavedModel, stop: &CancellationToken) -> Result<(), String> {
    let model = Arc::new(model);
    let save = || {
        let model = model.clone();
        async { tokio::task::spawn_blocking(move || model::save(&model)).await.map_err(CommitError::lasting)? }
    };
    let tell = |reason: &str, wait: Duration| {
        tracing::warn!(model = model.name, reason, ?wait, "a model could not be saved and is saved again");
    };
    let done = patiently(Retries::default(), stop, save, tell).await;
    done.map_err(|reason| format!("model `{}`: {reason}", model.name))
}

/// Does something until it is done, or has failed for good. Says before each wait why.
async fn patiently<F: Future<Output = Result<(), CommitError>>>(
    retries: Retries,
    stop: &CancellationToken,
    work: impl Fn() -> F,
    tell: impl Fn(&str, Duration),
) -> Result<(), String> {
    let (began, mut wait) = (Instant::now(), retries.first_wait.clamp(SHORTEST_WAIT, LONGEST_WAIT));
    for attempt in 0.. {
        let Err(CommitError { reason, passing }) = work().await else { return Ok(()) };
        if !passing || attempt >= retries.attempts || began.elapsed().saturating_add(wait) > retries.patience {
            return Err(reason);
        }
        RETRIES.add(1);
        tell(&reason, wait);
        tokio::select! {
            () = stop.cancelled() => return Err("the driver is stopping".to_string()),
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::topology::SinkOutput;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tidemill_common::ids::OutputIdx;
    use tidemill_connect::definition::{Key, Reader, Shape, Value};
    use tidemill_connect::rows::RowError;
    use tidemill_connect::rows::arrow::array::RecordBatch;
    use tidemill_connect::rows::arrow::datatypes::Schema;

    /// How often something is tried that fails so many times.
    async fn attempts(failures: u32, passing: bool, retries: Retries) -> (u32, Result<(), String>) {
        let tried = AtomicU32::new(0);
        let work = || {
            let number = tried.fetch_add(1, Ordering::Relaxed);
            async move { if number < failures { Err(CommitError { reason: "away".into(), passing }) } else { Ok(()) } }
        };
        let done = patiently(retries, &CancellationToken::new(), work, |_, _| ()).await;
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

    #[derive(Debug, PartialEq)]
    struct Panics;

    impl connect::SinkConnector for Panics {
        type Config = Self;

        const KEY: &'static [Key; 1] = &[Key::new("panics", Shape::True, "Nothing arrives.")];
        const DELIVERY: connect::Delivery = connect::Delivery::AtMostOnce;

        fn read<'t>(_: &mut Reader<'t>, _: &'t Value<'t>) -> Option<Self> {
            Some(Self)
        }
    }

    impl connect::SinkConfig for Panics {
        fn encode(&self, _: &RecordBatch) -> Result<Vec<Vec<u8>>, RowError> {
            Ok(Vec::new())
        }

        async fn commit(&self, _: Arc<connect::Commit>) -> Result<(), CommitError> {
            panic!("on purpose")
        }
    }

    #[tokio::test]
    async fn a_sink_that_panics_fails_its_batch() {
        let (sink, schema) = (connect::Sink::new(Panics, Panics), Arc::new(Schema::empty()));
        let to = SinkOutput { sink, schema, base_dir: PathBuf::new() };
        let name = "out".to_string();
        let rows = CommitRows { output: OutputIdx(0), name, to, time_ms: 1000, parts: Vec::new(), sync: false };
        let writer = Writer { cluster: "c".into(), job: JobId(1), batch: BatchId(1) };
        let done = commit(writer, vec![Commit::Rows(rows)], CancellationToken::new()).await;
        assert_eq!(done, Err("output `out`: the sink `panics` panicked".to_string()));
    }
}
