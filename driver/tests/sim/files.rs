//! The file system that all share, the server that rows are sent to, and how often what happened.

use crate::compute::Rows;
use std::collections::{BTreeMap, BTreeSet};
use tidemill_common::ids::{BatchId, JobId};
use tidemill_connect::Part;
use tidemill_driver::core::CommitRows;
use tidemill_proto::client as client_pb;

/// A part file: rows per unit.
#[derive(Debug)]
pub(crate) struct PartFile {
    pub(crate) job: u64,
    pub(crate) batch: u64,
    pub(crate) output: u32,
    pub(crate) lane: u32,
    pub(crate) rows: Vec<(u64, Rows)>,
}

/// Part files, those that are in place, and what was sent.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) parts: BTreeMap<String, PartFile>,
    /// By job, output and batch time.
    pub(crate) committed: BTreeMap<(u64, u32, i64), Vec<String>>,
    /// Batches that were sent, by job, output and batch.
    pub(crate) sent: BTreeSet<(u64, u32, BatchId)>,
    pub(crate) counts: Counts,
}

impl Files {
    /// Puts parts in place, once; gives back what is in place now, by lane and order tag.
    pub(crate) fn commit(&mut self, job: JobId, batch: BatchId, files: &CommitRows) -> Vec<((u32, u64), Rows)> {
        let place = (job.0, files.output.0, files.time_ms);
        let parts = self.committed.entry(place).or_insert_with(|| files.parts.iter().map(name_of).collect());
        let mut rows = Vec::new();
        for name in parts.iter() {
            let part = &self.parts[name];
            assert_eq!(
                (part.job, part.batch, part.output),
                (job.0, batch.0, files.output.0),
                "a part of another batch"
            );
            rows.extend(part.rows.iter().map(|(order, rows)| ((part.lane, *order), rows.clone())));
        }
        rows
    }
}

fn name_of(part: &Part) -> String {
    match part {
        Part::Staged(name) => name.clone(),
        Part::Held(_) => panic!("a part that is no file"),
    }
}

macro_rules! counts {
    ($($name:ident),* $(,)?) => {
        /// How often what happened.
        #[derive(Debug, Default, Clone)]
        pub(crate) struct Counts {
            $(pub(crate) $name: u64,)*
        }

        impl Counts {
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// What never happened.
            pub(crate) fn missing(&self) -> Vec<&'static str> {
                [$((stringify!($name), self.$name)),*].into_iter().filter(|(_, n)| *n == 0).map(|(name, _)| name).collect()
            }
        }
    };
}

counts!(
    events,
    batches,
    replayed,
    rewinds,
    steps_back,
    checkpoints,
    kills,
    silent_kills,
    destroyed,
    struck_when_filled,
    unknown_jobs,
    pauses,
    disconnects,
    half_open,
    partitions,
    driver_crashes,
    torn_logs,
    slow_loops,
    receiver_failures,
    notes,
    logged_notes,
    task_failures,
    refusals,
    blocks_gone,
    resumed,
    not_resumed,
    restored,
    not_restored,
    groups_moved,
    blocks_copied,
    fenced,
    late_joins,
    commits_again,
    stops,
    incomplete_stops,
    failed_jobs,
    finished_receivers,
    units_recomputed,
    imports,
    silent_outputs,
    further_lanes,
    models_asked,
    models_not_there,
    reloads,
    tables_read,
    rates,
    sent,
    sent_again,
);

impl Counts {
    /// Adds what a core counted for a job.
    pub(crate) fn add_counters(&mut self, counters: &client_pb::Counters) {
        self.rewinds += counters.rewinds;
        self.steps_back += counters.steps_back;
        self.replayed += counters.batches_replayed;
        self.groups_moved += counters.groups_moved;
        self.blocks_copied += counters.blocks_copied;
        self.units_recomputed += counters.units_recomputed;
        self.fenced += counters.fenced;
    }
}
