//! The time of batches: the driver's clock. While that is behind the last batch, because it was set back, time goes on from
//! there, so that batch times always ascend and batches never stop.

/// How far the time of a job's batches is ahead of the driver's clock.
#[derive(Debug, Default)]
pub(crate) struct BatchClock {
    ahead_ms: i64,
}

impl BatchClock {
    /// The time, in ms since 1970, at `wall_ms` of the driver's clock; never before the last batch's.
    pub(crate) fn read(&self, wall_ms: i64, last_ms: i64) -> i64 {
        match wall_ms < last_ms {
            true => wall_ms.saturating_add(self.ahead_ms).max(last_ms),
            false => wall_ms,
        }
    }

    /// Follows the driver's clock. Gives back how far that is behind the last batch, in ms, if it was set back since.
    pub(crate) fn follow(&mut self, wall_ms: i64, last_ms: i64) -> Option<i64> {
        let ahead_ms = self.read(wall_ms, last_ms).saturating_sub(wall_ms);
        let set_back = ahead_ms > self.ahead_ms;
        self.ahead_ms = ahead_ms;
        set_back.then_some(ahead_ms)
    }

    /// How far the time is ahead of the driver's clock, in ms.
    pub(crate) fn ahead_ms(&self) -> i64 {
        self.ahead_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is done to the clock, time never goes back, passes as fast as the clock does, and is the clock's when that is
        /// ahead of the last batch.
        #[test]
        fn time_ascends(steps in prop::collection::vec((0..2000_i64, prop_oneof![4 => Just(0_i64), 1 => -100_000..100_000_i64]), 1..60)) {
            let (mut clock, mut wall, mut last) = (BatchClock::default(), 1_000_000, 1_000_000);
            clock.follow(wall, last);
            for (passes, set) in steps {
                let before = clock.read(wall, last);
                wall += passes + set;
                clock.follow(wall, last);
                let now = clock.read(wall, last);
                prop_assert!(now >= last);
                match wall >= last {
                    true => prop_assert_eq!(now, wall),
                    false if set == 0 => prop_assert_eq!(now, before + passes),
                    false => {}
                }
                // A batch every second.
                if now / 1000 * 1000 > last {
                    last = now / 1000 * 1000;
                }
            }
        }
    }
}
