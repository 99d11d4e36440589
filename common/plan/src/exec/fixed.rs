//! The other leaf: a table whose rows are the same for every batch, wherever it is read.

use super::leaf::properties;
use crate::session::Shape;
use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, project_schema};
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
    /// Its name.
    pub(crate) name: String,
    /// Tells this content from others in displayed plans, and so in the fingerprint of a job.
    version: u64,
    schema: SchemaRef,
    rows: Arc<Vec<RecordBatch>>,
    shape: Shape,
}

impl FixedTable {
    /// A table of these rows, whose content has this version.
    pub(crate) fn new(name: &str, version: u64, schema: SchemaRef, rows: Vec<RecordBatch>) -> Self {
        Self { name: name.to_string(), version, schema, rows: Arc::new(rows), shape: Shape::Single }
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
        let rows = match projection {
            Some(columns) => {
                Arc::new(self.rows.iter().map(|rows| rows.project(columns)).collect::<Result<Vec<_>, _>>()?)
            }
            None => self.rows.clone(),
        };
        let properties = properties(project_schema(&self.schema, projection)?, self.shape);
        Ok(Arc::new(FixedExec { name: self.name.clone(), version: self.version, rows, properties }))
    }
}

/// Reads a table. Says nothing about its size: the plan depends on the definition alone.
#[derive(Debug)]
pub(crate) struct FixedExec {
    name: String,
    version: u64,
    rows: Arc<Vec<RecordBatch>>,
    properties: Arc<PlanProperties>,
}

impl FixedExec {
    /// The same in a plan of this shape.
    pub(crate) fn planned_for(&self, shape: Shape) -> Self {
        let properties = properties(self.schema(), shape);
        Self { name: self.name.clone(), rows: self.rows.clone(), properties, ..*self }
    }
}

impl DisplayAs for FixedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<_> = self.schema().fields().iter().map(|field| field.name().clone()).collect();
        write!(f, "FixedExec: {} {:016x}, columns={columns:?}", self.name, self.version)
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
    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = if partition == 0 { self.rows.to_vec() } else { Vec::new() };
        Ok(Box::pin(MemoryStream::try_new(rows, self.schema(), None)?))
    }
}
