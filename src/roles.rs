//! `tidemill driver`, `tidemill worker` and `tidemill local`.

use crate::cli::{DriverUrl, bind, interrupted, parse_address};
use crate::cluster::Cluster;
use crate::definition::Definition;
use crate::exit::{Done, Failure, Outcome};
use crate::keep::KeepArgs;
use crate::{client, watch};
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tidemill_common::units::{parse_duration, parse_size};
use tidemill_driver::core::CoreConfig;
use tidemill_driver::{Driver, DriverConfig, DriverError};
use tidemill_plan::Functions;
use tidemill_proto::client::SubmitRequest;
use tidemill_worker::{Worker, WorkerConfig, WorkerError};

/// Options of `tidemill driver`.
#[derive(Debug, Args)]
pub(crate) struct DriverArgs {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:7070", value_parser = parse_address)]
    listen: SocketAddr,
    /// Where to serve models and metrics over HTTP (`GET /models`, `POST /models/NAME/predict`, `GET /metrics`). Default:
    /// nowhere.
    #[arg(long, value_parser = parse_address)]
    http: Option<SocketAddr>,
    /// Where the log is.
    #[arg(long, default_value = "tidemill-data/driver")]
    data_dir: PathBuf,
    /// A worker that is silent for this long is dead.
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    worker_timeout: Duration,
    /// If the log is damaged, go on from what can be read of it. The damaged file is kept under another name.
    #[arg(long)]
    repair: bool,
}

pub(crate) async fn driver(args: DriverArgs, functions: Functions) -> Done {
    let heartbeat = args.worker_timeout / 5;
    if heartbeat < Duration::from_millis(10) {
        return Err(Failure::usage(
            "--worker-timeout must be at least 50ms: workers are to be heard five times within it",
        ));
    }
    let core = CoreConfig {
        worker_timeout_us: args.worker_timeout.as_micros() as u64,
        heartbeat_ms: heartbeat.as_millis() as u32,
        ..CoreConfig::default()
    };
    let listener = bind(args.listen).await?;
    if args.repair {
        match tidemill_driver::log::repair(&args.data_dir).map_err(|error| driver_failure(&error.into()))? {
            Some(done) => note!("{done}"),
            None => note!("the log needs no repair"),
        }
    }
    let config = DriverConfig { data_dir: args.data_dir, core, before_send: None, functions };
    let http = match args.http {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let http_address = http.as_ref().and_then(|listener| listener.local_addr().ok());
    let driver = Driver::start(listener, http, config).await.map_err(|error| driver_failure(&error))?;
    // Whoever reads that line may send a signal at once.
    let interrupted = interrupted();
    // A server whose first line nobody reads is one all the same.
    _ = say!("driver of cluster {} listening on http://{}", driver.cluster_id(), driver.address());
    if let Some(address) = http_address {
        _ = say!("models on http://{address}/models");
        _ = say!("metrics on http://{address}/metrics");
    }
    tokio::select! {
        () = interrupted => {}
        () = driver.failed() => {}
    }
    driver.shutdown().await.map_err(|error| driver_failure(&error))?;
    Ok(Outcome::Fine)
}

fn driver_failure(error: &DriverError) -> Failure {
    match error {
        DriverError::Log(_) | DriverError::Socket(_) => Failure::unavailable(error.to_string()),
        DriverError::Loop(_) => Failure::failed(error.to_string()),
    }
}

/// Options of `tidemill worker`.
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    #[command(flatten)]
    driver: DriverUrl,
    /// Where other workers reach this one; port 0 for any.
    #[arg(long, default_value = "127.0.0.1:0", value_parser = parse_address)]
    listen: SocketAddr,
    /// Host name that other workers use for this one; by default that of --listen.
    #[arg(long)]
    advertise: Option<String>,
    /// Where to serve metrics over HTTP (`GET /metrics`). Default: nowhere.
    #[arg(long, value_parser = parse_address)]
    http: Option<SocketAddr>,
    /// Checkpoints and blocks on disk; each worker needs its own. By default one named after the process.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Tasks that compute at once; by default the number of processors.
    #[arg(long)]
    slots: Option<usize>,
    /// Memory for received blocks; the oldest go to disk beyond it.
    #[arg(long, default_value = "512MiB", value_parser = parse_size)]
    block_memory: u64,
    /// Memory for shuffle pieces; the oldest go to disk beyond it.
    #[arg(long, default_value = "512MiB", value_parser = parse_size)]
    shuffle_memory: u64,
    /// Memory of one task.
    #[arg(long, default_value = "1GiB", value_parser = parse_size)]
    task_memory: u64,
    /// Disk space for spilled and durable blocks, and as much for shuffle pieces.
    #[arg(long, default_value = "16GiB", value_parser = parse_size)]
    disk: u64,
}

pub(crate) async fn worker(args: WorkerArgs, functions: Functions) -> Done {
    let data_dir =
        args.data_dir.unwrap_or_else(|| PathBuf::from("tidemill-data").join(format!("worker-{}", std::process::id())));
    let driver =
        if args.driver.driver.contains("://") { args.driver.driver } else { format!("http://{}", args.driver.driver) };
    let mut config = WorkerConfig::new(driver, data_dir);
    config.listen = args.listen;
    config.advertise = args.advertise;
    config.http = args.http;
    config.slots = args.slots.unwrap_or(config.slots).max(1);
    config.block_memory_bytes = args.block_memory as usize;
    config.shuffle_memory_bytes = args.shuffle_memory as usize;
    config.task_memory_bytes = args.task_memory as usize;
    config.disk_bytes = args.disk;
    config.functions = functions;
    let mut worker = Worker::start(config).await.map_err(|error| worker_failure(&error))?;
    // Whoever reads that line may send a signal at once.
    let interrupted = interrupted();
    _ = say!("worker {} joined, data service on {}", worker.id(), worker.address());
    if let Some(address) = worker.http_address() {
        _ = say!("metrics on http://{address}/metrics");
    }
    tokio::select! {
        () = interrupted => {}
        error = worker.failed() => return Err(worker_failure(&error)),
    }
    worker.shutdown().await;
    Ok(Outcome::Fine)
}

fn worker_failure(error: &WorkerError) -> Failure {
    match error {
        WorkerError::DriverUrl(..) => Failure::usage(error.to_string()),
        WorkerError::Internal(_) => Failure::failed(error.to_string()),
        _ => Failure::unavailable(error.to_string()),
    }
}

/// Options of `tidemill local`.
#[derive(Debug, Args)]
pub(crate) struct LocalArgs {
    /// The definition.
    job: PathBuf,
    /// Workers.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Stop after so many batches.
    #[arg(long)]
    batches: Option<u64>,
    /// Print every batch as a JSON line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    keep: KeepArgs,
}

pub(crate) async fn local(args: LocalArgs, functions: Functions) -> Done {
    let definition = Definition::read(&args.job, &functions)?;
    let compiled = definition.compile(&functions)?;
    args.keep.check(&watch::printed(&compiled))?;
    if args.workers == 0 {
        return Err(Failure::usage("--workers must be at least 1"));
    }
    definition.warn(&compiled);
    let cluster = Cluster::start(args.workers, CoreConfig::default(), None, functions).await?;
    let mut client = client::connect(&cluster.url()).await?;
    let watched_rows = watch::watched_rows(args.json, &args.keep);
    let request = SubmitRequest { watched_rows, ..definition.request(&compiled, false) };
    let submitted = client.submit(request).await.map_err(client::refused)?.into_inner();
    let name = submitted.job.to_string();
    let done = watch::until_ended(&mut client, &name, args.json, args.batches, &args.keep).await;
    cluster.shutdown().await;
    done
}
