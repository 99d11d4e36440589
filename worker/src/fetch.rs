//! Getting a task's input: blocks, and pieces of exchanges in the order of their tags.

use crate::node::{Node, worth_retrying};
use crate::store::blocks::Block;
use crate::store::shuffle::PieceKey;
use crate::tasks::TaskError;
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use futures::future::try_join_all;
use std::collections::BTreeMap;
use std::sync::Arc;
use tidemill_common::ids::{BatchId, ExchangeId, JobId, WorkerId};
use tidemill_plan::{Partitioned, from_ipc, to_ipc};
use tidemill_proto::common::ErrorKind;
use tidemill_proto::control as pb;
use tidemill_proto::data::{self as data_pb, FetchPiecesRequest};
use tidemill_proto::{error_kind, status};
use tonic::Status;

/// Times a fetch is tried before the task fails; the driver then decides what is lost.
const TRIES: u32 = 3;

/// The bytes of a split: from here, or from whoever holds the block.
pub(crate) async fn block(node: &Arc<Node>, split: &pb::Split) -> Result<Bytes, TaskError> {
    let id =
        crate::wire::block_id(split.block.as_ref()).map_err(|error| TaskError::Internal(error.message().into()))?;
    let here = node.blocking(move |node| node.blocks.get(&id)).await;
    if let Some(block) = here.map_err(|error| TaskError::Internal(error.message().into()))?? {
        return Ok(block.bytes);
    }
    let holders: Vec<WorkerId> = split.holders.iter().map(|id| WorkerId(*id)).collect();
    let fetched = block_from(node, split.block, &holders).await;
    let bytes = fetched.map_err(|error| TaskError::BlockLost(error.message().into()))?;
    if holders.contains(&node.worker()) {
        // It was damaged here. The driver goes on counting this copy.
        let records = split.block.map_or(0, |block| block.records);
        let block = Block { id, records, bytes: bytes.clone() };
        node.blocking(move |node| node.blocks.put(block))
            .await
            .map_err(|e| TaskError::Internal(e.message().into()))??;
    }
    Ok(bytes)
}

/// A block's bytes from one of the workers that hold it.
pub(crate) async fn block_from(
    node: &Arc<Node>,
    block: Option<tidemill_proto::common::BlockRef>,
    holders: &[WorkerId],
) -> Result<Bytes, Status> {
    let me = node.worker();
    let mut last = status(ErrorKind::ErrorNotFound, "no other worker holds it");
    for holder in holders.iter().filter(|holder| **holder != me) {
        let request = data_pb::GetBlockRequest { caller: node.caller(), block };
        let answer = match node.peer(*holder) {
            Ok(mut peer) => node.while_member(*holder, peer.get_block(request)).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(reply) => match checked(block.as_ref(), reply.into_inner()) {
                Ok(bytes) => return Ok(bytes),
                Err(what) => last = status(ErrorKind::ErrorNotFound, format!("worker {holder} sent {what}")),
            },
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn checked(block: Option<&tidemill_proto::common::BlockRef>, reply: data_pb::GetBlockReply) -> Result<Bytes, String> {
    let length = block.map_or(0, |block| block.bytes);
    if reply.bytes.len() as u64 != length {
        return Err(format!("{} bytes for a block of {length}", reply.bytes.len()));
    }
    let sound = crc32fast::hash(&reply.bytes) == reply.crc;
    sound.then_some(reply.bytes).ok_or_else(|| "a block that does not match its checksum".into())
}

/// All inputs of a task, per exchange the pieces by rising order tag.
pub(crate) async fn inputs(
    node: &Arc<Node>,
    task: &pb::Task,
    exchanges: &[ExchangeId],
) -> Result<Vec<Vec<RecordBatch>>, TaskError> {
    let fetches = task.inputs.iter().map(|input| fetch(node, task, input));
    let fetched = try_join_all(fetches).await?;
    let mut by_exchange: BTreeMap<u32, BTreeMap<u64, RecordBatch>> = BTreeMap::new();
    for (input, pieces) in task.inputs.iter().zip(fetched) {
        by_exchange.entry(input.exchange).or_default().extend(input.orders.iter().copied().zip(pieces));
    }
    let pieces = |exchange: &ExchangeId| {
        let pieces = by_exchange.remove(&exchange.0).unwrap_or_default();
        pieces.into_values().filter(|batch| batch.num_rows() > 0).collect()
    };
    Ok(exchanges.iter().map(pieces).collect())
}

async fn fetch(node: &Arc<Node>, task: &pb::Task, input: &pb::ExchangeInput) -> Result<Vec<RecordBatch>, TaskError> {
    let worker = WorkerId(input.worker);
    let failed = |reason: String| TaskError::Fetch { worker, reason };
    let request = FetchPiecesRequest {
        caller: node.caller(),
        job: task.job,
        batch: task.batch,
        exchange: input.exchange,
        orders: input.orders.clone(),
        groups: task.groups.clone(),
    };
    if worker == node.worker() {
        return pieces(node, &request).map_err(|error| failed(error.message().to_string()));
    }
    let mut tries = 0;
    loop {
        match node.while_member(worker, fetch_remote(node, worker, request.clone())).await {
            Ok(bytes) => {
                let pieces = from_ipc(&bytes).map_err(|error| failed(error.to_string()))?;
                return if pieces.len() == input.orders.len() {
                    Ok(pieces)
                } else {
                    Err(failed(format!("{} pieces came for {} asked for", pieces.len(), input.orders.len())))
                };
            }
            Err(error) if error_kind(&error) == Some(ErrorKind::ErrorNotFound) || tries >= TRIES => {
                return Err(failed(error.message().to_string()));
            }
            Err(error) => {
                tries += 1;
                worth_retrying(&error).await;
            }
        }
    }
}

async fn fetch_remote(node: &Node, worker: WorkerId, request: FetchPiecesRequest) -> Result<Vec<u8>, Status> {
    let mut chunks = node.peer(worker)?.fetch_pieces(request).await?.into_inner();
    let mut bytes = Vec::new();
    loop {
        let next = tokio::time::timeout(node.config.request_timeout, chunks.message()).await;
        match next.map_err(|_| Status::deadline_exceeded("no more bytes came"))?? {
            Some(chunk) => bytes.extend_from_slice(&chunk.bytes),
            None => return Ok(bytes),
        }
    }
}

/// The rows of the groups asked for, of each piece asked for.
pub(crate) fn pieces(node: &Node, request: &FetchPiecesRequest) -> Result<Vec<RecordBatch>, Status> {
    let mut batches = Vec::with_capacity(request.orders.len());
    for order in &request.orders {
        let key: PieceKey = (JobId(request.job), BatchId(request.batch), ExchangeId(request.exchange), *order);
        let piece = node.shuffle.get(&key).map_err(|error| status(ErrorKind::ErrorResources, error.to_string()))?;
        let piece = piece.ok_or_else(|| {
            let message =
                format!("piece {order} of exchange {} of batch {} is not here", request.exchange, request.batch);
            status(ErrorKind::ErrorNotFound, message)
        })?;
        batches.push(select(&piece, &request.groups).map_err(|e| status(ErrorKind::ErrorInternal, e.to_string()))?);
    }
    Ok(batches)
}

/// The pieces as one IPC stream, a record batch each.
pub(crate) fn pieces_ipc(node: &Node, request: &FetchPiecesRequest) -> Result<Vec<u8>, Status> {
    let batches = pieces(node, request)?;
    let Some(first) = batches.first() else { return Ok(Vec::new()) };
    let schema = first.schema();
    to_ipc(&batches, &schema).map_err(|error| status(ErrorKind::ErrorInternal, error.to_string()))
}

/// Rows of some groups of a piece; of a gather (one share) all of them.
fn select(piece: &Partitioned, groups: &[u32]) -> Result<RecordBatch, datafusion::arrow::error::ArrowError> {
    if piece.offsets.len() <= 2 || groups.is_empty() {
        return Ok(piece.batch.clone());
    }
    let mut runs: Vec<(usize, usize)> = Vec::new();
    let mut groups = groups.to_vec();
    groups.sort_unstable();
    for group in groups {
        let bounds = piece.offsets.get(group as usize).zip(piece.offsets.get(group as usize + 1));
        let Some((start, end)) = bounds.map(|(start, end)| (*start as usize, *end as usize)) else { continue };
        match runs.last_mut() {
            _ if start == end => {}
            Some(run) if run.1 == start => run.1 = end,
            _ => runs.push((start, end)),
        }
    }
    let slices: Vec<RecordBatch> = runs.into_iter().map(|(start, end)| piece.batch.slice(start, end - start)).collect();
    match slices.as_slice() {
        [one] => Ok(one.clone()),
        many => concat_batches(&piece.batch.schema(), many),
    }
}
