//! What the driver must not forget: the records of its log, and the state they fold into.
//!
//! The log is the only truth of intake (INV-2): an offset counts as received when a
//! [`JobRecord::Block`] for it is in the log, and a batch is what its [`JobRecord::Frozen`] says.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tidemill_common::ids::{BatchId, JobId, SourceIdx, Term, WorkerId};

/// Ended jobs that are remembered for `status`.
const ENDED_JOBS_KEPT: usize = 50;

/// A receiver of a job: (source, number within the source).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReceiverKey {
    /// The source.
    pub source: SourceIdx,
    /// The receiver's number within it.
    pub receiver: u32,
}

/// A block of a job. Its order is the order in which a batch takes blocks: by source, receiver, offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockKey {
    /// Who received it.
    pub receiver: ReceiverKey,
    /// Offset of its first record; unique per receiver, since the log accepts an offset once.
    pub first_offset: u64,
}

/// A logged block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockMeta {
    /// Which.
    pub key: BlockKey,
    /// Epoch of its receiver.
    pub epoch: u64,
    /// Number of records.
    pub records: u64,
    /// Bytes.
    pub bytes: u64,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// First entry of a new log.
    Cluster {
        /// Random, names the cluster for ever.
        id: String,
    },
    /// The driver started.
    Started {
        /// Higher than every one before.
        term: Term,
    },
    /// A worker was admitted.
    WorkerJoined(WorkerId),
    /// A worker was declared dead; its id never speaks again (INV-5).
    WorkerLost(WorkerId),
    /// A job was accepted.
    Submitted(Box<DurableJob>),
    /// Something happened to a job.
    Job(JobId, JobRecord),
}

/// Something that happened to a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum JobRecord {
    /// A receiver is about to start with this epoch.
    Receiver {
        /// Which.
        key: ReceiverKey,
        /// Its epoch; blocks of another one are refused from now on.
        epoch: u64,
    },
    /// A receiver has come to the end of its source.
    ReceiverFinished(ReceiverKey),
    /// A block is held in all the copies that can exist.
    Block(BlockMeta),
    /// A batch is made of the first `counts` waiting blocks of each receiver.
    Frozen {
        /// The batch; always the one after the last.
        batch: BatchId,
        /// Its time, in ms since 1970.
        time_ms: i64,
        /// Blocks taken, per receiver.
        counts: Vec<(ReceiverKey, u32)>,
    },
    /// A batch's outputs are committed and its state is applied.
    Completed {
        /// The batch.
        batch: BatchId,
        /// What it adds to the job's totals.
        totals: Totals,
    },
    /// A checkpoint is on disk at all its holders.
    Checkpoint(BatchId),
    /// Who owns and who follows each key group, from now on.
    Assigned(Vec<GroupPlaces>),
    /// The job is over.
    Ended(Ending),
}

/// Places of a key group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPlaces {
    /// Owner, if it has one.
    pub owner: Option<WorkerId>,
    /// Followers.
    pub followers: Vec<WorkerId>,
}

/// Counts that grow with every complete batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Records decoded.
    pub records: u64,
    /// Records that did not parse.
    pub bad_records: u64,
    /// Rows committed per output.
    pub output_rows: Vec<u64>,
}

impl Totals {
    fn add(&mut self, other: &Totals) {
        self.records += other.records;
        self.bad_records += other.bad_records;
        if self.output_rows.len() < other.output_rows.len() {
            self.output_rows.resize(other.output_rows.len(), 0);
        }
        for (sum, more) in self.output_rows.iter_mut().zip(&other.output_rows) {
            *sum += more;
        }
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// Stopped, and everything that was received is in its results.
    Stopped,
    /// Stopped with something left; the text says what.
    StoppedIncomplete(String),
    /// Failed; the text says why.
    Failed(String),
}

/// A frozen batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrozenBatch {
    /// Its time, in ms since 1970.
    pub time_ms: i64,
    /// Its blocks; the position is the order tag of the split.
    pub blocks: Vec<BlockMeta>,
}

/// What the log says of one receiver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DurableReceiver {
    /// Current epoch; 0 before the first start.
    pub epoch: u64,
    /// First offset not logged.
    pub next_offset: u64,
    /// It came to the end of its source.
    pub finished: bool,
}

/// What the log says of one job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DurableJob {
    /// Its number.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// Text of its definition.
    pub definition: String,
    /// File name of the definition, for messages.
    pub file_name: String,
    /// Files it refers to.
    pub attachments: Vec<Vec<u8>>,
    /// Folder that paths of outputs are relative to.
    pub base_dir: String,
    /// Whether all output rows go to watchers and no sink is written (replay).
    pub capture: bool,
    /// Whether it keeps state: then blocks are kept until a checkpoint covers them.
    pub stateful: bool,
    /// Its receivers.
    pub receivers: BTreeMap<ReceiverKey, DurableReceiver>,
    /// Logged blocks that no batch has taken, per receiver in offset order.
    pub waiting: BTreeMap<ReceiverKey, VecDeque<BlockMeta>>,
    /// Frozen batches whose blocks are still needed.
    pub frozen: BTreeMap<BatchId, FrozenBatch>,
    /// The last frozen batch.
    pub last_frozen: BatchId,
    /// Its time.
    pub last_time_ms: i64,
    /// The last complete batch.
    pub completed: BatchId,
    /// Time of the last complete batch.
    pub completed_time_ms: i64,
    /// The last complete checkpoint; 0 is the initial state.
    pub checkpoint: BatchId,
    /// Batch time of the last complete checkpoint.
    pub checkpoint_time_ms: i64,
    /// Places of the key groups.
    pub groups: Vec<GroupPlaces>,
    /// Totals over complete batches.
    pub totals: Totals,
    /// Records logged.
    pub received_records: u64,
    /// Bytes logged.
    pub received_bytes: u64,
    /// How it ended, once it has.
    pub ending: Option<Ending>,
}

impl DurableJob {
    /// Folds one record in and returns the blocks that nothing needs any more (INV-3).
    pub fn apply(&mut self, record: &JobRecord) -> Vec<BlockMeta> {
        match record {
            JobRecord::Receiver { key, epoch } => self.receivers.entry(*key).or_default().epoch = *epoch,
            JobRecord::ReceiverFinished(key) => self.receivers.entry(*key).or_default().finished = true,
            JobRecord::Block(block) => self.apply_block(block),
            JobRecord::Frozen { batch, time_ms, counts } => self.apply_frozen(*batch, *time_ms, counts),
            JobRecord::Completed { batch, totals } => {
                self.completed = *batch;
                self.completed_time_ms = self.frozen.get(batch).map_or(self.completed_time_ms, |f| f.time_ms);
                self.totals.add(totals);
                if !self.stateful {
                    return self.release(*batch);
                }
            }
            JobRecord::Checkpoint(batch) => {
                self.checkpoint = *batch;
                self.checkpoint_time_ms = self.frozen.get(batch).map_or(self.checkpoint_time_ms, |f| f.time_ms);
                return self.release(*batch);
            }
            JobRecord::Assigned(groups) => self.groups.clone_from(groups),
            JobRecord::Ended(ending) => {
                self.ending = Some(ending.clone());
                self.groups.clear();
                self.attachments.clear();
                let waiting = std::mem::take(&mut self.waiting).into_values().flatten();
                let frozen = std::mem::take(&mut self.frozen).into_values().flat_map(|f| f.blocks);
                return waiting.chain(frozen).collect();
            }
        }
        Vec::new()
    }

    fn apply_block(&mut self, block: &BlockMeta) {
        let receiver = self.receivers.entry(block.key.receiver).or_default();
        receiver.next_offset = block.key.first_offset + block.records;
        self.waiting.entry(block.key.receiver).or_default().push_back(*block);
        self.received_records += block.records;
        self.received_bytes += block.bytes;
    }

    fn apply_frozen(&mut self, batch: BatchId, time_ms: i64, counts: &[(ReceiverKey, u32)]) {
        let mut blocks = Vec::new();
        for (key, count) in counts {
            if let Some(queue) = self.waiting.get_mut(key) {
                let count = (*count as usize).min(queue.len());
                blocks.extend(queue.drain(..count));
            }
        }
        self.frozen.insert(batch, FrozenBatch { time_ms, blocks });
        self.last_frozen = batch;
        self.last_time_ms = time_ms;
    }

    fn release(&mut self, through: BatchId) -> Vec<BlockMeta> {
        let kept = self.frozen.split_off(&through.next());
        let released = std::mem::replace(&mut self.frozen, kept);
        released.into_values().flat_map(|f| f.blocks).collect()
    }

    /// Every block the log still refers to.
    pub fn blocks(&self) -> impl Iterator<Item = &BlockMeta> {
        self.frozen.values().flat_map(|f| &f.blocks).chain(self.waiting.values().flatten())
    }
}

/// Everything the log says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Durable {
    /// The cluster's id.
    pub cluster_id: String,
    /// The last term.
    pub term: Term,
    /// Highest job number given out.
    pub last_job: JobId,
    /// Highest worker id given out.
    pub last_worker: WorkerId,
    /// Workers admitted and not declared dead.
    pub members: BTreeSet<WorkerId>,
    /// Jobs, the ended ones too (a bounded number of them).
    pub jobs: BTreeMap<JobId, DurableJob>,
}

impl Durable {
    /// Folds one record in.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Cluster { id } => self.cluster_id.clone_from(id),
            Record::Started { term } => self.term = *term,
            Record::WorkerJoined(worker) => {
                self.last_worker = self.last_worker.max(*worker);
                self.members.insert(*worker);
            }
            Record::WorkerLost(worker) => {
                self.members.remove(worker);
            }
            Record::Submitted(job) => {
                self.last_job = self.last_job.max(job.id);
                self.jobs.insert(job.id, (**job).clone());
                self.forget_old_jobs();
            }
            Record::Job(id, record) => {
                if let Some(job) = self.jobs.get_mut(id) {
                    job.apply(record);
                }
            }
        }
    }

    fn forget_old_jobs(&mut self) {
        let ended: Vec<JobId> = self.jobs.values().filter(|j| j.ending.is_some()).map(|j| j.id).collect();
        for id in ended.iter().take(ended.len().saturating_sub(ENDED_JOBS_KEPT)) {
            self.jobs.remove(id);
        }
    }
}
