//! Faults: which, when, and whether a job must survive them.

use crate::net::{Ev, FromDriver, FromWorker};
use crate::scenario::Mode;
use crate::world::{Crash, World};

impl World {
    /// Something goes wrong now, if it may.
    pub(crate) fn fault(&mut self) {
        let slot = self.net.pick(0..self.machines.len() as u64) as usize;
        match self.net.pick(0..100) {
            0..18 => self.kill(slot),
            18..26 => self.destroy(slot),
            26..40 => self.pause(slot),
            40..52 => self.disconnect(slot),
            52..60 => self.partition(slot),
            60..76 => self.crash_driver(),
            76..88 => self.delay_driver(),
            _ => self.lose_block(slot),
        }
    }

    /// The moment in which only the owners may have what a batch did to the state.
    pub(crate) fn strike_after_a_batch(&mut self) {
        let at_risk = self.scenario.mode != Mode::Calm && self.net.now < self.scenario.faults_until;
        if at_risk && self.net.chance(5) {
            let slot = self.net.pick(0..self.machines.len() as u64) as usize;
            let wait = self.net.pick(0..1_000);
            let strike = if self.net.chance(50) { Ev::Kill { slot } } else { Ev::Destroy { slot } };
            self.net.after(wait, strike);
        }
    }

    /// Whether all that is logged, or about to be, is also on another machine that is well.
    fn may_lose(&self, slot: usize, disk_stays: bool) -> bool {
        if self.scenario.mode == Mode::Brutal {
            return true;
        }
        let members = &self.oracle.durable.members;
        let well = |other: &usize| {
            let machine = &self.machines[*other];
            let open = machine.process.session.is_some_and(|session| !self.sessions[&session].broken);
            let member = machine.process.id.is_some_and(|id| members.iter().any(|member| member.0 == id));
            *other != slot && machine.up && !machine.paused && open && member
        };
        let others: Vec<usize> = (0..self.machines.len()).filter(well).collect();
        // One loss after the other: what a worker that is gone had reported may still be on its way.
        let of_slot = usize::from(self.machines[slot].process.id.is_some_and(|id| members.iter().any(|m| m.0 == id)));
        if members.len() > others.len() + of_slot {
            return false;
        }
        let jobs = self.oracle.durable.jobs.values().filter(|job| job.ending.is_none());
        for job in jobs {
            let durable = crate::oracle::spec_of(&self.scenario.specs, job.id).durable();
            if durable && disk_stays {
                continue;
            }
            let on_another = |block: &crate::receiving::Block| {
                let holds = |other: &usize| {
                    self.machines[*other].process.blocks.get(&job.id.0).is_some_and(|held| held.contains(block))
                };
                others.iter().any(holds)
            };
            let reported = self.machines.iter().flat_map(|machine| machine.process.reported(job.id.0));
            let waiting = self.driver.reported(job.id.0);
            let logged = job.blocks().map(crate::oracle::block_of);
            if !logged.chain(reported).chain(waiting).all(|block| on_another(&block)) {
                return false;
            }
        }
        true
    }

    pub(crate) fn kill(&mut self, slot: usize) {
        if !self.machines[slot].up || !self.may_lose(slot, true) {
            return;
        }
        self.tell(|| format!("fault: kills {slot}"));
        self.kill_process(slot);
    }

    /// A machine is gone with all that is on its disk, and another one takes its place.
    pub(crate) fn destroy(&mut self, slot: usize) {
        if !self.machines[slot].up || !self.may_lose(slot, false) || !self.state_is_elsewhere() {
            return;
        }
        self.files.counts.destroyed += 1;
        self.tell(|| format!("fault: destroys {slot}"));
        self.kill_process(slot);
        self.machines[slot].disk = Default::default();
    }

    fn kill_process(&mut self, slot: usize) {
        self.files.counts.kills += 1;
        let silent = self.net.chance(25);
        self.files.counts.silent_kills += u64::from(silent);
        self.close_sessions(slot, !silent, false);
        let machine = &mut self.machines[slot];
        machine.up = false;
        machine.paused = false;
        machine.inbox.clear();
        machine.process = Default::default();
        let wait = if self.net.chance(30) { self.net.pick(20_000..200_000) } else { self.net.pick(200_000..3_000_000) };
        self.net.after(wait, Ev::MachineStart { slot });
    }

    /// Breaks the connections of a machine; each end learns of it or does not.
    fn close_sessions(&mut self, slot: usize, tell_driver: bool, tell_worker: bool) {
        for (session, open) in &mut self.sessions {
            if open.proc.slot != slot || std::mem::replace(&mut open.broken, true) {
                continue;
            }
            let wait = self.net.pick(500..8_000);
            if tell_driver && open.term == self.driver.term {
                self.net.after(wait, Ev::ToDriver { term: open.term, session: *session, what: FromWorker::Gone });
            }
            if tell_worker {
                let wait = self.net.pick(500..30_000);
                self.net.after(wait, Ev::ToWorker { proc: open.proc, session: *session, what: FromDriver::Gone });
            }
        }
    }

    fn pause(&mut self, slot: usize) {
        if !self.machines[slot].up || self.machines[slot].paused || !self.may_lose(slot, false) {
            return;
        }
        self.files.counts.pauses += 1;
        self.tell(|| format!("fault: pauses {slot}"));
        self.machines[slot].paused = true;
        let wait = self.net.pick(50_000..2_500_000);
        self.net.after(wait, Ev::MachineGoesOn { slot });
    }

    fn disconnect(&mut self, slot: usize) {
        if !self.machines[slot].up || !self.may_lose(slot, false) {
            return;
        }
        let half_open = self.net.chance(30);
        self.files.counts.disconnects += 1;
        self.tell(|| format!("fault: disconnects {slot}"));
        self.files.counts.half_open += u64::from(half_open);
        self.close_sessions(slot, !half_open, true);
    }

    fn partition(&mut self, slot: usize) {
        let other = self.net.pick(0..self.machines.len() as u64) as usize;
        if other == slot {
            return;
        }
        self.files.counts.partitions += 1;
        self.tell(|| format!("fault: partitions {slot}"));
        let pair = (slot.min(other), slot.max(other));
        self.net.cut.insert(pair);
        let wait = self.net.pick(50_000..700_000);
        self.net.after(wait, Ev::Heal { pair });
    }

    fn crash_driver(&mut self) {
        if self.driver.core.is_none() {
            return;
        }
        self.driver.crash = match self.net.pick(0..4) {
            0 => return self.lose_driver(),
            1 => Some(Crash::Before),
            2 => Some(Crash::Within),
            _ => Some(Crash::After),
        };
    }

    fn delay_driver(&mut self) {
        if self.driver.core.is_none() || self.driver.busy_until > self.net.now {
            return;
        }
        self.files.counts.slow_loops += 1;
        self.tell(|| "fault: slow_loops".into());
        let wait = self.net.pick(100_000..2_500_000);
        self.driver.busy_until = self.net.now + wait;
        self.net.after(wait, Ev::DriverGoesOn { term: self.driver.term });
    }

    /// A block cannot be read any more where it was.
    fn lose_block(&mut self, slot: usize) {
        if !self.may_lose(slot, false) {
            return;
        }
        let nth = self.net.pick(0..50) as usize;
        let machine = &mut self.machines[slot];
        for (job, blocks) in &mut machine.process.blocks {
            if let Some(block) = blocks.iter().nth(nth).copied() {
                blocks.remove(&block);
                if let Some(blocks) = machine.disk.blocks.get_mut(job) {
                    blocks.remove(&block);
                }
                self.files.counts.blocks_gone += 1;
                self.tell(|| format!("fault: machine {slot} cannot read {block:?}"));
                return;
            }
        }
    }

    /// From now on nothing goes wrong, and what did is put right.
    pub(crate) fn heal(&mut self) {
        self.scenario.knobs.task_failures = 0;
        self.scenario.knobs.receiver_failures = 0;
        self.driver.crash = None;
        self.net.cut.clear();
        for slot in 0..self.machines.len() {
            self.unpause(slot);
            self.start_machine(slot);
        }
        if self.driver.core.is_none() {
            self.net.after(1_000, Ev::DriverStart);
        }
    }
}
