//! The simulated cluster: a driver that may die at any point of a turn, machines, and what is between them.

use crate::exposed::Exposed;
use crate::files::Files;
use crate::machine::{Cx, Machine, Timer};
use crate::net::{Ev, FromDriver, FromWorker, Net, Proc};
use crate::oracle::Oracle;
use crate::receiving::Block;
use crate::scenario::Scenario;
use crate::tables;
use crate::tasks::is_staged;
use crate::tasks::{self, reaches};
use std::collections::{BTreeMap, VecDeque};
use tidemill_common::ids::JobId;
use tidemill_driver::core::{
    Action, Commit, Compiled, Core, CoreConfig, Event, NewJob, Now, RequestError, RequestId, SessionId,
};
use tidemill_driver::record::DurableJob;
use tidemill_proto::client as client_pb;
use tidemill_proto::control::{driver_message, worker_message};

/// Wall clock at the start, in ms.
const EPOCH_MS: i64 = 1_700_000_000_000;
/// The shell ticks at least this often.
const TICK_US: u64 = 50_000;

/// No schedule needs so many events.
const EVENTS: u64 = 400_000;

/// A connection, as both ends see it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) proc: Proc,
    pub(crate) term: u64,
    /// Nothing arrives any more.
    pub(crate) broken: bool,
}

/// Where in a turn the driver dies.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Crash {
    /// Before any record is in the log.
    Before,
    /// After some of the records.
    Within,
    /// After all records and some of the rest.
    After,
}

/// The driver's process.
#[derive(Default)]
pub(crate) struct Driver {
    pub(crate) core: Option<Core>,
    /// Number of its starts.
    pub(crate) term: u64,
    pub(crate) busy_until: u64,
    inbox: VecDeque<Event>,
    next_tick: u64,
    pub(crate) crash: Option<Crash>,
    idle_turns: u32,
}

impl Driver {
    /// Blocks whose reports wait for the loop.
    pub(crate) fn reported(&self, job: u64) -> impl Iterator<Item = Block> {
        let blocks = self.inbox.iter().filter_map(|event| match event {
            Event::Message { message: worker_message::Kind::BlockReceived(report), .. } => {
                Block::read(report.block.as_ref())
            }
            _ => None,
        });
        blocks.filter(move |(of, _)| *of == job).map(|(_, block)| block)
    }
}

/// Everything.
pub(crate) struct World {
    pub(crate) net: Net,
    pub(crate) scenario: Scenario,
    pub(crate) machines: Vec<Machine>,
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    pub(crate) driver: Driver,
    pub(crate) oracle: Oracle,
    pub(crate) files: Files,
    pub(crate) replies: BTreeMap<RequestId, Result<Box<client_pb::JobStatus>, RequestError>>,
    pub(crate) exposed: Exposed,
    numbers: u64,
    tells: bool,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut net = Net::new(seed);
        let scenario = Scenario::new(&mut net);
        let mut machines: Vec<Machine> = (0..scenario.machines).map(|_| Machine::default()).collect();
        if let Some(refuser) = scenario.refuser {
            machines[refuser].refuses = true;
        }
        Self {
            net,
            machines,
            sessions: BTreeMap::new(),
            driver: Driver::default(),
            oracle: Oracle::default(),
            files: Files::default(),
            replies: BTreeMap::new(),
            exposed: Exposed::default(),
            numbers: 0,
            tells: std::env::var_os("SEED").is_some(),
            scenario,
        }
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono_us: self.net.now, wall_ms: EPOCH_MS + (self.net.now / 1000) as i64 }
    }

    pub(crate) fn proc(&self, slot: usize) -> Proc {
        Proc { slot, start: self.machines[slot].start }
    }

    /// What the driver needs of a job.
    fn compiled(&self, job: usize) -> Compiled {
        let spec = &self.scenario.specs[job];
        let (settings, topology) = (spec.settings.clone(), spec.shape.topology.clone());
        Compiled { settings, topology, fingerprint: 7, functions: Vec::new() }
    }

    pub(crate) fn submit(&mut self, job: usize) {
        let compiled = self.compiled(job);
        let durable = DurableJob {
            name: format!("job-{job}"),
            definition: job.to_string(),
            stateful: compiled.topology.stateful(),
            attachments: tables::submitted(),
            ..DurableJob::default()
        };
        let request = RequestId(self.number());
        self.feed(Event::Submit { request, job: Box::new(NewJob { durable, compiled }) });
    }

    /// Asks for a job to be stopped; false while there is no driver to ask.
    pub(crate) fn stop(&mut self, job: JobId, at_once: bool) -> bool {
        let request = RequestId(self.number());
        let up = self.driver.core.is_some();
        self.feed(Event::Stop { request, job: job.to_string(), now: at_once });
        up
    }

    /// Shows what happens, where one seed is looked at.
    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        if self.tells {
            println!("{:>9} {}", self.net.now, what());
        }
    }

    /// Takes one event.
    pub(crate) fn dispatch(&mut self, ev: Ev) {
        self.files.counts.events += 1;
        assert!(self.files.counts.events < EVENTS, "the cluster does not come to rest");
        match ev {
            Ev::DriverTick { term } => {
                if term == self.driver.term && self.net.now >= self.driver.next_tick {
                    self.driver.next_tick = u64::MAX;
                    self.feed(Event::Tick);
                }
            }
            Ev::DriverStart => self.start_driver(),
            Ev::DriverGoesOn { term } => {
                if term == self.driver.term {
                    for event in std::mem::take(&mut self.driver.inbox) {
                        self.feed(event);
                    }
                    self.feed(Event::Tick);
                }
            }
            Ev::ToDriver { term, session, what } => {
                let broken = self.sessions.get(&session).is_none_or(|session| session.broken);
                if term == self.driver.term && (!broken || matches!(what, FromWorker::Gone)) {
                    self.feed(match what {
                        FromWorker::Hello(hello) => Event::Connected { session, hello },
                        FromWorker::Says(message) => Event::Message { session, message },
                        FromWorker::Gone => Event::Disconnected { session },
                    });
                }
            }
            Ev::ToWorker { proc, session, what } => {
                let broken = self.sessions.get(&session).is_none_or(|session| session.broken);
                if !broken || matches!(what, FromDriver::Gone) {
                    self.with_process(proc, Ev::ToWorker { proc, session, what });
                }
            }
            Ev::Committed { term, job, batch, outputs, ok } => {
                for output in outputs.iter().filter(|_| ok) {
                    let (specs, files) = (&self.scenario.specs, &mut self.files);
                    match output {
                        Commit::Rows(of) if is_staged(&of.to) => self.oracle.on_commit(specs, files, job, batch, of),
                        Commit::Rows(of) => self.oracle.on_send(specs, files, job, batch, of),
                        Commit::Model(model) => panic!("`{}` is not saved", model.name),
                    }
                }
                if term == self.driver.term {
                    let result = if ok { Ok(()) } else { Err("the disk is full".to_string()) };
                    self.feed(Event::Committed { job, batch, result });
                }
            }
            Ev::Peer { from, from_id, to_id, message } => {
                let to = self.machines.iter().position(|machine| machine.up && machine.process.id == Some(to_id));
                let Some(slot) = to else { return };
                // What a process that was killed had not yet given to the system is lost.
                let sender_lives = self.machines[from.slot].up && self.proc(from.slot) == from;
                if !sender_lives && self.net.chance(70) {
                    return;
                }
                if !self.net.cut.contains(&(from.slot.min(slot), from.slot.max(slot))) {
                    self.with_process(self.proc(slot), Ev::Peer { from, from_id, to_id, message });
                }
            }
            Ev::PeerReply { to, reply } => self.with_process(to, Ev::PeerReply { to, reply }),
            Ev::Timer { proc, timer } => self.with_process(proc, Ev::Timer { proc, timer }),
            Ev::MachineStart { slot } => self.start_machine(slot),
            Ev::MachineGoesOn { slot } => self.unpause(slot),
            Ev::Heal { pair } => drop(self.net.cut.remove(&pair)),
            Ev::Kill { slot } => self.kill(slot),
            Ev::Destroy { slot } => self.destroy(slot),
            Ev::Fault | Ev::Script => {}
        }
    }

    fn with_process(&mut self, proc: Proc, ev: Ev) {
        let machine = &mut self.machines[proc.slot];
        if !machine.up || machine.start != proc.start {
            return;
        }
        if machine.paused {
            machine.inbox.push_back(ev);
            return;
        }
        match ev {
            Ev::Timer { timer: Timer::Connect, .. } => self.connect(proc),
            Ev::Timer { timer: Timer::Fetch { job, task }, .. } => self.fetch(proc, job, task),
            Ev::Timer { timer: Timer::Copy { job, block, holders }, .. } => self.copy(proc, job, block, &holders),
            Ev::Timer { timer, .. } => self.process(proc, |process, cx| process.on_timer(cx, timer)),
            Ev::ToWorker { session, what, .. } => {
                if matches!(&what, FromDriver::Says(driver_message::Kind::Welcome(welcome)) if welcome.resumed) {
                    self.files.counts.resumed += 1;
                } else if matches!(&what, FromDriver::Says(driver_message::Kind::Welcome(_)))
                    && self.machines[proc.slot].process.id.is_some()
                {
                    self.files.counts.not_resumed += 1;
                }
                self.process(proc, |process, cx| process.on_driver(cx, session, what));
            }
            Ev::Peer { from, from_id, message, .. } => {
                self.process(proc, |process, cx| process.on_peer(cx, from, from_id, message));
            }
            Ev::PeerReply { reply, .. } => self.process(proc, |process, cx| process.on_reply(cx, reply)),
            _ => {}
        }
    }

    fn process(&mut self, proc: Proc, f: impl FnOnce(&mut crate::machine::Process, &mut Cx<'_>)) {
        let machine = &mut self.machines[proc.slot];
        let mut cx = Cx {
            net: &mut self.net,
            proc,
            term: machine.process.session.map_or(0, |session| self.sessions[&session].term),
            specs: &self.scenario.specs,
            knobs: &self.scenario.knobs,
            disk: &mut machine.disk,
            files: &mut self.files,
            refuses: machine.refuses,
        };
        if let Some(opening) = machine.process.opening {
            cx.term = self.sessions[&opening].term;
        }
        f(&mut machine.process, &mut cx);
    }

    fn connect(&mut self, proc: Proc) {
        if self.driver.core.is_none() || self.driver.busy_until > self.net.now {
            let wait = self.net.pick(20_000..150_000);
            self.net.timer(proc, wait, Timer::Connect);
            return;
        }
        let session = SessionId(self.number());
        let term = self.driver.term;
        self.sessions.insert(session, Session { proc, term, broken: false });
        let machine = &mut self.machines[proc.slot];
        machine.process.opening = Some(session);
        let hello = machine.process.hello(&machine.disk, &self.scenario.specs, proc.slot);
        self.net.send_to_driver(term, session, FromWorker::Hello(Box::new(hello)));
    }

    fn fetch(&mut self, proc: Proc, job: u64, task: u64) {
        let Some(held) = self.machines[proc.slot].process.jobs.get(&job) else { return };
        let Some(running) = held.tasks.get(&task) else { return };
        let shape = &self.scenario.specs[held.spec].shape;
        let fetched = tasks::fetch(&self.machines, &self.net.cut, proc.slot, running, shape);
        self.process(proc, |process, cx| process.fetched(cx, job, task, fetched));
    }

    fn copy(&mut self, proc: Proc, job: u64, block: Block, holders: &[u64]) {
        let has = |slot: usize| self.machines[slot].process.blocks.get(&job).is_some_and(|held| held.contains(&block));
        let known = self.machines[proc.slot].process.jobs.contains_key(&job);
        let ok =
            known && holders.iter().filter_map(|id| reaches(&self.machines, &self.net.cut, proc.slot, *id)).any(has);
        self.process(proc, |process, cx| {
            if ok {
                process.put_block(cx, job, block);
            }
            let answer = tidemill_proto::control::BlockCopied { block: Some(block.reference(job)), ok };
            process.report(cx, worker_message::Kind::BlockCopied(answer));
        });
    }

    pub(crate) fn start_machine(&mut self, slot: usize) {
        let machine = &mut self.machines[slot];
        if !machine.up {
            machine.up = true;
            machine.start += 1;
            let proc = self.proc(slot);
            self.net.timer(proc, 1_000, Timer::Connect);
        }
    }

    pub(crate) fn unpause(&mut self, slot: usize) {
        let machine = &mut self.machines[slot];
        if !machine.up || !std::mem::take(&mut machine.paused) {
            return;
        }
        let proc = self.proc(slot);
        for ev in std::mem::take(&mut self.machines[slot].inbox) {
            self.with_process(proc, ev);
        }
    }

    fn start_driver(&mut self) {
        if self.driver.core.is_some() {
            return;
        }
        let compiled = (0..self.scenario.specs.len()).map(|job| (JobId(job as u64 + 1), self.compiled(job)));
        let compiled: BTreeMap<JobId, Compiled> = compiled.collect();
        let durable = self.oracle.durable.clone();
        let (core, actions) = Core::start(CoreConfig::default(), durable, compiled, "cluster", self.now());
        self.driver = Driver { core: Some(core), term: self.driver.term + 1, next_tick: u64::MAX, ..Driver::default() };
        self.carry_out(actions);
        self.schedule_tick();
    }

    /// Hands an event to the core, as the shell does.
    pub(crate) fn feed(&mut self, event: Event) {
        if self.driver.busy_until > self.net.now {
            self.driver.inbox.push_back(event);
            return;
        }
        let now = self.now();
        let Some(core) = &mut self.driver.core else { return };
        let is_tick = matches!(event, Event::Tick);
        if !is_tick && self.tells {
            println!("{:>9} {event:?}", self.net.now);
        }
        let actions = core.on_event(now, event);
        let idle = is_tick && actions.is_empty();
        self.carry_out(actions);
        self.note_filled();
        self.schedule_tick();
        if idle && self.driver.next_tick <= self.net.now {
            self.driver.idle_turns += 1;
            assert!(self.driver.idle_turns < 3, "the driver turns without doing anything");
        } else {
            self.driver.idle_turns = 0;
        }
        if self.files.counts.events.is_multiple_of(64) {
            self.check_fold();
        }
    }

    /// What the core holds is what its log says.
    pub(crate) fn check_fold(&self) {
        if let Some(core) = &self.driver.core {
            let durable = core.durable();
            assert!(
                durable == self.oracle.durable,
                "the core's state is not what its log says:\n{durable:?}\n{:?}",
                self.oracle.durable
            );
        }
    }

    fn schedule_tick(&mut self) {
        let now = self.now();
        let Some(core) = &self.driver.core else { return };
        let at = core.next_deadline(now).min(now.mono_us + TICK_US);
        if at < self.driver.next_tick {
            self.driver.next_tick = at;
            let term = self.driver.term;
            self.net.at(at, Ev::DriverTick { term });
        }
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        let (log, rest): (Vec<Action>, Vec<Action>) = actions.into_iter().partition(|a| matches!(a, Action::Log(_)));
        let crash = if log.is_empty() { None } else { self.driver.crash.take() };
        let (logged, done) = match crash {
            None => (log.len(), rest.len()),
            Some(Crash::Before) => (0, 0),
            Some(Crash::Within) => (self.net.pick(0..log.len() as u64 + 1) as usize, 0),
            Some(Crash::After) => (log.len(), self.net.pick(0..rest.len() as u64 + 1) as usize),
        };
        self.files.counts.torn_logs += u64::from(logged < log.len());
        for action in log.into_iter().take(logged) {
            if let Action::Log(record) = action {
                self.tell(|| format!("log {record:?}"));
                self.exposed.on_record(&self.scenario.specs, &self.oracle.durable, &record);
                self.oracle.on_record(&self.scenario.specs, &mut self.files, &record);
            }
        }
        for action in rest.into_iter().take(done) {
            self.carry_out_one(action);
        }
        if crash.is_some() {
            self.lose_driver();
        }
    }

    fn carry_out_one(&mut self, action: Action) {
        match action {
            Action::Log(_) => {}
            Action::Send { session, message } => {
                let Some(open) = self.sessions.get(&session) else { return };
                if let driver_message::Kind::DropBlocks(drop) = &message {
                    self.oracle.on_drop(&drop.blocks);
                    self.oracle.on_drop_unlogged(&drop.unlogged);
                }
                self.tell(|| format!("to machine {}: {message:?}", open.proc.slot));
                self.net.send_to_worker(open.proc, session, FromDriver::Says(message));
            }
            Action::Close { session } => {
                if let Some(open) = self.sessions.get(&session) {
                    self.net.send_to_worker(open.proc, session, FromDriver::Gone);
                }
            }
            Action::Reply { request, result } => drop(self.replies.insert(request, result)),
            // No simulated task says what it has trained.
            Action::PublishModels(_) => {}
            Action::Publish { job, event } => {
                match &*event {
                    client_pb::watch_event::Kind::Batch(_) => self.strike_after_a_batch(),
                    client_pb::watch_event::Kind::Ended(status) => {
                        status.counters.iter().for_each(|counters| self.files.counts.add_counters(counters));
                    }
                    _ => {}
                }
                self.oracle.on_publish(&self.scenario.specs, job, &event);
            }
            Action::Commit { job, batch, outputs } => {
                let wait = self.net.pick(200..15_000);
                let term = self.driver.term;
                self.net.after(wait, Ev::Committed { term, job, batch, outputs, ok: true });
            }
        }
    }

    /// The driver's process dies.
    pub(crate) fn lose_driver(&mut self) {
        self.files.counts.driver_crashes += 1;
        self.tell(|| "the driver dies".into());
        self.count_what_the_core_saw();
        self.driver.core = None;
        self.driver.inbox.clear();
        for (session, open) in &mut self.sessions {
            if !std::mem::replace(&mut open.broken, true) {
                let wait = self.net.pick(500..20_000);
                self.net.after(wait, Ev::ToWorker { proc: open.proc, session: *session, what: FromDriver::Gone });
            }
        }
        let wait = self.net.pick(20_000..900_000);
        self.net.after(wait, Ev::DriverStart);
    }

    /// Adds the counters of the present term.
    pub(crate) fn count_what_the_core_saw(&mut self) {
        let now = self.now();
        let Some(core) = &mut self.driver.core else { return };
        let counts = &mut self.files.counts;
        for counters in core.job_status(now, "").into_iter().filter_map(|status| status.counters) {
            counts.add_counters(&counters);
        }
        counts.fenced += core.fenced();
    }
}
