//! How fast a receiver reads: a token bucket, filled at a rate that may change while it runs.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A bucket that ran empty is used again when it holds what this time brings, so that a slow receiver does not wake for
/// every record.
const QUANTUM: Duration = Duration::from_millis(10);
/// Time whose tokens are saved at most, as in Spark.
const BURST: Duration = Duration::from_secs(1);
/// The longest wait, after which the bucket is looked at again.
const LONGEST: Duration = Duration::from_secs(3600);
/// The least that is worth reading, in bytes.
const LEAST_READ: usize = 256;
/// Length of a record before any was seen, in bytes.
const FIRST_GUESS: f64 = 64.0;

/// Records per second that a receiver reads at most, shared with whoever sets it. By default there is no bound.
#[derive(Debug, Clone)]
pub struct Rate(Arc<watch::Sender<f64>>);

impl Default for Rate {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(f64::INFINITY)))
    }
}

impl Rate {
    /// Sets it, in records per second; what is no positive number is no bound.
    pub fn set(&self, per_second: f64) {
        let per_second = if per_second > 0.0 { per_second } else { f64::INFINITY };
        self.0.send_replace(per_second);
    }

    /// Records per second; 0 for no bound.
    pub fn get(&self) -> f64 {
        let per_second = *self.0.borrow();
        if per_second.is_finite() { per_second } else { 0.0 }
    }
}

/// Tokens, one per record.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    /// Less than 0 after more was read than there was.
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn new(per_second: f64, now: Instant) -> Self {
        Self { per_second, tokens: 0.0, filled: now }
    }

    /// Fills it up to now; from now on at another rate.
    fn fill(&mut self, per_second: f64, now: Instant) {
        let most = |per_second: f64| (per_second * BURST.as_secs_f64()).max(1.0);
        let brought = self.per_second * now.duration_since(self.filled).as_secs_f64();
        // Without a bound nothing is saved and nothing is owed.
        self.tokens = if self.per_second.is_finite() { self.tokens + brought } else { 0.0 };
        self.tokens = self.tokens.min(most(per_second));
        (self.per_second, self.filled) = (per_second, now);
    }

    /// What it has to hold before it is used.
    fn enough(&self) -> f64 {
        (self.per_second * QUANTUM.as_secs_f64()).max(1.0)
    }

    /// Records that may be read.
    fn room(&self) -> f64 {
        match self.per_second.is_finite() {
            true if self.tokens < self.enough() => 0.0,
            true => self.tokens,
            false => f64::INFINITY,
        }
    }

    /// How long it takes until there is room.
    fn wait(&self) -> Duration {
        let seconds = (self.enough() - self.tokens) / self.per_second;
        Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(LONGEST).clamp(Duration::from_millis(1), LONGEST)
    }
}

/// Says how much a receiver may read.
#[derive(Debug)]
pub(crate) struct Limiter {
    rate: watch::Receiver<f64>,
    bucket: Bucket,
    /// Position up to which records are paid for.
    paid: u64,
    /// Records and bytes that were read under a bound.
    records: f64,
    bytes: f64,
}

impl Limiter {
    pub(crate) fn new(rate: &Rate, position: u64) -> Self {
        let rate = rate.0.subscribe();
        let bucket = Bucket::new(*rate.borrow(), Instant::now());
        Self { rate, bucket, paid: position, records: 0.0, bytes: 0.0 }
    }

    /// So many bytes were read.
    pub(crate) fn read(&mut self, bytes: usize) {
        self.bytes += bytes as f64;
    }

    /// Pays for the records up to `position`; about how many bytes may be read now, 0 for none.
    pub(crate) fn allow(&mut self, position: u64, now: Instant) -> usize {
        let read = position.saturating_sub(self.paid) as f64;
        self.paid = position;
        self.records += read;
        self.bucket.fill(*self.rate.borrow_and_update(), now);
        self.bucket.tokens -= read;
        let room = self.bucket.room();
        if room <= 0.0 {
            return 0;
        }
        let record = if self.records > 0.0 && self.bytes > 0.0 { self.bytes / self.records } else { FIRST_GUESS };
        ((room * record) as usize).max(LEAST_READ)
    }

    /// Resolves when there may be room: it is to be asked again then.
    pub(crate) fn wait(&self) -> impl Future<Output = ()> + use<> {
        let (mut rate, wait) = (self.rate.clone(), self.bucket.wait());
        async move {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                Ok(()) = rate.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_fills_at_its_rate_and_saves_one_second() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1000.0, start);
        assert_eq!((bucket.room(), bucket.wait()), (0.0, Duration::from_millis(10)));
        bucket.fill(1000.0, after(start, 9));
        assert_eq!(bucket.room(), 0.0);
        bucket.fill(1000.0, after(start, 100));
        assert_eq!(bucket.room().round(), 100.0);
        bucket.fill(1000.0, after(start, 10_000));
        assert_eq!(bucket.room(), 1000.0);
        bucket.fill(10.0, after(start, 10_000));
        assert_eq!(bucket.room(), 10.0);
        bucket.fill(f64::INFINITY, after(start, 10_001));
        assert_eq!(bucket.room(), f64::INFINITY);
        bucket.fill(10.0, after(start, 20_000));
        assert_eq!(bucket.room(), 0.0, "nothing was saved without a bound");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_beyond_it_is_owed() {
        let rate = Rate::default();
        rate.set(100.0);
        let mut limiter = Limiter::new(&rate, 0);
        tokio::time::advance(Duration::from_millis(100)).await;
        // Ten records of a length that is not known yet.
        assert_eq!(limiter.allow(0, Instant::now()), 640);
        limiter.read(600);
        assert_eq!(limiter.allow(60, Instant::now()), 0);
        let start = Instant::now();
        limiter.wait().await;
        assert_eq!(start.elapsed().as_millis() / 10, 51, "50 are owed, and one is wanted");
        assert_eq!(limiter.allow(60, Instant::now()), LEAST_READ);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(limiter.allow(60, Instant::now()), 1000, "a hundred records of ten bytes");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_rate_ends_the_wait() {
        let rate = Rate::default();
        rate.set(0.001);
        let mut limiter = Limiter::new(&rate, 7);
        assert_eq!((limiter.allow(7, Instant::now()), rate.get()), (0, 0.001));
        let (waits, start) = (limiter.wait(), Instant::now());
        rate.set(0.0);
        waits.await;
        assert_eq!((start.elapsed(), rate.get()), (Duration::ZERO, 0.0));
        assert!(limiter.allow(7, Instant::now()) > 1 << 20);
    }
}
