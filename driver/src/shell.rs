//! The driver's event loop: feeds the core, writes its log, carries its actions out.
//!
//! One task owns the core. In each turn it takes what has gathered, hands it to the core, appends all
//! log records in one write, and only then sends, answers and publishes. The files of what it will publish are written before.

use crate::core::{Action, Core, Event, Now, RequestError, RequestId, SessionId, WatchedTable};
use crate::log::{Log, LogError};
use crate::models::Published;
use crate::record::Record;
use crate::watch::Watchers;
use crate::{SendHook, commit};
use std::collections::HashMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tidemill_common::ids::JobId;
use tidemill_metrics::{Counter, Histogram, SECONDS, metric};
use tidemill_proto::client as client_pb;
use tidemill_proto::control as pb;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

metric! {
    static COMMITS: Histogram = Histogram::new(
        "tidemill_commit_duration_seconds",
        "Time to bring the outputs of a batch to their sinks, further tries included.",
        SECONDS,
    );
    static FAILED_COMMITS: Counter =
        Counter::new("tidemill_failed_commits_total", "Batches whose outputs could not be brought to their sinks.");
}

/// Events that may wait for the loop.
pub(crate) const INPUT_QUEUE: usize = 4096;
/// Messages that may wait for a worker; a worker that is further behind is put out.
pub(crate) const SESSION_QUEUE: usize = 1024;
/// Events handled in one turn at most.
const EVENTS_PER_TURN: usize = 256;
/// The core gets a tick at least this often.
const TICK_US: u64 = 50_000;

/// The answer to a client's request.
pub(crate) type Answer = Result<Box<client_pb::JobStatus>, RequestError>;

/// What reaches the loop.
#[expect(clippy::large_enum_variant, reason = "nearly all of them are events")]
pub(crate) enum Input {
    Event(Event),
    Session { session: SessionId, hello: Box<pb::Hello>, sender: mpsc::Sender<pb::DriverMessage> },
    Request { event: Box<dyn FnOnce(RequestId) -> Event + Send>, answer: oneshot::Sender<Answer> },
    Status { job: String, answer: oneshot::Sender<client_pb::StatusReply> },
    Workers { answer: oneshot::Sender<client_pb::WorkersReply> },
    Tables { answer: oneshot::Sender<Vec<WatchedTable>> },
    Watch { job: String, answer: oneshot::Sender<Option<broadcast::Receiver<client_pb::watch_event::Kind>>> },
}

/// The loop's state.
pub(crate) struct Shell {
    pub(crate) core: Core,
    pub(crate) log: Log,
    pub(crate) clock: Clock,
    pub(crate) input: mpsc::Sender<Input>,
    pub(crate) tracker: TaskTracker,
    /// The driver ends.
    pub(crate) stop: CancellationToken,
    pub(crate) before_send: Option<SendHook>,
    pub(crate) sessions: HashMap<SessionId, mpsc::Sender<pb::DriverMessage>>,
    pub(crate) requests: HashMap<RequestId, oneshot::Sender<Answer>>,
    pub(crate) next_request: u64,
    pub(crate) watchers: Watchers,
    pub(crate) published: Published,
}

/// Reads both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        Now { mono_us: self.start.elapsed().as_micros() as u64, wall_ms }
    }
}

impl Shell {
    /// Runs until `stop`, or until the log fails: then nothing may be promised any more.
    pub(crate) async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        first: Vec<Action>,
        stop: CancellationToken,
    ) -> Result<(), LogError> {
        self.carry_out(first)?;
        let mut last_tick = 0;
        loop {
            let now = self.clock.now();
            let wait_us = self.core.next_deadline(now).saturating_sub(now.mono_us).min(TICK_US);
            let input = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                input = inputs.recv() => input,
                () = tokio::time::sleep(std::time::Duration::from_micros(wait_us)) => None,
            };
            let mut actions = Vec::new();
            let mut next = input;
            for _ in 0..EVENTS_PER_TURN {
                let Some(input) = next else { break };
                self.take(input, &mut actions);
                next = inputs.try_recv().ok();
            }
            if let Some(input) = next {
                self.take(input, &mut actions);
            }
            let now = self.clock.now();
            if actions.is_empty() || now.mono_us >= last_tick + TICK_US {
                last_tick = now.mono_us;
                actions.extend(self.core.on_event(now, Event::Tick));
            }
            self.carry_out(actions)?;
        }
    }

    fn take(&mut self, input: Input, actions: &mut Vec<Action>) {
        let now = self.clock.now();
        match input {
            Input::Event(event) => actions.extend(self.core.on_event(now, event)),
            Input::Session { session, hello, sender } => {
                self.sessions.insert(session, sender);
                actions.extend(self.core.on_event(now, Event::Connected { session, hello }));
            }
            Input::Request { event, answer } => {
                self.next_request += 1;
                let request = RequestId(self.next_request);
                self.requests.insert(request, answer);
                actions.extend(self.core.on_event(now, event(request)));
            }
            // An asker that has gone away needs no answer.
            Input::Status { job, answer } => {
                let reply = client_pb::StatusReply {
                    cluster_id: self.core.cluster_id().to_string(),
                    term: self.core.term().0,
                    workers: self.core.members().len() as u32,
                    jobs: self.core.job_status(now, &job),
                };
                let _ = answer.send(reply);
            }
            Input::Workers { answer } => {
                let _ = answer.send(client_pb::WorkersReply { workers: self.core.worker_status(now) });
            }
            Input::Tables { answer } => {
                let _ = answer.send(self.core.watched_tables());
            }
            Input::Watch { job, answer } => {
                let status = self.core.job_status(now, &job).pop();
                let _ = answer.send(status.map(|status| self.watchers.watch(status)));
            }
        }
    }

    fn carry_out(&mut self, actions: Vec<Action>) -> Result<(), LogError> {
        let mut records: Vec<Record> = Vec::new();
        let mut rest = Vec::with_capacity(actions.len());
        for action in actions {
            match action {
                Action::Log(record) => records.push(record),
                other => rest.push(other),
            }
        }
        for action in &rest {
            if let Action::PublishModels(publication) = action {
                self.published.write_files(publication);
            }
        }
        self.log.append(&records, self.core.wants_sync())?;
        for action in rest {
            self.carry_out_one(action);
        }
        if self.log.wants_rotation() {
            self.log.rotate(&self.core.durable())?;
        }
        Ok(())
    }

    fn carry_out_one(&mut self, action: Action) {
        match action {
            Action::Log(_) => {}
            Action::Send { session, message } => self.send(session, message),
            Action::Close { session } => {
                self.sessions.remove(&session);
            }
            Action::Reply { request, result } => {
                if let Some(answer) = self.requests.remove(&request) {
                    let _ = answer.send(result);
                }
            }
            Action::PublishModels(publication) => self.published.publish(&publication),
            Action::Publish { job, event } => self.watchers.publish(job, *event),
            Action::Commit { job, batch, outputs } => {
                let (input, stop) = (self.input.clone(), self.stop.clone());
                let writer = commit::Writer { cluster: self.core.cluster_id().to_string(), job, batch };
                self.tracker.spawn(async move {
                    let began = Instant::now();
                    let result = commit::commit(writer, outputs, stop.clone()).await;
                    // One that was broken off is done again by the next driver.
                    if stop.is_cancelled() {
                        return;
                    }
                    COMMITS.observe(began.elapsed().as_secs_f64());
                    FAILED_COMMITS.add(u64::from(result.is_err()));
                    let _ = input.send(Input::Event(Event::Committed { job, batch, result })).await;
                });
            }
        }
    }

    fn send(&mut self, session: SessionId, message: pb::driver_message::Kind) {
        let Some(sender) = self.sessions.get(&session) else { return };
        if let Some(hook) = &self.before_send {
            hook(&message);
        }
        if let Err(error) = sender.try_send(pb::DriverMessage { kind: Some(message) }) {
            // Full or closed: either way the worker cannot follow. Dropping the sender closes the session,
            // and its end is reported like every other.
            tracing::debug!(session = session.0, %error, "a worker does not take its messages");
            self.sessions.remove(&session);
        }
    }
}

/// Sends an event of a job's manual clock (replay).
pub(crate) fn manual_tick(job: JobId, time_ms: i64) -> Input {
    Input::Event(Event::ManualTick { job, time_ms })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::CoreConfig;
    use crate::models::{Publication, PublishedModel};
    use crate::record::{DurableJob, JobRecord, Totals};
    use std::collections::BTreeMap;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::Path;
    use std::sync::Arc;
    use tidemill_common::ids::BatchId;

    /// A driver with one session, that dies when it sends a message.
    fn mortal(dir: &Path) -> Shell {
        let (log, durable) = Log::open(dir).unwrap();
        let (core, _) = Core::start(CoreConfig::default(), durable, BTreeMap::new(), "c", Clock::start().now());
        let (input, _) = mpsc::channel(1);
        let (sender, _) = mpsc::channel(1);
        Shell {
            core,
            log,
            clock: Clock::start(),
            input,
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            before_send: Some(Arc::new(|_| panic!("the driver dies"))),
            sessions: [(SessionId(1), sender)].into(),
            requests: HashMap::new(),
            next_request: 0,
            watchers: Watchers::default(),
            published: Published::open(&dir.join("models"), &BTreeMap::new()),
        }
    }

    fn publication(batch: u64) -> Publication {
        let models = vec![PublishedModel { name: "m".into(), bytes: vec![batch as u8].into(), keep: 10 }];
        Publication { id: JobId(1), job: "j".into(), batch: BatchId(batch), time_ms: 1000, models, sync: true }
    }

    /// Versions that are there when the driver starts again.
    fn versions(dir: &Path) -> Vec<u64> {
        let (_, durable) = Log::open(dir).unwrap();
        let published = Published::open(&dir.join("models"), &durable.completed());
        let found = published.find(None, "m", None).unwrap();
        published.versions(&found).0.into_iter().map(|batch| batch.0).collect()
    }

    #[test]
    fn what_a_complete_batch_publishes_is_there_when_the_driver_dies_after_the_record() {
        let dir = tempfile::tempdir().unwrap();
        let job = Box::new(DurableJob { id: JobId(1), name: "j".into(), ..DurableJob::default() });
        let complete = |batch| {
            let record = JobRecord::Completed { batch: BatchId(batch), totals: Totals::default() };
            vec![Action::Log(Record::Job(JobId(1), record)), Action::PublishModels(publication(batch))]
        };
        let mut shell = mortal(dir.path());
        shell.carry_out(vec![Action::Log(Record::Submitted(job))]).unwrap();
        shell.carry_out(complete(1)).unwrap();
        let message = pb::driver_message::Kind::BatchComplete(pb::BatchComplete::default());
        let mut actions = complete(2);
        actions.insert(1, Action::Send { session: SessionId(1), message });
        let died = catch_unwind(AssertUnwindSafe(|| shell.carry_out(actions)));
        assert!(died.is_err(), "the driver dies between the record and the publication");
        drop(shell);
        assert_eq!(versions(dir.path()), [1, 2]);

        // Once more, before the record of batch 3 is written.
        Published::open(&dir.path().join("models"), &BTreeMap::new()).write_files(&publication(3));
        assert_eq!(versions(dir.path()), [1, 2]);
    }
}
