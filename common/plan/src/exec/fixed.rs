//! The other leaf: a table, which has the same rows wherever a batch reads it.

use super::read::{ReadExec, ReadRows};
use crate::session::Shape;
use crate::tables::TablesAt;
use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, exec_datafusion_err, project_schema};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use std::fmt;
use std::sync::Arc;

/// A table, to be registered under its name: a [`FixedExec`] when planned.
#[derive(Debug, Clone)]
pub(crate) struct FixedTable {
    /// Its position among the tables of the job.
    number: usize,
    /// Its name.
    pub(crate) name: String,
    /// Tells this content from others in displayed plans, and so in the fingerprint of a job.
    version: u64,
    schema: SchemaRef,
    rows: Arc<Vec<RecordBatch>>,
    shape: Shape,
}

impl FixedTable {
    /// The table at this position among those of the job, with the rows it is submitted with, whose content has this version.
    pub(crate) fn new(number: usize, name: &str, version: u64, schema: SchemaRef, rows: Vec<RecordBatch>) -> Self {
        Self { number, name: name.to_string(), version, schema, rows: Arc::new(rows), shape: Shape::Single }
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

#[async_trait]
impl TableProvider for FixedTable {
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
        let from = TableRows { table: self.clone(), projection: projection.cloned() };
        Ok(Arc::new(FixedExec::over(from, schema, self.shape)))
    }
}

/// Reads a table, as it is in the batch of the run.
pub(crate) type FixedExec = ReadExec<TableRows>;

/// The rows of a table, of all columns or some.
#[derive(Debug)]
pub(crate) struct TableRows {
    table: FixedTable,
    projection: Option<Vec<usize>>,
}

impl FixedExec {
    /// The same in a plan of this shape.
    pub(crate) fn planned_for(&self, shape: Shape) -> Self {
        let TableRows { table, projection } = &self.from;
        let from = TableRows { table: table.planned_for(shape), projection: projection.clone() };
        Self::over(from, self.schema(), shape)
    }
}

impl ReadRows for TableRows {
    const NAME: &'static str = "FixedExec";

    fn detail(&self, schema: &SchemaRef, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<_> = schema.fields().iter().map(|field| field.name().clone()).collect();
        write!(f, "{} {:016x}, columns={columns:?}", self.table.name, self.table.version)
    }

    /// Those that the batch of the run sees.
    fn rows(&self, _: &SchemaRef, context: &TaskContext) -> Result<Vec<RecordBatch>> {
        let current = match context.session_config().get_extension::<TablesAt>() {
            Some(tables) => tables.rows(self.table.number).map_err(|wrong| exec_datafusion_err!("{wrong}"))?,
            None => None,
        };
        let rows = current.as_ref().unwrap_or(&self.table.rows);
        match &self.projection {
            Some(columns) => Ok(rows.iter().map(|rows| rows.project(columns)).collect::<Result<Vec<_>, _>>()?),
            None => Ok(rows.to_vec()),
        }
    }
}
