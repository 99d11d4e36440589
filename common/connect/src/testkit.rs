//! What a source is tested with: a log that holds its blocks, and a receiver that runs it.

use crate::rate::Rate;
use crate::receiver::{Backoff, BlockHolder, HoldError, ReceiverConfig, ReceiverEnd, ReceiverError, SealedBlock, run};
use crate::sink::Commit;
use crate::source::{Context, Source};
use crate::status::{ReceiverState, ReceiverStatus};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tidemill_common::ids::{BatchId, JobId, OutputIdx};
use tidemill_common::positions::{PositionChange, Positions};
use tidemill_rows::arrow::datatypes::Schema;
use tidemill_rows::records::Framing;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

/// What is held, as the driver's log would have it: accepted in order, from the current epoch only.
#[derive(Debug)]
pub struct Log {
    state: watch::Sender<Held>,
}

#[derive(Debug, Default)]
struct Held {
    epoch: u64,
    end: u64,
    blocks: Vec<SealedBlock>,
    /// Positions that changed without a record, and behind which one.
    notes: Vec<(u64, Vec<PositionChange>)>,
    positions: Positions,
    paused: bool,
    broken: bool,
}

struct Epoch {
    log: Arc<Log>,
    epoch: u64,
}

impl Log {
    /// An empty one.
    #[allow(clippy::new_ret_no_self, reason = "receivers share it")]
    pub fn new() -> Arc<Self> {
        Self::at(0)
    }

    /// One that has so many records already, and does not know them.
    pub fn at(end: u64) -> Arc<Self> {
        Arc::new(Self { state: watch::Sender::new(Held { end, ..Held::default() }) })
    }

    /// Where the blocks of a new epoch go; those before are fenced.
    pub fn holder(self: &Arc<Self>) -> Arc<dyn BlockHolder> {
        self.state.send_modify(|held| held.epoch += 1);
        Arc::new(Epoch { log: self.clone(), epoch: self.state.borrow().epoch })
    }

    /// One that has the first blocks of this one, as many as so many records fill.
    pub fn up_to(&self, records: u64) -> Arc<Self> {
        let all = self.state.borrow();
        let mut held = Held::default();
        for block in all.blocks.iter().filter(|block| block.first_offset + block.records <= records) {
            held.add(block.clone());
        }
        let end = held.end;
        for (_, changes) in all.notes.iter().filter(|(offset, _)| *offset <= end) {
            held.apply(changes);
        }
        Arc::new(Self { state: watch::Sender::new(held) })
    }

    /// Changes of positions that came without a record, and behind how many records.
    pub fn notes(&self) -> Vec<(u64, Vec<PositionChange>)> {
        self.state.borrow().notes.clone()
    }

    /// The positions as of the last record that is held.
    pub fn positions(&self) -> Positions {
        self.state.borrow().positions.clone()
    }

    /// Holds nothing until resumed.
    pub fn pause(&self) {
        self.state.send_modify(|held| held.paused = true);
    }

    /// Holds again.
    pub fn resume(&self) {
        self.state.send_modify(|held| held.paused = false);
    }

    /// Holds no block any more: every one fails.
    pub fn break_down(&self) {
        self.state.send_modify(|held| held.broken = true);
    }

    /// Offset behind the last record that is held.
    pub fn end(&self) -> u64 {
        self.state.borrow().end
    }

    /// The blocks that were held.
    pub fn blocks(&self) -> Vec<SealedBlock> {
        self.state.borrow().blocks.clone()
    }

    /// Their bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.blocks().iter().flat_map(|block| block.bytes.to_vec()).collect()
    }

    /// The same as text; what is none is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// Waits until all records before this one are held.
    ///
    /// # Panics
    /// When that takes longer than half a minute.
    pub async fn reaches(&self, end: u64) {
        // The sender is in `self`.
        let _ = in_time(self.state.subscribe().wait_for(|held| held.end >= end)).await;
    }
}

impl Held {
    fn add(&mut self, block: SealedBlock) {
        self.end += block.records;
        self.apply(&block.changes);
        self.blocks.push(block);
    }

    fn apply(&mut self, changes: &[PositionChange]) {
        // The intake has checked them.
        changes.iter().for_each(|change| _ = self.positions.apply(change));
    }
}

impl BlockHolder for Epoch {
    fn hold(self: Arc<Self>, block: SealedBlock) -> BoxFuture<'static, Result<(), HoldError>> {
        let (log, epoch) = (self.log.clone(), self.epoch);
        async move {
            let ready =
                |held: &Held| held.broken || held.epoch != epoch || (held.end == block.first_offset && !held.paused);
            if log.state.subscribe().wait_for(ready).await.is_err() {
                return Err(HoldError::Fenced);
            }
            let mut outcome = Ok(());
            log.state.send_modify(|held| {
                if held.broken {
                    outcome = Err(HoldError::Failed("no disk".into()));
                } else if held.epoch != epoch {
                    outcome = Err(HoldError::Fenced);
                } else {
                    held.add(block);
                }
            });
            outcome
        }
        .boxed()
    }

    fn remember(
        self: Arc<Self>,
        offset: u64,
        changes: Vec<PositionChange>,
    ) -> BoxFuture<'static, Result<(), HoldError>> {
        let (log, epoch) = (self.log.clone(), self.epoch);
        let ready = move |held: &Held| held.epoch != epoch || !held.paused;
        async move {
            if log.state.subscribe().wait_for(ready).await.is_err() || log.state.borrow().epoch != epoch {
                return Err(HoldError::Fenced);
            }
            log.state.send_modify(|held| {
                assert_eq!(held.end, offset, "all records before it are held");
                held.apply(&changes);
                held.notes.push((offset, changes));
            });
            Ok(())
        }
        .boxed()
    }
}

/// How a receiver of a test runs: small blocks, short waits.
pub fn config(start_offset: u64) -> ReceiverConfig {
    ReceiverConfig {
        framing: Framing::Lines,
        start_offset,
        positions: Positions::default(),
        block_interval: Duration::from_millis(1),
        block_bytes: Some(300),
        max_unheld_bytes: 2000,
        rate: Rate::default(),
    }
}

/// Where a source of a test runs: in the working directory, as the first of its receivers, without columns.
pub fn context() -> Context {
    Context {
        receiver: 0,
        base_dir: PathBuf::new(),
        batch_interval: Duration::from_secs(1),
        schema: Arc::new(Schema::empty()),
        reconnect: Backoff { first: Duration::from_millis(1), most: Duration::from_millis(5) },
        factory: None,
    }
}

/// Batch `batch` of output `out` of job 1 of cluster `c`, at `batch` seconds, without rows.
pub fn commit(batch: u64) -> Commit {
    Commit {
        cluster: "c".into(),
        job: JobId(1),
        batch: BatchId(batch),
        time_ms: batch.cast_signed() * 1000,
        number: OutputIdx(0),
        output: "out".into(),
        schema: Arc::new(Schema::empty()),
        base_dir: PathBuf::new(),
        sync: false,
        parts: Vec::new(),
    }
}

/// A receiver that runs.
#[derive(Debug)]
pub struct Running {
    /// Its task.
    pub task: JoinHandle<Result<ReceiverEnd, ReceiverError>>,
    /// What it shows.
    pub status: Arc<ReceiverStatus>,
    /// Stops it.
    pub stop: CancellationToken,
}

impl Running {
    /// Runs a source whose blocks go into a log.
    pub fn start(source: Source, context: Context, config: ReceiverConfig, log: &Arc<Log>) -> Self {
        let (status, stop) = (Arc::<ReceiverStatus>::default(), CancellationToken::new());
        let (holder, shown, stopped) = (log.holder(), status.clone(), stop.clone());
        let running = async move {
            run(config, holder, shown, stopped, |intake| async move { source.run(context, intake).await }.boxed()).await
        };
        Self { task: tokio::spawn(running), status, stop }
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it was aborted or has panicked.
    ///
    /// # Panics
    /// When that takes longer than half a minute.
    pub async fn end(self) -> Result<Result<ReceiverEnd, ReceiverError>, JoinError> {
        in_time(self.task).await
    }

    /// Waits until it backs off; gives back why.
    ///
    /// # Panics
    /// When that takes longer than half a minute.
    pub async fn trouble(&self) -> String {
        let mut state = self.status.watch();
        let backs_off = |state: &ReceiverState| matches!(state, ReceiverState::BackingOff { .. });
        match in_time(state.wait_for(backs_off)).await.map(|state| state.clone()) {
            Ok(ReceiverState::BackingOff { error, .. }) => error,
            _ => String::new(),
        }
    }
}

/// # Panics
/// When that takes longer than half a minute.
pub async fn in_time<F: Future>(future: F) -> F::Output {
    match tokio::time::timeout(Duration::from_secs(30), future).await {
        Ok(output) => output,
        Err(_) => panic!("took too long"),
    }
}
