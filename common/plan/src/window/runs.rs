//! Aligned runs of slots: the nodes of the tree that a window is folded by.
//!
//! A slot is one step of the input's time: slot *s* holds the batches of the times in `((s - 1) * step, s * step]`. A
//! run of level *l* is [`WIDTH`]^*l* slots, beginning at a multiple of that. So where runs begin does not depend on
//! the window, nor on when the job began.

use std::ops::Range;

/// Runs of one level that make one of the next. Four: nearly as few rows are added up for a window as with two, with
/// a third of the runs to keep.
const WIDTH: i64 = 4;

/// An aligned run of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Run {
    /// Level 0 is a single slot. Comes first, so that runs sort by level.
    pub(super) level: u32,
    /// Its first slot, in units of its length.
    pub(super) index: i64,
}

impl Run {
    /// Its slots.
    pub(super) fn slots(self) -> Range<i64> {
        let length = WIDTH.pow(self.level);
        self.index * length..(self.index + 1) * length
    }

    /// The runs it is made of; a slot is made of nothing.
    pub(super) fn children(self) -> impl Iterator<Item = Self> {
        let first = self.index * WIDTH;
        let children = if self.level == 0 { first..first } else { first..first + WIDTH };
        children.map(move |index| Self { level: self.level.saturating_sub(1), index })
    }
}

/// The longest runs that cover these slots exactly, in order of time: at most `2 * (WIDTH - 1)` of each level.
pub(super) fn cover(slots: Range<i64>) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut at = slots.start;
    while at < slots.end {
        let mut run = Run { level: 0, index: at };
        loop {
            let wider = Run { level: run.level + 1, index: run.index.div_euclid(WIDTH) };
            let slots_of_wider = wider.slots();
            if slots_of_wider.start != at || slots_of_wider.end > slots.end {
                break;
            }
            run = wider;
        }
        at = run.slots().end;
        runs.push(run);
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cover_is_exact_and_short(start in -100_000i64..2_000_000_000_000, length in 0i64..100_000) {
            let runs = cover(start..start + length);
            let mut at = start;
            for run in &runs {
                prop_assert_eq!(run.slots().start, at);
                at = run.slots().end;
            }
            prop_assert_eq!(at, start + length);
            for level in 0..20 {
                prop_assert!(runs.iter().filter(|run| run.level == level).count() <= 6);
            }
        }

        #[test]
        fn children_are_the_run(level in 1u32..12, index in -1000i64..1000) {
            let run = Run { level, index };
            let children: Vec<_> = run.children().collect();
            prop_assert_eq!(children.first().unwrap().slots().start, run.slots().start);
            prop_assert_eq!(children.last().unwrap().slots().end, run.slots().end);
            prop_assert!(children.windows(2).all(|pair| pair[0].slots().end == pair[1].slots().start));
        }
    }
}
