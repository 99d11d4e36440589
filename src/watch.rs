//! `tidemill submit` and `tidemill watch`: what a job puts out, as it happens.

use crate::cli::{DriverUrl, interrupted};
use crate::client::{self, Client};
use crate::definition::Definition;
use crate::exit::{Done, Failure, Outcome};
use crate::keep::{Keep, KeepArgs};
use crate::notes::{self, Notes};
use crate::print;
use clap::Args;
use serde_json::{Map, Value};
use std::io::Write;
use std::path::PathBuf;
use tidemill_common::terminal::one_line;
use tidemill_driver::MAX_WATCHED_ROWS;
use tidemill_job::Target;
use tidemill_plan::{CompiledJob, Functions};
use tidemill_proto::client::{
    BatchOutput, Incident, JobStatus, OutputBatch, StatusRequest, StopRequest, SubmitRequest, WatchRequest, watch_event,
};

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
    let definition = Definition::read(&args.job, functions)?;
    let compiled = definition.compile(functions)?;
    args.keep.check(&printed(&compiled))?;
    definition.warn(&compiled);
    let mut client = client::connect(&args.driver.driver).await?;
    let watched_rows = if args.watch { watched_rows(args.json, &args.keep) } else { args.keep.watched_rows() };
    let request = SubmitRequest { watched_rows, ..definition.request(&compiled, false) };
    let submitted = client.submit(request).await.map_err(client::refused)?.into_inner();
    if args.json {
        say!("{}", serde_json::json!({"job": submitted.job, "name": submitted.name}))?;
    } else {
        say!("job {} `{}` is running", submitted.job, submitted.name)?;
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

/// The outputs of a job that show rows.
pub(crate) fn printed(compiled: &CompiledJob) -> Vec<String> {
    let outputs = compiled.def.outputs.iter().filter(|output| matches!(output.target, Target::Print { .. }));
    outputs.map(|output| output.name.text.clone()).collect()
}

/// Rows of a batch that are wanted of a job that is started to be watched like this; 0 for those that `print` shows.
pub(crate) fn watched_rows(json: bool, keep: &KeepArgs) -> u32 {
    if json { MAX_WATCHED_ROWS } else { keep.watched_rows() }
}

/// How printing has ended.
enum Printed {
    /// The job has ended.
    Ended(Outcome),
    /// As many batches were printed as were wanted.
    Enough,
}

/// Prints until the job ends or the user has had enough; the job goes on then.
async fn follow(client: &mut Client, job: &str, json: bool, keep: &KeepArgs) -> Done {
    let mut kept = Keep::new(keep, json);
    let done = tokio::select! {
        () = interrupted() => Ok(Outcome::Fine),
        done = print_events(client, job, json, keep, |batch| {
            kept.batch(batch);
            true
        }) => done.map(|printed| match printed {
            Printed::Ended(outcome) => outcome,
            Printed::Enough => Outcome::Fine,
        }),
    };
    kept.finish()?;
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
    let mut kept = Keep::new(keep, json);
    let done = print_and_stop(client, job, json, batches, &mut kept).await;
    kept.finish()?;
    done
}

async fn print_and_stop(client: &mut Client, job: &str, json: bool, batches: Option<u64>, keep: &mut Keep<'_>) -> Done {
    let mut stopper = client.clone();
    let mut seen = 0;
    let args = keep.args();
    let enough = |batch: &BatchOutput| {
        keep.batch(batch);
        seen += 1;
        batches.is_none_or(|batches| seen < batches)
    };
    let enough = tokio::select! {
        () = interrupted() => false,
        printed = print_events(client, job, json, args, enough) => match printed? {
            Printed::Ended(outcome) => return Ok(outcome),
            Printed::Enough => true,
        }
    };
    let request = StopRequest { job: job.to_string(), now: batches.is_some() };
    let stopped = tokio::select! {
        () = interrupted() => return Ok(Outcome::Fine),
        stopped = stopper.stop(request) => stopped,
    };
    match stopped {
        Ok(stopped) => Ok(ended(&stopped.into_inner().job.unwrap_or_default(), json || batches.is_some())),
        // What was wanted is there; what a later batch has come to does not matter any more.
        Err(_) if enough => Ok(Outcome::Fine),
        Err(error) => Err(client::refused(error)),
    }
}

async fn print_events(
    client: &mut Client,
    job: &str,
    json: bool,
    keep: &KeepArgs,
    mut go_on: impl FnMut(&BatchOutput) -> bool,
) -> Result<Printed, Failure> {
    let request = WatchRequest { job: job.to_string() };
    let mut events = client.watch(request).await.map_err(client::refused)?.into_inner();
    let status = client.status(StatusRequest { job: job.to_string() }).await.map_err(client::refused)?.into_inner();
    let printed: Vec<String> = status.jobs.iter().flat_map(notes::printed_outputs).collect();
    if !status.jobs.iter().all(|job| job.outputs.is_empty()) {
        keep.check(&printed)?;
    }
    let mut notes = Notes::default();
    loop {
        let event = events.message().await.map_err(|_| driver_gone())?;
        match event.and_then(|event| event.kind) {
            Some(watch_event::Kind::Batch(batch)) => {
                print_batch(&batch, json, printed.len() > 1)?;
                notes.batch(&batch, &printed);
                if !go_on(&batch) {
                    return Ok(Printed::Enough);
                }
            }
            Some(watch_event::Kind::Incident(incident)) => note!("{}", incident_line(&incident)),
            Some(watch_event::Kind::Recovered(incident)) => note!("{}", recovered_line(&incident)),
            Some(watch_event::Kind::Skipped(count)) => {
                note!("{count} batches were too fast for this watcher and are not shown")
            }
            Some(watch_event::Kind::Ended(status)) => return Ok(Printed::Ended(ended(&status, json))),
            None => return Err(driver_gone()),
        }
    }
}

fn driver_gone() -> Failure {
    Failure::unavailable("the driver has gone away; the job goes on when it is back")
}

/// The rows of a batch; each output under its name where a job has several.
fn print_batch(batch: &BatchOutput, json: bool, names: bool) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    for output in &batch.outputs {
        if json {
            writeln!(out, "{}", batch_line(batch, output))?;
            continue;
        }
        if names {
            writeln!(out, "{}", output.name)?;
        }
        let shown = output.rows.len().min(output.shown as usize);
        write!(out, "{}", print::batch(batch.time_ms, &output.rows[..shown], output.total))?;
    }
    Ok(out.flush()?)
}

/// A batch of one output as a line of JSON, with `rows_total` where rows are cut off, and `bad_records` by source where
/// the batch has any.
fn batch_line(batch: &BatchOutput, output: &OutputBatch) -> String {
    let mut line = json_line(batch.batch, batch.time_ms, &output.name, &output.rows);
    line.pop();
    if output.total > output.rows.len() as u64 {
        line += &format!(r#", "rows_total": {}"#, output.total);
    }
    if !batch.bad.is_empty() {
        let bad: Map<_, _> = batch.bad.iter().map(|bad| (bad.source.clone(), bad.count.into())).collect();
        line += &format!(r#", "bad_records": {}"#, Value::Object(bad));
    }
    line.push('}');
    line
}

/// A batch of one output as a line of JSON; `rows` are JSON objects already.
pub(crate) fn json_line(batch: u64, time_ms: i64, output: &str, rows: &[String]) -> String {
    let output = Value::from(output);
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
    notes::bad_by_source(status).iter().for_each(|line| note!("{line}"));
    let reason = one_line(&status.reason);
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    if status.state == "FAILED" {
        note!("job `{}` failed{reason}", status.name);
        return Outcome::Failed;
    }
    if !quiet {
        note!("job `{}` stopped after batch {} ({} records){reason}", status.name, status.batch, status.records);
    }
    Outcome::Fine
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_proto::client::BadRecords;

    #[test]
    fn a_line_says_what_it_leaves_out() {
        let output = OutputBatch { name: "n".into(), rows: vec![r#"{"a":1}"#.into()], total: 3, shown: 1 };
        let mut batch = BatchOutput { batch: 2, time_ms: 2000, ..BatchOutput::default() };
        let whole = OutputBatch { total: 1, ..output.clone() };
        assert_eq!(batch_line(&batch, &whole), r#"{"batch": 2, "time_ms": 2000, "output": "n", "rows": [{"a":1}]}"#);
        batch.bad.push(BadRecords { source: "in".into(), count: 2, ..BadRecords::default() });
        let line = r#"{"batch": 2, "time_ms": 2000, "output": "n", "rows": [{"a":1}], "rows_total": 3, "bad_records": {"in":2}}"#;
        assert_eq!(batch_line(&batch, &output), line);
    }
}
