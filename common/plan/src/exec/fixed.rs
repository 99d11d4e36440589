//! The other leaf: a table, which has the same rows wherever a batch reads it.

use super::leaf::properties;
use crate::session::Shape;
use crate::tables::TablesAt;
use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, exec_datafusion_err, project_schema};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
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
        let properties = properties(project_schema(&self.schema, projection)?, self.shape);
        let (table, projection) = (self.clone(), projection.cloned());
        Ok(Arc::new(FixedExec { table, projection, properties }))
    }
}

/// Reads a table, as it is in the batch of the run. Says nothing about its size: the plan depends on the definition alone.
#[derive(Debug)]
pub(crate) struct FixedExec {
    table: FixedTable,
    projection: Option<Vec<usize>>,
    properties: Arc<PlanProperties>,
}

impl FixedExec {
    /// The same in a plan of this shape.
    pub(crate) fn planned_for(&self, shape: Shape) -> Self {
        let properties = properties(self.schema(), shape);
        Self { table: self.table.planned_for(shape), projection: self.projection.clone(), properties }
    }

    /// The rows that the batch of a run sees.
    fn rows(&self, context: &TaskContext) -> Result<Vec<RecordBatch>> {
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

impl DisplayAs for FixedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<_> = self.schema().fields().iter().map(|field| field.name().clone()).collect();
        write!(f, "FixedExec: {} {:016x}, columns={columns:?}", self.table.name, self.table.version)
    }
}

impl ExecutionPlan for FixedExec {
    fn name(&self) -> &str {
        "FixedExec"
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

    /// All rows are in the first partition.
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = if partition == 0 { self.rows(&context)? } else { Vec::new() };
        Ok(Box::pin(MemoryStream::try_new(rows, self.schema(), None)?))
    }
}
