//! Threads that requests run on, and how callers wait for their end.

use std::future::Future;
use std::io;
use std::sync::OnceLock;
use std::sync::mpsc::sync_channel;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Every step is over by then, attempts and all.
const DEADLINE: Duration = Duration::from_secs(120);
/// Connections live on the runtime that made them, so there is one for all callers, whatever they run on.
const THREADS: usize = 2;

/// Why a step came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// The store said so, or could not be reached.
    #[error(transparent)]
    Store(#[from] object_store::Error),
    /// The file on this side cannot be read.
    #[error(transparent)]
    Local(#[from] io::Error),
    /// It has taken too long.
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Late,
}

/// A step with its deadline.
pub(crate) async fn in_time<T, E: Into<Failed>>(step: impl Future<Output = Result<T, E>>) -> Result<T, Failed> {
    match tokio::time::timeout(DEADLINE, step).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(Failed::Late),
    }
}

/// Runs requests and waits for their end. The thread may be one that must not block; then it blocks all the same.
pub(crate) fn wait<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failed>> + Send + 'static,
) -> Result<T, Failed> {
    static RUNTIME: OnceLock<io::Result<Runtime>> = OnceLock::new();
    let start =
        || Builder::new_multi_thread().worker_threads(THREADS).thread_name("tidemill-store").enable_all().build();
    let runtime =
        RUNTIME.get_or_init(start).as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
    let (sender, done) = sync_channel(1);
    runtime.spawn(async move {
        // Whoever waits does so until the end.
        let _ = sender.send(work.await);
    });
    done.recv().unwrap_or_else(|_| Err(io::Error::other("a request has ended in a panic").into()))
}
