//! Intervals are compared by how long they are, a day of 24 hours and a month of 30 days. DataFusion compares months, then
//! days, then the rest, so that a day is less than 25 hours, and no 24 hours.
//!
//! Comparisons are written over lengths, and those with times that have passed over such times. What compares without being a comparison (keys, order, distinct values) is
//! refused: of equal intervals that are written differently it would have to choose one.

use crate::times::{duration_of, length_of};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::logical_expr::expr::{AggregateFunction, Case, InList, InSubquery, ScalarFunction, WindowFunction};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, cast};
use datafusion::optimizer::analyzer::AnalyzerRule;

/// Functions that compare values with each other.
const COMPARING: &[&str] = &[
    "array_distinct",
    "array_except",
    "array_has",
    "array_has_all",
    "array_has_any",
    "array_intersect",
    "array_max",
    "array_min",
    "array_position",
    "array_positions",
    "array_remove",
    "array_remove_all",
    "array_remove_n",
    "array_replace",
    "array_replace_all",
    "array_replace_n",
    "array_sort",
    "array_union",
    "arrays_overlap",
    "greatest",
    "least",
    "nullif",
];

/// Refuses plans that order or tell apart intervals.
#[derive(Debug)]
pub(super) struct NoKeys;

impl AnalyzerRule for NoKeys {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.apply_with_subqueries(|plan| check(plan).map(|()| TreeNodeRecursion::Continue))?;
        Ok(plan)
    }

    fn name(&self) -> &str {
        "no_intervals_as_keys"
    }
}

fn check(plan: &LogicalPlan) -> Result<()> {
    let schema = merge_schema(&plan.inputs());
    let gives = |expr: &Expr| expr.get_type(&schema).is_ok_and(|found| holds_intervals(&found));
    let found = match plan {
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.iter().any(|key| any(key, &gives)) => "`group by`",
        LogicalPlan::Sort(sort) if sort.expr.iter().any(|key| gives(&key.expr)) => "`order by`",
        LogicalPlan::Distinct(distinct) if has_intervals(distinct.input().schema()) => "`distinct`",
        LogicalPlan::Join(join) if join.on.iter().any(|(left, right)| gives(left) || gives(right)) => "a join",
        _ => "",
    };
    if !found.is_empty() {
        return refuse(found);
    }
    plan.apply_expressions(|expr| {
        expr.apply(|expr| {
            match expr {
                Expr::AggregateFunction(AggregateFunction { func, params }) => {
                    let compares = params.distinct || matches!(func.name(), "min" | "max" | "approx_distinct");
                    let order = params.order_by.iter().any(|key| gives(&key.expr));
                    if order || compares && params.args.iter().any(&gives) {
                        return refuse(&format!("`{}`", func.name()));
                    }
                }
                Expr::WindowFunction(window) => check_window(window, &gives)?,
                Expr::InSubquery(InSubquery { expr, .. }) if gives(expr) => return refuse("`in (select ..)`"),
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })
    .map(drop)
}

fn check_window(window: &WindowFunction, gives: &impl Fn(&Expr) -> bool) -> Result<()> {
    let params = &window.params;
    let compares = params.distinct || matches!(window.fun.name(), "min" | "max");
    let keys = params.partition_by.iter().chain(params.order_by.iter().map(|key| &key.expr));
    match keys.into_iter().any(gives) || compares && params.args.iter().any(gives) {
        true => refuse(&format!("`{}`", window.fun.name())),
        false => Ok(()),
    }
}

/// A key, or one of the keys of grouping sets.
fn any(key: &Expr, gives: &impl Fn(&Expr) -> bool) -> bool {
    match key {
        Expr::GroupingSet(sets) => sets.distinct_expr().into_iter().any(gives),
        key => gives(key),
    }
}

fn refuse<T>(what: &str) -> Result<T> {
    plan_err!(
        "{what} cannot compare intervals, of which equal ones are written differently: use how many seconds they are, \
         `extract(epoch from ..)`"
    )
}

fn has_intervals(schema: &DFSchema) -> bool {
    schema.fields().iter().any(|field| holds_intervals(field.data_type()))
}

fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_))
}

fn holds_intervals(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            holds_intervals(item.data_type())
        }
        DataType::Struct(fields) => fields.iter().any(|field| holds_intervals(field.data_type())),
        DataType::Map(entries, _) => holds_intervals(entries.data_type()),
        other => is_interval(other),
    }
}

/// What values are compared by.
#[derive(Debug, Clone, Copy)]
enum Measure {
    /// Intervals alone: their length.
    Length,
    /// Intervals with times that have passed: those that they are.
    Duration,
}

impl Measure {
    /// For values of these types, if there are intervals among them and nothing that is no time.
    ///
    /// # Errors
    /// When intervals are parts of what is compared.
    fn of(types: &[Option<DataType>]) -> Result<Option<Self>> {
        let known: Vec<_> = types.iter().flatten().collect();
        if known.iter().any(|found| !is_interval(found) && holds_intervals(found)) {
            return refuse("a list or struct");
        }
        let intervals = known.iter().filter(|found| is_interval(found)).count();
        let durations = known.iter().filter(|found| matches!(found, DataType::Duration(_))).count();
        Ok(match types.len() {
            _ if intervals == 0 => None,
            all if intervals == all => Some(Self::Length),
            all if intervals + durations == all => Some(Self::Duration),
            _ => None,
        })
    }

    fn measured(self, expr: Expr, schema: &DFSchema) -> Expr {
        match self {
            Self::Length => length_of(expr),
            Self::Duration if expr.get_type(schema).is_ok_and(|found| is_interval(&found)) => duration_of(expr),
            Self::Duration => cast(expr, DataType::Duration(TimeUnit::Microsecond)),
        }
    }
}

/// The expression over these columns, where it compares intervals, with what they are compared by.
///
/// # Errors
/// When it compares intervals that are parts of lists, or in a function.
pub(super) fn by_length(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let compared: Vec<&Expr> = match &expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(*op) => vec![left.as_ref(), right.as_ref()],
        Expr::InList(InList { expr, list, .. }) => std::iter::once(expr.as_ref()).chain(list).collect(),
        Expr::Between(Between { expr, low, high, .. }) => vec![expr.as_ref(), low.as_ref(), high.as_ref()],
        Expr::Case(Case { expr: Some(expr), when_then_expr, .. }) => {
            std::iter::once(expr.as_ref()).chain(when_then_expr.iter().map(|(when, _)| when.as_ref())).collect()
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) if COMPARING.contains(&func.name()) => {
            let holds = |expr: &Expr| expr.get_type(schema).is_ok_and(|found| holds_intervals(&found));
            return match args.iter().any(holds) {
                true => refuse(&format!("`{}`", func.name())),
                false => Ok(Transformed::no(expr)),
            };
        }
        _ => return Ok(Transformed::no(expr)),
    };
    // Each once: in a long chain that takes a while.
    let types: Vec<_> = compared.into_iter().map(|expr| expr.get_type(schema).ok()).collect();
    let Some(measure) = Measure::of(&types)? else { return Ok(Transformed::no(expr)) };
    let one = |expr: Expr| measure.measured(expr, schema);
    let boxed = |expr: Box<Expr>| Box::new(one(*expr));
    Ok(Transformed::yes(match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            Expr::BinaryExpr(BinaryExpr { left: boxed(left), op, right: boxed(right) })
        }
        Expr::InList(InList { expr, list, negated }) => {
            Expr::InList(InList { expr: boxed(expr), list: list.into_iter().map(one).collect(), negated })
        }
        Expr::Between(Between { expr, negated, low, high }) => {
            Expr::Between(Between { expr: boxed(expr), negated, low: boxed(low), high: boxed(high) })
        }
        Expr::Case(Case { expr, when_then_expr, else_expr }) => {
            let branches = when_then_expr.into_iter().map(|(when, then)| (boxed(when), then)).collect();
            Expr::Case(Case { expr: expr.map(boxed), when_then_expr: branches, else_expr })
        }
        other => other,
    }))
}

fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}
