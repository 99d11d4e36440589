//! Receivers that a program registers: they get records from anywhere and store them.

use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// What a user's function says when it cannot do its work on the data. The job fails with this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FunctionError(String);

impl FunctionError {
    /// With this reason.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

impl From<&str> for FunctionError {
    fn from(reason: &str) -> Self {
        Self::new(reason)
    }
}

impl From<String> for FunctionError {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

impl From<tidemill_rows::arrow::error::ArrowError> for FunctionError {
    fn from(error: tidemill_rows::arrow::error::ArrowError) -> Self {
        Self::new(error)
    }
}

/// A longer record, in bytes, is refused.
const MAX_RECORD_BYTES: usize = 8 << 20;
/// Requests of a receiver that wait for the worker.
const REQUESTS: usize = 1024;

/// A source of records that a user wrote: Spark's `Receiver`.
///
/// It runs on one worker at a time, and a new one is made for every start: at first, after an error, and on another
/// worker when the first is lost. It begins where the last block in the driver's log ended: see [`Store::offset`].
pub trait Receiver: Send + 'static {
    /// Gets records and stores them, as long as there are any. `Ok` ends the source; an error starts it again after
    /// a while. Where it waits (`await`), it may be dropped: when the job stops, pauses, or the worker ends.
    fn on_start(&mut self, store: Store) -> impl Future<Output = Result<(), Restart>> + Send;

    /// Cleans up behind [`on_start`](Self::on_start), however that came to an end.
    fn on_stop(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// Why a receiver starts again, and when. Made by `?` of any error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// Why.
    pub reason: String,
    /// After this long; by default a growing while, at most two seconds.
    pub after: Option<Duration>,
}

impl<E: std::error::Error> From<E> for Restart {
    fn from(error: E) -> Self {
        Self { reason: error.to_string(), after: None }
    }
}

impl Restart {
    /// With a delay.
    pub fn after(delay: Duration, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), after: Some(delay) }
    }
}

/// Why a record was not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The receiver is to end, or was ended.
    #[error("the receiver is stopped")]
    Stopped,
    /// A record is one line.
    #[error("a record holds a line break")]
    LineBreak,
    /// A record has at most 8 MiB.
    #[error("a record of {0} bytes is too long")]
    TooLong(usize),
}

/// Where a receiver puts its records. Clones store into the same stream.
#[derive(Debug, Clone)]
pub struct Store {
    requests: mpsc::Sender<StoreRequest>,
    offset: u64,
}

/// What a receiver asks of the worker it runs on.
#[derive(Debug)]
pub enum StoreRequest {
    /// Store these records, each one line; tell when they are held, if anyone waits.
    Records(Vec<String>, Option<oneshot::Sender<u64>>),
    /// Show this to whoever looks.
    Error(String),
}

impl Store {
    /// For a receiver that goes on behind the record `offset`; with what it asks for.
    pub fn new(offset: u64) -> (Self, mpsc::Receiver<StoreRequest>) {
        let (requests, queue) = mpsc::channel(REQUESTS);
        (Self { requests, offset }, queue)
    }

    /// How many records of the stream were held when the receiver was started: one that can go back in its source goes
    /// on with the record of this number, counted from 0, and none is lost or stored twice.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Stores a record; it goes into the next block. Waits only while too much is not held yet. What was stored this way is
    /// lost with its worker until its block is held.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn store(&self, record: impl Into<String>) -> Result<(), StoreError> {
        let records = checked(vec![record.into()])?;
        self.requests.send(StoreRequest::Records(records, None)).await.map_err(|_| StoreError::Stopped)
    }

    /// Stores records and waits until they are held as often as the job says and in the driver's log: then they can be
    /// acknowledged to their source. Gives back the number of records of the stream up to them.
    ///
    /// # Errors
    /// See [`StoreError`]; the records may be stored all the same when it is [`StoreError::Stopped`].
    pub async fn store_reliable(&self, records: Vec<String>) -> Result<u64, StoreError> {
        let records = checked(records)?;
        let (done, held) = oneshot::channel();
        let request = StoreRequest::Records(records, Some(done));
        self.requests.send(request).await.map_err(|_| StoreError::Stopped)?;
        held.await.map_err(|_| StoreError::Stopped)
    }

    /// Shows an error in the job's status. The receiver goes on.
    pub async fn report_error(&self, error: impl fmt::Display) {
        // One that was stopped has nobody to tell.
        let _ = self.requests.send(StoreRequest::Error(error.to_string())).await;
    }
}

fn checked(records: Vec<String>) -> Result<Vec<String>, StoreError> {
    for record in &records {
        if record.contains('\n') {
            return Err(StoreError::LineBreak);
        }
        if record.len() > MAX_RECORD_BYTES {
            return Err(StoreError::TooLong(record.len()));
        }
    }
    Ok(records)
}

/// What a source with `connector = "receiver"` gives its receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverOptions {
    /// The `options` of the source.
    pub options: BTreeMap<String, String>,
    /// Which of the source's receivers it is, from 0.
    pub receiver: u32,
    /// Of how many.
    pub of: u32,
}

impl ReceiverOptions {
    /// An option that has to be there.
    ///
    /// # Errors
    /// When it is not.
    pub fn get(&self, name: &str) -> Result<&str, FunctionError> {
        self.options
            .get(name)
            .map(String::as_str)
            .ok_or_else(|| FunctionError::new(format!("option `{name}` is missing")))
    }
}

/// A receiver of any type.
pub trait AnyReceiver: Send {
    /// [`Receiver::on_start`].
    fn start(&mut self, store: Store) -> BoxFuture<'_, Result<(), Restart>>;

    /// [`Receiver::on_stop`].
    fn stop(&mut self) -> BoxFuture<'_, ()>;
}

impl<R: Receiver> AnyReceiver for R {
    fn start(&mut self, store: Store) -> BoxFuture<'_, Result<(), Restart>> {
        self.on_start(store).boxed()
    }

    fn stop(&mut self) -> BoxFuture<'_, ()> {
        self.on_stop().boxed()
    }
}

type Make = Arc<dyn Fn(&ReceiverOptions) -> Result<Box<dyn AnyReceiver>, FunctionError> + Send + Sync>;

/// Makes receivers.
#[derive(Clone)]
pub struct ReceiverFactory(Make);

impl fmt::Debug for ReceiverFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReceiverFactory")
    }
}

impl ReceiverFactory {
    /// Of a closure that makes one.
    pub fn new<R: Receiver>(
        make: impl Fn(&ReceiverOptions) -> Result<R, FunctionError> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(move |options| Ok(Box::new(make(options)?))))
    }

    /// Makes one.
    ///
    /// # Errors
    /// What the options lack.
    pub fn make(&self, options: &ReceiverOptions) -> Result<Box<dyn AnyReceiver>, FunctionError> {
        (self.0)(options)
    }
}
