//! From records to held blocks: when to seal, how much may be under way, what is held.

use super::lines::{Cut, LineBuffer};
use super::rate::Limiter;
use super::status::ReceiverStatus;
use super::{BlockSink, HoldError, ReceiverConfig, ReceiverError, SealedBlock};
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesOrdered, StreamExt};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tidemill_plan::records::Framing;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Blocks that may be under way at once.
const MAX_UNHELD_BLOCKS: usize = 64;

/// What timers can do.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// The part of a receiver behind its source. Its parts are apart so that a `select!` can wait for all of them.
pub(super) struct Intake {
    /// Records not sealed yet.
    pub(super) lines: LineBuffer,
    /// Blocks under way.
    pub(super) window: Window,
    /// Ready when a block is due for its age. Not asked while there is nothing to seal, so a block after
    /// a pause is sealed at once.
    pub(super) tick: Interval,
    /// How fast to read.
    pub(super) limiter: Limiter,
    /// When to read no further.
    pub(super) stop: CancellationToken,
    /// What others see.
    pub(super) status: Arc<ReceiverStatus>,
}

/// The blocks that are sealed and not held yet.
pub(super) struct Window {
    sink: Arc<dyn BlockSink>,
    status: Arc<ReceiverStatus>,
    max_bytes: usize,
    /// Position of the next record to be sealed.
    next_offset: u64,
    /// All records before this one are held.
    held: u64,
    bytes: usize,
    under_way: FuturesOrdered<BoxFuture<'static, Result<Held, HoldError>>>,
}

/// A block that is held now.
struct Held {
    end_offset: u64,
    bytes: usize,
}

impl Intake {
    pub(super) fn new(
        config: &ReceiverConfig,
        framing: Framing,
        sink: Arc<dyn BlockSink>,
        status: Arc<ReceiverStatus>,
        stop: CancellationToken,
    ) -> Self {
        let mut tick = interval(config.block_interval.max(SHORTEST_INTERVAL));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let window = Window {
            sink,
            status: status.clone(),
            max_bytes: config.max_unheld_bytes,
            next_offset: config.start_offset,
            held: config.start_offset,
            bytes: 0,
            under_way: FuturesOrdered::new(),
        };
        window.show();
        let lines = LineBuffer::new(config.block_bytes, framing);
        let limiter = Limiter::new(&config.rate, config.start_offset);
        Self { lines, window, tick, limiter, stop, status }
    }

    /// Position of the next record to come in.
    pub(super) fn position(&self) -> u64 {
        self.window.next_offset + self.lines.records()
    }

    /// About how many bytes its rate lets it read now, 0 for none.
    pub(super) fn allowed(&mut self) -> usize {
        self.limiter.allow(self.position(), Instant::now())
    }

    /// Whether there is something to seal and it may be sealed.
    pub(super) fn is_sealable(&self) -> bool {
        self.lines.records() > 0 && self.window.is_open()
    }

    /// Seals all whole lines there are, room or not.
    pub(super) fn seal(&mut self) {
        if let Some(cut) = self.lines.cut() {
            self.window.push(cut);
            self.tick.reset();
        }
    }

    /// Seals what there is and waits until all is held; returns up to where.
    pub(super) async fn drain(&mut self) -> Result<u64, ReceiverError> {
        self.seal();
        while !self.window.under_way.is_empty() {
            self.window.more_held().await?;
        }
        Ok(self.window.held)
    }

    /// Runs something else while blocks are being held; `None` if stopped before it was done.
    pub(super) async fn meanwhile<F: Future>(&mut self, other: F) -> Result<Option<F::Output>, ReceiverError> {
        let mut other = std::pin::pin!(other);
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(None),
                held = self.window.more_held() => held?,
                output = &mut other => return Ok(Some(output)),
            };
        }
    }
}

impl Window {
    /// Whether more may be sealed, and so read.
    pub(super) fn is_open(&self) -> bool {
        self.under_way.len() < MAX_UNHELD_BLOCKS && self.bytes < self.max_bytes
    }

    fn push(&mut self, cut: Cut) {
        let Cut { records, bytes } = cut;
        let len = bytes.len();
        let block = SealedBlock { first_offset: self.next_offset, records, bytes };
        self.next_offset += records;
        self.bytes += len;
        self.status.sealed(records, len as u64);
        self.show();
        let held = Held { end_offset: self.next_offset, bytes: len };
        let hold = self.sink.hold(block);
        self.under_way.push_back(hold.map(move |outcome| outcome.map(|()| held)).boxed());
    }

    /// Waits until more is held than before; returns up to where. Pending while nothing is under way. Cancel safe.
    pub(super) async fn more_held(&mut self) -> Result<u64, ReceiverError> {
        match self.under_way.next().await {
            Some(outcome) => self.account(outcome)?,
            None => return std::future::pending().await,
        }
        while let Some(Some(outcome)) = self.under_way.next().now_or_never() {
            self.account(outcome)?;
        }
        self.show();
        Ok(self.held)
    }

    /// Waits until there is room for another block.
    pub(super) async fn opened(&mut self) -> Result<(), ReceiverError> {
        while !self.is_open() {
            self.more_held().await?;
        }
        Ok(())
    }

    fn account(&mut self, outcome: Result<Held, HoldError>) -> Result<(), ReceiverError> {
        let held = outcome?;
        self.held = held.end_offset;
        self.bytes -= held.bytes;
        Ok(())
    }

    fn show(&self) {
        self.status.held(self.held, self.bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receiver::tests::{Log, config};
    use crate::receiver::{Backoff, ReceiverKind};

    fn intake(log: &Arc<Log>, max_unheld_bytes: usize) -> Intake {
        let kind = ReceiverKind::Socket { address: String::new(), acknowledge: false };
        let config = ReceiverConfig {
            block_interval: Duration::from_millis(200),
            max_unheld_bytes,
            reconnect: Backoff::default(),
            ..config(kind, 0)
        };
        let (status, stop) = (Arc::default(), CancellationToken::new());
        Intake::new(&config, Framing::Lines, log.sink(), status, stop)
    }

    #[tokio::test(start_paused = true)]
    async fn a_block_is_due_one_interval_after_the_last() {
        let mut intake = intake(&Log::new(), 1000);
        let start = Instant::now();
        intake.lines.append(b"a\n");
        intake.tick.tick().await;
        intake.seal();
        assert_eq!(start.elapsed(), Duration::ZERO);
        tokio::time::advance(Duration::from_millis(150)).await;
        // Sealed for its size, say: the next one is due an interval from here.
        intake.lines.append(b"b\n");
        intake.seal();
        intake.lines.append(b"c\n");
        intake.tick.tick().await;
        assert_eq!(start.elapsed(), Duration::from_millis(350));
        assert_eq!(intake.drain().await, Ok(3));
    }

    #[tokio::test]
    async fn the_window_closes_by_bytes_and_by_blocks() {
        let log = Log::new();
        log.pause();
        let mut by_bytes = intake(&log, 4);
        by_bytes.lines.append(b"a\n");
        by_bytes.seal();
        assert!(by_bytes.window.is_open());
        by_bytes.lines.append(b"b\n");
        by_bytes.seal();
        assert!(!by_bytes.window.is_open());

        let mut by_blocks = intake(&log, 1 << 20);
        for _ in 0..MAX_UNHELD_BLOCKS {
            assert!(by_blocks.window.is_open());
            by_blocks.lines.append(b"a\n");
            by_blocks.seal();
        }
        assert!(!by_blocks.window.is_open());
    }
}
