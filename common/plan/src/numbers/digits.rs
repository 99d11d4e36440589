//! Numbers as they are written. SQL's parser makes doubles of them, which keep 15 digits: longer ones stay text until it is
//! known what they stand beside.

use datafusion::arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::{self, VisitMut, visit_expressions_mut};
use std::ops::ControlFlow;
use std::sync::Arc;

/// A call of it is a number with more digits than a double keeps.
const NAME: &str = "__digits";

/// As many digits are the same when they have been a double.
const DOUBLE_DIGITS: usize = 15;

pub(crate) fn functions() -> impl Iterator<Item = Arc<ScalarUDF>> {
    std::iter::once(Arc::new(ScalarUDF::from(Digits { signature: Signature::any(1, Volatility::Immutable) })))
}

/// Puts a call in the place of every number that a double does not keep.
pub(crate) fn keep_digits(sql: &mut impl VisitMut) {
    let _ = visit_expressions_mut(sql, |node| {
        if let ast::Expr::Value(value) = node
            && let ast::Value::Number(text, _) = &value.value
            && is_long(text)
        {
            let text = ast::Value::SingleQuotedString(text.clone()).with_span(value.span);
            let name = ast::ObjectName::from(vec![ast::Ident::new(NAME)]);
            let argument = ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ast::Expr::Value(text)));
            *node = ast::Expr::Function(ast::Function {
                name,
                uses_odbc_syntax: false,
                parameters: ast::FunctionArguments::None,
                args: ast::FunctionArguments::List(ast::FunctionArgumentList {
                    duplicate_treatment: None,
                    args: vec![argument],
                    clauses: Vec::new(),
                }),
                filter: None,
                null_treatment: None,
                over: None,
                within_group: Vec::new(),
            });
        }
        ControlFlow::<()>::Continue(())
    });
}

/// Whole numbers of 64 bits stay what they are.
fn is_long(text: &str) -> bool {
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).skip_while(|digit| *digit == b'0').count();
    digits > DOUBLE_DIGITS && text.parse::<i64>().is_err() && text.parse::<u64>().is_err()
}

/// Whether an expression is a number with a point or an exponent, as it is written.
pub(super) fn is_written(expr: &Expr) -> bool {
    match expr {
        Expr::Negative(inner) => is_written(inner),
        Expr::Literal(ScalarValue::Float64(Some(_)), _) => true,
        expr => text(expr).is_some(),
    }
}

/// The decimal that is written there, if it is one.
pub(super) fn decimal(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Negative(inner) => decimal(inner)?.arithmetic_negate().ok(),
        // The shortest text that gives this double again: what was written, as far as a double keeps it.
        Expr::Literal(ScalarValue::Float64(Some(value)), _) if value.is_finite() => exact(&format!("{value:e}")),
        expr => exact(text(expr)?),
    }
}

fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.inner().is::<Digits>() => match &args[..] {
            [Expr::Literal(ScalarValue::Utf8(Some(text)), _)] => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// The decimal that a number is, with no more digits than it needs.
fn exact(text: &str) -> Option<ScalarValue> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let mut scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent.parse().ok()?)?;
    let mut value: i128 = format!("{whole}{fraction}").parse().ok()?;
    if scale < 0 {
        value = value.checked_mul(10_i128.checked_pow(scale.unsigned_abs())?)?;
        scale = 0;
    }
    let digits = i32::try_from(value.to_string().len()).ok()?.max(scale);
    let precision = u8::try_from(digits).ok().filter(|digits| *digits <= DECIMAL128_MAX_PRECISION)?;
    let value = if negative { -value } else { value };
    Some(ScalarValue::Decimal128(Some(value), precision, i8::try_from(scale).ok()?))
}

/// The nearest double, in the place of a number that nobody takes for a decimal.
pub(super) fn nearest(expr: Expr) -> Result<Transformed<Expr>> {
    match text(&expr) {
        Some(text) => Ok(Transformed::yes(Expr::Literal(ScalarValue::Float64(Some(double(text)?)), None))),
        None => Ok(Transformed::no(expr)),
    }
}

fn double(text: &str) -> Result<f64> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => exec_err!("{text} is too large for a double"),
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Digits {
    signature: Signature,
}

impl ScalarUDFImpl for Digits {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &args.args[..] {
            [ColumnarValue::Scalar(ScalarValue::Utf8(Some(text)))] => {
                Ok(ColumnarValue::Scalar(ScalarValue::Float64(Some(double(text)?))))
            }
            other => Err(exec_datafusion_err!("`{NAME}` of {other:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stay() {
        let cases = [
            ("1.005", Some((1005, 4, 3))),
            ("-0.5", Some((-5, 1, 1))),
            ("1.00", Some((1, 1, 0))),
            ("1.5e3", Some((1500, 4, 0))),
            ("12e-3", Some((12, 3, 3))),
            ("0e0", Some((0, 1, 0))),
            ("1e38", None),
            ("1e-39", None),
            ("99999999999999999999999999999999999999", Some((10_i128.pow(38) - 1, 38, 0))),
            ("100000000000000000000000000000000000000", None),
            ("1e99999999999", None),
        ];
        for (text, expected) in cases {
            let expected =
                expected.map(|(value, precision, scale)| ScalarValue::Decimal128(Some(value), precision, scale));
            assert_eq!(exact(text), expected, "{text}");
        }
    }

    #[test]
    fn doubles_give_back_what_was_written() {
        for text in ["99999999.99", "0.1", "123456789012345", "0.000000000000123", "1e22"] {
            let literal = Expr::Literal(ScalarValue::Float64(text.parse().ok()), None);
            assert_eq!(decimal(&literal), exact(text), "{text}");
        }
    }

    #[test]
    fn what_a_double_does_not_keep() {
        for (text, long) in [
            ("1.5", false),
            ("0.000000000000000000001", false),
            ("9223372036854775807", false),
            ("18446744073709551615", false),
            ("18446744073709551616", true),
            ("0.1234567890123456", true),
            ("1e300", false),
        ] {
            assert_eq!(is_long(text), long, "{text}");
        }
    }
}
