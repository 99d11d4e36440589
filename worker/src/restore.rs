//! Bringing state to a version, and writing it to disk.

use crate::jobs::Job;
use crate::node::{Node, lock};
use crate::state::checkpoint::{CheckpointItem, CheckpointKey, JobKey};
use crate::state::{HeldPartition, PartitionKey, StateError, StatePartition};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use tidemill_common::ids::{BatchId, JobId, KeyGroup, StageId};
use tidemill_plan::{encode_keys, key_group};
use tidemill_proto::control::{self as pb, worker_message};

impl Job {
    /// Schema of a stage's state columns.
    pub(crate) fn state_schema(&self, stage: StageId) -> Result<datafusion::arrow::datatypes::SchemaRef, StateError> {
        let state = self.plan.stages.get(stage.0 as usize).and_then(|stage| stage.state.as_ref());
        let state = state.ok_or_else(|| StateError::Shape(format!("stage {stage} keeps no state")))?;
        Ok(Arc::new(datafusion::arrow::datatypes::Schema::new(state.fields().clone())))
    }
}

fn checkpoint_key(node: &Node, key: PartitionKey, version: BatchId) -> CheckpointKey {
    let job = JobKey::new(&node.identity().cluster_id, key.job);
    CheckpointKey { job, stage: key.stage, group: key.group, version }
}

/// Brings groups to a version: in memory by undo, else from the checkpoint on disk, else (version 0) afresh.
pub(crate) async fn restore(node: &Arc<Node>, job: &Arc<Job>, message: &pb::RestoreState) {
    let (version, groups) = (BatchId(message.version), message.groups.clone());
    let job_ = job.clone();
    let work = move |node: &Node| {
        let one = |group: &u32| job_.stateful.iter().all(|stage| restore_one(node, &job_, *stage, *group, version));
        groups.into_iter().partition::<Vec<u32>, _>(one)
    };
    let (restored, failed) = match node.blocking(work).await {
        Ok(parts) => parts,
        Err(_) => (Vec::new(), message.groups.clone()),
    };
    {
        let mut places = job.places.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        places.ready.extend(restored.iter().copied());
    }
    job.links.refill(&restored);
    job.links.update(node, job);
    let answer = pb::StateRestored { job: job.id.0, version: version.0, groups: restored, failed };
    node.report(worker_message::Kind::StateRestored(answer)).await;
}

fn restore_one(node: &Node, job: &Job, stage: StageId, group: u32, version: BatchId) -> bool {
    let key = PartitionKey { job: job.id, stage, group: KeyGroup(group) };
    if let Some(handle) = node.states.get(&key)
        && handle.lock().is_ok_and(|mut held| held.roll_back_to(version).is_ok())
    {
        return true;
    }
    let loaded = from_checkpoint(node, job, key, version).and_then(|held| match held {
        None if version == BatchId(0) => initial(job, stage, group).map(Some),
        held => Ok(held),
    });
    match loaded {
        Ok(Some(held)) => {
            node.states.insert(key, held);
            true
        }
        Ok(None) => false,
        Err(error) => {
            tracing::warn!(job = job.id.0, stage = stage.0, group, version = version.0, %error, "state could not be restored");
            false
        }
    }
}

fn from_checkpoint(
    node: &Node,
    job: &Job,
    key: PartitionKey,
    version: BatchId,
) -> Result<Option<HeldPartition>, StateError> {
    let parts = node.checkpoints.load(&checkpoint_key(node, key, version));
    let parts = parts.map_err(|error| StateError::Decode(error.to_string()))?;
    parts.map(|parts| HeldPartition::from_checkpoint(job.state_schema(key.stage)?, &parts)).transpose()
}

/// The state before the first batch: the group's share of the initial state.
fn initial(job: &Job, stage: StageId, group: u32) -> Result<HeldPartition, StateError> {
    let mut held = HeldPartition::new(StatePartition::new(job.state_schema(stage)?));
    let state = job.plan.stages.get(stage.0 as usize).and_then(|stage| stage.state.as_ref());
    let Some((width, rows)) = state.and_then(|state| state.initial()) else {
        return Ok(held);
    };
    let keys = encode_keys(&rows.columns()[..width]).map_err(|error| StateError::Shape(error.to_string()))?;
    let groups = job.plan.def.settings.key_groups;
    let mine: datafusion::arrow::array::BooleanArray =
        (0..rows.num_rows()).map(|row| Some(key_group(keys.value(row), groups) == group)).collect();
    let rows = datafusion::arrow::compute::filter_record_batch(rows, &mine)?;
    let keys = encode_keys(&rows.columns()[..width]).map_err(|e| StateError::Shape(e.to_string()))?;
    held.load_initial(&keys, &rows.columns()[width..])?;
    Ok(held)
}

/// Forgets partitions that this worker neither owns nor follows any more.
pub(crate) fn drop_foreign(node: &Node, job: &Job) {
    let (places, me) = (job.places(), node.worker());
    for (key, _) in node.states.partitions(job.id) {
        if !places.concerns(key.group.0, me) {
            node.states.remove(&key);
        }
    }
}

/// Writes the state of the groups owned here, and has the followers do the same at the same version.
pub(crate) fn write_owned(node: &Arc<Node>, job: &Arc<Job>, version: BatchId) {
    let (places, me) = (job.places(), node.worker());
    let mut taken = Taken::default();
    for group in (0..places.groups.len() as u32).filter(|group| places.owner(*group) == Some(me)) {
        for stage in &job.stateful {
            let key = PartitionKey { job: job.id, stage: *stage, group: KeyGroup(group) };
            // Nothing is applied meanwhile: the driver sends the next batch's tasks after this message.
            job.links.checkpoint(*stage, group, version);
            taken.add(node, key, version);
        }
    }
    taken.write(node, job);
}

/// Partitions taken down at the version of a checkpoint, to be written.
#[derive(Default)]
pub(crate) struct Taken {
    items: Vec<CheckpointItem>,
    written: Stages,
}

impl Taken {
    /// Takes a partition down if it is at this version now.
    pub(crate) fn add(&mut self, node: &Node, key: PartitionKey, version: BatchId) {
        let Some(handle) = node.states.get(&key) else { return };
        let Ok(mut held) = handle.lock() else { return };
        if held.partition().version() != version {
            return;
        }
        match held.checkpoint() {
            Ok(payload) => {
                let key_at = checkpoint_key(node, key, version);
                self.items.extend(payload.map(|payload| CheckpointItem { key: key_at, payload }));
                self.written.entry(version).or_default().entry(key.group.0).or_default().insert(key.stage);
            }
            Err(error) => tracing::error!(job = key.job.0, group = key.group.0, %error, "state could not be encoded"),
        }
    }

    /// Writes what was taken and tells the driver; that goes on by itself.
    pub(crate) fn write(self, node: &Arc<Node>, job: &Arc<Job>) {
        if self.written.is_empty() {
            return;
        }
        let (running, job) = (node.clone(), job.clone());
        node.tracker.spawn_on(async move { finish(&running, &job, self.items, self.written).await }, &node.data);
    }
}

async fn finish(node: &Arc<Node>, job: &Job, items: Vec<CheckpointItem>, written: Stages) {
    let store = node.checkpoints.clone();
    let failed: Vec<PartitionKey> =
        items.iter().map(|item| PartitionKey { job: job.id, stage: item.key.stage, group: item.key.group }).collect();
    match node.blocking(move |_| store.write_all(&items)).await {
        Ok(Ok(())) => report(node, job, &written).await,
        result => {
            let error =
                result.map_or_else(|error| error.to_string(), |r| r.err().map(|e| e.to_string()).unwrap_or_default());
            tracing::error!(job = job.id.0, error, "a checkpoint could not be written");
            for key in failed {
                if let Some(Ok(mut held)) = node.states.get(&key).as_ref().map(|handle| handle.lock()) {
                    held.checkpoint_failed();
                }
            }
        }
    }
}

async fn report(node: &Node, job: &Job, written: &Stages) {
    for (version, groups) in written {
        let complete = job.written.add(*version, groups, job.stateful.len());
        let message = pb::CheckpointWritten { job: job.id.0, version: version.0, groups: complete };
        node.report(worker_message::Kind::CheckpointWritten(message)).await;
    }
}

/// Stages of each group that are on disk at a version, until all of them are.
#[derive(Debug, Default)]
pub(crate) struct Written(Mutex<Stages>);

/// Per version and group, the stages on disk.
type Stages = BTreeMap<BatchId, BTreeMap<u32, BTreeSet<StageId>>>;

impl Written {
    fn add(&self, version: BatchId, groups: &BTreeMap<u32, BTreeSet<StageId>>, stages: usize) -> Vec<u32> {
        let mut versions = lock(&self.0);
        let known = versions.entry(version).or_default();
        for (group, written) in groups {
            known.entry(*group).or_default().extend(written);
        }
        let complete = groups.keys().copied().filter(|group| known.get(group).is_some_and(|s| s.len() == stages));
        let complete = complete.collect();
        let oldest_kept = BatchId(version.0.saturating_sub(1000));
        versions.retain(|version, _| *version >= oldest_kept);
        complete
    }
}

/// Versions on disk by job, with the groups of which every stage is there.
pub(crate) fn inventory(node: &Node) -> Vec<pb::HeldState> {
    let cluster = JobKey::new(&node.identity().cluster_id, JobId(0)).cluster;
    let keys = match node.checkpoints.inventory() {
        Ok(keys) => keys,
        Err(error) => {
            tracing::error!(%error, "checkpoints on disk cannot be read");
            return Vec::new();
        }
    };
    let mut found: BTreeMap<(JobId, BatchId), BTreeMap<u32, usize>> = BTreeMap::new();
    for key in keys.into_iter().filter(|key| key.job.cluster == cluster) {
        *found.entry((key.job.job, key.version)).or_default().entry(key.group.0).or_default() += 1;
    }
    let held = |((job, version), groups): ((JobId, BatchId), BTreeMap<u32, usize>)| {
        let stages = groups.values().copied().max().unwrap_or(0);
        let complete = groups.into_iter().filter(|(_, written)| *written == stages).map(|(group, _)| group);
        pb::HeldState { job: job.0, version: version.0, groups: complete.collect() }
    };
    found.into_iter().map(held).collect()
}
