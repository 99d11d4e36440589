//! The worker: receives, holds, computes, keeps state.
//!
//! [`Worker::start`] puts the parts together on three runtimes: *control* for the session with the driver
//! and the heartbeats, *data* for everything that waits (requests, receivers, replication, fetching), and
//! *compute* for CPU work. So however much there is to compute, the worker does not look dead.

mod arithmetic;
mod aside;
mod config;
mod fetch;
mod follow;
#[cfg(any(test, feature = "testkit"))]
#[doc(hidden)]
pub mod fuzz;
mod heartbeat;
mod http;
mod identity;
mod jobs;
mod keyed;
mod models;
mod node;
mod outputs;
mod receivers;
mod restore;
mod service;
mod session;
mod starting;
pub mod state;
mod stateful;
pub mod store;
mod tasks;
mod wire;

pub use config::WorkerConfig;

use identity::DataDir;
use node::{Identity, Node};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use store::blocks::{BlockStore, BlockStoreConfig};
use store::shuffle::ShuffleStore;
use tidemill_common::ids::WorkerId;
use tidemill_plan::COMPUTE_STACK_BYTES;
use tidemill_proto::common::ErrorKind;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Threads for requests, receivers and replication.
const DATA_THREADS: usize = 2;
/// How long running work gets to end at shutdown.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(2);

/// Why a worker could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Another process has the data directory.
    #[error("the data directory {path} is in use by another process; stop it, or choose another with --data-dir")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The file system failed.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The port cannot be had.
    #[error("cannot listen on {address}: {source}; choose another with {option}")]
    Listen {
        /// The option that chooses it.
        option: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The driver's address makes no sense.
    #[error("`{0}` is no address of a driver: {1}; write http://host:port")]
    DriverUrl(String, String),
    /// No driver there.
    #[error(
        "no driver answers at {driver}: {reason}; start one with `tidemill driver`, or give its address with --driver"
    )]
    Unreachable {
        /// Where it should be.
        driver: String,
        /// What happened.
        reason: String,
    },
    /// The driver does not admit this worker.
    #[error("the driver refused this worker: {1}")]
    Refused(ErrorKind, String),
    /// Blocks on disk cannot be used.
    #[error("blocks on disk: {0}")]
    Blocks(#[from] store::StoreError),
    /// A defect.
    #[error("internal: {0}")]
    Internal(String),
}

/// A running worker.
pub struct Worker {
    id: WorkerId,
    address: SocketAddr,
    http_address: Option<SocketAddr>,
    node: Arc<Node>,
    runtimes: Option<Runtimes>,
    ended: Option<oneshot::Receiver<Result<(), WorkerError>>>,
    _data_dir: DataDir,
}

struct Runtimes {
    control: Runtime,
    data: Runtime,
    compute: Runtime,
}

impl Runtimes {
    fn new(slots: usize) -> Result<Self, std::io::Error> {
        let builder = |name: &str, threads: usize| {
            let mut builder = Builder::new_multi_thread();
            builder.thread_name(name).worker_threads(threads).max_blocking_threads(16).enable_all();
            builder
        };
        Ok(Self {
            // One may wait for a lock; heartbeats go on.
            control: builder("control", 2).build()?,
            data: builder("data", DATA_THREADS).build()?,
            compute: builder("compute", slots).thread_stack_size(COMPUTE_STACK_BYTES).build()?,
        })
    }

    /// Ends all of it without waiting.
    fn abandon(self) {
        self.control.shutdown_background();
        self.data.shutdown_background();
        self.compute.shutdown_background();
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("id", &self.id).field("address", &self.address).finish_non_exhaustive()
    }
}

impl Worker {
    /// Starts a worker; returns when the driver has admitted it.
    ///
    /// # Errors
    /// See [`WorkerError`].
    pub async fn start(config: WorkerConfig) -> Result<Self, WorkerError> {
        let data_dir = identity::open(&config.data_dir)?;
        let (listener, address) = bind(config.listen, "--listen")?;
        let http = config.http.map(|address| bind(address, "--http")).transpose()?;
        let http_address = http.as_ref().map(|(_, address)| *address);
        let host = config.advertise.clone().unwrap_or_else(|| address.ip().to_string());
        let advertised = if host.contains(':') && !host.starts_with('[') {
            format!("[{host}]:{}", address.port())
        } else {
            format!("{host}:{}", address.port())
        };
        let internal = |error: std::io::Error| WorkerError::Internal(error.to_string());
        let runtimes = Runtimes::new(config.slots.max(1)).map_err(internal)?;
        let node = Arc::new(make_node(config, &data_dir, &runtimes)?);
        let serving = node.clone();
        node.tracker.spawn_on(
            async move {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => service::serve(serving, listener).await,
                    Err(error) => tracing::error!(%error, "the data service could not start"),
                }
            },
            runtimes.data.handle(),
        );
        if let Some((listener, _)) = http {
            let serving = node.clone();
            node.tracker.spawn_on(
                async move {
                    match tokio::net::TcpListener::from_std(listener) {
                        Ok(listener) => http::serve(serving, listener).await,
                        Err(error) => tracing::error!(%error, "the HTTP server could not start"),
                    }
                },
                runtimes.data.handle(),
            );
        }
        let (joined, first_id) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let running = node.clone();
        runtimes.control.spawn(async move {
            let result = session::run(&running, advertised, joined).await;
            running.stop.cancel();
            // Nobody may be waiting for it.
            let _ = end.send(result);
        });
        let mut worker = Self {
            id: WorkerId(0),
            address,
            http_address,
            node,
            runtimes: Some(runtimes),
            ended: Some(ended),
            _data_dir: data_dir,
        };
        match first_id.await {
            Ok(id) => {
                worker.id = id;
                Ok(worker)
            }
            Err(_) => Err(worker.failed().await),
        }
    }

    /// The id it was first admitted with.
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// Where its data service listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its metrics are.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    /// Resolves when the worker has ended by itself.
    pub async fn failed(&mut self) -> WorkerError {
        let lost = || WorkerError::Internal("the session's task was lost".into());
        match self.ended.take() {
            Some(ended) => match ended.await {
                Ok(Err(error)) => error,
                Ok(Ok(())) | Err(_) => lost(),
            },
            None => lost(),
        }
    }

    /// Ends in order: running work gets a moment, then the connections close.
    pub async fn shutdown(mut self) {
        self.node.stop.cancel();
        self.node.receivers.kill_all();
        self.node.jobs.all().iter().for_each(|job| job.stop.cancel());
        self.node.tracker.close();
        if tokio::time::timeout(SHUTDOWN_WAIT, self.node.tracker.wait()).await.is_err() {
            tracing::debug!("work was still running at shutdown");
        }
        if let Some(runtimes) = self.runtimes.take() {
            runtimes.abandon();
        }
    }

    /// Ends as `kill -9` would, as far as a process can do that to a part of itself (replay, tests).
    pub fn kill(mut self) {
        if let Some(runtimes) = self.runtimes.take() {
            runtimes.abandon();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(runtimes) = self.runtimes.take() {
            self.node.stop.cancel();
            runtimes.abandon();
        }
    }
}

/// Takes a port, which `option` chooses.
fn bind(address: SocketAddr, option: &'static str) -> Result<(std::net::TcpListener, SocketAddr), WorkerError> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    bound.map_err(|source| WorkerError::Listen { option, address, source })
}

fn make_node(config: WorkerConfig, data_dir: &DataDir, runtimes: &Runtimes) -> Result<Node, WorkerError> {
    let blocks = BlockStore::new(BlockStoreConfig {
        memory_budget: config.block_memory_bytes,
        spill_dir: config.data_dir.join("spill").join("blocks"),
        log_dir: config.data_dir.join("blocks"),
        disk_budget: config.disk_bytes,
    })?;
    let spill = config.data_dir.join("spill").join("shuffle");
    let shuffle = ShuffleStore::new(config.shuffle_memory_bytes, spill, config.disk_bytes)?;
    let identity = Identity { cluster_id: data_dir.cluster_id.clone(), ..Identity::default() };
    let (compute, data) = (runtimes.compute.handle().clone(), runtimes.data.handle().clone());
    Ok(Node::new(config, identity, blocks, shuffle, compute, data, CancellationToken::new()))
}
