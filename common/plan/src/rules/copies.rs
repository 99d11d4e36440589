//! `except all` and `intersect all` count how often a row occurs. DataFusion plans them as anti and semi joins, which
//! drop all copies, or keep all.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{Column, JoinType, NullEquality, Result};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{Expr, ExprFunctionExt, Join, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::analyzer::AnalyzerRule;

/// Numbers the copies of a row on either side, from 1: the first copy goes with the first, the second with the second.
#[derive(Debug)]
pub(super) struct CountCopies;

const LEFT_COPY: &str = "__left_copy";
const RIGHT_COPY: &str = "__right_copy";

impl AnalyzerRule for CountCopies {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Join(join) if of_copies(&join) => Ok(Transformed::yes(counted(join)?)),
            plan => Ok(Transformed::no(plan)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "count_copies"
    }
}

/// Before anything is optimised, only set operations join nulls with nulls; those without `all` have distinct rows.
fn of_copies(join: &Join) -> bool {
    matches!(join.join_type, JoinType::LeftAnti | JoinType::LeftSemi)
        && join.null_equality == NullEquality::NullEqualsNull
        && !matches!(join.left.as_ref(), LogicalPlan::Distinct(_))
}

fn counted(join: Join) -> Result<LogicalPlan> {
    let columns = join.left.schema().columns();
    let left = numbered(join.left.as_ref().clone(), LEFT_COPY)?;
    let right = numbered(join.right.as_ref().clone(), RIGHT_COPY)?;
    let copies = (Expr::Column(Column::from_name(LEFT_COPY)), Expr::Column(Column::from_name(RIGHT_COPY)));
    let on = join.on.into_iter().chain([copies]).collect();
    let joined = Join::try_new(
        left.into(),
        right.into(),
        on,
        join.filter,
        join.join_type,
        join.join_constraint,
        join.null_equality,
        false,
    )?;
    LogicalPlanBuilder::from(LogicalPlan::Join(joined)).project(columns.into_iter().map(Expr::Column))?.build()
}

/// With the number of the row among those that are equal to it.
fn numbered(rows: LogicalPlan, name: &str) -> Result<LogicalPlan> {
    let columns: Vec<_> = rows.schema().columns().into_iter().map(Expr::Column).collect();
    let number = row_number().partition_by(columns.clone()).build()?;
    let column = Expr::Column(Column::from_name(number.schema_name().to_string())).alias(name);
    LogicalPlanBuilder::from(rows).window([number])?.project(columns.into_iter().chain([column]))?.build()
}
