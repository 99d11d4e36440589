//! Planning a batch at 1,000 workers: 10,000 blocks to map, 1,024 key groups to reduce.
//!
//! `freeze and maps` is the turn at the tick: freeze, place and send all map tasks. `reduces` is the turn
//! of the last map report, which places and sends all reduce tasks. The aim is under 10 ms for each.

use criterion::{Criterion, criterion_group, criterion_main};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemill_common::ids::{ExchangeId, JobId, OutputIdx, SourceIdx};
use tidemill_connect::Delivery;
use tidemill_driver::core::topology::{OutputKind, OutputShape, SourceShape, StageShape, Topology};
use tidemill_driver::core::{Action, Compiled, Core, CoreConfig, Event, NewJob, Now, RequestId, SessionId};
use tidemill_driver::record::{Durable, DurableJob};
use tidemill_job::Settings;
use tidemill_plan::{Placement, Rhythm};
use tidemill_proto::PROTOCOL_VERSION;
use tidemill_proto::common::{BlockRef, ReceiverRef};
use tidemill_proto::control::{self as pb, driver_message, worker_message};

const WORKERS: u64 = 1_000;
const BLOCKS: u64 = 10_000;
const KEY_GROUPS: u32 = 1_024;

struct Cluster {
    core: Core,
    now: Now,
    offset: u64,
    epoch: u64,
    /// Session of the receiver's worker.
    receiver: SessionId,
}

impl Cluster {
    fn start() -> Self {
        let now = Now { mono_us: 1, wall_ms: 1_000 };
        let config = CoreConfig { manual_clock: true, ..CoreConfig::default() };
        let (core, _) = Core::start(config, Durable::default(), BTreeMap::new(), "bench", now);
        let mut cluster = Self { core, now, offset: 0, epoch: 0, receiver: SessionId(0) };
        for session in 1..=WORKERS {
            let hello = pb::Hello {
                protocol_version: PROTOCOL_VERSION,
                data_address: format!("10.0.0.1:{session}"),
                slots: 2,
                ..pb::Hello::default()
            };
            cluster.event(Event::Connected { session: SessionId(session), hello: Box::new(hello) });
        }
        let job =
            NewJob { durable: DurableJob { name: "bench".into(), ..DurableJob::default() }, compiled: compiled() };
        let actions = cluster.event(Event::Submit { request: RequestId(1), job: Box::new(job) });
        for (session, message) in sends(actions) {
            if let driver_message::Kind::StartReceiver(start) = message {
                cluster.epoch = start.epoch;
                cluster.receiver = session;
            }
        }
        cluster
    }

    fn event(&mut self, event: Event) -> Vec<Action> {
        self.now.mono_us += 1;
        self.core.on_event(self.now, event)
    }

    /// Blocks on two workers each, spread over all.
    fn receive(&mut self) {
        for number in 0..BLOCKS {
            let receiver = Some(ReceiverRef { job: 1, source: 0, receiver: 0 });
            let block = BlockRef { receiver, epoch: self.epoch, first_offset: self.offset, records: 100, bytes: 3_000 };
            self.offset += 100;
            let holders = vec![number % WORKERS + 1, (number + 7) % WORKERS + 1];
            let message = worker_message::Kind::BlockReceived(pb::BlockReceived {
                block: Some(block),
                holders,
                ..Default::default()
            });
            self.event(Event::Message { session: self.receiver, message });
        }
    }

    /// Runs one batch; gives back how long the two planning turns took.
    fn batch(&mut self) -> (Duration, Duration) {
        self.receive();
        self.now.wall_ms += 1_000;
        let started = Instant::now();
        let time_ms = self.now.wall_ms;
        let actions = black_box(self.event(Event::ManualTick { job: JobId(1), time_ms }));
        let maps = started.elapsed();
        let mut reduces = Duration::ZERO;
        let mut waiting: Vec<(SessionId, pb::Task)> = tasks(actions);
        assert!(waiting.len() as u64 >= WORKERS / 2, "the maps are spread");
        while let Some((session, task)) = waiting.pop() {
            let last_map = !task.splits.is_empty() && !waiting.iter().any(|(_, task)| !task.splits.is_empty());
            let report = pb::TaskReport {
                task_id: task.task_id,
                job: task.job,
                batch: task.batch,
                stage: task.stage,
                result: Some(pb::task_report::Result::Done(pb::TaskDone::default())),
            };
            let started = Instant::now();
            let actions =
                black_box(self.event(Event::Message { session, message: worker_message::Kind::TaskReport(report) }));
            if last_map {
                reduces = started.elapsed();
            }
            waiting.extend(tasks(actions));
        }
        (maps, reduces)
    }
}

fn compiled() -> Compiled {
    let settings = Settings { key_groups: KEY_GROUPS, ..Settings::with_batch_interval(Duration::from_secs(1)) };
    let map = StageShape {
        placement: Placement::Splits,
        source: Some(SourceIdx(0)),
        inputs: Vec::new(),
        stateful: false,
        input: Rhythm::EveryBatch,
        rhythm: Rhythm::EveryBatch,
        consumers: vec![1],
        outputs: Vec::new(),
        models: Vec::new(),
    };
    let reduce = StageShape {
        placement: Placement::KeyGroups,
        source: None,
        inputs: vec![ExchangeId(0)],
        stateful: false,
        input: Rhythm::EveryBatch,
        rhythm: Rhythm::EveryBatch,
        consumers: Vec::new(),
        outputs: vec![OutputIdx(0)],
        models: Vec::new(),
    };
    let topology = Topology {
        tables: Vec::new(),
        models: Vec::new(),
        stages: vec![map, reduce],
        exchange_from: vec![0],
        key_groups: KEY_GROUPS,
        sources: vec![SourceShape {
            name: "in".into(),
            receivers: 1,
            one_block_per_batch: false,
            delivery: Delivery::ExactlyOnce,
            max_rate: None,
            max_bad_records: None,
        }],
        outputs: vec![OutputShape {
            name: "out".into(),
            kind: OutputKind::Rows { limit: Some(10), shown: Some(10) },
            rhythm: Rhythm::EveryBatch,
        }],
    };
    Compiled { settings, topology: Arc::new(topology), fingerprint: 0, functions: Vec::new() }
}

fn sends(actions: Vec<Action>) -> Vec<(SessionId, driver_message::Kind)> {
    let send = |action| match action {
        Action::Send { session, message } => Some((session, message)),
        _ => None,
    };
    actions.into_iter().filter_map(send).collect()
}

fn tasks(actions: Vec<Action>) -> Vec<(SessionId, pb::Task)> {
    let mut found = Vec::new();
    for (session, message) in sends(actions) {
        if let driver_message::Kind::RunTasks(run) = message {
            found.extend(run.tasks.into_iter().map(|task| (session, task)));
        }
    }
    found
}

fn planning(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("1,000 workers");
    group.sample_size(10);
    let mut cluster = Cluster::start();
    group.bench_function("freeze and maps", |bencher| {
        bencher.iter_custom(|iterations| (0..iterations).map(|_| cluster.batch().0).sum());
    });
    group.bench_function("reduces", |bencher| {
        bencher.iter_custom(|iterations| (0..iterations).map(|_| cluster.batch().1).sum());
    });
    group.finish();
}

criterion_group!(benches, planning);
criterion_main!(benches);
