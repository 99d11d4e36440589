//! A simulated worker: a machine with a disk, and the process on it, which speaks the control protocol.

use crate::compute::{Rows, State};
use crate::files::Files;
use crate::links::Link;
use crate::net::{FollowResult, FromDriver, FromWorker, Net, PeerMessage, PeerReply, Proc};
use crate::receiving::{Block, Receiver};
use crate::scenario::{Knobs, Spec};
use crate::state::{Part, Places};
use crate::tasks::Running;
use crate::told::Told;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use tidemill_driver::core::SessionId;
use tidemill_proto::PROTOCOL_VERSION;
use tidemill_proto::control::{self as pb, driver_message, worker_message};

/// What a process waits for.
#[derive(Debug, Clone)]
pub(crate) enum Timer {
    Connect,
    Heartbeat(SessionId),
    Seal { job: u64, key: (u32, u32), epoch: u64 },
    RetryBlocks { job: u64, key: (u32, u32), epoch: u64 },
    Fetch { job: u64, task: u64 },
    Compute { job: u64, task: u64 },
    Link { job: u64, follower: u64, request: u64 },
    Checkpoint { job: u64, write: u64 },
    Copy { job: u64, block: Block, holders: Vec<u64> },
    Prepared { number: u64 },
}

/// Stages of a key group at a version.
pub(crate) type Checkpoint = BTreeMap<u32, Rc<State>>;

/// What outlives the process.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) cluster: String,
    /// By job, version and group.
    pub(crate) checkpoints: BTreeMap<(u64, u64, u32), Checkpoint>,
    /// Blocks of jobs with durability `disk`.
    pub(crate) blocks: BTreeMap<u64, BTreeSet<Block>>,
}

/// A machine.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    pub(crate) start: u32,
    pub(crate) up: bool,
    pub(crate) paused: bool,
    pub(crate) refuses: bool,
    pub(crate) inbox: VecDeque<crate::net::Ev>,
    pub(crate) disk: Disk,
    pub(crate) process: Process,
}

/// What dies with the process.
#[derive(Debug, Default)]
pub(crate) struct Process {
    pub(crate) id: Option<u64>,
    /// The session, once it is welcome.
    pub(crate) session: Option<SessionId>,
    pub(crate) opening: Option<SessionId>,
    pub(crate) members: BTreeSet<u64>,
    pub(crate) jobs: BTreeMap<u64, HeldJob>,
    pub(crate) blocks: BTreeMap<u64, BTreeSet<Block>>,
    pub(crate) dropped: BTreeSet<(u64, Block)>,
    preparing: Option<Preparing>,
    pub(crate) numbers: u64,
}

/// A job whose plan is being made; messages of the driver wait behind it.
#[derive(Debug)]
struct Preparing {
    number: u64,
    job: u64,
    spec: usize,
    waiting: VecDeque<driver_message::Kind>,
}

/// What a process knows of a job.
#[derive(Debug, Default)]
pub(crate) struct HeldJob {
    pub(crate) spec: usize,
    pub(crate) receivers: BTreeMap<(u32, u32), Receiver>,
    /// By batch, exchange and order tag.
    pub(crate) pieces: BTreeMap<(u64, u32, u64), Rc<Vec<Rows>>>,
    /// By stage and group.
    pub(crate) parts: BTreeMap<(u32, u32), Part>,
    pub(crate) places: Places,
    pub(crate) links: BTreeMap<u64, Link>,
    pub(crate) tasks: BTreeMap<u64, Running>,
    pub(crate) told: Told,
    /// Stages on disk, by version and group.
    pub(crate) written: BTreeMap<(u64, u32), BTreeSet<u32>>,
    /// Checkpoints on their way to the disk.
    pub(crate) writing: BTreeMap<u64, Vec<Written>>,
}

/// Version, stage, group and state of a partition.
pub(crate) type Written = (u64, u32, u32, Rc<State>);

/// What a process may use.
pub(crate) struct Cx<'a> {
    pub(crate) net: &'a mut Net,
    pub(crate) proc: Proc,
    pub(crate) term: u64,
    pub(crate) specs: &'a [Spec],
    pub(crate) knobs: &'a Knobs,
    pub(crate) disk: &'a mut Disk,
    pub(crate) files: &'a mut Files,
    pub(crate) refuses: bool,
}

impl Process {
    /// A number never used before by this process.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn report(&self, cx: &mut Cx<'_>, kind: worker_message::Kind) {
        if let Some(session) = self.session {
            cx.net.send_to_driver(cx.term, session, FromWorker::Says(kind));
        }
    }

    pub(crate) fn hello(&self, disk: &Disk, specs: &[Spec], slot: usize) -> pb::Hello {
        let mut checkpoints: BTreeMap<(u64, u64), Vec<u32>> = BTreeMap::new();
        for ((job, version, group), stages) in &disk.checkpoints {
            let all = specs.get(*job as usize - 1).map_or(0, |spec| spec.shape.stateful().count());
            let whole = checkpoints.entry((*job, *version)).or_default();
            whole.extend((stages.len() == all).then_some(*group));
        }
        let held = |((job, version), groups)| pb::HeldState { job, version, groups };
        pb::Hello {
            protocol_version: PROTOCOL_VERSION,
            cluster_id: disk.cluster.clone(),
            data_address: format!("machine-{slot}"),
            slots: 2,
            checkpoints: checkpoints.into_iter().map(held).collect(),
            recovered_blocks: if self.id.is_none() { held_blocks(&disk.blocks) } else { Vec::new() },
            resume: self.id.map(|id| self.resume(id)),
            ..pb::Hello::default()
        }
    }

    fn resume(&self, id: u64) -> pb::Resume {
        let running = |(receiver, epoch)| pb::RunningReceiver { receiver: Some(receiver), epoch };
        pb::Resume {
            worker_id: id,
            blocks: held_blocks(&self.blocks),
            receivers: self.receivers().into_iter().map(running).collect(),
            jobs: self.jobs.keys().copied().collect(),
            ..pb::Resume::default()
        }
    }

    /// Takes what came over a session.
    pub(crate) fn on_driver(&mut self, cx: &mut Cx<'_>, session: SessionId, what: FromDriver) {
        if self.session != Some(session) && self.opening != Some(session) {
            return;
        }
        match what {
            FromDriver::Says(driver_message::Kind::Welcome(welcome)) => self.on_welcome(cx, session, &welcome),
            FromDriver::Says(message) if self.session.is_some() => match &mut self.preparing {
                Some(preparing) => preparing.waiting.push_back(message),
                None => self.on_message(cx, message),
            },
            FromDriver::Says(_) => {}
            FromDriver::Gone => {
                self.session = None;
                self.opening = None;
                self.preparing = None;
                self.jobs.values_mut().for_each(|job| job.tasks.clear());
                let wait = cx.net.pick(20_000..200_000);
                cx.net.timer(cx.proc, wait, Timer::Connect);
            }
        }
    }

    fn on_welcome(&mut self, cx: &mut Cx<'_>, session: SessionId, welcome: &pb::Welcome) {
        assert!(welcome.unknown_jobs.is_empty(), "no log here loses entries that somebody has seen");
        if !welcome.resumed && self.id.is_some() {
            self.jobs.clear();
            self.blocks.clear();
            cx.disk.blocks.clear();
        } else if self.id.is_none() {
            self.blocks.clone_from(&cx.disk.blocks);
        }
        self.id = Some(welcome.worker_id);
        self.session = Some(session);
        self.opening = None;
        cx.disk.cluster.clone_from(&welcome.cluster_id);
        cx.net.timer(cx.proc, 1_000, Timer::Heartbeat(session));
        if welcome.resumed {
            self.report_blocks_again(cx);
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_>, message: driver_message::Kind) {
        use driver_message::Kind;
        match message {
            Kind::Welcome(_) | Kind::Refused(_) => {}
            Kind::PositionsLogged(logged) => self.positions_logged(&logged),
            Kind::Membership(membership) => {
                self.members = membership.workers.iter().map(|member| member.worker_id).collect();
            }
            Kind::StartJob(start) => self.start_job(cx, &start),
            Kind::EndJob(end) => {
                self.jobs.remove(&end.job);
                self.blocks.remove(&end.job);
                cx.disk.blocks.remove(&end.job);
                cx.disk.checkpoints.retain(|(job, _, _), _| *job != end.job);
            }
            Kind::Assignment(table) => self.assign(cx, &table),
            Kind::StartReceiver(start) => self.start_receiver(cx, &start),
            // How much a source gives is the schedule's affair.
            Kind::SetRate(set) => {
                assert!(set.rate > 0.0, "that would be no bound");
                cx.files.counts.rates += 1;
            }
            Kind::SetAside(_) => panic!("no log here loses entries that somebody has seen"),
            Kind::ReportBlocks(ask) => self.report_from(cx, &ask),
            Kind::StopReceiver(stop) => self.stop_receiver(cx, &stop),
            Kind::ReplicateTo(to) => self.replicate_to(cx, &to),
            Kind::BlockLogged(logged) => self.block_logged(cx, &logged),
            Kind::RunTasks(run) => run.tasks.into_iter().for_each(|task| self.start_task(cx, task)),
            Kind::CancelTasks(cancel) => {
                if let Some(job) = self.jobs.get_mut(&cancel.job) {
                    cancel.task_ids.iter().for_each(|task| drop(job.tasks.remove(task)));
                }
            }
            Kind::CopyBlock(copy) => {
                let Some((job, block)) = Block::read(copy.block.as_ref()) else { return };
                let wait = cx.net.pick(1_000..20_000);
                cx.net.timer(cx.proc, wait, Timer::Copy { job, block, holders: copy.holders });
            }
            Kind::DropBlocks(drop) => {
                self.drop_blocks(cx, &drop.blocks);
                drop.unlogged.iter().for_each(|unlogged| self.drop_unlogged(cx, unlogged));
            }
            Kind::BatchComplete(done) => {
                if let Some(job) = self.jobs.get_mut(&done.job) {
                    job.pieces.retain(|(batch, _, _), _| *batch != done.batch);
                    if cx.specs[job.spec].shape.stateful().next().is_none() {
                        job.told.settle(done.batch);
                    }
                }
            }
            Kind::ReloadedTable(message) => {
                if let Some(job) = self.jobs.get_mut(&message.job) {
                    job.told.reloaded(&message);
                }
            }
            Kind::ImportedModel(message) => {
                if let Some(job) = self.jobs.get_mut(&message.job) {
                    job.told.imported(&message);
                }
            }
            Kind::WriteCheckpoint(write) => self.write_owned(cx, write.job, write.version),
            Kind::RetainCheckpoints(keep) => {
                if let (Some(job), Some(oldest)) = (self.jobs.get_mut(&keep.job), keep.versions.iter().min()) {
                    job.told.settle(*oldest);
                }
                cx.disk.checkpoints.retain(|(job, version, _), _| *job != keep.job || keep.versions.contains(version));
            }
            Kind::RestoreState(restore) => self.restore(cx, &restore),
        }
    }

    fn start_job(&mut self, cx: &mut Cx<'_>, start: &pb::StartJob) {
        if self.jobs.contains_key(&start.job) {
            return;
        }
        if cx.refuses {
            cx.files.counts.refusals += 1;
            let refusal = pb::JobRefused { job: start.job, reason: "another plan".into() };
            self.report(cx, worker_message::Kind::JobRefused(refusal));
            return;
        }
        let (job, spec, number) = (start.job, start.definition.parse().unwrap(), self.number());
        self.preparing = Some(Preparing { number, job, spec, waiting: VecDeque::new() });
        let wait = cx.net.pick(0..cx.knobs.preparing_us);
        cx.net.timer(cx.proc, wait, Timer::Prepared { number });
    }

    /// The plan is made: takes what the driver said meanwhile, up to the next job.
    fn prepared(&mut self, cx: &mut Cx<'_>) {
        let Some(Preparing { job, spec, mut waiting, .. }) = self.preparing.take() else { return };
        self.jobs.insert(job, HeldJob { spec, ..HeldJob::default() });
        while let Some(message) = waiting.pop_front() {
            self.on_message(cx, message);
            if let Some(next) = &mut self.preparing {
                next.waiting = waiting;
                return;
            }
        }
    }

    /// Takes a timer that concerns this process alone.
    pub(crate) fn on_timer(&mut self, cx: &mut Cx<'_>, timer: Timer) {
        match timer {
            Timer::Heartbeat(session) if self.session == Some(session) => {
                let receivers = self.receivers().into_iter();
                let status = |(receiver, _)| pb::ReceiverStatus { receiver: Some(receiver), ..Default::default() };
                let (receivers, sequence) = (receivers.map(status).collect(), self.number());
                let beat = pb::Heartbeat { sequence, receivers, ..pb::Heartbeat::default() };
                self.report(cx, worker_message::Kind::Heartbeat(beat));
                cx.net.timer(cx.proc, 200_000, Timer::Heartbeat(session));
            }
            Timer::Seal { job, key, epoch } => self.seal(cx, job, key, epoch),
            Timer::RetryBlocks { job, key, epoch } => self.send_blocks(cx, job, key, epoch),
            Timer::Compute { job, task } => self.compute(cx, job, task),
            Timer::Link { job, follower, request } => self.retry_link(cx, job, follower, request),
            Timer::Checkpoint { job, write } => self.checkpoint_written(cx, job, write),
            Timer::Prepared { number } => {
                if self.preparing.as_ref().is_some_and(|preparing| preparing.number == number) {
                    self.prepared(cx);
                }
            }
            Timer::Connect | Timer::Heartbeat(_) | Timer::Fetch { .. } | Timer::Copy { .. } => {}
        }
    }

    /// Answers another worker; a caller that is no member gets no answer.
    pub(crate) fn on_peer(&mut self, cx: &mut Cx<'_>, from: Proc, from_id: u64, message: PeerMessage) {
        let (Some(me), true) = (self.id, self.members.contains(&from_id)) else { return };
        match message {
            PeerMessage::PutBlock { job, block } => {
                let ok = self.jobs.contains_key(&job);
                if ok {
                    self.put_block(cx, job, block);
                }
                cx.net.reply(from, PeerReply::PutBlock { job, block, peer: me, ok });
            }
            PeerMessage::Follow { job, request, entries } => {
                let result = match self.jobs.contains_key(&job) {
                    true => self.follow(cx, job, entries),
                    false => {
                        cx.files.counts.unknown_jobs += 1;
                        FollowResult::NotNow
                    }
                };
                cx.net.reply(from, PeerReply::Follow { job, peer: me, request, result });
            }
        }
    }

    pub(crate) fn on_reply(&mut self, cx: &mut Cx<'_>, reply: PeerReply) {
        match reply {
            PeerReply::PutBlock { job, block, peer, ok } if ok => self.block_put(cx, job, block, peer),
            PeerReply::PutBlock { .. } => {}
            PeerReply::Follow { job, peer, request, result } => self.followed(cx, job, peer, request, result),
        }
    }
}

fn held_blocks(blocks: &BTreeMap<u64, BTreeSet<Block>>) -> Vec<pb::HeldBlocks> {
    let held = |(job, blocks): (&u64, &BTreeSet<Block>)| pb::HeldBlocks {
        blocks: blocks.iter().map(|block| block.reference(*job)).collect(),
    };
    blocks.iter().map(held).collect()
}
