//! What a worker is started with.

use std::path::PathBuf;
use std::time::Duration;
use tidemill_plan::Functions;

/// Settings of a worker.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The driver, `http://host:port`.
    pub driver: String,
    /// Where other workers reach this one; `0.0.0.0:0`-like addresses are bound, the host part is advertised.
    pub listen: std::net::SocketAddr,
    /// Where metrics are served over HTTP; by default nowhere.
    pub http: Option<std::net::SocketAddr>,
    /// Host name or address that other workers use; by default that of `listen`.
    pub advertise: Option<String>,
    /// Checkpoints, spilled and durable blocks.
    pub data_dir: PathBuf,
    /// Tasks that compute at once.
    pub slots: usize,
    /// Bytes for blocks in memory; the oldest go to disk beyond it.
    pub block_memory_bytes: usize,
    /// Bytes for pieces of exchanges in memory.
    pub shuffle_memory_bytes: usize,
    /// Bytes that one running task may use.
    pub task_memory_bytes: usize,
    /// Bytes on disk for spilled blocks, and for spilled pieces.
    pub disk_bytes: u64,
    /// How long a request to another worker may take.
    pub request_timeout: Duration,
    /// How long the first connection to the driver may take; later ones are tried for ever.
    pub connect_timeout: Duration,
    /// The functions in Rust that jobs may use.
    pub functions: Functions,
}

impl WorkerConfig {
    /// A worker of this driver with its files in `data_dir`, on any port of the loopback interface.
    pub fn new(driver: impl Into<String>, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            driver: driver.into(),
            listen: ([127, 0, 0, 1], 0).into(),
            http: None,
            advertise: None,
            data_dir: data_dir.into(),
            slots: std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
            block_memory_bytes: 512 << 20,
            shuffle_memory_bytes: 512 << 20,
            task_memory_bytes: 1 << 30,
            disk_bytes: 16 << 30,
            request_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            functions: Functions::new(),
        }
    }
}
