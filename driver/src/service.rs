//! The driver's two gRPC services: sessions of workers, and requests of the command line.

use crate::ask::{Loop, Stopping};
use crate::core::{Event, NewModel, RequestError, SessionId};
use crate::models::{Found, NoModel, Published};
use crate::shell::{Input, SESSION_QUEUE};
use crate::submit;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tidemill_common::diag::nearest;
use tidemill_plan::Functions;
use tidemill_proto::client::{self as client_pb, watch_event};
use tidemill_proto::common::ErrorKind;
use tidemill_proto::control::{self as pb, worker_message};
use tidemill_proto::status;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

/// A worker that connects has to introduce itself within this time.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves workers.
#[derive(Debug)]
pub(crate) struct ControlService {
    pub(crate) input: mpsc::Sender<Input>,
    pub(crate) next_session: AtomicU64,
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
}

#[tonic::async_trait]
impl pb::control_server::Control for ControlService {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<pb::DriverMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut messages = request.into_inner();
        let first = tokio::time::timeout(HELLO_TIMEOUT, messages.message()).await;
        let first = first.map_err(|_| status(ErrorKind::ErrorInvalid, "no hello within 5 s"))??;
        let Some(worker_message::Kind::Hello(hello)) = first.and_then(|message| message.kind) else {
            return Err(status(ErrorKind::ErrorInvalid, "the first message of a session must be a hello"));
        };
        let session = SessionId(self.next_session.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = mpsc::channel(SESSION_QUEUE);
        let input = Input::Session { session, hello: Box::new(hello), sender };
        self.input.send(input).await.map_err(|_| Stopping)?;
        let (input, stop) = (self.input.clone(), self.stop.clone());
        self.tracker.spawn(async move {
            forward(session, messages, &input, stop).await;
            // The loop is gone only when the driver stops.
            let _ = input.send(Input::Event(Event::Disconnected { session })).await;
        });
        Ok(Response::new(ReceiverStream::new(receiver).map(Ok).boxed()))
    }
}

async fn forward(
    session: SessionId,
    mut messages: Streaming<pb::WorkerMessage>,
    input: &mpsc::Sender<Input>,
    stop: CancellationToken,
) {
    loop {
        let message = tokio::select! {
            () = stop.cancelled() => return,
            message = messages.message() => message,
        };
        match message {
            Ok(Some(pb::WorkerMessage { kind: Some(message) })) => {
                if input.send(Input::Event(Event::Message { session, message })).await.is_err() {
                    return;
                }
            }
            Ok(Some(pb::WorkerMessage { kind: None })) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

/// Serves the command line.
#[derive(Debug)]
pub(crate) struct ClientService {
    pub(crate) driver: Loop,
    pub(crate) published: Published,
    /// What jobs may use.
    pub(crate) functions: Functions,
}

impl ClientService {
    /// What is said of a job that there is not: the name that may have been meant, and which there are.
    async fn no_such_job(&self, job: &str) -> Status {
        let all = self.driver.ask(|answer| Input::Status { job: String::new(), answer }).await;
        let names: BTreeSet<String> = all.into_iter().flat_map(|all| all.jobs).map(|job| job.name).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let hint = match (nearest(job, names.iter().copied()), names.as_slice()) {
            (Some(near), _) => format!("; did you mean `{near}`?"),
            (None, []) => "; there is none at all".to_string(),
            (None, names) => format!("; there are {}", names.join(", ")),
        };
        status(ErrorKind::ErrorNotFound, format!("there is no job `{job}`{hint}"))
    }
}

/// What was given, if anything.
fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

#[tonic::async_trait]
impl client_pb::client_server::Client for ClientService {
    async fn submit(
        &self,
        request: Request<client_pb::SubmitRequest>,
    ) -> Result<Response<client_pb::SubmitReply>, Status> {
        let request = request.into_inner();
        let attached: usize = request.attachments.iter().map(|bytes| bytes.len()).sum();
        if attached > submit::MAX_ATTACHMENT_BYTES {
            let message = format!("the files it refers to have {attached} bytes; at most 32 MiB can be submitted");
            return Err(status(ErrorKind::ErrorInvalid, message));
        }
        let functions = self.functions.clone();
        submit::check_functions(&request, &functions)?;
        let compiled = tokio::task::spawn_blocking(move || submit::compile(request, &functions));
        let job = Box::new(compiled.await.map_err(|e| status(ErrorKind::ErrorInternal, e.to_string()))??);
        let answer = self.driver.request(move |request| Event::Submit { request, job }).await?;
        let accepted = answer.map_err(|error| status(ErrorKind::ErrorInvalid, error.to_string()))?;
        Ok(Response::new(client_pb::SubmitReply { job: accepted.job, name: accepted.name.clone() }))
    }

    async fn stop(&self, request: Request<client_pb::StopRequest>) -> Result<Response<client_pb::StopReply>, Status> {
        let client_pb::StopRequest { job, now } = request.into_inner();
        let answer = self.driver.request(move |request| Event::Stop { request, job, now }).await?;
        let ended = match answer {
            Ok(ended) => ended,
            Err(RequestError::NoSuchJob(job)) => return Err(self.no_such_job(&job).await),
            Err(error) => return Err(status(ErrorKind::ErrorNotFound, error.to_string())),
        };
        Ok(Response::new(client_pb::StopReply { job: Some(*ended) }))
    }

    async fn status(
        &self,
        request: Request<client_pb::StatusRequest>,
    ) -> Result<Response<client_pb::StatusReply>, Status> {
        let job = request.into_inner().job;
        let reply = self.driver.ask(|answer| Input::Status { job: job.clone(), answer }).await?;
        if !job.is_empty() && reply.jobs.is_empty() {
            return Err(self.no_such_job(&job).await);
        }
        Ok(Response::new(reply))
    }

    async fn workers(
        &self,
        _request: Request<client_pb::WorkersRequest>,
    ) -> Result<Response<client_pb::WorkersReply>, Status> {
        Ok(Response::new(self.driver.ask(|answer| Input::Workers { answer }).await?))
    }

    async fn models(
        &self,
        request: Request<client_pb::ModelsRequest>,
    ) -> Result<Response<client_pb::ModelsReply>, Status> {
        let job = request.into_inner().job;
        let models = self.published.list(given(&job));
        let models = models.iter().map(|found| found.summary().to_string()).collect();
        Ok(Response::new(client_pb::ModelsReply { models }))
    }

    async fn model(
        &self,
        request: Request<client_pb::ModelRequest>,
    ) -> Result<Response<client_pb::ModelReply>, Status> {
        let client_pb::ModelRequest { job, model, version } = request.into_inner();
        let found = self.published.find(given(&job), &model, given(&version))?;
        let (last, named) = self.published.versions(&found);
        let named = named.into_iter().map(|(label, batch)| client_pb::NamedVersion { label, batch: batch.0 }).collect();
        let versions = last.iter().map(|batch| batch.0).collect();
        let (summary, model) = (found.summary().to_string(), found.version.model()?.to_json().to_string());
        Ok(Response::new(client_pb::ModelReply { summary, model, versions, named }))
    }

    async fn import_model(
        &self,
        request: Request<client_pb::ImportModelRequest>,
    ) -> Result<Response<client_pb::ImportModelReply>, Status> {
        let client_pb::ImportModelRequest { job, model, document } = request.into_inner();
        let imported = self.driver.import(NewModel { job, model, document }).await?;
        let imported = imported.map_err(|error| {
            let unknown = matches!(error, RequestError::NoSuchJob(_) | RequestError::NoSuchModel { .. });
            let kind = if unknown { ErrorKind::ErrorNotFound } else { ErrorKind::ErrorInvalid };
            status(kind, error.to_string())
        })?;
        Ok(Response::new(client_pb::ImportModelReply { job: imported.name, batch: imported.frozen + 1 }))
    }

    async fn tag_model(
        &self,
        request: Request<client_pb::TagModelRequest>,
    ) -> Result<Response<client_pb::TagModelReply>, Status> {
        let client_pb::TagModelRequest { job, model, version, label } = request.into_inner();
        let published = self.published.clone();
        let work = move || match given(&version) {
            Some(version) => published.tag(given(&job), &model, version, &label),
            None => published.untag(given(&job), &model, &label),
        };
        let found: Result<Found, NoModel> = tokio::task::spawn_blocking(work).await.map_err(|_| Stopping)?;
        Ok(Response::new(client_pb::TagModelReply { batch: found?.version.batch.0 }))
    }

    type WatchStream = BoxStream<'static, Result<client_pb::WatchEvent, Status>>;

    async fn watch(&self, request: Request<client_pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let job = request.into_inner().job;
        let events = self.driver.ask(|answer| Input::Watch { job: job.clone(), answer }).await?;
        let Some(events) = events else { return Err(self.no_such_job(&job).await) };
        let stream = futures::stream::unfold(Some(events), |events| async move {
            let mut events = events?;
            let (kind, more) = match events.recv().await {
                Ok(kind) => {
                    let more = !matches!(kind, watch_event::Kind::Ended(_));
                    (kind, more)
                }
                Err(broadcast::error::RecvError::Lagged(skipped)) => (watch_event::Kind::Skipped(skipped), true),
                Err(broadcast::error::RecvError::Closed) => return None,
            };
            Some((Ok(client_pb::WatchEvent { kind: Some(kind) }), more.then_some(events)))
        });
        Ok(Response::new(stream.boxed()))
    }
}

impl From<Stopping> for Status {
    fn from(stopping: Stopping) -> Self {
        status(ErrorKind::ErrorNotReady, stopping.to_string())
    }
}

impl From<NoModel> for Status {
    fn from(error: NoModel) -> Self {
        let kind = match &error {
            NoModel::Unreadable(_) => ErrorKind::ErrorInternal,
            NoModel::Disk(_) => ErrorKind::ErrorResources,
            NoModel::Label(_) | NoModel::TooManyLabels(_) => ErrorKind::ErrorInvalid,
            NoModel::Unknown { .. } | NoModel::Ambiguous { .. } | NoModel::NotKept { .. } => ErrorKind::ErrorNotFound,
        };
        status(kind, error.to_string())
    }
}
