//! A registered function over all rows of a unit.

use super::stable_sort::RECOMPUTE;
use crate::registry::BatchMap;
use datafusion::arrow::compute::concat_batches;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, exec_datafusion_err, internal_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::{StreamExt, stream};
use std::fmt;
use std::sync::Arc;

/// Calls the function once with all rows of the input, in order; not at all when there is none.
#[derive(Debug)]
pub(crate) struct BatchMapExec {
    input: Arc<dyn ExecutionPlan>,
    function: BatchMap,
    properties: Arc<PlanProperties>,
}

impl BatchMapExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, function: BatchMap) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(function.schema()),
            input.output_partitioning().clone(),
            EmissionType::Final,
            input.boundedness(),
        );
        Self { input, function, properties: Arc::new(properties) }
    }
}

impl DisplayAs for BatchMapExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BatchMapExec: {:?}", self.function)
    }
}

impl ExecutionPlan for BatchMapExec {
    fn name(&self) -> &str {
        "BatchMapExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
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
            return internal_err!("a batch function has one input");
        };
        Ok(Arc::new(Self::new(input.clone(), self.function.clone())))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, RECOMPUTE)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut input = self.input.execute(partition, context.clone())?;
        let memory = MemoryConsumer::new("batch_map").register(context.memory_pool());
        let (function, schema) = (self.function.clone(), self.input.schema());
        let mapped = stream::once(async move {
            let mut batches = Vec::new();
            while let Some(batch) = input.next().await.transpose()? {
                // The rows and their concatenation.
                memory.try_grow(2 * batch.get_array_memory_size())?;
                batches.push(batch);
            }
            let rows = concat_batches(&schema, &batches)?;
            if rows.num_rows() == 0 {
                return Ok(datafusion::arrow::array::RecordBatch::new_empty(function.schema()));
            }
            function.call(&rows).map_err(|error| exec_datafusion_err!("{error}"))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), mapped)))
    }
}
