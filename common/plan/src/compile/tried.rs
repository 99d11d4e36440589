//! Functions and aggregates that take no values of the types they are given, and aggregates that cannot follow a sliding
//! frame. DataFusion finds that out when it calls them, which would be in every batch. So each is called with no rows.

use super::expr::plain_type;
use crate::error::PlanError;
use crate::registry::is_users;
use datafusion::arrow::array::new_empty_array;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result, plan_datafusion_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, Volatility};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::window::{SlidingAggregateWindowExpr, WindowExpr};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateInputMode};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use std::sync::Arc;
use tidemill_rows::type_name;

/// Tries all functions of an expression over columns of this schema.
pub(super) fn try_expr(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<()> {
    expr.apply(|node| {
        if let Some(call) = node.downcast_ref::<ScalarFunctionExpr>() {
            try_call(call, schema)?;
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map(drop)
}

/// Tries all functions, aggregates and frames of a plan.
pub(super) fn try_plan(plan: &Arc<dyn ExecutionPlan>) -> Result<()> {
    plan.apply(|node| {
        try_node(node)?;
        Ok(TreeNodeRecursion::Continue)
    })
    .map(drop)
}

fn try_node(node: &Arc<dyn ExecutionPlan>) -> Result<()> {
    let aggregate = node.downcast_ref::<AggregateExec>();
    let over_rows = aggregate.is_some_and(|node| node.mode().input_mode() == AggregateInputMode::Raw);
    let [input] = &node.children()[..] else { return Ok(()) };
    let schema = input.schema();
    if over_rows || node.is::<ProjectionExec>() || node.is::<FilterExec>() {
        node.apply_expressions(&mut |expr| try_expr(expr, &schema).map(|()| TreeNodeRecursion::Continue))?;
    }
    if over_rows {
        aggregate.into_iter().flat_map(AggregateExec::aggr_expr).try_for_each(|call| try_aggregate(call, &schema))?;
    }
    let frames = match (node.downcast_ref::<BoundedWindowAggExec>(), node.downcast_ref::<WindowAggExec>()) {
        (Some(windows), _) => windows.window_expr(),
        (_, Some(windows)) => windows.window_expr(),
        _ => return Ok(()),
    };
    let slides = |frame: &Arc<dyn WindowExpr>| -> Option<AggregateFunctionExpr> {
        Some(frame.as_any().downcast_ref::<SlidingAggregateWindowExpr>()?.get_aggregate_expr().clone())
    };
    frames.iter().filter_map(slides).try_for_each(|call| match call.create_sliding_accumulator() {
        Ok(accumulator) if accumulator.supports_retract_batch() => Ok(()),
        _ => {
            try_aggregate(&call, &schema)?;
            plan_err!(
                "`{}` cannot follow a frame that leaves rows behind: let the frame begin with `unbounded preceding`",
                call.fun().name()
            )
        }
    })
}

fn try_aggregate(call: &AggregateFunctionExpr, schema: &Schema) -> Result<()> {
    call.create_accumulator().map(drop).map_err(|error| not_of(call, schema, &error))
}

fn not_of(call: &AggregateFunctionExpr, schema: &Schema, error: &DataFusionError) -> DataFusionError {
    let types = call.expressions();
    let types = types.iter().filter_map(|expr| expr.data_type(schema).ok());
    not_for(call.fun().name(), &types.collect::<Vec<_>>(), error)
}

fn not_for(name: &str, types: &[DataType], error: &DataFusionError) -> DataFusionError {
    let types: Vec<_> = types.iter().map(|found| type_name(&plain_type(found))).collect();
    let reason = PlanError::reason(error);
    plan_datafusion_err!("`{name}` does not take ({}): {}", types.join(", "), reason.lines().next().unwrap_or_default())
}

fn try_call(call: &ScalarFunctionExpr, schema: &Schema) -> Result<()> {
    // These look at the batch, or at what users have registered.
    if call.fun().signature().volatility != Volatility::Immutable || is_users(call.fun()) {
        return Ok(());
    }
    let fields = call.args().iter().map(|arg| arg.return_field(schema)).collect::<Result<Vec<_>>>()?;
    let value = |(arg, field): (&Arc<dyn PhysicalExpr>, &Arc<_>)| match arg.downcast_ref::<Literal>() {
        Some(literal) => ColumnarValue::Scalar(literal.value().clone()),
        None => ColumnarValue::Array(new_empty_array(datafusion::arrow::datatypes::Field::data_type(field))),
    };
    let args: Vec<_> = call.args().iter().zip(&fields).map(value).collect();
    // What is wrong with constants is found where they are folded, or where rows need them.
    if args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) {
        return Ok(());
    }
    let types: Vec<_> = args.iter().map(ColumnarValue::data_type).collect();
    let args = ScalarFunctionArgs {
        args,
        arg_fields: fields,
        number_rows: 0,
        return_field: call.return_field(schema)?,
        config_options: Arc::new(call.config_options().clone()),
    };
    call.fun().inner().invoke_with_args(args).map(drop).map_err(|error| not_for(call.name(), &types, &error))
}
