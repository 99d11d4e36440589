//! The leaves of plans: what all of them say to DataFusion is here, each adds where its rows are.

use crate::session::Shape;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions, SchedulingType};
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use std::fmt;
use std::sync::Arc;

/// Where a leaf finds its rows: in memory, when it runs.
pub(crate) trait ReadRows: fmt::Debug + Send + Sync + 'static {
    /// The plan's name, in displayed plans too.
    const NAME: &'static str;

    /// What tells it from others with these columns, displayed behind the name.
    fn detail(&self, schema: &SchemaRef, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// All rows of a run, with these columns.
    fn rows(&self, schema: &SchemaRef, context: &TaskContext) -> Result<Vec<RecordBatch>>;
}

/// A leaf. Says nothing about its size, lest the planner makes use of that: the plan depends on the definition alone.
#[derive(Debug)]
pub(crate) struct ReadExec<R> {
    pub(super) from: R,
    properties: Arc<PlanProperties>,
}

impl<R: ReadRows> ReadExec<R> {
    /// ReadRows rows with these columns.
    pub(super) fn over(from: R, schema: SchemaRef, shape: Shape) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(shape.partitions()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        // There is nothing to wait for in memory; said so, the planner does not wrap the leaf.
        let properties = Arc::new(properties.with_scheduling_type(SchedulingType::Cooperative));
        Self { from, properties }
    }
}

impl<R: ReadRows> DisplayAs for ReadExec<R> {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", R::NAME)?;
        self.from.detail(&self.schema(), f)
    }
}

impl<R: ReadRows> ExecutionPlan for ReadExec<R> {
    fn name(&self) -> &str {
        R::NAME
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    /// Partitions are there for the planner: all rows are in the first.
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = self.schema();
        let rows = if partition == 0 { self.from.rows(&schema, &context)? } else { Vec::new() };
        Ok(Box::pin(MemoryStream::try_new(rows, schema, None)?))
    }
}
