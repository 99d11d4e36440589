//! "I am alive", with how full things are.

use crate::node::Node;
use futures::FutureExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tidemill_proto::control::{self as pb, worker_message};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// Sends heartbeats until the session is gone.
///
/// How full things are is looked up elsewhere: it waits for locks that tasks hold while they work, and a worker that
/// works must not look dead. A heartbeat says what is known by then.
pub(crate) async fn run(node: Arc<Node>, outbox: mpsc::Sender<pb::WorkerMessage>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = pb::Heartbeat::default();
    let mut asked: Option<JoinHandle<pb::Heartbeat>> = None;
    for sequence in 1.. {
        ticks.tick().await;
        if let Some(Some(load)) = asked.as_mut().map(|asked| asked.now_or_never()) {
            known = load.unwrap_or(known);
            asked = None;
        }
        let beat = pb::Heartbeat {
            sequence,
            running_tasks: node.running_tasks.load(Ordering::Relaxed),
            receivers: node.receivers.status(),
            ..known.clone()
        };
        if outbox.send(pb::WorkerMessage { kind: Some(worker_message::Kind::Heartbeat(beat)) }).await.is_err() {
            return;
        }
        if asked.is_none() {
            let node = node.clone();
            asked = Some(node.data.clone().spawn_blocking(move || load(&node)));
        }
    }
}

/// How full things are.
pub(crate) fn load(node: &Node) -> pb::Heartbeat {
    let blocks = node.blocks.usage();
    let aside = node.aside.kept(node);
    pb::Heartbeat {
        block_memory_bytes: blocks.memory_bytes,
        block_disk_bytes: blocks.disk_bytes,
        blocks: blocks.blocks,
        shuffle_bytes: node.shuffle.usage().memory_bytes,
        state_bytes: node.states.memory_bytes() as u64,
        resident_bytes: tidemill_metrics::process::resident_bytes(),
        damaged: node.blocks.damaged() + node.checkpoints.damaged(),
        aside_jobs: aside.jobs,
        aside_blocks: aside.blocks,
        aside_bytes: aside.bytes,
        ..pb::Heartbeat::default()
    }
}
