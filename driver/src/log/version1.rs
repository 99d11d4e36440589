//! Version 1 of the log, as it was before segments had a header: `length u32 | crc32 u32 | postcard of` [`Entry1`].
//!
//! It differs from the present one in the frames, in what the snapshot holds, and in the totals of a job. What is the same is
//! taken from [`record`](crate::record); whoever changes that leaves the old type here.

use super::segment::{Entry, Fault, Item, whole};
use super::version3::{self, JobRecord3, SourceFiles};
use crate::record::{
    BlockMeta, Durable, DurableJob, DurableReceiver, Ending, FrozenBatch, GroupPlaces, Import, ReceiverKey, Record,
    TableContent, Totals,
};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tidemill_common::frame::is_torn;
use tidemill_common::ids::{BatchId, JobId, Term, WorkerId};

const FRAME: usize = 8;
const MAX_ENTRY_BYTES: usize = 1 << 30;
/// The number that the snapshot began with.
const FORMAT: u32 = 1;

#[derive(Deserialize)]
pub(super) enum Entry1 {
    Snapshot(u32, Durable1),
    Record(Record1),
}

#[derive(Deserialize)]
pub(super) struct Durable1 {
    cluster_id: String,
    term: Term,
    last_job: JobId,
    last_worker: WorkerId,
    members: BTreeSet<WorkerId>,
    jobs: BTreeMap<JobId, DurableJob1>,
}

impl From<Durable1> for Durable {
    fn from(old: Durable1) -> Self {
        let Durable1 { cluster_id, term, last_job, last_worker, members, jobs } = old;
        let jobs = jobs.into_iter().map(|(id, job)| (id, job.into())).collect();
        Self { cluster_id, term, last_job, last_worker, members, jobs, ..Self::default() }
    }
}

#[derive(Deserialize)]
pub(super) enum Record1 {
    Cluster { id: String },
    Started { term: Term },
    WorkerJoined(WorkerId),
    WorkerLost(WorkerId),
    Submitted(Box<DurableJob1>),
    Job(JobId, JobRecord3<Totals1>),
}

impl From<Record1> for Record {
    fn from(old: Record1) -> Self {
        match old {
            Record1::Cluster { id } => Self::Cluster { id },
            Record1::Started { term } => Self::Started { term },
            Record1::WorkerJoined(worker) => Self::WorkerJoined(worker),
            Record1::WorkerLost(worker) => Self::WorkerLost(worker),
            Record1::Submitted(job) => Self::Submitted(Box::new((*job).into())),
            Record1::Job(id, record) => Self::Job(id, record.into()),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct DurableJob1 {
    id: JobId,
    name: String,
    definition: String,
    file_name: String,
    attachments: Vec<Vec<u8>>,
    base_dir: String,
    capture: bool,
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
    totals: Totals1,
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

impl From<DurableJob1> for DurableJob {
    fn from(old: DurableJob1) -> Self {
        Self {
            id: old.id,
            name: old.name,
            definition: old.definition,
            file_name: old.file_name,
            attachments: old.attachments,
            base_dir: old.base_dir,
            capture: old.capture,
            watched_rows: 0,
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
            totals: old.totals.into(),
            received_records: old.received_records,
            received_bytes: old.received_bytes,
            ending: old.ending,
            positions: version3::positions(old.files),
            champions: old.champions,
            imports: old.imports,
            last_imported: old.last_imported,
            reloads: old.reloads,
            last_reloaded: old.last_reloaded,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Totals1 {
    records: u64,
    bad_records: u64,
    output_rows: Vec<u64>,
}

impl From<Totals1> for Totals {
    fn from(old: Totals1) -> Self {
        let Totals1 { records, bad_records, output_rows } = old;
        Self { records, bad_records, output_rows, ..Self::default() }
    }
}

/// Whether a file begins as version 1 did: with a snapshot of the one format that there was.
pub(super) fn begins(bytes: &[u8]) -> bool {
    bytes.get(FRAME..FRAME + 2) == Some(&[0, FORMAT as u8])
}

/// The entry that begins at byte `at`.
pub(super) fn item(bytes: &[u8], at: usize) -> Item {
    if at >= bytes.len() {
        return Item::End;
    }
    if let Some((body, end)) = body(bytes, at) {
        return match whole::<Entry1>(body) {
            Ok(Entry1::Snapshot(FORMAT, durable)) => {
                Item::Entry { entry: Entry::Snapshot(Box::new(durable.into())), end }
            }
            Ok(Entry1::Snapshot(..)) => {
                let what = "a snapshot of no known format".to_string();
                Item::Fault(Fault::Damaged { at, what, end: Some(end), next: None })
            }
            Ok(Entry1::Record(record)) => Item::Entry { entry: Entry::Record(Box::new(record.into())), end },
            Err(what) => {
                let next = (end < bytes.len()).then_some(end);
                Item::Fault(Fault::Damaged { at, what, end: Some(end), next })
            }
        };
    }
    let length = bytes.get(at..at + 4).map(|length| u32_of(length) as usize);
    let end = length.map_or(usize::MAX, |length| at.saturating_add(FRAME).saturating_add(length));
    // A record, by its first bytes, so that few places are looked at in full.
    let is_record = |at: &usize| bytes.get(at + FRAME) == Some(&1) && body(bytes, *at).is_some();
    let next = (at + 1..bytes.len()).find(is_record);
    if next.is_none() && is_torn(bytes, at, end) {
        return Item::Fault(Fault::Torn { at });
    }
    let what = "an entry does not match its checksum".to_string();
    Item::Fault(Fault::Damaged { at, what, end: None, next })
}

/// The body of the entry at byte `at` and where it ends, if its checksum is right.
fn body(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let (length, crc) = (u32_of(bytes.get(at..at + 4)?) as usize, u32_of(bytes.get(at + 4..at + FRAME)?));
    let end = at + FRAME + (length <= MAX_ENTRY_BYTES).then_some(length)?;
    let body = bytes.get(at + FRAME..end)?;
    (!body.is_empty() && crc32fast::hash(body) == crc).then_some((body, end))
}

fn u32_of(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}
