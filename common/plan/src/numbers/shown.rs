//! Planned expressions as people would write them.

use super::checked::Checked;
use super::convert::Convert;
use super::floats::Canonical;
use crate::conditions::as_operators;
use crate::guarded::JOINED;
use crate::rules::similar_pattern;
use crate::times::is_hidden;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_expr_common::physical_expr::fmt_sql;
use std::sync::Arc;

/// An expression to be shown and not to be run: without what this room has put in.
///
/// # Errors
/// When an expression cannot be put together again.
pub(crate) fn plainly(expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    expr.transform_down(|mut expr| {
        let mut changed = false;
        while let Some(inner) = hidden(&expr) {
            (expr, changed) = (inner, true);
        }
        if let Some(text) = text(&expr)? {
            // A column is shown by its name.
            let text: Arc<dyn PhysicalExpr> = Arc::new(Column::new(&text, 0));
            return Ok(Transformed::new(text, true, TreeNodeRecursion::Jump));
        }
        let call = expr.downcast_ref::<ScalarFunctionExpr>();
        Ok(match call.and_then(|call| as_operators(call).or_else(|| as_joined(call))) {
            Some(operators) => Transformed::yes(operators),
            None => Transformed::new(expr, changed, TreeNodeRecursion::Continue),
        })
    })
    .data()
}

/// What is within a call that nobody has written.
fn hidden(expr: &Arc<dyn PhysicalExpr>) -> Option<Arc<dyn PhysicalExpr>> {
    let call = expr.downcast_ref::<ScalarFunctionExpr>()?;
    let inner = call.fun().inner();
    match call.args() {
        [argument] if inner.is::<Canonical>() || inner.is::<Convert>() || is_hidden(call.fun()) => {
            Some(argument.clone())
        }
        _ => None,
    }
}

/// Expressions that have a text of their own.
fn text(expr: &Arc<dyn PhysicalExpr>) -> Result<Option<String>> {
    if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>()
        && let Some(checked) = call.fun().inner().downcast_ref::<Checked>()
    {
        return Ok(Some(checked.text.to_string()));
    }
    if let Some(literal) = expr.downcast_ref::<Literal>() {
        return Ok(interval(literal.value()));
    }
    let Some(binary) = expr.downcast_ref::<BinaryExpr>() else { return Ok(None) };
    let Some(pattern) = similar_pattern(binary.right()) else { return Ok(None) };
    let similar = match binary.op() {
        Operator::RegexMatch => "similar to",
        Operator::RegexNotMatch => "not similar to",
        _ => return Ok(None),
    };
    let shown =
        |expr: &Arc<dyn PhysicalExpr>| Ok::<_, DataFusionError>(fmt_sql(plainly(expr.clone())?.as_ref()).to_string());
    let pattern = pattern.map_or(Ok("..".to_string()), |pattern| shown(&pattern))?;
    Ok(Some(format!("{} {similar} {pattern}", shown(binary.left())?)))
}

fn interval(value: &ScalarValue) -> Option<String> {
    let (months, days, nanos) = match value {
        ScalarValue::IntervalMonthDayNano(Some(found)) => (found.months, found.days, found.nanoseconds),
        ScalarValue::IntervalDayTime(Some(found)) => (0, found.days, i64::from(found.milliseconds) * 1_000_000),
        ScalarValue::IntervalYearMonth(Some(months)) => (*months, 0, 0),
        _ => return None,
    };
    let seconds = nanos as f64 / 1e9;
    let parts = [(months != 0, format!("{months} months")), (days != 0, format!("{days} days"))];
    let mut parts: Vec<_> = parts.into_iter().filter(|(there, _)| *there).map(|(_, part)| part).collect();
    if nanos != 0 || parts.is_empty() {
        parts.push(format!("{seconds} seconds"));
    }
    Some(format!("interval '{}'", parts.join(" ")))
}

/// Texts joined with `||`, where they are a call.
fn as_joined(call: &ScalarFunctionExpr) -> Option<Arc<dyn PhysicalExpr>> {
    let joined = |left, right| Arc::new(BinaryExpr::new(left, Operator::StringConcat, right)) as Arc<dyn PhysicalExpr>;
    call.args().iter().cloned().reduce(joined).filter(|_| call.fun().name() == JOINED)
}
