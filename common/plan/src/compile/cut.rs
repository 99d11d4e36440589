//! Cuts a physical plan into stages where the planner put exchanges.
//!
//! What stands right on a hash exchange is the head of a stage of key groups, together with what only looks at single
//! rows after it; everything else above becomes a branch, which runs per key group. A plan with anything that is not
//! known here to be independent of how rows are spread (joins, unions, windows, ...) is not cut: see [`single`].

use super::Failure;
use super::stages::{Head, Part, Rows, Stages, column, project};
use crate::exec::{ConcatExec, LeafExec, StableSortExec};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{Partitioning, PhysicalExpr};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use std::sync::Arc;

type Plan = Arc<dyn ExecutionPlan>;

/// Cuts a plan over a leaf that stands for `input`; new stages get this name.
pub(super) fn cut(plan: &Plan, input: &Rows, stages: &mut Stages, name: &str) -> Result<Rows, Failure> {
    Cutter { input, stages, name }.rows(plan)
}

struct Cutter<'a> {
    input: &'a Rows,
    stages: &'a mut Stages,
    name: &'a str,
}

impl Cutter<'_> {
    fn rows(&mut self, plan: &Plan) -> Result<Rows, Failure> {
        if let Some(leaf) = plan.downcast_ref::<LeafExec>() {
            return self.leaf(leaf);
        }
        let [child] = plan.children()[..] else {
            return Err(Failure::Uncuttable);
        };
        let child = self.rows(child)?;
        if let Some(exchange) = plan.downcast_ref::<RepartitionExec>() {
            let keys = hash_keys(exchange.partitioning()).ok_or(Failure::Uncuttable)?;
            self.stages.hash(child, keys, self.name)
        } else if let Some(exchange) = plan.downcast_ref::<CoalescePartitionsExec>() {
            self.stages.gather(child, None, exchange.fetch(), self.name)
        } else if let Some(merge) = plan.downcast_ref::<SortPreservingMergeExec>() {
            self.stages.gather(child, Some(merge.expr().clone()), merge.fetch(), self.name)
        } else if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
            self.aggregate(plan, aggregate, child)
        } else if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
            self.projection(projection.expr(), child)
        } else if let Some(filter) = plan.downcast_ref::<FilterExec>() {
            self.filter(filter, child)
        } else if let Some(sort) = plan.downcast_ref::<SortExec>() {
            let child = self.per_unit(child)?;
            let sort = StableSortExec::try_new(child.plan.clone(), sort.expr().clone(), sort.fetch())?;
            Ok(child.with(Arc::new(sort)))
        } else if let Some(limit) = plan.downcast_ref::<LocalLimitExec>() {
            self.limit(limit.fetch(), child)
        } else if plan.is::<GlobalLimitExec>() && child.part == Part::Head(Head::Single) {
            let limit = replace_children_if_necessary(plan.clone(), vec![child.plan.clone()])?;
            Ok(child.with(limit))
        } else {
            Err(Failure::Uncuttable)
        }
    }

    fn leaf(&mut self, leaf: &LeafExec) -> Result<Rows, Failure> {
        match leaf.projection() {
            None => Ok(self.input.clone()),
            Some(columns) => {
                let schema = self.input.plan.schema();
                let columns = columns.iter().map(|&index| column(&schema, index));
                self.projection(&columns.collect::<Vec<_>>(), self.input.clone())
            }
        }
    }

    fn aggregate(&mut self, plan: &Plan, aggregate: &AggregateExec, child: Rows) -> Result<Rows, Failure> {
        if child.part == Part::Head(Head::Single) {
            return on_top(plan, child);
        }
        match (aggregate.mode(), &child.part) {
            (AggregateMode::Partial, _) => {
                let child = self.per_unit(child)?;
                let visible = child.visible()?;
                let part = Part::Branch { keyed: false };
                on_top(plan, Rows { plan: visible, part, ..child })
            }
            (AggregateMode::FinalPartitioned, Part::Head(Head::Keys { columns, grouped: false })) => {
                let groups: Vec<_> = aggregate.group_expr().expr().iter().map(|(expr, _)| index(expr)).collect();
                let place = |key: &usize| groups.iter().position(|group| *group == Some(*key));
                let columns: Option<Vec<_>> = columns.iter().map(place).collect();
                let columns = columns.ok_or(Failure::Uncuttable)?;
                let mut rows = on_top(plan, child)?;
                rows.part = Part::Head(Head::Keys { columns, grouped: true });
                Ok(rows)
            }
            _ => Err(Failure::Uncuttable),
        }
    }

    fn projection(&mut self, exprs: &[ProjectionExpr], child: Rows) -> Result<Rows, Failure> {
        let mut exprs = exprs.to_vec();
        let child = match &child.part {
            Part::Head(Head::Keys { columns, grouped }) => {
                let place = |key: &usize| exprs.iter().position(|e| index(&e.expr) == Some(*key));
                match columns.iter().map(place).collect::<Option<Vec<_>>>() {
                    Some(columns) => {
                        let part = Part::Head(Head::Keys { columns, grouped: *grouped });
                        Rows { part, ..child }
                    }
                    // Without its keys a head would have no order: it ends here.
                    None => self.per_unit(child)?,
                }
            }
            _ => child,
        };
        if child.part == (Part::Branch { keyed: true }) {
            let schema = child.plan.schema();
            exprs.push(column(&schema, schema.fields().len() - 1));
        }
        let projection = ProjectionExec::try_new(exprs, child.plan.clone())?;
        Ok(child.with(Arc::new(projection)))
    }

    fn filter(&mut self, filter: &FilterExec, child: Rows) -> Result<Rows, Failure> {
        let kept = FilterExecBuilder::new(filter.predicate().clone(), child.plan.clone()).build()?;
        let mut rows = child.with(Arc::new(kept));
        if let Some(columns) = filter.projection() {
            let schema = rows.plan.schema();
            let columns: Vec<_> = columns.iter().map(|&index| column(&schema, index)).collect();
            rows = self.projection(&columns, rows)?;
        }
        match filter.fetch() {
            Some(fetch) => self.limit(fetch, rows),
            None => Ok(rows),
        }
    }

    fn limit(&mut self, fetch: usize, child: Rows) -> Result<Rows, Failure> {
        let child = self.per_unit(child)?;
        let limit = LocalLimitExec::new(child.plan.clone(), fetch);
        Ok(child.with(Arc::new(limit)))
    }

    /// Ends a head of key groups, so that what follows sees one key group at a time.
    fn per_unit(&mut self, rows: Rows) -> Result<Rows, Failure> {
        match &rows.part {
            Part::Head(Head::Keys { grouped: false, .. }) => Err(Failure::Uncuttable),
            Part::Head(Head::Keys { .. }) => Ok(self.stages.seal(rows)),
            _ => Ok(rows),
        }
    }
}

fn on_top(plan: &Plan, child: Rows) -> Result<Rows, Failure> {
    let plan = replace_children_if_necessary(plan.clone(), vec![child.plan.clone()])?;
    Ok(child.with(plan))
}

fn index(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    expr.downcast_ref::<Column>().map(Column::index)
}

fn hash_keys(partitioning: &Partitioning) -> Option<Vec<usize>> {
    match partitioning {
        Partitioning::Hash(exprs, _) => exprs.iter().map(index).collect(),
        _ => None,
    }
}

/// Makes a plan (made for one partition) run as one piece over `input`, all rows in one place: correct for any query,
/// spread over nothing. Exchanges that are left inside, such as those over the branches of a union, take
/// their partitions in order.
pub(super) fn single(plan: Plan, input: &Rows) -> Result<Rows, Failure> {
    let plan = plan.transform_up(|node| Ok(Transformed::yes(in_order(node, input)?))).data()?;
    if plan.output_partitioning().partition_count() != 1 {
        return Ok(input.clone().with(Arc::new(ConcatExec::new(plan))));
    }
    Ok(input.clone().with(plan))
}

fn in_order(node: Plan, input: &Rows) -> Result<Plan> {
    if let Some(leaf) = node.downcast_ref::<LeafExec>() {
        return match leaf.projection() {
            None => Ok(input.plan.clone()),
            Some(columns) => project(&input.plan, columns),
        };
    }
    if let Some(sort) = node.downcast_ref::<SortExec>() {
        let input = if sort.preserve_partitioning() { sort.input().clone() } else { concat(sort.input()) };
        return Ok(Arc::new(StableSortExec::try_new(input, sort.expr().clone(), sort.fetch())?));
    }
    if let Some(merge) = node.downcast_ref::<SortPreservingMergeExec>() {
        let all = concat(merge.input());
        return Ok(Arc::new(StableSortExec::try_new(all, merge.expr().clone(), merge.fetch())?));
    }
    if let Some(exchange) = node.downcast_ref::<CoalescePartitionsExec>() {
        let all = concat(exchange.input());
        return Ok(match exchange.fetch() {
            None => all,
            fetch => Arc::new(GlobalLimitExec::new(all, 0, fetch)),
        });
    }
    if let Some(exchange) = node.downcast_ref::<RepartitionExec>() {
        if exchange.partitioning().partition_count() == 1 {
            return Ok(concat(exchange.input()));
        }
        return Err(not_supported("this spread of rows"));
    }
    if node.children().is_empty() && !CONSTANT.contains(&node.name()) {
        return Err(not_supported(node.name()));
    }
    Ok(node)
}

/// Leaves that hold rows written in the query.
const CONSTANT: [&str; 3] = ["PlaceholderRowExec", "EmptyExec", "DataSourceExec"];

fn not_supported(what: &str) -> DataFusionError {
    DataFusionError::Plan(format!("{what} is not supported in a stream's query"))
}

fn concat(plan: &Plan) -> Plan {
    match plan.output_partitioning().partition_count() {
        1 => plan.clone(),
        _ => Arc::new(ConcatExec::new(plan.clone())),
    }
}
