//! A registered function over all rows of a unit.

use super::over::{OverInput, at_the_end, gathered};
use crate::registry::BatchMap;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::{ExecutionPlan, PlanProperties};
use futures::{Stream, stream};
use std::fmt;
use std::sync::Arc;

/// Calls the function once with all rows of the input, in order; not at all when there is none.
impl OverInput for BatchMap {
    const NAME: &'static str = "BatchMapExec";

    fn properties(&self, input: &Arc<dyn ExecutionPlan>) -> Result<PlanProperties> {
        Ok(at_the_end(EquivalenceProperties::new(self.schema()), input))
    }

    fn detail(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ": {self:?}")
    }

    fn run(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<impl Stream<Item = Result<RecordBatch>> + Send + 'static> {
        let memory = MemoryConsumer::new("batch_map").register(context.memory_pool());
        let (function, schema) = (self.clone(), input.schema());
        let input = input.execute(partition, context)?;
        Ok(stream::once(async move {
            // The rows and their concatenation.
            let batches = gathered(input, &memory, 2).await?;
            let rows = concat_batches(&schema, &batches)?;
            if rows.num_rows() == 0 {
                return Ok(RecordBatch::new_empty(function.schema()));
            }
            function.call(&rows).map_err(|error| exec_datafusion_err!("{error}"))
        }))
    }
}
