//! The models that jobs have published: what is listed, exported and served.
//!
//! A model is published when the batch that trained it is complete, as a whole and never in between. What is here is a copy: after a
//! restart of the driver it is empty until the next batch of a job is complete.

use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use tidemill_common::ids::BatchId;
use tidemill_ml::{Health, Model};

/// Versions kept of each model.
const VERSIONS: usize = 10;
/// Jobs whose models are kept; the one that published longest ago goes first.
const JOBS: usize = 50;

/// A model after a batch.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    /// The batch that left it.
    pub(crate) batch: BatchId,
    /// That batch's time, in ms since 1970.
    pub(crate) time_ms: i64,
    stored: Arc<Stored>,
}

/// A model in its stored form, read when someone asks.
#[derive(Debug)]
struct Stored {
    bytes: Bytes,
    model: OnceLock<Result<Arc<Model>, String>>,
}

impl Version {
    /// The model itself.
    pub(crate) fn model(&self) -> Result<Arc<Model>, NoModel> {
        let read = || Model::from_bytes(&self.stored.bytes).map(Arc::new).map_err(|error| error.to_string());
        self.stored.model.get_or_init(read).clone().map_err(NoModel::Unreadable)
    }
}

/// What a job has published with a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The job's name.
    pub job: String,
    /// The batch.
    pub batch: BatchId,
    /// Its time, in ms since 1970.
    pub time_ms: i64,
    /// Models by name, in their stored form.
    pub models: Vec<(String, Bytes)>,
}

/// Why a model cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoModel {
    #[error("no job has published a model called `{name}`{}", known(.published))]
    Unknown { name: String, published: Vec<String> },
    #[error("several jobs have a model called `{name}`: {}; say which with `job`", .jobs.join(", "))]
    Ambiguous { name: String, jobs: Vec<String> },
    #[error("a published model does not read: {0}")]
    Unreadable(String),
    #[error("of model `{name}` the versions {} are kept, not {wanted}", list(.kept))]
    NotKept { name: String, wanted: u64, kept: Vec<u64> },
}

fn known(published: &[String]) -> String {
    if published.is_empty() {
        return "; a model is published when the first batch of its job is complete".into();
    }
    format!("; there are {}", published.join(", "))
}

fn list(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

#[derive(Debug, Default)]
struct JobModels {
    /// When it last published, counted in publications.
    last: u64,
    models: BTreeMap<String, VecDeque<Version>>,
}

#[derive(Debug, Default)]
struct State {
    publications: u64,
    jobs: BTreeMap<String, JobModels>,
}

/// All published models; shared between the loop, which publishes, and those who serve.
#[derive(Debug, Clone, Default)]
pub(crate) struct Published(Arc<RwLock<State>>);

/// A model that was found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) job: String,
    pub(crate) name: String,
    pub(crate) version: Version,
}

impl Published {
    /// Puts the models of a batch beside the older versions.
    pub(crate) fn publish(&self, publication: Publication) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        state.publications += 1;
        let now = state.publications;
        let job = state.jobs.entry(publication.job).or_default();
        job.last = now;
        for (name, bytes) in publication.models {
            let versions = job.models.entry(name).or_default();
            // A new run of a job of the same name begins anew.
            versions.retain(|version| version.batch < publication.batch);
            let stored = match versions.back().filter(|last| last.stored.bytes == bytes) {
                Some(last) => last.stored.clone(),
                None => Arc::new(Stored { bytes, model: OnceLock::new() }),
            };
            versions.push_back(Version { batch: publication.batch, time_ms: publication.time_ms, stored });
            if versions.len() > VERSIONS {
                versions.pop_front();
            }
        }
        if state.jobs.len() > JOBS
            && let Some(oldest) = state.jobs.iter().min_by_key(|(_, job)| job.last).map(|(name, _)| name.clone())
        {
            state.jobs.remove(&oldest);
        }
    }

    /// The newest version of every model, of one job or of all.
    pub(crate) fn list(&self, job: Option<&str>) -> Vec<Found> {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let jobs = state.jobs.iter().filter(|(name, _)| job.is_none_or(|job| job == name.as_str()));
        let of_job = |(job, models): (&String, &JobModels)| {
            let newest = models.models.iter().filter_map(|(name, versions)| Some((name, versions.back()?)));
            let found =
                newest.map(|(name, version)| Found { job: job.clone(), name: name.clone(), version: version.clone() });
            found.collect::<Vec<_>>()
        };
        jobs.flat_map(of_job).collect()
    }

    /// A model by name: the newest version, or that of a batch.
    pub(crate) fn find(&self, job: Option<&str>, name: &str, batch: Option<u64>) -> Result<Found, NoModel> {
        let all = self.list(job);
        let mut named: Vec<Found> = all.iter().filter(|found| found.name == name).cloned().collect();
        if named.len() > 1 {
            let jobs = named.into_iter().map(|found| found.job).collect();
            return Err(NoModel::Ambiguous { name: name.into(), jobs });
        }
        let Some(newest) = named.pop() else {
            let published = all.into_iter().map(|found| found.name).collect();
            return Err(NoModel::Unknown { name: name.into(), published });
        };
        let Some(wanted) = batch else { return Ok(newest) };
        let versions = self.versions(&newest);
        match versions.iter().find(|version| version.batch.0 == wanted) {
            Some(version) => Ok(Found { version: version.clone(), ..newest }),
            None => {
                let kept = versions.iter().map(|version| version.batch.0).collect();
                Err(NoModel::NotKept { name: name.into(), wanted, kept })
            }
        }
    }

    /// All versions kept of a model, oldest first.
    pub(crate) fn versions(&self, found: &Found) -> Vec<Version> {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let models = state.jobs.get(&found.job).and_then(|job| job.models.get(&found.name));
        models.map(|versions| versions.iter().cloned().collect()).unwrap_or_default()
    }
}

impl Found {
    /// What people want to know of a model, without its parameters.
    pub(crate) fn summary(&self) -> Value {
        let Version { batch, time_ms, stored } = &self.version;
        let bytes = stored.bytes.len();
        let model = match self.version.model() {
            Ok(model) => model,
            Err(error) => return json!({ "job": self.job, "model": self.name, "error": error.to_string() }),
        };
        let (batches, rows, skipped) = model.seen();
        let diverged = match model.health() {
            Health::Healthy => Value::Null,
            Health::Diverged { since_batch } => json!(since_batch),
        };
        json!({
            "job": self.job, "model": self.name, "kind": model.spec().kind(), "batch": batch.0, "time_ms": time_ms,
            "features": model.dimension(), "batches": batches, "rows": rows, "skipped": skipped, "bytes": bytes,
            "diverged_since_batch": diverged,
        })
    }
}
