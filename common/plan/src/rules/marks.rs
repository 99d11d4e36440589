//! `in` and `exists` as values, of queries that compare what is outside of them other than for equality: DataFusion makes a
//! join that marks the rows, as it does for `or` in a condition, where it alone would look for them.

use crate::words::NO_JOIN;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Filter, LogicalPlan, Operator, Subquery};
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::{OptimizerContext, OptimizerRule};
use std::sync::Arc;

/// Makes joins of the queries in expressions over the same rows.
pub(super) struct Marks {
    /// The rows with the marks so far.
    pub(super) input: LogicalPlan,
    /// Gives each of them a name of its own.
    names: OptimizerContext,
}

impl Marks {
    pub(super) fn over(input: LogicalPlan) -> Self {
        Self { input, names: OptimizerContext::new() }
    }

    /// The expression with marks in place of its queries.
    ///
    /// # Errors
    /// When one of them cannot be made a join.
    pub(super) fn marked(&mut self, expr: Expr) -> Result<Expr> {
        if !asks(&expr)? {
            return Ok(expr);
        }
        let condition = Filter::try_new(expr.is_not_null(), Arc::new(self.input.clone()))?;
        let rule = DecorrelatePredicateSubquery::new();
        let joined = rule.rewrite(LogicalPlan::Filter(condition), &self.names)?.data;
        let LogicalPlan::Projection(visible) = joined else { return plan_err!("{NO_JOIN}") };
        let LogicalPlan::Filter(filter) = visible.input.as_ref() else { return plan_err!("{NO_JOIN}") };
        let Expr::IsNotNull(marked) = &filter.predicate else { return plan_err!("{NO_JOIN}") };
        if asks(marked)? {
            return plan_err!("{NO_JOIN}");
        }
        self.input = filter.input.as_ref().clone();
        Ok(marked.as_ref().clone())
    }
}

fn asks(expr: &Expr) -> Result<bool> {
    expr.exists(|expr| Ok(matches!(expr, Expr::InSubquery(_) | Expr::Exists(_))))
}

/// Whether a query in this expression compares what is outside of it other than for equality with a column, for which it
/// cannot be counted by key.
pub(super) fn needs_marks(expr: &Expr) -> Result<bool> {
    expr.exists(|expr| match expr {
        Expr::InSubquery(query) => sees_more(&query.subquery),
        Expr::Exists(query) => sees_more(&query.subquery),
        _ => Ok(false),
    })
}

fn sees_more(query: &Subquery) -> Result<bool> {
    let mut more = false;
    query.subquery.apply_with_subqueries(|plan| {
        plan.apply_expressions(|expr| {
            let conditions = split_conjunction(expr);
            more |= conditions.into_iter().any(|part| part.contains_outer() && !is_equality(part));
            Ok(if more { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    Ok(more)
}

/// Of a column inside with what is outside.
fn is_equality(condition: &Expr) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return false };
    let column = |expr: &Expr| match expr {
        Expr::Cast(cast) => matches!(*cast.expr, Expr::Column(_)),
        other => matches!(other, Expr::Column(_)),
    };
    let outside = |expr: &Expr| expr.column_refs().is_empty();
    column(left) && outside(right) || column(right) && outside(left)
}
