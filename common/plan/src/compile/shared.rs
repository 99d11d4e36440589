//! Rows that are read more than once, which a stage makes once per unit.
//!
//! While a job is compiled, every stream that is more than the rows of a stage becomes shared rows, so that all who read
//! it, from other streams, from outputs or twice from one query, read the same. Who reads what is known in the end: rows
//! with one reader are made there after all, and are not kept in memory for it.

use super::stages::{Lane, Rows, Stages, fragment, leaf};
use crate::fragment::Fragment;
use crate::plan::{Reads, Shared, Stage};
use datafusion::common::Result;
use tidemill_common::ids::StageId;

impl Stages {
    /// Makes rows of a stream that may be read any number of times: the heads of their stages end, and what branches make of the
    /// rows is shared.
    pub(super) fn share(&mut self, rows: Rows, stream: &str) -> Rows {
        let lanes = self.seal(rows).0;
        Rows(lanes.into_iter().map(|lane| self.share_lane(lane, stream)).collect())
    }

    fn share_lane(&mut self, lane: Lane, stream: &str) -> Lane {
        let Some(fragment) = fragment(&lane.plan, 1, stream) else {
            return lane;
        };
        let lane = self.waiting(lane.clone(), &lane.plan);
        let reads = self.add_shared(lane.stage, Shared { reads: lane.reads, fragment });
        let plan = leaf(0..1, lane.plan.schema());
        Lane { plan, reads, ..lane }
    }

    /// The same rows of another stage that has the same input, with the shared rows that they are made of.
    pub(super) fn moved(&mut self, lane: Lane, to: StageId) -> Lane {
        let reads = self.copy_shared(lane.stage, lane.reads, to);
        Lane { stage: to, reads, ..lane }
    }

    fn copy_shared(&mut self, from: StageId, reads: Reads, to: StageId) -> Reads {
        let Reads::Shared(number) = reads else {
            return reads;
        };
        let Shared { reads, fragment } = self.stages[from.0 as usize].shared[number].clone();
        let reads = self.copy_shared(from, reads, to);
        self.add_shared(to, Shared { reads, fragment })
    }

    /// What a stage makes already is not made again.
    fn add_shared(&mut self, stage: StageId, new: Shared) -> Reads {
        let shared = &mut self.stages[stage.0 as usize].shared;
        let same = |known: &Shared| known.reads == new.reads && known.fragment.is(&new.fragment);
        let place = shared.iter().position(same).unwrap_or(shared.len());
        if place == shared.len() {
            shared.push(new);
        }
        Reads::Shared(place)
    }

    /// Drops the shared rows that nobody reads, and has those that are read once made where they are read.
    pub(super) fn settle_shared(&mut self) -> Result<()> {
        self.stages.iter_mut().try_for_each(settle)
    }
}

/// What becomes of shared rows.
enum Settled {
    /// Nobody reads them.
    Gone,
    /// They are made where they are read: what makes them of what.
    Inlined(Shared),
    /// They stay, at this place.
    Kept(usize),
}

/// From the first rows to those made of them: so every plan is put over what is finished, and is built once.
fn settle(stage: &mut Stage) -> Result<()> {
    let readers = readers(stage);
    let mut kept = Vec::new();
    let mut settled: Vec<Settled> = Vec::with_capacity(readers.len());
    for (mut shared, readers) in std::mem::take(&mut stage.shared).into_iter().zip(readers) {
        match below(shared.reads, &settled) {
            Below::These(reads) => shared.reads = reads,
            Below::MadeOf(made) => {
                shared = Shared { reads: made.reads, fragment: shared.fragment.over(&made.fragment)? };
            }
        }
        settled.push(match readers {
            0 => Settled::Gone,
            1 => Settled::Inlined(shared),
            _ => {
                kept.push(shared);
                Settled::Kept(kept.len() - 1)
            }
        });
    }
    stage.shared = kept;
    for branch in &mut stage.branches {
        match below(branch.reads, &settled) {
            Below::These(reads) => branch.reads = reads,
            Below::MadeOf(made) => {
                branch.reads = made.reads;
                branch.fragment = Some(match &branch.fragment {
                    Some(fragment) => fragment.over(&made.fragment)?,
                    None => made.fragment.clone(),
                });
            }
        }
    }
    Ok(())
}

/// What rows are read in place of those that were to be.
enum Below<'a> {
    These(Reads),
    MadeOf(&'a Shared),
}

fn below(reads: Reads, settled: &[Settled]) -> Below<'_> {
    match reads {
        Reads::Shared(number) => match settled.get(number) {
            Some(Settled::Kept(place)) => Below::These(Reads::Shared(*place)),
            Some(Settled::Inlined(made)) => Below::MadeOf(made),
            // Only what nobody reads is made of these.
            Some(Settled::Gone) | None => Below::These(Reads::Rows),
        },
        other => Below::These(other),
    }
}

/// How often each of the shared rows of a stage is read, not counting what nobody reads.
fn readers(stage: &Stage) -> Vec<usize> {
    let mut readers = vec![0; stage.shared.len()];
    for branch in &stage.branches {
        if let Reads::Shared(number) = branch.reads {
            readers[number] += branch.fragment.as_ref().map_or(1, Fragment::reads);
        }
    }
    // Who reads shared rows comes behind them.
    for (number, shared) in stage.shared.iter().enumerate().rev() {
        if let Reads::Shared(below) = shared.reads
            && readers[number] > 0
        {
            readers[below] += shared.fragment.reads();
        }
    }
    readers
}
