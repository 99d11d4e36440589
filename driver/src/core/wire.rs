//! Between the core's ids and the wire's numbers.

use crate::record::{BlockKey, BlockMeta, ReceiverKey};
use tidemill_common::ids::{JobId, SourceIdx, WorkerId};
use tidemill_proto::common as pb;

pub(crate) fn receiver_ref(job: JobId, key: ReceiverKey) -> pb::ReceiverRef {
    pb::ReceiverRef { job: job.0, source: key.source.0, receiver: key.receiver }
}

pub(crate) fn receiver_key(receiver: &pb::ReceiverRef) -> ReceiverKey {
    ReceiverKey { source: SourceIdx(receiver.source), receiver: receiver.receiver }
}

pub(crate) fn block_ref(job: JobId, block: &BlockMeta) -> pb::BlockRef {
    pb::BlockRef {
        receiver: Some(receiver_ref(job, block.key.receiver)),
        epoch: block.epoch,
        first_offset: block.key.first_offset,
        records: block.records,
        bytes: block.bytes,
    }
}

/// The job and the block that a message speaks of; `None` when it is incomplete.
pub(crate) fn block_meta(block: Option<&pb::BlockRef>) -> Option<(JobId, BlockMeta)> {
    let block = block?;
    let receiver = block.receiver.as_ref()?;
    let key = BlockKey { receiver: receiver_key(receiver), first_offset: block.first_offset };
    let meta = BlockMeta { key, epoch: block.epoch, records: block.records, bytes: block.bytes };
    Some((JobId(receiver.job), meta))
}

pub(crate) fn worker_numbers<'a>(workers: impl IntoIterator<Item = &'a WorkerId>) -> Vec<u64> {
    workers.into_iter().map(|worker| worker.0).collect()
}

/// A score for placing `item` on `worker`: the highest wins (rendezvous hashing), so that a worker
/// that comes or goes moves only what it wins or had.
pub(crate) fn rendezvous(job: JobId, item: u64, worker: WorkerId) -> u64 {
    let mut x = job.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ item.wrapping_mul(0xD1B5_4A32_D192_ED03) ^ worker.0;
    for _ in 0..2 {
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^= x >> 31;
    }
    x
}

/// `workers` by falling score for `item`.
pub(crate) fn ranked(job: JobId, item: u64, workers: &[WorkerId]) -> Vec<WorkerId> {
    let mut ranked = workers.to_vec();
    ranked.sort_by_cached_key(|worker| (std::cmp::Reverse(rendezvous(job, item, *worker)), *worker));
    ranked
}

/// The first of [`ranked`], in order, but at most `count`.
pub(crate) fn best(job: JobId, item: u64, workers: &[WorkerId], count: usize) -> Vec<WorkerId> {
    let mut best: Vec<(u64, WorkerId)> = Vec::with_capacity(count + 1);
    for worker in workers {
        let score = rendezvous(job, item, *worker);
        if best.len() == count && best.last().is_some_and(|(lowest, _)| score <= *lowest) {
            continue;
        }
        let place = best.partition_point(|(other, _)| *other >= score);
        best.insert(place, (score, *worker));
        best.truncate(count);
    }
    best.into_iter().map(|(_, worker)| worker).collect()
}
