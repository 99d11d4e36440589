//! Decoders of this crate, for tests that give them any bytes: each function panics when its decoder does not do as it should.

use crate::state::checkpoint::record::{Manifest, manifest_key, parse_manifest_key, parse_write_key, write_key};
use crate::state::{Delta, HeldPartition, Snapshot, StatePartition, delta as encoding};
use crate::store::segments;
use crate::wire::{block_id, receiver_id};
use bytes::Bytes;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use prost::Message;
use std::sync::Arc;
use tidemill_common::fuzz::sealed_records;
use tidemill_proto::common::BlockRef;
use tidemill_proto::control::DriverMessage;
use tidemill_proto::data::{FetchPiecesRequest, FollowStateRequest, GetBlockReply, PutBlockRequest};

fn state_schema() -> SchemaRef {
    let fields = [("total", DataType::Float64), ("name", DataType::Utf8), ("seen", DataType::Int64)];
    Arc::new(Schema::new(fields.map(|(name, of)| Field::new(name, of, true)).to_vec()))
}

/// Reads state as it travels and as it is stored, also with a hash that is right, and brings a partition to it.
pub fn delta(bytes: &[u8]) {
    let as_it_is = Bytes::copy_from_slice(bytes);
    for snapshot in [as_it_is.clone(), encoding::sealed(bytes, true)] {
        if let Ok(read) = Snapshot::decode(snapshot.clone()) {
            let again = read.encode().and_then(Snapshot::decode).expect("a snapshot that reads can be written");
            assert_eq!(again.version, read.version);
            let _ = StatePartition::from_snapshot(state_schema(), &read).map(|partition| partition.snapshot());
            let _ = HeldPartition::from_checkpoint(state_schema(), &[snapshot]);
        }
    }
    for delta in [as_it_is, encoding::sealed(bytes, false)] {
        if let Ok(read) = Delta::decode(delta) {
            let again = read.encode().and_then(Delta::decode).expect("a delta that reads can be written");
            assert_eq!(again.batch, read.batch);
            let mut partition = StatePartition::new(state_schema());
            if partition.apply_delta(&read).is_ok() {
                partition.roll_back_to(read.batch.prev()).expect("a delta that was applied can be undone");
                assert!(partition.is_empty());
            }
            let _ = StatePartition::new(state_schema()).set_undo(vec![read]);
        }
    }
}

/// Reads what the database of checkpoints has beside their bytes.
pub fn checkpoint(bytes: &[u8]) {
    if let Some(manifest) = Manifest::decode(bytes) {
        let again = manifest.encode().ok().and_then(|bytes| Manifest::decode(&bytes));
        assert_eq!(again, Some(manifest));
    }
    if let Some(key) = parse_manifest_key(bytes) {
        assert_eq!(manifest_key(&key), bytes);
    }
    if let Some((key, write)) = parse_write_key(bytes) {
        assert_eq!(write_key(&key, write), bytes);
    }
}

/// Reads a segment of blocks, of this version and of the one before there were frames, also with checksums that are right.
pub fn blocks(bytes: &[u8]) {
    for bytes in [bytes, &segments::sealed(bytes), &sealed_records(bytes)] {
        let found = segments::count_blocks(bytes).expect("the file is there");
        assert!(found <= bytes.len() / 40);
    }
}

/// Reads what the driver and other workers say.
pub fn messages(bytes: &[u8]) {
    fn read<M: Message + Default>(bytes: &[u8]) -> Option<M> {
        let message = M::decode(bytes).ok()?;
        let encoded = message.encode_to_vec();
        assert_eq!(M::decode(&encoded[..]).map(|again| again.encode_to_vec()), Ok(encoded));
        Some(message)
    }
    read::<DriverMessage>(bytes);
    read::<FetchPiecesRequest>(bytes);
    read::<FollowStateRequest>(bytes);
    read::<GetBlockReply>(bytes);
    let block = read::<PutBlockRequest>(bytes).and_then(|request| request.block).or_else(|| read::<BlockRef>(bytes));
    let _ = block_id(block.as_ref());
    let _ = receiver_id(block.as_ref().and_then(|block| block.receiver.as_ref()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::checkpoint::{CheckpointKey, JobKey};
    use datafusion::arrow::array::*;
    use tidemill_common::frame::{file_header, push};
    use tidemill_common::ids::{BatchId, JobId, KeyGroup, StageId};
    use tidemill_common::testkit::{Decoder, has_target};
    use tidemill_proto::common::ReceiverRef;
    use tidemill_proto::control::{self as pb, driver_message::Kind};
    use tidemill_proto::data::{Caller, StateEntry};

    fn run(name: &str, decode: fn(&[u8]), seeds: Vec<Vec<u8>>, most_bytes: u64) {
        let peak = |run: &mut dyn FnMut()| allocation_counter::measure(run).bytes_max;
        assert!(has_target("tidemill_worker", name));
        Decoder { name, decode, seeds, most_bytes, one_in: 1, peak }.run();
    }

    fn columns() -> Vec<ArrayRef> {
        vec![
            Arc::new(Float64Array::from(vec![Some(1.5), None, Some(f64::NAN)])),
            Arc::new(StringArray::from(vec![Some("ana"), None, Some("")])),
            Arc::new(Int64Array::from(vec![Some(-1), None, Some(1)])),
        ]
    }

    #[test]
    fn delta() {
        let mut partition = StatePartition::new(state_schema());
        let keys = BinaryArray::from_vec(vec![b"a", b"b", b""]);
        let first = partition.apply(BatchId(1), &keys, &columns(), None).unwrap();
        let snapshot = partition.snapshot().unwrap();
        let dropped = BooleanArray::from(vec![true, false, false]);
        let second = partition.apply(BatchId(2), &keys, &columns(), Some(&dropped)).unwrap();
        let empty = partition.empty_delta(BatchId(1));
        let seeds = [first.encode(), second.encode(), empty.encode(), snapshot.encode()];
        run("delta", super::delta, seeds.map(|bytes| bytes.unwrap().to_vec()).to_vec(), 4 << 20);
    }

    #[test]
    fn checkpoint() {
        let manifest = Manifest { on: Some(BatchId(3)), write: 7, bytes: 100, hash: u64::MAX };
        let job = JobKey { cluster: 1, job: JobId(2) };
        let key = CheckpointKey { job, stage: StageId(3), group: KeyGroup(4), version: BatchId(5) };
        let seeds = vec![manifest.encode().unwrap(), manifest_key(&key), write_key(&key, 6)];
        run("checkpoint", super::checkpoint, seeds, 1 << 20);
    }

    #[test]
    fn blocks() {
        let body = [&[1; 40][..], b"a,1\nb,2\n"].concat();
        let mut file = file_header(*b"blks", 1).to_vec();
        assert!(push(&mut file, 1, &body) && push(&mut file, 1, &[2; 40]) && push(&mut file, 1, b"short"));
        assert_eq!(segments::count_blocks(&file).unwrap(), 2);
        let old = sealed_records(
            &[&48_u32.to_le_bytes(), &[0; 4][..], &body, &40_u32.to_le_bytes(), &[0; 4], &[2; 40]].concat(),
        );
        assert_eq!(segments::count_blocks(&old).unwrap(), 2);
        run("blocks", super::blocks, vec![file, old], 1 << 20);
    }

    #[test]
    fn messages() {
        let receiver = Some(ReceiverRef { job: 1, source: 0, receiver: 0 });
        let block = BlockRef { receiver, epoch: 1, first_offset: 0, records: 2, bytes: 10 };
        let caller = Some(Caller::default());
        let task = pb::Task { task_id: 1, job: 1, batch: 1, groups: vec![0, 1], ..Default::default() };
        let kinds = [
            Kind::Welcome(pb::Welcome {
                worker_id: 1,
                cluster_id: "c".into(),
                unknown_jobs: vec![7],
                ..Default::default()
            }),
            Kind::RunTasks(pb::RunTasks { tasks: vec![task] }),
            Kind::StartJob(pb::StartJob { definition: "name = \"j\"".into(), ..Default::default() }),
            Kind::Membership(pb::Membership::default()),
        ];
        let mut seeds: Vec<Vec<u8>> =
            kinds.into_iter().map(|kind| pb::DriverMessage { kind: Some(kind) }.encode_to_vec()).collect();
        let entry =
            StateEntry { version: 1, snapshot: true, bytes: Bytes::from_static(b"state"), ..Default::default() };
        seeds.push(FollowStateRequest { caller: caller.clone(), job: 1, entries: vec![entry] }.encode_to_vec());
        seeds.push(
            FetchPiecesRequest { caller: caller.clone(), job: 1, orders: vec![0, 1], ..Default::default() }
                .encode_to_vec(),
        );
        let put =
            PutBlockRequest { caller, block: Some(block), bytes: Bytes::from_static(b"a,1\n"), ..Default::default() };
        seeds.extend([put.encode_to_vec(), block.encode_to_vec()]);
        seeds.push(GetBlockReply { bytes: Bytes::from_static(b"a,1\n"), crc: 7 }.encode_to_vec());
        run("messages", super::messages, seeds, 1 << 20);
    }
}
