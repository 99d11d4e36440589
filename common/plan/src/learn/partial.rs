//! Sums over rows, made where the rows are: what goes to the owner of a model that learns a batch in one pass.

use super::predict::{AskedModel, model_of_task};
use super::rows::{Lesson, SPLIT_ROWS};
use crate::exec::RECOMPUTE;
use datafusion::arrow::array::{BinaryBuilder, Int64Builder, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, exec_datafusion_err, internal_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::{StreamExt, stream};
use std::fmt;
use std::sync::Arc;
use tidemill_ml::Model;

/// Of every [`SPLIT_ROWS`] rows of a unit, in order, what they add to a model as the batch before has left it: the sums, and how many of
/// the rows have a null. A unit is fixed by data and so are its splits, wherever batches of rows end.
#[derive(Debug)]
pub(crate) struct PartialExec {
    input: Arc<dyn ExecutionPlan>,
    lesson: Lesson,
    asked: AskedModel,
    properties: Arc<PlanProperties>,
}

impl PartialExec {
    /// `input` gives the columns of the lesson; `model` is the model's position.
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, lesson: Lesson, model: usize) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Self::schema()),
            input.output_partitioning().clone(),
            EmissionType::Final,
            input.boundedness(),
        );
        let asked = AskedModel { model, after_training: false };
        Self { input, lesson, asked, properties: Arc::new(properties) }
    }

    fn schema() -> SchemaRef {
        let sums = Field::new("partial", DataType::Binary, false);
        Arc::new(Schema::new(vec![sums, Field::new("nulls", DataType::Int64, false)]))
    }

    /// The model that has to be there when it runs.
    pub(super) fn asked(&self) -> &AskedModel {
        &self.asked
    }
}

impl DisplayAs for PartialExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartialExec: {:?}", self.lesson)
    }
}

impl ExecutionPlan for PartialExec {
    fn name(&self) -> &str {
        "PartialExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let [input] = children.as_slice() else {
            return internal_err!("there is one input");
        };
        Ok(Arc::new(Self::new(input.clone(), self.lesson.clone(), self.asked.model)))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, RECOMPUTE)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut input = self.input.execute(partition, context.clone())?;
        let memory = MemoryConsumer::new("partial sums").register(context.memory_pool());
        let (lesson, asked, schema) = (self.lesson.clone(), self.asked.clone(), self.input.schema());
        let sums = stream::once(async move {
            let model = model_of_task(&asked);
            let model = model.ok_or_else(|| exec_datafusion_err!("model `{}` outside of a batch", lesson.model))?;
            let mut sums = Sums { lesson, model, partials: BinaryBuilder::new(), nulls: Int64Builder::new() };
            let (mut held, mut rows) = (Vec::new(), 0);
            while let Some(batch) = input.next().await.transpose()? {
                // The rows, and their numbers as a matrix.
                memory.try_grow(2 * batch.get_array_memory_size())?;
                rows += batch.num_rows();
                held.push(batch);
                if rows >= SPLIT_ROWS {
                    let rest = sums.add_whole(&concat_batches(&schema, &held)?)?;
                    memory.try_resize(2 * rest.get_array_memory_size())?;
                    rows = rest.num_rows();
                    held = vec![rest];
                }
            }
            if rows > 0 {
                sums.add(&concat_batches(&schema, &held)?)?;
            }
            sums.finish()
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Self::schema(), sums)))
    }
}

/// The splits of a unit so far.
struct Sums {
    lesson: Lesson,
    model: Arc<Model>,
    partials: BinaryBuilder,
    nulls: Int64Builder,
}

impl Sums {
    fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        let (partial, nulls) = self.lesson.partial(&self.model, rows)?;
        self.partials.append_value(partial.to_bytes());
        self.nulls.append_value(nulls as i64);
        Ok(())
    }

    /// Adds all whole splits; gives the rows that are left.
    fn add_whole(&mut self, rows: &RecordBatch) -> Result<RecordBatch> {
        let whole = rows.num_rows() / SPLIT_ROWS * SPLIT_ROWS;
        (0..whole).step_by(SPLIT_ROWS).try_for_each(|from| self.add(&rows.slice(from, SPLIT_ROWS)))?;
        Ok(rows.slice(whole, rows.num_rows() - whole))
    }

    fn finish(mut self) -> Result<RecordBatch> {
        let columns = vec![Arc::new(self.partials.finish()) as _, Arc::new(self.nulls.finish()) as _];
        Ok(RecordBatch::try_new(PartialExec::schema(), columns)?)
    }
}
