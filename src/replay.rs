//! `tidemill replay`: a job on given batches, on the real driver and workers, with a manual clock.
//!
//! Every source becomes a manual receiver that is fed batch by batch; every output is captured. Standard
//! output does not depend on the number of workers, nor on a worker being killed.

use crate::client::{self, Client};
use crate::cluster::Cluster;
use crate::definition::Definition;
use crate::exit::{Done, Failure, Outcome};
use crate::notes;
use crate::watch::json_line;
use clap::Args;
use expect::Expected;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use strike::Strike;
use tidemill_common::ids::JobId;
use tidemill_common::terminal;
use tidemill_driver::core::CoreConfig;
use tidemill_job::Format;
use tidemill_plan::{CompiledJob, Functions};
use tidemill_proto::client::{
    BatchOutput, ImportModelRequest, JobStatus, StatusRequest, WatchEvent, WatchRequest, watch_event,
};
use tidemill_proto::common::{ErrorKind, ReceiverRef};
use tidemill_proto::data::{FeedRequest, data_client::DataClient};
use tidemill_proto::error_kind;
use tonic::Streaming;

mod expect;
mod strike;
#[cfg(test)]
mod tests;

/// A batch that takes longer than this has failed.
const BATCH_DEADLINE: Duration = Duration::from_secs(60);

/// Options of `tidemill replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The definition.
    job: PathBuf,
    /// Batches of raw records per source: {"sources": {"NAME": [["record", ...], ...]}}; models that are imported on the
    /// way: {"imports": [{"batch": 2, "model": "NAME", "document": {...}}]}.
    #[arg(long)]
    input: PathBuf,
    /// Batches to run; by default as many as the longest list has.
    #[arg(long)]
    batches: Option<u64>,
    /// Workers.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// In this batch, kill the worker with the most key groups between map and reduce.
    #[arg(long)]
    kill: Option<u64>,
    /// Compare the outputs with this file of JSON lines.
    #[arg(long)]
    expect: Option<PathBuf>,
    /// With --expect: rows must come in the same order.
    #[arg(long, requires = "expect")]
    ordered: bool,
    /// With --expect: doubles may differ by this much, relatively.
    #[arg(long, requires = "expect", default_value_t = 0.0)]
    tolerance: f64,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    sources: BTreeMap<String, Vec<Vec<String>>>,
    #[serde(default)]
    imports: Vec<Import>,
}

/// A model that is imported before a batch.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Import {
    batch: u64,
    model: String,
    document: serde_json::Value,
}

pub(crate) async fn run(args: ReplayArgs, functions: Functions) -> Done {
    let definition = Definition::read(&args.job, &functions)?;
    let compiled = definition.compile(&functions)?;
    let input = read_input(&args.input, &compiled)?;
    let expected = args.expect.as_deref().map(Expected::read).transpose()?;
    let longest = input.sources.values().map(Vec::len).max().unwrap_or(0) as u64;
    let batches = args.batches.unwrap_or(longest);
    if args.workers == 0 {
        return Err(Failure::usage("--workers must be at least 1"));
    }
    if args.kill.is_some() && args.workers == 1 {
        return Err(Failure::usage("--kill needs --workers 2 or more: nobody could take over from the only worker"));
    }
    if args.kill.is_some_and(|kill| kill == 0 || kill > batches) {
        return Err(Failure::usage(format!("--kill must name a batch between 1 and {batches}")));
    }
    let strike = Arc::new(Strike::new(args.kill));
    // All is one process: a worker is gone when it is struck, and silent only when the machine is too busy.
    let worker_timeout_us = BATCH_DEADLINE.as_micros() as u64;
    let core =
        CoreConfig { manual_clock: true, recovery_wait_us: 5_000_000, worker_timeout_us, ..CoreConfig::default() };
    let hook = {
        let strike = strike.clone();
        Arc::new(move |message: &_| strike.before_send(message))
    };
    let cluster = Cluster::start(args.workers, core, Some(hook), functions).await?;
    let mut replay = Replay::start(cluster, strike, &definition, &compiled, input).await?;
    let mut lines = Vec::new();
    let mut failed = None;
    for number in 1..=batches {
        match replay.batch(number).await {
            Ok(of_batch) => lines.extend(of_batch),
            Err(failure) => {
                failed = Some(failure);
                break;
            }
        }
    }
    let status = replay.end().await;
    if let Ok(status) = &status {
        print_bad_records(status);
    }
    if expected.is_none() {
        // Also of a run that has failed: what was complete then.
        print_lines(&lines)?;
    }
    if let Some(failure) = failed {
        return Err(failure);
    }
    check_copies(&status?)?;
    match expected {
        None => Ok(Outcome::Fine),
        Some(expected) => expected.compare(&lines, args.ordered, args.tolerance),
    }
}

fn print_lines(lines: &[String]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}

/// How many records were bad, by source, and some of them.
fn print_bad_records(status: &JobStatus) {
    for line in notes::bad_by_source(status) {
        note!("{line}");
    }
    for bad in &status.bad_samples {
        note!("  of source `{}`, {}", bad.source, notes::sample_line(bad));
    }
}

fn read_input(path: &std::path::Path, compiled: &CompiledJob) -> Result<Input, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
    let input: Input = serde_json::from_str(&text).map_err(|error| {
        Failure::usage(format!(
            "{}: {error}; expected {{\"sources\": {{\"NAME\": [[\"record\", ...], ...]}}}}",
            path.display()
        ))
    })?;
    for name in input.sources.keys() {
        if compiled.def.source(name).is_none() {
            let known: Vec<&str> = compiled.def.sources.iter().map(|source| source.name.text.as_str()).collect();
            return Err(Failure::usage(format!(
                "{}: the job has no source `{name}`; it has {}",
                path.display(),
                known.join(", ")
            )));
        }
    }
    for (name, batches) in &input.sources {
        // A quoted field of csv may have line breaks.
        let csv = compiled.def.source(name).is_some_and(|source| matches!(source.format, Format::Csv { .. }));
        if let Some(record) = batches.iter().flatten().find(|record| !csv && record.contains('\n')) {
            return Err(Failure::usage(format!(
                "{}: a record of source `{name}` has a line break: {record:?}",
                path.display()
            )));
        }
    }
    Ok(input)
}

/// All blocks had their copies, and the work was shared, unless a worker was killed or there was only one.
fn check_copies(status: &JobStatus) -> Result<(), Failure> {
    let counters = status.counters.unwrap_or_default();
    tracing::info!(
        blocks = counters.blocks,
        held_twice = counters.blocks_held_twice,
        workers = counters.workers_used,
        "replay done"
    );
    let disturbed = !status.incidents.is_empty() || status.copies < 2;
    if !disturbed && counters.blocks_held_twice < counters.blocks {
        return Err(Failure::failed(format!(
            "only {} of {} blocks were held twice",
            counters.blocks_held_twice, counters.blocks
        )));
    }
    Ok(())
}

struct Replay {
    cluster: Cluster,
    strike: Arc<Strike>,
    client: Client,
    events: Streaming<WatchEvent>,
    job: JobId,
    interval_ms: i64,
    sources: Vec<Vec<Vec<String>>>,
    imports: Vec<Import>,
}

impl Replay {
    async fn start(
        cluster: Cluster,
        strike: Arc<Strike>,
        definition: &Definition,
        compiled: &CompiledJob,
        mut input: Input,
    ) -> Result<Self, Failure> {
        let mut client = client::connect(&cluster.url()).await?;
        let submitted = client.submit(definition.request(compiled, true)).await.map_err(client::refused)?.into_inner();
        let request = WatchRequest { job: submitted.job.to_string() };
        let events = client.watch(request).await.map_err(client::refused)?.into_inner();
        let take = |source: &tidemill_job::SourceDef| input.sources.remove(&source.name.text).unwrap_or_default();
        let sources = compiled.def.sources.iter().map(take).collect();
        let interval_ms = compiled.def.settings.batch_interval.as_millis() as i64;
        let (job, imports) = (JobId(submitted.job), input.imports);
        Ok(Self { cluster, strike, client, events, job, interval_ms, sources, imports })
    }

    /// Feeds and runs one batch; gives back its output lines.
    async fn batch(&mut self, number: u64) -> Result<Vec<String>, Failure> {
        self.feed(number).await?;
        self.import(number).await?;
        let time_ms = number as i64 * self.interval_ms;
        if self.strike.is_due(number) {
            let owner = self.strike.busiest().ok_or_else(nothing_to_lose)?;
            let worker = self.cluster.take_worker(owner).ok_or_else(nothing_to_lose)?;
            self.strike.arm(number, worker);
        }
        self.cluster.driver.manual_tick(self.job, time_ms).await;
        let deadline = tokio::time::timeout(BATCH_DEADLINE, self.complete(number)).await;
        let output = deadline
            .map_err(|_| Failure::failed(format!("batch {number} did not complete within {BATCH_DEADLINE:?}")))??;
        if self.strike.is_due(number) {
            self.after_strike(number).await?;
        }
        let lines = output.outputs.iter().map(|output| json_line(number, time_ms, &output.name, &output.rows));
        Ok(lines.collect())
    }

    async fn complete(&mut self, number: u64) -> Result<BatchOutput, Failure> {
        loop {
            let event = self.events.message().await.map_err(client::refused)?;
            match event.and_then(|event| event.kind) {
                Some(watch_event::Kind::Batch(batch)) if batch.batch == number => return Ok(batch),
                Some(watch_event::Kind::Ended(status)) => {
                    let batch = format!("batch {number}");
                    // Most reasons name it themselves.
                    let reason = status.reason.strip_prefix(&format!("{batch}: ")).unwrap_or(&status.reason);
                    return Err(Failure::failed(format!("the job ended in {batch}: {}", terminal::lines(reason))));
                }
                Some(_) => {}
                None => return Err(Failure::failed("the driver has gone away")),
            }
        }
    }

    /// Hands each source its records of this batch, and waits until they are held and logged.
    async fn feed(&mut self, number: u64) -> Result<(), Failure> {
        for source in 0..self.sources.len() {
            let records = self.sources[source].get(number as usize - 1).cloned().unwrap_or_default();
            if records.is_empty() {
                continue;
            }
            let receiver = Some(ReceiverRef { job: self.job.0, source: source as u32, receiver: 0 });
            let request = FeedRequest { receiver, records };
            let fed = tokio::time::timeout(BATCH_DEADLINE, self.feed_somewhere(request)).await;
            fed.map_err(|_| Failure::failed(format!("no receiver took the records of batch {number}")))??;
        }
        Ok(())
    }

    /// Imports the models that this batch begins with.
    async fn import(&mut self, number: u64) -> Result<(), Failure> {
        for import in self.imports.iter().filter(|import| import.batch == number) {
            let (model, document) = (import.model.clone(), import.document.to_string());
            let request = ImportModelRequest { job: self.job.to_string(), model, document };
            self.client.import_model(request).await.map_err(client::refused)?;
        }
        Ok(())
    }

    /// The receiver runs on one of the workers, or will in a moment.
    async fn feed_somewhere(&mut self, request: FeedRequest) -> Result<(), Failure> {
        loop {
            let addresses: Vec<_> = self.cluster.workers().iter().map(|worker| worker.address()).collect();
            for address in addresses {
                let connected = DataClient::connect(format!("http://{address}")).await;
                let mut client = connected
                    .map_err(|error| Failure::failed(error.to_string()))?
                    .max_encoding_message_size(tidemill_proto::MAX_MESSAGE_BYTES);
                match client.feed(request.clone()).await {
                    Ok(_) => return Ok(()),
                    Err(error) if error_kind(&error) == Some(ErrorKind::ErrorNotReady) => {}
                    Err(error) => return Err(client::refused(error)),
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Says what was lost, and lets a fresh worker join.
    async fn after_strike(&mut self, number: u64) -> Result<(), Failure> {
        if !self.strike.fired() {
            return Err(nothing_to_lose());
        }
        let status = self.status().await?;
        let incident = status.incidents.last().cloned().unwrap_or_default();
        note!(
            "{}",
            serde_json::json!({
                "batch": number,
                "killed_worker": incident.worker,
                "key_groups_taken_over": incident.groups_moved,
                "units_recomputed": status.counters.unwrap_or_default().units_recomputed,
                "block_copies_lost": incident.blocks_to_copy,
                "receivers_moved": incident.receivers_moved,
                "recovered_ms": incident.recovered_ms,
            })
        );
        self.cluster.add_worker().await?;
        Ok(())
    }

    async fn status(&mut self) -> Result<JobStatus, Failure> {
        let request = StatusRequest { job: self.job.to_string() };
        let reply = self.client.status(request).await.map_err(client::refused)?.into_inner();
        reply.jobs.into_iter().next().ok_or_else(|| Failure::failed("the job is not known any more"))
    }

    async fn end(mut self) -> Result<JobStatus, Failure> {
        let status = self.status().await;
        self.cluster.shutdown().await;
        status
    }
}

fn nothing_to_lose() -> Failure {
    Failure::failed(
        "--kill had nothing to lose: no worker holds key groups between map and reduce of this job in that batch",
    )
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
