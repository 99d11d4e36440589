//! What is known of one key group's window without looking at its state.

use super::runs::Run;
use super::{PANE, SEEN};
use crate::error::PlanError;
use datafusion::arrow::array::{BinaryArray, RecordBatch};
use std::collections::{BTreeMap, BTreeSet};

/// The panes of one key group and what they add up to. All of it follows from the state, and is made anew from it
/// wherever the state is.
#[derive(Debug, Default)]
pub struct GroupWindow {
    /// Times of the panes.
    times: BTreeSet<i64>,
    /// Encoded keys that were seen, where that is remembered.
    seen: BTreeSet<Vec<u8>>,
    /// What the panes of runs within the window add up to. A run is folded when all its batches have been, so it
    /// stays right for ever.
    pub(super) folded: BTreeMap<Run, RecordBatch>,
}

impl GroupWindow {
    /// Of the keys of a state.
    ///
    /// # Errors
    /// When they are not a window's.
    pub fn new(keys: &BinaryArray) -> Result<Self, PlanError> {
        let mut window = Self::default();
        for key in keys.iter().flatten() {
            match key.split_first() {
                Some((&PANE, time)) => {
                    let time: [u8; 8] = time.try_into().map_err(|_| malformed())?;
                    window.times.insert((u64::from_be_bytes(time) ^ (1 << 63)) as i64);
                }
                Some((&SEEN, key)) => {
                    window.seen.insert(key.to_vec());
                }
                _ => return Err(malformed()),
            }
        }
        Ok(window)
    }

    /// The times of its panes.
    pub fn times(&self) -> &BTreeSet<i64> {
        &self.times
    }

    /// The keys that were seen.
    pub fn seen(&self) -> &BTreeSet<Vec<u8>> {
        &self.seen
    }

    /// Notes a new pane.
    pub fn add(&mut self, time_ms: i64) {
        self.times.insert(time_ms);
    }

    /// Notes a key; whether it is new.
    pub fn see(&mut self, key: &[u8]) -> bool {
        !self.seen.contains(key) && self.seen.insert(key.to_vec())
    }

    /// Forgets the panes of this time and before, and gives their times.
    pub fn forget_until(&mut self, horizon_ms: i64) -> BTreeSet<i64> {
        let mut gone = BTreeSet::new();
        while let Some(first) = self.times.first().copied().filter(|time| *time <= horizon_ms) {
            self.times.remove(&first);
            gone.insert(first);
        }
        gone
    }

    /// Forgets the runs that begin before a slot, without a look at the others.
    pub(super) fn forget_runs_before(&mut self, slot: i64) {
        let mut level = 1;
        while let Some((&first, _)) = self.folded.range(Run { level, index: i64::MIN }..).next() {
            level = first.level;
            if first.slots().start < slot {
                self.folded.remove(&first);
            } else {
                level += 1;
            }
        }
    }
}

fn malformed() -> PlanError {
    PlanError::Malformed("these are not the keys of a window's state".into())
}
