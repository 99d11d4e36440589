//! The leaves of plans: what all of them say to DataFusion is here, each adds where its rows are.

use crate::session::Shape;
use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, project_schema};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions, SchedulingType};
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use std::fmt;
use std::sync::Arc;

/// Where a leaf finds its rows: in memory, when it runs.
pub(crate) trait ReadRows: Clone + fmt::Debug + Send + Sync + 'static {
    /// The plan's name, in displayed plans too.
    const NAME: &'static str;

    /// What tells a leaf from others, displayed behind the name.
    fn detail(&self, leaf: &ReadExec<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// All rows of a run, with the columns of the leaf.
    fn rows(&self, leaf: &ReadExec<Self>, context: &TaskContext) -> Result<Vec<RecordBatch>>;
}

/// What plans are made over: a [`ReadExec`] when planned.
#[derive(Debug, Clone)]
pub(crate) struct ReadTable<R> {
    pub(super) from: R,
    pub(super) schema: SchemaRef,
    pub(super) shape: Shape,
}

#[async_trait]
impl<R: ReadRows> TableProvider for ReadTable<R> {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = project_schema(&self.schema, projection)?;
        Ok(Arc::new(ReadExec::over(self.from.clone(), projection.cloned(), schema, self.shape)))
    }
}

/// A leaf. Says nothing about its size, lest the planner makes use of that: the plan depends on the definition alone.
#[derive(Debug)]
pub(crate) struct ReadExec<R> {
    pub(super) from: R,
    projection: Option<Vec<usize>>,
    properties: Arc<PlanProperties>,
}

impl<R: ReadRows> ReadExec<R> {
    /// Reads rows; with a projection those columns of them, which `schema` is of.
    pub(super) fn over(from: R, projection: Option<Vec<usize>>, schema: SchemaRef, shape: Shape) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(shape.partitions()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        // There is nothing to wait for in memory; said so, the planner does not wrap the leaf.
        let properties = Arc::new(properties.with_scheduling_type(SchedulingType::Cooperative));
        Self { from, projection, properties }
    }

    /// The same in a plan of this shape.
    pub(crate) fn planned_for(&self, shape: Shape) -> Self {
        Self::over(self.from.clone(), self.projection.clone(), self.schema(), shape)
    }

    /// The columns it gives of those it reads, if not all of them.
    pub(crate) fn projection(&self) -> Option<&[usize]> {
        self.projection.as_deref()
    }

    /// Those columns of rows that were read.
    pub(super) fn projected(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        match &self.projection {
            Some(columns) => Ok(rows.project(columns)?),
            None => Ok(rows.clone()),
        }
    }
}

impl<R: ReadRows> DisplayAs for ReadExec<R> {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", R::NAME)?;
        self.from.detail(self, f)
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
        let rows = if partition == 0 { self.from.rows(self, &context)? } else { Vec::new() };
        Ok(Box::pin(MemoryStream::try_new(rows, self.schema(), None)?))
    }
}
