//! A sort that keeps ties in input order; DataFusion's does not.

use super::over::{OverInput, at_the_end, gathered};
use crate::decode::BATCH_ROWS;
use datafusion::arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{SortOptions, concat_batches, take_record_batch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::{DataFusionError, Result, resources_datafusion_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_expr::{LexOrdering, PhysicalExpr};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use std::fmt;
use std::sync::Arc;

/// Sorts each partition in memory.
#[derive(Debug, Clone)]
pub(crate) struct StableSort {
    /// What by.
    pub(crate) order: LexOrdering,
    /// At most so many rows of each partition come out.
    pub(crate) fetch: Option<usize>,
}

impl OverInput for StableSort {
    const NAME: &'static str = "StableSortExec";

    fn properties(&self, input: &Arc<dyn ExecutionPlan>) -> Result<PlanProperties> {
        let mut equivalences = input.equivalence_properties().clone();
        equivalences.reorder(self.order.clone())?;
        Ok(at_the_end(equivalences, input))
    }

    fn detail(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ": expr=[{}], fetch={:?}", self.order, self.fetch)
    }

    fn expressions(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.order.iter().map(|sort| &sort.expr).collect()
    }

    fn run(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<impl Stream<Item = Result<RecordBatch>> + Send + 'static> {
        let memory = MemoryConsumer::new("sort").register(context.memory_pool());
        let (schema, Self { order, fetch }) = (input.schema(), self.clone());
        let input = input.execute(partition, context)?;
        let sorted = stream::once(async move {
            // The rows, their concatenation, and the sorted copy.
            let batches = gathered(input, &memory, 3).await?;
            let sorted = sort(&schema, &batches, &order, fetch)?;
            Ok::<_, DataFusionError>(slices(sorted, memory))
        });
        Ok(sorted.try_flatten())
    }
}

fn sort(schema: &SchemaRef, batches: &[RecordBatch], order: &LexOrdering, fetch: Option<usize>) -> Result<RecordBatch> {
    let all = concat_batches(schema, batches)?;
    let columns = order.iter().map(|sort| sort.expr.evaluate(&all)?.into_array(all.num_rows()));
    let options: Vec<_> = order.iter().map(|sort| sort.options).collect();
    let mut places = stable_order(&columns.collect::<Result<Vec<_>>>()?, &options)?;
    places.truncate(fetch.unwrap_or(usize::MAX));
    Ok(take_record_batch(&all, &UInt32Array::from(places))?)
}

/// The rows of columns in the order of these, first column first; ties stay as they are.
pub(crate) fn stable_order(columns: &[ArrayRef], options: &[SortOptions]) -> Result<Vec<u32>> {
    let rows = columns.first().map_or(0, |column| column.len());
    let rows = u32::try_from(rows).map_err(|_| resources_datafusion_err!("2^32 rows or more to sort"))?;
    let field = |(column, options): (&ArrayRef, &SortOptions)| {
        SortField::new_with_options(column.data_type().clone(), *options)
    };
    let fields = columns.iter().zip(options).map(field).collect();
    let keys = RowConverter::new(fields)?.convert_columns(columns)?;
    let mut places: Vec<u32> = (0..rows).collect();
    places.sort_by(|&a, &b| keys.row(a as usize).cmp(&keys.row(b as usize)));
    Ok(places)
}

/// Cut into batches; the memory counts as used until the last is taken.
fn slices(batch: RecordBatch, memory: MemoryReservation) -> impl Stream<Item = Result<RecordBatch>> {
    let starts = (0..batch.num_rows()).step_by(BATCH_ROWS);
    stream::iter(starts).map(move |start| {
        let _held = &memory;
        Ok(batch.slice(start, BATCH_ROWS.min(batch.num_rows() - start)))
    })
}
