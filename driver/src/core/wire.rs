//! Between the core's ids and the wire's numbers.

use crate::record::{BlockKey, BlockMeta, ReceiverKey};
use tidemill_common::ids::{JobId, SourceIdx, WorkerId};
use tidemill_common::positions::{MAX_CHANGES, PositionChange};
use tidemill_plan::{FunctionKind, FunctionRef};
use tidemill_proto::common as pb;
use tidemill_proto::control as control_pb;

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

/// Offsets, and numbers of bytes, rows and keys, beyond this one are not believed: what is in the log is added up for ever.
const HIGHEST_COUNT: u64 = 1 << 48;

/// Whether the numbers of a task's report can be.
pub(crate) fn is_believable(done: &control_pb::TaskDone) -> bool {
    let rows = done.rows.iter().map(|rows| rows.total).chain(done.parts.iter().map(|part| part.rows));
    let counts = [done.records, done.bad_records, done.state_keys, done.micros];
    rows.chain(counts).all(|count| count <= HIGHEST_COUNT)
}

/// Changes of positions; `None` when they do not keep to the bounds.
pub(crate) fn position_changes(changes: Vec<control_pb::PositionChange>) -> Option<Vec<PositionChange>> {
    let change = |pb: control_pb::PositionChange| PositionChange { name: pb.name, to: pb.to.map(Vec::from) };
    let changes: Vec<PositionChange> = changes.into_iter().map(change).collect();
    (changes.len() <= MAX_CHANGES && changes.iter().all(|change| change.check().is_ok())).then_some(changes)
}

/// The job and the block that a message speaks of; `None` when it is incomplete, or cannot be.
pub(crate) fn block_meta(block: Option<&pb::BlockRef>) -> Option<(JobId, BlockMeta)> {
    let block = block?;
    let receiver = block.receiver.as_ref()?;
    if [block.first_offset, block.records, block.bytes].iter().any(|count| *count > HIGHEST_COUNT) {
        return None;
    }
    let key = BlockKey { receiver: receiver_key(receiver), first_offset: block.first_offset };
    let meta = BlockMeta { key, epoch: block.epoch, records: block.records, bytes: block.bytes };
    Some((JobId(receiver.job), meta))
}

/// A function that a process speaks of; `None` for a kind that is not known here.
pub(crate) fn function_ref(function: &pb::Function) -> Option<FunctionRef> {
    let kind = FunctionKind::from_name(&function.kind)?;
    Some(FunctionRef { kind, name: function.name.clone(), version: function.version })
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn workers(ids: &std::collections::BTreeSet<u64>) -> Vec<WorkerId> {
        ids.iter().map(|id| WorkerId(*id)).collect()
    }

    proptest! {
        #[test]
        fn a_worker_that_comes_or_goes_moves_only_its_share(
            ids in prop::collection::btree_set(1..1_000_u64, 2..12),
            item in any::<u64>(),
        ) {
            let all = workers(&ids);
            let ranking = ranked(JobId(1), item, &all);
            for gone in &all {
                let rest: Vec<WorkerId> = all.iter().copied().filter(|worker| worker != gone).collect();
                let expected: Vec<WorkerId> = ranking.iter().copied().filter(|worker| worker != gone).collect();
                prop_assert_eq!(ranked(JobId(1), item, &rest), expected);
            }
        }

        #[test]
        fn the_best_are_the_first_of_the_ranked(
            ids in prop::collection::btree_set(1..1_000_u64, 0..12),
            item in any::<u64>(),
            count in 1..5_usize,
        ) {
            let all = workers(&ids);
            let mut first = ranked(JobId(3), item, &all);
            first.truncate(count);
            prop_assert_eq!(best(JobId(3), item, &all, count), first);
        }
    }

    #[test]
    fn items_are_spread_evenly() {
        let all: Vec<WorkerId> = (1..=10).map(WorkerId).collect();
        let mut share = std::collections::BTreeMap::<WorkerId, u32>::new();
        for item in 0..10_000 {
            *share.entry(ranked(JobId(1), item, &all)[0]).or_default() += 1;
        }
        assert!(share.values().all(|count| (850..1_150).contains(count)), "{share:?}");
    }
}
