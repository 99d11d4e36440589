//! Versions 2 and 3 of the log: entries in frames, as today. They differ in what they say of sources: a source of files alone had
//! positions, and their meaning was the log's. What is the same is taken from [`record`](crate::record); whoever changes that
//! leaves the old type here.

use crate::record::{
    BlockMeta, Durable, DurableJob, DurableReceiver, Ending, FrozenBatch, GroupPlaces, Import, JobRecord, ReceiverKey,
    Record, TableContent, Totals,
};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tidemill_common::ids::{BatchId, JobId, Term, WorkerId};
use tidemill_common::positions::{PositionChange, Positions};
use tidemill_connect::sources::files::{LOOKED_AT, Progress, Stamp};

#[derive(Deserialize)]
pub(super) struct Durable3 {
    cluster_id: String,
    term: Term,
    last_job: JobId,
    last_worker: WorkerId,
    members: BTreeSet<WorkerId>,
    jobs: BTreeMap<JobId, DurableJob3>,
    unknown_jobs: Vec<(JobId, JobId)>,
    doubtful: BTreeSet<JobId>,
}

impl From<Durable3> for Durable {
    fn from(old: Durable3) -> Self {
        Self {
            cluster_id: old.cluster_id,
            term: old.term,
            last_job: old.last_job,
            last_worker: old.last_worker,
            members: old.members,
            jobs: old.jobs.into_iter().map(|(id, job)| (id, job.into())).collect(),
            unknown_jobs: old.unknown_jobs,
            doubtful: old.doubtful,
        }
    }
}

#[derive(Deserialize)]
pub(super) enum Record3 {
    Cluster { id: String },
    Started { term: Term },
    WorkerJoined(WorkerId),
    WorkerLost(WorkerId),
    Submitted(Box<DurableJob3>),
    Job(JobId, JobRecord3<Totals>),
    JobsUnknown { through: JobId },
    JobForgotten(JobId),
    JobDoubtful(JobId),
}

impl From<Record3> for Record {
    fn from(old: Record3) -> Self {
        match old {
            Record3::Cluster { id } => Self::Cluster { id },
            Record3::Started { term } => Self::Started { term },
            Record3::WorkerJoined(worker) => Self::WorkerJoined(worker),
            Record3::WorkerLost(worker) => Self::WorkerLost(worker),
            Record3::Submitted(job) => Self::Submitted(Box::new((*job).into())),
            Record3::Job(id, record) => Self::Job(id, record.into()),
            Record3::JobsUnknown { through } => Self::JobsUnknown { through },
            Record3::JobForgotten(job) => Self::JobForgotten(job),
            Record3::JobDoubtful(job) => Self::JobDoubtful(job),
        }
    }
}

/// What happened to a job; version 1 has other totals.
#[derive(Deserialize)]
pub(super) enum JobRecord3<T> {
    Receiver { key: ReceiverKey, epoch: u64 },
    ReceiverFinished(ReceiverKey),
    Block(BlockMeta),
    Frozen { batch: BatchId, time_ms: i64, counts: Vec<(ReceiverKey, u32)> },
    Completed { batch: BatchId, totals: T },
    Checkpoint(BatchId),
    Assigned(Vec<GroupPlaces>),
    Ended(Ending),
    Files(ReceiverKey, FileChoice),
    Imported { model: u32, import: Import },
    Chosen { model: u32, champion: u32 },
    Reloaded { table: u32, content: TableContent },
}

impl<T: Into<Totals>> From<JobRecord3<T>> for JobRecord {
    fn from(old: JobRecord3<T>) -> Self {
        match old {
            JobRecord3::Receiver { key, epoch } => Self::Receiver { key, epoch },
            JobRecord3::ReceiverFinished(key) => Self::ReceiverFinished(key),
            JobRecord3::Block(block) => Self::Block(block, Vec::new()),
            JobRecord3::Frozen { batch, time_ms, counts } => Self::Frozen { batch, time_ms, counts },
            JobRecord3::Completed { batch, totals } => Self::Completed { batch, totals: totals.into() },
            JobRecord3::Checkpoint(batch) => Self::Checkpoint(batch),
            JobRecord3::Assigned(groups) => Self::Assigned(groups),
            JobRecord3::Ended(ending) => Self::Ended(ending),
            JobRecord3::Files(key, choice) => Self::Positions(key, choice.into()),
            JobRecord3::Imported { model, import } => Self::Imported { model, import },
            JobRecord3::Chosen { model, champion } => Self::Chosen { model, champion },
            JobRecord3::Reloaded { table, content } => Self::Reloaded { table, content },
        }
    }
}

#[derive(Deserialize)]
pub(super) struct DurableJob3 {
    id: JobId,
    name: String,
    definition: String,
    file_name: String,
    attachments: Vec<Vec<u8>>,
    base_dir: String,
    capture: bool,
    watched_rows: u32,
    stateful: bool,
    receivers: BTreeMap<ReceiverKey, DurableReceiver>,
    waiting: BTreeMap<ReceiverKey, VecDeque<BlockMeta>>,
    frozen: BTreeMap<BatchId, FrozenBatch>,
    last_frozen: BatchId,
    last_time_ms: i64,
    completed: BatchId,
    completed_time_ms: i64,
    checkpoint: BatchId,
    checkpoint_time_ms: i64,
    groups: Vec<GroupPlaces>,
    totals: Totals,
    received_records: u64,
    received_bytes: u64,
    ending: Option<Ending>,
    files: BTreeMap<ReceiverKey, SourceFiles>,
    champions: BTreeMap<u32, u32>,
    imports: BTreeMap<u32, Import>,
    last_imported: BTreeMap<u32, (BatchId, Import)>,
    reloads: BTreeMap<u32, TableContent>,
    last_reloaded: BTreeMap<u32, (BatchId, TableContent)>,
}

impl From<DurableJob3> for DurableJob {
    fn from(old: DurableJob3) -> Self {
        Self {
            id: old.id,
            name: old.name,
            definition: old.definition,
            file_name: old.file_name,
            attachments: old.attachments,
            base_dir: old.base_dir,
            capture: old.capture,
            watched_rows: old.watched_rows,
            stateful: old.stateful,
            receivers: old.receivers,
            waiting: old.waiting,
            frozen: old.frozen,
            last_frozen: old.last_frozen,
            last_time_ms: old.last_time_ms,
            completed: old.completed,
            completed_time_ms: old.completed_time_ms,
            checkpoint: old.checkpoint,
            checkpoint_time_ms: old.checkpoint_time_ms,
            groups: old.groups,
            totals: old.totals,
            received_records: old.received_records,
            received_bytes: old.received_bytes,
            ending: old.ending,
            positions: positions(old.files),
            champions: old.champions,
            imports: old.imports,
            last_imported: old.last_imported,
            reloads: old.reloads,
            last_reloaded: old.last_reloaded,
        }
    }
}

/// A file of a watched directory.
#[derive(Deserialize)]
pub(super) struct SourceFile {
    name: String,
    size: u64,
    modified_ns: i64,
}

/// What was logged before a file was read.
#[derive(Deserialize)]
pub(super) struct FileChoice {
    /// The file, with the offset of its first record.
    file: Option<(SourceFile, u64)>,
    /// Files that are never to be read.
    skipped: Vec<SourceFile>,
    /// Names that are in the directory no more.
    gone: Vec<String>,
}

/// All of that.
#[derive(Deserialize)]
pub(super) struct SourceFiles {
    /// Size and time of files that are open, read or not to be read, by name.
    known: BTreeMap<String, (u64, i64)>,
    /// Those whose records may not all be logged, with the offset of the first record of each.
    open: VecDeque<(SourceFile, u64)>,
}

impl SourceFile {
    fn stamp(&self) -> Stamp {
        Stamp { size: self.size, modified_ns: self.modified_ns }
    }
}

fn change(name: String, to: Progress) -> PositionChange {
    PositionChange { name, to: Some(to.to_bytes()) }
}

/// Whoever chose a file had looked at the directory.
fn looked_at() -> PositionChange {
    PositionChange { name: LOOKED_AT.into(), to: Some(Vec::new()) }
}

/// The files that were chosen before it stay open: the source knows which is the last.
impl From<FileChoice> for Vec<PositionChange> {
    fn from(choice: FileChoice) -> Self {
        let gone = choice.gone.into_iter().map(|name| PositionChange { name, to: None });
        let skipped = choice.skipped.into_iter().map(|file| {
            let read = Progress::Read(file.stamp());
            change(file.name, read)
        });
        let file = choice.file.map(|(file, first_offset)| {
            let open = Progress::Open { stamp: file.stamp(), first_offset };
            change(file.name, open)
        });
        gone.chain(skipped).chain(file).chain([looked_at()]).collect()
    }
}

impl From<SourceFiles> for Positions {
    fn from(files: SourceFiles) -> Self {
        let read = |(name, (size, modified_ns)): (String, (u64, i64))| {
            change(name, Progress::Read(Stamp { size, modified_ns }))
        };
        let open = |(file, first_offset): (SourceFile, u64)| {
            let open = Progress::Open { stamp: file.stamp(), first_offset };
            change(file.name, open)
        };
        let mut positions = Self::default();
        let changes = files.known.into_iter().map(read).chain(files.open.into_iter().map(open));
        for change in changes.chain([looked_at()]) {
            // The bounds were narrower then.
            _ = positions.apply(&change);
        }
        positions
    }
}

pub(super) fn positions(files: BTreeMap<ReceiverKey, SourceFiles>) -> BTreeMap<ReceiverKey, Positions> {
    files.into_iter().map(|(key, files)| (key, files.into())).collect()
}
