//! The worker's gRPC service for other workers.

use crate::fetch;
use crate::follow;
use crate::models;
use crate::node::{Node, STREAM_WINDOW};
use crate::store::blocks::Block;
use crate::wire::{block_id, receiver_id};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::sync::Arc;
use tidemill_common::ids::JobId;
use tidemill_proto::MAX_MESSAGE_BYTES;
use tidemill_proto::common::ErrorKind;
use tidemill_proto::data::{self as pb, data_server::Data, data_server::DataServer};
use tidemill_proto::status;
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// Bytes per message of a stream of pieces.
const CHUNK_BYTES: usize = 1 << 20;

pub(crate) struct DataService {
    pub(crate) node: Arc<Node>,
}

/// Serves other workers until the node stops.
pub(crate) async fn serve(node: Arc<Node>, listener: TcpListener) {
    let service = DataServer::new(DataService { node: node.clone() })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let server = tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(crate::node::CONNECTION_WINDOW)
        .add_service(service)
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            node.stop.clone().cancelled_owned(),
        );
    if let Err(error) = server.await {
        tracing::error!(%error, "the data service failed");
        node.stop.cancel();
    }
}

#[tonic::async_trait]
impl Data for DataService {
    async fn put_block(&self, request: Request<pb::PutBlockRequest>) -> Result<Response<pb::PutBlockReply>, Status> {
        let request = request.into_inner();
        self.node.admit(request.caller.as_ref())?;
        let id = block_id(request.block.as_ref())?;
        let (records, length) = request.block.map_or((0, 0), |block| (block.records, block.bytes));
        if request.bytes.len() as u64 != length || crc32fast::hash(&request.bytes) != request.crc {
            return Err(status(ErrorKind::ErrorInvalid, "the block did not arrive as it was sent"));
        }
        let block = Block { id, records, bytes: request.bytes };
        let durable = request.durable;
        let put = move |node: &Node| if durable { node.blocks.put_durable(block) } else { node.blocks.put(block) };
        self.node.blocking(put).await?.map_err(|error| status(ErrorKind::ErrorResources, error.to_string()))?;
        Ok(Response::new(pb::PutBlockReply {}))
    }

    async fn get_block(&self, request: Request<pb::GetBlockRequest>) -> Result<Response<pb::GetBlockReply>, Status> {
        let request = request.into_inner();
        self.node.admit(request.caller.as_ref())?;
        let id = block_id(request.block.as_ref())?;
        let found = self.node.blocking(move |node| node.blocks.get(&id)).await?;
        let found = found.map_err(|error| status(ErrorKind::ErrorResources, error.to_string()))?;
        let block = found.ok_or_else(|| status(ErrorKind::ErrorNotFound, "the block is not here"))?;
        let crc = crc32fast::hash(&block.bytes);
        Ok(Response::new(pb::GetBlockReply { bytes: block.bytes, crc }))
    }

    type FetchPiecesStream = BoxStream<'static, Result<pb::PiecesChunk, Status>>;

    async fn fetch_pieces(
        &self,
        request: Request<pb::FetchPiecesRequest>,
    ) -> Result<Response<Self::FetchPiecesStream>, Status> {
        let request = request.into_inner();
        self.node.admit(request.caller.as_ref())?;
        let encoded = self.node.blocking(move |node| fetch::pieces_ipc(node, &request)).await??;
        let mut rest = bytes::Bytes::from(encoded);
        let chunks = std::iter::from_fn(move || {
            let length = rest.len().min(CHUNK_BYTES);
            (length > 0).then(|| Ok(pb::PiecesChunk { bytes: rest.split_to(length) }))
        });
        Ok(Response::new(futures::stream::iter(chunks).boxed()))
    }

    async fn get_model(&self, request: Request<pb::GetModelRequest>) -> Result<Response<pb::GetModelReply>, Status> {
        let request = request.into_inner();
        self.node.admit(request.caller.as_ref())?;
        let job = self.node.jobs.get_soon(JobId(request.job)).await?;
        let read = move |node: &Node| models::read(node, &job, request.model, request.version);
        let bytes = self.node.blocking(read).await??;
        Ok(Response::new(pb::GetModelReply { bytes }))
    }

    async fn follow_state(
        &self,
        request: Request<pb::FollowStateRequest>,
    ) -> Result<Response<pb::FollowStateReply>, Status> {
        let request = request.into_inner();
        self.node.admit(request.caller.as_ref())?;
        let job = self.node.jobs.get_soon(JobId(request.job)).await?;
        let applied = job.clone();
        let applied = self.node.blocking(move |node| follow::apply(node, &applied, &request)).await??;
        applied.taken.write(&self.node, &job);
        Ok(Response::new(pb::FollowStateReply { refused_groups: applied.refused }))
    }

    /// Open to all: `replay` and tests are no members.
    async fn feed(&self, request: Request<pb::FeedRequest>) -> Result<Response<pb::FeedReply>, Status> {
        let request = request.into_inner();
        let id = receiver_id(request.receiver.as_ref())?;
        self.node.receivers.feed(id, request.records).await?;
        Ok(Response::new(pb::FeedReply {}))
    }
}
