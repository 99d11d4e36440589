//! State that never gets a value: it begins as null, and its update gives null of null.

use super::scope::old_name;
use datafusion::logical_expr::{Expr, Operator};
use datafusion::scalar::ScalarValue;
use tidemill_common::diag::Diagnostic;
use tidemill_job::StateColumn;

/// A warning for each of these columns that is null for ever, if all begin as null.
pub(super) fn warnings(columns: &[StateColumn], updates: &[Expr]) -> Vec<Diagnostic> {
    let mut null = vec![true; columns.len()];
    // The columns left when nothing changes any more keep each other null.
    loop {
        let is_null = |name: &str| columns.iter().zip(&null).any(|(c, null)| *null && old_name(&c.name.text) == name);
        let next: Vec<bool> =
            null.iter().zip(updates).map(|(null, update)| *null && gives_null(update, &is_null)).collect();
        if next == null {
            break;
        }
        null = next;
    }
    let warning = |column: &StateColumn| {
        let name = &column.name.text;
        let warning = Diagnostic::warning(format!(
            "`state.{name}` is null for ever: it begins as null, and null and anything is null"
        ));
        let warning = warning.at(column.update.span.clone()).label("null in every batch");
        warning.help(format!("begin with a value: `coalesce(state.{name}, 0)`"))
    };
    columns.iter().zip(null).filter(|(_, null)| *null).map(|(column, _)| warning(column)).collect()
}

/// Whether an expression is surely null when these columns are.
fn gives_null(expr: &Expr, is_null: &impl Fn(&str) -> bool) -> bool {
    match expr {
        Expr::Column(column) => is_null(&column.name),
        Expr::Literal(value, _) => matches!(value, ScalarValue::Null) || value.is_null(),
        Expr::Alias(alias) => gives_null(&alias.expr, is_null),
        Expr::Cast(cast) => gives_null(&cast.expr, is_null),
        Expr::TryCast(cast) => gives_null(&cast.expr, is_null),
        Expr::Negative(expr) | Expr::Not(expr) => gives_null(expr, is_null),
        Expr::BinaryExpr(binary) => {
            let strict = matches!(
                binary.op,
                Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo
            );
            strict && (gives_null(&binary.left, is_null) || gives_null(&binary.right, is_null))
        }
        _ => false,
    }
}
