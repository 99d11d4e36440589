//! The leaf of every plan: reads what the task was given.

use super::read::{ReadExec, ReadRows, ReadTable};
use crate::decode::BATCH_ROWS;
use crate::session::Shape;
use datafusion::arrow::compute::BatchCoalescer;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{Result, exec_datafusion_err, internal_err};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use std::fmt;
use std::ops::Range;

/// The inputs of one run: rows per input. An extension of the session configuration of that run.
#[derive(Debug)]
pub(crate) struct TaskInputs(pub(crate) Vec<Vec<RecordBatch>>);

/// The table that plans are made over.
pub(crate) type LeafTable = ReadTable<InputRows>;

/// Reads inputs of the task.
pub(crate) type LeafExec = ReadExec<InputRows>;

/// Inputs of the task, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct InputRows(Range<usize>);

impl LeafTable {
    /// The table of a plan with this number, from 0.
    pub(crate) fn new(number: usize, schema: SchemaRef, shape: Shape) -> Self {
        Self { from: InputRows(number..number + 1), schema, shape }
    }
}

impl LeafExec {
    /// Reads all of these inputs, which have these columns.
    pub(crate) fn new(inputs: Range<usize>, schema: SchemaRef, shape: Shape) -> Self {
        Self::over(InputRows(inputs), None, schema, shape)
    }

    /// The first input it reads: while planning, the number of the table it stands for.
    pub(crate) fn first(&self) -> usize {
        self.from.0.start
    }
}

impl ReadRows for InputRows {
    const NAME: &'static str = "LeafExec";

    fn detail(&self, leaf: &LeafExec, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, projection={:?}", self.0, leaf.projection())
    }

    /// In batches of the same size however the input was cut, since some aggregates add up by batch.
    fn rows(&self, leaf: &LeafExec, context: &TaskContext) -> Result<Vec<RecordBatch>> {
        let inputs = context
            .session_config()
            .get_extension::<TaskInputs>()
            .ok_or_else(|| exec_datafusion_err!("a task without inputs"))?;
        let Some(inputs) = inputs.0.get(self.0.clone()) else {
            return internal_err!("the task has no inputs {:?}", self.0);
        };
        let mut coalescer = BatchCoalescer::new(leaf.schema(), BATCH_ROWS);
        let mut out = Vec::new();
        for batch in inputs.iter().flatten() {
            coalescer.push_batch(leaf.projected(batch)?)?;
            out.extend(std::iter::from_fn(|| coalescer.next_completed_batch()));
        }
        coalescer.finish_buffered_batch()?;
        out.extend(std::iter::from_fn(|| coalescer.next_completed_batch()));
        Ok(out)
    }
}
