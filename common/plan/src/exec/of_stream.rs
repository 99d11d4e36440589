//! A mark in a plan that says which stream it computes; the rows pass as they are.

use super::over::{OverExec, OverInput};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, PlanProperties};
use futures::Stream;
use std::fmt;
use std::sync::Arc;

/// All below it, down to the next mark, computes the stream of this name.
#[derive(Debug, Clone)]
pub(crate) struct OfStream(Arc<str>);

impl OfStream {
    /// The same plan, marked.
    pub(crate) fn mark(plan: Arc<dyn ExecutionPlan>, stream: &str) -> Arc<dyn ExecutionPlan> {
        let properties = plan.properties().clone();
        OverExec::with_properties(plan, Self(stream.into()), properties)
    }

    /// The stream, where a plan is a mark.
    pub(crate) fn of(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<str>> {
        plan.downcast_ref::<OverExec<Self>>().map(|mark| mark.operation().0.clone())
    }
}

impl OverInput for OfStream {
    const NAME: &'static str = "OfStreamExec";

    fn properties(&self, input: &Arc<dyn ExecutionPlan>) -> Result<PlanProperties> {
        Ok(input.properties().as_ref().clone())
    }

    fn detail(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ": {}", self.0)
    }

    fn run(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<impl Stream<Item = Result<RecordBatch>> + Send + 'static> {
        input.execute(partition, context)
    }
}
