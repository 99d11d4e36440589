//! From records to held blocks: when to seal, how much may be under way, what is held.

use crate::lines::{Cut, LineBuffer};
use crate::rate::Limiter;
use crate::receiver::{BlockHolder, HoldError, ReceiverConfig, ReceiverError, SealedBlock};
use crate::status::ReceiverStatus;
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesOrdered, StreamExt};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tidemill_common::positions::{MAX_CHANGES, PositionChange, Positions};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Blocks that may be under way at once.
const MAX_UNHELD_BLOCKS: usize = 64;

/// What timers can do.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// Bytes taken in at once while records are left out, which no rate bounds: what is behind them should not be much.
const SKIPPED_AT_ONCE: usize = 4 << 10;

/// The part of a receiver behind its source: takes records in, seals blocks of them, and knows what is held.
///
/// All waiting goes through it ([`wait_for`](Self::wait_for)), so that meanwhile blocks are sealed in time, what is held is
/// noted, and a stop is heard. Its parts are apart so that a `select!` in this crate can wait for all of them.
pub struct Intake {
    /// Records not sealed yet.
    pub(crate) lines: LineBuffer,
    /// Blocks under way.
    pub(crate) window: Window,
    /// Ready when a block is due for its age. Not asked while there is nothing to seal, so a block after
    /// a pause is sealed at once.
    pub(crate) tick: Interval,
    /// How fast to read.
    pub(crate) limiter: Limiter,
    /// When to read no further.
    pub(crate) stop: CancellationToken,
    /// What others see.
    pub(crate) status: Arc<ReceiverStatus>,
    /// How far the source was read, in its own words.
    positions: Positions,
    /// What is new in that, and in no block yet.
    changes: BTreeMap<String, Option<Vec<u8>>>,
}

/// The blocks that are sealed and not held yet.
pub(crate) struct Window {
    holder: Arc<dyn BlockHolder>,
    status: Arc<ReceiverStatus>,
    max_bytes: usize,
    /// Offset of the next record to be sealed.
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
    pub(crate) fn new(
        config: ReceiverConfig,
        holder: Arc<dyn BlockHolder>,
        status: Arc<ReceiverStatus>,
        stop: CancellationToken,
    ) -> Self {
        let mut tick = interval(config.block_interval.max(SHORTEST_INTERVAL));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let window = Window {
            holder,
            status: status.clone(),
            max_bytes: config.max_unheld_bytes,
            next_offset: config.start_offset,
            held: config.start_offset,
            bytes: 0,
            under_way: FuturesOrdered::new(),
        };
        window.show();
        let lines = LineBuffer::new(config.block_bytes.unwrap_or(usize::MAX), config.framing);
        let limiter = Limiter::new(&config.rate, config.start_offset);
        let (positions, changes) = (config.positions, BTreeMap::new());
        Self { lines, window, tick, limiter, stop, status, positions, changes }
    }

    /// Offset of the next record to come in: how many came before it.
    pub fn offset(&self) -> u64 {
        self.window.next_offset + self.lines.records()
    }

    /// About how many bytes its rate lets it read now, 0 for none.
    pub(crate) fn allowed(&mut self) -> usize {
        self.limiter.allow(self.offset(), Instant::now())
    }

    /// Whether there is something to seal and it may be sealed.
    pub(crate) fn is_sealable(&self) -> bool {
        self.lines.records() > 0 && self.window.is_open()
    }

    /// Seals all whole lines there are, room or not.
    pub(crate) fn seal(&mut self) {
        if let Some(cut) = self.lines.cut() {
            let changes = self.take_changes();
            self.window.push(cut, changes);
            self.tick.reset();
        }
    }

    /// Seals what there is, once there is room for another block: for sources that say where their blocks end.
    ///
    /// # Errors
    /// When a block cannot be held.
    pub async fn seal_now(&mut self) -> Result<(), ReceiverError> {
        self.window.opened().await?;
        self.seal();
        Ok(())
    }

    /// Seals what there is and waits until all is held, and all changed positions are logged; returns up to where.
    ///
    /// # Errors
    /// When a block cannot be held.
    pub async fn drain(&mut self) -> Result<u64, ReceiverError> {
        self.seal();
        self.window.emptied().await?;
        if !self.changes.is_empty() {
            let changes = self.take_changes();
            self.window.holder.clone().remember(self.window.held, changes).await?;
        }
        Ok(self.window.held)
    }

    /// How far the source was read, in its own words, as of the records put in so far. A receiver that takes over finds here
    /// what was said by the last record that is held.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Notes how far `name` was read, as of the records put in so far; `None` when stopped before. That is logged with the next
    /// block, or by [`settle`](Self::settle). A record that a position covers is put in by [`record_at`](Self::record_at), so that
    /// no block ends between the two.
    ///
    /// # Errors
    /// When there is no room for it, or a block cannot be held.
    pub async fn moved(&mut self, name: &str, to: impl Into<Vec<u8>>) -> Result<Option<()>, ReceiverError> {
        self.change(PositionChange { name: name.to_owned(), to: Some(to.into()) }).await
    }

    /// Notes that the position in `name` is not needed any more; `None` when stopped before.
    ///
    /// # Errors
    /// When the name is too long, or a block cannot be held.
    pub async fn forget(&mut self, name: &str) -> Result<Option<()>, ReceiverError> {
        self.change(PositionChange { name: name.to_owned(), to: None }).await
    }

    /// A block carries a bounded number of changes: those before are logged first if there are many.
    async fn change(&mut self, change: PositionChange) -> Result<Option<()>, ReceiverError> {
        if self.changes.len() >= MAX_CHANGES
            && !self.changes.contains_key(&change.name)
            && self.settle().await?.is_none()
        {
            return Ok(None);
        }
        self.positions.apply(&change)?;
        self.changes.insert(change.name, change.to);
        Ok(Some(()))
    }

    /// Those that make room come first.
    fn take_changes(&mut self) -> Vec<PositionChange> {
        let (gone, moved): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.changes).into_iter().partition(|(_, to)| to.is_none());
        gone.into_iter().chain(moved).map(|(name, to)| PositionChange { name, to }).collect()
    }

    /// Waits until all positions that have changed are logged; `None` when stopped before. For changes that no record may follow
    /// for long.
    ///
    /// # Errors
    /// When a block cannot be held.
    pub async fn settle(&mut self) -> Result<Option<()>, ReceiverError> {
        if self.changes.is_empty() {
            return Ok(Some(()));
        }
        // They go with the records that are there, if there are any.
        self.seal();
        tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(None),
            emptied = self.window.emptied() => emptied?,
        }
        if self.changes.is_empty() {
            return Ok(Some(()));
        }
        let changes = self.take_changes();
        let remembered = self.window.holder.clone().remember(self.window.held, changes.clone());
        let remembered = self.wait_for(remembered).await?;
        if remembered.is_none() {
            // Said once more while it drains: that changes nothing.
            self.changes.extend(changes.into_iter().map(|change| (change.name, change.to)));
        }
        Ok(remembered.transpose()?)
    }

    /// All records before this one are held.
    pub fn held(&self) -> u64 {
        self.window.held
    }

    /// What others see of this receiver.
    pub fn status(&self) -> &ReceiverStatus {
        &self.status
    }

    /// Runs something else while blocks are sealed in time and held; `None` if stopped before it was done.
    ///
    /// # Errors
    /// When a block cannot be held.
    pub async fn wait_for<F: Future>(&mut self, other: F) -> Result<Option<F::Output>, ReceiverError> {
        let mut other = std::pin::pin!(other);
        loop {
            let sealable = self.is_sealable();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(None),
                held = self.window.more_held() => { held?; }
                _ = self.tick.tick(), if sealable => self.seal(),
                output = &mut other => return Ok(Some(output)),
            }
        }
    }

    /// A file or a connection begins, of which the first `skip` records are left out. It may begin with a byte order mark.
    pub fn begin(&mut self, skip: u64) {
        self.lines.begin(skip);
    }

    /// It ended properly: what there is of a record is one.
    pub fn end(&mut self) {
        self.lines.end_record();
    }

    /// It broke off: what there is of a record is none. True if there was something.
    pub fn break_off(&mut self) -> bool {
        self.lines.discard_partial()
    }

    /// Puts a whole record in, whatever bytes it has, at any rate and without sealing: for sources that say where their
    /// blocks end ([`seal_now`](Self::seal_now)).
    pub fn push(&mut self, record: &[u8]) {
        self.lines.push(record);
    }

    /// Puts a whole record in, whatever bytes it has, as fast as the rate allows; `None` when stopped before.
    ///
    /// # Errors
    /// When a block cannot be held.
    pub async fn record(&mut self, record: &[u8]) -> Result<Option<()>, ReceiverError> {
        match self.has_room().await? {
            Some(()) => self.add(record).await.map(Some),
            None => Ok(None),
        }
    }

    /// The same, for a record up to whose end `name` is read with it.
    ///
    /// # Errors
    /// When a block cannot be held, or there is no room for the position.
    pub async fn record_at(
        &mut self,
        record: &[u8],
        name: &str,
        position: impl Into<Vec<u8>>,
    ) -> Result<Option<()>, ReceiverError> {
        if self.has_room().await?.is_none() {
            return Ok(None);
        }
        // Nothing is sealed between these two.
        if self.moved(name, position).await?.is_none() {
            return Ok(None);
        }
        self.add(record).await.map(Some)
    }

    /// Waits until the rate allows a record; `None` when stopped before.
    async fn has_room(&mut self) -> Result<Option<()>, ReceiverError> {
        while self.allowed() == 0 {
            let wait = self.limiter.wait();
            if self.wait_for(wait).await?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    }

    async fn add(&mut self, record: &[u8]) -> Result<(), ReceiverError> {
        self.lines.push(record);
        if self.lines.is_full() {
            self.seal_now().await?;
        }
        self.limiter.read(record.len());
        Ok(())
    }

    /// Puts bytes in, in which the intake finds the records, as fast as the rate allows; `None` when stopped before all are in.
    ///
    /// # Errors
    /// When a block cannot be held.
    pub async fn bytes(&mut self, mut bytes: Bytes) -> Result<Option<()>, ReceiverError> {
        while !bytes.is_empty() {
            if self.lines.is_skipping() {
                let few = bytes.len().min(SKIPPED_AT_ONCE);
                self.take_in(&bytes.split_to(few)).await?;
                continue;
            }
            let allowed = self.allowed().min(bytes.len());
            if allowed == 0 {
                let wait = self.limiter.wait();
                if self.wait_for(wait).await?.is_none() {
                    return Ok(None);
                }
            } else {
                self.take_in(&bytes.split_to(allowed)).await?;
                self.limiter.read(allowed);
            }
        }
        Ok(Some(()))
    }

    /// Puts bytes in at any rate, sealing whenever a block is full.
    pub(crate) async fn take_in(&mut self, mut bytes: &[u8]) -> Result<(), ReceiverError> {
        while !bytes.is_empty() {
            let taken = self.lines.append(bytes);
            bytes = &bytes[taken..];
            if self.lines.is_full() {
                self.seal_now().await?;
            }
        }
        Ok(())
    }
}

impl Window {
    /// Whether more may be sealed, and so read.
    pub(crate) fn is_open(&self) -> bool {
        self.under_way.len() < MAX_UNHELD_BLOCKS && self.bytes < self.max_bytes
    }

    fn push(&mut self, cut: Cut, changes: Vec<PositionChange>) {
        let Cut { records, bytes } = cut;
        let len = bytes.len();
        let block = SealedBlock { first_offset: self.next_offset, records, bytes, changes };
        self.next_offset += records;
        self.bytes += len;
        self.status.sealed(records, len as u64);
        self.show();
        let held = Held { end_offset: self.next_offset, bytes: len };
        let hold = self.holder.clone().hold(block);
        self.under_way.push_back(hold.map(move |outcome| outcome.map(|()| held)).boxed());
    }

    /// Waits until more is held than before; returns up to where. Pending while nothing is under way. Cancel safe.
    pub(crate) async fn more_held(&mut self) -> Result<u64, ReceiverError> {
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

    /// Waits until all is held. Cancel safe.
    async fn emptied(&mut self) -> Result<(), ReceiverError> {
        while !self.under_way.is_empty() {
            self.more_held().await?;
        }
        Ok(())
    }

    /// Waits until there is room for another block.
    pub(crate) async fn opened(&mut self) -> Result<(), ReceiverError> {
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
    use crate::testkit::{Log, config};

    fn intake(log: &Arc<Log>, max_unheld_bytes: usize) -> Intake {
        let config = ReceiverConfig { block_interval: Duration::from_millis(200), max_unheld_bytes, ..config(0) };
        Intake::new(config, log.holder(), Arc::default(), CancellationToken::new())
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
