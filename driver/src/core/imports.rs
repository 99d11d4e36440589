//! Models that are put in the place of a running job's own: checked, logged, told to the workers.
//!
//! What is imported takes effect with the next batch that is frozen ([`record`](crate::record)). Every worker is told the
//! content before any task that needs it; that a session keeps the order is part of the protocol.

use super::job::Job;
use super::run::BatchRun;
use super::topology::ModelShape;
use super::{Action, Core, Cx, Now, RequestError, RequestId};
use crate::record::{Import, JobRecord};
use tidemill_common::ids::{BatchId, JobId, WorkerId};
use tidemill_ml::Model;
use tidemill_proto::client::JobStatus;
use tidemill_proto::control::{self as pb, driver_message};

/// Bytes of imported models that a job may need at once.
const IMPORTED_BYTES: usize = 64 << 20;

/// A model to put in the place of another one.
#[derive(Debug)]
pub struct NewModel {
    /// The job's name or number; empty where only one running job has such a model.
    pub job: String,
    /// The model's name.
    pub model: String,
    /// The model as exported JSON.
    pub document: String,
}

impl Core {
    pub(super) fn on_import(&mut self, now: Now, request: RequestId, new: &NewModel, out: &mut Vec<Action>) {
        let imported = self.with_model(new);
        let result = match imported {
            Err(error) => Err(error),
            Ok((id, number)) => {
                let mut result = Err(RequestError::Ended(new.job.clone()));
                self.with_job(now, id, out, |job, cx| result = job.import(cx, number, &new.document));
                result
            }
        };
        out.push(Action::Reply { request, result });
    }

    /// The one running job that is meant, and the position of its model.
    fn with_model(&self, new: &NewModel) -> Result<(JobId, usize), RequestError> {
        let meant =
            |job: &&Job| new.job.is_empty() || job.durable.name == new.job || job.durable.id.to_string() == new.job;
        let jobs: Vec<&Job> = self.jobs.values().filter(meant).collect();
        if jobs.is_empty() && !new.job.is_empty() {
            return Err(RequestError::NoSuchJob(new.job.clone()));
        }
        let position = |job: &&Job| {
            let number = job.topology.models.iter().position(|model| model.name == new.model)?;
            Some((job.durable.id, number))
        };
        let found: Vec<_> = jobs.iter().filter_map(position).collect();
        match found[..] {
            [found] => Ok(found),
            [] => {
                let known = jobs.iter().flat_map(|job| &job.topology.models).map(|model| model.name.clone());
                Err(RequestError::NoSuchModel { model: new.model.clone(), known: known.collect() })
            }
            _ => {
                let named = |(id, _): &(JobId, usize)| self.jobs.get(id).map(|job| job.durable.name.clone());
                let jobs = found.iter().filter_map(named).collect();
                Err(RequestError::ModelOfSeveral { model: new.model.clone(), jobs })
            }
        }
    }
}

impl Job {
    /// Takes a model for the next batch that is frozen, if it can be in the place of the one that is there.
    fn import(&mut self, cx: &mut Cx<'_>, number: usize, document: &str) -> Result<Box<JobStatus>, RequestError> {
        let Some(ModelShape { name, spec, features, home, candidates, .. }) = self.topology.models.get(number) else {
            return Err(RequestError::Ended(self.durable.name.clone()));
        };
        let refused = |reason: String| RequestError::Import { model: name.clone(), reason };
        if !candidates.is_empty() {
            let names = candidates.iter().filter_map(|model| Some(self.topology.models.get(*model)?.name.as_str()));
            let names = names.collect::<Vec<_>>().join(", ");
            return Err(refused(format!("it stands for the best of {names}; import one of these")));
        }
        let model = Model::in_place_of(document, spec, *features).map_err(|error| refused(error.to_string()))?;
        let import = Import { trained: home.is_some(), bytes: model.to_bytes().into() };
        if self.durable.imported_bytes() + import.bytes.len() > IMPORTED_BYTES {
            let most = IMPORTED_BYTES >> 20;
            let reason =
                format!("imported models that may be needed again have {most} MiB already; wait for a checkpoint");
            return Err(refused(reason));
        }
        self.record(cx, JobRecord::Imported { model: number as u32, import });
        Ok(Box::new(self.status(cx)))
    }

    /// Tells everyone the models that take effect with a batch that was just frozen.
    pub(crate) fn tell_imports(&self, cx: &mut Cx<'_>, batch: BatchId) {
        for message in self.import_messages().filter(|message| message.batch == batch.0) {
            cx.send_all(&driver_message::Kind::ImportedModel(message));
        }
    }

    /// Tells a worker that joins all that tasks may need.
    pub(crate) fn tell_all_imports(&self, cx: &mut Cx<'_>, worker: WorkerId) {
        for message in self.import_messages() {
            cx.send(worker, driver_message::Kind::ImportedModel(message));
        }
    }

    fn import_messages(&self) -> impl Iterator<Item = pb::ImportedModel> {
        self.durable.imported().map(|(model, batch, import)| pb::ImportedModel {
            job: self.durable.id.0,
            model,
            batch: batch.0,
            bytes: import.bytes.clone(),
        })
    }

    /// The models that begin anew in a stage's tasks over these units.
    pub(crate) fn imported_for(&self, run: &BatchRun, stage: usize, units: &[usize]) -> Vec<u32> {
        let Some(frozen) = self.durable.frozen.get(&run.batch) else { return Vec::new() };
        let lives_there = |model: &&u32| {
            let home = self.topology.models.get(**model as usize).and_then(|model| model.home);
            home.is_some_and(|(home, group)| home == stage && units.contains(&group))
        };
        frozen.imported.keys().filter(lives_there).copied().collect()
    }

    /// Where the models are that a stage asks. Before training an import of the batch is asked as it came.
    pub(crate) fn models_at(&self, run: &BatchRun, stage: usize) -> Vec<pb::ModelAt> {
        let at = |asked: &super::topology::AskedShape| {
            let answers = self.answering(run, asked.model);
            let home = self.topology.models.get(answers).and_then(|model| model.home);
            let (model, answers, after_training) = (asked.model as u32, answers as u32, asked.after_training);
            let imported = self.durable.last_import(answers, run.batch).map(|(batch, _)| batch);
            let (owner, version) = match home {
                None => (0, imported.unwrap_or_default()),
                Some(_) if !after_training && imported == Some(run.batch) => (0, run.batch),
                Some((_, group)) => {
                    let owner = self.groups.list.get(group).and_then(|group| group.owner);
                    let version = if after_training { run.batch } else { run.batch.prev() };
                    (owner.map_or(0, |owner| owner.0), version)
                }
            };
            pb::ModelAt { model, owner, version: version.0, after_training, answers }
        };
        self.topology.stages[stage].models.iter().map(at).collect()
    }
}
