//! `in (select ..)` knows three values: true, false, and null where a null might be the value. DataFusion is right where
//! false and null are the same, in a condition as a whole, and for `not in` over a column and a query that sees nothing
//! of the row. Everything else is written with `exists`, or as a value with `count`.

use super::bounded;
use super::marks::{Marks, needs_marks};
use crate::planning::in_time;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, ExprSchema, Result, ScalarValue, plan_err};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, Expr, Filter, LogicalPlan, LogicalPlanBuilder, Operator, Projection, Subquery, lit, not, when,
};
use datafusion::optimizer::analyzer::AnalyzerRule;
use std::sync::Arc;

/// Qualifies the column of a query that is compared with what is outside of it: both may be of the same stream.
const INSIDE: &str = "__in";

/// Writes `in` so that nulls count.
#[derive(Debug)]
pub(super) struct ThreeValued;

impl AnalyzerRule for ThreeValued {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            in_time()?;
            let written = match plan {
                LogicalPlan::Filter(filter) if asks(&filter.predicate)? => Transformed::yes(condition(filter)?),
                LogicalPlan::Filter(_) => Transformed::no(plan),
                plan => as_values(plan)?,
            };
            // Those within have been copied: without a bound, three times at each level.
            if written.transformed {
                bounded(&written.data)?;
            }
            Ok(written)
        })
        .data()
    }

    fn name(&self) -> &str {
        "three_valued_in"
    }
}

/// Whether a query decides on it, other than by a value.
fn asks(expr: &Expr) -> Result<bool> {
    expr.exists(|expr| Ok(matches!(expr, Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_))))
}

fn condition(filter: Filter) -> Result<LogicalPlan> {
    let mut parts = Vec::new();
    for part in split_conjunction_owned(filter.predicate) {
        let schema = filter.input.schema();
        match not_in(compared_by_name(part)?) {
            Ok(NotIn { value, query }) => {
                // A join that minds nulls is DataFusion's own way.
                let joined = query.outer_ref_columns.is_empty() && !value.column_refs().is_empty();
                match joined {
                    true => parts.push(Expr::InSubquery(InSubquery::new(Box::new(value), query, true))),
                    false => parts.extend(none_equal(value, &query, schema)?),
                }
            }
            Err(part) => parts.push(whole(part, schema)?),
        }
    }
    // There was a predicate.
    let predicate = conjunction(parts).unwrap_or_else(|| lit(true));
    Ok(LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?))
}

/// DataFusion makes `exists` of `any` and `all`, and looks for what is outside among what is inside.
fn compared_by_name(expr: Expr) -> Result<Expr> {
    expr.transform_up(|expr| match expr {
        Expr::SetComparison(mut comparison) => {
            comparison.subquery = named(&comparison.subquery)?;
            Ok(Transformed::yes(Expr::SetComparison(comparison)))
        }
        expr => Ok(Transformed::no(expr)),
    })
    .data()
}

/// `value not in (query)`
struct NotIn {
    value: Expr,
    query: Subquery,
}

fn not_in(expr: Expr) -> Result<NotIn, Expr> {
    match expr {
        Expr::InSubquery(InSubquery { expr: value, subquery: query, negated: true }) => {
            Ok(NotIn { value: *value, query })
        }
        Expr::Not(inner) => match *inner {
            Expr::InSubquery(InSubquery { expr: value, subquery: query, negated: false }) => {
                Ok(NotIn { value: *value, query })
            }
            inner => Err(not(inner)),
        },
        other => Err(other),
    }
}

/// Conditions that hold together where `not in` is true: joins on equal values each.
fn none_equal(value: Expr, query: &Subquery, outer: &DFSchema) -> Result<[Expr; 3]> {
    let outside = seen_from_inside(value.clone(), outer)?;
    let query = &named(query)?;
    let element = element(query)?;
    Ok([
        not(exists(query, Some(element.clone().eq(outside)))?),
        not(exists(query, Some(element.is_null()))?),
        value.is_not_null().or(not(exists(query, None)?)),
    ])
}

/// A condition as a whole: where `and` and `or` alone lead to `in`, its null is as good as false.
fn whole(expr: Expr, outer: &DFSchema) -> Result<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let (left, right) = (whole(*left, outer)?, whole(*right, outer)?);
            Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))))
        }
        Expr::InSubquery(InSubquery { negated: false, .. }) => Ok(expr),
        other => valued(other, outer, exists),
    }
}

/// The expression with the three values of every `in`.
fn valued(expr: Expr, outer: &DFSchema, exists: impl Fn(&Subquery, Option<Expr>) -> Result<Expr>) -> Result<Expr> {
    expr.transform_up(|expr| {
        let Expr::InSubquery(InSubquery { expr: value, subquery: query, negated }) = expr else {
            return Ok(Transformed::no(expr));
        };
        let outside = seen_from_inside(value.as_ref().clone(), outer)?;
        let query = named(&query)?;
        let element = element(&query)?;
        let unknown = value.is_null().and(exists(&query, None)?).or(exists(&query, Some(element.clone().is_null()))?);
        let is_in = when(exists(&query, Some(element.eq(outside)))?, lit(!negated))
            .when(unknown, lit(ScalarValue::Boolean(None)))
            .otherwise(lit(negated))?;
        Ok(Transformed::yes(is_in))
    })
    .data()
}

/// What stands where a value is wanted: only projections can ask queries there.
fn as_values(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let asking = plan.expressions().iter().map(asks).collect::<Result<Vec<_>>>()?;
    if !asking.contains(&true) {
        return Ok(Transformed::no(plan));
    }
    let LogicalPlan::Projection(projection) = &plan else {
        return plan_err!("`in (select ..)` and `exists` stand in `where`, `having` or among what is selected");
    };
    let outer = projection.input.schema().clone();
    if projection.expr.iter().map(needs_marks).collect::<Result<Vec<_>>>()?.contains(&true) {
        return marked(projection).map(Transformed::yes);
    }
    plan.map_expressions(|expr| {
        let expr = valued(expr, &outer, counted)?;
        expr.transform_up(|expr| match expr {
            Expr::Exists(Exists { subquery, negated }) => {
                let some = counted(&subquery, None)?;
                Ok(Transformed::yes(if negated { not(some) } else { some }))
            }
            Expr::SetComparison(_) => plan_err!("`any` and `all` of a query stand in `where` or `having`"),
            other => Ok(Transformed::no(other)),
        })
    })
}

/// Of the rows that a projection reads, those are marked for which a query has rows.
fn marked(projection: &Projection) -> Result<LogicalPlan> {
    let (outer, plan) = (projection.input.schema(), LogicalPlan::Projection(projection.clone()));
    let names = NamePreserver::new(&plan);
    let mut marks = Marks::over(projection.input.as_ref().clone());
    let columns = projection.expr.iter().map(|expr| {
        let name = names.save(expr);
        let expr = marks.marked(valued(expr.clone(), outer, exists)?)?;
        match expr.exists(|expr| Ok(matches!(expr, Expr::SetComparison(_))))? {
            true => plan_err!("`any` and `all` of a query stand in `where` or `having`"),
            false => Ok(name.restore(expr)),
        }
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(marks.input))?))
}

/// Whether the query has rows for which this holds.
fn exists(query: &Subquery, condition: Option<Expr>) -> Result<Expr> {
    let plan = LogicalPlanBuilder::from(query.subquery.as_ref().clone());
    let plan = condition.into_iter().try_fold(plan, |plan, condition| plan.filter(condition))?.build()?;
    Ok(Expr::Exists(Exists::new(subquery(plan, query), false)))
}

/// [`exists`] as a value: whether their count is more than none.
fn counted(query: &Subquery, condition: Option<Expr>) -> Result<Expr> {
    let plan = LogicalPlanBuilder::from(query.subquery.as_ref().clone());
    let plan = condition.into_iter().try_fold(plan, |plan, condition| plan.filter(condition))?;
    let no_keys: [Expr; 0] = [];
    let plan = plan.aggregate(no_keys, [count(lit(1))])?.build()?;
    Ok(Expr::ScalarSubquery(subquery(plan, query)).gt(lit(0i64)))
}

fn subquery(plan: LogicalPlan, of: &Subquery) -> Subquery {
    Subquery { outer_ref_columns: plan.all_out_ref_exprs(), subquery: plan.into(), spans: of.spans.clone() }
}

/// The query with its column under a name of its own.
fn named(query: &Subquery) -> Result<Subquery> {
    let column = element(query)?;
    let name = column.qualified_name().1;
    let column = column.alias_qualified(Some(INSIDE), name);
    let plan = LogicalPlanBuilder::from(query.subquery.as_ref().clone()).project([column])?.build()?;
    Ok(subquery(plan, query))
}

/// The one column of a query.
fn element(query: &Subquery) -> Result<Expr> {
    match &query.subquery.schema().columns()[..] {
        [column] => Ok(Expr::Column(column.clone())),
        columns => plan_err!("the query of an `in` gives one column, not {}", columns.len()),
    }
}

/// An expression over the rows outside, as the query sees it.
fn seen_from_inside(expr: Expr, outer: &DFSchema) -> Result<Expr> {
    expr.transform_up(|expr| match expr {
        Expr::Column(column) => {
            let field = outer.field_from_column(&column)?.clone();
            Ok(Transformed::yes(Expr::OuterReferenceColumn(field, column)))
        }
        other => Ok(Transformed::no(other)),
    })
    .data()
}
