//! Timestamps are in microseconds, which hold every year from 1 to 9999. DataFusion reads `timestamp` as one in
//! nanoseconds, which hold 1677 to 2262, and compares dates and texts with timestamps as such.

use super::intervals;
use super::similar;
use crate::times::{in_calendar, is_in_calendar};
use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, Union};
use datafusion::optimizer::analyzer::AnalyzerRule;
use std::sync::Arc;

/// Every cast to a timestamp gives microseconds.
#[derive(Debug)]
pub(super) struct Microseconds;

impl AnalyzerRule for Microseconds {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            let (names, schema) = (NamePreserver::new(&plan), merge_schema(&plan.inputs()));
            let plan = plan.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(rewritten(expr, &schema)?.update_data(|expr| name.restore(expr)))
            })?;
            plan.map_data(|plan| match plan {
                LogicalPlan::Values(values) => LogicalPlanBuilder::values(values.values)?.build(),
                // Which keeps the types of its schema, whatever its inputs have.
                LogicalPlan::Union(Union { inputs, schema }) => {
                    let schema = Arc::new(schema_in_micros(&schema)?);
                    Ok(LogicalPlan::Union(Union { inputs, schema }))
                }
                plan => plan.recompute_schema(),
            })
        })
        .data()
    }

    fn name(&self) -> &str {
        "microseconds"
    }
}

/// The expression over these columns with every cast to a timestamp in microseconds, and with what else would be another
/// expression to DataFusion: comparisons of intervals, `similar to`.
pub(crate) fn in_micros(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    rewritten(expr, schema)
}

/// The type with microseconds in place of nanoseconds.
pub(crate) fn micros_type(data_type: DataType) -> DataType {
    match data_type {
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone),
        DataType::List(item) => {
            let data_type = micros_type(item.data_type().clone());
            DataType::List(Arc::new(Field::clone(&item).with_data_type(data_type)))
        }
        other => other,
    }
}

fn schema_in_micros(schema: &DFSchema) -> Result<DFSchema> {
    let fields = schema.iter().map(|(relation, field)| {
        let data_type = micros_type(field.data_type().clone());
        (relation.cloned(), Arc::new(Field::clone(field).with_data_type(data_type)))
    });
    DFSchema::new_with_metadata(fields.collect(), schema.metadata().clone())
}

/// Whether a sum is a date or a timestamp that has been moved. Of long sums of numbers only the last part is looked at.
fn moves_a_date(sum: &BinaryExpr, schema: &DFSchema) -> bool {
    if !matches!(sum.op, Operator::Plus | Operator::Minus) {
        return false;
    }
    let Ok(right) = sum.right.get_type(schema) else { return false };
    let step = |data_type: &DataType| matches!(data_type, DataType::Interval(_) | DataType::Duration(_));
    let date = |data_type: &DataType| matches!(data_type, DataType::Date32 | DataType::Timestamp(_, _));
    let left_is = |matches: &dyn Fn(&DataType) -> bool| sum.left.get_type(schema).is_ok_and(|found| matches(&found));
    let days = right.is_integer() && !matches!(*sum.left, Expr::BinaryExpr(_));
    (step(&right) || days) && left_is(&date) || date(&right) && sum.op == Operator::Plus && left_is(&|_| true)
}

fn rewritten(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        let in_micros = |field: &Arc<Field>| {
            let data_type = micros_type(field.data_type().clone());
            (data_type != *field.data_type()).then(|| Arc::new(Field::clone(field).with_data_type(data_type)))
        };
        Ok(match expr {
            Expr::Cast(mut cast) => match in_micros(&cast.field) {
                Some(field) => {
                    cast.field = field;
                    Transformed::yes(Expr::Cast(cast))
                }
                None => Transformed::no(Expr::Cast(cast)),
            },
            Expr::TryCast(mut cast) => match in_micros(&cast.field) {
                Some(field) => {
                    cast.field = field;
                    Transformed::yes(Expr::TryCast(cast))
                }
                None => Transformed::no(Expr::TryCast(cast)),
            },
            Expr::Literal(ScalarValue::TimestampNanosecond(nanos, zone), metadata) => {
                let micros = nanos.map(|nanos| nanos.div_euclid(1000));
                Transformed::yes(Expr::Literal(ScalarValue::TimestampMicrosecond(micros, zone), metadata))
            }
            Expr::SimilarTo(like) => Transformed::yes(similar::as_regex(like)?),
            // A plan is rewritten twice.
            expr if is_in_calendar(&expr) => match expr {
                Expr::ScalarFunction(mut call) if call.args.iter().any(is_in_calendar) => {
                    Transformed::yes(call.args.remove(0))
                }
                other => Transformed::no(other),
            },
            Expr::BinaryExpr(sum) if moves_a_date(&sum, schema) => Transformed::yes(in_calendar(Expr::BinaryExpr(sum))),
            other => intervals::by_length(other, schema)?,
        })
    })
}
