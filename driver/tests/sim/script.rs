//! The course of a schedule: start, faults, healing, progress, stop.

use crate::files::Counts;
use crate::net::Ev;
use crate::receiving::{Block, UNHELD};
use crate::scenario::Mode;
use crate::world::World;
use std::collections::BTreeSet;
use tidemill_common::ids::{BatchId, JobId};
use tidemill_driver::core::SessionId;
use tidemill_driver::record::Ending;

/// How long a cluster without faults may need to come back.
const RECOVERY_US: u64 = 12_000_000;
/// How long it may need when data is lost for good.
const GIVING_UP_US: u64 = 45_000_000;
/// How long a stop may take.
const STOP_US: u64 = 9_000_000;

/// Runs a schedule; panics when something is wrong.
pub(crate) fn run(seed: u64) -> Counts {
    let mut world = World::new(seed);
    world.begin();
    world.trouble();
    world.heal();
    world.wait_for_progress();
    world.check_retention();
    world.stop_all();
    world.check_clean();
    world.check_fold();
    world.count_what_the_core_saw();
    world.files.counts
}

impl World {
    fn run_until(&mut self, at: u64) {
        while let Some(ev) = self.net.next(at) {
            match ev {
                Ev::Fault if self.net.now < self.scenario.faults_until => {
                    self.fault();
                    if self.net.chance(30) {
                        self.import();
                    }
                    if self.net.chance(30) {
                        self.reload();
                    }
                    let wait = self.net.pick(1_000..2 * self.scenario.fault_every);
                    self.net.after(wait, Ev::Fault);
                }
                Ev::Script => self.stop_early(),
                ev => self.dispatch(ev),
            }
        }
    }

    fn begin(&mut self) {
        self.net.at(0, Ev::DriverStart);
        for slot in 0..self.machines.len() {
            let late = slot > 0 && self.net.chance(20);
            let at = if late { self.net.pick(800_000..2_500_000) } else { self.net.pick(1_000..300_000) };
            self.files.counts.late_joins += u64::from(late);
            self.net.at(at, Ev::MachineStart { slot });
        }
        for job in 0..self.scenario.specs.len() {
            let at = self.net.pick(10_000..400_000);
            self.run_until(at.max(self.net.now));
            self.submit(job);
        }
    }

    fn trouble(&mut self) {
        if let Some((at, _)) = self.scenario.early_stop {
            self.net.at(at, Ev::Script);
        }
        if self.scenario.mode != Mode::Calm {
            let wait = self.net.pick(5_000..200_000);
            self.net.after(wait, Ev::Fault);
        }
        self.run_until(self.scenario.faults_until);
    }

    fn stop_early(&mut self) {
        let Some((_, at_once)) = self.scenario.early_stop else { return };
        self.files.counts.stops += 1;
        if !self.stop(JobId(1), at_once) {
            self.net.after(50_000, Ev::Script);
        }
    }

    fn jobs(&self) -> Vec<JobId> {
        self.oracle.durable.jobs.keys().copied().collect()
    }

    fn ending(&self, job: JobId) -> Option<Ending> {
        self.oracle.durable.jobs[&job].ending.clone()
    }

    fn wait_until(&mut self, limit_us: u64, what: &str, done: impl Fn(&Self) -> bool) {
        let until = self.net.now + limit_us;
        while !done(self) {
            assert!(self.net.now < until, "not within {limit_us} us: {what}\n{}", self.show());
            self.run_until(self.net.now + 20_000);
        }
    }

    fn wait_for_progress(&mut self) {
        self.wait_until(5_000_000, "all workers", |world| {
            let open = |id: &SessionId| world.sessions.get(id).is_some_and(|session| !session.broken);
            world.machines.iter().all(|machine| machine.process.session.as_ref().is_some_and(open))
        });
        let limit = if self.scenario.mode == Mode::Brutal { GIVING_UP_US } else { RECOVERY_US };
        let goals: Vec<(JobId, BatchId)> = self
            .jobs()
            .into_iter()
            .map(|job| (job, BatchId(self.oracle.durable.jobs[&job].last_frozen.0 + 3)))
            .collect();
        self.wait_until(limit, "progress", |world| {
            goals.iter().all(|(job, goal)| world.ending(*job).is_some() || world.oracle.published(*job) >= *goal)
        });
    }

    fn stop_all(&mut self) {
        for job in self.jobs() {
            if self.ending(job).is_none() {
                self.files.counts.stops += 1;
                self.stop(job, false);
                self.wait_until(STOP_US, "a stop", |world| world.ending(job).is_some());
                let at_once = self.scenario.early_stop.is_some_and(|(_, at_once)| at_once);
                assert!(at_once || self.ending(job) == Some(Ending::Stopped), "{}", self.show());
            }
            self.check_ending(job);
        }
    }

    fn check_ending(&mut self, job: JobId) {
        let durable = self.oracle.durable.jobs[&job].clone();
        match durable.ending.as_ref() {
            Some(Ending::Stopped) => {
                assert_eq!(durable.totals.records, durable.received_records, "received and in no batch");
                assert_eq!(durable.completed, durable.last_frozen);
                assert_eq!(self.oracle.published(job).max(durable.completed), durable.completed);
                self.check_state_keys(job);
            }
            Some(Ending::StoppedIncomplete(_)) => {
                assert!(self.scenario.early_stop.is_some());
                self.files.counts.incomplete_stops += 1;
            }
            Some(Ending::Failed(reason)) => {
                let refused = self.scenario.refuser.is_some() && reason.contains("no worker can run");
                let lost = self.scenario.mode == Mode::Brutal
                    && (reason.contains("on no live worker") || reason.contains("copies are asked for"));
                let few = self.scenario.mode == Mode::Calm && reason.contains("copies are asked for");
                assert!(refused || lost || few, "job {job} failed: {reason}\n{}", self.show());
                self.files.counts.failed_jobs += 1;
            }
            None => panic!("job {job} goes on"),
        }
    }

    fn check_state_keys(&mut self, job: JobId) {
        let now = self.now();
        let Some(core) = &mut self.driver.core else { return };
        let status = core.job_status(now, &job.to_string());
        let (told, batch) = (status[0].state_keys, BatchId(status[0].batch));
        // A job that has ended tells what the log says, which has no count of keys.
        assert!(told == 0 || told == self.oracle.state_keys(job, batch), "{told} keys in the state");
    }

    /// Blocks go when nothing needs them.
    fn check_retention(&mut self) {
        let garbage = |world: &Self| -> BTreeSet<(usize, u64, Block)> {
            let mut found = BTreeSet::new();
            for (slot, machine) in world.machines.iter().enumerate().filter(|(_, machine)| machine.up) {
                for (job, blocks) in &machine.process.blocks {
                    found.extend(
                        blocks
                            .iter()
                            .filter(|block| world.oracle.is_garbage(*job, block))
                            .map(|block| (slot, *job, *block)),
                    );
                }
            }
            found
        };
        let before = garbage(self);
        self.run_until(self.net.now + 300_000);
        let after = garbage(self);
        let kept: Vec<_> = before.intersection(&after).collect();
        // A driver that restarts does not know to whom blocks were on their way.
        let bound = UNHELD * self.files.counts.driver_crashes as usize;
        assert!(kept.len() <= bound, "blocks that nobody needs are kept: {kept:?}");
        for job in self.oracle.durable.jobs.values().filter(|job| job.ending.is_none()) {
            let settings = &crate::oracle::spec_of(&self.scenario.specs, job.id).settings;
            let per_checkpoint = settings.checkpoint_interval.as_millis() / settings.batch_interval.as_millis();
            let bound = if job.stateful { 8 + 5 * per_checkpoint.max(2) as usize } else { 1 };
            assert!(
                job.frozen.len() <= bound || self.scenario.mode != Mode::Calm,
                "{} batches are retained, {} checkpoint, {} completed",
                job.frozen.len(),
                job.checkpoint,
                job.completed
            );
        }
    }

    /// Nothing of a job that has ended is left on machines that are up.
    fn check_clean(&mut self) {
        self.run_until(self.net.now + 300_000);
        for machine in self.machines.iter().filter(|machine| machine.up) {
            let process = &machine.process;
            assert!(process.jobs.is_empty(), "a worker knows jobs that have ended");
            let blocks = process.blocks.values().chain(machine.disk.blocks.values()).map(BTreeSet::len);
            assert_eq!(blocks.sum::<usize>(), 0, "a worker holds blocks of jobs that have ended");
            assert!(machine.disk.checkpoints.is_empty(), "a worker keeps checkpoints of jobs that have ended");
        }
    }

    /// For messages.
    fn show(&mut self) -> String {
        let now = self.now();
        let mut text = format!("at {} us, driver up {}\n", self.net.now, self.driver.core.is_some());
        for (slot, machine) in self.machines.iter().enumerate() {
            let process = &machine.process;
            text += &format!(
                "machine {slot}: up {} paused {} worker {:?} session {:?} tasks {:?}\n",
                machine.up,
                machine.paused,
                process.id,
                process.session,
                process.jobs.values().map(|job| job.tasks.len()).collect::<Vec<_>>()
            );
        }
        for (id, job) in &self.oracle.durable.jobs {
            text += &format!(
                "job {id}: frozen {} completed {} checkpoint {} ending {:?} settings {:?}\n",
                job.last_frozen,
                job.completed,
                job.checkpoint,
                job.ending,
                crate::oracle::spec_of(&self.scenario.specs, *id).settings
            );
        }
        if let Some(core) = &mut self.driver.core {
            text +=
                &format!("{:?}", core.job_status(now, "").iter().map(|s| (&s.state, &s.reason)).collect::<Vec<_>>());
            if std::env::var("SEED").is_ok() {
                text += &format!("\n{core:#?}");
            }
        }
        text
    }
}
