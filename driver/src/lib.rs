//! The driver: schedules each micro-batch, remembers what must not be forgotten, watches the workers.
//!
//! [`core`] decides and is pure; [`log`] remembers; `shell` feeds the one and writes the other;
//! `service` speaks gRPC. [`Driver::start`] puts them together.

mod ask;
mod commit;
pub mod core;
#[cfg(any(test, feature = "testkit"))]
#[doc(hidden)]
pub mod fuzz;
mod gauges;
mod http;
pub mod log;
mod models;
pub mod record;
mod service;
mod shell;
mod submit;
mod tables;
mod watch;

pub use models::{Publication, PublishedModel};
pub use submit::{MAX_ATTACHMENT_BYTES, MAX_WATCHED_ROWS};

use crate::ask::Loop;
use crate::core::{Compiled, Core, CoreConfig};
use crate::log::{Log, LogError};
use crate::models::Published;
use crate::record::Durable;
use service::{ClientService, ControlService};
use shell::{Clock, INPUT_QUEUE, Input, Shell};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tidemill_common::ids::{BatchId, JobId};
use tidemill_plan::{Functions, RECOMPILE_TIME, compile_text};
use tidemill_proto::client::client_server::ClientServer;
use tidemill_proto::control::control_server::ControlServer;
use tidemill_proto::control::driver_message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::TcpIncoming;

/// Called with every message before it goes to a worker; `replay` uses it to strike at the right moment.
pub type SendHook = Arc<dyn Fn(&driver_message::Kind) + Send + Sync>;

/// What a driver needs.
#[derive(Clone)]
pub struct DriverConfig {
    /// Where its log is.
    pub data_dir: PathBuf,
    /// Times and bounds.
    pub core: CoreConfig,
    /// Sees every message to a worker before it is sent.
    pub before_send: Option<SendHook>,
    /// The functions in Rust that jobs may use.
    pub functions: Functions,
}

impl std::fmt::Debug for DriverConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DriverConfig")
            .field("data_dir", &self.data_dir)
            .field("core", &self.core)
            .finish_non_exhaustive()
    }
}

/// Why a driver could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// Its log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Its port.
    #[error("the listening socket failed: {0}")]
    Socket(#[from] std::io::Error),
    /// A defect: its loop panicked.
    #[error("the driver's loop ended unexpectedly: {0}")]
    Loop(String),
}

/// A running driver.
#[derive(Debug)]
pub struct Driver {
    address: SocketAddr,
    cluster_id: String,
    input: mpsc::Sender<Input>,
    stop: CancellationToken,
    tracker: TaskTracker,
    event_loop: JoinHandle<Result<(), LogError>>,
}

impl Driver {
    /// Opens the log, takes up the jobs that have not ended, and serves on `listener`; models on `http`.
    ///
    /// # Errors
    /// See [`DriverError`].
    pub async fn start(
        listener: TcpListener,
        http: Option<TcpListener>,
        config: DriverConfig,
    ) -> Result<Self, DriverError> {
        let address = listener.local_addr()?;
        let (log, durable) = Log::open(&config.data_dir)?;
        let published = read_published(config.data_dir.join("models"), durable.completed()).await?;
        let (durable, compiled) = recompile(durable, config.functions.clone()).await?;
        let clock = Clock::start();
        let fresh_id = format!("{:016x}", random_id());
        let (core, first) = Core::start(config.core, durable, compiled, &fresh_id, clock.now());
        let cluster_id = core.cluster_id().to_string();
        let (input, inputs) = mpsc::channel(INPUT_QUEUE);
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        let shell = Shell {
            core,
            log,
            clock,
            input: input.clone(),
            tracker: tracker.clone(),
            stop: stop.clone(),
            before_send: config.before_send,
            sessions: HashMap::new(),
            requests: HashMap::new(),
            next_request: 0,
            watchers: watch::Watchers::default(),
            published: published.clone(),
        };
        let stop_loop = stop.clone();
        let event_loop = tokio::spawn(async move {
            // Whatever ends the loop ends the driver, a panic too: without its loop it would listen and answer nobody.
            let _ends_the_driver = stop_loop.clone().drop_guard();
            shell.run(inputs, first, stop_loop).await
        });
        tracker.spawn(tables::watch(Loop(input.clone()), stop.clone()));
        serve(listener, input.clone(), config.functions, published.clone(), &tracker, &stop);
        if let Some(listener) = http {
            let face = http::Face { published, driver: Loop(input.clone()) };
            tracker.spawn(http::serve(listener, face, stop.clone()));
        }
        Ok(Self { address, cluster_id, input, stop, tracker, event_loop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Strikes the manual clock of a job (replay).
    pub async fn manual_tick(&self, job: JobId, time_ms: i64) {
        // A driver that has stopped has no clock.
        let _ = self.input.send(shell::manual_tick(job, time_ms)).await;
    }

    /// Resolves when the driver has come to an end by itself.
    pub async fn failed(&self) {
        self.stop.cancelled().await;
    }

    /// Stops serving and ends. Jobs go on when it is started again.
    ///
    /// # Errors
    /// What made the driver end before it was asked to.
    pub async fn shutdown(self) -> Result<(), DriverError> {
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(Duration::from_secs(2), self.tracker.wait()).await.is_err() {
            tracing::debug!("connections were still open at shutdown");
        }
        Ok(self.event_loop.await.map_err(|error| DriverError::Loop(error.to_string()))??)
    }
}

/// Jobs of the log that have not ended, compiled anew. One that does not compile any more stays in the log, failed.
async fn recompile(
    durable: Durable,
    functions: Functions,
) -> Result<(Durable, BTreeMap<JobId, Compiled>), DriverError> {
    let work = tokio::task::spawn_blocking(move || {
        let mut compiled = BTreeMap::new();
        for job in durable.jobs.values().filter(|job| job.ending.is_none()) {
            match compile_text(&job.definition, &job.attachments, &functions, RECOMPILE_TIME) {
                Ok(done) => {
                    compiled.insert(job.id, submit::for_core(&done, job));
                }
                Err(errors) => tracing::error!(job = job.id.0, name = job.name, %errors, "a job no longer compiles"),
            }
        }
        (durable, compiled)
    });
    work.await.map_err(|error| DriverError::Loop(error.to_string()))
}

/// The models that were published before.
async fn read_published(dir: PathBuf, completed: BTreeMap<JobId, BatchId>) -> Result<Published, DriverError> {
    let work = tokio::task::spawn_blocking(move || Published::open(&dir, &completed));
    work.await.map_err(|error| DriverError::Loop(error.to_string()))
}

fn serve(
    listener: TcpListener,
    input: mpsc::Sender<Input>,
    functions: Functions,
    published: Published,
    tracker: &TaskTracker,
    stop: &CancellationToken,
) {
    let control = ControlService {
        input: input.clone(),
        next_session: AtomicU64::new(1),
        tracker: tracker.clone(),
        stop: stop.clone(),
    };
    let limit = tidemill_proto::MAX_MESSAGE_BYTES;
    let server = tonic::transport::Server::builder()
        .add_service(ControlServer::new(control).max_decoding_message_size(limit))
        .add_service(
            ClientServer::new(ClientService { driver: Loop(input), functions, published })
                .max_decoding_message_size(limit),
        )
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            stop.clone().cancelled_owned(),
        );
    let stop = stop.clone();
    tracker.spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the driver's server failed");
            stop.cancel();
        }
    });
}

/// 64 random bits: from the time and the process, mixed; it only has to differ between clusters.
fn random_id() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use tidemill_proto::PROTOCOL_VERSION;
    use tidemill_proto::control::{self as pb, control_client::ControlClient, worker_message};

    #[tokio::test]
    async fn a_panic_in_the_loop_ends_the_driver() {
        let dir = tempfile::tempdir().unwrap();
        let config = DriverConfig {
            data_dir: dir.path().to_path_buf(),
            core: CoreConfig::default(),
            before_send: Some(Arc::new(|_| panic!("a defect"))),
            functions: Functions::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let driver = Driver::start(listener, None, config).await.unwrap();
        // The first message to a worker, its welcome, is the last thing that the loop does.
        let mut client = ControlClient::connect(format!("http://{}", driver.address())).await.unwrap();
        let hello = pb::Hello { protocol_version: PROTOCOL_VERSION, slots: 1, ..pb::Hello::default() };
        let hello = pb::WorkerMessage { kind: Some(worker_message::Kind::Hello(hello)) };
        let _session = client.session(stream::iter([hello])).await;
        let ended = tokio::time::timeout(Duration::from_secs(60), driver.failed()).await;
        assert!(ended.is_ok(), "the driver goes on without its loop");
        assert!(matches!(driver.shutdown().await, Err(DriverError::Loop(_))));
    }
}
