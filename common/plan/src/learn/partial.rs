//! Sums over rows, made where the rows are: what goes to the owner of a model that learns a batch in one pass.

use super::predict::{AskedModel, model_of_task};
use super::rows::{Lesson, SPLIT_ROWS};
use crate::exec::{OverInput, at_the_end};
use datafusion::arrow::array::{BinaryBuilder, Int64Builder, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::{ExecutionPlan, PlanProperties};
use futures::{Stream, StreamExt, stream};
use std::fmt;
use std::sync::Arc;
use tidemill_ml::Model;

/// Of every [`SPLIT_ROWS`] rows of a unit, in order, what they add to a model as the batch before has left it: the sums, and how many of
/// the rows have a null. A unit is fixed by data and so are its splits, wherever batches of rows end.
#[derive(Debug, Clone)]
pub(crate) struct Partial {
    lesson: Lesson,
    asked: AskedModel,
}

impl Partial {
    /// Over a plan that gives the columns of the lesson; `model` is the model's position.
    pub(crate) fn new(lesson: Lesson, model: usize) -> Self {
        Self { lesson, asked: AskedModel { model, after_training: false } }
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

impl OverInput for Partial {
    const NAME: &'static str = "PartialExec";

    fn properties(&self, input: &Arc<dyn ExecutionPlan>) -> Result<PlanProperties> {
        Ok(at_the_end(EquivalenceProperties::new(Self::schema()), input))
    }

    fn detail(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ": {:?}", self.lesson)
    }

    fn run(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<impl Stream<Item = Result<RecordBatch>> + Send + 'static> {
        let memory = MemoryConsumer::new("partial sums").register(context.memory_pool());
        let (Self { lesson, asked }, schema) = (self.clone(), input.schema());
        let mut input = input.execute(partition, context)?;
        Ok(stream::once(async move {
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
        }))
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
        Ok(RecordBatch::try_new(Partial::schema(), columns)?)
    }
}
