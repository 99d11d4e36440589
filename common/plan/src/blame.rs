//! Which stream, expression and row a failure is about. Plans do not say: what failed runs again, piece by piece, over
//! the same rows, which gives the same.

use crate::compile::LEAF;
use crate::error::PlanError;
use crate::exec::OfStream;
use crate::numbers::plainly;
use crate::words::in_types;
use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr_common::physical_expr::fmt_sql;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateInputMode};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::TryStreamExt;
use std::fmt;
use std::sync::Arc;
use tidemill_job::{JobDef, Name, NamedSql, Operator, Sql};
use tidemill_rows::rows_to_json;

/// Longest expression and longest row in a message, in characters.
const SHOWN: usize = 300;

/// How columns are called that the planner makes of what several expressions have in common.
const COMMON: &str = "__common_expr_";

type Plan = Arc<dyn ExecutionPlan>;

/// What is known of a failure.
struct Failed {
    error: DataFusionError,
    /// As it was written, or as it was planned.
    expression: Option<String>,
    row: Option<String>,
}

/// Says where a plan failed. `context` is that of the run.
pub(crate) async fn explain(
    plan: &Plan,
    context: &Arc<TaskContext>,
    def: &JobDef,
    error: DataFusionError,
) -> PlanError {
    if out_of_memory(&error) {
        return error.into();
    }
    let Culprit { node, stream, inputs } = culprit(plan, context).await;
    let found = match &inputs[..] {
        [rows] => match in_expressions(&node, rows, written(def, stream.as_deref())) {
            None => match in_aggregates(&node, context).await {
                None => in_windows(&node, context).await,
                found => found,
            },
            found => found,
        },
        _ => None,
    };
    match found {
        Some(failed) => failed.at(stream.as_deref()),
        None => match PlanError::from(error) {
            PlanError::Data(text) => PlanError::Data(in_stream(stream.as_deref(), &text)),
            PlanError::Internal(text) => PlanError::Internal(in_stream(stream.as_deref(), &text)),
            other => other,
        },
    }
}

/// A prepared expression that runs outside of plans, with what a failure says of it.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) expr: Arc<dyn PhysicalExpr>,
    stream: Arc<str>,
    text: String,
}

impl Written {
    /// The expression of a column of a stream.
    pub(crate) fn new(expr: Arc<dyn PhysicalExpr>, stream: &Name, column: &str, sql: &Sql) -> Self {
        Self { expr, stream: stream.text.as_str().into(), text: named(column, &cut(&sql.text)) }
    }

    /// Its values over rows.
    ///
    /// # Errors
    /// When it fails on a row: says which it is, and which row.
    pub(crate) fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, PlanError> {
        values(&self.expr, rows).map_err(|error| match out_of_memory(&error) {
            true => error.into(),
            false => failed(&self.expr, rows, error, self.text.clone()).at(Some(&self.stream)),
        })
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)
    }
}

fn values(expr: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<ArrayRef> {
    expr.evaluate(rows)?.into_array(rows.num_rows())
}

fn out_of_memory(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
}

impl Failed {
    fn at(self, stream: Option<&str>) -> PlanError {
        let text = PlanError::reason(&self.error);
        let of = self.expression.map(|expression| format!(", in `{expression}`")).unwrap_or_default();
        let row = self.row.map(|row| format!(", for {row}")).unwrap_or_default();
        // It fails on these rows whenever it runs, whatever kind of error that is.
        PlanError::Data(in_stream(stream, &format!("{text}{of}{row}")))
    }
}

fn in_stream(stream: Option<&str>, text: &str) -> String {
    stream.map_or_else(|| text.to_string(), |stream| format!("stream `{stream}`: {text}"))
}

/// The lowest part of a plan that fails.
struct Culprit {
    node: Plan,
    stream: Option<Arc<str>>,
    /// What its inputs give.
    inputs: Vec<Vec<RecordBatch>>,
}

async fn culprit(plan: &Plan, context: &Arc<TaskContext>) -> Culprit {
    let (mut node, mut stream) = (plan.clone(), None);
    'down: loop {
        stream = OfStream::of(&node).or(stream);
        let children: Vec<_> = node.children().into_iter().cloned().collect();
        let mut inputs = Vec::with_capacity(children.len());
        for child in children {
            match all_rows(&child, context).await {
                Ok(rows) => inputs.push(rows),
                Err(_) => {
                    node = child;
                    continue 'down;
                }
            }
        }
        return Culprit { node, stream, inputs };
    }
}

async fn all_rows(plan: &Plan, context: &Arc<TaskContext>) -> Result<Vec<RecordBatch>> {
    let plan = reset_plan_states(plan.clone())?;
    let mut rows = Vec::new();
    for partition in 0..plan.output_partitioning().partition_count() {
        rows.extend(plan.execute(partition, context.clone())?.try_collect::<Vec<_>>().await?);
    }
    Ok(rows)
}

/// The first expression of a plan over one input that fails.
fn in_expressions(node: &Plan, rows: &[RecordBatch], written: impl Fn(&str) -> Option<String>) -> Option<Failed> {
    let mut exprs: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::new();
    if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
        for ProjectionExpr { expr, alias } in projection.expr() {
            let text = written(alias).unwrap_or_else(|| shown(expr, node));
            exprs.push((expr.clone(), named(alias, &text)));
        }
    } else if let Some(filter) = node.downcast_ref::<FilterExec>() {
        let text = written("").unwrap_or_else(|| shown(filter.predicate(), node));
        exprs.push((filter.predicate().clone(), text));
    } else if !takes_partial_aggregates(node) {
        // The walk itself cannot fail.
        let _ = node.apply_expressions(&mut |expr| {
            exprs.push((expr.clone(), shown(expr, node)));
            Ok(TreeNodeRecursion::Continue)
        });
    }
    let fails = |(expr, text): &(Arc<dyn PhysicalExpr>, String)| {
        rows.iter().find_map(|rows| Some(failed(expr, rows, values(expr, rows).err()?, text.clone())))
    };
    exprs.iter().filter(|(expr, _)| !expr.is::<Column>()).find_map(fails)
}

fn takes_partial_aggregates(node: &Plan) -> bool {
    let aggregate = node.downcast_ref::<AggregateExec>();
    aggregate.is_some_and(|aggregate| aggregate.mode().input_mode() == AggregateInputMode::Partial)
}

/// Finds the row: the failing half, and of that the failing half.
fn failed(expr: &Arc<dyn PhysicalExpr>, rows: &RecordBatch, error: DataFusionError, text: String) -> Failed {
    let (mut rows, mut error) = (rows.clone(), error);
    while rows.num_rows() > 1 {
        let half = rows.num_rows() / 2;
        let halves = [rows.slice(0, half), rows.slice(half, rows.num_rows() - half)];
        let failing = halves.into_iter().find_map(|rows| Some((values(expr, &rows).err()?, rows)));
        match failing {
            Some(failing) => (error, rows) = failing,
            None => break,
        }
    }
    let row = if rows.num_rows() == 1 { row(expr, &rows) } else { None };
    Failed { error, expression: Some(text), row }
}

/// What an expression sees of a row, as JSON; nothing of what users do not see.
fn row(expr: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Option<String> {
    let mut columns: Vec<_> = collect_columns(expr).iter().map(Column::index).collect();
    columns.sort_unstable();
    let visible = |index: &usize| rows.schema_ref().fields().get(*index).is_some_and(|f| !f.name().starts_with("__"));
    columns.retain(visible);
    let rows = rows.project(&columns).ok().filter(|rows| rows.num_columns() > 0)?;
    rows_to_json(&rows).ok()?.pop().map(|row| cut(&row))
}

/// The first aggregate that fails where all expressions are fine.
async fn in_aggregates(node: &Plan, context: &Arc<TaskContext>) -> Option<Failed> {
    let aggregate = node.downcast_ref::<AggregateExec>()?;
    for (number, call) in aggregate.aggr_expr().iter().enumerate() {
        let Ok(alone) = alone(aggregate, number) else { continue };
        if let Err(error) = all_rows(&alone, context).await {
            // Some aggregates have no name of their own.
            let text = match call.human_display().filter(|text| text.starts_with('(')) {
                Some(text) => text.replace(&format!("{LEAF}."), ""),
                None => called(call.fun().name(), call.is_distinct(), &call.expressions(), node),
            };
            return Some(Failed { error, expression: Some(cut(&text)), row: None });
        }
    }
    None
}

/// The first window function that fails where all expressions are fine.
async fn in_windows(node: &Plan, context: &Arc<TaskContext>) -> Option<Failed> {
    let (windows, order) = match (node.downcast_ref::<BoundedWindowAggExec>(), node.downcast_ref::<WindowAggExec>()) {
        (Some(node), _) => (node.window_expr(), Some(node.input_order_mode.clone())),
        (_, Some(node)) => (node.window_expr(), None),
        _ => return None,
    };
    let input = node.children().first().map(|input| Plan::clone(input))?;
    for window in windows {
        let (one, input) = (vec![window.clone()], input.clone());
        let alone: Plan = match order.clone() {
            Some(order) => Arc::new(BoundedWindowAggExec::try_new(one, input, order, false).ok()?),
            None => Arc::new(WindowAggExec::try_new(one, input, false).ok()?),
        };
        if let Err(error) = all_rows(&alone, context).await {
            let name = window.name().split('(').next().unwrap_or_default();
            let text = format!("{} over (..)", called(name, false, &window.expressions(), node));
            return Some(Failed { error, expression: Some(cut(&text)), row: None });
        }
    }
    None
}

/// A call as people would write it.
fn called(name: &str, distinct: bool, arguments: &[Arc<dyn PhysicalExpr>], node: &Plan) -> String {
    let arguments: Vec<_> = arguments.iter().map(|argument| shown(argument, node)).collect();
    format!("{name}({}{})", if distinct { "distinct " } else { "" }, arguments.join(", "))
}

/// The aggregation with only one of its aggregates.
fn alone(aggregate: &AggregateExec, number: usize) -> Result<Plan> {
    let (group, calls) = (aggregate.group_expr().clone(), aggregate.aggr_expr());
    let filters = vec![aggregate.filter_expr()[number].clone()];
    let mut input = aggregate.input().clone();
    if aggregate.mode().input_mode() == AggregateInputMode::Partial {
        let widths = calls.iter().map(|call| Ok(call.state_fields()?.len())).collect::<Result<Vec<_>>>()?;
        let schema = input.schema();
        let keys = schema.fields().len().saturating_sub(widths.iter().sum());
        let start = keys + widths[..number].iter().sum::<usize>();
        let columns = (0..keys).chain(start..start + widths[number]).map(|index| {
            let name = schema.field(index).name().clone();
            ProjectionExpr { expr: Arc::new(Column::new(&name, index)), alias: name }
        });
        input = Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), input)?);
    }
    let calls = vec![calls[number].clone()];
    let schema = aggregate.input_schema();
    Ok(Arc::new(AggregateExec::try_new(*aggregate.mode(), group, calls, filters, input, schema)?))
}

/// The expressions of a stream as they are written, by the name of their column; that of a filter has none.
fn written<'a>(def: &'a JobDef, stream: Option<&str>) -> impl Fn(&str) -> Option<String> + 'a {
    let operator = stream.and_then(|stream| def.stream(stream)).map(|stream| &stream.operator);
    move |column| {
        let columns: &[NamedSql] = match operator? {
            Operator::Filter(condition) => return Some(cut(&condition.text)).filter(|_| column.is_empty()),
            Operator::Select(columns) | Operator::Reduce(columns) => columns,
            Operator::ReduceByKey { aggregates, .. }
            | Operator::ReduceByKeyAndWindow { aggregates, .. }
            | Operator::ReduceByWindow { aggregates, .. } => aggregates,
            _ => return None,
        };
        columns.iter().find(|named| named.name.text == column).map(|named| cut(&named.sql.text))
    }
}

fn shown(expr: &Arc<dyn PhysicalExpr>, node: &Plan) -> String {
    let whole = with_common_parts(expr.clone(), node).unwrap_or_else(|_| expr.clone());
    let plain = plainly(whole).unwrap_or_else(|_| expr.clone());
    cut(&in_types(&fmt_sql(plain.as_ref()).to_string()))
}

/// The expression with the parts in it that are computed once for several, further down.
fn with_common_parts(expr: Arc<dyn PhysicalExpr>, node: &Plan) -> Result<Arc<dyn PhysicalExpr>> {
    let part = |name: &str| -> Option<Arc<dyn PhysicalExpr>> {
        let mut found = None;
        // The walk itself cannot fail.
        let _ = node.apply(|below| {
            if let Some(projection) = below.downcast_ref::<ProjectionExec>() {
                let mut parts = projection.expr().iter();
                found =
                    parts.find(|part| part.alias == name && !part.expr.is::<Column>()).map(|part| part.expr.clone());
            }
            Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        });
        found
    };
    expr.transform_down(|expr| {
        let common = expr.downcast_ref::<Column>().map(Column::name).filter(|name| name.starts_with(COMMON));
        Ok(match common.and_then(part) {
            Some(part) => Transformed::yes(part),
            None => Transformed::no(expr),
        })
    })
    .data()
}

/// With the column that it makes, if somebody gave that a name.
fn named(column: &str, text: &str) -> String {
    let is_name = !column.is_empty() && column.chars().all(|c| c.is_alphanumeric() || c == '_');
    if is_name && !column.starts_with("__") { format!("{column} = {text}") } else { text.to_string() }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text.to_string(),
    }
}
