//! Between the worker's ids and the wire's numbers.

use crate::node::Node;
use crate::store::BlockId;
use tidemill_common::ids::{JobId, SourceIdx};
use tidemill_connect::SealedBlock;
use tidemill_plan::FunctionRef;
use tidemill_proto::common::{BlockRef, ErrorKind, Function, ReceiverRef};
use tidemill_proto::control::HeldBlocks;
use tidemill_proto::status;
use tonic::Status;

/// A receiver, on this worker or another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ReceiverId {
    pub(crate) job: JobId,
    pub(crate) source: SourceIdx,
    pub(crate) receiver: u32,
}

impl From<&ReceiverRef> for ReceiverId {
    fn from(receiver: &ReceiverRef) -> Self {
        Self { job: JobId(receiver.job), source: SourceIdx(receiver.source), receiver: receiver.receiver }
    }
}

impl From<ReceiverId> for ReceiverRef {
    fn from(id: ReceiverId) -> Self {
        Self { job: id.job.0, source: id.source.0, receiver: id.receiver }
    }
}

/// The receiver that a message is about.
pub(crate) fn receiver_id(receiver: Option<&ReceiverRef>) -> Result<ReceiverId, Status> {
    receiver.map(ReceiverId::from).ok_or_else(|| status(ErrorKind::ErrorInvalid, "the message names no receiver"))
}

/// The block that a message is about.
pub(crate) fn block_id(block: Option<&BlockRef>) -> Result<BlockId, Status> {
    let block = block.ok_or_else(|| status(ErrorKind::ErrorInvalid, "the message names no block"))?;
    let receiver = receiver_id(block.receiver.as_ref())?;
    Ok(BlockId {
        job: receiver.job,
        source: receiver.source,
        receiver: receiver.receiver,
        epoch: block.epoch,
        first_offset: block.first_offset,
    })
}

/// A block as the wire names it.
pub(crate) fn block_ref(id: &BlockId, records: u64, bytes: u64) -> BlockRef {
    let receiver = ReceiverId { job: id.job, source: id.source, receiver: id.receiver };
    BlockRef { receiver: Some(receiver.into()), epoch: id.epoch, first_offset: id.first_offset, records, bytes }
}

/// All blocks of a job that are here.
pub(crate) fn held_blocks(node: &Node, job: JobId) -> HeldBlocks {
    let held = node.blocks.list(job);
    HeldBlocks { blocks: held.iter().map(|(id, records, bytes)| block_ref(id, *records, *bytes)).collect() }
}

/// A sealed block of a receiver.
pub(crate) fn sealed_ref(receiver: ReceiverId, epoch: u64, block: &SealedBlock) -> BlockRef {
    BlockRef {
        receiver: Some(receiver.into()),
        epoch,
        first_offset: block.first_offset,
        records: block.records,
        bytes: block.bytes.len() as u64,
    }
}

/// A function in Rust that this worker knows.
pub(crate) fn function(known: &FunctionRef) -> Function {
    Function { kind: known.kind.name().to_string(), name: known.name.clone(), version: known.version }
}
