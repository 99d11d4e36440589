//! `tidemill bench`: what the engine reaches, end to end: an acknowledged sender over TCP, blocks held
//! twice, state kept, driver and workers as processes of their own. Figures go to `docs/benchmarks.md`.

mod learn;

use crate::client::{self, Client};
use crate::exit::{Done, Failure, Outcome};
use crate::processes::Processes;
use crate::produce::{self, Lines, MadeConfig, Pace, ProducerStats, PurchaseStream, Users};
use clap::{Args, ValueEnum};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemill_proto::client::{
    BatchOutput, Incident, StatusRequest, StopRequest, SubmitRequest, WatchEvent, WatchRequest, watch_event,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

/// A measurement takes at most this long.
const DEADLINE: Duration = Duration::from_secs(300);
const SEED: u64 = 1;

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Figure {
    /// Records per second from socket to state, as fast as they are taken.
    Throughput,
    /// Time from send to state at a steady rate.
    Latency,
    /// Time and driver CPU of empty batches.
    Empty,
    /// Time from `kill -9` of a worker to the next complete batch.
    Kill,
    /// Start-up time and resident memory.
    Memory,
    /// Rows of 100 features per second through parsing, predicting, learning and evaluating.
    Learn,
}

/// Options of `tidemill bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What to measure; everything by default.
    #[arg(value_enum)]
    figures: Vec<Figure>,
    /// Workers.
    #[arg(long, default_value_t = 3)]
    workers: usize,
    /// Records of the throughput measurement.
    #[arg(long, default_value_t = 20_000_000)]
    records: u64,
    /// Rows of the learning measurement.
    #[arg(long, default_value_t = 500_000)]
    rows: u64,
    /// Made-up users instead of the chapter's 20 names.
    #[arg(long)]
    users: Option<u32>,
    /// Records per second of the latency measurement.
    #[arg(long, default_value_t = 50_000)]
    rate: u64,
    /// Batch interval in ms: of throughput 1000 by default, of latency and empty batches 10, of a kill 100.
    #[arg(long)]
    batch_ms: Option<u64>,
    /// Every batch updates and emits only the keys it touches, instead of all as in Spark.
    #[arg(long)]
    touched: bool,
}

pub(crate) async fn run(args: BenchArgs) -> Done {
    let all = [Figure::Throughput, Figure::Latency, Figure::Empty, Figure::Kill, Figure::Memory, Figure::Learn];
    let figures = if args.figures.is_empty() { all.to_vec() } else { args.figures.clone() };
    for figure in figures {
        let measured = tokio::time::timeout(DEADLINE, async {
            match figure {
                Figure::Throughput => throughput(&args).await,
                Figure::Latency => latency(&args).await,
                Figure::Empty => empty(&args).await,
                Figure::Kill => kill(&args).await,
                Figure::Memory => memory(&args).await,
                Figure::Learn => learn::run(&args).await,
            }
        });
        measured.await.map_err(|_| Failure::failed(format!("{figure:?} was not over after {DEADLINE:?}")))??;
    }
    Ok(Outcome::Fine)
}

/// A running job with its sender.
struct Rig {
    processes: Processes,
    client: Client,
    job: u64,
    events: Streaming<WatchEvent>,
    stats: Arc<ProducerStats>,
    stop: CancellationToken,
    sender: JoinHandle<()>,
}

/// What it took to take all that was sent.
struct Taken {
    first_sent: Instant,
    /// From the first send to the last complete batch.
    seconds: f64,
    batches: u64,
    records: u64,
    /// Of driver and workers, from their start.
    cpu_seconds: f64,
}

/// What is sent, and how fast.
struct Load {
    lines: Arc<dyn Lines>,
    pace: Pace,
    total: u64,
}

impl Load {
    fn purchases(args: &BenchArgs, pace: Pace, total: u64) -> Self {
        let users = args.users.map_or(Users::Chapter, Users::Synthetic);
        Self { lines: Arc::new(PurchaseStream::new(&users, SEED)), pace, total }
    }
}

impl Rig {
    /// Starts everything; `definition` is told the sender's address.
    async fn start(args: &BenchArgs, load: Load, definition: impl FnOnce(&str) -> String) -> Result<Self, Failure> {
        let processes = Processes::start(args.workers).await?;
        let mut client = client::connect(&processes.driver_url).await?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let definition = definition(&listener.local_addr()?.to_string());
        let config = MadeConfig { pace: load.pace, seed: SEED, total: Some(load.total), acknowledge: true };
        let (stats, stop) = (Arc::new(ProducerStats::default()), CancellationToken::new());
        let sender = tokio::spawn(produce::serve_lines(listener, load.lines, config, stats.clone(), stop.clone()));
        let request = SubmitRequest { definition, file_name: "bench".into(), ..SubmitRequest::default() };
        let job = client.submit(request).await.map_err(client::refused)?.into_inner().job;
        let request = WatchRequest { job: job.to_string() };
        let events = client.watch(request).await.map_err(client::refused)?.into_inner();
        Ok(Self { processes, client, job, events, stats, stop, sender })
    }

    async fn next(&mut self) -> Result<watch_event::Kind, Failure> {
        let event = self.events.message().await.map_err(client::refused)?;
        match event.and_then(|event| event.kind) {
            Some(watch_event::Kind::Ended(status)) => Err(Failure::failed(format!("the job ended: {}", status.reason))),
            Some(event) => Ok(event),
            None => Err(Failure::failed("the driver has gone away")),
        }
    }

    async fn next_batch(&mut self) -> Result<BatchOutput, Failure> {
        loop {
            if let watch_event::Kind::Batch(batch) = self.next().await? {
                return Ok(batch);
            }
        }
    }

    /// Waits until all that is sent is in complete batches.
    async fn take_all(&mut self, total: u64) -> Result<Taken, Failure> {
        while self.stats.sent() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let first_sent = Instant::now();
        let (mut done, mut batches) = (0, 0);
        while done < total {
            done += self.next_batch().await?.records;
            batches += 1;
        }
        let seconds = first_sent.elapsed().as_secs_f64();
        let cpu_seconds = self.processes.pids().into_iter().map(cpu_seconds).sum();
        Ok(Taken { first_sent, seconds, batches, records: self.records().await?, cpu_seconds })
    }

    /// Records in complete batches, by the driver's count.
    async fn records(&mut self) -> Result<u64, Failure> {
        let request = StatusRequest { job: self.job.to_string() };
        let reply = self.client.status(request).await.map_err(client::refused)?.into_inner();
        Ok(reply.jobs.first().map_or(0, |job| job.records))
    }

    async fn end(mut self) -> Result<(), Failure> {
        let request = StopRequest { job: self.job.to_string(), now: true };
        self.client.stop(request).await.map_err(client::refused)?;
        self.stop.cancel();
        self.sender.abort();
        self.processes.stop().await;
        Ok(())
    }
}

fn definition(address: &str, batch_ms: u64, touched: bool) -> String {
    let mode = if touched { "update = \"touched\"\nemit = \"changed\"\n" } else { "" };
    format!(
        r#"name = "bench"
batch_interval = "{batch_ms}ms"
[source.purchases]
connector = "socket"
address = "{address}"
acknowledge = true
format = "csv"
columns = {{ user = "string", product = "string", price = "double" }}
[stream.revenue]
from = "purchases"
[stream.revenue.update_state_by_key]
key = "user"
state.purchases = "coalesce(state.purchases, 0) + count(*)"
state.revenue = "coalesce(state.revenue, 0.0) + coalesce(sum(price), 0.0)"
{mode}[[output]]
from = "revenue"
print = {{ rows = 10 }}
"#
    )
}

async fn throughput(args: &BenchArgs) -> Result<(), Failure> {
    let batch_ms = args.batch_ms.unwrap_or(1000);
    let started = Instant::now();
    let load = Load::purchases(args, Pace::Unlimited, args.records);
    let mut rig = Rig::start(args, load, |address| definition(address, batch_ms, args.touched)).await?;
    let Taken { first_sent, seconds, batches, records, cpu_seconds } = rig.take_all(args.records).await?;
    let resident: Vec<String> =
        rig.processes.pids().into_iter().map(|pid| format!("{:.0}", resident_mib(pid))).collect();
    say!(
        "throughput: {records} records, {} users, {batches} batches of {batch_ms} ms: {:.2} M records/s from first send to last state ({seconds:.2} s; started {:.2} s before; {cpu_seconds:.1} CPU-s of driver and workers; resident MiB {})",
        args.users.unwrap_or(17),
        records as f64 / seconds / 1e6,
        (first_sent - started).as_secs_f64(),
        resident.join(" ")
    )?;
    rig.end().await
}

async fn latency(args: &BenchArgs) -> Result<(), Failure> {
    let batch_ms = args.batch_ms.unwrap_or(10);
    let total = args.rate * 10;
    let load = Load::purchases(args, Pace::PerSecond(args.rate as f64), total);
    let mut rig = Rig::start(args, load, |address| definition(address, batch_ms, args.touched)).await?;
    let stats = rig.stats.clone();
    let start = Instant::now();
    let sampler = tokio::spawn(async move {
        // (time, lines sent until then)
        let mut samples: Vec<(Duration, u64)> = Vec::new();
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        while samples.last().is_none_or(|(_, sent)| *sent < total) {
            tick.tick().await;
            samples.push((start.elapsed(), stats.sent()));
        }
        samples
    });
    let mut completed: Vec<(Duration, u64)> = Vec::new();
    let mut done = 0;
    while done < total {
        done += rig.next_batch().await?.records;
        completed.push((start.elapsed(), done));
    }
    let samples = sampler.await.map_err(|error| Failure::failed(error.to_string()))?;
    // The first second is start-up.
    let mut times: Vec<f64> = Vec::new();
    for (at, sent) in samples.iter().filter(|(_, sent)| *sent > args.rate) {
        let index = completed.partition_point(|(_, done)| done < sent);
        if let Some((finished, _)) = completed.get(index) {
            times.push(finished.saturating_sub(*at).as_secs_f64() * 1e3);
        }
    }
    times.sort_by(f64::total_cmp);
    let quantile = |q: f64| times.get(((times.len() as f64 - 1.0) * q) as usize).copied().unwrap_or(f64::NAN);
    say!(
        "latency: {} records/s, batches of {batch_ms} ms: send to state p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, max {:.1} ms ({} batches)",
        args.rate,
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
        quantile(1.0),
        completed.len()
    )?;
    rig.end().await
}

async fn empty(args: &BenchArgs) -> Result<(), Failure> {
    let batch_ms = args.batch_ms.unwrap_or(10);
    let load = Load::purchases(args, Pace::Unlimited, 1000);
    let mut rig = Rig::start(args, load, |address| definition(address, batch_ms, args.touched)).await?;
    while rig.next_batch().await?.records == 0 {}
    for _ in 0..20 {
        rig.next_batch().await?;
    }
    let driver = rig.processes.pids()[0];
    let (cpu, started) = (cpu_seconds(driver), Instant::now());
    let mut micros = Vec::new();
    while micros.len() < 500 {
        micros.push(rig.next_batch().await?.micros);
    }
    let per_batch = started.elapsed().as_secs_f64() * 1e3 / micros.len() as f64;
    let driver_ms = (cpu_seconds(driver) - cpu) * 1e3 / micros.len() as f64;
    micros.sort_unstable();
    say!(
        "empty batches of a stateful job, interval {batch_ms} ms: a batch every {per_batch:.2} ms, freeze to complete p50 {:.2} ms, p99 {:.2} ms; driver CPU {driver_ms:.2} ms a batch",
        micros[micros.len() / 2] as f64 / 1e3,
        micros[micros.len() * 99 / 100] as f64 / 1e3
    )?;
    rig.end().await
}

async fn kill(args: &BenchArgs) -> Result<(), Failure> {
    let batch_ms = args.batch_ms.unwrap_or(100);
    let total = args.rate * 60;
    let load = Load::purchases(args, Pace::PerSecond(args.rate as f64), total);
    let mut rig = Rig::start(args, load, |address| definition(address, batch_ms, args.touched)).await?;
    let mut done = 0;
    while done < args.rate * 2 {
        done += rig.next_batch().await?.records;
    }
    let request = StatusRequest { job: rig.job.to_string() };
    let status = rig.client.status(request).await.map_err(client::refused)?.into_inner().jobs;
    let receiver = status.iter().flat_map(|job| &job.sources).flat_map(|source| &source.receivers).next();
    let victim = receiver.map_or(0, |receiver| receiver.worker);
    rig.processes.kill_worker(victim)?;
    let killed = Instant::now();
    let mut noticed: Option<(Duration, Incident)> = None;
    loop {
        match rig.next().await? {
            watch_event::Kind::Incident(incident) => noticed = Some((killed.elapsed(), incident)),
            watch_event::Kind::Batch(_) => {
                if let Some((after, incident)) = &noticed {
                    say!(
                        "kill -9 of the receiver's worker at {} records/s, batches of {batch_ms} ms: noticed after {:.1} ms, next complete batch after {:.1} ms ({} key groups taken over, {} units run again)",
                        args.rate,
                        after.as_secs_f64() * 1e3,
                        killed.elapsed().as_secs_f64() * 1e3,
                        incident.groups_moved,
                        incident.units_recomputed
                    )?;
                    break;
                }
            }
            _ => {}
        }
    }
    rig.end().await
}

async fn memory(args: &BenchArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let (batch_ms, load) = (args.batch_ms.unwrap_or(100), Load::purchases(args, Pace::Unlimited, 1));
    let mut rig = Rig::start(args, load, |address| definition(address, batch_ms, args.touched)).await?;
    rig.next_batch().await?;
    let first_batch = started.elapsed().as_secs_f64();
    let resident: Vec<String> =
        rig.processes.pids().into_iter().map(|pid| format!("{:.0}", resident_mib(pid))).collect();
    say!(
        "start of a driver and {} workers to the first batch: {first_batch:.2} s; resident MiB of driver and workers with an idle job: {}",
        args.workers,
        resident.join(" ")
    )?;
    rig.end().await
}

/// CPU time of a process so far, in seconds; 0 where the system does not tell.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<f64> =
        after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    fields.iter().sum::<f64>() / 100.0
}

/// Resident memory of a process in MiB; 0 where the system does not tell.
fn resident_mib(pid: u32) -> f64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: f64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0.0);
    pages * 4096.0 / f64::from(1 << 20)
}
