//! How fast lines are sent.

use std::time::Duration;
use tidemill_worker::receiver::{Pacer, mix};
use tokio::time::Instant;

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// So many lines per second, catching up at most one second.
    PerSecond(f64),
    /// Every second fewer than so many lines, at random, as in the chapter: 6 purchases, 100 points.
    Below(u64),
    /// As fast as they are taken.
    Unlimited,
}

/// A pace with the seed of its random numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct SeededPace {
    pace: Pace,
    seed: u64,
}

impl Pace {
    pub(super) fn seeded(self, seed: u64) -> SeededPace {
        SeededPace { pace: self, seed }
    }
}

/// The pace of one connection.
pub(super) enum Beat {
    Steady(Pacer),
    Below { most: u64, seed: u64, seconds: u64, next: Instant, due: u64 },
    Unlimited,
}

const SECOND: Duration = Duration::from_secs(1);

impl SeededPace {
    /// Starts now.
    pub(super) fn start(self) -> Beat {
        match self.pace {
            Pace::PerSecond(rate) => Beat::Steady(Pacer::new(rate)),
            Pace::Below(most) => {
                // Not the numbers that make the purchases.
                let seed = !self.seed;
                Beat::Below { most, seed, seconds: 0, next: Instant::now() + SECOND, due: 0 }
            }
            Pace::Unlimited => Beat::Unlimited,
        }
    }
}

impl Beat {
    /// Lines due by now.
    pub(super) fn due(&mut self) -> u64 {
        match self {
            Self::Steady(pacer) => pacer.due(),
            Self::Below { most, seed, seconds, next, due } => {
                if Instant::now() >= *next {
                    *next = Instant::now() + SECOND;
                    *due += mix(*seed, *seconds) % (*most).max(1);
                    *seconds += 1;
                }
                *due
            }
            Self::Unlimited => u64::MAX,
        }
    }

    /// So many of those due were sent.
    pub(super) fn spend(&mut self, lines: u64) {
        match self {
            Self::Steady(pacer) => pacer.spend(lines),
            Self::Below { due, .. } => *due -= lines.min(*due),
            Self::Unlimited => {}
        }
    }

    /// When to ask again if nothing is due.
    pub(super) fn wait(&self) -> Duration {
        match self {
            Self::Steady(pacer) => pacer.wait(),
            Self::Below { next, .. } => next.saturating_duration_since(Instant::now()),
            Self::Unlimited => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_chapters_pace_is_0_to_5_a_second() {
        let mut beat = Pace::Below(6).seeded(1).start();
        let mut seen = [0; 6];
        assert_eq!(beat.due(), 0);
        for _ in 0..200 {
            tokio::time::advance(beat.wait()).await;
            let due = beat.due();
            seen[due as usize] += 1;
            beat.spend(due);
            assert_eq!(beat.due(), 0);
        }
        assert!(seen.iter().all(|times| *times > 0), "{seen:?}");
    }
}
