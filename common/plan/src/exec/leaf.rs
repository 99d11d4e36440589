//! The leaf of every plan: reads what the task was given.

use super::read::{ReadExec, ReadRows};
use crate::decode::BATCH_ROWS;
use crate::session::Shape;
use async_trait::async_trait;
use datafusion::arrow::compute::BatchCoalescer;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, exec_datafusion_err, internal_err, project_schema};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The inputs of one run: rows per input. An extension of the session configuration of that run.
#[derive(Debug)]
pub(crate) struct TaskInputs(pub(crate) Vec<Vec<RecordBatch>>);

/// Reads inputs of the task.
pub(crate) type LeafExec = ReadExec<InputRows>;

/// Inputs of the task, one after the other, all columns or some.
#[derive(Debug)]
pub(crate) struct InputRows {
    inputs: Range<usize>,
    projection: Option<Vec<usize>>,
}

impl LeafExec {
    /// Reads all of these inputs, which have these columns.
    pub(crate) fn new(inputs: Range<usize>, schema: SchemaRef, shape: Shape) -> Self {
        Self::over(InputRows { inputs, projection: None }, schema, shape)
    }

    /// The first input it reads: while planning, the number of the table it stands for.
    pub(crate) fn first(&self) -> usize {
        self.from.inputs.start
    }

    /// The columns it gives of those it reads, if not all of them.
    pub(crate) fn projection(&self) -> Option<&[usize]> {
        self.from.projection.as_deref()
    }
}

impl ReadRows for InputRows {
    const NAME: &'static str = "LeafExec";

    fn detail(&self, _: &SchemaRef, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, projection={:?}", self.inputs, self.projection)
    }

    /// In batches of the same size however the input was cut, since some aggregates add up by batch.
    fn rows(&self, schema: &SchemaRef, context: &TaskContext) -> Result<Vec<RecordBatch>> {
        let inputs = context
            .session_config()
            .get_extension::<TaskInputs>()
            .ok_or_else(|| exec_datafusion_err!("a task without inputs"))?;
        let Some(inputs) = inputs.0.get(self.inputs.clone()) else {
            return internal_err!("the task has no inputs {:?}", self.inputs);
        };
        let mut coalescer = BatchCoalescer::new(schema.clone(), BATCH_ROWS);
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
        let schema = project_schema(&self.schema, projection)?;
        let from = InputRows { inputs: self.number..self.number + 1, projection: projection.cloned() };
        Ok(Arc::new(LeafExec::over(from, schema, self.shape)))
    }
}
