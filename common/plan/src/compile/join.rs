//! Joins: both sides go to the key groups of their keys and meet in the head of one stage.

use super::Failure;
use super::stages::{Head, Lane, Part, Rows, Stages, column};
use crate::exec::{OneBatch, OverExec};
use crate::plan::Reads;
use datafusion::arrow::datatypes::Schema;
use datafusion::common::{JoinType, NullEquality, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CaseExpr, Column, IsNotNullExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{HashJoinExecBuilder, PartitionMode};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use std::sync::Arc;

/// Rows with their key columns; the keys of both sides have the same types.
pub(super) struct Sides {
    pub(super) left: (Rows, Vec<usize>),
    pub(super) right: (Rows, Vec<usize>),
}

/// A head that joins. Within a key, rows come in the order of the right side, those of one right row in the order of
/// the left side, and left rows without a partner behind all others. Gives also how many columns the join has: behind
/// them may stand columns that only serve as keys.
pub(super) fn join_head(
    stages: &mut Stages,
    sides: Sides,
    join_type: JoinType,
    filter: Option<JoinFilter>,
    nulls: NullEquality,
    name: &str,
) -> Result<(Lane, usize), Failure> {
    let Sides { left, right } = sides;
    let (left_schema, right_schema) = (left.0.schema(), right.0.schema());
    let (left_keys, right_keys) = (left.1.clone(), right.1.clone());
    let on = left_keys.iter().zip(&right_keys);
    let on = on.map(|(&l, &r)| (key(&left_schema, l), key(&right_schema, r))).collect();
    let (stage, plans) = stages.hash_together(vec![left, right], name)?;
    let [left, right] = &plans[..] else {
        return Err(Failure::Uncuttable);
    };
    let join = HashJoinExecBuilder::new(OverExec::try_new(left.clone(), OneBatch)?, right.clone(), on, join_type)
        .with_filter(filter)
        .with_partition_mode(PartitionMode::Partitioned)
        .with_null_equality(nulls)
        .build()?;
    let plan: Arc<dyn ExecutionPlan> = Arc::new(join);
    let width = plan.schema().fields().len();
    let on_right = |offset: usize| right_keys.iter().map(|key| offset + key).collect::<Vec<_>>();
    let left_width = left_schema.fields().len();
    let (plan, keys) = match join_type {
        JoinType::Inner | JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => {
            (plan, left_keys)
        }
        JoinType::Right => (plan, on_right(left_width)),
        JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => (plan, on_right(0)),
        JoinType::Full => {
            (with_keys(plan, &left_keys, &on_right(left_width))?, (width..width + left_keys.len()).collect())
        }
    };
    Ok((Lane { stage, plan, part: Part::Head(Head::Keys(keys)), reads: Reads::Rows }, width))
}

/// Adds the key of every row, from whichever side has it.
fn with_keys(plan: Arc<dyn ExecutionPlan>, left: &[usize], right: &[usize]) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let mut exprs: Vec<_> = (0..schema.fields().len()).map(|index| column(&schema, index)).collect();
    for (number, (&left, &right)) in left.iter().zip(right).enumerate() {
        let expr = either(key(&schema, left), key(&schema, right))?;
        exprs.push(ProjectionExpr { expr, alias: format!("__key_{number}") });
    }
    Ok(Arc::new(ProjectionExec::try_new(exprs, plan)?))
}

/// The first that is not null.
pub(super) fn either(one: Arc<dyn PhysicalExpr>, other: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let some: Arc<dyn PhysicalExpr> = Arc::new(IsNotNullExpr::new(one.clone()));
    Ok(Arc::new(CaseExpr::try_new(None, vec![(some, one)], Some(other))?))
}

pub(super) fn key(schema: &Schema, index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(schema.field(index).name(), index))
}
