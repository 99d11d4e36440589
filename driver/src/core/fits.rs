//! Jobs of the log that do not run: what the log says of them does not fit what they compile to, or this log never had them.

use super::topology::Topology;
use super::{Action, Core, Now, RequestError};
use crate::record::{DurableJob, Ending, JobRecord, ReceiverKey, Record, Standing};
use tidemill_common::ids::JobId;
use tidemill_proto::client::JobStatus;
use tidemill_proto::control::{self as pb, driver_message};

/// Whether everything that the log says of a job is of something that the job has. Else the job must not run: positions
/// are taken as they are from here on.
pub(super) fn check(job: &DurableJob, topology: &Topology) -> Result<(), String> {
    let misfit = |what: String| Err(format!("the log says something of {what}, which its definition does not have"));
    let receivers = job.receivers.keys().chain(job.waiting.keys()).chain(job.positions.keys());
    let blocks = job.blocks().map(|block| &block.key.receiver);
    let known = |key: &&ReceiverKey| {
        topology.sources.get(key.source.0 as usize).is_some_and(|source| key.receiver < source.receivers)
    };
    if let Some(key) = receivers.chain(blocks).find(|key| !known(key)) {
        return misfit(format!("receiver {} of source {}", key.receiver, key.source));
    }
    let frozen = || job.frozen.values();
    let imported =
        frozen().flat_map(|frozen| frozen.imported.keys()).chain(job.imports.keys()).chain(job.last_imported.keys());
    if let Some(model) = imported.copied().find(|model| topology.models.len() <= *model as usize) {
        return misfit(format!("model {model}"));
    }
    let champions = frozen().flat_map(|frozen| &frozen.champions).chain(&job.champions);
    if let Some((model, champion)) =
        champions.into_iter().find(|(model, champion)| !topology.is_candidate(**model, **champion))
    {
        return misfit(format!("champion {champion} of model {model}"));
    }
    let reloaded =
        frozen().flat_map(|frozen| frozen.reloaded.keys()).chain(job.reloads.keys()).chain(job.last_reloaded.keys());
    if let Some(table) = reloaded.copied().find(|table| topology.tables.len() <= *table as usize) {
        return misfit(format!("table {table}"));
    }
    if job.groups.len() > topology.key_groups as usize {
        return misfit(format!("key group {}", job.groups.len() - 1));
    }
    if job.totals.output_rows.len() > topology.outputs.len() {
        return misfit(format!("output {}", job.totals.output_rows.len() - 1));
    }
    if job.totals.sources.len() > topology.sources.len() {
        return misfit(format!("source {}", job.totals.sources.len() - 1));
    }
    Ok(())
}

impl Topology {
    /// Whether a model may answer under the name of a choice, both by position.
    pub(crate) fn is_candidate(&self, choice: u32, champion: u32) -> bool {
        let candidates = self.models.get(choice as usize).map(|shape| shape.candidates.as_slice());
        candidates.is_some_and(|candidates| candidates.contains(&(champion as usize)))
    }
}

impl Core {
    /// `stop` of a job that does not run. One that cannot run is ended; what workers keep of one that this log does not know
    /// is let go of, if it is not asked to wait for anything.
    pub(super) fn stop_what_does_not_run(
        &mut self,
        now: Now,
        name: &str,
        at_once: bool,
        out: &mut Vec<Action>,
    ) -> Result<Box<JobStatus>, RequestError> {
        let is_meant = |job: &&DurableJob| job.name == name || job.id.to_string() == name;
        let unusable = self.durable.jobs.values().filter(is_meant).find(|job| self.unusable.contains_key(&job.id));
        if let Some(id) = unusable.map(|job| job.id) {
            let reason = self.unusable.remove(&id).unwrap_or_default();
            let record =
                Record::Job(id, JobRecord::Ended(Ending::StoppedIncomplete(format!("it did not run: {reason}"))));
            self.forget(id, record, out);
            return Ok(Box::new(self.job_status(now, &id.to_string()).pop().unwrap_or_default()));
        }
        let id = name.parse().ok().map(JobId);
        let keepers: Vec<u64> = self
            .members
            .iter()
            .filter(|member| id.is_some_and(|id| member.heartbeat.aside_jobs.contains(&id.0)))
            .map(|member| member.id.0)
            .collect();
        match id.filter(|id| self.durable.standing(*id) == Standing::Unknown && !keepers.is_empty()) {
            Some(id) if at_once => {
                self.forget(id, Record::JobForgotten(id), out);
                let reason = format!("what was kept aside on workers {keepers:?} is let go of");
                Ok(Box::new(JobStatus {
                    job: id.0,
                    name: name.into(),
                    state: "STOPPED".into(),
                    reason,
                    ..Default::default()
                }))
            }
            Some(_) => Err(RequestError::KeptAside { job: name.into(), workers: keepers }),
            None if self.durable.jobs.values().any(|job| is_meant(&job)) => Err(RequestError::Ended(name.into())),
            None => Err(RequestError::NoSuchJob(name.into())),
        }
    }

    fn forget(&mut self, job: JobId, record: Record, out: &mut Vec<Action>) {
        self.durable.apply(&record);
        out.push(Action::Log(record));
        for member in self.members.iter() {
            let message = driver_message::Kind::EndJob(pb::EndJob { job: job.0 });
            out.push(Action::Send { session: member.session, message });
        }
    }
}
