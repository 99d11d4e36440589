//! `tidemill demo`: the story of the product in one command.

use crate::client::{self, Client};
use crate::exit::{Done, Failure, Outcome};
use crate::print::{self, Ordered};
use crate::processes::Processes;
use crate::produce::{self, Pace, ProducerStats, PurchasesConfig, Users};
use clap::{Args, ValueEnum};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tidemill_common::units::parse_duration;
use tidemill_proto::client::{
    BatchOutput, JobStatus, StatusRequest, StopRequest, SubmitRequest, WatchRequest, WorkersRequest, watch_event,
};
use tokio_util::sync::CancellationToken;

const JOB: &str = include_str!("../examples/jobs/revenue_per_user.toml");
/// More than the chapter's 17 users, so that the last batch shows them all.
const ROWS: &str = "print = { rows = 20 }";

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Victim {
    /// The worker that runs the receiver: it holds blocks and state as well.
    Receiver,
    /// The worker with the most key groups among the others.
    State,
    /// Nobody.
    None,
}

/// Options of `tidemill demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Workers, as processes of their own.
    #[arg(long, default_value_t = 3)]
    workers: usize,
    /// How long the producer sends.
    #[arg(long, default_value_t = 12)]
    seconds: u64,
    /// Purchases per second.
    #[arg(long, default_value_t = 5000)]
    rate: u64,
    /// Batch interval.
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    batch_interval: Duration,
    /// Which worker is killed in the middle of it.
    #[arg(long, value_enum, default_value_t = Victim::Receiver)]
    kill: Victim,
    /// Seed of the purchases.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(crate) async fn run(args: DemoArgs) -> Done {
    if args.workers < 2 && args.kill != Victim::None {
        return Err(Failure::usage("killing a worker takes at least 2 of them: --workers 2, or --kill none"));
    }
    say!("starting a driver and {} workers, each a process of its own", args.workers)?;
    let mut processes = Processes::start(args.workers).await?;
    let mut client = client::connect(&processes.driver_url).await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let total = args.rate * args.seconds;
    let config = PurchasesConfig {
        listen: address,
        pace: Pace::PerSecond(args.rate as f64),
        users: Users::Chapter,
        seed: args.seed,
        total: Some(total),
        acknowledge: true,
    };
    let stream = config.stream();
    let (stats, stop) = (Arc::new(ProducerStats::default()), CancellationToken::new());
    say!("a producer on {address} sends {total} purchases, {} a second; it keeps what is not acknowledged", args.rate)?;
    let producer = tokio::spawn(produce::serve(listener, config, stats.clone(), stop.clone()));
    let job = client.submit(request(&args, &address.to_string())).await.map_err(client::refused)?.into_inner();
    say!("submitted examples/jobs/revenue_per_user.toml as job {}: count and revenue of every user so far\n", job.job)?;
    let mut demo = Demo { args, client, processes: &mut processes, stats, total, killed: None, last: None };
    let status = demo.watch(&job.job.to_string()).await?;
    let last = demo.last.take();
    stop.cancel();
    producer.abort();
    let outcome = compare(&stream.totals(total), last.as_ref(), &status, total);
    processes.stop().await;
    outcome
}

fn request(args: &DemoArgs, address: &str) -> SubmitRequest {
    let interval = format!("batch_interval = \"{}ms\"", args.batch_interval.as_millis());
    let definition = JOB
        .replace("batch_interval = \"1s\"", &interval)
        .replace("127.0.0.1:9999", address)
        .replace("print = { rows = 10 }", ROWS);
    SubmitRequest { definition, file_name: "examples/jobs/revenue_per_user.toml".into(), ..SubmitRequest::default() }
}

struct Demo<'a> {
    args: DemoArgs,
    client: Client,
    processes: &'a mut Processes,
    stats: Arc<ProducerStats>,
    total: u64,
    killed: Option<(u64, i64)>,
    last: Option<BatchOutput>,
}

impl Demo<'_> {
    /// Prints every batch, strikes in the middle, and stops the job when everything sent is held.
    async fn watch(&mut self, job: &str) -> Result<JobStatus, Failure> {
        let request = WatchRequest { job: job.to_string() };
        let mut events = self.client.watch(request).await.map_err(client::refused)?.into_inner();
        let strike_at = Instant::now() + Duration::from_millis(self.args.seconds * 450);
        let give_up = Instant::now() + Duration::from_secs(self.args.seconds * 3 + 60);
        let mut stopping = None;
        loop {
            let strike = self.killed.is_none() && self.args.kill != Victim::None;
            tokio::select! {
                event = events.message() => {
                    match event.map_err(client::refused)?.and_then(|event| event.kind) {
                        Some(watch_event::Kind::Ended(status)) => return Ok(status),
                        Some(event) => self.show(event)?,
                        None => return Err(Failure::failed("the driver has gone away")),
                    }
                }
                () = tokio::time::sleep_until(strike_at.into()), if strike => self.strike(job).await?,
                () = self.stats.held_up_to(self.total), if stopping.is_none() && !strike => {
                    say!("all {} purchases are acknowledged; stopping the job\n", self.total)?;
                    let (mut client, job) = (self.client.clone(), job.to_string());
                    stopping = Some(tokio::spawn(async move { client.stop(StopRequest { job, now: false }).await }));
                }
                () = tokio::time::sleep_until(give_up.into()) => {
                    return Err(Failure::failed(format!("not over after {} s; of {} purchases {} are held", self.args.seconds * 3 + 60, self.total, self.stats.held())));
                }
            }
        }
    }

    fn show(&mut self, event: watch_event::Kind) -> Result<(), Failure> {
        match event {
            watch_event::Kind::Batch(batch) => {
                for output in &batch.outputs {
                    crate::say::text(print::batch(batch.time_ms, &output.rows, output.total).as_bytes())?;
                }
                self.last = Some(batch);
            }
            watch_event::Kind::Incident(incident) => {
                let after = self.killed.map_or(0, |(_, at_ms)| (incident.at_ms - at_ms).max(0));
                say!(
                    "=== the driver noticed after {after} ms ({}): {}\n",
                    incident.cause,
                    crate::watch::incident_line(&incident)
                )?;
            }
            watch_event::Kind::Recovered(incident) => {
                say!(
                    "=== {}: batch {} is complete, nothing is missing\n",
                    crate::watch::recovered_line(&incident),
                    incident.batch
                )?;
            }
            watch_event::Kind::Skipped(count) => say!("({count} batches were too fast to be shown)")?,
            watch_event::Kind::Ended(_) => {}
        }
        Ok(())
    }

    async fn strike(&mut self, job: &str) -> Result<(), Failure> {
        let victim = self.victim(job).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let pid = self.processes.kill_worker(victim)?;
        self.killed = Some((victim, now));
        say!("=== kill -9 {pid}: worker {victim} is gone, with its blocks and its state\n")?;
        Ok(())
    }

    async fn victim(&mut self, job: &str) -> Result<u64, Failure> {
        let request = StatusRequest { job: job.to_string() };
        let status = self.client.status(request).await.map_err(client::refused)?.into_inner().jobs;
        let receivers = status.iter().flat_map(|job| &job.sources).flat_map(|source| &source.receivers);
        let receiver = receivers.map(|receiver| receiver.worker).find(|worker| *worker != 0);
        let workers = self.client.workers(WorkersRequest {}).await.map_err(client::refused)?.into_inner().workers;
        let owner = workers.iter().filter(|worker| Some(worker.worker_id) != receiver).max_by_key(|w| w.owned_groups);
        let found = match self.args.kill {
            Victim::Receiver => receiver,
            _ => owner.map(|worker| worker.worker_id),
        };
        found.ok_or_else(|| Failure::failed("there is no such worker to kill"))
    }
}

/// What the job says of every user against what the producer counted, in whole cents.
fn compare(
    expected: &BTreeMap<String, (u64, u64)>,
    last: Option<&BatchOutput>,
    status: &JobStatus,
    total: u64,
) -> Done {
    let rows = last.iter().flat_map(|batch| &batch.outputs).flat_map(|output| &output.rows);
    let found: BTreeMap<String, (u64, u64)> = rows.filter_map(|row| user_row(row)).collect();
    say!("user       purchases  revenue (whole cents)")?;
    for (user, (count, cents)) in expected {
        let same = found.get(user) == Some(&(*count, *cents));
        let mark = if same { String::new() } else { format!("  but the job says {:?}", found.get(user)) };
        say!("{user:<10} {count:>9}  {cents:>12}{mark}")?;
    }
    let counters = status.counters.unwrap_or_default();
    say!(
        "\n{} batches, {} records; {} key groups moved, {} units of work run again on {} workers, {} block copies made again",
        status.batch,
        status.records,
        counters.groups_moved,
        counters.units_recomputed,
        counters.recomputing_workers,
        counters.blocks_copied
    )?;
    if &found == expected && status.records == total && status.state == "STOPPED" {
        say!("exact: every user's count and revenue (in whole cents) equal what the producer itself counted")?;
        return Ok(Outcome::Fine);
    }
    say!(
        "NOT exact: {} of {total} records, {} of {} users agree; {}",
        status.records,
        expected.iter().filter(|(user, totals)| found.get(*user) == Some(totals)).count(),
        expected.len(),
        status.reason
    )?;
    Ok(Outcome::Differs)
}

fn user_row(row: &str) -> Option<(String, (u64, u64))> {
    let Ordered(fields) = serde_json::from_str(row).ok()?;
    let field = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value);
    let cents = field("revenue").and_then(Value::as_f64)? * 100.0;
    Some((field("user")?.as_str()?.to_string(), (field("purchases")?.as_u64()?, cents.round() as u64)))
}
