//! In which batches a stream has rows at all.

use crate::plan::BatchContext;
use std::fmt;
use std::time::Duration;
use tidemill_common::ids::BatchId;

/// When a stream fires. What does not fire in a batch gives nothing, which is not the same as no rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rhythm {
    /// In every batch.
    EveryBatch,
    /// In the batches that a multiple of this falls into.
    Every {
        /// In ms; at least 1.
        slide_ms: i64,
    },
    /// Once, in the first batch at or after this time.
    Once {
        /// In ms since 1970 UTC.
        at_ms: i64,
    },
}

impl Rhythm {
    /// The time for which it fires in a batch, in ms since 1970 UTC; none if it does not.
    ///
    /// A batch stands for the time since the batch before it, so no tick is missed when batches are late; of several
    /// in one batch the latest counts.
    pub fn fires(self, ctx: &BatchContext) -> Option<i64> {
        match self {
            Self::EveryBatch => Some(ctx.time_ms),
            Self::Every { slide_ms } => {
                let latest = ctx.time_ms - ctx.time_ms.rem_euclid(slide_ms);
                (latest > ctx.previous_ms).then_some(latest)
            }
            Self::Once { at_ms } => {
                let first = ctx.batch == BatchId(1) || at_ms > ctx.previous_ms;
                (at_ms <= ctx.time_ms && first).then_some(at_ms)
            }
        }
    }
}

impl fmt::Display for Rhythm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EveryBatch => f.write_str("in every batch"),
            Self::Every { slide_ms } => write!(f, "every {:?}", Duration::from_millis(slide_ms.unsigned_abs())),
            Self::Once { at_ms } => write!(f, "once, {at_ms} ms after 1970"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(batch: u64, previous_ms: i64, time_ms: i64) -> BatchContext {
        BatchContext { batch: BatchId(batch), time_ms, previous_ms }
    }

    #[test]
    fn late_and_early_batches_swallow_no_tick() {
        let every = Rhythm::Every { slide_ms: 2000 };
        assert_eq!(every.fires(&at(1, 0, 1000)), None);
        assert_eq!(every.fires(&at(2, 1000, 2000)), Some(2000));
        assert_eq!(every.fires(&at(3, 2000, 2400)), None);
        assert_eq!(every.fires(&at(4, 2400, 5000)), Some(4000));
        assert_eq!(every.fires(&at(5, 5000, 9000)), Some(8000));
        assert_eq!(every.fires(&at(6, -3000, -2000)), Some(-2000));
    }

    #[test]
    fn once_is_once() {
        let once = Rhythm::Once { at_ms: 2500 };
        let fired: Vec<_> = (1..6).map(|n| once.fires(&at(n, (n as i64 - 1) * 1000, n as i64 * 1000))).collect();
        assert_eq!(fired, [None, None, Some(2500), None, None]);
        assert_eq!(once.fires(&at(1, 8000, 9000)), Some(2500));
    }
}
