//! Membership: who is a live worker, and since when each was last heard.
//!
//! A worker is lost in two ways, closing its connection and falling silent; both end in
//! `Core::lose_worker`. No verdict of silence falls while the driver's own loop is late.

use super::job::FENCED;
use super::wire::function_ref;
use super::{Action, Core, CoreConfig, Event, Now, SessionId};
use crate::record::{Record, Standing};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tidemill_common::ids::{JobId, WorkerId};
use tidemill_metrics::{Counter, Family, metric};
use tidemill_plan::{FunctionRef, lack};
use tidemill_proto::PROTOCOL_VERSION;
use tidemill_proto::common::ErrorKind;
use tidemill_proto::control::{self as pb, driver_message, worker_message};

/// Numbers beyond this one are not believed.
const HIGHEST_NUMBER: u64 = 1 << 48;
/// Turns come at least this often; a longer gap means that the loop itself was late.
const LATE_LOOP_US: u64 = 300_000;

/// Most refused workers that are remembered.
const MOST_REFUSED: usize = 100;

metric! {
    static WORKERS_LOST: Family<Counter, 1> =
        Counter::new("tidemill_workers_lost_total", "Workers that the driver has lost.").by(["cause"]);
}

/// A live worker.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its id.
    pub id: WorkerId,
    /// Its connection.
    pub session: SessionId,
    /// Its data service.
    pub address: String,
    /// Tasks it runs at once.
    pub slots: u32,
    /// When it was last heard, on the monotonic clock.
    pub last_heard_us: u64,
    /// The last heartbeat.
    pub heartbeat: pb::Heartbeat,
    /// The functions in Rust that it knows.
    pub functions: Vec<FunctionRef>,
}

/// The live workers.
#[derive(Debug, Default)]
pub struct Members {
    by_id: BTreeMap<WorkerId, Member>,
    by_session: HashMap<SessionId, WorkerId>,
    /// Counts joins and losses.
    version: u64,
    arithmetic_hash: Option<u64>,
    /// Addresses and clusters of workers that were refused.
    refused: BTreeSet<(String, String)>,
}

impl Members {
    /// A live worker.
    pub fn get(&self, worker: WorkerId) -> Option<&Member> {
        self.by_id.get(&worker)
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_id.values()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(crate) fn by_session(&self, session: SessionId) -> Option<WorkerId> {
        self.by_session.get(&session).copied()
    }

    /// Another one whenever somebody has joined or was lost.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// What keeps live workers from running a job that uses these functions, a line each.
    pub(crate) fn lacking(&self, used: &[FunctionRef]) -> Vec<String> {
        let of = |member: &Member| {
            let id = member.id;
            let lacks: Vec<_> = used.iter().filter_map(|function| lack(&member.functions, function)).collect();
            lacks.into_iter().map(move |why| format!("worker {id}: {why}"))
        };
        self.iter().flat_map(of).collect()
    }

    fn insert(&mut self, member: Member) {
        self.version += 1;
        self.by_session.insert(member.session, member.id);
        self.by_id.insert(member.id, member);
    }

    fn remove(&mut self, worker: WorkerId) -> Option<Member> {
        let member = self.by_id.remove(&worker)?;
        self.version += 1;
        self.by_session.remove(&member.session);
        Some(member)
    }

    pub(crate) fn next_deadline(&self, config: &CoreConfig) -> Option<u64> {
        self.by_id.values().map(|member| member.last_heard_us + config.worker_timeout_us).min()
    }

    /// A worker that is refused comes again in a moment: that is said once.
    fn say_refused(&mut self, hello: &pb::Hello, message: &str) {
        let (address, cluster) = (hello.data_address.clone(), hello.cluster_id.clone());
        if self.refused.len() < MOST_REFUSED && self.refused.insert((address, cluster)) {
            tracing::warn!(address = hello.data_address, cluster = hello.cluster_id, message, "refused a worker");
        } else {
            tracing::debug!(
                address = hello.data_address,
                cluster = hello.cluster_id,
                message,
                "refused a worker again"
            );
        }
    }

    /// Workers that have been silent for too long.
    pub(crate) fn silent(&self, now: Now, config: &CoreConfig) -> Vec<WorkerId> {
        let is_silent = |member: &&Member| now.mono_us >= member.last_heard_us + config.worker_timeout_us;
        self.by_id.values().filter(is_silent).map(|member| member.id).collect()
    }

    /// For a while nobody was listened to: everyone has a little time to be heard.
    fn excuse(&mut self, now: Now, config: &CoreConfig) {
        let at_least = (now.mono_us + LATE_LOOP_US).saturating_sub(config.worker_timeout_us);
        self.by_id.values_mut().for_each(|member| member.last_heard_us = member.last_heard_us.max(at_least));
    }

    fn message(&self) -> driver_message::Kind {
        let workers = self.iter().map(|m| pb::Member { worker_id: m.id.0, data_address: m.address.clone() }).collect();
        driver_message::Kind::Membership(pb::Membership { workers })
    }

    fn admit(&self, hello: &pb::Hello, cluster_id: &str) -> Result<(), (ErrorKind, String)> {
        if hello.protocol_version != PROTOCOL_VERSION {
            let message = format!(
                "this driver speaks protocol {PROTOCOL_VERSION}, the worker (tidemill {}) speaks {}; run the same version on both",
                hello.program_version, hello.protocol_version
            );
            return Err((ErrorKind::ErrorProtocolVersion, message));
        }
        if !hello.cluster_id.is_empty() && hello.cluster_id != cluster_id {
            let message = format!(
                "the worker has joined cluster {theirs}, and this driver is cluster {cluster_id}. If it is to be cluster {theirs}, its --data-dir is wrong or has lost the log: start it with the right one, the worker may hold the last copies of that cluster's data. To bring the worker into this cluster, start it with a new --data-dir and keep the old one",
                theirs = hello.cluster_id
            );
            return Err((ErrorKind::ErrorWrongCluster, message));
        }
        match self.arithmetic_hash {
            Some(hash) if hash != hello.arithmetic_hash && !self.is_empty() => Err((
                ErrorKind::ErrorArithmetic,
                "exp, ln or a sum of products give other results on this machine than on the cluster's; results would not be exact".into(),
            )),
            _ => Ok(()),
        }
    }
}

impl Core {
    /// Notices a late turn of the loop: it must not count against workers.
    pub(super) fn excuse_lateness(&mut self, now: Now) {
        let gap = now.mono_us.saturating_sub(std::mem::replace(&mut self.last_turn_us, now.mono_us));
        if gap > LATE_LOOP_US {
            self.members.excuse(now, &self.config);
            self.started_at += gap;
        }
    }

    pub(super) fn on_connected(&mut self, now: Now, session: SessionId, hello: &pb::Hello, out: &mut Vec<Action>) {
        if let Err((kind, message)) = self.members.admit(hello, &self.durable.cluster_id) {
            self.members.say_refused(hello, &message);
            let refused = pb::Refused { kind: kind as i32, message };
            out.push(Action::Send { session, message: driver_message::Kind::Refused(refused) });
            out.push(Action::Close { session });
            return;
        }
        self.members.arithmetic_hash = Some(hello.arithmetic_hash);
        let unknown =
            jobs_of(hello).into_iter().filter(|job| (self.durable.last_job.0 + 1..HIGHEST_NUMBER).contains(job));
        if let Some(through) = unknown.max().map(JobId) {
            let record = Record::JobsUnknown { through };
            self.durable.apply(&record);
            out.push(Action::Log(record));
        }
        if let Some(resume) = &hello.resume {
            // It cannot be in two sessions: the one it had is dead, whether or not that was noticed.
            self.lose_worker(now, WorkerId(resume.worker_id), "connected again", out);
        }
        let resume = hello.resume.as_ref().filter(|resume| {
            let id = WorkerId(resume.worker_id);
            self.booted_at.is_none() && self.durable.members.contains(&id)
        });
        let id = match resume {
            Some(resume) => WorkerId(resume.worker_id),
            None => {
                // A log that has lost entries may not know all numbers that were given out.
                let had = hello.resume.as_ref().map(|resume| resume.worker_id).filter(|id| *id < HIGHEST_NUMBER);
                let id = WorkerId(self.durable.last_worker.0.max(had.unwrap_or(0)) + 1);
                let record = Record::WorkerJoined(id);
                self.durable.apply(&record);
                out.push(Action::Log(record));
                id
            }
        };
        let member = Member {
            id,
            session,
            address: hello.data_address.clone(),
            slots: hello.slots.max(1),
            last_heard_us: now.mono_us,
            heartbeat: pb::Heartbeat::default(),
            functions: hello.functions.iter().filter_map(function_ref).collect(),
        };
        tracing::info!(worker = id.0, address = member.address, resumed = resume.is_some(), "worker joined");
        self.members.insert(member);
        self.welcome(now, id, session, hello, resume, out);
    }

    /// Jobs that a worker has something of.
    fn of_standing(&self, hello: &pb::Hello, standing: Standing) -> Vec<u64> {
        jobs_of(hello).into_iter().filter(|job| self.durable.standing(JobId(*job)) == standing).collect()
    }

    fn welcome(
        &mut self,
        now: Now,
        id: WorkerId,
        session: SessionId,
        hello: &pb::Hello,
        resume: Option<&pb::Resume>,
        out: &mut Vec<Action>,
    ) {
        let (unknown_jobs, ended_jobs) =
            (self.of_standing(hello, Standing::Unknown), self.of_standing(hello, Standing::Ended));
        if !unknown_jobs.is_empty() {
            tracing::warn!(
                worker = id.0,
                jobs = ?unknown_jobs,
                "a worker has something of jobs that this log does not know; it keeps that aside"
            );
        }
        let welcome = pb::Welcome {
            worker_id: id.0,
            term: self.durable.term.0,
            cluster_id: self.durable.cluster_id.clone(),
            heartbeat_ms: self.config.heartbeat_ms,
            resumed: resume.is_some(),
            unknown_jobs,
        };
        out.push(Action::Send { session, message: driver_message::Kind::Welcome(welcome) });
        self.tell_membership(out);
        for job in self.jobs.values() {
            out.push(Action::Send { session, message: job.start_message() });
        }
        for job in ended_jobs {
            out.push(Action::Send { session, message: driver_message::Kind::EndJob(pb::EndJob { job }) });
        }
        let ids: Vec<JobId> = self.jobs.keys().copied().collect();
        for job in ids {
            self.with_job(now, job, out, |job, cx| job.on_worker_joined(cx, id, hello, resume));
        }
    }

    /// Tells everyone who is a member. While known workers may still come back after a restart nothing is told:
    /// those that are back would fence the others.
    pub(super) fn tell_membership(&self, out: &mut Vec<Action>) {
        if self.booted_at.is_none() {
            return;
        }
        let membership = self.members.message();
        for member in self.members.iter() {
            out.push(Action::Send { session: member.session, message: membership.clone() });
        }
    }

    pub(super) fn lose_worker(&mut self, now: Now, worker: WorkerId, cause: &str, out: &mut Vec<Action>) {
        let Some(member) = self.members.remove(worker) else { return };
        let silent_ms = now.mono_us.saturating_sub(member.last_heard_us) / 1000;
        tracing::info!(worker = worker.0, cause, silent_ms, "worker lost");
        WORKERS_LOST.of([cause]).add(1);
        let record = Record::WorkerLost(worker);
        self.durable.apply(&record);
        out.push(Action::Log(record));
        out.push(Action::Close { session: member.session });
        self.tell_membership(out);
        let ids: Vec<JobId> = self.jobs.keys().copied().collect();
        for job in ids {
            self.with_job(now, job, out, |job, cx| job.on_worker_lost(cx, worker, cause, silent_ms));
        }
    }

    pub(super) fn on_message(
        &mut self,
        now: Now,
        session: SessionId,
        message: worker_message::Kind,
        out: &mut Vec<Action>,
    ) {
        use worker_message::Kind;
        let Some(worker) = self.members.by_session(session) else {
            self.fenced += 1;
            FENCED.add(1);
            return;
        };
        if let Some(member) = self.members.by_id.get_mut(&worker) {
            member.last_heard_us = now.mono_us;
            if let Kind::Heartbeat(heartbeat) = message {
                self.jobs.values_mut().for_each(|job| job.on_heartbeat(worker, &heartbeat));
                member.heartbeat = heartbeat;
                return;
            }
        }
        let job = match &message {
            Kind::Hello(_) | Kind::Heartbeat(_) => return,
            Kind::BlockReceived(m) => m.block.as_ref().and_then(|b| b.receiver.as_ref()).map(|r| r.job),
            Kind::BlockCopied(m) => m.block.as_ref().and_then(|b| b.receiver.as_ref()).map(|r| r.job),
            Kind::ReceiverReport(m) => m.receiver.as_ref().map(|r| r.job),
            Kind::PositionsChanged(m) => m.receiver.as_ref().map(|r| r.job),
            Kind::TaskReport(m) => Some(m.job),
            Kind::StateReplicated(m) => Some(m.job),
            Kind::CheckpointWritten(m) => Some(m.job),
            Kind::StateRestored(m) => Some(m.job),
            Kind::JobRefused(m) => Some(m.job),
        };
        let Some(job) = job.map(JobId) else { return };
        self.with_job(now, job, out, |job, cx| match message {
            Kind::Hello(_) | Kind::Heartbeat(_) => {}
            Kind::BlockReceived(m) => job.on_block_received(cx, worker, m),
            Kind::BlockCopied(m) => job.on_block_copied(cx, worker, &m),
            Kind::ReceiverReport(m) => job.on_receiver_report(cx, worker, &m),
            Kind::PositionsChanged(m) => job.on_positions_changed(cx, worker, m),
            Kind::TaskReport(m) => job.on_task_report(cx, worker, m),
            Kind::StateReplicated(m) => job.on_state_replicated(cx, worker, &m),
            Kind::CheckpointWritten(m) => job.on_checkpoint_written(worker, &m),
            Kind::StateRestored(m) => job.on_state_restored(cx, worker, &m),
            Kind::JobRefused(m) => job.on_refused(cx, worker, m.reason),
        });
    }

    /// For tests and the manual clock: an event that only lets time pass.
    pub fn tick(&mut self, now: Now) -> Vec<Action> {
        self.on_event(now, Event::Tick)
    }

    /// How often something from the past was refused here.
    pub fn fenced(&self) -> u64 {
        self.fenced
    }

    /// The live workers.
    pub fn members(&self) -> &Members {
        &self.members
    }
}

/// Jobs of which a worker has something, in memory or on disk.
fn jobs_of(hello: &pb::Hello) -> BTreeSet<u64> {
    let known = hello.resume.iter().flat_map(|resume| resume.jobs.iter().copied());
    let checkpoints = hello.checkpoints.iter().map(|held| held.job);
    let blocks = hello.recovered_blocks.iter().flat_map(|held| &held.blocks);
    let blocks = blocks.filter_map(|block| block.receiver.as_ref()).map(|receiver| receiver.job);
    known.chain(checkpoints).chain(blocks).collect()
}
