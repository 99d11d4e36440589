//! The worker's HTTP face: `GET /metrics`, for Prometheus.

use crate::heartbeat;
use crate::node::Node;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tidemill_metrics::{Gauge, metric};
use tokio::net::TcpListener;

metric! {
    static BLOCKS: Gauge = Gauge::new("tidemill_blocks", "Blocks held.");
    static BLOCK_MEMORY: Gauge = Gauge::new("tidemill_block_memory_bytes", "Bytes of blocks in memory.");
    static BLOCK_DISK: Gauge = Gauge::new("tidemill_block_disk_bytes", "Bytes of blocks on disk.");
    static SHUFFLE_MEMORY: Gauge =
        Gauge::new("tidemill_shuffle_memory_bytes", "Bytes of pieces of exchanges in memory.");
    static STATE_MEMORY: Gauge = Gauge::new("tidemill_state_memory_bytes", "Bytes of state in memory.");
    static RUNNING_TASKS: Gauge = Gauge::new("tidemill_running_tasks", "Tasks running.");
}

/// Serves until the node stops.
pub(crate) async fn serve(node: Arc<Node>, listener: TcpListener) {
    let stop = node.stop.clone().cancelled_owned();
    let routes = Router::new().route("/metrics", get(metrics)).with_state(node);
    if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(stop).await {
        tracing::error!(%error, "the HTTP server failed");
    }
}

async fn metrics(State(node): State<Arc<Node>>) -> Result<impl IntoResponse, (StatusCode, String)> {
    let load = node.blocking(heartbeat::load).await;
    let load = load.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.message().to_string()))?;
    BLOCKS.set(load.blocks as f64);
    BLOCK_MEMORY.set(load.block_memory_bytes as f64);
    BLOCK_DISK.set(load.block_disk_bytes as f64);
    SHUFFLE_MEMORY.set(load.shuffle_bytes as f64);
    STATE_MEMORY.set(load.state_bytes as f64);
    RUNNING_TASKS.set(f64::from(node.running_tasks.load(Ordering::Relaxed)));
    // Counters of the driver are in the same program, and stand still here.
    let page = tidemill_metrics::page(|module| !module.starts_with("tidemill_driver"));
    Ok(([(header::CONTENT_TYPE, tidemill_metrics::CONTENT_TYPE)], page))
}
