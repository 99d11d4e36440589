//! Followers: the owner's side, which sends deltas and snapshots, and the follower's side, which applies them.
//!
//! Per job and follower there is one *link*: an ordered queue and a task that empties it. A group enters a
//! link by a snapshot; from then on every delta of the group goes through the queue. Both happen under the
//! partition's lock, so a follower sees each change exactly once and in order.

use crate::jobs::Job;
use crate::node::{Node, lock, worth_retrying};
use crate::restore::Taken;
use crate::state::{Delta, HeldPartition, PartitionKey, Snapshot, StateError};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidemill_common::ids::{BatchId, JobId, KeyGroup, StageId, WorkerId};
use tidemill_proto::common::ErrorKind;
use tidemill_proto::control::{self as pb, worker_message};
use tidemill_proto::data::{FollowStateRequest, StateEntry};
use tidemill_proto::{error_kind, status};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Changes that may wait for a follower; one that is further behind is filled again.
const QUEUE: usize = 16 << 10;
/// Wait before a request is made again.
const RETRY: Duration = Duration::from_millis(50);
/// Bytes of entries in one request, but for a single larger one.
const REQUEST_BYTES: usize = 4 << 20;

/// The links of a job.
#[derive(Default)]
pub(crate) struct Links {
    by_follower: Mutex<HashMap<WorkerId, Arc<Link>>>,
}

struct Link {
    follower: WorkerId,
    state: Mutex<LinkState>,
    wake: Notify,
    stop: CancellationToken,
}

#[derive(Default)]
struct LinkState {
    /// Groups this link is for, each with the stages of which a snapshot has been taken.
    groups: BTreeMap<u32, BTreeSet<StageId>>,
    queue: VecDeque<Queued>,
    /// Versions the follower has acknowledged.
    acknowledged: BTreeMap<(StageId, u32), BatchId>,
}

enum Queued {
    Delta { stage: StageId, group: u32, delta: Delta },
    Snapshot { stage: StageId, group: u32, snapshot: Snapshot, undo: Vec<Delta> },
    Checkpoint { stage: StageId, group: u32, version: BatchId },
}

impl Links {
    /// Brings the links in line with the assignment: groups owned here and restored, each with its followers.
    pub(crate) fn update(&self, node: &Arc<Node>, job: &Arc<Job>) {
        let (places, me) = (job.places(), node.worker());
        let mut wanted: BTreeMap<WorkerId, BTreeSet<u32>> = BTreeMap::new();
        for group in (0..places.groups.len() as u32).filter(|group| places.owner(*group) == Some(me)) {
            for follower in places.followers(group).iter().filter(|_| places.ready.contains(&group)) {
                wanted.entry(*follower).or_default().insert(group);
            }
        }
        let mut links = lock(&self.by_follower);
        links.retain(|follower, link| {
            let keep = wanted.contains_key(follower);
            if !keep {
                link.stop.cancel();
            }
            keep
        });
        for (follower, groups) in wanted {
            let link = links.entry(follower).or_insert_with(|| Link::start(node, job, follower));
            let mut state = lock(&link.state);
            state.groups.retain(|group, _| groups.contains(group));
            state.acknowledged.retain(|(_, group), _| groups.contains(group));
            for group in groups {
                state.groups.entry(group).or_default();
            }
            drop(state);
            link.wake.notify_one();
        }
    }

    /// Passes a delta on; called under the partition's lock.
    pub(crate) fn delta(&self, stage: StageId, group: u32, delta: &Delta) {
        self.push(stage, group, || Queued::Delta { stage, group, delta: delta.clone() });
    }

    /// Has followers write a checkpoint of what they hold at this point; called under the partition's lock.
    pub(crate) fn checkpoint(&self, stage: StageId, group: u32, version: BatchId) {
        self.push(stage, group, || Queued::Checkpoint { stage, group, version });
    }

    fn push(&self, stage: StageId, group: u32, entry: impl Fn() -> Queued) {
        for link in lock(&self.by_follower).values() {
            let mut state = lock(&link.state);
            if state.takes(stage, group) {
                if state.queue.len() >= QUEUE {
                    // A snapshot of the present costs less than all that.
                    let groups: Vec<u32> = state.groups.keys().copied().collect();
                    state.refill(&groups);
                } else {
                    state.queue.push_back(entry());
                }
                link.wake.notify_one();
            }
        }
    }

    /// The groups' state was changed other than by a delta: followers get it anew.
    pub(crate) fn refill(&self, groups: &[u32]) {
        for link in lock(&self.by_follower).values() {
            lock(&link.state).refill(groups);
            link.wake.notify_one();
        }
    }

    /// Says again what followers hold, to a driver that has not heard it.
    pub(crate) async fn report_again(&self, node: &Node, job: &Job) {
        let links: Vec<Arc<Link>> = lock(&self.by_follower).values().cloned().collect();
        for link in links {
            link.report(node, job).await;
        }
    }
}

impl LinkState {
    /// Whether changes of this stage and group go through the queue.
    fn takes(&self, stage: StageId, group: u32) -> bool {
        self.groups.get(&group).is_some_and(|taken| taken.contains(&stage))
    }

    fn refill(&mut self, groups: &[u32]) {
        for group in groups {
            if let Some(taken) = self.groups.get_mut(group) {
                taken.clear();
            }
        }
        self.acknowledged.retain(|(_, group), _| !groups.contains(group));
        let is_of = |entry: &Queued| match entry {
            Queued::Delta { group, .. } | Queued::Snapshot { group, .. } | Queued::Checkpoint { group, .. } => {
                groups.contains(group)
            }
        };
        self.queue.retain(|entry| !is_of(entry));
    }
}

impl Link {
    fn start(node: &Arc<Node>, job: &Arc<Job>, follower: WorkerId) -> Arc<Self> {
        let stop = job.stop.child_token();
        let link = Arc::new(Self { follower, state: Mutex::default(), wake: Notify::new(), stop: stop.clone() });
        let (running, node_, job) = (link.clone(), node.clone(), job.clone());
        node.tracker.spawn_on(
            async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = running.run(&node_, &job) => {}
                }
            },
            &node.data,
        );
        link
    }

    async fn run(&self, node: &Arc<Node>, job: &Job) {
        loop {
            self.take_snapshots(node, job);
            let entries = self.next_entries();
            if entries.is_empty() {
                self.wake.notified().await;
                continue;
            }
            self.send(node, job, entries).await;
        }
    }

    fn take_snapshots(&self, node: &Node, job: &Job) {
        let unfilled: Vec<(u32, StageId)> = {
            let state = lock(&self.state);
            let missing = |(group, taken): (&u32, &BTreeSet<StageId>)| {
                let (group, taken) = (*group, taken.clone());
                job.stateful
                    .iter()
                    .copied()
                    .filter(move |stage| !taken.contains(stage))
                    .map(move |stage| (group, stage))
            };
            state.groups.iter().flat_map(missing).collect()
        };
        for (group, stage) in unfilled {
            let key = PartitionKey { job: job.id, stage, group: KeyGroup(group) };
            let Some(handle) = node.states.get(&key) else { continue };
            let taken = handle.lock().and_then(|held| {
                let snapshot = held.partition().snapshot()?;
                // Without it a follower that is filled could not go back with the others.
                let undo = held.partition().undo().cloned().collect();
                let mut state = lock(&self.state);
                // The assignment may have changed meanwhile.
                if let Some(taken) = state.groups.get_mut(&group) {
                    taken.insert(stage);
                    state.queue.push_back(Queued::Snapshot { stage, group, snapshot, undo });
                }
                Ok(())
            });
            if let Err(error) = taken {
                tracing::error!(job = job.id.0, group, %error, "a snapshot could not be taken");
            }
        }
    }

    fn next_entries(&self) -> Vec<StateEntry> {
        let mut state = lock(&self.state);
        let mut entries = Vec::new();
        let mut bytes = 0;
        while bytes < REQUEST_BYTES {
            let Some(queued) = state.queue.pop_front() else { break };
            match encode(&queued) {
                Ok(entry) => {
                    bytes += entry.bytes.len() + entry.undo.iter().map(|undo| undo.len()).sum::<usize>();
                    entries.push(entry);
                }
                Err(error) => tracing::error!(follower = self.follower.0, %error, "state could not be encoded"),
            }
        }
        entries
    }

    /// Sends until the follower has it, or says that it does not follow on what it has.
    async fn send(&self, node: &Arc<Node>, job: &Job, entries: Vec<StateEntry>) {
        let request = FollowStateRequest { caller: node.caller(), job: job.id.0, entries };
        loop {
            let sent = match node.peer(self.follower) {
                Ok(mut peer) => peer.follow_state(request.clone()).await,
                Err(error) => Err(error),
            };
            match sent {
                Ok(reply) => {
                    let refused = reply.into_inner().refused_groups;
                    self.acknowledge(&request.entries, &refused);
                    self.report(node, job).await;
                    if !refused.is_empty() {
                        // One of us has an old assignment: filled again, unless a newer one takes the group away.
                        lock(&self.state).refill(&refused);
                        tokio::time::sleep(RETRY).await;
                    }
                    return;
                }
                Err(error) if error_kind(&error) == Some(ErrorKind::ErrorStateVersion) => {
                    tracing::info!(job = job.id.0, follower = self.follower.0, %error, "a follower is filled again");
                    let groups: Vec<u32> = request.entries.iter().map(|entry| entry.group).collect();
                    lock(&self.state).refill(&groups);
                    return;
                }
                Err(error) => {
                    tracing::debug!(job = job.id.0, follower = self.follower.0, %error, "state could not be sent");
                    if !worth_retrying(&error).await {
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        }
    }

    fn acknowledge(&self, entries: &[StateEntry], refused: &[u32]) {
        let mut state = lock(&self.state);
        for entry in entries.iter().filter(|entry| !refused.contains(&entry.group)) {
            if state.takes(StageId(entry.stage), entry.group) {
                state.acknowledged.insert((StageId(entry.stage), entry.group), BatchId(entry.version));
            }
        }
    }

    /// A follower holds a group at the lowest version of all its stages.
    async fn report(&self, node: &Node, job: &Job) {
        let mut by_version: BTreeMap<BatchId, Vec<u32>> = BTreeMap::new();
        {
            let state = lock(&self.state);
            for group in state.groups.keys() {
                let versions: Option<Vec<BatchId>> =
                    job.stateful.iter().map(|stage| state.acknowledged.get(&(*stage, *group)).copied()).collect();
                if let Some(version) = versions.and_then(|versions| versions.into_iter().min()) {
                    by_version.entry(version).or_default().push(*group);
                }
            }
        }
        for (version, groups) in by_version {
            let message = pb::StateReplicated { job: job.id.0, follower: self.follower.0, version: version.0, groups };
            node.report(worker_message::Kind::StateReplicated(message)).await;
        }
    }
}

fn encode(queued: &Queued) -> Result<StateEntry, StateError> {
    let entry = |stage: StageId, group: u32, version: BatchId| StateEntry {
        stage: stage.0,
        group,
        version: version.0,
        ..StateEntry::default()
    };
    match queued {
        // Most groups change nothing in a short batch: then the version says it all.
        Queued::Delta { stage, group, delta } if delta.rows.num_rows() == 0 => Ok(entry(*stage, *group, delta.batch)),
        Queued::Delta { stage, group, delta } => {
            Ok(StateEntry { bytes: delta.encode()?, ..entry(*stage, *group, delta.batch) })
        }
        Queued::Snapshot { stage, group, snapshot, undo } => {
            let entry = entry(*stage, *group, snapshot.version);
            let undo = undo.iter().map(Delta::encode).collect::<Result<_, _>>()?;
            Ok(StateEntry { snapshot: true, bytes: snapshot.encode()?, undo, ..entry })
        }
        Queued::Checkpoint { stage, group, version } => {
            Ok(StateEntry { checkpoint: true, ..entry(*stage, *group, *version) })
        }
    }
}

/// What became of an owner's entries.
#[derive(Default)]
pub(crate) struct Applied {
    /// Groups that are owned here, as far as is known here; nothing of them was applied.
    pub(crate) refused: Vec<u32>,
    /// Partitions taken down where a checkpoint was asked for.
    pub(crate) taken: Taken,
}

/// Applies what an owner sent, in order.
pub(crate) fn apply(node: &Node, job: &Job, request: &FollowStateRequest) -> Result<Applied, Status> {
    let mut applied = Applied::default();
    let (places, me) = (job.places(), node.worker());
    for entry in &request.entries {
        let key = PartitionKey { job: JobId(request.job), stage: StageId(entry.stage), group: KeyGroup(entry.group) };
        if places.owner(entry.group) == Some(me) {
            applied.refused.push(entry.group);
        } else if entry.checkpoint {
            applied.taken.add(node, key, BatchId(entry.version));
        } else {
            apply_entry(node, job, key, entry).map_err(|error| match error {
                StateError::NotNext { .. } | StateError::NotKept { .. } => {
                    status(ErrorKind::ErrorStateVersion, error.to_string())
                }
                error => status(ErrorKind::ErrorInternal, error.to_string()),
            })?;
        }
    }
    Ok(applied)
}

fn apply_entry(node: &Node, job: &Job, key: PartitionKey, entry: &StateEntry) -> Result<(), StateError> {
    if entry.snapshot {
        let schema = job.state_schema(key.stage)?;
        let snapshot = Snapshot::decode(entry.bytes.clone())?;
        let mut partition = crate::state::StatePartition::from_snapshot(schema, &snapshot)?;
        let undo = entry.undo.iter().map(|undo| Delta::decode(undo.clone()));
        partition.set_undo(undo.collect::<Result<_, _>>()?)?;
        node.states.insert(key, HeldPartition::new(partition));
        return Ok(());
    }
    let batch = BatchId(entry.version);
    let handle = node.states.get(&key).ok_or(StateError::NotNext { version: BatchId(0), batch })?;
    let mut held = handle.lock()?;
    let delta = match entry.bytes.is_empty() {
        true => held.partition().empty_delta(batch),
        false => Delta::decode(entry.bytes.clone())?,
    };
    if held.partition().version() >= batch {
        // The owner ran this batch again: the same once more.
        held.roll_back_to(batch.prev())?;
    }
    held.apply_delta(&delta)
}
