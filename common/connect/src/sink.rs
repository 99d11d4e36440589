//! What a sink is: what it reads of a definition, how a row becomes bytes, and how a batch is committed.

use crate::delivery::Delivery;
use crate::parts::{PartRow, merge, read_part};
use crate::staging::parts_dir;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::any::Any;
use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tidemill_common::definition::{Key, Reader, Span, Value};
use tidemill_common::diag::Diagnostic;
use tidemill_common::ids::{BatchId, JobId, OutputIdx};
use tidemill_common::location::Location;
use tidemill_rows::RowError;
use tidemill_rows::arrow::array::RecordBatch;
use tidemill_rows::arrow::datatypes::{Schema, SchemaRef};
use tidemill_store::StoreError;

/// Most bytes of one batch of a sink without a place for [staged](SinkConfig::staging) rows: they are in the driver's memory.
pub const MAX_HELD_BYTES: usize = 64 << 20;

/// A kind of sink: a key of `[[output]]`.
pub trait SinkConnector: Send + Sync + 'static {
    /// What a definition says of one such sink.
    type Config: SinkConfig;

    /// The key of `[[output]]`, what may stand behind it, and one sentence that says how often a row arrives.
    const KEY: &'static [Key; 1];
    /// What is promised of each batch.
    const DELIVERY: Delivery;

    /// Reads what stands behind its key. None after noting in the reader what is wrong, and where.
    fn read<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Self::Config>;
}

/// What a definition says of one sink.
///
/// Workers [encode](Self::encode) the rows of a batch, each for itself; the driver brings them into one order and
/// [commits](Self::commit) them. So what arrives holds no trace of how many tasks there were (INV-1).
pub trait SinkConfig: fmt::Debug + PartialEq + Send + Sync + 'static {
    /// Whether it can take rows of these columns. `from` is where the definition names what is written.
    ///
    /// # Errors
    /// What it cannot take, with a place and the mend.
    fn check(&self, schema: &Schema, from: Span) -> Result<(), Diagnostic> {
        let _ = (schema, from);
        Ok(())
    }

    /// The rows, each as bytes.
    ///
    /// # Errors
    /// For a value that cannot be written.
    fn encode(&self, rows: &RecordBatch) -> Result<Vec<Vec<u8>>, RowError>;

    /// A folder that driver and workers share, in which tasks leave encoded rows. Without one, rows pass through the driver's
    /// memory: at most [`MAX_HELD_BYTES`] of a batch.
    fn staging(&self, base_dir: &Path) -> Option<Location> {
        let _ = base_dir;
        None
    }

    /// What no other output may write to, as it was written.
    fn place(&self) -> Option<&str> {
        None
    }

    /// How often a commit that failed is tried again.
    fn retries(&self) -> Retries {
        Retries::default()
    }

    /// Brings the rows of a batch to where they go. A batch that was committed may come again after a crash, with the same marker
    /// and the same rows; no batch is committed before the one before it. Batches without rows are left out.
    fn commit(&self, commit: Arc<Commit>) -> impl Future<Output = Result<(), CommitError>> + Send;
}

/// How often a commit that failed is tried again. Waits double, up to half a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Attempts after the first.
    pub attempts: u32,
    /// The first wait.
    pub first_wait: Duration,
    /// No attempt begins later than this after the first.
    pub patience: Duration,
}

/// Any number in ten minutes.
impl Default for Retries {
    fn default() -> Self {
        Self { attempts: u32::MAX, first_wait: Duration::from_secs(1), patience: Duration::from_secs(600) }
    }
}

/// Why a batch could not be committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct CommitError {
    /// Where and why.
    pub reason: String,
    /// Whether another attempt may succeed.
    pub passing: bool,
}

impl CommitError {
    /// Another attempt may succeed.
    pub fn passing(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), passing: true }
    }

    /// No other attempt can succeed.
    pub fn lasting(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), passing: false }
    }
}

/// Why something could not be put in place, on a file system or in an object store.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// By the file system.
    #[error(transparent)]
    Disk(#[from] io::Error),
    /// By the store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PutError {
    /// As the failure of a commit. A store may be away; a disk is not tried again.
    pub fn at(self, place: &Location) -> CommitError {
        match self {
            Self::Disk(error) => CommitError::lasting(format!("{place}: {error}")),
            Self::Store(error) => CommitError { reason: error.to_string(), passing: error.is_passing() },
        }
    }
}

/// The rows of one batch of one output, and whose they are.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// The cluster's id: job numbers begin anew in another one.
    pub cluster: String,
    /// The job.
    pub job: JobId,
    /// The batch.
    pub batch: BatchId,
    /// Its time, in ms since 1970.
    pub time_ms: i64,
    /// The output's number in the job.
    pub number: OutputIdx,
    /// Its name.
    pub output: String,
    /// Columns of its rows.
    pub schema: SchemaRef,
    /// What relative paths are relative to.
    pub base_dir: PathBuf,
    /// Whether it has to outlive a loss of power.
    pub sync: bool,
    /// What the tasks have left.
    pub parts: Vec<Part>,
}

/// What one task has left of one batch of one output.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A file of this name, where rows are [staged](crate::staging).
    Staged(String),
    /// The rows themselves, as [`write_part`](crate::parts::write_part) writes them.
    Held(bytes::Bytes),
}

impl Commit {
    /// A name of the job that no other job ever has.
    pub fn job_name(&self) -> String {
        format!("{}.{}", self.cluster, self.job)
    }

    /// Names the batch of the output, for ever and everywhere. A place that keeps the marker of what was committed last, in the
    /// same transaction as the rows, has every batch exactly once.
    pub fn marker(&self) -> String {
        format!("{}-{}-{}", self.job_name(), self.batch, self.output)
    }

    /// All rows in order. `staged` is the [folder](Self::parts_in) of parts that are files, on a file system.
    ///
    /// # Errors
    /// When a part cannot be opened; a row, when it cannot be read.
    pub fn rows(&self, staged: &Path) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>> + use<>> {
        let open = |part: &Part| -> io::Result<_> {
            let bytes: Box<dyn Read> = match part {
                Part::Staged(name) => Box::new(BufReader::new(File::open(staged.join(name))?)),
                Part::Held(bytes) => Box::new(Cursor::new(bytes.clone())),
            };
            read_part(bytes)
        };
        Ok(merge(self.parts.iter().map(open).collect::<io::Result<Vec<_>>>()?))
    }

    /// All rows in order, of a sink whose rows are not staged.
    ///
    /// # Errors
    /// When a part is damaged.
    pub fn held_rows(&self) -> Result<Vec<Vec<u8>>, CommitError> {
        let rows = self.rows(Path::new("")).and_then(|rows| rows.collect::<io::Result<Vec<_>>>());
        rows.map_err(CommitError::lasting)
    }

    /// The folder, in that of [`SinkConfig::staging`], that has the parts of the batch. The sink removes it once the batch is
    /// committed.
    pub fn parts_in(&self, staging: &Path) -> PathBuf {
        staging.join(parts_dir(self.job, self.batch, self.number))
    }

    /// Whether the rows that are in memory, each with its end, have more bytes than these.
    ///
    /// # Errors
    /// When a part is damaged.
    pub fn is_longer_than(&self, most: usize) -> io::Result<bool> {
        let parts = || self.parts.iter().filter_map(|part| if let Part::Held(part) = part { Some(part) } else { None });
        // In a part each row has more than its end beside it.
        if parts().map(|part| part.len()).sum::<usize>() <= most {
            return Ok(false);
        }
        let mut bytes = 0;
        for part in parts() {
            for row in read_part(Cursor::new(part.clone()))? {
                bytes += row?.row.len() + 1;
            }
        }
        Ok(bytes > most)
    }
}

/// The rows of a task in the order of the batch: `encoded` with their lane, order tag and key.
///
/// # Errors
/// Those of [`write_part`](crate::parts::write_part).
pub fn part_of(mut rows: Vec<PartRow>) -> io::Result<Vec<u8>> {
    // Stable: what has the same place stays in its order.
    rows.sort_by(|a, b| (a.lane, a.order, &a.key).cmp(&(b.lane, b.order, &b.key)));
    let mut part = Vec::new();
    crate::parts::write_part(&mut part, &rows)?;
    Ok(part)
}

/// A sink as a definition configures it.
#[derive(Clone)]
pub struct Sink {
    name: &'static str,
    delivery: Delivery,
    config: Arc<dyn AnySink>,
}

impl Sink {
    /// Of this kind, as configured.
    pub fn new<C: SinkConnector>(_: C, config: C::Config) -> Self {
        Self { name: C::KEY[0].name, delivery: C::DELIVERY, config: Arc::new(config) }
    }

    /// The key of `[[output]]`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What is promised of each batch.
    pub fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// See [`SinkConfig::check`].
    ///
    /// # Errors
    /// The same.
    pub fn check(&self, schema: &Schema, from: Span) -> Result<(), Diagnostic> {
        self.config.check(schema, from)
    }

    /// See [`SinkConfig::encode`].
    ///
    /// # Errors
    /// The same.
    pub fn encode(&self, rows: &RecordBatch) -> Result<Vec<Vec<u8>>, RowError> {
        self.config.encode(rows)
    }

    /// See [`SinkConfig::staging`].
    pub fn staging(&self, base_dir: &Path) -> Option<Location> {
        self.config.staging(base_dir)
    }

    /// See [`SinkConfig::place`].
    pub fn place(&self) -> Option<&str> {
        self.config.place()
    }

    /// See [`SinkConfig::retries`].
    pub fn retries(&self) -> Retries {
        self.config.retries()
    }

    /// See [`SinkConfig::commit`].
    ///
    /// # Errors
    /// The same.
    pub async fn commit(&self, commit: Arc<Commit>) -> Result<(), CommitError> {
        self.config.commit(commit).await
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.name, self.config)
    }
}

impl PartialEq for Sink {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.config.is_equal(&*other.config)
    }
}

/// A connector of any type.
pub(crate) trait AnySinkConnector: Send + Sync {
    fn key(&self) -> &'static [Key; 1];
    fn read<'t>(&self, r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Sink>;
}

impl<C: SinkConnector> AnySinkConnector for C {
    fn key(&self) -> &'static [Key; 1] {
        C::KEY
    }

    fn read<'t>(&self, r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Sink> {
        let config = C::read(r, value)?;
        Some(Sink { name: C::KEY[0].name, delivery: C::DELIVERY, config: Arc::new(config) })
    }
}

/// A configuration of any type.
trait AnySink: fmt::Debug + Send + Sync {
    fn check(&self, schema: &Schema, from: Span) -> Result<(), Diagnostic>;
    fn encode(&self, rows: &RecordBatch) -> Result<Vec<Vec<u8>>, RowError>;
    fn staging(&self, base_dir: &Path) -> Option<Location>;
    fn place(&self) -> Option<&str>;
    fn retries(&self) -> Retries;
    fn commit(&self, commit: Arc<Commit>) -> BoxFuture<'_, Result<(), CommitError>>;
    fn as_any(&self) -> &dyn Any;
    fn is_equal(&self, other: &dyn AnySink) -> bool;
}

impl<T: SinkConfig> AnySink for T {
    fn check(&self, schema: &Schema, from: Span) -> Result<(), Diagnostic> {
        SinkConfig::check(self, schema, from)
    }

    fn encode(&self, rows: &RecordBatch) -> Result<Vec<Vec<u8>>, RowError> {
        SinkConfig::encode(self, rows)
    }

    fn staging(&self, base_dir: &Path) -> Option<Location> {
        SinkConfig::staging(self, base_dir)
    }

    fn place(&self) -> Option<&str> {
        SinkConfig::place(self)
    }

    fn retries(&self) -> Retries {
        SinkConfig::retries(self)
    }

    fn commit(&self, commit: Arc<Commit>) -> BoxFuture<'_, Result<(), CommitError>> {
        SinkConfig::commit(self, commit).boxed()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn is_equal(&self, other: &dyn AnySink) -> bool {
        other.as_any().downcast_ref::<T>() == Some(self)
    }
}
