//! `tidemill status`, `workers`, `stop` and `schema`.

use crate::cli::DriverUrl;
use crate::client;
use crate::exit::{Done, Failure, Outcome};
use crate::notes::{bad_by_source, sample_line};
use clap::Args;
use comfy_table::{Table, presets};
use serde::Serialize;
use tidemill_common::terminal::one_line;
use tidemill_plan::Functions;
use tidemill_proto::client::{JobStatus, StatusRequest, StopRequest, WorkersRequest};

/// Options of `tidemill status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Name or number of a job; all jobs without it.
    job: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    driver: DriverUrl,
}

pub(crate) async fn status(args: StatusArgs) -> Done {
    let mut client = client::connect(&args.driver.driver).await?;
    let request = StatusRequest { job: args.job.clone().unwrap_or_default() };
    let reply = client.status(request).await.map_err(client::refused)?.into_inner();
    if args.json {
        return print_json(&reply);
    }
    say!("cluster {}, term {}, {} workers", reply.cluster_id, reply.term, reply.workers)?;
    match (&args.job, reply.jobs.as_slice()) {
        (_, []) => say!("no jobs; submit one with `tidemill submit JOB.toml`")?,
        (Some(_), [job]) => show_job(job)?,
        (_, jobs) => {
            let rows = jobs.iter().map(|job| {
                vec![
                    job.job.to_string(),
                    job.name.clone(),
                    job.state.clone(),
                    job.batch.to_string(),
                    job.records.to_string(),
                    job.bad_records.to_string(),
                    job.state_keys.to_string(),
                    one_line(&job.reason).into_owned(),
                ]
            });
            show_table(&["job", "name", "state", "batch", "records", "bad", "keys", "why"], rows)?;
        }
    }
    Ok(Outcome::Fine)
}

fn show_job(job: &JobStatus) -> Result<(), Failure> {
    let reason = if job.reason.is_empty() { String::new() } else { format!(" ({})", one_line(&job.reason)) };
    say!("job {} `{}`: {}{reason}", job.job, job.name, job.state)?;
    say!("  batch {} at {} ms took {:.1} ms", job.batch, job.batch_time_ms, job.last_batch_micros as f64 / 1e3)?;
    say!("  records: {} received, {} in complete batches, {} bad", job.received_records, job.records, job.bad_records)?;
    say!(
        "  state: {} keys, checkpoint at batch {}, replay depth {}",
        job.state_keys,
        job.checkpoint,
        job.replay_depth
    )?;
    say!(
        "  copies: {} of {}, {} key groups to be filled; {} blocks retained",
        job.copies,
        job.copies_wanted,
        job.groups_to_fill,
        job.retained_blocks
    )?;
    for source in &job.sources {
        say!("  source {}: {}", source.name, source.delivery)?;
        for receiver in &source.receivers {
            let error = if receiver.last_error.is_empty() {
                String::new()
            } else {
                format!(", last error: {}", one_line(&receiver.last_error))
            };
            let rate = match receiver.rate {
                0.0 => String::new(),
                rate => format!(", at most {rate:.0} records/s"),
            };
            let bad_files = match receiver.bad_files {
                0 => String::new(),
                count => format!(", {count} files changed or not readable"),
            };
            say!(
                "  source {}/{}: {} on worker {}, epoch {}, offset {}, {} reconnects, {} lines discarded{rate}{bad_files}{error}",
                source.name,
                receiver.receiver,
                receiver.state,
                receiver.worker,
                receiver.epoch,
                receiver.offset,
                receiver.reconnects,
                receiver.discarded
            )?;
        }
    }
    for table in &job.tables {
        let since = match table.since {
            0 => "as it was submitted".to_string(),
            batch => format!("as of batch {batch}"),
        };
        let wrong = if table.wrong.is_empty() {
            String::new()
        } else {
            format!(", not as its file: {}", one_line(&table.wrong))
        };
        say!("  table {}: {since}{wrong}", table.name)?;
    }
    for output in &job.outputs {
        say!("  output {}: {} rows, {}", output.name, output.rows, output.delivery)?;
    }
    bad_by_source(job).iter().try_for_each(|line| say!("  {line}"))?;
    for bad in &job.bad_samples {
        say!("  of source `{}`, {}", bad.source, sample_line(bad))?;
    }
    if let Some(counters) = &job.counters {
        say!(
            "  faults: {} task failures, {} units run again on {} workers, {} key groups moved, {} blocks copied, {} fenced, {} steps back, {} rewinds",
            counters.task_failures,
            counters.units_recomputed,
            counters.recomputing_workers,
            counters.groups_moved,
            counters.blocks_copied,
            counters.fenced,
            counters.steps_back,
            counters.rewinds
        )?;
    }
    for incident in &job.incidents {
        say!("  {}", crate::watch::incident_line(incident))?;
        if incident.recovered_ms > 0 {
            say!("    {}", crate::watch::recovered_line(incident))?;
        }
    }
    Ok(())
}

/// Options of `tidemill workers`.
#[derive(Debug, Args)]
pub(crate) struct WorkersArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    driver: DriverUrl,
}

pub(crate) async fn workers(args: WorkersArgs) -> Done {
    let mut client = client::connect(&args.driver.driver).await?;
    let reply = client.workers(WorkersRequest {}).await.map_err(client::refused)?.into_inner();
    if args.json {
        return print_json(&reply);
    }
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let rows = reply.workers.iter().map(|worker| {
        vec![
            worker.worker_id.to_string(),
            worker.address.clone(),
            format!("{}/{}", worker.running_tasks, worker.slots),
            format!("{} + {}", worker.owned_groups, worker.followed_groups),
            worker.receivers.to_string(),
            worker.blocks.to_string(),
            mib(worker.block_memory_bytes),
            mib(worker.state_bytes),
            mib(worker.resident_bytes),
            format!("{} ms", worker.silent_ms),
        ]
    });
    let head = [
        "worker",
        "address",
        "tasks",
        "groups owned + followed",
        "receivers",
        "blocks",
        "in memory",
        "state",
        "resident",
        "heard",
    ];
    show_table(&head, rows)?;
    for worker in &reply.workers {
        if !worker.aside_jobs.is_empty() {
            let jobs: Vec<String> = worker.aside_jobs.iter().map(u64::to_string).collect();
            say!(
                "worker {} keeps aside what it has of jobs that this driver does not know: {}; {} blocks, {}",
                worker.worker_id,
                jobs.join(", "),
                worker.aside_blocks,
                mib(worker.aside_bytes)
            )?;
        }
        if worker.damaged > 0 {
            say!(
                "worker {} has found {} damaged blocks or checkpoints, and uses none of them",
                worker.worker_id,
                worker.damaged
            )?;
        }
    }
    Ok(Outcome::Fine)
}

/// Options of `tidemill stop`.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Name or number of the job.
    job: String,
    /// Do not wait for what was received.
    #[arg(long)]
    now: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    driver: DriverUrl,
}

pub(crate) async fn stop(args: StopArgs) -> Done {
    let mut client = client::connect(&args.driver.driver).await?;
    let request = StopRequest { job: args.job, now: args.now };
    let job = client.stop(request).await.map_err(client::refused)?.into_inner().job.unwrap_or_default();
    if args.json {
        print_json(&job)?;
    } else if job.reason.is_empty() {
        say!(
            "job `{}` stopped after batch {}; all {} received records are in its results",
            job.name,
            job.batch,
            job.records
        )?;
    } else {
        say!("job `{}` stopped after batch {}: {}", job.name, job.batch, one_line(&job.reason))?;
    }
    Ok(if job.state == "FAILED" { Outcome::Failed } else { Outcome::Fine })
}

/// `tidemill schema`.
pub(crate) fn schema(functions: &Functions) -> Done {
    print_json(&tidemill_job::schema(functions.connectors(), tidemill_ml::families::schemas()))
}

fn print_json(value: &impl Serialize) -> Done {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::failed(error.to_string()))?;
    say!("{text}")?;
    Ok(Outcome::Fine)
}

fn show_table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Result<(), Failure> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(head);
    for row in rows {
        table.add_row(row);
    }
    say!("{table}")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tidemill_connect::Connectors;

    /// A parameter with the name of a key of every model could not be given.
    #[test]
    fn no_parameter_of_a_model_hides_a_key() {
        let schema = tidemill_job::schema(&Connectors::default(), [("none", Value::Null)]);
        let keys = &schema["properties"]["model"]["additionalProperties"]["oneOf"][0]["properties"];
        let keys: Vec<&String> = keys.as_object().into_iter().flat_map(serde_json::Map::keys).collect();
        assert!(keys.iter().any(|key| *key == "initial"), "{keys:?}");
        for (family, parameters) in tidemill_ml::families::schemas() {
            let hidden = keys.iter().find(|key| parameters["properties"].get(key.as_str()).is_some());
            assert_eq!(hidden, None, "{family}: a key of every model, which is no name for a parameter");
        }
    }
}
