//! `tidemill submit` and `tidemill watch`: what a job puts out, as it happens.

use crate::cli::{DriverUrl, interrupted};
use crate::client::{self, Client};
use crate::definition::Definition;
use crate::exit::{Done, Failure, Outcome};
use crate::keep::{Keep, KeepArgs};
use crate::print;
use clap::Args;
use std::io::Write;
use std::path::PathBuf;
use tidemill_plan::Functions;
use tidemill_proto::client::{BatchOutput, Incident, JobStatus, StopRequest, WatchRequest, watch_event};

/// Options of `tidemill submit`.
#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    /// The definition.
    job: PathBuf,
    /// Stay and print every batch; so do `--summary` and `--plot`.
    #[arg(long)]
    watch: bool,
    /// Print JSON lines.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    keep: KeepArgs,
    #[command(flatten)]
    driver: DriverUrl,
}

pub(crate) async fn submit(args: SubmitArgs, functions: &Functions) -> Done {
    let definition = Definition::read(&args.job)?;
    let compiled = definition.compile(functions)?;
    let mut client = client::connect(&args.driver.driver).await?;
    let submitted = client.submit(definition.request(&compiled, false)).await.map_err(client::refused)?.into_inner();
    if args.json {
        println!("{}", serde_json::json!({"job": submitted.job, "name": submitted.name}));
    } else {
        println!("job {} `{}` is running", submitted.job, submitted.name);
    }
    if args.watch || args.keep.is_wanted() {
        return follow(&mut client, &submitted.job.to_string(), args.json, &args.keep).await;
    }
    Ok(Outcome::Fine)
}

/// Options of `tidemill watch`.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Name or number of the job.
    job: String,
    /// Print JSON lines.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    keep: KeepArgs,
    #[command(flatten)]
    driver: DriverUrl,
}

pub(crate) async fn watch(args: WatchArgs) -> Done {
    let mut client = client::connect(&args.driver.driver).await?;
    follow(&mut client, &args.job, args.json, &args.keep).await
}

/// Prints until the job ends or the user has had enough; the job goes on then.
async fn follow(client: &mut Client, job: &str, json: bool, keep: &KeepArgs) -> Done {
    let mut keep = Keep::new(keep, json);
    let done = tokio::select! {
        () = interrupted() => Ok(Outcome::Fine),
        done = print_events(client, job, json, |batch| {
            keep.batch(batch);
            true
        }) => done,
    };
    keep.finish()?;
    done
}

/// Prints until the job ends; Ctrl-C, or so many batches, stop it (once in order, twice at once).
pub(crate) async fn until_ended(
    client: &mut Client,
    job: &str,
    json: bool,
    batches: Option<u64>,
    keep: &KeepArgs,
) -> Done {
    let mut keep = Keep::new(keep, json);
    let done = print_and_stop(client, job, json, batches, &mut keep).await;
    keep.finish()?;
    done
}

async fn print_and_stop(client: &mut Client, job: &str, json: bool, batches: Option<u64>, keep: &mut Keep<'_>) -> Done {
    let mut stopper = client.clone();
    let mut seen = 0;
    let enough = |batch: &BatchOutput| {
        keep.batch(batch);
        seen += 1;
        batches.is_none_or(|batches| seen < batches)
    };
    tokio::select! {
        () = interrupted() => {}
        done = print_events(client, job, json, enough) => {
            if batches.is_none() || done.is_err() {
                return done;
            }
        }
    }
    let request = StopRequest { job: job.to_string(), now: batches.is_some() };
    let stopped = tokio::select! {
        () = interrupted() => return Ok(Outcome::Fine),
        stopped = stopper.stop(request) => stopped,
    };
    let status = stopped.map_err(client::refused)?.into_inner().job.unwrap_or_default();
    Ok(ended(&status, json || batches.is_some()))
}

async fn print_events(client: &mut Client, job: &str, json: bool, mut go_on: impl FnMut(&BatchOutput) -> bool) -> Done {
    let request = WatchRequest { job: job.to_string() };
    let mut events = client.watch(request).await.map_err(client::refused)?.into_inner();
    loop {
        let event = events.message().await.map_err(|_| driver_gone())?;
        match event.and_then(|event| event.kind) {
            Some(watch_event::Kind::Batch(batch)) => {
                print_batch(&batch, json)?;
                if !go_on(&batch) {
                    return Ok(Outcome::Fine);
                }
            }
            Some(watch_event::Kind::Incident(incident)) => eprintln!("{}", incident_line(&incident)),
            Some(watch_event::Kind::Recovered(incident)) => eprintln!("{}", recovered_line(&incident)),
            Some(watch_event::Kind::Skipped(count)) => {
                eprintln!("{count} batches were too fast for this watcher and are not shown")
            }
            Some(watch_event::Kind::Ended(status)) => return Ok(ended(&status, json)),
            None => return Err(driver_gone()),
        }
    }
}

fn driver_gone() -> Failure {
    Failure::unavailable("the driver has gone away; the job goes on when it is back")
}

fn print_batch(batch: &BatchOutput, json: bool) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    if json {
        for output in &batch.outputs {
            writeln!(out, "{}", json_line(batch.batch, batch.time_ms, &output.name, &output.rows))?;
        }
    } else {
        for output in &batch.outputs {
            if batch.outputs.len() > 1 {
                writeln!(out, "{}", output.name)?;
            }
            write!(out, "{}", print::batch(batch.time_ms, &output.rows, output.total))?;
        }
    }
    Ok(out.flush()?)
}

/// A batch of one output as a line of JSON; `rows` are JSON objects already.
pub(crate) fn json_line(batch: u64, time_ms: i64, output: &str, rows: &[String]) -> String {
    let output = serde_json::Value::from(output);
    format!(r#"{{"batch": {batch}, "time_ms": {time_ms}, "output": {output}, "rows": [{}]}}"#, rows.join(", "))
}

pub(crate) fn incident_line(incident: &Incident) -> String {
    format!(
        "worker {} lost ({}, last heard {} ms before) in batch {}: {} key groups taken over, {} units run again, {} block copies to be made again, {} receivers moved",
        incident.worker,
        incident.cause,
        incident.silent_ms,
        incident.batch,
        incident.groups_moved,
        incident.units_recomputed,
        incident.blocks_to_copy,
        incident.receivers_moved
    )
}

pub(crate) fn recovered_line(incident: &Incident) -> String {
    format!("first complete batch {} ms after worker {} was lost", incident.recovered_ms, incident.worker)
}

fn ended(status: &JobStatus, quiet: bool) -> Outcome {
    let reason = if status.reason.is_empty() { String::new() } else { format!(": {}", status.reason) };
    if status.state == "FAILED" {
        eprintln!("job `{}` failed{reason}", status.name);
        return Outcome::Failed;
    }
    if !quiet {
        eprintln!("job `{}` stopped after batch {} ({} records){reason}", status.name, status.batch, status.records);
    }
    Outcome::Fine
}
