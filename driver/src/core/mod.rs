//! The deciding part of the driver: plain structs without I/O or a clock.
//!
//! [`Core::on_event`] takes the time and one event and gives back actions. The shell carries them out
//! in order: every [`Action::Log`] of a turn is in the log before anything else of that turn leaves
//! (so nothing that follows from a record is seen by anyone before the record is safe).
//!
//! Inside, each job is *reconciled*: after every event `Job::advance` compares what
//! is with what should be and says what to do. There is one place for each decision, however the news came.

mod bad_records;
mod batches;
mod checkpoints;
mod choices;
mod clock;
mod event;
mod fits;
pub mod groups;
mod imports;
mod intake;
mod job;
pub mod members;
mod positions;
mod rate;
mod rates;
mod redo;
mod report;
mod request;
mod run;
mod stopping;
mod tables;
pub mod topology;
pub(crate) mod wire;

use crate::models::Publication;
use crate::record::{Durable, DurableJob, Record};
use bytes::Bytes;
use job::Job;
use members::Members;
use std::collections::{BTreeMap, BTreeSet};
use tidemill_common::ids::{BatchId, JobId, OutputIdx, Term, WorkerId};
use tidemill_common::location::Location;
use tidemill_connect::Part;
use tidemill_proto::client as client_pb;
use tidemill_proto::control as pb;
use topology::{SinkOutput, Topology};

pub use event::{Compiled, Event, NewJob, Now, RequestId, SessionId};
pub use imports::NewModel;
pub use request::RequestError;
pub use tables::WatchedTable;

/// Why a job does not go on that was compiled once.
const NO_LONGER_COMPILES: &str = "its definition no longer compiles with this version";

/// Times and bounds of the driver.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// How often workers say that they live.
    pub heartbeat_ms: u32,
    /// A worker that is silent for this long is dead.
    pub worker_timeout_us: u64,
    /// After a restart, how long the driver waits for workers that it knew.
    pub rejoin_us: u64,
    /// How long lost data may take to come back (workers that restart with their disks) before the job fails.
    pub recovery_wait_us: u64,
    /// Batches come from [`Event::ManualTick`] alone (replay).
    pub manual_clock: bool,
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            heartbeat_ms: 200,
            worker_timeout_us: 1_000_000,
            rejoin_us: 1_500_000,
            recovery_wait_us: 30_000_000,
            manual_clock: false,
        }
    }
}

/// What to do.
#[derive(Debug)]
pub enum Action {
    /// Append to the log, before any later action is carried out.
    Log(Record),
    /// Say something to a worker.
    Send {
        /// The connection.
        session: SessionId,
        /// What.
        message: pb::driver_message::Kind,
    },
    /// Close a connection.
    Close {
        /// The connection.
        session: SessionId,
    },
    /// Answer a client.
    Reply {
        /// To what.
        request: RequestId,
        /// The job's status, or why not.
        result: Result<Box<client_pb::JobStatus>, RequestError>,
    },
    /// Tell those who watch a job.
    Publish {
        /// The job.
        job: JobId,
        /// What.
        event: Box<client_pb::watch_event::Kind>,
    },
    /// Show what a batch has made of models, once all records are in the log; files of it are written before the records.
    PublishModels(Publication),
    /// Bring the rows of a batch to where they go; answer with [`Event::Committed`].
    Commit {
        /// The job.
        job: JobId,
        /// The batch.
        batch: BatchId,
        /// By output.
        outputs: Vec<Commit>,
    },
}

/// What one output of one batch brings.
#[derive(Debug, Clone, PartialEq)]
pub enum Commit {
    /// Rows for a sink.
    Rows(CommitRows),
    /// A model to save.
    Model(SavedModel),
}

/// The rows of one output of one batch.
#[derive(Debug, Clone, PartialEq)]
pub struct CommitRows {
    /// The output.
    pub output: OutputIdx,
    /// Its name.
    pub name: String,
    /// Where they go.
    pub to: SinkOutput,
    /// Batch time.
    pub time_ms: i64,
    /// Parts of the winning attempts.
    pub parts: Vec<Part>,
    /// Whether they have to be on the disk.
    pub sync: bool,
}

/// A model as a batch has left it, to be saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedModel {
    /// Its name.
    pub name: String,
    /// Where the files are.
    pub directory: Location,
    /// It is saved whenever it has learnt so many batches more.
    pub every: u64,
    /// Batch time: names the file.
    pub time_ms: i64,
    /// The model, as `tidemill-ml` writes it.
    pub bytes: Bytes,
    /// Whether the files have to be on the disk.
    pub sync: bool,
}

/// What every part of the core may use while it handles an event.
pub(crate) struct Cx<'a> {
    pub(crate) now: Now,
    pub(crate) config: &'a CoreConfig,
    pub(crate) members: &'a Members,
    pub(crate) cluster_booted: bool,
    pub(crate) next_task: &'a mut u64,
    pub(crate) out: &'a mut Vec<Action>,
}

impl Cx<'_> {
    pub(crate) fn send(&mut self, worker: WorkerId, message: pb::driver_message::Kind) {
        if let Some(member) = self.members.get(worker) {
            self.out.push(Action::Send { session: member.session, message });
        }
    }

    pub(crate) fn send_all(&mut self, message: &pb::driver_message::Kind) {
        for member in self.members.iter() {
            self.out.push(Action::Send { session: member.session, message: message.clone() });
        }
    }
}

/// The whole deciding part.
#[derive(Debug)]
pub struct Core {
    config: CoreConfig,
    durable: Durable,
    members: Members,
    jobs: BTreeMap<JobId, Job>,
    /// Jobs that have not ended and cannot go on with this program, and why.
    unusable: BTreeMap<JobId, String>,
    next_task: u64,
    booted_at: Option<u64>,
    /// Since when it waits for workers that it knew; a late loop counts as later.
    started_at: u64,
    last_turn_us: u64,
    fenced: u64,
}

impl Core {
    /// Starts from what the log says. `compiled` holds every job that has not ended, compiled anew.
    /// The actions must be carried out before anything else.
    pub fn start(
        config: CoreConfig,
        mut durable: Durable,
        mut compiled: BTreeMap<JobId, Compiled>,
        fresh_cluster_id: &str,
        now: Now,
    ) -> (Self, Vec<Action>) {
        let mut out = Vec::new();
        let mut log = |durable: &mut Durable, record: Record| {
            durable.apply(&record);
            out.push(Action::Log(record));
        };
        if durable.cluster_id.is_empty() {
            log(&mut durable, Record::Cluster { id: fresh_cluster_id.to_string() });
        }
        let term = Term(durable.term.0 + 1);
        log(&mut durable, Record::Started { term });
        let (mut jobs, mut unusable) = (BTreeMap::new(), BTreeMap::new());
        for (id, job) in durable.jobs.iter().filter(|(_, job)| job.ending.is_none()) {
            let taken_up = compiled.remove(id).ok_or_else(|| NO_LONGER_COMPILES.to_string());
            let taken_up = taken_up.and_then(|compiled| fits::check(job, &compiled.topology).map(|()| compiled));
            match taken_up {
                Ok(compiled) => {
                    let mut live = Job::new(job.clone(), compiled);
                    live.doubtful = durable.doubtful.contains(id);
                    jobs.insert(*id, live);
                }
                Err(reason) => {
                    tracing::error!(job = id.0, name = job.name, reason, "a job of the log cannot go on");
                    unusable.insert(*id, reason);
                }
            }
        }
        let waits_for_known_workers = !durable.members.is_empty();
        let core = Self {
            config,
            members: Members::default(),
            jobs,
            unusable,
            next_task: term.0 << 40,
            booted_at: if waits_for_known_workers { None } else { Some(now.mono_us) },
            started_at: now.mono_us,
            last_turn_us: now.mono_us,
            fenced: 0,
            durable,
        };
        (core, out)
    }

    /// The driver's term.
    pub fn term(&self) -> Term {
        self.durable.term
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> &str {
        &self.durable.cluster_id
    }

    /// What the log says, for a snapshot.
    pub fn durable(&self) -> Durable {
        let mut durable = self.durable.clone();
        for (id, job) in &self.jobs {
            durable.jobs.insert(*id, job.durable.clone());
            job.note_doubt(&mut durable.doubtful);
        }
        durable
    }

    /// The monotonic time, in microseconds, at which a [`Event::Tick`] is due at the latest.
    pub fn next_deadline(&self, now: Now) -> u64 {
        let silence = self.members.next_deadline(&self.config);
        if self.booted_at.is_none() {
            let rejoin = self.started_at + self.config.rejoin_us;
            return silence.map_or(rejoin, |silence| silence.min(rejoin)).max(now.mono_us);
        }
        let jobs = self.jobs.values().filter_map(|job| job.next_deadline(now, &self.config));
        jobs.chain(silence).min().unwrap_or(now.mono_us + 100_000).max(now.mono_us)
    }

    /// Takes one event in.
    pub fn on_event(&mut self, now: Now, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        self.excuse_lateness(now);
        match event {
            Event::Tick => self.on_tick(now, &mut out),
            Event::Connected { session, hello } => self.on_connected(now, session, &hello, &mut out),
            Event::Message { session, message } => self.on_message(now, session, message, &mut out),
            Event::Disconnected { session } => {
                if let Some(worker) = self.members.by_session(session) {
                    self.lose_worker(now, worker, "connection closed", &mut out);
                }
            }
            Event::Submit { request, job } => self.on_submit(now, request, *job, &mut out),
            Event::Stop { request, job, now: at_once } => self.on_stop(now, request, &job, at_once, &mut out),
            Event::Import { request, new } => self.on_import(now, request, &new, &mut out),
            Event::Table { job, table, found } => {
                self.with_job(now, job, &mut out, |job, cx| job.on_table(cx, table, found));
            }
            Event::Committed { job, batch, result } => {
                self.with_job(now, job, &mut out, |job, cx| job.on_committed(cx, batch, result));
            }
            Event::ManualTick { job, time_ms } => {
                self.with_job(now, job, &mut out, |job, _| job.manual_tick(time_ms));
            }
        }
        self.advance_all(now, &mut out);
        out
    }

    fn on_tick(&mut self, now: Now, out: &mut Vec<Action>) {
        for worker in self.members.silent(now, &self.config) {
            self.lose_worker(now, worker, "silent", out);
        }
    }

    fn advance_all(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.booted_at.is_none() {
            let all_back = self.durable.members.iter().all(|worker| self.members.get(*worker).is_some());
            if all_back || now.mono_us >= self.started_at + self.config.rejoin_us {
                self.forget_absent_members(out);
                self.booted_at = Some(now.mono_us);
                self.tell_membership(out);
            }
        }
        let Self { config, members, jobs, next_task, booted_at, durable, .. } = self;
        let cluster_booted = booted_at.is_some();
        let mut ended = Vec::new();
        for (id, job) in jobs.iter_mut() {
            let mut cx = Cx { now, config, members, cluster_booted, next_task, out };
            job.advance(&mut cx);
            if job.durable.ending.is_some() {
                ended.push(*id);
            }
        }
        for id in ended {
            if let Some(job) = jobs.remove(&id) {
                job.note_doubt(&mut durable.doubtful);
                durable.jobs.insert(id, job.durable);
            }
        }
    }

    fn forget_absent_members(&mut self, out: &mut Vec<Action>) {
        let absent: Vec<WorkerId> =
            self.durable.members.iter().copied().filter(|worker| self.members.get(*worker).is_none()).collect();
        for worker in absent {
            let record = Record::WorkerLost(worker);
            self.durable.apply(&record);
            out.push(Action::Log(record));
        }
    }

    fn with_job(&mut self, now: Now, id: JobId, out: &mut Vec<Action>, f: impl FnOnce(&mut Job, &mut Cx<'_>)) {
        let Self { config, members, jobs, next_task, booted_at, .. } = self;
        if let Some(job) = jobs.get_mut(&id) {
            let cluster_booted = booted_at.is_some();
            f(job, &mut Cx { now, config, members, cluster_booted, next_task, out });
        }
    }

    fn on_submit(&mut self, now: Now, request: RequestId, new: NewJob, out: &mut Vec<Action>) {
        if self.jobs.values().any(|job| job.durable.name == new.durable.name) {
            let result = Err(RequestError::NameTaken(new.durable.name));
            out.push(Action::Reply { request, result });
            return;
        }
        if let Some(taken) = self.directory_taken(&new.compiled.topology) {
            out.push(Action::Reply { request, result: Err(taken) });
            return;
        }
        let lacking = self.members.lacking(&new.compiled.functions);
        if !lacking.is_empty() {
            out.push(Action::Reply { request, result: Err(RequestError::Functions(lacking)) });
            return;
        }
        let id = JobId(self.durable.last_job.0 + 1);
        let durable = DurableJob { id, last_time_ms: now.wall_ms, ..new.durable };
        let record = Record::Submitted(Box::new(durable.clone()));
        self.durable.apply(&record);
        out.push(Action::Log(record));
        let mut job = Job::new(durable, new.compiled);
        job.refresh_live(&self.members);
        let start = job.start_message();
        self.jobs.insert(id, job);
        for member in self.members.iter() {
            out.push(Action::Send { session: member.session, message: start.clone() });
        }
        self.with_job(now, id, out, |job, cx| {
            let result = Ok(Box::new(job.status(cx)));
            cx.out.push(Action::Reply { request, result });
        });
    }

    fn directory_taken(&self, topology: &Topology) -> Option<RequestError> {
        let directories: BTreeSet<Location> = topology.directories().collect();
        self.jobs.values().find_map(|job| {
            let directory = job.topology.directories().find(|directory| directories.contains(directory))?;
            Some(RequestError::DirectoryTaken { job: job.durable.name.clone(), directory })
        })
    }

    fn on_stop(&mut self, now: Now, request: RequestId, name: &str, at_once: bool, out: &mut Vec<Action>) {
        match self.find_job(name) {
            Some(id) => self.with_job(now, id, out, |job, cx| job.stop(cx, request, at_once)),
            None => {
                let result = self.stop_what_does_not_run(now, name, at_once, out);
                out.push(Action::Reply { request, result });
            }
        }
    }

    fn find_job(&self, name: &str) -> Option<JobId> {
        self.jobs
            .values()
            .find(|job| job.durable.name == name || job.durable.id.to_string() == name)
            .map(|j| j.durable.id)
    }
}
