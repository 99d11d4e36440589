//! Decoders of this crate, for tests that give them any bytes: each function panics when its decoder does not do as it should.

use crate::core::{Action, Compiled, Core, CoreConfig, Event, NewJob, Now, RequestId, SessionId};
use crate::http::predict;
use crate::log::Damage;
use crate::log::segment::read_segment;
use crate::models::store;
use crate::record::{Durable, Record};
use crate::submit;
use prost::Message;
use serde_json::json;
use std::path::Path;
use std::sync::LazyLock;
use tidemill_common::fuzz::{sealed, sealed_records};
use tidemill_ml::ndarray::{Array1, Array2};
use tidemill_ml::{Model, Rows};
use tidemill_plan::Functions;
use tidemill_proto::PROTOCOL_VERSION;
use tidemill_proto::client::SubmitRequest;
use tidemill_proto::control::{self as pb, driver_message, worker_message};

/// Messages of a session that are read.
const MESSAGES: usize = 20;

/// The job that runs.
const DEFINITION: &str = r#"
name = "j"
batch_interval = "100ms"
key_groups = 2
replication = 1

[source.purchases]
connector = "socket"
address = "127.0.0.1:1"
format = "csv"
columns = { user = "string", price = "double" }

[stream.revenue]
from = "purchases"

[stream.revenue.update_state_by_key]
key = "user"
state.revenue = "coalesce(state.revenue, 0.0) + coalesce(sum(price), 0.0)"

[[output]]
from = "revenue"
print = { rows = 10 }
"#;

static JOB: LazyLock<NewJob> = LazyLock::new(|| {
    let request = SubmitRequest { definition: DEFINITION.into(), file_name: "fuzz.toml".into(), ..Default::default() };
    submit::compile(request, &Functions::default()).expect("the definition is good")
});

/// Reads a segment of the log, also one whose checksums are right, and starts a driver on what it says.
pub fn log(bytes: &[u8]) {
    for bytes in [bytes, &sealed(bytes, *b"dlog", 2), &sealed(bytes, *b"dlog", 3), &sealed_records(bytes)] {
        let path = Path::new("log");
        let Ok(read) = read_segment(path, bytes) else { continue };
        if read.fault.is_some() {
            let damage = Damage::of(path, bytes, read.fault);
            assert!(damage.offset <= bytes.len() as u64);
        }
        if let Some(durable) = read.durable {
            check_encoding(&durable);
            drop(Driver::start(durable));
        }
    }
}

fn check_encoding(durable: &Durable) {
    let encoded = postcard::to_stdvec(durable).expect("what the log says can be written");
    let again = postcard::from_bytes::<Durable>(&encoded).expect("what is written reads");
    assert_eq!(&again, durable);
}

/// Reads the file of a published model.
pub fn published(bytes: &[u8]) {
    for bytes in [bytes, &sealed(bytes, *b"modl", 1)] {
        if let Ok(content) = store::decode(bytes) {
            let _ = Model::from_bytes(&content.bytes);
        }
    }
}

static MODELS: LazyLock<Vec<Model>> = LazyLock::new(|| {
    let specs = [
        json!({ "kind": "linear_regression" }),
        json!({ "kind": "softmax", "classes": 3 }),
        json!({ "kind": "kmeans", "k": 2 }),
        json!({ "kind": "standard_scaler" }),
        json!({ "kind": "ucb1", "arms": ["a", "b"] }),
        json!({ "kind": "lin_ucb", "arms": ["a", "b"] }),
    ];
    let mut models: Vec<Model> = specs
        .into_iter()
        .map(|spec| Model::new(serde_json::from_value(spec).expect("a good definition")).expect("a good definition"))
        .collect();
    for model in &mut models {
        let x = Array2::from_shape_fn((4, 2), |(row, column)| (row % 2 + column) as f64);
        let y = Array1::from_vec(vec![0.0, 1.0, 0.0, 1.0]);
        let _ = model.train(&[Rows { x: x.view(), y: Some(y.view()), weight: None }]);
    }
    models.push(
        Model::new(serde_json::from_value(json!({ "kind": "one_hot" })).expect("a good definition"))
            .expect("a good definition"),
    );
    models
});

/// Reads the body of a request for predictions.
pub fn predict(bytes: &[u8]) {
    for model in MODELS.iter() {
        match predict::answer(model, bytes) {
            Ok(answers) => assert!(!answers.is_empty()),
            Err(wrong) => assert!(!wrong.is_empty()),
        }
    }
}

/// Reads what a worker says, message by message, and lets a driver take it that has a job with state and a worker. Then a driver
/// starts on what that one has logged.
pub fn session(bytes: &[u8]) {
    let driver = Driver::told(bytes);
    let mut durable = Durable::default();
    driver.log.iter().for_each(|record| durable.apply(record));
    assert_eq!(durable, driver.core.durable());
    check_encoding(&durable);
    drop(Driver::start(durable));
}

/// A core with a clock, what it logged, and what it sent and nobody has looked at.
struct Driver {
    core: Core,
    now_us: u64,
    log: Vec<Record>,
    sent: Vec<driver_message::Kind>,
    /// So many sessions were opened.
    sessions: u64,
}

impl Driver {
    fn start(durable: Durable) -> Self {
        let now = Now { mono_us: 1_000_000, wall_ms: 1_000 };
        let compiled: Compiled = JOB.compiled.clone();
        let jobs = durable.jobs.keys().map(|id| (*id, compiled.clone())).collect();
        let (core, actions) = Core::start(CoreConfig::default(), durable, jobs, "c", now);
        let mut driver = Self { core, now_us: now.mono_us, log: Vec::new(), sent: Vec::new(), sessions: 0 };
        driver.carry_out(actions);
        // Longer than it waits for workers that it knew.
        (0..20).for_each(|_| driver.pass());
        driver
    }

    /// One that has a job and a worker, which says this.
    fn told(bytes: &[u8]) -> Self {
        let mut driver = Driver::start(Durable::default());
        driver.connect(pb::Hello { protocol_version: PROTOCOL_VERSION, slots: 1, ..Default::default() });
        let job = Box::new(JOB.clone());
        driver.event(Event::Submit { request: RequestId(1), job });
        driver.restore();
        let mut rest = bytes;
        for _ in 0..MESSAGES {
            let Ok(message) = pb::WorkerMessage::decode_length_delimited(&mut rest) else { break };
            match message.kind {
                Some(worker_message::Kind::Hello(hello)) => driver.connect(hello),
                Some(message) => driver.event(Event::Message { session: SessionId(driver.sessions), message }),
                None => {}
            }
            driver.pass();
        }
        driver.pass();
        driver
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Log(record) => self.log.push(record),
                Action::Send { message, .. } => self.sent.push(message),
                _ => {}
            }
        }
    }

    fn event(&mut self, event: Event) {
        let now = Now { mono_us: self.now_us, wall_ms: (self.now_us / 1000) as i64 };
        let actions = self.core.on_event(now, event);
        self.carry_out(actions);
    }

    fn connect(&mut self, hello: pb::Hello) {
        self.sessions += 1;
        self.event(Event::Connected { session: SessionId(self.sessions), hello: Box::new(hello) });
    }

    fn pass(&mut self) {
        self.now_us += 100_000;
        self.event(Event::Tick);
    }

    /// Answers what asks for state to be restored.
    fn restore(&mut self) {
        for message in std::mem::take(&mut self.sent) {
            if let driver_message::Kind::RestoreState(restore) = message {
                let (job, version, groups) = (restore.job, restore.version, restore.groups);
                let restored = pb::StateRestored { job, version, groups, failed: Vec::new() };
                let message = worker_message::Kind::StateRestored(restored);
                self.event(Event::Message { session: SessionId(self.sessions), message });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BlockKey, BlockMeta, JobRecord, ReceiverKey, Totals};
    use tidemill_common::frame::{file_header, push};
    use tidemill_common::ids::{BatchId, JobId, SourceIdx, Term, WorkerId};
    use tidemill_common::positions::PositionChange;
    use tidemill_common::testkit::{Decoder, has_target};
    use tidemill_proto::common::{BlockRef, ReceiverRef};

    fn run(name: &str, decode: fn(&[u8]), seeds: Vec<Vec<u8>>, one_in: u32) {
        let peak = |run: &mut dyn FnMut()| allocation_counter::measure(run).bytes_max;
        assert!(has_target("tidemill_driver", name));
        Decoder { name, decode, seeds, most_bytes: 16 << 20, one_in, peak }.run();
    }

    fn records() -> Vec<Record> {
        let receiver = ReceiverKey { source: SourceIdx(0), receiver: 0 };
        let block =
            |first_offset| BlockMeta { key: BlockKey { receiver, first_offset }, epoch: 1, records: 2, bytes: 10 };
        let change = PositionChange { name: "f".into(), to: Some(vec![1]) };
        let submitted = crate::record::DurableJob { id: JobId(1), ..JOB.durable.clone() };
        let of_job = [
            JobRecord::Receiver { key: receiver, epoch: 1 },
            JobRecord::Block(block(0), vec![change]),
            JobRecord::Positions(receiver, vec![PositionChange { name: "f".into(), to: None }]),
            JobRecord::Block(block(2), Vec::new()),
            JobRecord::Frozen { batch: BatchId(1), time_ms: 1100, counts: vec![(receiver, 1)] },
            JobRecord::Completed { batch: BatchId(1), totals: Totals::default() },
            JobRecord::Checkpoint(BatchId(1)),
            JobRecord::Frozen { batch: BatchId(2), time_ms: 1200, counts: vec![(receiver, 1)] },
        ];
        let first = [
            Record::Cluster { id: "c".into() },
            Record::Started { term: Term(1) },
            Record::WorkerJoined(WorkerId(1)),
            Record::Submitted(Box::new(submitted)),
        ];
        first.into_iter().chain(of_job.map(|record| Record::Job(JobId(1), record))).collect()
    }

    fn segment(durable: &Durable, records: &[Record]) -> Vec<u8> {
        let mut bytes = file_header(*b"dlog", 2).to_vec();
        push(&mut bytes, 1, &postcard::to_stdvec(durable).unwrap());
        records.iter().for_each(|record| assert!(push(&mut bytes, 2, &postcard::to_stdvec(record).unwrap())));
        bytes
    }

    #[test]
    fn log() {
        let mut durable = Durable::default();
        records().iter().for_each(|record| durable.apply(record));
        let stored = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/logs"));
        let mut seeds = vec![segment(&Durable::default(), &records()), segment(&durable, &[])];
        seeds.extend([1, 2, 3].map(|version| std::fs::read(stored.join(format!("version-{version}"))).unwrap()));
        run("log", super::log, seeds, 4);
    }

    #[test]
    fn published() {
        let mut file = file_header(*b"modl", 1).to_vec();
        let content = (JobId(1), BatchId(2), 3_i64, MODELS[0].to_bytes());
        let body = postcard::to_stdvec(&content).unwrap();
        assert!(push(&mut file, 1, &body));
        assert!(store::decode(&file).is_ok());
        run("published", super::published, vec![file, body], 1);
    }

    #[test]
    fn predict() {
        let bodies = [
            r#"{"features": [1.0, 2.0]}"#,
            r#"{"features": [[1.0, 2.0], [3, null]]}"#,
            r#"{"features": [["red", 1], ["blue", null]]}"#,
            r#"{"id": 17, "features": [1.0]}"#,
            r#"{"id": ["a", "b"], "features": [[1.0, 2.0], [3.0, 4.0]]}"#,
        ];
        run("predict", super::predict, bodies.map(|body| body.as_bytes().to_vec()).to_vec(), 1);
    }

    #[test]
    fn session() {
        let receiver = Some(ReceiverRef { job: 1, source: 0, receiver: 0 });
        let block = Some(BlockRef { receiver, epoch: 1, first_offset: 0, records: 2, bytes: 10 });
        let done = pb::task_report::Result::Done(pb::TaskDone { records: 2, ..Default::default() });
        let failure = pb::TaskFailure { kind: 1, lost_worker: 1, message: "m".into() };
        let report = |task_id, stage, result| {
            worker_message::Kind::TaskReport(pb::TaskReport { task_id, job: 1, batch: 1, stage, result: Some(result) })
        };
        let resume = pb::Resume {
            worker_id: 1,
            blocks: vec![pb::HeldBlocks { blocks: block.into_iter().collect() }],
            receivers: vec![pb::RunningReceiver { receiver, epoch: 1 }],
            jobs: vec![1],
            progress: vec![pb::Progress { job: 1, completed: 1 }],
            ..Default::default()
        };
        let hello = pb::Hello {
            protocol_version: PROTOCOL_VERSION,
            slots: 2,
            checkpoints: vec![pb::HeldState { job: 1, version: 1, groups: vec![0, 1] }],
            ..Default::default()
        };
        let messages = [
            worker_message::Kind::BlockReceived(pb::BlockReceived { block, holders: vec![1], changes: Vec::new() }),
            worker_message::Kind::BlockCopied(pb::BlockCopied { block, ok: true }),
            report(1 << 32, 0, pb::task_report::Result::Failure(failure)),
            worker_message::Kind::ReceiverReport(pb::ReceiverReport { receiver, epoch: 1, ..Default::default() }),
            worker_message::Kind::StateReplicated(pb::StateReplicated {
                job: 1,
                follower: 1,
                version: 1,
                groups: vec![0],
            }),
            worker_message::Kind::CheckpointWritten(pb::CheckpointWritten { job: 1, version: 1, groups: vec![0, 1] }),
            worker_message::Kind::StateRestored(pb::StateRestored {
                job: 1,
                version: 0,
                groups: vec![0],
                failed: vec![1],
            }),
            worker_message::Kind::PositionsChanged(pb::PositionsChanged { receiver, epoch: 1, ..Default::default() }),
            worker_message::Kind::Heartbeat(pb::Heartbeat::default()),
            worker_message::Kind::Hello(hello.clone()),
            worker_message::Kind::Hello(pb::Hello { resume: Some(resume), ..hello }),
        ];
        let encoded = |kind: &worker_message::Kind| {
            pb::WorkerMessage { kind: Some(kind.clone()) }.encode_length_delimited_to_vec()
        };
        let mut seeds: Vec<Vec<u8>> = messages.iter().map(encoded).collect();
        seeds.push(seeds.concat());
        // A batch from its block to its end.
        let mut batch = seeds[0].clone();
        loop {
            let mut driver = Driver::told(&batch);
            if driver.log.iter().any(|record| matches!(record, Record::Job(_, JobRecord::Completed { .. }))) {
                break;
            }
            let reported = batch.len();
            for message in std::mem::take(&mut driver.sent) {
                if let driver_message::Kind::RunTasks(run) = message {
                    let reports = run.tasks.iter().map(|task| report(task.task_id, task.stage, done.clone()));
                    batch.extend(reports.flat_map(|report| encoded(&report)));
                }
            }
            assert!(batch.len() > reported && batch.len() < 10_000);
        }
        seeds.push(batch);
        run("session", super::session, seeds, 4);
    }
}
