//! Plans over one input: what all of them say to DataFusion is here, each adds what it makes of the rows.

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties, apply_expression_roots,
};
use futures::{Stream, StreamExt};
use std::fmt;
use std::sync::Arc;

/// What a plan makes of the rows of its input.
pub(crate) trait OverInput: Clone + fmt::Debug + Send + Sync + 'static {
    /// The plan's name, in displayed plans too.
    const NAME: &'static str;

    /// The columns that come out, and how their rows are spread and ordered.
    fn properties(&self, input: &Arc<dyn ExecutionPlan>) -> Result<PlanProperties>;

    /// Everything beside the input that changes the result, displayed behind the name.
    fn detail(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }

    /// The expressions that it evaluates.
    fn expressions(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        Vec::new()
    }

    /// The rows of a partition that comes out.
    fn run(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<impl Stream<Item = Result<RecordBatch>> + Send + 'static>;
}

/// A plan over one input.
#[derive(Debug)]
pub(crate) struct OverExec<O> {
    input: Arc<dyn ExecutionPlan>,
    operation: O,
    properties: Arc<PlanProperties>,
}

impl<O: OverInput> OverExec<O> {
    /// The operation over the rows of `input`.
    pub(crate) fn try_new(input: Arc<dyn ExecutionPlan>, operation: O) -> Result<Arc<dyn ExecutionPlan>> {
        let properties = Arc::new(operation.properties(&input)?);
        Ok(Self::with_properties(input, operation, properties))
    }

    /// The operation over the rows of `input`, with properties that are known.
    pub(super) fn with_properties(
        input: Arc<dyn ExecutionPlan>,
        operation: O,
        properties: Arc<PlanProperties>,
    ) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self { input, operation, properties })
    }

    /// What it does.
    pub(crate) fn operation(&self) -> &O {
        &self.operation
    }
}

impl<O: OverInput> DisplayAs for OverExec<O> {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(O::NAME)?;
        self.operation.detail(f)
    }
}

impl<O: OverInput> ExecutionPlan for OverExec<O> {
    fn name(&self) -> &str {
        O::NAME
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        apply_expression_roots(self.operation.expressions(), f)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let [input] = children.as_slice() else {
            return internal_err!("{} has one input", O::NAME);
        };
        Self::try_new(input.clone(), self.operation.clone())
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.operation.run(&self.input, partition, context)?;
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

/// Of a plan whose rows come once it has seen all of a partition.
pub(crate) fn at_the_end(equivalences: EquivalenceProperties, input: &Arc<dyn ExecutionPlan>) -> PlanProperties {
    PlanProperties::new(equivalences, input.output_partitioning().clone(), EmissionType::Final, input.boundedness())
}

/// All that `input` gives. `copies` is how often its rows will be held at once, itself included: `memory` grows by so much.
pub(super) async fn gathered(
    mut input: SendableRecordBatchStream,
    memory: &MemoryReservation,
    copies: usize,
) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    while let Some(batch) = input.next().await.transpose()? {
        memory.try_grow(copies * batch.get_array_memory_size())?;
        batches.push(batch);
    }
    Ok(batches)
}
