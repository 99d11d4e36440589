//! Single rules of the driver's core, each for itself, by its public face.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tidemill_common::ids::{BatchId, ExchangeId, JobId, OutputIdx, SourceIdx, WorkerId};
use tidemill_common::job::{Backpressure, Settings};
use tidemill_common::location::Location;
use tidemill_driver::Publication;
use tidemill_driver::core::topology::{
    AskedShape, ModelShape, OutputKind, OutputShape, SourceShape, StageShape, TableShape, Topology,
};
use tidemill_driver::core::{Action, Compiled, Core, CoreConfig, Event, NewJob, NewModel, Now, RequestId, SessionId};
use tidemill_driver::record::{Durable, DurableJob, Ending, JobRecord, Record, TableContent};
use tidemill_ml::ModelSpec;
use tidemill_plan::{FunctionKind, FunctionRef, Placement, Rhythm};
use tidemill_proto::PROTOCOL_VERSION;
use tidemill_proto::common::{BlockRef, Function, ReceiverRef};
use tidemill_proto::control::{self as pb, FailureKind, driver_message, task_report, worker_message};

/// A frozen batch: number, time, blocks of each receiver.
type Frozen = (u64, i64, Vec<(u32, u32)>);
type Sent = Vec<(SessionId, driver_message::Kind)>;

/// A core with a clock; what it logged, and what it sent and nobody has looked at.
struct Driver {
    core: Core,
    now_us: u64,
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
        let mut driver = Self { core, now_us, log: Vec::new(), sent: Vec::new(), published: Vec::new() };
        driver.carry_out(actions);
        driver
    }

    fn now(&self) -> Now {
        Now { mono_us: self.now_us, wall_ms: (self.now_us / 1000) as i64 }
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
        let message = pb::BlockReceived { block, holders: vec![session] };
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
        sources: vec![SourceShape { name: "s".into(), receivers: 2, one_block_per_batch: false, max_rate: None }],
        outputs: vec![OutputShape {
            name: "o".into(),
            kind: OutputKind::Rows { limit: None },
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

fn lost(driver: &Driver) -> Vec<WorkerId> {
    let lost = |record: &Record| match record {
        Record::WorkerLost(worker) => Some(*worker),
        _ => None,
    };
    driver.log.iter().filter_map(lost).collect()
}

#[test]
fn without_workers_the_driver_rests() {
    let mut driver = Driver::start(Durable::default(), 1_000_000);
    driver.submit(compiled(true));
    for _ in 0..100 {
        driver.pass(Duration::from_millis(50));
        assert!(driver.core.next_deadline(driver.now()) > driver.now_us);
    }
    assert!(driver.frozen().is_empty());
}

#[test]
fn a_job_with_functions_that_a_worker_does_not_know_is_refused() {
    let mut driver = Driver::start(Durable::default(), 1_000_000);
    let knows = |versions: &[u32]| {
        let function = |version: &u32| Function { kind: "scalar".into(), name: "f".into(), version: *version };
        let functions = versions.iter().map(function).collect();
        Box::new(pb::Hello { protocol_version: PROTOCOL_VERSION, slots: 1, functions, ..pb::Hello::default() })
    };
    driver.event(Event::Connected { session: SessionId(1), hello: knows(&[1]) });
    driver.event(Event::Connected { session: SessionId(2), hello: knows(&[2]) });
    driver.event(Event::Connected { session: SessionId(3), hello: knows(&[]) });
    let durable = DurableJob { name: "j".into(), ..DurableJob::default() };
    let functions = vec![FunctionRef { kind: FunctionKind::Scalar, name: "f".into(), version: 2 }];
    let job = Box::new(NewJob { durable, compiled: Compiled { functions, ..compiled(false) } });
    let actions = driver.core.on_event(driver.now(), Event::Submit { request: RequestId(1), job });
    let refusal = actions.iter().find_map(|action| match action {
        Action::Reply { result: Err(error), .. } => Some(error.to_string()),
        _ => None,
    });
    let refusal = refusal.expect("the job is refused");
    assert!(refusal.contains("worker 1: scalar `f` version 2 is wanted, but version 1 is known there"), "{refusal}");
    assert!(refusal.contains("worker 3: scalar `f` version 2 is not known there"), "{refusal}");
    assert!(!refusal.contains("worker 2"), "{refusal}");
}

#[test]
fn missed_ticks_are_not_invented() {
    let mut driver = running(false);
    driver.pass(Duration::from_millis(100));
    driver.run_all();
    let mut durable = driver.core.durable();
    durable.members.clear();
    let mut driver = Driver::start(durable, 60_000_000);
    driver.join(1, None);
    driver.pass(Duration::from_millis(50));
    assert_eq!(driver.frozen(), [(2, 60_000, vec![])]);
}

#[test]
fn a_late_loop_is_not_the_silence_of_workers() {
    let mut driver = running(false);
    driver.now_us += 20_000_000;
    driver.event(Event::Tick);
    driver.pass(Duration::from_millis(250));
    assert!(lost(&driver).is_empty());
    driver.pass(Duration::from_millis(100));
    assert_eq!(lost(&driver), [WorkerId(1)]);
}

#[test]
fn a_worker_that_connects_again_has_lost_its_old_session() {
    let mut driver = running(false);
    driver.join(2, Some(1));
    assert_eq!(lost(&driver), [WorkerId(1)]);
    assert_eq!(driver.core.members().iter().map(|member| member.id).collect::<Vec<_>>(), [WorkerId(2)]);
}

#[test]
fn a_busy_receiver_does_not_starve_another() {
    let mut driver = Driver::start(Durable::default(), 1_000_000);
    driver.join(1, None);
    let mut job = compiled(false);
    job.settings.max_batch_bytes = 10;
    driver.submit(job);
    for offset in 0..10 {
        driver.block(1, 0, offset, 10);
    }
    driver.block(1, 1, 0, 10);
    for _ in 0..3 {
        driver.pass(Duration::from_millis(100));
        driver.run_all();
    }
    let taken: Vec<u32> = driver.frozen().iter().flat_map(|(_, _, counts)| counts).map(|(key, _)| *key).collect();
    assert_eq!(taken.len(), 3);
    assert!(taken.contains(&0) && taken.contains(&1), "{taken:?}");
}

#[test]
fn failures_of_the_user_end_the_job_and_others_after_some_tries() {
    for (kind, tries) in [(FailureKind::FailureUser, 1), (FailureKind::FailureInternal, 4)] {
        let mut driver = running(false);
        driver.block(1, 0, 0, 10);
        driver.pass(Duration::from_millis(100));
        for tried in 0..tries {
            assert_eq!(driver.failure(), None, "after {tried} tries");
            let (session, task) = driver.tasks().remove(0);
            let failure = pb::TaskFailure { kind: kind as i32, message: "1 / 0".into(), lost_worker: 0 };
            driver.report(session, &task, task_report::Result::Failure(failure));
        }
        assert!(driver.failure().unwrap().contains("1 / 0"));
    }
}

/// Models `a` and `b`, and `best` for the champion of both, which the source's stage asks.
fn with_a_choice() -> Compiled {
    let spec: ModelSpec = serde_json::from_value(serde_json::json!({ "kind": "linear_regression" })).unwrap();
    let shape = |name: &str, candidates: &[usize]| ModelShape {
        name: name.into(),
        spec: spec.clone(),
        features: None,
        home: None,
        candidates: candidates.to_vec(),
        keep: 1,
        save: None,
    };
    let compiled = compiled(false);
    let mut topology = Topology::clone(&compiled.topology);
    topology.models = vec![shape("a", &[]), shape("b", &[]), shape("best", &[0, 1])];
    topology.stages[0].models = vec![AskedShape { model: 2, after_training: false }];
    Compiled { topology: Arc::new(topology), ..compiled }
}

#[test]
fn a_champion_answers_from_the_next_batch_on_and_is_published() {
    let mut driver = Driver::start(Durable::default(), 1_000_000);
    driver.join(1, None);
    driver.submit(with_a_choice());
    let trained = |model: u32| pb::TrainedModel { model, bytes: vec![model as u8].into() };
    let mut answers = Vec::new();
    for (batch, champion) in [(0, 0), (1, 1), (2, 1), (3, 0)] {
        driver.block(1, 0, batch, 10);
        driver.pass(Duration::from_millis(100));
        let (session, task) = driver.tasks().remove(0);
        answers.push((task.models[0].model, task.models[0].answers));
        let champions = vec![pb::Champion { model: 2, champion }];
        let done = pb::TaskDone { champions, models: vec![trained(0), trained(1)], ..pb::TaskDone::default() };
        driver.report(session, &task, task_report::Result::Done(done));
    }
    assert_eq!(answers, [(2, 0), (2, 0), (2, 1), (2, 1)]);
    let published = driver.published.iter().flat_map(|publication| &publication.models);
    let best: Vec<u8> = published.filter(|model| model.name == "best").map(|model| model.bytes[0]).collect();
    assert_eq!(best, [0, 1, 1, 0]);
    let chosen = |record: &&JobRecord| matches!(record, JobRecord::Chosen { .. });
    assert_eq!(driver.of_job().filter(chosen).count(), 3, "only changes are logged, and the first");
}

#[test]
fn an_import_is_asked_from_the_next_batch_on_and_told_to_whoever_joins() {
    let mut driver = Driver::start(Durable::default(), 1_000_000);
    driver.join(1, None);
    driver.submit(with_a_choice());
    let document = serde_json::json!({
        "format": "tidemill-model", "version": 1, "spec": { "kind": "linear_regression" },
        "state": { "linear_regression": { "weights": [1.5], "intercept": 0.0, "updates": 1 } },
    });
    let import = |driver: &mut Driver, model: &str| {
        let new = NewModel { job: String::new(), model: model.into(), document: document.to_string() };
        let event = Event::Import { request: RequestId(9), new: Box::new(new) };
        let actions = driver.core.on_event(driver.now(), event);
        let refusal = actions.iter().find_map(|action| match action {
            Action::Reply { result: Err(error), .. } => Some(error.to_string()),
            _ => None,
        });
        driver.carry_out(actions);
        refusal
    };
    assert_eq!(import(&mut driver, "a"), None);
    assert!(import(&mut driver, "best").unwrap().contains("it stands for the best of a, b"));
    assert!(import(&mut driver, "c").unwrap().contains("there are: a, b, best"));
    let imports = |sent: &Sent| -> Vec<(u64, u32, u64)> {
        let told = |(session, message): &(SessionId, driver_message::Kind)| match message {
            driver_message::Kind::ImportedModel(told) => Some((session.0, told.model, told.batch)),
            _ => None,
        };
        sent.iter().filter_map(told).collect()
    };
    let mut versions = Vec::new();
    for batch in 0..2 {
        driver.block(1, 0, batch, 10);
        driver.pass(Duration::from_millis(100));
        let sent = driver.take();
        assert_eq!(imports(&sent), if batch == 0 { vec![(1, 0, 1)] } else { vec![] }, "batch {batch}");
        driver.sent = sent;
        let (session, task) = driver.tasks().remove(0);
        versions.push((task.models[0].owner, task.models[0].version));
        driver.report(session, &task, task_report::Result::Done(pb::TaskDone::default()));
    }
    assert_eq!(versions, [(0, 1), (0, 1)]);
    driver.join(2, None);
    assert_eq!(imports(&driver.take()), [(2, 0, 1)], "a model that nothing trains is needed for ever");
}

/// A job with a table, which was submitted as `a` and follows a file.
fn with_a_table(stateful: bool) -> (Driver, u64) {
    let mut driver = Driver::start(Durable::default(), 1_000_000);
    driver.join(1, None);
    let text = "name = \"j\"\nbatch_interval = \"1s\"\n[source.s]\nconnector = \"socket\"\naddress = \"127.0.0.1:1\"\n\
        [table.t]\npath = \"t.csv\"\nformat = \"csv\"\ncolumns = { a = \"string\" }\n\
        [stream.o]\nfrom = [\"s\", \"t\"]\nsql = \"select a from t\"\n[[output]]\nfrom = \"o\"\nprint = true";
    let def = Arc::new(tidemill_common::job::parse(text).unwrap().tables.remove(0));
    let compiled = compiled(stateful);
    let mut topology = Topology::clone(&compiled.topology);
    topology.tables =
        vec![TableShape { def, watched: Some((Location::Local("/t.csv".into()), Duration::from_secs(1))) }];
    let compiled = Compiled { topology: Arc::new(topology), ..compiled };
    let durable = DurableJob { name: "j".into(), stateful, attachments: vec![b"a".to_vec()], ..DurableJob::default() };
    driver.event(Event::Submit { request: RequestId(1), job: Box::new(NewJob { durable, compiled }) });
    let hash = driver.core.watched_tables()[0].hash;
    (driver, hash)
}

/// Contents of tables as they were told: session, batch, content.
fn told(sent: &Sent) -> Vec<(u64, u64, String)> {
    let told = |(session, message): &(SessionId, driver_message::Kind)| match message {
        driver_message::Kind::ReloadedTable(told) => {
            Some((session.0, told.batch, String::from_utf8(told.bytes.to_vec()).unwrap()))
        }
        _ => None,
    };
    sent.iter().filter_map(told).collect()
}

fn found(driver: &mut Driver, found: Result<&'static str, &str>) {
    let content =
        |text: &'static str| TableContent { hash: tidemill_plan::content_hash(text.as_bytes()), bytes: text.into() };
    let found = found.map(content).map_err(str::to_owned);
    driver.event(Event::Table { job: JobId(1), table: 0, found });
}

#[test]
fn a_table_changes_with_the_next_batch_and_batches_are_told_what_they_see() {
    let (mut driver, submitted) = with_a_table(false);
    let mut seen = Vec::new();
    for batch in 0..4 {
        match batch {
            // The newest of several counts.
            1 => ["b", "c"].into_iter().for_each(|text| found(&mut driver, Ok(text))),
            2 => found(&mut driver, Err("line 3: no")),
            // What is known changes nothing.
            3 => found(&mut driver, Ok("c")),
            _ => {}
        }
        let status = driver.core.job_status(driver.now(), "j").remove(0);
        assert_eq!(status.tables[0].wrong, if batch == 2 { "line 3: no" } else { "" });
        assert_eq!(driver.core.watched_tables()[0].wrong, batch == 2);
        driver.block(1, 0, batch, 10);
        driver.pass(Duration::from_millis(100));
        let sent = driver.take();
        let expected = if batch == 1 { vec![(1, 2, "c".to_string())] } else { vec![] };
        assert_eq!(told(&sent), expected, "batch {batch}");
        driver.sent = sent;
        let (session, task) = driver.tasks().remove(0);
        seen.push(task.tables.first().map(|at| at.since));
        driver.report(session, &task, task_report::Result::Done(pb::TaskDone::default()));
    }
    assert_eq!(seen, [None, Some(2), Some(2), Some(2)]);
    let reloads = driver.of_job().filter(|record| matches!(record, JobRecord::Reloaded { .. })).count();
    assert_eq!(reloads, 2, "one for each content");
    driver.join(2, None);
    assert_eq!(told(&driver.take()), [(2, 2, "c".to_string())]);
    assert_ne!(driver.core.watched_tables()[0].hash, submitted);
    // Back to what was submitted is a change like any other.
    found(&mut driver, Ok("a"));
    assert_eq!(driver.core.watched_tables()[0].hash, submitted);
}

#[test]
fn contents_are_kept_while_batches_may_see_them() {
    let (mut driver, _) = with_a_table(true);
    let big = "x".repeat(30 << 20).leak();
    let kept = |driver: &Driver| driver.core.durable().jobs[&JobId(1)].reloaded_bytes() >> 20;
    let wrong = |driver: &mut Driver| driver.core.job_status(driver.now(), "j").remove(0).tables.remove(0).wrong;
    let mut job = driver.core.durable().jobs[&JobId(1)].clone();
    found(&mut driver, Ok(big));
    assert_eq!((kept(&driver), wrong(&mut driver)), (30, String::new()));
    found(&mut driver, Ok("y".repeat(33 << 20).leak()));
    assert!(wrong(&mut driver).contains("at most 32 MiB"));
    // Folded from the log: what waits is replaced, what was seen is kept until a checkpoint.
    let content = |text: &'static str| TableContent { hash: text.len() as u64, bytes: text.into() };
    let frozen = |batch| JobRecord::Frozen { batch: BatchId(batch), time_ms: batch as i64, counts: Vec::new() };
    for record in [
        JobRecord::Reloaded { table: 0, content: content("1") },
        frozen(1),
        JobRecord::Reloaded { table: 0, content: content("22") },
        JobRecord::Reloaded { table: 0, content: content("333") },
        frozen(2),
        frozen(3),
    ] {
        job.apply(&record);
    }
    let at = |job: &DurableJob| [1, 2, 3].map(|batch| job.reloaded_at(0, BatchId(batch)).map(|at| at.0));
    assert_eq!((at(&job), job.reloaded_bytes()), ([Some(1), Some(2), Some(2)], 4));
    job.apply(&JobRecord::Checkpoint(BatchId(1)));
    assert_eq!((at(&job), job.reloaded_bytes()), ([Some(1), Some(2), Some(2)], 4), "no other is in its place yet");
    job.apply(&JobRecord::Checkpoint(BatchId(3)));
    assert_eq!((at(&job), job.reloaded_bytes()), ([None, Some(2), Some(2)], 3));
}

#[test]
fn a_report_without_a_result_is_a_failure() {
    let mut driver = running(false);
    driver.block(1, 0, 0, 10);
    driver.pass(Duration::from_millis(100));
    let (session, task) = driver.tasks().remove(0);
    let (task_id, job, batch) = (task.task_id, task.job, task.batch);
    let report = pb::TaskReport { task_id, job, batch, ..pb::TaskReport::default() };
    driver.says(session.0, worker_message::Kind::TaskReport(report));
    assert_eq!(driver.tasks().len(), 1, "it runs again");
}

/// Owners and followers of the last table that was sent.
fn places(sent: &Sent) -> Option<Vec<(u64, Vec<u64>)>> {
    let table = |(_, message): &(SessionId, driver_message::Kind)| match message {
        driver_message::Kind::Assignment(table) => {
            Some(table.groups.iter().map(|group| (group.owner, group.followers.clone())).collect())
        }
        _ => None,
    };
    sent.iter().rev().find_map(table)
}

#[test]
fn a_single_copy_is_handed_over_by_way_of_a_follower() {
    let mut driver = running(true);
    driver.pass(Duration::from_millis(100));
    driver.run_all();
    // Workers join until one of them should own something.
    let mut joined = 1;
    let (group, follower) = loop {
        joined += 1;
        driver.join(joined, None);
        let table = places(&driver.take()).unwrap();
        let moving = table.iter().enumerate().find(|(_, (_, followers))| !followers.is_empty());
        if let Some((group, (owner, followers))) = moving {
            assert_eq!(*owner, 1);
            break (group, followers[0]);
        }
    };
    let message = pb::StateReplicated { job: 1, follower, version: 1, groups: vec![group as u32] };
    driver.says(1, worker_message::Kind::StateReplicated(message));
    let sent = driver.take();
    assert_eq!(places(&sent).unwrap()[group], (follower, vec![1]));
    let restores = sent.iter().any(|(session, message)| {
        session.0 == follower && matches!(message, driver_message::Kind::RestoreState(restore) if restore.version == 1)
    });
    assert!(restores, "the new owner has to prove that it has the state");
    driver.sent = sent;
    driver.restore_all();
    assert_eq!(places(&driver.take()).unwrap()[group], (follower, vec![]));
}

#[test]
fn a_follower_that_lags_for_ever_does_not_hold_the_job_up() {
    let mut driver = Driver::start(Durable::default(), 1_000_000);
    driver.join(1, None);
    driver.join(2, None);
    let mut job = compiled(true);
    job.settings.replication = 2;
    driver.submit(job);
    driver.restore_all();
    for (owner, follower) in [(1, 2), (2, 1)] {
        let message = pb::StateReplicated { job: 1, follower, version: 0, groups: vec![0, 1] };
        driver.says(owner, worker_message::Kind::StateReplicated(message));
    }
    for _ in 0..80 {
        driver.pass(Duration::from_millis(100));
        driver.run_all();
        for session in [1, 2] {
            driver.says(session, worker_message::Kind::Heartbeat(pb::Heartbeat::default()));
        }
    }
    assert!(driver.core.completed(JobId(1)).unwrap() > BatchId(10));
}

#[test]
fn the_log_folds_into_what_the_core_holds() {
    let mut driver = running(true);
    for offset in 0..5 {
        driver.block(1, 0, offset, 10);
        driver.pass(Duration::from_millis(100));
        driver.run_all();
    }
    let mut durable = Durable::default();
    driver.log.iter().for_each(|record| durable.apply(record));
    assert_eq!(durable, driver.core.durable());
    let waiting: BTreeMap<u64, i64> = driver.frozen().into_iter().map(|(batch, time_ms, _)| (batch, time_ms)).collect();
    assert!(waiting.len() >= 5 && waiting.values().is_sorted());
}

/// Rates that receivers were told, by number.
fn rates(sent: &Sent) -> Vec<(u32, f64)> {
    let rate = |(_, message): &(SessionId, driver_message::Kind)| match message {
        driver_message::Kind::StartReceiver(start) => Some((start.receiver?.receiver, start.rate)),
        driver_message::Kind::SetRate(set) => Some((set.receiver?.receiver, set.rate)),
        _ => None,
    };
    sent.iter().filter_map(rate).collect()
}

#[test]
fn receivers_are_slowed_down_to_what_batches_can_take() {
    let mut driver = Driver::start(Durable::default(), 1_000_000);
    driver.join(1, None);
    let mut job = compiled(false);
    job.settings.backpressure = Some(Backpressure { min_rate: 1, initial_rate: Some(300), ..Backpressure::default() });
    job.topology = Arc::new(Topology {
        sources: vec![SourceShape { max_rate: Some(400), ..job.topology.sources[0].clone() }],
        ..(*job.topology).clone()
    });
    driver.submit(job);
    assert_eq!(rates(&driver.take()), [(0, 300.0), (1, 300.0)]);
    // A batch of 10 records per receiver, frozen at its tick, that takes so long.
    let batch = |driver: &mut Driver, number: u64, ms: u64| {
        for receiver in [0, 1] {
            driver.block_with(1, receiver, (number - 1) * 10, 10, 100);
        }
        driver.now_us = (driver.now_us / 100_000 + 1) * 100_000;
        driver.event(Event::Tick);
        let tasks = driver.tasks();
        driver.now_us += ms * 1000;
        for (session, task) in tasks {
            driver.report(session, &task, task_report::Result::Done(pb::TaskDone::default()));
        }
        assert_eq!(driver.core.completed(JobId(1)), Some(BatchId(number)));
        rates(&driver.take())
    };
    // The first one is only learnt from; 20 records in 40 ms are 250 per second and receiver, in 20 ms they are 500.
    assert_eq!(batch(&mut driver, 1, 50), []);
    assert_eq!(batch(&mut driver, 2, 40), [(0, 250.0), (1, 250.0)]);
    assert_eq!(batch(&mut driver, 3, 80), [(0, 125.0), (1, 125.0)]);
    assert_eq!(batch(&mut driver, 4, 20), [(0, 400.0), (1, 400.0)], "never more than `max_rate`");
    assert_eq!(batch(&mut driver, 5, 10), [], "nothing new");
    // A receiver that starts again is told with its start.
    let failed = pb::ReceiverReport {
        receiver: Some(ReceiverRef { job: 1, source: 0, receiver: 1 }),
        epoch: 1,
        error: "no room".into(),
        ..pb::ReceiverReport::default()
    };
    driver.says(1, worker_message::Kind::ReceiverReport(failed));
    driver.pass(Duration::from_millis(600));
    assert_eq!(rates(&driver.take()), [(1, 400.0)]);
}

#[test]
fn a_receiver_that_went_on_without_a_driver_is_told_its_rate() {
    let driver = running(false);
    let worker = driver.core.members().iter().map(|member| member.id.0).next();
    let max_rate = Some(70);
    let mut driver = Driver::start_with(driver.core.durable(), 2_000_000, |job| {
        let source = SourceShape { max_rate, ..job.topology.sources[0].clone() };
        job.topology = Arc::new(Topology { sources: vec![source], ..(*job.topology).clone() });
    });
    let receiver =
        |receiver| pb::RunningReceiver { receiver: Some(ReceiverRef { job: 1, source: 0, receiver }), epoch: 1 };
    let resume = worker.map(|worker_id| pb::Resume {
        worker_id,
        jobs: vec![1],
        receivers: vec![receiver(0), receiver(1)],
        ..pb::Resume::default()
    });
    let hello = pb::Hello { protocol_version: PROTOCOL_VERSION, slots: 1, resume, ..pb::Hello::default() };
    driver.event(Event::Connected { session: SessionId(5), hello: Box::new(hello) });
    assert_eq!(rates(&driver.take()), [(0, 70.0), (1, 70.0)]);
}
