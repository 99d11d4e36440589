//! How fast lines are sent.

use super::recorded::Schedule;
use std::sync::Arc;
use std::time::Duration;
use tidemill_connect::Pacer;
use tidemill_connect::sources::generate::mix;
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

/// All that says when lines are due.
#[derive(Debug, Clone)]
pub(super) enum Timing {
    /// A pace with the seed of its random numbers.
    Pace(Pace, u64),
    /// As the lines happened.
    Recorded(Arc<Schedule>),
}

/// The pace of one connection.
pub(super) enum Beat {
    Steady(Pacer),
    Below {
        most: u64,
        seed: u64,
        seconds: u64,
        next: Instant,
        due: u64,
    },
    /// The next line, when the first one of the connection was due, and since when the connection is there.
    Recorded {
        schedule: Arc<Schedule>,
        line: u64,
        first_ms: u64,
        since: Instant,
    },
    Unlimited,
}

const SECOND: Duration = Duration::from_secs(1);

impl Timing {
    /// Starts now, with this line.
    pub(super) fn start(&self, line: u64) -> Beat {
        match self {
            Self::Pace(Pace::PerSecond(rate), _) => Beat::Steady(Pacer::new(*rate)),
            Self::Pace(Pace::Below(most), seed) => {
                // Not the numbers that make the purchases.
                let seed = !seed;
                Beat::Below { most: *most, seed, seconds: 0, next: Instant::now() + SECOND, due: 0 }
            }
            Self::Pace(Pace::Unlimited, _) => Beat::Unlimited,
            Self::Recorded(schedule) => {
                let first_ms = schedule.due_at(line).unwrap_or(u64::MAX);
                Beat::Recorded { schedule: schedule.clone(), line, first_ms, since: Instant::now() }
            }
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
            Self::Recorded { schedule, line, first_ms, since } => {
                let after_ms = first_ms.saturating_add(since.elapsed().as_millis() as u64);
                schedule.due_by(after_ms).saturating_sub(*line)
            }
            Self::Unlimited => u64::MAX,
        }
    }

    /// So many of those due were sent.
    pub(super) fn spend(&mut self, lines: u64) {
        match self {
            Self::Steady(pacer) => pacer.spend(lines),
            Self::Below { due, .. } => *due -= lines.min(*due),
            Self::Recorded { line, .. } => *line += lines,
            Self::Unlimited => {}
        }
    }

    /// When to ask again if nothing is due.
    pub(super) fn wait(&self) -> Duration {
        match self {
            Self::Steady(pacer) => pacer.wait(),
            Self::Below { next, .. } => next.saturating_duration_since(Instant::now()),
            Self::Recorded { schedule, line, first_ms, since } => {
                let due_ms = schedule.due_at(*line).map(|due_ms| due_ms.saturating_sub(*first_ms));
                due_ms.map_or(SECOND, |due_ms| Duration::from_millis(due_ms).saturating_sub(since.elapsed()))
            }
            Self::Unlimited => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::produce::recorded::{Recorded, TimeColumn};

    #[tokio::test(start_paused = true)]
    async fn the_chapters_pace_is_0_to_5_a_second() {
        let mut beat = Timing::Pace(Pace::Below(6), 1).start(0);
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

    #[tokio::test(start_paused = true)]
    async fn a_recorded_pace_goes_on_anywhere() {
        let recorded = Recorded { column: TimeColumn::At(0), delimiter: b',', format: None, speed_up: 10.0 };
        let mut times = recorded.start("").unwrap();
        for (number, time) in ["100", "100", "120", "150"].iter().enumerate() {
            times.take(number as u64 + 1, time).unwrap();
        }
        let timing = Timing::Recorded(Arc::new(times.finish()));
        for (from, expected) in [(0, vec![(0, 2), (2000, 1), (3000, 1)]), (1, vec![(0, 1), (2000, 1), (3000, 1)])] {
            let mut beat = timing.start(from);
            for (wait, due) in expected {
                assert_eq!(beat.wait(), Duration::from_millis(wait));
                tokio::time::advance(beat.wait()).await;
                assert_eq!(beat.due(), due);
                beat.spend(due);
                assert_eq!(beat.due(), 0);
            }
            assert_eq!(beat.wait(), SECOND);
        }
    }
}
