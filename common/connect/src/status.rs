//! What a receiver says about itself while it runs.

use crate::receiver::ConnectError;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tidemill_metrics::{Counter, metric};
use tokio::sync::watch;

metric! {
    static RECONNECTS: Counter =
        Counter::new("tidemill_receiver_reconnects_total", "Connections of receivers that ended or failed.");
}

/// What a receiver is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ReceiverState {
    /// Making a connection, or waiting for the sender's answer.
    #[default]
    Connecting,
    /// Taking records in.
    Connected,
    /// Waiting before the next try.
    BackingOff {
        /// Why the last connection failed or ended.
        error: String,
        /// How long it waits.
        wait: Duration,
    },
    /// Not reading any more; what was read is being held.
    Draining,
    /// Ended.
    Ended,
}

/// A receiver's counters and state, shared with whoever watches it.
#[derive(Debug, Default)]
pub struct ReceiverStatus {
    state: watch::Sender<ReceiverState>,
    records: AtomicU64,
    bytes: AtomicU64,
    held_offset: AtomicU64,
    unheld_bytes: AtomicU64,
    reconnects: AtomicU64,
    discarded_partial: AtomicU64,
    bad_files: AtomicU64,
    reported: Mutex<String>,
}

/// A receiver's counters and state at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSnapshot {
    /// What it is doing.
    pub state: ReceiverState,
    /// Records sealed since it started.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// All records of the stream before this one are held.
    pub held_offset: u64,
    /// Bytes sealed and not yet held.
    pub unheld_bytes: u64,
    /// Connections that ended or failed.
    pub reconnects: u64,
    /// Unterminated records lost with a plain connection.
    pub discarded_partial: u64,
    /// Files that changed after they were chosen, or could not be looked at or read.
    pub bad_files: u64,
    /// The last error that did not stop the receiver: a bad file, or what a user's receiver has reported; else empty.
    pub reported: String,
}

impl ReceiverStatus {
    /// All of it.
    pub fn snapshot(&self) -> StatusSnapshot {
        StatusSnapshot {
            state: self.state.borrow().clone(),
            records: self.records.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            held_offset: self.held_offset.load(Relaxed),
            unheld_bytes: self.unheld_bytes.load(Relaxed),
            reconnects: self.reconnects.load(Relaxed),
            discarded_partial: self.discarded_partial.load(Relaxed),
            bad_files: self.bad_files.load(Relaxed),
            reported: self.reported.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// The state, for waiting until it changes.
    pub fn watch(&self) -> watch::Receiver<ReceiverState> {
        self.state.subscribe()
    }

    /// Says what it is doing.
    pub fn set(&self, state: ReceiverState) {
        self.state.send_replace(state);
    }

    /// Says why the last try failed or ended, and how long it waits until the next.
    pub fn back_off(&self, error: &ConnectError, wait: Duration) {
        self.reconnects.fetch_add(1, Relaxed);
        RECONNECTS.add(1);
        self.set(ReceiverState::BackingOff { error: error.to_string(), wait });
    }

    /// Shows an error that did not stop it; an empty text takes it away.
    pub fn report(&self, error: String) {
        *self.reported.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    pub(crate) fn sealed(&self, records: u64, bytes: u64) {
        self.records.fetch_add(records, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn held(&self, offset: u64, unheld_bytes: u64) {
        self.held_offset.store(offset, Relaxed);
        self.unheld_bytes.store(unheld_bytes, Relaxed);
    }

    /// Counts a file that could not be read, and says why.
    pub fn bad_file(&self, why: String) {
        self.bad_files.fetch_add(1, Relaxed);
        self.report(why);
    }

    /// Counts an unterminated record that was lost.
    pub fn partial_discarded(&self) {
        self.discarded_partial.fetch_add(1, Relaxed);
    }
}
