//! All rows of an operator as one batch.

use super::stable_sort::RECOMPUTE;
use datafusion::arrow::compute::concat_batches;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{StreamExt, stream};
use std::fmt;
use std::sync::Arc;

/// Each partition of its input as one batch. DataFusion's hash join gives the rows of its left side without a partner
/// batch by batch from the last to the first: their order would tell where batches end, and so which key groups lie
/// together in a task.
#[derive(Debug)]
pub(crate) struct OneBatchExec {
    input: Arc<dyn ExecutionPlan>,
}

impl OneBatchExec {
    /// The rows of `input`.
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        Self { input }
    }
}

impl DisplayAs for OneBatchExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OneBatchExec")
    }
}

impl ExecutionPlan for OneBatchExec {
    fn name(&self) -> &str {
        "OneBatchExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let [input] = children.as_slice() else {
            return internal_err!("there is one input");
        };
        Ok(Arc::new(Self::new(input.clone())))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, RECOMPUTE)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut input = self.input.execute(partition, context.clone())?;
        let memory = MemoryConsumer::new("one batch").register(context.memory_pool());
        let schema = self.schema();
        let whole = stream::once(async move {
            let mut batches = Vec::new();
            while let Some(batch) = input.next().await.transpose()? {
                memory.try_grow(batch.get_array_memory_size())?;
                batches.push(batch);
            }
            Ok(concat_batches(&schema, &batches)?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), whole)))
    }
}
