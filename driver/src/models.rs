//! The models that jobs have published: what is listed, exported and served.
//!
//! A model is published when the batch that trained it is complete, as a whole and never in between. The last versions are kept, and
//! those that were given a name; files ([`store`]) bring both over a restart. A version's file is written before the log says that its
//! batch is complete, so none is missing afterwards; one whose batch did not become complete is removed, and written again by the batch.

pub(crate) mod store;

use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use store::{Place, Store};
use tidemill_common::ids::{BatchId, JobId};
use tidemill_ml::{Health, Model};

/// Jobs whose models are kept; the one that published longest ago goes first, names and all.
const JOBS: usize = 50;
/// Versions of a model that may have names.
const LABELS: usize = 100;
/// Longest name of a version, in bytes.
const LABEL_BYTES: usize = 64;

/// A model after a batch.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    /// The job's number: a job of the same name that runs again has another one.
    job: JobId,
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
    fn new(job: JobId, batch: BatchId, time_ms: i64, bytes: Bytes) -> Self {
        Self { job, batch, time_ms, stored: Arc::new(Stored { bytes, model: OnceLock::new() }) }
    }

    /// The model itself.
    pub(crate) fn model(&self) -> Result<Arc<Model>, NoModel> {
        let read = || Model::from_bytes(&self.stored.bytes).map(Arc::new).map_err(|error| error.to_string());
        self.stored.model.get_or_init(read).clone().map_err(NoModel::Unreadable)
    }
}

/// What a job has published with a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The job's number.
    pub id: JobId,
    /// Its name.
    pub job: String,
    /// The batch.
    pub batch: BatchId,
    /// Its time, in ms since 1970.
    pub time_ms: i64,
    /// The models.
    pub models: Vec<PublishedModel>,
    /// Whether they have to be on the disk.
    pub sync: bool,
}

impl Publication {
    /// Name and version of every model, and how many versions to keep of it.
    fn versions(&self) -> impl Iterator<Item = (&str, Version, usize)> {
        let Self { id, batch, time_ms, models, .. } = self;
        models.iter().map(|PublishedModel { name, bytes, keep }| {
            (name.as_str(), Version::new(*id, *batch, *time_ms, bytes.clone()), *keep)
        })
    }
}

/// A model as a batch has left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedModel {
    /// Its name.
    pub name: String,
    /// Its stored form.
    pub bytes: Bytes,
    /// Versions to keep of it.
    pub keep: usize,
}

/// Why a model cannot be had, or a version cannot be named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoModel {
    #[error("no job has published a model called `{name}`{}", known(.published))]
    Unknown { name: String, published: Vec<String> },
    #[error("several jobs have a model called `{name}`: {}; say which with `job`", .jobs.join(", "))]
    Ambiguous { name: String, jobs: Vec<String> },
    #[error("a published model does not read: {0}")]
    Unreadable(String),
    #[error("of model `{name}` the versions {} are kept, not {wanted}", .kept.join(", "))]
    NotKept { name: String, wanted: String, kept: Vec<String> },
    #[error("`{0}` cannot name a version; use up to {LABEL_BYTES} letters, digits, `-`, `_` and `.`, not digits alone")]
    Label(String),
    #[error("of model `{0}` {LABELS} versions have names; take one away first")]
    TooManyLabels(String),
    #[error("the version could not be written: {0}")]
    Disk(String),
}

fn known(published: &[String]) -> String {
    if published.is_empty() {
        return "; a model is published when the first batch of its job is complete".into();
    }
    format!("; there are {}", published.join(", "))
}

/// The versions of a model.
#[derive(Debug, Default)]
struct Versions {
    /// The last ones, oldest first.
    last: VecDeque<Version>,
    /// Those that have a name.
    named: BTreeMap<String, Version>,
}

impl Versions {
    fn newest(&self) -> Option<&Version> {
        self.last.back().or_else(|| self.named.values().max_by_key(|version| (version.job, version.batch)))
    }

    /// By batch or by name.
    fn get(&self, version: &str) -> Option<&Version> {
        match version.parse() {
            Ok(batch) => self.last.iter().chain(self.named.values()).find(|version| version.batch == BatchId(batch)),
            Err(_) => self.named.get(version),
        }
    }

    /// What can be asked for.
    fn kept(&self) -> Vec<String> {
        self.last.iter().map(|version| version.batch.to_string()).chain(self.named.keys().cloned()).collect()
    }

    /// Puts a version behind the others; gives the batches of those that go.
    fn push(&mut self, version: Version, keep: usize) -> Vec<BatchId> {
        let another_run = |old: &Version| old.job != version.job || old.batch >= version.batch;
        let mut gone = Vec::new();
        self.last.retain(|old| {
            let goes = another_run(old);
            gone.extend(goes.then_some(old.batch));
            !goes
        });
        self.last.push_back(version);
        let surplus = self.last.len().saturating_sub(keep.max(1));
        gone.extend(self.last.drain(..surplus).map(|old| old.batch));
        gone
    }
}

#[derive(Debug, Default)]
struct JobModels {
    /// When it last published: the batch's time.
    last_ms: i64,
    models: BTreeMap<String, Versions>,
}

type Jobs = BTreeMap<String, JobModels>;

/// All published models; shared between the loop, which publishes, and those who serve.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    jobs: Arc<RwLock<Jobs>>,
    store: Store,
}

/// A model that was found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) job: String,
    pub(crate) name: String,
    pub(crate) version: Version,
}

impl Published {
    /// What was published before, from the files in a directory; `completed` has the last complete batch of the jobs of the log.
    pub(crate) fn open(dir: &Path, completed: &BTreeMap<JobId, BatchId>) -> Self {
        let store = Store::new(dir);
        let mut jobs = Jobs::new();
        for (place, version) in store.read() {
            if completed.get(&version.job).is_some_and(|completed| version.batch > *completed) {
                store.remove(&place);
                continue;
            }
            let job = jobs.entry(place.job).or_default();
            job.last_ms = job.last_ms.max(version.time_ms);
            let versions = job.models.entry(place.model).or_default();
            match place.label {
                Some(label) => drop(versions.named.insert(label, version)),
                None => versions.last.push_back(version),
            }
        }
        for versions in jobs.values_mut().flat_map(|job| job.models.values_mut()) {
            versions.last.make_contiguous().sort_by_key(|version| (version.job, version.batch));
        }
        Self { jobs: Arc::new(RwLock::new(jobs)), store }
    }

    fn read(&self) -> RwLockReadGuard<'_, Jobs> {
        self.jobs.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Jobs> {
        self.jobs.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the models of a batch, which may be asked when it is complete. Files that cannot be written are only missed after a restart.
    pub(crate) fn write_files(&self, publication: &Publication) {
        let Publication { job, batch, sync, .. } = publication;
        for (name, version, _) in publication.versions() {
            if let Err(error) = self.store.write(&Place::of_batch(job, name, *batch), &version, *sync) {
                tracing::warn!(job, %batch, %error, "a published model could not be written");
            }
        }
    }

    /// Puts the models of a batch that is complete beside the older versions.
    pub(crate) fn publish(&self, publication: &Publication) {
        let Publication { job, batch, time_ms, .. } = publication;
        let mut gone = Vec::new();
        let forgotten = {
            let mut jobs = self.write();
            let of_job = jobs.entry(job.clone()).or_default();
            of_job.last_ms = of_job.last_ms.max(*time_ms);
            for (name, version, keep) in publication.versions() {
                let old = of_job.models.entry(name.into()).or_default().push(version, keep);
                let old = old.into_iter().filter(|old| old != batch);
                gone.extend(old.map(|old| Place::of_batch(job, name, old)));
            }
            forget_oldest(&mut jobs, job)
        };
        gone.iter().for_each(|place| self.store.remove(place));
        forgotten.iter().for_each(|job| self.store.remove_job(job));
    }

    /// The newest version of every model, of one job or of all.
    pub(crate) fn list(&self, job: Option<&str>) -> Vec<Found> {
        let jobs = self.read();
        let of_job = |(job, models): (&String, &JobModels)| {
            let newest = models.models.iter().filter_map(|(name, versions)| Some((name, versions.newest()?)));
            let found =
                newest.map(|(name, version)| Found { job: job.clone(), name: name.clone(), version: version.clone() });
            found.collect::<Vec<_>>()
        };
        jobs.iter().filter(|(name, _)| job.is_none_or(|job| job == name.as_str())).flat_map(of_job).collect()
    }

    /// A model by name: the newest version, or that of a batch or of a name.
    pub(crate) fn find(&self, job: Option<&str>, name: &str, version: Option<&str>) -> Result<Found, NoModel> {
        let jobs = self.read();
        let (job, versions) = one(&jobs, job, name)?;
        let found = match version {
            None => versions.newest(),
            Some(version) => versions.get(version),
        };
        let not_kept = || {
            let wanted = version.unwrap_or("the newest").to_string();
            NoModel::NotKept { name: name.into(), wanted, kept: versions.kept() }
        };
        let version = found.cloned().ok_or_else(not_kept)?;
        Ok(Found { job: job.clone(), name: name.into(), version })
    }

    /// The batches of the last versions of a model, oldest first, and the names of versions with their batches.
    pub(crate) fn versions(&self, found: &Found) -> (Vec<BatchId>, Vec<(String, BatchId)>) {
        let jobs = self.read();
        let versions = jobs.get(&found.job).and_then(|job| job.models.get(&found.name));
        let last = versions.map(|versions| versions.last.iter().map(|version| version.batch).collect());
        let named = versions.map(|versions| versions.named.iter().map(|(label, v)| (label.clone(), v.batch)).collect());
        (last.unwrap_or_default(), named.unwrap_or_default())
    }

    /// Gives a version a name: it is kept until the name is taken away or given to another version.
    pub(crate) fn tag(&self, job: Option<&str>, name: &str, version: &str, label: &str) -> Result<Found, NoModel> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let number = label.bytes().all(|byte| byte.is_ascii_digit());
        if number || label.len() > LABEL_BYTES || !label.chars().all(fits) {
            return Err(NoModel::Label(label.into()));
        }
        let found = self.find(job, name, Some(version))?;
        let mut jobs = self.write();
        let versions = jobs.get_mut(&found.job).and_then(|job| job.models.get_mut(&found.name));
        let versions = versions.ok_or_else(|| NoModel::Unknown { name: name.into(), published: Vec::new() })?;
        if versions.named.len() >= LABELS && !versions.named.contains_key(label) {
            return Err(NoModel::TooManyLabels(name.into()));
        }
        let place = Place::of_label(&found.job, name, label);
        self.store.write(&place, &found.version, true).map_err(|error| NoModel::Disk(error.to_string()))?;
        versions.named.insert(label.into(), found.version.clone());
        Ok(found)
    }

    /// Takes a name away.
    pub(crate) fn untag(&self, job: Option<&str>, name: &str, label: &str) -> Result<Found, NoModel> {
        let mut jobs = self.write();
        let (job, versions) = one(&jobs, job, name)?;
        let (job, kept) = (job.clone(), versions.kept());
        let versions = jobs.get_mut(&job).and_then(|job| job.models.get_mut(name));
        let version = versions.and_then(|versions| versions.named.remove(label));
        let version = version.ok_or_else(|| NoModel::NotKept { name: name.into(), wanted: label.into(), kept })?;
        self.store.remove(&Place::of_label(&job, name, label));
        Ok(Found { job, name: name.into(), version })
    }
}

/// The one job that is meant, and the versions of its model.
fn one<'a>(jobs: &'a Jobs, job: Option<&str>, name: &str) -> Result<(&'a String, &'a Versions), NoModel> {
    let of = |(job, models): (&'a String, &'a JobModels)| models.models.get(name).map(|versions| (job, versions));
    let found: Vec<_> = match job {
        Some(job) => jobs.get_key_value(job).and_then(of).into_iter().collect(),
        None => jobs.iter().filter_map(of).collect(),
    };
    match found[..] {
        [found] => Ok(found),
        [] => {
            let published = jobs.values().flat_map(|job| job.models.keys().cloned()).collect();
            Err(NoModel::Unknown { name: name.into(), published })
        }
        _ => {
            let jobs = found.into_iter().map(|(job, _)| job.clone()).collect();
            Err(NoModel::Ambiguous { name: name.into(), jobs })
        }
    }
}

/// Forgets the job that published longest ago, if there are too many and it is not this one.
fn forget_oldest(jobs: &mut Jobs, but: &str) -> Option<String> {
    if jobs.len() <= JOBS {
        return None;
    }
    let others = jobs.iter().filter(|(name, _)| name.as_str() != but);
    let oldest = others.min_by_key(|(_, job)| job.last_ms).map(|(name, _)| name.clone())?;
    jobs.remove(&oldest);
    Some(oldest)
}

impl Found {
    /// What people want to know of a model, without its parameters.
    pub(crate) fn summary(&self) -> Value {
        let Version { batch, time_ms, stored, .. } = &self.version;
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

#[cfg(test)]
mod tests;
