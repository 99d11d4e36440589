//! The strike of `--kill`: when the driver is about to send the first reduce task of a batch, one worker is killed.

use super::lock;
use std::collections::BTreeMap;
use std::sync::Mutex;
use tidemill_common::ids::WorkerId;
use tidemill_proto::control::driver_message;
use tidemill_worker::Worker;

/// Waits for its moment.
pub(super) struct Strike {
    batch: Option<u64>,
    owners: Mutex<BTreeMap<u64, usize>>,
    armed: Mutex<Option<(u64, Worker)>>,
    fired: Mutex<bool>,
}

impl Strike {
    pub(super) fn new(batch: Option<u64>) -> Self {
        Self { batch, owners: Mutex::default(), armed: Mutex::default(), fired: Mutex::default() }
    }

    pub(super) fn is_due(&self, batch: u64) -> bool {
        self.batch == Some(batch)
    }

    pub(super) fn fired(&self) -> bool {
        *lock(&self.fired)
    }

    /// The worker with the most key groups; of equals the one with the lowest id.
    pub(super) fn busiest(&self) -> Option<WorkerId> {
        let owners = lock(&self.owners);
        let most = owners.iter().max_by_key(|(worker, groups)| (**groups, std::cmp::Reverse(**worker)))?;
        Some(WorkerId(*most.0))
    }

    /// The worker to kill in this batch.
    pub(super) fn arm(&self, batch: u64, worker: Worker) {
        *lock(&self.armed) = Some((batch, worker));
    }

    /// Sees every message of the driver before it is sent.
    pub(super) fn before_send(&self, message: &driver_message::Kind) {
        match message {
            driver_message::Kind::Assignment(table) => {
                let mut owners = BTreeMap::new();
                for group in table.groups.iter().filter(|group| group.owner != 0) {
                    *owners.entry(group.owner).or_default() += 1;
                }
                *lock(&self.owners) = owners;
            }
            // A task that reads exchanges: the maps before it have all been reported.
            driver_message::Kind::RunTasks(run) => {
                let mut armed = lock(&self.armed);
                let now = |batch: u64| run.tasks.iter().any(|task| task.batch == batch && task.splits.is_empty());
                if armed.as_ref().is_some_and(|(batch, _)| now(*batch))
                    && let Some((_, worker)) = armed.take()
                {
                    worker.kill();
                    *lock(&self.fired) = true;
                }
            }
            _ => {}
        }
    }
}
