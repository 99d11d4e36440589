//! Asking the driver's loop, for those who serve clients.

use crate::core::{Event, NewModel, RequestId};
use crate::shell::{Answer, Input};
use tokio::sync::{mpsc, oneshot};

/// The way to the loop.
#[derive(Debug, Clone)]
pub(crate) struct Loop(pub(crate) mpsc::Sender<Input>);

/// The loop has ended.
#[derive(Debug, thiserror::Error)]
#[error("the driver is stopping")]
pub(crate) struct Stopping;

impl Loop {
    /// Asks, and waits for the answer.
    pub(crate) async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Input) -> Result<T, Stopping> {
        let (answer, reply) = oneshot::channel();
        self.0.send(make(answer)).await.map_err(|_| Stopping)?;
        reply.await.map_err(|_| Stopping)
    }

    /// Asks the core by an event.
    pub(crate) async fn request(
        &self,
        event: impl FnOnce(RequestId) -> Event + Send + 'static,
    ) -> Result<Answer, Stopping> {
        self.ask(|answer| Input::Request { event: Box::new(event), answer }).await
    }

    /// Puts a model in the place of one of a running job.
    pub(crate) async fn import(&self, new: NewModel) -> Result<Answer, Stopping> {
        let new = Box::new(new);
        self.request(move |request| Event::Import { request, new }).await
    }
}
