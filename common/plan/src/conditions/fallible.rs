//! Which expressions can fail on a row.

use crate::numbers::is_canonical;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ExprSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator};

/// Functions that have a value for all arguments.
const TOTAL: &[&str] = &[
    "btrim",
    "character_length",
    "coalesce",
    "contains",
    "date_part",
    "ends_with",
    "greatest",
    "isnan",
    "least",
    "lower",
    "ltrim",
    "nullif",
    "nvl",
    "nvl2",
    "octet_length",
    "reverse",
    "rtrim",
    "starts_with",
    "strpos",
    "upper",
];

/// Those that have one for all floats.
const TOTAL_OF_FLOATS: &[&str] =
    &["abs", "ceil", "exp", "floor", "ln", "log10", "log2", "round", "signum", "sqrt", "trunc"];

/// Whether an expression over columns of this schema, whose types are settled, can fail on a row. Where that is not known,
/// it can.
pub(super) fn may_fail(expr: &Expr, schema: &dyn ExprSchema) -> bool {
    let itself = match expr {
        Expr::Column(_) | Expr::Literal(..) | Expr::OuterReferenceColumn(..) => return false,
        Expr::ScalarFunction(call) => match (call.name(), &call.args[..]) {
            (_, [argument]) if is_canonical(call) => return float_may_fail(argument, schema),
            (name, _) => !TOTAL.contains(&name),
        },
        Expr::BinaryExpr(BinaryExpr { op, .. }) => !is_total(*op),
        Expr::Cast(Cast { expr, field }) => {
            expr.get_type(schema).map_or(true, |from| !always_fits(&from, field.data_type()))
        }
        Expr::Negative(_) | Expr::SimilarTo(_) | Expr::Unnest(_) => true,
        _ => false,
    };
    itself || any_child(expr, |child| may_fail(child, schema))
}

/// The same of an expression that gives a float, of which nothing is too large.
fn float_may_fail(expr: &Expr, schema: &dyn ExprSchema) -> bool {
    let arithmetic = match expr {
        Expr::BinaryExpr(BinaryExpr { op, .. }) => {
            matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo)
        }
        Expr::Negative(_) => true,
        Expr::ScalarFunction(call) => TOTAL_OF_FLOATS.contains(&call.name()),
        _ => false,
    };
    match arithmetic {
        true => any_child(expr, |child| float_may_fail(child, schema)),
        false => may_fail(expr, schema),
    }
}

fn any_child(expr: &Expr, holds: impl Fn(&Expr) -> bool) -> bool {
    let mut any = false;
    // The walk itself cannot fail.
    let _ = expr.apply_children(|child| {
        any = holds(child);
        Ok(if any { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    any
}

fn is_total(op: Operator) -> bool {
    use Operator::*;
    matches!(
        op,
        Eq | NotEq
            | Lt
            | LtEq
            | Gt
            | GtEq
            | And
            | Or
            | IsDistinctFrom
            | IsNotDistinctFrom
            | LikeMatch
            | ILikeMatch
            | NotLikeMatch
            | NotILikeMatch
            | BitwiseAnd
            | BitwiseOr
            | BitwiseXor
    )
}

/// Whether each value of a type has one of another.
fn always_fits(from: &DataType, to: &DataType) -> bool {
    use DataType::*;
    match (from, to) {
        (from, to) if from == to => true,
        (Null, _) | (Utf8 | Utf8View | LargeUtf8, Utf8 | Utf8View | LargeUtf8) => true,
        (Boolean | Date32 | Timestamp(..), Utf8 | Utf8View) => true,
        (from, Utf8 | Utf8View) => from.is_numeric(),
        (Boolean, to) => to.is_numeric() && !to.is_decimal(),
        (from, Float64) => from.is_numeric(),
        (from, Float32) => from.is_integer(),
        (Int8, Int16 | Int32 | Int64) | (Int16, Int32 | Int64) | (Int32, Int64) => true,
        (UInt8, UInt16 | UInt32 | UInt64 | Int16 | Int32 | Int64) => true,
        (UInt16, UInt32 | UInt64 | Int32 | Int64) | (UInt32, UInt64 | Int64) => true,
        (Decimal128(digits, scale), Decimal128(to_digits, to_scale) | Decimal256(to_digits, to_scale)) => {
            to_scale >= scale && whole(*to_digits, *to_scale) >= whole(*digits, *scale)
        }
        (from, Decimal128(digits, scale) | Decimal256(digits, scale)) => {
            integer_digits(from).is_some_and(|needed| *scale >= 0 && whole(*digits, *scale) >= needed)
        }
        (Date32, Timestamp(TimeUnit::Microsecond, _)) | (Timestamp(TimeUnit::Microsecond, _), Date32) => true,
        (Timestamp(unit, _), Timestamp(to_unit, _)) => unit == to_unit,
        _ => false,
    }
}

fn whole(digits: u8, scale: i8) -> i16 {
    i16::from(digits) - i16::from(scale)
}

fn integer_digits(data_type: &DataType) -> Option<i16> {
    match data_type {
        DataType::Int8 | DataType::UInt8 => Some(3),
        DataType::Int16 | DataType::UInt16 => Some(5),
        DataType::Int32 | DataType::UInt32 => Some(10),
        DataType::Int64 => Some(19),
        DataType::UInt64 => Some(20),
        _ => None,
    }
}
