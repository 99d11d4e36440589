//! Single rules of the driver's core, each for itself, by its public face.

mod batches;
mod checkpoints;
mod forged;
mod groups;
mod lost_log;
mod models;
mod rates;
mod receivers;
mod tables;
mod workers;

use std::sync::Arc;
use std::time::Duration;
use tidemill_common::ids::{ExchangeId, OutputIdx, SourceIdx};
use tidemill_connect::Delivery;
use tidemill_driver::Publication;
use tidemill_driver::core::topology::{OutputKind, OutputShape, SourceShape, StageShape, Topology};
use tidemill_driver::core::{Action, Compiled, Core, CoreConfig, Event, NewJob, Now, RequestId, SessionId};
use tidemill_driver::record::{Durable, DurableJob, Ending, JobRecord, Record};
use tidemill_job::Settings;
use tidemill_plan::{Placement, Rhythm};
use tidemill_proto::PROTOCOL_VERSION;
use tidemill_proto::common::{BlockRef, ReceiverRef};
use tidemill_proto::control::{self as pb, driver_message, task_report, worker_message};

/// A frozen batch: number, time, blocks of each receiver.
type Frozen = (u64, i64, Vec<(u32, u32)>);
type Sent = Vec<(SessionId, driver_message::Kind)>;

/// A core with a clock; what it logged, and what it sent and nobody has looked at.
struct Driver {
    core: Core,
    now_us: u64,
    /// What was added to the clock that tells the time of day.
    clock_set_ms: i64,
    log: Vec<Record>,
    sent: Sent,
    published: Vec<Publication>,
}

impl Driver {
    fn start(durable: Durable, now_us: u64) -> Self {
        Self::start_with(durable, now_us, |_| {})
    }

    /// With jobs that are otherwise.
    fn start_with(durable: Durable, now_us: u64, change: impl Fn(&mut Compiled)) -> Self {
        let now = Now { mono_us: now_us, wall_ms: (now_us / 1000) as i64 };
        let compiled = durable.jobs.values().map(|job| {
            let mut compiled = compiled(job.stateful);
            change(&mut compiled);
            (job.id, compiled)
        });
        let compiled = compiled.collect();
        let (core, actions) = Core::start(CoreConfig::default(), durable, compiled, "c", now);
        let mut driver =
            Self { core, now_us, clock_set_ms: 0, log: Vec::new(), sent: Vec::new(), published: Vec::new() };
        driver.carry_out(actions);
        driver
    }

    fn now(&self) -> Now {
        Now { mono_us: self.now_us, wall_ms: (self.now_us / 1000) as i64 + self.clock_set_ms }
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Log(record) => self.log.push(record),
                Action::Send { session, message } => self.sent.push((session, message)),
                Action::PublishModels(publication) => self.published.push(publication),
                _ => {}
            }
        }
    }

    fn event(&mut self, event: Event) {
        let actions = self.core.on_event(self.now(), event);
        self.carry_out(actions);
    }

    /// Lets time pass as the shell does, with a turn every 50 ms.
    fn pass(&mut self, time: Duration) {
        let until = self.now_us + time.as_micros() as u64;
        while self.now_us < until {
            self.now_us = (self.now_us + 50_000).min(until);
            self.event(Event::Tick);
        }
    }

    fn join(&mut self, session: u64, resume: Option<u64>) {
        let resume = resume.map(|worker_id| pb::Resume { worker_id, ..pb::Resume::default() });
        let hello = pb::Hello { protocol_version: PROTOCOL_VERSION, slots: 1, resume, ..pb::Hello::default() };
        self.event(Event::Connected { session: SessionId(session), hello: Box::new(hello) });
    }

    fn says(&mut self, session: u64, message: worker_message::Kind) {
        self.event(Event::Message { session: SessionId(session), message });
    }

    fn submit(&mut self, compiled: Compiled) {
        let durable = DurableJob { name: "j".into(), stateful: compiled.topology.stateful(), ..DurableJob::default() };
        self.event(Event::Submit { request: RequestId(1), job: Box::new(NewJob { durable, compiled }) });
    }

    fn block(&mut self, session: u64, receiver: u32, first_offset: u64, bytes: u64) {
        self.block_with(session, receiver, first_offset, 1, bytes);
    }

    fn block_with(&mut self, session: u64, receiver: u32, first_offset: u64, records: u64, bytes: u64) {
        let receiver = Some(ReceiverRef { job: 1, source: 0, receiver });
        let block = Some(BlockRef { receiver, epoch: 1, first_offset, records, bytes });
        let message = pb::BlockReceived { block, holders: vec![session], ..Default::default() };
        self.says(session, worker_message::Kind::BlockReceived(message));
    }

    /// What was sent since the last look.
    fn take(&mut self) -> Sent {
        std::mem::take(&mut self.sent)
    }

    /// Answers every request to restore state.
    fn restore_all(&mut self) {
        for (session, message) in self.take() {
            if let driver_message::Kind::RestoreState(restore) = message {
                let (job, version, groups) = (restore.job, restore.version, restore.groups);
                let answer = pb::StateRestored { job, version, groups, failed: Vec::new() };
                self.says(session.0, worker_message::Kind::StateRestored(answer));
            }
        }
    }

    fn tasks(&mut self) -> Vec<(SessionId, pb::Task)> {
        let tasks = |(session, message)| match message {
            driver_message::Kind::RunTasks(run) => run.tasks.into_iter().map(|task| (session, task)).collect(),
            _ => Vec::new(),
        };
        self.take().into_iter().flat_map(tasks).collect()
    }

    fn report(&mut self, session: SessionId, task: &pb::Task, result: task_report::Result) {
        let (task_id, job, batch, stage) = (task.task_id, task.job, task.batch, task.stage);
        let report = pb::TaskReport { task_id, job, batch, stage, result: Some(result) };
        self.says(session.0, worker_message::Kind::TaskReport(report));
    }

    /// Reports every task as done until none is left.
    fn run_all(&mut self) {
        loop {
            let tasks = self.tasks();
            if tasks.is_empty() {
                return;
            }
            for (session, task) in tasks {
                self.report(session, &task, task_report::Result::Done(pb::TaskDone::default()));
            }
        }
    }

    fn of_job(&self) -> impl Iterator<Item = &JobRecord> {
        self.log.iter().filter_map(|record| match record {
            Record::Job(_, record) => Some(record),
            _ => None,
        })
    }

    fn frozen(&self) -> Vec<Frozen> {
        let frozen = |record: &JobRecord| match record {
            JobRecord::Frozen { batch, time_ms, counts } => {
                Some((batch.0, *time_ms, counts.iter().map(|(key, count)| (key.receiver, *count)).collect()))
            }
            _ => None,
        };
        self.of_job().filter_map(frozen).collect()
    }

    fn failure(&self) -> Option<String> {
        self.of_job().find_map(|record| match record {
            JobRecord::Ended(Ending::Failed(reason)) => Some(reason.clone()),
            _ => None,
        })
    }
}

/// One source with two receivers, and state in two key groups unless it is stateless.
fn compiled(stateful: bool) -> Compiled {
    let mut stages = vec![StageShape {
        placement: Placement::Splits,
        source: Some(SourceIdx(0)),
        inputs: Vec::new(),
        stateful: false,
        input: Rhythm::EveryBatch,
        rhythm: Rhythm::EveryBatch,
        consumers: Vec::new(),
        outputs: vec![OutputIdx(0)],
        models: Vec::new(),
    }];
    if stateful {
        stages[0].consumers.push(1);
        stages.push(StageShape {
            placement: Placement::KeyGroups,
            source: None,
            inputs: vec![ExchangeId(0)],
            stateful: true,
            ..stages[0].clone()
        });
        stages[1].consumers.clear();
    }
    let topology = Topology {
        models: Vec::new(),
        tables: Vec::new(),
        stages,
        exchange_from: if stateful { vec![0] } else { Vec::new() },
        key_groups: 2,
        sources: vec![SourceShape {
            name: "s".into(),
            receivers: 2,
            one_block_per_batch: false,
            delivery: Delivery::ExactlyOnce,
            max_rate: None,
            max_bad_records: None,
        }],
        outputs: vec![OutputShape {
            name: "o".into(),
            kind: OutputKind::Rows { limit: None, shown: None },
            rhythm: Rhythm::EveryBatch,
        }],
    };
    let settings = Settings { replication: 1, ..Settings::with_batch_interval(Duration::from_millis(100)) };
    Compiled { settings, topology: Arc::new(topology), fingerprint: 1, functions: Vec::new() }
}

/// A driver with one worker (session and id 1) and a running job.
fn running(stateful: bool) -> Driver {
    let mut driver = Driver::start(Durable::default(), 1_000_000);
    driver.join(1, None);
    driver.submit(compiled(stateful));
    driver.restore_all();
    driver
}
