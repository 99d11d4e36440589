//! A whole cluster in this process: real driver, real workers, real gRPC over the loopback interface.

use crate::exit::Failure;
use std::path::PathBuf;
use tempfile::TempDir;
use tidemill_common::ids::WorkerId;
use tidemill_driver::core::CoreConfig;
use tidemill_driver::{Driver, DriverConfig, SendHook};
use tidemill_plan::Functions;
use tidemill_worker::{Worker, WorkerConfig};

/// A running cluster.
pub(crate) struct Cluster {
    pub(crate) driver: Driver,
    workers: Vec<Worker>,
    next_dir: usize,
    dir: TempDir,
    functions: Functions,
}

impl Cluster {
    /// Starts a driver and workers; returns when all have joined.
    pub(crate) async fn start(
        workers: usize,
        core: CoreConfig,
        hook: Option<SendHook>,
        functions: Functions,
    ) -> Result<Self, Failure> {
        let dir = tempfile::tempdir()?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let config =
            DriverConfig { data_dir: dir.path().join("driver"), core, before_send: hook, functions: functions.clone() };
        let driver = Driver::start(listener, None, config).await.map_err(|error| Failure::failed(error.to_string()))?;
        let mut cluster = Self { driver, workers: Vec::new(), next_dir: 0, dir, functions };
        for _ in 0..workers {
            cluster.add_worker().await?;
        }
        Ok(cluster)
    }

    /// The driver's address.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.driver.address())
    }

    /// Starts one more worker.
    pub(crate) async fn add_worker(&mut self) -> Result<WorkerId, Failure> {
        let data_dir: PathBuf = self.dir.path().join(format!("worker-{}", self.next_dir));
        self.next_dir += 1;
        let mut config = WorkerConfig::new(self.url(), data_dir);
        config.slots = 2;
        config.functions = self.functions.clone();
        let worker = Worker::start(config).await.map_err(|error| Failure::failed(error.to_string()))?;
        let id = worker.id();
        self.workers.push(worker);
        Ok(id)
    }

    /// Takes a worker out of the cluster's hands, to be killed.
    pub(crate) fn take_worker(&mut self, id: WorkerId) -> Option<Worker> {
        let position = self.workers.iter().position(|worker| worker.id() == id)?;
        Some(self.workers.remove(position))
    }

    /// The workers.
    pub(crate) fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// Ends all of it.
    pub(crate) async fn shutdown(self) {
        for worker in self.workers {
            worker.shutdown().await;
        }
        if let Err(error) = self.driver.shutdown().await {
            tracing::error!(%error, "the driver ended with an error");
        }
    }
}
