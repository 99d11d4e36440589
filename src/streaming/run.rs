//! Running a job that was written in Rust.

use super::{StreamingContext, StreamingError};
use crate::cluster::Cluster;
use crate::definition::Definition;
use crate::exit::{Failure, Outcome};
use crate::keep::KeepArgs;
use crate::{client, watch};
use std::future::Future;
use tidemill_common::ids::JobId;
use tidemill_driver::core::CoreConfig;
use tidemill_plan::CompiledJob;

impl From<Failure> for StreamingError {
    fn from(failure: Failure) -> Self {
        match failure.outcome {
            Outcome::Usage => Self::Definition(failure.message),
            Outcome::Unavailable => Self::Unavailable(failure.message),
            Outcome::Fine | Outcome::Differs | Outcome::Failed | Outcome::Interrupted(_) => {
                Self::Failed(failure.message)
            }
        }
    }
}

impl StreamingContext {
    /// Checks all of it, without running it.
    ///
    /// # Errors
    /// The first misuse of an operator, or all mistakes of the definition.
    pub fn check(&self) -> Result<(), StreamingError> {
        self.compiled().map(drop)
    }

    fn compiled(&self) -> Result<(Definition, CompiledJob), StreamingError> {
        let text = self.definition()?;
        let graph = self.graph.borrow();
        let definition = Definition::of_text(format!("{}.toml", graph.name).into(), text, &graph.functions)?;
        let compiled = definition.compile(&graph.functions)?;
        Ok((definition, compiled))
    }

    /// Runs the job with a driver and so many workers in this process, and prints what goes to `print`, until Ctrl-C or
    /// [`stop_after`](StreamingContext::stop_after).
    ///
    /// # Errors
    /// What is wrong with the job; why it failed.
    pub fn run_local(&self, workers: usize) -> Result<(), StreamingError> {
        let (definition, compiled) = self.compiled()?;
        let (functions, stop_after) = {
            let graph = self.graph.borrow();
            (graph.functions.clone(), graph.stop_after)
        };
        block_on(async move {
            let cluster = Cluster::start(workers.max(1), CoreConfig::default(), None, functions).await?;
            let mut client = client::connect(&cluster.url()).await?;
            let submitted = client.submit(definition.request(&compiled, false)).await.map_err(client::refused)?;
            let job = submitted.into_inner().job.to_string();
            let done = watch::until_ended(&mut client, &job, false, stop_after, &KeepArgs::default()).await;
            cluster.shutdown().await;
            match done? {
                Outcome::Fine => Ok(()),
                _ => Err(StreamingError::Failed(format!("the job `{}` failed", compiled.def.name))),
            }
        })
    }

    /// Submits the job to a driver, `http://host:port`; gives back its number.
    ///
    /// # Errors
    /// What is wrong with the job, also a closure in it; what the driver says.
    pub fn submit(&self, driver: &str) -> Result<JobId, StreamingError> {
        let (definition, compiled) = self.compiled()?;
        if let Some(closure) = &self.graph.borrow().only_here {
            return Err(closure.clone());
        }
        block_on(async move {
            let mut client = client::connect(driver).await?;
            let submitted = client.submit(definition.request(&compiled, false)).await.map_err(client::refused)?;
            Ok(JobId(submitted.into_inner().job))
        })
    }
}

fn block_on<T>(work: impl Future<Output = Result<T, StreamingError>>) -> Result<T, StreamingError> {
    if tokio::runtime::Handle::try_current().is_ok() {
        return Err(StreamingError::InsideRuntime);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| StreamingError::Failed(error.to_string()))?;
    let done = runtime.block_on(work);
    // A connection that hangs must not keep it from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}
