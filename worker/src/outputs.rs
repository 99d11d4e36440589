//! Rows that leave the engine: to the driver as JSON, or into part files.

use crate::jobs::Job;
use crate::node::Node;
use crate::stateful::binary;
use crate::tasks::TaskError;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::SchemaRef;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tidemill_common::ids::{BatchId, JobId, OutputIdx, TaskId};
use tidemill_common::location::Location;
use tidemill_connect::parts::PartRow;
use tidemill_connect::staging::{part_name, parts_dir};
use tidemill_connect::{MAX_HELD_BYTES, Sink, part_of};
use tidemill_job::{Durability, Target};
use tidemill_plan::registry::Batch;
use tidemill_plan::{KEY_COLUMN, PlanError};
use tidemill_proto::control as pb;
use tidemill_rows::rows_to_json;
use tidemill_store::Objects;

/// Bytes of the rows that a task reports: a message has at most 256 MiB.
const MAX_REPORT_BYTES: usize = 224 << 20;

/// Rows of one unit for one output.
#[derive(Clone)]
pub(crate) struct OutputRecords {
    pub(crate) output: OutputIdx,
    pub(crate) lane: u32,
    pub(crate) order: u64,
    pub(crate) rows: Vec<RecordBatch>,
}

/// Puts the rows of a task into its report, or into part files. `records` are in order of lane and unit.
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
        match &output.target {
            Target::Sink(sink) if !job.capture => {
                done.parts.extend(leave_part(node, job, task, number, sink, &mine).await?);
                within_a_report(&done.parts)?;
            }
            Target::ForEachBatch(function) if !job.capture => {
                show(node, job, task, &function.text, &output.schema, &mine).await?;
            }
            target => {
                let limit = match target {
                    Target::Print { rows } if !job.capture => job.watched_rows.max(*rows) as usize,
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

/// What is in no folder goes to the driver in one message.
fn within_a_report(parts: &[pb::OutputPart]) -> Result<(), TaskError> {
    if parts.iter().map(|part| part.part.len()).sum::<usize>() > MAX_REPORT_BYTES {
        let most = MAX_REPORT_BYTES >> 20;
        let message = format!(
            "the outputs of a batch that are no files have more than {most} MiB in one task; make batches smaller"
        );
        return Err(TaskError::User(message));
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
    let mut rows = pb::OutputRows {
        output: unit.output.0,
        lane: unit.lane,
        order: unit.order,
        total: total as u64,
        ..pb::OutputRows::default()
    };
    // Rows of several key groups are in order of group: only the whole can be cut by key.
    let mut keyed: Vec<(bytes::Bytes, String)> = Vec::new();
    for batch in &unit.rows {
        let (batch, keys) = visible(batch)?;
        match keys {
            Some(keys) => keyed.extend(first_by_key(&batch, &keys, limit)?),
            None => {
                let room = limit.saturating_sub(rows.rows.len()).min(batch.num_rows());
                rows.rows.extend(rows_to_json(&batch.slice(0, room)).map_err(PlanError::from)?);
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
    let taken = datafusion::arrow::compute::take_record_batch(batch, &chosen)?;
    let rows = rows_to_json(&taken).map_err(PlanError::from)?;
    let key = |row: &u32| bytes::Bytes::copy_from_slice(keys.value(*row as usize));
    Ok(chosen.values().iter().map(key).zip(rows).collect())
}

/// Leaves the rows of a task for the driver to commit: in the folder of the output, or in the report.
async fn leave_part(
    node: &Arc<Node>,
    job: &Arc<Job>,
    task: &pb::Task,
    output: OutputIdx,
    sink: &Sink,
    records: &[&OutputRecords],
) -> Result<Option<pb::OutputPart>, TaskError> {
    if records.iter().all(|unit| unit.rows.iter().all(|rows| rows.num_rows() == 0)) {
        return Ok(None);
    }
    let name = job.plan.outputs[output.0 as usize].name.clone();
    let units: Vec<OutputRecords> = records.iter().map(|unit| (*unit).clone()).collect();
    let parts = parts_dir(JobId(task.job), BatchId(task.batch), output);
    let file = part_name(task.stage, TaskId(task.task_id));
    let sync = job.plan.def.settings.durability == Durability::Disk;
    let (sink, folder) = (sink.clone(), sink.staging(&job.base_dir));
    let work = move |_: &Node| -> Result<pb::OutputPart, TaskError> {
        let rows = part_rows(&sink, &units)?;
        let (count, bytes) = (rows.len() as u64, rows.iter().map(|row| row.row.len() + 1).sum::<usize>());
        let part = part_of(rows).map_err(|error| TaskError::User(format!("output `{name}`: {error}")))?;
        let left = pb::OutputPart { output: output.0, rows: count, ..pb::OutputPart::default() };
        match folder {
            Some(folder) => {
                put_part(&folder, &format!("{parts}/{file}"), part, sync)?;
                Ok(pb::OutputPart { file, ..left })
            }
            None if bytes > MAX_HELD_BYTES => {
                let (most, sink) = (MAX_HELD_BYTES >> 20, sink.name());
                let message =
                    format!("output `{name}`: a batch has more than {most} MiB, the most that `{sink}` takes");
                Err(TaskError::User(message))
            }
            None => Ok(pb::OutputPart { part: part.into(), ..left }),
        }
    };
    let part = node.blocking(work).await.map_err(|error| TaskError::Internal(error.message().into()))??;
    Ok(Some(part))
}

/// Brings a part to its name in the folder of the output.
fn put_part(folder: &Location, name: &str, part: Vec<u8>, sync: bool) -> Result<(), TaskError> {
    match folder {
        Location::Local(folder) => {
            let place = folder.join(name);
            let written = write_file(&place, &part, sync);
            written.map_err(|error| TaskError::Resources(format!("{}: {error}", place.display())))
        }
        Location::Object(url) => {
            Objects::new(url.clone()).put(name, part).map_err(|error| TaskError::Resources(error.to_string()))
        }
    }
}

/// The rows of a task as the sink writes them, with their places in the order of the batch. Rows with keys go by key,
/// wherever their key groups lie.
fn part_rows(sink: &Sink, units: &[OutputRecords]) -> Result<Vec<PartRow>, TaskError> {
    let mut rows = Vec::new();
    for unit in units {
        for batch in &unit.rows {
            let (batch, keys) = visible(batch)?;
            let encoded = sink.encode(&batch).map_err(PlanError::from)?;
            if encoded.len() != batch.num_rows() {
                let message = format!("the sink `{}` made {} of {} rows", sink.name(), encoded.len(), batch.num_rows());
                return Err(TaskError::Internal(message));
            }
            let encoded = encoded.into_iter().enumerate();
            rows.extend(encoded.map(|(number, row)| match &keys {
                Some(keys) => PartRow { lane: unit.lane, order: 0, key: keys.value(number).to_vec(), row },
                None => PartRow { lane: unit.lane, order: unit.order, key: Vec::new(), row },
            }));
        }
    }
    Ok(rows)
}

fn write_file(place: &Path, part: &[u8], sync: bool) -> io::Result<()> {
    if let Some(folder) = place.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = std::fs::File::create(place)?;
    io::Write::write_all(&mut file, part)?;
    if sync { file.sync_all() } else { Ok(()) }
}
