//! What a sender knows about its stream.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::sync::watch;

/// A sender's counters, shared with whoever watches it.
#[derive(Debug)]
pub struct ProducerStats {
    sent: AtomicU64,
    held: watch::Sender<u64>,
    connections: AtomicU64,
}

impl Default for ProducerStats {
    fn default() -> Self {
        Self { sent: AtomicU64::new(0), held: watch::Sender::new(0), connections: AtomicU64::new(0) }
    }
}

impl ProducerStats {
    /// All lines before this one were sent at least once.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// All lines before this one are held by the receivers; stays 0 without acknowledgement.
    pub fn held(&self) -> u64 {
        *self.held.borrow()
    }

    /// Connections open now.
    pub fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// Waits until all lines before `offset` are held.
    pub async fn held_up_to(&self, offset: u64) {
        // Fails only when the sending half is gone, and that is ours.
        let _ = self.held.subscribe().wait_for(|held| *held >= offset).await;
    }

    /// Gives out the next lines of the stream, at most `most` and none behind `total`: the first, and how many.
    pub(super) fn claim(&self, most: u64, total: u64) -> (u64, u64) {
        let mut count = 0;
        let first = self.sent.fetch_update(Relaxed, Relaxed, |sent| {
            count = most.min(total.saturating_sub(sent));
            Some(sent + count)
        });
        (first.unwrap_or_else(|sent| sent), count)
    }

    pub(super) fn sent_up_to(&self, offset: u64) {
        self.sent.fetch_max(offset, Relaxed);
    }

    pub(super) fn set_held(&self, offset: u64) {
        self.held.send_if_modified(|held| {
            let more = offset > *held;
            *held = offset.max(*held);
            more
        });
    }

    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub(super) fn disconnected(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }
}
