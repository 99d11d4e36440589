//! "I am alive", with how full things are.

use crate::node::Node;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tidemill_proto::control::{self as pb, worker_message};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

/// Sends heartbeats until the session is gone.
pub(crate) async fn run(node: Arc<Node>, outbox: mpsc::Sender<pb::WorkerMessage>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sequence = 0;
    loop {
        ticks.tick().await;
        sequence += 1;
        let kind = Some(worker_message::Kind::Heartbeat(beat(&node, sequence)));
        if outbox.send(pb::WorkerMessage { kind }).await.is_err() {
            return;
        }
    }
}

fn beat(node: &Node, sequence: u64) -> pb::Heartbeat {
    let blocks = node.blocks.usage();
    pb::Heartbeat {
        sequence,
        block_memory_bytes: blocks.memory_bytes,
        block_disk_bytes: blocks.disk_bytes,
        blocks: blocks.blocks,
        shuffle_bytes: node.shuffle.usage().memory_bytes,
        state_bytes: node.states.memory_bytes() as u64,
        running_tasks: node.running_tasks.load(Ordering::Relaxed),
        resident_bytes: resident_bytes(),
        fenced_requests: node.fenced_requests.load(Ordering::Relaxed),
        receivers: node.receivers.status(),
    }
}

/// Resident memory of this process; 0 where the system does not tell.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}
