//! All rows of an operator as one batch.

use super::over::{OverInput, gathered};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_plan::{ExecutionPlan, PlanProperties};
use futures::{Stream, stream};
use std::sync::Arc;

/// Each partition of its input as one batch. DataFusion's hash join gives the rows of its left side without a partner
/// batch by batch from the last to the first: their order would tell where batches end, and so which key groups lie
/// together in a task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OneBatch;

impl OverInput for OneBatch {
    const NAME: &'static str = "OneBatchExec";

    fn properties(&self, input: &Arc<dyn ExecutionPlan>) -> Result<PlanProperties> {
        Ok(input.properties().as_ref().clone())
    }

    fn run(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<impl Stream<Item = Result<RecordBatch>> + Send + 'static> {
        let memory = MemoryConsumer::new("one batch").register(context.memory_pool());
        let schema = input.schema();
        let input = input.execute(partition, context)?;
        Ok(stream::once(async move {
            let batches = gathered(input, &memory, 1).await?;
            Ok(concat_batches(&schema, &batches)?)
        }))
    }
}
