//! Models that tasks ask: read where they live, kept for the batch.
//!
//! A model lives in a key group like any other state. Its owner has it as of the last two batches that changed it, so
//! that it can still be asked for the batch before while it has learnt from this one already.

use crate::jobs::Job;
use crate::node::{Node, lock, worth_retrying};
use crate::state::PartitionKey;
use crate::tasks::TaskError;
use bytes::Bytes;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray, StringArray};
use datafusion::arrow::datatypes::Int64Type;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tidemill_common::ids::{KeyGroup, WorkerId};
use tidemill_ml::Model;
use tidemill_plan::{AskedModel, Models, PlanError, StageState, encode_keys};
use tidemill_proto::common::ErrorKind;
use tidemill_proto::control as pb;
use tidemill_proto::data::GetModelRequest;
use tidemill_proto::status;
use tonic::Status;

/// How long a task asks an owner that does not answer; then the driver sends it to whoever is the owner by then.
const PATIENCE: Duration = Duration::from_secs(5);
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// Models as tasks of the last batches have read them: by number, version and whether they are as they were imported.
#[derive(Default)]
pub(crate) struct Cache(Mutex<HashMap<(u32, u64, bool), Arc<Model>>>);

impl Cache {
    fn get(&self, at: &pb::ModelAt) -> Option<Arc<Model>> {
        lock(&self.0).get(&(at.answers, at.version, at.owner == 0)).cloned()
    }

    /// Bounded: of each model the versions that tasks of this batch may ask.
    fn put(&self, at: &pb::ModelAt, model: Arc<Model>) {
        let mut cached = lock(&self.0);
        cached.retain(|(number, version, _), _| *number != at.answers || version + 1 >= at.version);
        cached.insert((at.answers, at.version, at.owner == 0), model);
    }
}

/// Models from outside by number and batch, as the driver has told them.
#[derive(Default)]
pub(crate) struct Imported(Mutex<BTreeMap<(u32, u64), Bytes>>);

impl Imported {
    /// Notes what takes effect with a batch.
    pub(crate) fn put(&self, message: pb::ImportedModel) {
        lock(&self.0).insert((message.model, message.batch), message.bytes);
    }

    /// What was imported with a batch.
    pub(crate) fn get(&self, model: u32, batch: u64) -> Result<Bytes, TaskError> {
        let found = lock(&self.0).get(&(model, batch)).cloned();
        found.ok_or_else(|| TaskError::Internal(format!("no model {model} was imported with batch {batch}")))
    }

    /// Batches up to this one never run again: of each model only the last import may still be asked.
    pub(crate) fn settle(&self, through: u64) {
        let mut imported = lock(&self.0);
        let settled: BTreeMap<u32, u64> = imported.keys().filter(|(_, batch)| *batch <= through).copied().collect();
        imported.retain(|(model, batch), _| settled.get(model).is_none_or(|last| batch >= last));
    }
}

/// The models that a task's expressions ask.
pub(crate) async fn of_task(node: &Arc<Node>, job: &Arc<Job>, task: &pb::Task) -> Result<Models, TaskError> {
    let mut models = Vec::with_capacity(task.models.len());
    for at in &task.models {
        let asked = AskedModel { model: at.model as usize, after_training: at.after_training };
        models.push((asked, one(node, job, at).await?));
    }
    Ok(Models::new(models))
}

async fn one(node: &Arc<Node>, job: &Arc<Job>, at: &pb::ModelAt) -> Result<Arc<Model>, TaskError> {
    let plan = job.plan.models.get(at.answers as usize);
    let plan = plan.ok_or_else(|| TaskError::Internal(format!("the job has no model {}", at.answers)))?;
    if at.owner == 0 && at.version == 0 {
        return Ok(plan.initial.clone());
    }
    if let Some(model) = job.models.get(at) {
        return Ok(model);
    }
    let lost = |error: Status| TaskError::Model(format!("model `{}`: {}", plan.name, error.message()));
    let bytes = match at.owner {
        0 => job.imported.get(at.answers, at.version)?,
        _ => bytes_of(node, job, at).await.map_err(lost)?,
    };
    let model = Model::from_bytes(&bytes).map_err(|error| TaskError::Internal(error.to_string()))?;
    let model = Arc::new(model);
    job.models.put(at, model.clone());
    Ok(model)
}

async fn bytes_of(node: &Arc<Node>, job: &Arc<Job>, at: &pb::ModelAt) -> Result<Bytes, Status> {
    let owner = WorkerId(at.owner);
    let since = Instant::now();
    loop {
        let answer = if owner == node.worker() {
            read(node, job, at.answers, at.version)
        } else {
            let request =
                GetModelRequest { caller: node.caller(), job: job.id.0, model: at.answers, version: at.version };
            match node.peer(owner) {
                Ok(mut peer) => {
                    node.while_member(owner, peer.get_model(request)).await.map(|reply| reply.into_inner().bytes)
                }
                Err(error) => Err(error),
            }
        };
        match answer {
            Ok(bytes) => return Ok(bytes),
            // An owner that is lost will not answer; one that is still restoring may.
            Err(error) if since.elapsed() >= PATIENCE || !node.is_member(owner) => return Err(error),
            Err(error) => {
                if !worth_retrying(&error).await {
                    tokio::time::sleep(BETWEEN_TRIES).await;
                }
            }
        }
    }
}

/// The key under which a model is in the state.
pub(crate) fn key(name: &str) -> Result<BinaryArray, PlanError> {
    let name: ArrayRef = Arc::new(StringArray::from(vec![name]));
    encode_keys(&[name])
}

/// A model of this worker as a batch left it.
pub(crate) fn read(node: &Node, job: &Job, model: u32, version: u64) -> Result<Bytes, Status> {
    let not_ready = |what: String| status(ErrorKind::ErrorNotReady, what);
    let internal = |what: String| status(ErrorKind::ErrorInternal, what);
    let plan = job.plan.models.get(model as usize).ok_or_else(|| internal(format!("no model {model}")))?;
    let (stage, group) = plan.home.ok_or_else(|| internal(format!("`{}` does not change", plan.name)))?;
    let partition = PartitionKey { job: job.id, stage, group: KeyGroup(group) };
    let handle = node.states.get(&partition).ok_or_else(|| not_ready(format!("key group {group} is not here")))?;
    let key = key(&plan.name).map_err(|error| internal(error.to_string()))?;
    let state = {
        let held = handle.lock().map_err(|error| internal(error.to_string()))?;
        let at = held.partition().version().0;
        if at < version {
            return Err(not_ready(format!("`{}` is at batch {at}, not yet {version}", plan.name)));
        }
        held.partition().gather(&key).map_err(|error| internal(error.to_string()))?.columns
    };
    let [value, since, before] = &state[..] else { return Err(internal("this is no model's state".into())) };
    let changed_later = since.as_primitive::<Int64Type>().value(0) as u64 > version;
    let bytes: &BinaryArray = if changed_later { before } else { value }.as_binary();
    if bytes.is_null(0) {
        return Err(not_ready(format!("`{}` is not kept as of batch {version}", plan.name)));
    }
    let Some(StageState::Fold(op)) = &job.plan.stages[stage.0 as usize].state else {
        return Err(internal(format!("`{}` is not trained where it lives", plan.name)));
    };
    let model = op.model_bytes(bytes.value(0)).map_err(|error| internal(error.to_string()))?;
    Ok(Bytes::from(model.into_owned()))
}
