//! The other leaf: a table, which has the same rows wherever a batch reads it.

use super::read::{ReadExec, ReadRows, ReadTable};
use crate::session::Shape;
use crate::tables::TablesAt;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use std::fmt;
use std::sync::Arc;

/// A table, to be registered under its name.
pub(crate) type FixedTable = ReadTable<TableRows>;

/// Reads a table, as it is in the batch of the run.
pub(crate) type FixedExec = ReadExec<TableRows>;

/// The rows of a table.
#[derive(Debug, Clone)]
pub(crate) struct TableRows {
    /// Its position among the tables of the job.
    number: usize,
    name: String,
    /// Tells this content from others in displayed plans, and so in the fingerprint of a job.
    version: u64,
    submitted: Arc<Vec<RecordBatch>>,
}

impl FixedTable {
    /// The table at this position among those of the job, with the rows it is submitted with, whose content has this version.
    pub(crate) fn new(number: usize, name: &str, version: u64, schema: SchemaRef, rows: Vec<RecordBatch>) -> Self {
        let from = TableRows { number, name: name.to_string(), version, submitted: Arc::new(rows) };
        Self { from, schema, shape: Shape::Single }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.from.name
    }

    /// Its columns.
    pub(crate) fn columns(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// The same in plans of this shape.
    pub(crate) fn planned_for(&self, shape: Shape) -> Self {
        Self { shape, ..self.clone() }
    }
}

impl ReadRows for TableRows {
    const NAME: &'static str = "FixedExec";

    fn detail(&self, leaf: &FixedExec, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<_> = leaf.schema().fields().iter().map(|field| field.name().clone()).collect();
        write!(f, "{} {:016x}, columns={columns:?}", self.name, self.version)
    }

    /// Those that the batch of the run sees.
    fn rows(&self, leaf: &FixedExec, context: &TaskContext) -> Result<Vec<RecordBatch>> {
        let current = match context.session_config().get_extension::<TablesAt>() {
            Some(tables) => tables.rows(self.number).map_err(|wrong| exec_datafusion_err!("{wrong}"))?,
            None => None,
        };
        let rows = current.as_ref().unwrap_or(&self.submitted);
        rows.iter().map(|rows| leaf.projected(rows)).collect()
    }
}
