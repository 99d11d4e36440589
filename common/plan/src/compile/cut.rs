//! Cuts a physical plan into stages where the planner put exchanges.
//!
//! What stands right on hash exchanges (aggregates, joins, windows) is the head of a stage of key groups, together with
//! what only looks at single rows after it; everything else above becomes a branch, which runs per key group. A union
//! is no operator at all: its inputs are the lanes of what follows. A plan with anything that is not known here to be
//! independent of how rows are spread is not cut: see [`single`].

use super::Failure;
use super::join::{Sides, join_head};
use super::look_up::{fixed, look_up};
use super::stages::{Head, Lane, Part, Rows, Stages, column, project};
use crate::exec::{Concat, LeafExec, OverExec, StableSort};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{JoinType, Result};
use datafusion::error::DataFusionError;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{Partitioning, PhysicalExpr};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use std::sync::Arc;

type Plan = Arc<dyn ExecutionPlan>;

/// Cuts a plan over leaves that stand for `inputs`; new stages get this name.
pub(super) fn cut(plan: &Plan, inputs: &[Rows], stages: &mut Stages, name: &str) -> Result<Rows, Failure> {
    Cutter { inputs, stages, name }.rows(plan)
}

struct Cutter<'a> {
    inputs: &'a [Rows],
    stages: &'a mut Stages,
    name: &'a str,
}

impl Cutter<'_> {
    fn rows(&mut self, plan: &Plan) -> Result<Rows, Failure> {
        if let Some(leaf) = plan.downcast_ref::<LeafExec>() {
            return self.leaf(leaf);
        }
        if let Some(union) = plan.downcast_ref::<UnionExec>() {
            return self.union(union);
        }
        if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
            return self.join(join);
        }
        let [child] = plan.children()[..] else {
            return Err(Failure::Uncuttable);
        };
        let child = self.rows(child)?;
        if let Some(exchange) = plan.downcast_ref::<RepartitionExec>() {
            let keys = hash_keys(exchange.partitioning()).ok_or(Failure::Uncuttable)?;
            Ok(self.stages.hash(child, keys, self.name)?.into())
        } else if let Some(exchange) = plan.downcast_ref::<CoalescePartitionsExec>() {
            Ok(self.stages.gather(child, None, exchange.fetch(), self.name)?.into())
        } else if let Some(merge) = plan.downcast_ref::<SortPreservingMergeExec>() {
            Ok(self.stages.gather(child, Some(merge.expr().clone()), merge.fetch(), self.name)?.into())
        } else {
            child.each(|lane| self.lane(plan, lane))
        }
    }

    /// What stays in the stage of its input.
    fn lane(&mut self, plan: &Plan, child: Lane) -> Result<Lane, Failure> {
        if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
            self.aggregate(plan, aggregate, child)
        } else if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
            self.projection(projection.expr(), child)
        } else if let Some(filter) = plan.downcast_ref::<FilterExec>() {
            self.filter(filter, child)
        } else if let Some(sort) = plan.downcast_ref::<SortExec>() {
            // A limit is per key group; without one a head may sort all its groups together.
            let child = if sort.fetch().is_some() { self.per_unit(child) } else { child };
            let sort = StableSort { order: sort.expr().clone(), fetch: sort.fetch() };
            let sorted = OverExec::try_new(child.plan.clone(), sort)?;
            Ok(child.with(sorted))
        } else if plan.is::<BoundedWindowAggExec>() || plan.is::<WindowAggExec>() {
            // The planner has seen to it that all rows of a window have one key. Columns are added behind the others.
            match child.part {
                Part::Head(_) => window(plan, child),
                Part::Branch { .. } => Err(Failure::Uncuttable),
            }
        } else if let Some(limit) = plan.downcast_ref::<LocalLimitExec>() {
            self.limit(limit.fetch(), child)
        } else if plan.is::<GlobalLimitExec>() && child.part == Part::Head(Head::Single) {
            on_top(plan, child)
        } else {
            Err(Failure::Uncuttable)
        }
    }

    fn leaf(&mut self, leaf: &LeafExec) -> Result<Rows, Failure> {
        let input = self.inputs.get(leaf.first()).ok_or(Failure::Uncuttable)?.clone();
        let Some(columns) = leaf.projection() else {
            return Ok(input);
        };
        input.each(|lane| {
            let schema = lane.plan.schema();
            Ok(lane.projected(columns.iter().map(|&index| column(&schema, index)).collect())?)
        })
    }

    /// The lanes of all inputs, under the names of the first.
    fn union(&mut self, union: &UnionExec) -> Result<Rows, Failure> {
        let mut lanes = Vec::new();
        for input in union.inputs() {
            let rows = self.rows(input)?;
            lanes.extend(self.stages.seal(rows).0);
        }
        let schema = union.schema();
        Rows(lanes).each(|lane| {
            let columns = schema.fields().iter().enumerate();
            let columns = columns.map(|(index, field)| {
                let alias = field.name().clone();
                ProjectionExpr { alias, ..column(&lane.plan.schema(), index) }
            });
            let columns = columns.collect();
            Ok(lane.projected(columns)?)
        })
    }

    fn join(&mut self, join: &HashJoinExec) -> Result<Rows, Failure> {
        if *join.partition_mode() != PartitionMode::Partitioned || join.null_aware {
            return Err(Failure::Uncuttable);
        }
        if let Some(table) = fixed(join.left())? {
            return self.look_up(join, &table, true, join.right());
        }
        if let Some(table) = fixed(join.right())? {
            return self.look_up(join, &table, false, join.left());
        }
        // With a condition, right rows without a partner come when a batch ends: their order would tell where that is.
        if join.filter().is_some() && matches!(join.join_type(), JoinType::Right | JoinType::Full) {
            return Err(Failure::Uncuttable);
        }
        let keys = join.on().iter().map(|(left, right)| Some((index(left)?, index(right)?)));
        let keys: Option<(Vec<_>, Vec<_>)> = keys.collect();
        let (left_keys, right_keys) = keys.ok_or(Failure::Uncuttable)?;
        let left = self.side(join.left())?;
        let right = self.side(join.right())?;
        let sides = Sides { left: (left, left_keys), right: (right, right_keys) };
        let (filter, nulls) = (join.filter().cloned(), join.null_equality());
        let (lane, width) = join_head(self.stages, sides, *join.join_type(), filter, nulls, self.name)?;
        let schema = lane.plan.schema();
        let columns: Vec<_> = match &join.projection {
            Some(columns) => columns.iter().map(|&index| column(&schema, index)).collect(),
            None => (0..width).map(|index| column(&schema, index)).collect(),
        };
        let lane = self.projection(&columns, lane)?;
        Ok(match join.fetch() {
            Some(fetch) => self.limit(fetch, lane)?.into(),
            None => lane.into(),
        })
    }

    /// A join with a table, which every lane of the stream does where it is.
    fn look_up(&mut self, join: &HashJoinExec, table: &Plan, table_first: bool, rows: &Plan) -> Result<Rows, Failure> {
        self.side(rows)?.each(|lane| {
            // The planner takes the rows for spread by the key of the join, which a head may be relied upon for.
            let lane = look_up(join, table.clone(), table_first, self.per_unit(lane))?;
            match join.fetch() {
                Some(fetch) => self.limit(fetch, lane),
                None => Ok(lane),
            }
        })
    }

    /// A side of a join, which has an exchange of its own in any case.
    fn side(&mut self, plan: &Plan) -> Result<Rows, Failure> {
        match plan.downcast_ref::<RepartitionExec>() {
            Some(exchange) => self.rows(exchange.input()),
            None => self.rows(plan),
        }
    }

    fn aggregate(&mut self, plan: &Plan, aggregate: &AggregateExec, child: Lane) -> Result<Lane, Failure> {
        if child.part == Part::Head(Head::Single) {
            return on_top(plan, child);
        }
        match (aggregate.mode(), &child.part) {
            (AggregateMode::Partial, _) => {
                let child = self.per_unit(child);
                let visible = child.visible()?;
                let part = Part::Branch { keyed: false };
                on_top(plan, Lane { plan: visible, part, ..child })
            }
            (AggregateMode::FinalPartitioned | AggregateMode::SinglePartitioned, Part::Head(Head::Keys(columns))) => {
                let groups: Vec<_> = aggregate.group_expr().expr().iter().map(|(expr, _)| index(expr)).collect();
                let place = |key: &usize| groups.iter().position(|group| *group == Some(*key));
                let columns: Option<Vec<_>> = columns.iter().map(place).collect();
                let columns = columns.ok_or(Failure::Uncuttable)?;
                let mut lane = on_top(plan, child)?;
                lane.part = Part::Head(Head::Keys(columns));
                Ok(lane)
            }
            _ => Err(Failure::Uncuttable),
        }
    }

    fn projection(&mut self, exprs: &[ProjectionExpr], mut child: Lane) -> Result<Lane, Failure> {
        if let Part::Head(Head::Keys(columns)) = &child.part {
            let place = |key: &usize| exprs.iter().position(|e| index(&e.expr) == Some(*key));
            match columns.iter().map(place).collect::<Option<Vec<_>>>() {
                Some(columns) => child.part = Part::Head(Head::Keys(columns)),
                // Without its keys a head would have no order: it ends here.
                None => child = self.stages.seal_lane(child),
            }
        }
        Ok(child.projected(exprs.to_vec())?)
    }

    fn filter(&mut self, filter: &FilterExec, child: Lane) -> Result<Lane, Failure> {
        let kept = FilterExecBuilder::new(filter.predicate().clone(), child.plan.clone()).build()?;
        let mut lane = child.with(Arc::new(kept));
        if let Some(columns) = filter.projection() {
            let schema = lane.plan.schema();
            let columns: Vec<_> = columns.iter().map(|&index| column(&schema, index)).collect();
            lane = self.projection(&columns, lane)?;
        }
        match filter.fetch() {
            Some(fetch) => self.limit(fetch, lane),
            None => Ok(lane),
        }
    }

    /// At most so many rows of a unit.
    fn limit(&mut self, fetch: usize, child: Lane) -> Result<Lane, Failure> {
        let child = self.per_unit(child);
        let limit = LocalLimitExec::new(child.plan.clone(), fetch);
        Ok(child.with(Arc::new(limit)))
    }

    /// Ends a head of key groups, so that what follows sees one key group at a time.
    fn per_unit(&mut self, lane: Lane) -> Lane {
        match &lane.part {
            Part::Head(Head::Keys(_)) => self.stages.seal_lane(lane),
            _ => lane,
        }
    }
}

fn on_top(plan: &Plan, child: Lane) -> Result<Lane, Failure> {
    let plan = replace_children_if_necessary(plan.clone(), vec![child.plan.clone()])?;
    Ok(child.with(plan))
}

/// A window over rows that are still known to come in the order it needs: what a filter says about them is not.
fn window(plan: &Plan, child: Lane) -> Result<Lane, Failure> {
    let lane = on_top(plan, child)?;
    let ordered = match lane.plan.downcast_ref::<BoundedWindowAggExec>() {
        Some(window) => window.partition_by_sort_keys(),
        None => lane.plan.downcast_ref::<WindowAggExec>().map_or(Ok(Vec::new()), WindowAggExec::partition_by_sort_keys),
    };
    ordered.map(|_| lane).map_err(|_| Failure::Uncuttable)
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

/// Makes a plan (made for one partition) run as one piece, with these plans for its leaves: correct for any query,
/// spread over nothing. Exchanges that are left inside, such as those over the branches of a union, take
/// their partitions in order.
pub(super) fn single(plan: Plan, inputs: &[Plan]) -> Result<Plan, Failure> {
    let plan = plan.transform_up(|node| Ok(Transformed::yes(in_order(node, inputs)?))).data()?;
    Ok(concat(&plan)?)
}

fn in_order(node: Plan, inputs: &[Plan]) -> Result<Plan> {
    if let Some(leaf) = node.downcast_ref::<LeafExec>() {
        let Some(input) = inputs.get(leaf.first()) else {
            return Err(not_supported("this table"));
        };
        return match leaf.projection() {
            None => Ok(input.clone()),
            Some(columns) => project(input, columns),
        };
    }
    if let Some(sort) = node.downcast_ref::<SortExec>() {
        let input = if sort.preserve_partitioning() { sort.input().clone() } else { concat(sort.input())? };
        return OverExec::try_new(input, StableSort { order: sort.expr().clone(), fetch: sort.fetch() });
    }
    if let Some(merge) = node.downcast_ref::<SortPreservingMergeExec>() {
        let all = concat(merge.input())?;
        return OverExec::try_new(all, StableSort { order: merge.expr().clone(), fetch: merge.fetch() });
    }
    if let Some(exchange) = node.downcast_ref::<CoalescePartitionsExec>() {
        let all = concat(exchange.input())?;
        return Ok(match exchange.fetch() {
            None => all,
            fetch => Arc::new(GlobalLimitExec::new(all, 0, fetch)),
        });
    }
    if let Some(exchange) = node.downcast_ref::<RepartitionExec>() {
        if exchange.partitioning().partition_count() == 1 {
            return concat(exchange.input());
        }
        return Err(not_supported("this spread of rows"));
    }
    if node.children().is_empty() && !CONSTANT.contains(&node.name()) {
        return Err(not_supported(node.name()));
    }
    Ok(node)
}

/// Leaves that hold rows written in the query, or those of a table.
const CONSTANT: [&str; 4] = ["PlaceholderRowExec", "EmptyExec", "DataSourceExec", "FixedExec"];

fn not_supported(what: &str) -> DataFusionError {
    DataFusionError::Plan(format!("{what} is not supported in a stream's query"))
}

fn concat(plan: &Plan) -> Result<Plan> {
    match plan.output_partitioning().partition_count() {
        1 => Ok(plan.clone()),
        _ => OverExec::try_new(plan.clone(), Concat),
    }
}
