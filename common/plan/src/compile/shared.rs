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
        for stage in &mut self.stages {
            // Who reads shared rows comes behind them.
            for number in (0..stage.shared.len()).rev() {
                if readers(stage, number) < 2 {
                    inline(stage, number)?;
                }
            }
        }
        Ok(())
    }
}

/// How often shared rows of a stage are read.
fn readers(stage: &Stage, number: usize) -> usize {
    let shared = stage.shared.iter().map(|shared| (shared.reads, Some(&shared.fragment)));
    let all = shared.chain(stage.branches.iter().map(|branch| (branch.reads, branch.fragment.as_ref())));
    let of_these = all.filter(|(reads, _)| *reads == Reads::Shared(number));
    of_these.map(|(_, fragment)| fragment.map_or(1, Fragment::reads)).sum()
}

/// Takes shared rows out of a stage; who reads them makes them.
fn inline(stage: &mut Stage, number: usize) -> Result<()> {
    let gone = stage.shared.remove(number);
    for shared in &mut stage.shared[number..] {
        if shared.reads == Reads::Shared(number) {
            shared.fragment = shared.fragment.over(&gone.fragment)?;
        }
        shared.reads = without(shared.reads, number, gone.reads);
    }
    for branch in &mut stage.branches {
        if branch.reads == Reads::Shared(number) {
            branch.fragment = Some(match &branch.fragment {
                Some(fragment) => fragment.over(&gone.fragment)?,
                None => gone.fragment.clone(),
            });
        }
        branch.reads = without(branch.reads, number, gone.reads);
    }
    Ok(())
}

/// Which rows are read when these shared ones, which read `below`, are gone.
fn without(reads: Reads, number: usize, below: Reads) -> Reads {
    match reads {
        Reads::Shared(place) if place == number => below,
        Reads::Shared(place) if place > number => Reads::Shared(place - 1),
        other => other,
    }
}
