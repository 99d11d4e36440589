//! A sort that keeps ties in input order; DataFusion's does not.

use crate::decode::BATCH_ROWS;
use datafusion::arrow::array::{RecordBatch, UInt32Array};
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err, resources_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{LexOrdering, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties, apply_expression_roots,
};
use futures::{StreamExt, TryStreamExt, stream};
use std::fmt;
use std::sync::Arc;

/// Sorts each partition in memory; gives at most `fetch` rows of each.
#[derive(Debug)]
pub(crate) struct StableSortExec {
    input: Arc<dyn ExecutionPlan>,
    order: LexOrdering,
    fetch: Option<usize>,
    properties: Arc<PlanProperties>,
}

impl StableSortExec {
    /// Sorts the rows of `input`.
    pub(crate) fn try_new(input: Arc<dyn ExecutionPlan>, order: LexOrdering, fetch: Option<usize>) -> Result<Self> {
        let mut equivalences = input.equivalence_properties().clone();
        equivalences.reorder(order.clone())?;
        let properties = PlanProperties::new(
            equivalences,
            input.output_partitioning().clone(),
            EmissionType::Final,
            input.boundedness(),
        );
        Ok(Self { input, order, fetch, properties: Arc::new(properties) })
    }
}

impl DisplayAs for StableSortExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StableSortExec: expr=[{}], fetch={:?}", self.order, self.fetch)
    }
}

impl ExecutionPlan for StableSortExec {
    fn name(&self) -> &str {
        "StableSortExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        apply_expression_roots(self.order.iter().map(|sort| &sort.expr), f)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let [input] = children.as_slice() else {
            return internal_err!("a sort has one input");
        };
        Ok(Arc::new(Self::try_new(input.clone(), self.order.clone(), self.fetch)?))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, RECOMPUTE)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut input = self.input.execute(partition, context.clone())?;
        let memory = MemoryConsumer::new("sort").register(context.memory_pool());
        let (schema, order, fetch) = (self.schema(), self.order.clone(), self.fetch);
        let sorted = stream::once(async move {
            let mut batches = Vec::new();
            while let Some(batch) = input.next().await.transpose()? {
                // The rows, their concatenation, and the sorted copy.
                memory.try_grow(3 * batch.get_array_memory_size())?;
                batches.push(batch);
            }
            let sorted = sort(&schema, &batches, &order, fetch)?;
            Ok::<_, datafusion::error::DataFusionError>(slices(sorted, memory))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), sorted.try_flatten())))
    }
}

/// What [`ExecutionPlan::with_new_children`] stands for.
pub(crate) const RECOMPUTE: ReplaceChildrenOptions =
    ReplaceChildrenOptions::new(datafusion::physical_plan::execution_plan::ChildrenPropertiesMode::Recompute);

fn sort(schema: &SchemaRef, batches: &[RecordBatch], order: &LexOrdering, fetch: Option<usize>) -> Result<RecordBatch> {
    let all = concat_batches(schema, batches)?;
    let rows = u32::try_from(all.num_rows()).map_err(|_| resources_datafusion_err!("2^32 rows or more to sort"))?;
    let mut fields = Vec::with_capacity(order.len());
    let mut columns = Vec::with_capacity(order.len());
    for sort in order {
        let column = sort.expr.evaluate(&all)?.into_array(all.num_rows())?;
        fields.push(SortField::new_with_options(column.data_type().clone(), sort.options));
        columns.push(column);
    }
    let keys = RowConverter::new(fields)?.convert_columns(&columns)?;
    let mut places: Vec<u32> = (0..rows).collect();
    places.sort_by(|&a, &b| keys.row(a as usize).cmp(&keys.row(b as usize)));
    places.truncate(fetch.unwrap_or(usize::MAX));
    Ok(take_record_batch(&all, &UInt32Array::from(places))?)
}

/// Cut into batches; the memory counts as used until the last is taken.
fn slices(batch: RecordBatch, memory: MemoryReservation) -> impl futures::Stream<Item = Result<RecordBatch>> {
    let starts = (0..batch.num_rows()).step_by(BATCH_ROWS);
    stream::iter(starts).map(move |start| {
        let _held = &memory;
        Ok(batch.slice(start, BATCH_ROWS.min(batch.num_rows() - start)))
    })
}
