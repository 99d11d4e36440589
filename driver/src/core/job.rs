//! One job: what the log says of it, what is going on, and the order in which things are looked after.

use super::checkpoints::Checkpoints;
use super::clock::BatchClock;
use super::groups::Groups;
use super::intake::{Copies, Holders, LiveReceiver};
use super::members::Members;
use super::rates::SourceRate;
use super::run::BatchRun;
use super::stopping::Stopping;
use super::tables::TableState;
use super::topology::Topology;
use super::wire::block_ref;
use super::{Action, Compiled, CoreConfig, Cx, Now};
use crate::record::{BlockKey, DurableJob, Ending, JobRecord, ReceiverKey, Record};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use tidemill_common::ids::{BatchId, JobId, WorkerId};
use tidemill_job::{OnUnderReplicated, Settings};
use tidemill_metrics::{Counter, Family, Histogram, SECONDS, metric};
use tidemill_proto::client as client_pb;
use tidemill_proto::common as common_pb;
use tidemill_proto::control::{self as pb, driver_message};

/// Incidents kept for `status`.
const INCIDENTS_KEPT: usize = 20;

metric! {
    pub(super) static FENCED: Counter = Counter::new(
        "tidemill_fenced_reports_total",
        "Reports of workers that the driver refused because they came from the past.",
    );
    static INCIDENTS: Family<Counter, 1> =
        Counter::new("tidemill_incidents_total", "Losses of workers, for each job that ran then.").by(["job"]);
    static RECOVERY: Family<Histogram, 1> = Histogram::new(
        "tidemill_recovery_duration_seconds",
        "Time from the loss of a worker to the next complete batch.",
        SECONDS,
    )
    .by(["job"]);
}

/// A job that has not ended.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) durable: DurableJob,
    pub(crate) settings: Settings,
    pub(crate) topology: Arc<Topology>,
    fingerprint: u64,
    /// The batch the state is at: the last complete one, or an earlier one while batches run again after a rewind.
    pub(crate) state_version: BatchId,
    pub(crate) groups: Groups,
    /// Live workers that can run this job, by id.
    pub(crate) live: Vec<WorkerId>,
    /// Which version of the membership `live` is of.
    live_version: Option<u64>,
    pub(crate) receivers: BTreeMap<ReceiverKey, LiveReceiver>,
    /// Something happened that may start, stop or direct a receiver.
    pub(crate) receivers_due: bool,
    /// When the next receiver that failed is started again.
    pub(crate) restart_us: Option<u64>,
    /// Epochs of receivers that workers know and the log does not.
    pub(crate) epochs_seen: BTreeMap<ReceiverKey, u64>,
    /// The log has lost entries, and maybe some of this job: what workers have of it is not given up.
    pub(crate) doubtful: bool,
    /// Workers that could not hold a block, and until when others are preferred, in monotonic microseconds.
    pub(crate) cannot_hold: BTreeMap<WorkerId, u64>,
    pub(crate) holders: HashMap<BlockKey, Holders>,
    pub(crate) copies: Copies,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) run: Option<BatchRun>,
    /// Rates of the sources.
    pub(crate) rates: Vec<SourceRate>,
    pub(crate) manual_tick: Option<i64>,
    pub(crate) clock: BatchClock,
    pub(crate) stopping: Option<Stopping>,
    /// Workers that cannot run this job, and why.
    excluded: BTreeMap<WorkerId, String>,
    /// Since when needed data is on no live worker, in monotonic microseconds.
    waiting_since: Option<u64>,
    /// What it is.
    pub(crate) waiting_for: Option<&'static str>,
    /// Records and bytes in blocks that no batch has taken.
    pub(crate) waiting: (u64, u64),
    pub(crate) incidents: VecDeque<client_pb::Incident>,
    open_incident_since: Option<u64>,
    pub(crate) counters: client_pb::Counters,
    pub(crate) workers_used: BTreeSet<WorkerId>,
    pub(crate) workers_recomputing: BTreeSet<WorkerId>,
    pub(crate) bad_samples: VecDeque<common_pb::BadRecord>,
    pub(crate) state_keys: u64,
    pub(crate) last_batch_micros: u64,
    pub(crate) tables: Vec<TableState>,
}

impl Job {
    pub(crate) fn new(durable: DurableJob, compiled: Compiled) -> Self {
        let Compiled { settings, topology, fingerprint, .. } = compiled;
        let mut job = Self {
            state_version: durable.completed,
            groups: Groups::new(topology.key_groups, &durable.groups),
            live: Vec::new(),
            live_version: None,
            receivers: BTreeMap::new(),
            receivers_due: true,
            restart_us: None,
            epochs_seen: BTreeMap::new(),
            doubtful: false,
            cannot_hold: BTreeMap::new(),
            holders: HashMap::new(),
            copies: Copies::default(),
            checkpoints: Checkpoints::default(),
            run: None,
            rates: SourceRate::of_job(&topology, &settings, durable.capture),
            manual_tick: None,
            clock: BatchClock::default(),
            stopping: None,
            excluded: BTreeMap::new(),
            waiting_since: None,
            waiting_for: None,
            waiting: (0, 0),
            incidents: VecDeque::new(),
            open_incident_since: None,
            counters: client_pb::Counters::default(),
            workers_used: BTreeSet::new(),
            workers_recomputing: BTreeSet::new(),
            bad_samples: VecDeque::new(),
            state_keys: 0,
            last_batch_micros: 0,
            tables: TableState::of_job(topology.tables.len(), &durable.attachments),
            durable,
            settings,
            topology,
            fingerprint,
        };
        job.count_waiting();
        job
    }

    /// Brings `live` up to date; what depends on who is live is looked after anew.
    pub(crate) fn refresh_live(&mut self, members: &Members) {
        if self.live_version == Some(members.version()) {
            return;
        }
        self.live_version = Some(members.version());
        self.live = members.iter().map(|m| m.id).filter(|worker| !self.excluded.contains_key(worker)).collect();
        let copies = self.copies_possible();
        self.groups.rank(self.durable.id, &self.live, copies);
        self.receivers_due = true;
        self.copies.check_all();
    }

    pub(crate) fn is_live(&self, worker: WorkerId) -> bool {
        self.live.binary_search(&worker).is_ok()
    }

    fn count_waiting(&mut self) {
        let waiting = self.durable.waiting.values().flatten();
        self.waiting = waiting.fold((0, 0), |sum, block| (sum.0 + block.records, sum.1 + block.bytes));
    }

    /// Looks after everything, in the order in which one thing depends on another.
    pub(crate) fn advance(&mut self, cx: &mut Cx<'_>) {
        let steps: [fn(&mut Self, &mut Cx<'_>); 7] = [
            Self::check_copies,
            Self::advance_receivers,
            Self::advance_copies,
            Self::advance_groups,
            Self::advance_batches,
            Self::advance_checkpoint,
            Self::advance_stopping,
        ];
        if !cx.cluster_booted {
            return;
        }
        self.refresh_live(cx.members);
        self.waiting_for = None;
        for step in steps {
            if self.durable.ending.is_some() {
                return;
            }
            step(self, cx);
        }
        if self.waiting_for.is_none() {
            self.waiting_since = None;
        }
    }

    /// Writes a record of this job, and lets go of the blocks that it makes superfluous.
    pub(crate) fn record(&mut self, cx: &mut Cx<'_>, record: JobRecord) {
        let released = self.durable.apply(&record);
        self.doubtful &= !self.durable.settles_doubt(&record);
        match &record {
            JobRecord::Block(block, _) => self.waiting = (self.waiting.0 + block.records, self.waiting.1 + block.bytes),
            JobRecord::Frozen { .. } | JobRecord::Ended(_) => self.count_waiting(),
            _ => {}
        }
        cx.out.push(Action::Log(Record::Job(self.durable.id, record)));
        let mut by_worker: BTreeMap<WorkerId, Vec<common_pb::BlockRef>> = BTreeMap::new();
        // What workers have of a doubtful job that fails stays.
        let kept = self.doubtful && self.durable.ending.is_some();
        for block in released.into_iter().filter(|_| !kept) {
            for worker in self.forget_block(block.key) {
                by_worker.entry(worker).or_default().push(block_ref(self.durable.id, &block));
            }
        }
        for (worker, blocks) in by_worker {
            cx.send(worker, driver_message::Kind::DropBlocks(pb::DropBlocks { blocks, ..Default::default() }));
        }
    }

    /// Copies that can exist with the workers there are.
    pub(crate) fn copies_possible(&self) -> usize {
        (self.settings.replication as usize).min(self.live.len()).max(1)
    }

    pub(crate) fn under_replicated(&self) -> bool {
        self.live.len() < self.settings.replication as usize
    }

    /// Whether sources must not be read now because too few copies can exist.
    pub(crate) fn paused(&self) -> bool {
        self.settings.on_under_replicated == OnUnderReplicated::Pause && self.under_replicated()
    }

    fn check_copies(&mut self, cx: &mut Cx<'_>) {
        let live = self.live.len();
        if live == 0 && !self.excluded.is_empty() && !cx.members.is_empty() {
            let reason = self.excluded.values().next().cloned().unwrap_or_default();
            self.end(cx, Ending::Failed(format!("no worker can run this job: {reason}")));
        } else if self.settings.on_under_replicated == OnUnderReplicated::Fail
            && self.under_replicated()
            && self.durable.last_frozen > BatchId(0)
        {
            let wanted = self.settings.replication;
            self.end(cx, Ending::Failed(format!("{wanted} copies are asked for and {live} workers are left")));
        }
    }

    pub(crate) fn start_message(&self) -> driver_message::Kind {
        driver_message::Kind::StartJob(pb::StartJob {
            job: self.durable.id.0,
            definition: self.durable.definition.clone(),
            attachments: self.durable.attachments.iter().map(|bytes| bytes.clone().into()).collect(),
            fingerprint: self.fingerprint,
            capture: self.durable.capture,
            watched_rows: self.durable.watched_rows,
            base_dir: self.durable.base_dir.clone(),
        })
    }

    /// Brings the log's list of doubtful jobs up to date.
    pub(crate) fn note_doubt(&self, doubtful: &mut BTreeSet<JobId>) {
        match self.doubtful {
            true => doubtful.insert(self.durable.id),
            false => doubtful.remove(&self.durable.id),
        };
    }

    /// The log has lost entries of this job.
    pub(crate) fn doubt(&mut self, cx: &mut Cx<'_>) {
        if !std::mem::replace(&mut self.doubtful, true) {
            cx.out.push(Action::Log(Record::JobDoubtful(self.durable.id)));
        }
    }

    /// A worker has something of a batch that the log does not have. What followed from that batch was seen by others, so it
    /// cannot become another one: the job ends, and all that workers have of it stays, for the log as it was.
    fn check_log_against(&mut self, cx: &mut Cx<'_>, worker: WorkerId, hello: &pb::Hello) {
        let id = self.durable.id;
        let written = hello.checkpoints.iter().filter(|held| held.job == id.0).map(|held| held.version);
        let told = hello.resume.iter().flat_map(|resume| &resume.progress).filter(|progress| progress.job == id.0);
        let seen = written.chain(told.map(|progress| progress.completed)).max().unwrap_or(0);
        if seen <= self.durable.last_frozen.0 || self.durable.ending.is_some() {
            return;
        }
        self.doubt(cx);
        let last = self.durable.last_frozen;
        self.end(
            cx,
            Ending::Failed(format!(
                "the driver's log has lost entries: it ends at batch {last}, and worker {worker} has seen batch {seen}. Workers keep what they have of the job aside; with the log as it was it goes on"
            )),
        );
    }

    pub(crate) fn on_worker_joined(
        &mut self,
        cx: &mut Cx<'_>,
        worker: WorkerId,
        hello: &pb::Hello,
        resume: Option<&pb::Resume>,
    ) {
        self.check_log_against(cx, worker, hello);
        if self.durable.ending.is_some() {
            return;
        }
        let job = self.durable.id.0;
        for held in hello.checkpoints.iter().filter(|held| held.job == job) {
            self.add_checkpoint(worker, BatchId(held.version), &held.groups);
        }
        let resumed_blocks = resume.iter().flat_map(|resume| &resume.blocks);
        let blocks = hello.recovered_blocks.iter().chain(resumed_blocks).flat_map(|held| &held.blocks);
        self.add_holder(cx, worker, resume.is_some(), blocks);
        if let Some(resume) = resume {
            self.adopt_receivers(cx, worker, &resume.receivers);
        }
        self.groups.resend();
        self.tell_all_imports(cx, worker);
        self.tell_all_tables(cx, worker);
    }

    pub(crate) fn on_worker_lost(&mut self, cx: &mut Cx<'_>, worker: WorkerId, cause: &str, silent_ms: u64) {
        let mut incident = client_pb::Incident {
            at_ms: cx.now.wall_ms,
            worker: worker.0,
            cause: cause.to_string(),
            silent_ms,
            batch: self.run.as_ref().map_or(self.durable.last_frozen.0 + 1, |run| run.batch.0),
            ..Default::default()
        };
        self.excluded.remove(&worker);
        self.refresh_live(cx.members);
        incident.blocks_to_copy = self.lose_holder(worker);
        incident.receivers_moved = self.lose_receivers(worker);
        incident.units_recomputed = self.lose_units(cx, worker);
        self.checkpoints.lose_worker(worker);
        self.groups.due = true;
        INCIDENTS.of([&self.durable.name]).add(1);
        self.incidents.push_back(incident);
        if self.incidents.len() > INCIDENTS_KEPT {
            self.incidents.pop_front();
        }
        self.open_incident_since.get_or_insert(cx.now.mono_us);
        // Groups are moved at once, so that the incident that is told has its figures.
        if cx.cluster_booted {
            self.advance_groups(cx);
        }
        if let Some(incident) = self.incidents.back() {
            let event = client_pb::watch_event::Kind::Incident(incident.clone());
            cx.out.push(Action::Publish { job: self.durable.id, event: Box::new(event) });
        }
    }

    /// The first complete batch after an incident ends it.
    pub(crate) fn close_incidents(&mut self, cx: &mut Cx<'_>) {
        let Some(since) = self.open_incident_since.take() else { return };
        let recovered_ms = (cx.now.mono_us.saturating_sub(since) / 1000).max(1);
        RECOVERY.of([&self.durable.name]).observe(recovered_ms as f64 / 1e3);
        for incident in self.incidents.iter_mut().filter(|incident| incident.recovered_ms == 0) {
            incident.recovered_ms = recovered_ms;
            let event = client_pb::watch_event::Kind::Recovered(incident.clone());
            cx.out.push(Action::Publish { job: self.durable.id, event: Box::new(event) });
        }
    }

    pub(crate) fn on_refused(&mut self, cx: &mut Cx<'_>, worker: WorkerId, reason: String) {
        tracing::warn!(job = self.durable.id.0, worker = worker.0, reason, "a worker cannot run the job");
        self.excluded.insert(worker, reason);
        self.live_version = None;
        self.refresh_live(cx.members);
        self.groups.due = true;
        self.lose_receivers(worker);
        self.lose_units(cx, worker);
    }

    /// Data that is needed is on no live worker: it may come back with a worker's disk, for a while.
    pub(crate) fn wait_for_lost_data(&mut self, cx: &mut Cx<'_>, what: &'static str) {
        let since = *self.waiting_since.get_or_insert(cx.now.mono_us);
        self.waiting_for = Some(what);
        if cx.now.mono_us >= since + cx.config.recovery_wait_us {
            let waited = cx.config.recovery_wait_us / 1_000_000;
            let reason = format!("{what}, and did not come back within {waited} s");
            self.end(cx, Ending::Failed(reason));
        }
    }

    /// Ends the job and tells everyone.
    pub(crate) fn end(&mut self, cx: &mut Cx<'_>, ending: Ending) {
        if self.durable.ending.is_some() {
            return;
        }
        tracing::info!(job = self.durable.id.0, name = self.durable.name, ?ending, "job ended");
        self.run = None;
        let retained = self.durable.blocks().count() as u64;
        self.record(cx, JobRecord::Ended(ending));
        let job = self.durable.id.0;
        cx.send_all(&match self.doubtful {
            true => driver_message::Kind::SetAside(pb::SetAside { job }),
            false => driver_message::Kind::EndJob(pb::EndJob { job }),
        });
        let mut status = self.status(cx);
        status.retained_blocks = retained;
        if let Some(stopping) = self.stopping.take() {
            for request in stopping.requests {
                cx.out.push(Action::Reply { request, result: Ok(Box::new(status.clone())) });
            }
        }
        let event = client_pb::watch_event::Kind::Ended(status);
        cx.out.push(Action::Publish { job: self.durable.id, event: Box::new(event) });
    }

    /// Counts what is refused because it comes from the past (INV-5).
    pub(crate) fn count_fenced(&mut self) {
        self.counters.fenced += 1;
        FENCED.add(1);
    }

    pub(crate) fn manual_tick(&mut self, time_ms: i64) {
        self.manual_tick = Some(time_ms);
    }

    /// When this job has something to do though nothing happens.
    pub(crate) fn next_deadline(&self, now: Now, config: &CoreConfig) -> Option<u64> {
        if self.live.is_empty() {
            return self.stopping.as_ref().map(|stopping| stopping.deadline_us);
        }
        let interval_ms = self.settings.batch_interval.as_millis().max(1) as i64;
        let next_tick_ms = (self.durable.last_time_ms.div_euclid(interval_ms) + 1) * interval_ms;
        let clock_ms = self.clock.read(now.wall_ms, self.durable.last_time_ms);
        let tick = (!config.manual_clock && self.run.is_none())
            .then(|| now.mono_us + (next_tick_ms - clock_ms).max(0) as u64 * 1000);
        let waiting = self.waiting_since.map(|since| since + config.recovery_wait_us);
        let stopping = self.stopping.as_ref().map(|stopping| stopping.deadline_us);
        let lagging = self.run.as_ref().and_then(|run| run.lagging_until_us);
        let later = [tick, waiting, stopping, lagging, self.copies.not_before_us, self.restart_us];
        later.into_iter().flatten().min()
    }
}
