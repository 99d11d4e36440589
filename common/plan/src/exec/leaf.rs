//! The leaf of every plan: reads what the task was given.

use crate::decode::BATCH_ROWS;
use crate::session::Shape;
use async_trait::async_trait;
use datafusion::arrow::compute::BatchCoalescer;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, exec_datafusion_err, internal_err, project_schema};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions, SchedulingType};
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The inputs of one run: rows per input. An extension of the session configuration of that run.
#[derive(Debug)]
pub(crate) struct TaskInputs(pub(crate) Vec<Vec<RecordBatch>>);

/// Reads inputs of the task, one after the other. Says nothing about their size, lest the planner makes use of that.
#[derive(Debug)]
pub(crate) struct LeafExec {
    inputs: Range<usize>,
    schema: SchemaRef,
    projection: Option<Vec<usize>>,
    properties: Arc<PlanProperties>,
}

impl LeafExec {
    /// Reads these inputs, which have these columns.
    pub(crate) fn new(inputs: Range<usize>, schema: SchemaRef, shape: Shape) -> Self {
        let properties = properties(schema.clone(), shape);
        Self { inputs, schema, projection: None, properties }
    }

    /// The first input it reads: while planning, the number of the table it stands for.
    pub(crate) fn first(&self) -> usize {
        self.inputs.start
    }

    /// The same, but only these columns.
    fn project(mut self, columns: &[usize], shape: Shape) -> Result<Self> {
        let schema = project_schema(&self.schema, Some(&columns.to_vec()))?;
        self.properties = properties(schema, shape);
        self.projection = Some(columns.to_vec());
        Ok(self)
    }

    /// The columns it gives of those it reads, if not all of them.
    pub(crate) fn projection(&self) -> Option<&[usize]> {
        self.projection.as_deref()
    }

    /// In batches of the same size however the input was cut, since some aggregates add up by batch.
    fn batches(&self, inputs: &TaskInputs) -> Result<Vec<RecordBatch>> {
        let Some(inputs) = inputs.0.get(self.inputs.clone()) else {
            return internal_err!("the task has no inputs {:?}", self.inputs);
        };
        let mut coalescer = BatchCoalescer::new(self.properties.eq_properties.schema().clone(), BATCH_ROWS);
        let mut out = Vec::new();
        for batch in inputs.iter().flatten() {
            let batch = match &self.projection {
                Some(columns) => batch.project(columns)?,
                None => batch.clone(),
            };
            coalescer.push_batch(batch)?;
            out.extend(std::iter::from_fn(|| coalescer.next_completed_batch()));
        }
        coalescer.finish_buffered_batch()?;
        out.extend(std::iter::from_fn(|| coalescer.next_completed_batch()));
        Ok(out)
    }
}

/// Of a leaf whose rows are in memory.
pub(super) fn properties(schema: SchemaRef, shape: Shape) -> Arc<PlanProperties> {
    let properties = PlanProperties::new(
        EquivalenceProperties::new(schema),
        Partitioning::UnknownPartitioning(shape.partitions()),
        EmissionType::Incremental,
        Boundedness::Bounded,
    );
    // There is nothing to wait for in memory; said so, the planner does not wrap the leaf.
    Arc::new(properties.with_scheduling_type(SchedulingType::Cooperative))
}

impl DisplayAs for LeafExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeafExec: {:?}, projection={:?}", self.inputs, self.projection)
    }
}

impl ExecutionPlan for LeafExec {
    fn name(&self) -> &str {
        "LeafExec"
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

    /// Partitions are there for the planner; the task reads everything from the first.
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let inputs = context
            .session_config()
            .get_extension::<TaskInputs>()
            .ok_or_else(|| exec_datafusion_err!("a task without inputs"))?;
        let batches = if partition == 0 { self.batches(&inputs)? } else { Vec::new() };
        Ok(Box::pin(MemoryStream::try_new(batches, self.schema(), None)?))
    }
}

/// The table that plans are made over: a [`LeafExec`] when planned.
#[derive(Debug)]
pub(crate) struct LeafTable {
    /// Which table of the plan it is, from 0.
    pub(crate) number: usize,
    /// Its columns.
    pub(crate) schema: SchemaRef,
    /// What plans are made for.
    pub(crate) shape: Shape,
}

#[async_trait]
impl TableProvider for LeafTable {
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
        let leaf = LeafExec::new(self.number..self.number + 1, self.schema.clone(), self.shape);
        Ok(match projection {
            Some(columns) => Arc::new(leaf.project(columns, self.shape)?),
            None => Arc::new(leaf),
        })
    }
}
