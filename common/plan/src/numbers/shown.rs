//! Planned expressions as people would write them.

use super::checked::Checked;
use super::convert::Convert;
use super::floats::Canonical;
use crate::conditions::as_operators;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::sync::Arc;

/// An expression to be shown and not to be run: without what this room has put in.
///
/// # Errors
/// When an expression cannot be put together again.
pub(crate) fn plainly(expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    expr.transform_down(|expr| {
        let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() else { return Ok(Transformed::no(expr)) };
        if let Some(checked) = call.fun().inner().downcast_ref::<Checked>() {
            // A column is shown by its name.
            let text: Arc<dyn PhysicalExpr> = Arc::new(Column::new(&checked.text, 0));
            return Ok(Transformed::new(text, true, TreeNodeRecursion::Jump));
        }
        if let Some(operators) = as_operators(call) {
            return Ok(Transformed::yes(operators));
        }
        let inner = call.fun().inner();
        match call.args() {
            [argument] if inner.is::<Canonical>() || inner.is::<Convert>() => Ok(Transformed::yes(argument.clone())),
            _ => Ok(Transformed::no(expr)),
        }
    })
    .data()
}
