//! Jobs that this worker knows: their plans, who owns which key group, and the tasks that run.

use crate::follow::Links;
use crate::models::{Cache, Imported};
use crate::node::lock;
use crate::restore::Written;
use crate::stateful::window::Windows;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tidemill_common::ids::{JobId, StageId, TaskId, WorkerId};
use tidemill_plan::{JobPlan, Runner};
use tidemill_proto::common::ErrorKind;
use tidemill_proto::control::{self as pb};
use tidemill_proto::status;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// How long another worker's request waits for a job that is not known here.
const PREPARING_PATIENCE: Duration = Duration::from_secs(5);

/// A job.
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) plan: Arc<JobPlan>,
    pub(crate) runner: Runner,
    pub(crate) capture: bool,
    /// Rows of a batch that the driver gets at least, also of outputs that show fewer.
    pub(crate) watched_rows: u32,
    pub(crate) base_dir: PathBuf,
    /// Stages that keep state.
    pub(crate) stateful: Vec<StageId>,
    pub(crate) places: RwLock<Places>,
    pub(crate) links: Links,
    pub(crate) written: Written,
    pub(crate) windows: Windows,
    pub(crate) models: Cache,
    pub(crate) imported: Imported,
    /// The last batch that the driver said to be complete.
    pub(crate) completed: AtomicU64,
    tasks: Mutex<HashMap<TaskId, CancellationToken>>,
    pub(crate) stop: CancellationToken,
}

/// Who owns and follows what, as last told by the driver.
#[derive(Debug, Default, Clone)]
pub(crate) struct Places {
    pub(crate) version: u64,
    pub(crate) groups: Vec<(WorkerId, Vec<WorkerId>)>,
    /// Groups of this worker whose state has been restored.
    pub(crate) ready: HashSet<u32>,
}

impl Places {
    pub(crate) fn owner(&self, group: u32) -> Option<WorkerId> {
        self.groups.get(group as usize).map(|(owner, _)| *owner).filter(|owner| owner.0 != 0)
    }

    pub(crate) fn followers(&self, group: u32) -> &[WorkerId] {
        self.groups.get(group as usize).map_or(&[], |(_, followers)| followers)
    }

    /// Takes a newer table over; a group that this worker did not own before is not ready.
    pub(crate) fn update(&mut self, table: &pb::Assignment, me: WorkerId) {
        let groups: Vec<(WorkerId, Vec<WorkerId>)> = table
            .groups
            .iter()
            .map(|group| (WorkerId(group.owner), group.followers.iter().map(|id| WorkerId(*id)).collect()))
            .collect();
        self.ready.retain(|group| groups.get(*group as usize).is_some_and(|(owner, _)| *owner == me));
        self.groups = groups;
        self.version = table.version;
    }

    /// Whether this worker has any business with the group.
    pub(crate) fn concerns(&self, group: u32, me: WorkerId) -> bool {
        self.owner(group) == Some(me) || self.followers(group).contains(&me)
    }
}

impl Job {
    pub(crate) fn new(id: JobId, plan: Arc<JobPlan>, message: &pb::StartJob, memory_per_task: usize) -> Self {
        Self {
            id,
            runner: Runner::new(plan.clone(), memory_per_task),
            capture: message.capture,
            watched_rows: message.watched_rows,
            base_dir: PathBuf::from(&message.base_dir),
            stateful: plan.stages.iter().filter(|stage| stage.state.is_some()).map(|stage| stage.id).collect(),
            places: RwLock::default(),
            links: Links::default(),
            written: Written::default(),
            windows: Windows::default(),
            models: Cache::default(),
            imported: Imported::default(),
            completed: AtomicU64::new(0),
            tasks: Mutex::default(),
            stop: CancellationToken::new(),
            plan,
        }
    }

    pub(crate) fn progress(&self) -> pb::Progress {
        pb::Progress { job: self.id.0, completed: self.completed.load(Ordering::Relaxed) }
    }

    pub(crate) fn places(&self) -> Places {
        self.places.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Registers a task; its token is cancelled by [`Job::cancel`].
    pub(crate) fn begin(&self, task: TaskId) -> CancellationToken {
        let token = self.stop.child_token();
        lock(&self.tasks).insert(task, token.clone());
        token
    }

    pub(crate) fn finished(&self, task: TaskId) {
        lock(&self.tasks).remove(&task);
    }

    pub(crate) fn cancel(&self, tasks: impl IntoIterator<Item = u64>) {
        let running = lock(&self.tasks);
        for task in tasks {
            if let Some(token) = running.get(&TaskId(task)) {
                token.cancel();
            }
        }
    }

    pub(crate) fn cancel_all(&self) {
        lock(&self.tasks).values().for_each(CancellationToken::cancel);
    }
}

/// All jobs.
#[derive(Default)]
pub(crate) struct Jobs {
    by_id: RwLock<HashMap<JobId, Arc<Job>>>,
    /// Told of every job that comes.
    came: watch::Sender<()>,
}

impl Jobs {
    pub(crate) fn get(&self, job: JobId) -> Option<Arc<Job>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(&job).cloned()
    }

    /// The job, for another worker that asks for it: plans are not made everywhere in the same time, so it may be
    /// asked for before it is here.
    pub(crate) async fn get_soon(&self, job: JobId) -> Result<Arc<Job>, Status> {
        let mut came = self.came.subscribe();
        let here = async {
            loop {
                if let Some(job) = self.get(job) {
                    return job;
                }
                if came.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let here = tokio::time::timeout(PREPARING_PATIENCE, here).await;
        here.map_err(|_| status(ErrorKind::ErrorNotReady, format!("job {job} is not known here")))
    }

    pub(crate) fn insert(&self, job: Arc<Job>) {
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).insert(job.id, job);
        self.came.send_replace(());
    }

    pub(crate) fn remove(&self, job: JobId) -> Option<Arc<Job>> {
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).remove(&job)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Job>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
