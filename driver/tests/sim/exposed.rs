//! Which jobs a further loss may end: after one loss a job is exposed until its status says that everything is filled.

use crate::net::Ev;
use crate::oracle::spec_of;
use crate::scenario::{Mode, Spec};
use crate::world::World;
use std::collections::BTreeSet;
use tidemill_common::ids::JobId;
use tidemill_driver::record::{Durable, Record};

/// Jobs whose state may be on one machine alone.
#[derive(Debug, Default)]
pub(crate) struct Exposed(BTreeSet<JobId>);

impl Exposed {
    /// A record is about to be in the log that is folded here.
    pub(crate) fn on_record(&mut self, specs: &[Spec], durable: &Durable, record: &Record) {
        let short = |job: &JobId| durable.members.len() < spec_of(specs, *job).settings.replication as usize;
        match record {
            Record::WorkerLost(_) => self.0.extend(durable.jobs.keys()),
            // What there was before it had too few copies.
            Record::WorkerJoined(_) => self.0.extend(durable.jobs.keys().filter(|job| short(job))),
            Record::Submitted(job) => self.0.extend(Some(job.id).filter(short)),
            _ => {}
        }
    }
}

impl World {
    /// Notes which jobs are filled again, and now and then strikes in that moment.
    pub(crate) fn note_filled(&mut self) {
        let now = self.now();
        let Some(core) = self.driver.core.as_mut().filter(|_| !self.exposed.0.is_empty()) else { return };
        let is_filled = |job: &JobId| {
            let status = core.job_status(now, &job.to_string());
            status
                .first()
                .is_some_and(|job| job.groups_to_fill == 0 && !["RECOVERING", "WAITING"].contains(&&*job.state))
        };
        let filled: Vec<JobId> = self.exposed.0.iter().copied().filter(is_filled).collect();
        self.exposed.0.retain(|job| !filled.contains(job));
        let at_risk = self.scenario.mode != Mode::Calm && self.net.now < self.scenario.faults_until;
        if !filled.is_empty() && at_risk && self.net.chance(30) {
            let slot = self.net.pick(0..self.machines.len() as u64) as usize;
            let wait = self.net.pick(0..3_000);
            self.files.counts.struck_when_filled += 1;
            self.net.after(wait, Ev::Destroy { slot });
        }
    }

    /// Whether all jobs have to survive that any one machine is gone with its disk.
    pub(crate) fn state_is_elsewhere(&mut self) -> bool {
        if self.scenario.mode == Mode::Brutal {
            return true;
        }
        let now = self.now();
        let running = self.oracle.durable.jobs.values().filter(|job| job.ending.is_none());
        let stateful: Vec<JobId> = running.filter(|job| job.stateful).map(|job| job.id).collect();
        let Some(core) = &mut self.driver.core else { return false };
        stateful.iter().all(|job| {
            let copies = core.job_status(now, &job.to_string()).first().map_or(0, |status| status.copies);
            copies >= 2 && !self.exposed.0.contains(job)
        })
    }
}
