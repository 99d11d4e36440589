//! Conditions that can fail stay where they are written.

use super::chain::lazily;
use super::fallible::may_fail;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, DFSchemaRef, JoinType, Result, internal_err};
use datafusion::execution::context::{ExecutionProps, QueryPlanner};
use datafusion::logical_expr::expr::{AggregateFunctionParams, WindowFunctionParams};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, merge_schema, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, Extension, Filter, Join, LogicalPlan, Projection, UserDefinedLogicalNodeCore, lit, when,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use std::fmt;
use std::sync::Arc;

/// The rule, which comes after all that make expressions.
#[derive(Debug)]
pub(crate) struct KeepInPlace;

impl AnalyzerRule for KeepInPlace {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Filter(filter) => filtered(filter),
            LogicalPlan::Join(join) => joined(join),
            LogicalPlan::Projection(projection) => projected(projection),
            plan @ (LogicalPlan::Aggregate(_) | LogicalPlan::Window(_)) => aggregated(plan),
            plan => Ok(Transformed::no(plan)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "keep_in_place"
    }
}

/// Conditions that can fail come after those that cannot, over the rows of these.
fn filtered(filter: Filter) -> Result<Transformed<LogicalPlan>> {
    // What looks at the row outside becomes a join, for which the planner has to see it.
    if filter.predicate.contains_outer() || !filter.input.all_out_ref_exprs().is_empty() {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    }
    let schema = filter.input.schema().clone();
    let stays = |condition: &Expr| may_fail(condition, schema.as_ref()) && sees_this_row_only(condition);
    let (stay, go): (Vec<_>, Vec<_>) = split_conjunction_owned(filter.predicate).into_iter().partition(stays);
    let input = match conjunction(go) {
        Some(go) => Arc::new(LogicalPlan::Filter(Filter::try_new(go, filter.input)?)),
        None => filter.input,
    };
    match conjunction(stay) {
        Some(stay) => Ok(Transformed::yes(Placed::over(input, Some(stay)))),
        None => Ok(Transformed::no(Arc::unwrap_or_clone(input))),
    }
}

/// The same of an inner join: its rows are what its conditions are about.
fn joined(join: Join) -> Result<Transformed<LogicalPlan>> {
    let Some(filter) = join.filter.clone().filter(|_| join.join_type == JoinType::Inner) else {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    };
    let outside =
        filter.contains_outer() || [&join.left, &join.right].iter().any(|side| !side.all_out_ref_exprs().is_empty());
    let stays = |condition: &Expr| may_fail(condition, join.schema.as_ref()) && sees_this_row_only(condition);
    let (stay, go): (Vec<_>, Vec<_>) = split_conjunction_owned(filter).into_iter().partition(stays);
    match conjunction(stay) {
        Some(stay) if !outside => {
            let join = LogicalPlan::Join(Join { filter: conjunction(go), ..join });
            Ok(Transformed::yes(Placed::over(Arc::new(join), Some(stay))))
        }
        _ => Ok(Transformed::no(LogicalPlan::Join(join))),
    }
}

/// What asks for a column that can fail may be moved below its projection, and from there to the sides of a join, which
/// have rows that the projection does not see.
fn projected(projection: Projection) -> Result<Transformed<LogicalPlan>> {
    let schema = projection.input.schema().clone();
    let fails = projection.expr.iter().any(|expr| may_fail(expr, schema.as_ref()));
    if !fails || !is_of_a_join(&projection.input) || !projection.input.all_out_ref_exprs().is_empty() {
        return Ok(Transformed::no(LogicalPlan::Projection(projection)));
    }
    let input = Arc::new(Placed::over(projection.input, None));
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new_with_schema(
        projection.expr,
        input,
        projection.schema,
    )?)))
}

fn is_of_a_join(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Join(_) => true,
        LogicalPlan::Filter(_)
        | LogicalPlan::Projection(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Distinct(_)
        | LogicalPlan::Union(_) => plan.inputs().into_iter().any(is_of_a_join),
        _ => false,
    }
}

/// Arguments that can fail are computed for the rows that `filter` lets through.
fn aggregated(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = merge_schema(&plan.inputs());
    let names = NamePreserver::new(&plan);
    let rewritten = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let rewritten = expr.transform_up(|expr| match expr {
            Expr::AggregateFunction(mut call) => {
                let AggregateFunctionParams { args, filter, .. } = &mut call.params;
                let changed = for_rows(args, filter.as_deref(), &schema)?;
                Ok(Transformed::new_transformed(Expr::AggregateFunction(call), changed))
            }
            Expr::WindowFunction(mut call) => {
                let WindowFunctionParams { args, filter, .. } = &mut call.params;
                let changed = for_rows(args, filter.as_deref(), &schema)?;
                Ok(Transformed::new_transformed(Expr::WindowFunction(call), changed))
            }
            expr => Ok(Transformed::no(expr)),
        })?;
        Ok(rewritten.update_data(|expr| name.restore(expr)))
    })?;
    match rewritten.transformed {
        true => rewritten.map_data(LogicalPlan::recompute_schema),
        false => Ok(rewritten),
    }
}

fn for_rows(args: &mut [Expr], filter: Option<&Expr>, schema: &DFSchema) -> Result<bool> {
    let Some(filter) = filter else { return Ok(false) };
    let mut changed = false;
    for arg in args.iter_mut().filter(|arg| may_fail(arg, schema)) {
        *arg = when(filter.clone(), arg.clone()).end()?;
        changed = true;
    }
    Ok(changed)
}

/// Neither queries nor the row outside of one.
fn sees_this_row_only(expr: &Expr) -> bool {
    let beyond = |expr: &Expr| {
        Ok(matches!(
            expr,
            Expr::OuterReferenceColumn(..)
                | Expr::ScalarSubquery(_)
                | Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::SetComparison(_)
        ))
    };
    // The walk itself cannot fail.
    !expr.exists(beyond).unwrap_or(true)
}

/// Rows for which a condition holds, or all: in either case nothing is moved across.
#[derive(Debug, PartialEq, Eq, Hash, PartialOrd)]
struct Placed {
    condition: Option<Expr>,
    input: LogicalPlan,
}

impl Placed {
    fn over(input: Arc<LogicalPlan>, condition: Option<Expr>) -> LogicalPlan {
        let node = Self { condition, input: Arc::unwrap_or_clone(input) };
        LogicalPlan::Extension(Extension { node: Arc::new(node) })
    }
}

impl UserDefinedLogicalNodeCore for Placed {
    fn name(&self) -> &str {
        "Placed"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        self.condition.iter().cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.condition {
            Some(condition) => write!(f, "Placed: {condition}"),
            None => write!(f, "Placed"),
        }
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match <[LogicalPlan; 1]>::try_from(inputs) {
            Ok([input]) => Ok(Self { condition: exprs.into_iter().next(), input }),
            Err(inputs) => internal_err!("one input, not {}", inputs.len()),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}

/// DataFusion's planner, over plans with filters in the place of [`Placed`] and what decides asked in order.
#[derive(Debug)]
pub(crate) struct Planner;

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = plan.clone().transform_up(|plan| finished(plan, session.execution_props())).data()?;
        DefaultPhysicalPlanner::default().create_physical_plan(&plan, session).await
    }
}

fn finished(plan: LogicalPlan, props: &ExecutionProps) -> Result<Transformed<LogicalPlan>> {
    let plan = match plan {
        LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<Placed>() {
            Some(Placed { condition: Some(condition), input }) => {
                LogicalPlan::Filter(Filter::try_new(condition.clone(), Arc::new(input.clone()))?)
            }
            Some(Placed { condition: None, input }) => return Ok(Transformed::yes(input.clone())),
            None => LogicalPlan::Extension(extension),
        },
        plan => plan,
    };
    let plan = match plan {
        LogicalPlan::Filter(filter) => {
            // The optimiser sorts them by what they cost.
            let schema = filter.input.schema().clone();
            let conditions = split_conjunction_owned(filter.predicate).into_iter();
            let (last, first): (Vec<_>, Vec<_>) =
                conditions.partition(|condition| may_fail(condition, schema.as_ref()));
            let predicate = conjunction(first.into_iter().chain(last)).unwrap_or_else(|| lit(true));
            LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?)
        }
        plan => plan,
    };
    let schema = merge_schema(&plan.inputs());
    let names = NamePreserver::new(&plan);
    let rewritten = plan.map_expressions(|expr| under_its_name(expr, &schema, props, &names))?;
    match rewritten.transformed {
        true => rewritten.map_data(LogicalPlan::recompute_schema),
        false => Ok(Transformed::yes(rewritten.data)),
    }
}

/// The expressions of grouping sets have names each for itself.
fn under_its_name(
    expr: Expr,
    schema: &DFSchema,
    props: &ExecutionProps,
    names: &NamePreserver,
) -> Result<Transformed<Expr>> {
    if let Expr::GroupingSet(_) = expr {
        return expr.map_children(|expr| under_its_name(expr, schema, props, names));
    }
    let name = names.save(&expr);
    Ok(lazily(expr, schema, props)?.update_data(|expr| name.restore(expr)))
}
