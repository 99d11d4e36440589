//! Rows that leave the engine: to the driver as JSON, or into part files.

use crate::jobs::Job;
use crate::node::Node;
use crate::stateful::binary;
use crate::tasks::TaskError;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::SchemaRef;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use tidemill_common::ids::{BatchId, JobId, OutputIdx};
use tidemill_common::job::{Durability, Sink};
use tidemill_common::layout::attempts_dir;
use tidemill_plan::registry::Batch;
use tidemill_plan::{KEY_COLUMN, rows_to_json};
use tidemill_proto::control as pb;

/// Rows of one unit for one output.
pub(crate) struct OutputRecords {
    pub(crate) output: OutputIdx,
    pub(crate) order: u64,
    pub(crate) rows: Vec<RecordBatch>,
}

/// Puts the rows of a task into its report, or into part files. `records` are in order of unit.
pub(crate) async fn deliver(
    node: &Arc<Node>,
    job: &Arc<Job>,
    task: &pb::Task,
    records: Vec<OutputRecords>,
    done: &mut pb::TaskDone,
) -> Result<(), TaskError> {
    if task.suppress_outputs {
        return Ok(());
    }
    for (number, output) in job.plan.outputs.iter().enumerate() {
        let number = OutputIdx(number as u32);
        let mine: Vec<&OutputRecords> = records.iter().filter(|records| records.output == number).collect();
        match &output.sink {
            Sink::Json { path } if !job.capture => {
                if let Some(part) = write_part(node, job, task, number, path, &mine).await? {
                    done.parts.push(part);
                }
            }
            Sink::ForEachBatch(function) if !job.capture => {
                show(node, job, task, &function.text, &output.schema, &mine).await?;
            }
            sink => {
                let limit = match sink {
                    Sink::Print { rows } if !job.capture => *rows as usize,
                    _ => usize::MAX,
                };
                for unit in mine {
                    done.rows.push(rows_of(unit, limit)?);
                }
            }
        }
    }
    Ok(())
}

/// Calls a registered function with the rows of the batch, which are all here.
async fn show(
    node: &Arc<Node>,
    job: &Job,
    task: &pb::Task,
    function: &str,
    schema: &SchemaRef,
    units: &[&OutputRecords],
) -> Result<(), TaskError> {
    let handler = node.config.functions.batch_handler(function).cloned();
    let handler = handler.ok_or_else(|| TaskError::Internal(format!("there is no function `{function}`")))?;
    let rows = units.iter().flat_map(|unit| &unit.rows).map(visible).collect::<Result<Vec<_>, _>>()?;
    let batch = Batch {
        job: job.id,
        batch: BatchId(task.batch),
        time_ms: task.time_ms,
        attempt: task.task_id,
        records: concat_batches(schema, rows.iter().map(|(batch, _)| batch))?,
    };
    let called = node.blocking(move |_| handler.call(&batch)).await;
    let called = called.map_err(|error| TaskError::Internal(format!("`{function}`: {}", error.message())))?;
    called.map_err(|error| TaskError::Resources(format!("`{function}`: {error}")))
}

/// Visible columns, and the encoded keys where the rows have them.
fn visible(batch: &RecordBatch) -> Result<(RecordBatch, Option<datafusion::arrow::array::BinaryArray>), TaskError> {
    let last = batch.num_columns().checked_sub(1);
    match last.filter(|last| batch.schema().field(*last).name() == KEY_COLUMN) {
        Some(last) => {
            let columns: Vec<usize> = (0..last).collect();
            Ok((batch.project(&columns)?, Some(binary(batch.column(last))?)))
        }
        None => Ok((batch.clone(), None)),
    }
}

fn rows_of(unit: &OutputRecords, limit: usize) -> Result<pb::OutputRows, TaskError> {
    let total: usize = unit.rows.iter().map(RecordBatch::num_rows).sum();
    let mut rows =
        pb::OutputRows { output: unit.output.0, order: unit.order, total: total as u64, ..pb::OutputRows::default() };
    // Rows of several key groups are in order of group: only the whole can be cut by key.
    let mut keyed: Vec<(bytes::Bytes, String)> = Vec::new();
    for batch in &unit.rows {
        let (batch, keys) = visible(batch)?;
        match keys {
            Some(keys) => keyed.extend(first_by_key(&batch, &keys, limit)?),
            None => {
                let room = limit.saturating_sub(rows.rows.len()).min(batch.num_rows());
                rows.rows.extend(rows_to_json(&batch.slice(0, room))?);
            }
        }
    }
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    keyed.truncate(limit);
    for (key, row) in keyed {
        rows.keys.push(key);
        rows.rows.push(row);
    }
    Ok(rows)
}

fn first_by_key(
    batch: &RecordBatch,
    keys: &datafusion::arrow::array::BinaryArray,
    limit: usize,
) -> Result<Vec<(bytes::Bytes, String)>, TaskError> {
    let mut order: Vec<u32> = (0..batch.num_rows() as u32).collect();
    let by_key = |a: &u32, b: &u32| keys.value(*a as usize).cmp(keys.value(*b as usize)).then(a.cmp(b));
    if limit < order.len() {
        order.select_nth_unstable_by(limit, by_key);
        order.truncate(limit);
    }
    order.sort_unstable_by(by_key);
    let chosen = datafusion::arrow::array::UInt32Array::from(order);
    let rows = rows_to_json(&datafusion::arrow::compute::take_record_batch(batch, &chosen)?)?;
    let key = |row: &u32| bytes::Bytes::copy_from_slice(keys.value(*row as usize));
    Ok(chosen.values().iter().map(key).zip(rows).collect())
}

async fn write_part(
    node: &Arc<Node>,
    job: &Arc<Job>,
    task: &pb::Task,
    output: OutputIdx,
    path: &str,
    records: &[&OutputRecords],
) -> Result<Option<pb::OutputPart>, TaskError> {
    let mut lines = Vec::new();
    for unit in records {
        lines.extend(rows_of(unit, usize::MAX)?.rows);
    }
    if lines.is_empty() {
        return Ok(None);
    }
    let rows = lines.len() as u64;
    let folder = attempts_dir(&job.base_dir.join(path), JobId(task.job), BatchId(task.batch));
    let file = format!("{:04}-{:020}-{}", task.stage, task.task_id, output);
    let place = folder.join(&file);
    let sync = job.plan.def.settings.durability == Durability::Disk;
    let written = node.blocking(move |_| write_lines(&folder, &place, &lines, sync).map_err(|e| (place, e))).await;
    match written.map_err(|error| TaskError::Internal(error.message().into()))? {
        Ok(()) => Ok(Some(pb::OutputPart { output: output.0, file, rows })),
        Err((place, error)) => Err(TaskError::Resources(format!("{}: {error}", place.display()))),
    }
}

fn write_lines(folder: &Path, place: &Path, lines: &[String], sync: bool) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut file = BufWriter::new(std::fs::File::create(place)?);
    for line in lines {
        file.write_all(line.as_bytes())?;
        file.write_all(b"\n")?;
    }
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    if sync { file.sync_all() } else { Ok(()) }
}
