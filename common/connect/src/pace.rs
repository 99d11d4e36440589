//! So many things per second, catching up at most one second.

use std::time::Duration;
use tokio::time::Instant;

/// Says how many things are due.
#[derive(Debug)]
pub struct Pacer {
    per_second: f64,
    credit: f64,
    last: Instant,
}

impl Pacer {
    /// Starts now, with nothing due. A rate that is no positive number makes nothing due ever.
    pub fn new(per_second: f64) -> Self {
        let per_second = if per_second.is_finite() { per_second.max(0.0) } else { 0.0 };
        Self { per_second, credit: 0.0, last: Instant::now() }
    }

    /// How many are due by now; at most what one second brings (and one).
    pub fn due(&mut self) -> u64 {
        let now = Instant::now();
        let elapsed = now.duration_since(self.last).as_secs_f64();
        self.last = now;
        self.credit = (self.credit + elapsed * self.per_second).min(self.per_second.max(1.0));
        self.credit as u64
    }

    /// So many of those due were done.
    pub fn spend(&mut self, done: u64) {
        self.credit -= done as f64;
    }

    /// When to ask again: after 10 ms, or when the next one is due if that is later.
    pub fn wait(&self) -> Duration {
        const TICK: Duration = Duration::from_millis(10);
        const LONG: Duration = Duration::from_secs(1);
        let seconds = (1.0 - self.credit) / self.per_second;
        Duration::try_from_secs_f64(seconds).unwrap_or(if seconds > 0.0 { LONG } else { TICK }).clamp(TICK, LONG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn keeps_the_rate_and_catches_up_one_second() {
        let mut pacer = Pacer::new(1000.0);
        assert_eq!(pacer.due(), 0);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(pacer.due(), 100);
        pacer.spend(60);
        assert_eq!(pacer.due(), 40);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(pacer.due(), 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_rates_add_up() {
        let mut pacer = Pacer::new(0.5);
        assert_eq!(pacer.wait(), Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(pacer.due(), 0);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(pacer.due(), 1);
        assert_eq!(Pacer::new(f64::NAN).due(), 0);
    }
}
