//! What people see: merged outputs, job status, worker status.

use super::job::Job;
use super::topology::{OutputKind, Topology};
use super::{Core, Cx, Now};
use crate::record::{DurableJob, Ending};
use std::collections::BTreeMap;
use tidemill_common::ids::{BatchId, WorkerId};
use tidemill_connect::Delivery;
use tidemill_plan::BatchContext;
use tidemill_proto::client as pb;
use tidemill_proto::control::OutputRows;

/// Rows of units by output, lane and order tag.
pub(crate) type UnitRows = BTreeMap<(u32, u32, u64), OutputRows>;

/// Puts the rows of all units into one order per output that fires: lane by lane, in each keyed rows by key, others by
/// unit.
pub(crate) fn merge_outputs(topology: &Topology, context: &BatchContext, rows: UnitRows) -> Vec<pb::OutputBatch> {
    let mut by_output: BTreeMap<u32, BTreeMap<u32, Vec<OutputRows>>> = BTreeMap::new();
    for ((output, lane, _), rows) in rows {
        by_output.entry(output).or_default().entry(lane).or_default().push(rows);
    }
    let mut merged = Vec::new();
    for (number, output) in topology.outputs.iter().enumerate() {
        let (limit, shown) = match output.kind {
            OutputKind::Rows { limit, shown } => (limit, shown),
            OutputKind::Sink(_) | OutputKind::Seen => continue,
        };
        if output.rhythm.fires(context).is_none() {
            continue;
        }
        let lanes = by_output.remove(&(number as u32)).unwrap_or_default();
        let total = lanes.values().flatten().map(|unit| unit.total).sum();
        let mut rows: Vec<String> = lanes.into_values().flat_map(merge_lane).collect();
        if let Some(limit) = limit {
            rows.truncate(limit as usize);
        }
        let shown = shown.map_or(rows.len(), |shown| rows.len().min(shown as usize)) as u64;
        merged.push(pb::OutputBatch { name: output.name.clone(), rows, total, shown });
    }
    merged
}

fn merge_lane(units: Vec<OutputRows>) -> Vec<String> {
    if units.iter().all(|unit| unit.keys.is_empty()) {
        return units.into_iter().flat_map(|unit| unit.rows).collect();
    }
    let with_keys = units.into_iter().flat_map(|unit| unit.keys.into_iter().zip(unit.rows));
    let mut with_keys: Vec<(bytes::Bytes, String)> = with_keys.collect();
    with_keys.sort_by(|a, b| a.0.cmp(&b.0));
    with_keys.into_iter().map(|(_, row)| row).collect()
}

impl Job {
    pub(crate) fn status(&self, cx: &Cx<'_>) -> pb::JobStatus {
        let (state, reason) = self.state();
        let mut status = pb::JobStatus {
            state: state.to_string(),
            reason,
            bad_samples: self.bad_samples.iter().cloned().collect(),
            state_keys: self.state_keys,
            last_batch_micros: self.last_batch_micros,
            counters: Some(pb::Counters {
                workers_used: self.workers_used.len() as u64,
                recomputing_workers: self.workers_recomputing.len() as u64,
                ..self.counters
            }),
            incidents: self.incidents.iter().cloned().collect(),
            copies_wanted: self.settings.replication,
            copies: self.copies_possible() as u32,
            groups_to_fill: self.groups_to_fill(),
            ..durable_status(&self.durable)
        };
        status.sources = self.source_status(cx);
        status.tables = self.table_status();
        for (number, output) in self.topology.outputs.iter().enumerate() {
            let rows = self.durable.totals.output_rows.get(number).copied().unwrap_or(0);
            let delivery = match &output.kind {
                OutputKind::Rows { .. } => "to whoever watches".to_string(),
                OutputKind::Sink(to) => to.sink.delivery().to_string(),
                OutputKind::Seen => Delivery::AtLeastOnce.to_string(),
            };
            status.outputs.push(pb::OutputStatus { name: output.name.clone(), delivery, rows });
        }
        status
    }

    fn state(&self) -> (&'static str, String) {
        let live = self.live.len();
        if let Some(ending) = &self.durable.ending {
            return ended_state(ending);
        }
        if let Some(what) = self.waiting_for {
            return ("RECOVERING", what.to_string());
        }
        if self.stopping.is_some() {
            return ("STOPPING", String::new());
        }
        if live == 0 {
            return ("WAITING", "there is no live worker; start one with `tidemill worker --driver URL`".into());
        }
        if self.state_version < self.durable.completed {
            let reason = format!("running batches {} to {} again", self.state_version.next(), self.durable.completed);
            return ("RECOVERING", reason);
        }
        let wanted = self.settings.replication;
        if self.paused() {
            return ("PAUSED", format!("{wanted} copies are asked for and {live} workers are live"));
        }
        if self.under_replicated() {
            return ("DEGRADED", format!("{wanted} copies are asked for and {live} workers are live"));
        }
        if self.is_clock_behind() {
            let seconds = self.clock.ahead_ms() / 1000;
            let reason = format!(
                "the driver's clock was set back: it is {seconds} s behind the last batch, and batch times go on from that"
            );
            return ("RUNNING", reason);
        }
        ("RUNNING", String::new())
    }

    /// Groups of which there are fewer copies than can be, in memory or of the last checkpoint.
    fn groups_to_fill(&self) -> u64 {
        if !self.topology.stateful() {
            return 0;
        }
        let possible = self.copies_possible();
        let checkpointed = self.durable.checkpoint > BatchId(0);
        let groups = self.groups.list.iter().zip(self.groups_with_thin_checkpoint());
        groups.filter(|(group, thin)| group.copies() < possible || (*thin && checkpointed)).count() as u64
    }

    fn source_status(&self, cx: &Cx<'_>) -> Vec<pb::SourceStatus> {
        let mut sources: Vec<pb::SourceStatus> = self
            .topology
            .sources
            .iter()
            .enumerate()
            .map(|(number, source)| {
                let counts = self.durable.totals.sources.get(number).copied().unwrap_or_default();
                let (records, bad_records) = (counts.records, counts.bad);
                let (name, delivery) = (source.name.clone(), source.delivery.to_string());
                pb::SourceStatus { name, receivers: vec![], records, bad_records, delivery }
            })
            .collect();
        for key in self.receiver_keys() {
            let logged = self.durable.receivers.get(&key).cloned().unwrap_or_default();
            let live = self.receivers.get(&key);
            let worker = live.and_then(|live| live.worker);
            let heartbeat = worker.and_then(|worker| cx.members.get(worker)).map(|member| &member.heartbeat);
            let reported = heartbeat.and_then(|heartbeat| {
                let reference = super::wire::receiver_ref(self.durable.id, key);
                heartbeat.receivers.iter().find(|receiver| receiver.receiver.as_ref() == Some(&reference))
            });
            let state = match (logged.finished, worker, reported) {
                (true, _, _) => "finished".to_string(),
                (_, None, _) => "not running".to_string(),
                (_, Some(_), Some(reported)) => reported.state.clone(),
                (_, Some(_), None) => "starting".to_string(),
            };
            let error = reported.map(|r| r.last_error.clone()).filter(|error| !error.is_empty());
            let receiver = pb::ReceiverState {
                receiver: key.receiver,
                worker: worker.map_or(0, |worker| worker.0),
                epoch: logged.epoch,
                offset: logged.next_offset,
                state,
                last_error: error.or_else(|| live.map(|live| live.last_error.clone())).unwrap_or_default(),
                reconnects: reported.map_or(0, |r| r.reconnects),
                discarded: reported.map_or(0, |r| r.discarded),
                bad_files: reported.map_or(0, |r| r.bad_files),
                rate: reported.map_or(0.0, |r| r.rate),
            };
            sources[key.source.0 as usize].receivers.push(receiver);
        }
        sources
    }
}

fn ended_state(ending: &Ending) -> (&'static str, String) {
    match ending {
        Ending::Stopped => ("STOPPED", String::new()),
        Ending::StoppedIncomplete(reason) => ("STOPPED", reason.clone()),
        Ending::Failed(reason) => ("FAILED", reason.clone()),
    }
}

fn durable_status(job: &DurableJob) -> pb::JobStatus {
    pb::JobStatus {
        job: job.id.0,
        name: job.name.clone(),
        batch: job.completed.0,
        frozen: job.last_frozen.0,
        batch_time_ms: job.completed_time_ms,
        records: job.totals.records,
        received_records: job.received_records,
        received_bytes: job.received_bytes,
        bad_records: job.totals.bad_records,
        checkpoint: job.checkpoint.0,
        retained_blocks: job.blocks().count() as u64,
        replay_depth: if job.stateful { job.completed.0 - job.checkpoint.0.min(job.completed.0) } else { 0 },
        ..pb::JobStatus::default()
    }
}

impl Core {
    /// Status of all jobs, or of one by name or number; the newest of a name wins.
    pub fn job_status(&mut self, now: Now, name: &str) -> Vec<pb::JobStatus> {
        let Self { config, members, jobs, unusable, next_task, booted_at, durable, .. } = self;
        let cx = Cx { now, config, members, cluster_booted: booted_at.is_some(), next_task, out: &mut Vec::new() };
        let mut statuses: Vec<pb::JobStatus> = Vec::new();
        for job in durable.jobs.values().filter(|job| name.is_empty() || job.name == name || job.id.to_string() == name)
        {
            statuses.push(match (jobs.get(&job.id), &job.ending) {
                (Some(live), _) => live.status(&cx),
                (None, Some(ending)) => {
                    let (state, reason) = ended_state(ending);
                    pb::JobStatus { state: state.into(), reason, ..durable_status(job) }
                }
                (None, None) => pb::JobStatus {
                    state: "FAILED".into(),
                    reason: unusable.get(&job.id).cloned().unwrap_or_default(),
                    ..durable_status(job)
                },
            });
        }
        if !name.is_empty() && statuses.len() > 1 {
            statuses.drain(..statuses.len() - 1);
        }
        statuses
    }

    /// Status of all workers.
    pub fn worker_status(&self, now: Now) -> Vec<pb::WorkerStatus> {
        let status = |member: &super::members::Member| {
            let beat = &member.heartbeat;
            let groups = self.jobs.values().map(|job| job.groups.count_of(member.id));
            let (owned_groups, followed_groups) = groups.fold((0, 0), |sum, n| (sum.0 + n.0, sum.1 + n.1));
            let on_it = |worker: Option<WorkerId>| worker == Some(member.id);
            let receivers = self.jobs.values().flat_map(|job| job.receivers.values()).filter(|r| on_it(r.worker));
            pb::WorkerStatus {
                worker_id: member.id.0,
                address: member.address.clone(),
                slots: member.slots,
                running_tasks: beat.running_tasks,
                owned_groups,
                followed_groups,
                receivers: receivers.count() as u64,
                blocks: beat.blocks,
                block_memory_bytes: beat.block_memory_bytes,
                block_disk_bytes: beat.block_disk_bytes,
                shuffle_bytes: beat.shuffle_bytes,
                state_bytes: beat.state_bytes,
                resident_bytes: beat.resident_bytes,
                aside_jobs: beat.aside_jobs.clone(),
                aside_blocks: beat.aside_blocks,
                aside_bytes: beat.aside_bytes,
                damaged: beat.damaged,
                silent_ms: now.mono_us.saturating_sub(member.last_heard_us) / 1000,
            }
        };
        self.members().iter().map(status).collect()
    }

    /// Whether some job asks for its log to be on the disk.
    pub fn wants_sync(&self) -> bool {
        self.jobs.values().any(|job| job.settings.durability == tidemill_job::Durability::Disk)
    }

    /// The last complete batch of a job that has not ended.
    pub fn completed(&self, job: tidemill_common::ids::JobId) -> Option<BatchId> {
        self.jobs.get(&job).map(|job| job.durable.completed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::topology::OutputShape;
    use tidemill_plan::Rhythm;

    #[test]
    fn outputs_come_lane_by_lane_and_keyed_ones_by_key() {
        let output = OutputShape {
            name: "out".into(),
            kind: OutputKind::Rows { limit: Some(5), shown: Some(4) },
            rhythm: Rhythm::Every { slide_ms: 2000 },
        };
        let topology = Topology {
            models: Vec::new(),
            tables: Vec::new(),
            stages: Vec::new(),
            exchange_from: Vec::new(),
            key_groups: 8,
            sources: Vec::new(),
            outputs: vec![output],
        };
        let unit = |lane: u32, order: u64, rows: &[(&str, &str)]| {
            let keys = rows.iter().filter(|(key, _)| !key.is_empty());
            let unit = OutputRows {
                output: 0,
                lane,
                order,
                keys: keys.map(|(key, _)| bytes::Bytes::copy_from_slice(key.as_bytes())).collect(),
                rows: rows.iter().map(|(_, row)| row.to_string()).collect(),
                total: rows.len() as u64,
            };
            ((0, lane, order), unit)
        };
        let rows = UnitRows::from([
            unit(1, 0, &[("", "e"), ("", "f")]),
            unit(0, 5, &[("a", "a"), ("c", "c")]),
            unit(0, 1, &[("b", "b"), ("d", "d")]),
            unit(2, 0, &[]),
        ]);
        let at = |time_ms| BatchContext { batch: BatchId(1), time_ms, previous_ms: time_ms - 1000 };
        assert_eq!(merge_outputs(&topology, &at(1000), rows.clone()), Vec::new());
        let merged = merge_outputs(&topology, &at(2000), rows);
        assert_eq!(merged.len(), 1);
        assert_eq!((merged[0].rows.join(""), merged[0].total), ("abcde".to_string(), 6));
        assert_eq!(merged[0].shown, 4);
    }
}
