//! What the driver must not forget: the records of its log, and the state they fold into.
//!
//! The log is the only truth of intake (INV-2): an offset counts as received when a
//! [`JobRecord::Block`] for it is in the log, and a batch is what its [`JobRecord::Frozen`] says.
//!
//! These types are the layout of the log: postcard writes the fields of a struct in order, and a variant of an enum as its
//! position. A new variant goes to the end; any other change makes a new version of the log ([`log`](crate::log)).

mod durable;
mod imports;
mod tables;
mod totals;

pub use durable::{Durable, Standing};
pub use imports::Import;
pub use tables::TableContent;
pub use totals::{STRETCH_RECORDS, SourceTotals, Totals};

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use tidemill_common::ids::{BatchId, JobId, SourceIdx, Term, WorkerId};
use tidemill_common::positions::{PositionChange, Positions};

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
    /// Workers have something of jobs that this log never had: their numbers, up to this one, are not given out.
    JobsUnknown {
        /// The highest of them.
        through: JobId,
    },
    /// What workers have of a job that this log never had is not wanted.
    JobForgotten(JobId),
    /// Workers have seen more of a job than this log has: entries were lost.
    JobDoubtful(JobId),
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
    /// A block is held in all the copies that can exist; its records change these positions of their source.
    Block(BlockMeta, Vec<PositionChange>),
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
    /// Positions of a receiver's source have changed without a record.
    Positions(ReceiverKey, Vec<PositionChange>),
    /// A model from outside takes the place of one of the job's, from the next batch that is frozen on.
    Imported {
        /// Its position among the models of the job.
        model: u32,
        /// What comes in.
        import: Import,
    },
    /// Another model answers under the name of a choice, from the next batch on.
    Chosen {
        /// The choice, by its position among the models of the job.
        model: u32,
        /// The model that answers, by position.
        champion: u32,
    },
    /// The file of a table has changed: this is in it from the next batch that is frozen on.
    Reloaded {
        /// The table, by its position among those of the job.
        table: u32,
        /// What is in it.
        content: TableContent,
    },
}

/// Places of a key group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPlaces {
    /// Owner, if it has one.
    pub owner: Option<WorkerId>,
    /// Followers.
    pub followers: Vec<WorkerId>,
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
    /// The time of the batch before it, if there was one.
    pub previous_ms: Option<i64>,
    /// Its blocks; the position is the order tag of the split.
    pub blocks: Vec<BlockMeta>,
    /// Models that take the place of the job's own with this batch, by position.
    pub imported: BTreeMap<u32, Import>,
    /// Who answers under the name of a choice, by position, as the batch before has left it.
    pub champions: BTreeMap<u32, u32>,
    /// Tables that have a new content from this batch on, by position.
    pub reloaded: BTreeMap<u32, TableContent>,
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
    /// Rows of a batch that watchers get at least, also of outputs that show fewer.
    pub watched_rows: u32,
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
    /// How far the sources of receivers were read, as of the last logged record.
    pub positions: BTreeMap<ReceiverKey, Positions>,
    /// Who answers under the name of a choice, by position; at first the first of its candidates.
    pub champions: BTreeMap<u32, u32>,
    /// Imported models that wait for a batch, by position.
    pub imports: BTreeMap<u32, Import>,
    /// The last import of each model that nothing trains, and whose batch needs not run again, with that batch.
    pub last_imported: BTreeMap<u32, (BatchId, Import)>,
    /// New contents of tables that wait for a batch, by position.
    pub reloads: BTreeMap<u32, TableContent>,
    /// The last new content of each table whose batch needs not run again, with that batch.
    pub last_reloaded: BTreeMap<u32, (BatchId, TableContent)>,
}

impl DurableJob {
    /// Folds one record in and returns the blocks that nothing needs any more (INV-3).
    pub fn apply(&mut self, record: &JobRecord) -> Vec<BlockMeta> {
        match record {
            JobRecord::Receiver { key, epoch } => self.receivers.entry(*key).or_default().epoch = *epoch,
            JobRecord::ReceiverFinished(key) => self.receivers.entry(*key).or_default().finished = true,
            JobRecord::Block(block, changes) => {
                self.apply_block(block);
                self.apply_changes(block.key.receiver, changes);
            }
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
            JobRecord::Positions(key, changes) => self.apply_changes(*key, changes),
            JobRecord::Imported { model, import } => {
                self.imports.insert(*model, import.clone());
            }
            JobRecord::Chosen { model, champion } => {
                self.champions.insert(*model, *champion);
            }
            JobRecord::Reloaded { table, content } => {
                self.reloads.insert(*table, content.clone());
            }
            JobRecord::Ended(ending) => {
                self.ending = Some(ending.clone());
                self.imports.clear();
                self.last_imported.clear();
                self.reloads.clear();
                self.last_reloaded.clear();
                self.groups.clear();
                self.attachments.clear();
                self.positions.clear();
                let waiting = std::mem::take(&mut self.waiting).into_values().flatten();
                let frozen = std::mem::take(&mut self.frozen).into_values().flat_map(|f| f.blocks);
                return waiting.chain(frozen).collect();
            }
        }
        Vec::new()
    }

    fn apply_block(&mut self, block: &BlockMeta) {
        let receiver = self.receivers.entry(block.key.receiver).or_default();
        receiver.next_offset = block.key.first_offset.saturating_add(block.records);
        self.waiting.entry(block.key.receiver).or_default().push_back(*block);
        self.received_records = self.received_records.saturating_add(block.records);
        self.received_bytes = self.received_bytes.saturating_add(block.bytes);
    }

    fn apply_changes(&mut self, key: ReceiverKey, changes: &[PositionChange]) {
        if changes.is_empty() {
            return;
        }
        let positions = self.positions.entry(key).or_default();
        for change in changes {
            if let Err(error) = positions.apply(change) {
                tracing::error!(job = self.id.0, source = key.source.0, name = change.name, %error, "a position is not kept");
            }
        }
    }

    fn apply_frozen(&mut self, batch: BatchId, time_ms: i64, counts: &[(ReceiverKey, u32)]) {
        let mut blocks = Vec::new();
        for (key, count) in counts {
            if let Some(queue) = self.waiting.get_mut(key) {
                let count = (*count as usize).min(queue.len());
                blocks.extend(queue.drain(..count));
            }
        }
        let previous_ms = (self.last_frozen.0 > 0).then_some(self.last_time_ms);
        let imported = std::mem::take(&mut self.imports);
        let champions = self.champions.clone();
        let reloaded = std::mem::take(&mut self.reloads);
        self.frozen.insert(batch, FrozenBatch { time_ms, previous_ms, blocks, imported, champions, reloaded });
        self.last_frozen = batch;
        self.last_time_ms = time_ms;
    }

    fn release(&mut self, through: BatchId) -> Vec<BlockMeta> {
        let kept = self.frozen.split_off(&through.next());
        let released = std::mem::replace(&mut self.frozen, kept);
        let mut blocks = Vec::new();
        for (batch, frozen) in released {
            self.release_imports(batch, &frozen);
            self.release_tables(batch, &frozen);
            blocks.extend(frozen.blocks);
        }
        blocks
    }

    /// Every block the log still refers to.
    pub fn blocks(&self) -> impl Iterator<Item = &BlockMeta> {
        self.frozen.values().flat_map(|f| &f.blocks).chain(self.waiting.values().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn key(receiver: u32) -> ReceiverKey {
        ReceiverKey { source: SourceIdx(0), receiver }
    }

    fn job(stateful: bool) -> DurableJob {
        DurableJob { id: JobId(1), stateful, ..DurableJob::default() }
    }

    /// What a driver may log next.
    #[derive(Debug, Clone)]
    enum Step {
        Block(u32, u64),
        Freeze(Vec<u32>),
        Complete,
        Checkpoint(u64),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..3_u32, 1..9_u64).prop_map(|(receiver, records)| Step::Block(receiver, records)),
            2 => prop::collection::vec(0..4_u32, 3).prop_map(Step::Freeze),
            2 => Just(Step::Complete),
            1 => (0..3_u64).prop_map(Step::Checkpoint),
        ]
    }

    fn record(job: &DurableJob, step: &Step) -> Option<JobRecord> {
        Some(match step {
            Step::Block(receiver, records) => {
                let next = job.receivers.get(&key(*receiver)).map_or(0, |receiver| receiver.next_offset);
                let key = BlockKey { receiver: key(*receiver), first_offset: next };
                JobRecord::Block(BlockMeta { key, epoch: 0, records: *records, bytes: records * 10 }, Vec::new())
            }
            Step::Freeze(counts) if job.completed == job.last_frozen => {
                let counts =
                    counts.iter().enumerate().map(|(receiver, count)| (key(receiver as u32), *count)).collect();
                JobRecord::Frozen { batch: job.last_frozen.next(), time_ms: job.last_time_ms + 1, counts }
            }
            Step::Complete if job.completed < job.last_frozen => {
                JobRecord::Completed { batch: job.last_frozen, totals: Totals::default() }
            }
            Step::Checkpoint(back) if job.stateful && job.completed.0 - job.checkpoint.0 > *back => {
                JobRecord::Checkpoint(BatchId(job.completed.0 - back))
            }
            _ => return None,
        })
    }

    proptest! {
        /// A block is kept until the batch it went into is complete, and a checkpoint covers that where there
        /// is state; then it is let go of once.
        #[test]
        fn blocks_are_kept_long_enough_and_no_longer(
            stateful in any::<bool>(),
            steps in prop::collection::vec(any_step(), 1..60),
        ) {
            let mut job = job(stateful);
            let mut batch_of: BTreeMap<BlockKey, BatchId> = BTreeMap::new();
            let mut logged = BTreeSet::new();
            let mut released = BTreeSet::new();
            for step in &steps {
                let Some(record) = record(&job, step) else { continue };
                for block in job.apply(&record) {
                    prop_assert!(released.insert(block.key), "released twice");
                }
                if let JobRecord::Block(block, _) = record {
                    logged.insert(block.key);
                }
                for (batch, frozen) in &job.frozen {
                    batch_of.extend(frozen.blocks.iter().map(|block| (block.key, *batch)));
                }
                let safe = if stateful { job.checkpoint } else { job.completed };
                let done: BTreeSet<BlockKey> =
                    batch_of.iter().filter(|(_, batch)| **batch <= safe).map(|(key, _)| *key).collect();
                prop_assert_eq!(&released, &done);
                let kept: BTreeSet<BlockKey> = job.blocks().map(|block| block.key).collect();
                prop_assert_eq!(&kept, &logged.difference(&done).copied().collect());
            }
        }
    }

    #[test]
    fn a_job_that_ends_lets_everything_go() {
        let mut job = job(true);
        for step in [Step::Block(0, 5), Step::Block(1, 5), Step::Freeze(vec![1, 0, 0])] {
            let record = record(&job, &step).unwrap();
            assert!(job.apply(&record).is_empty());
        }
        assert_eq!(job.apply(&JobRecord::Ended(Ending::Stopped)).len(), 2);
        assert_eq!(job.blocks().count(), 0);
    }
}
