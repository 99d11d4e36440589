//! `||` over texts, as a function, so that it has a bound as others have.

use super::guarded;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

/// How it is called. Users cannot name it.
pub(crate) const NAME: &str = "||";

/// Two texts joined, null if one of them is. A chain is one call.
pub(crate) fn joined(left: Expr, right: Expr) -> Expr {
    match left {
        Expr::ScalarFunction(mut call) if call.func.name() == NAME => {
            call.args.push(right);
            Expr::ScalarFunction(call)
        }
        left => {
            let joined = ScalarUDF::from(Joined { signature: Signature::variadic_any(Volatility::Immutable) });
            guarded(Arc::new(joined)).call(vec![left, right])
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Joined {
    signature: Signature,
}

impl ScalarUDFImpl for Joined {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let texts: Vec<(ArrayRef, bool)> = args
            .args
            .iter()
            .map(|arg| match arg {
                ColumnarValue::Array(array) => Ok((array.clone(), false)),
                ColumnarValue::Scalar(scalar) => Ok((scalar.to_array()?, true)),
            })
            .collect::<Result<_>>()?;
        let texts: Vec<_> = texts.iter().map(|(texts, one)| (texts.as_string::<i32>(), *one)).collect();
        let mut joined = StringBuilder::new();
        for row in 0..rows {
            let at = |one: bool| if one { 0 } else { row };
            if texts.iter().any(|(texts, one)| texts.is_null(at(*one))) {
                joined.append_null();
                continue;
            }
            for (texts, one) in &texts {
                // What is written belongs to the value that is appended next.
                let _ = std::fmt::Write::write_str(&mut joined, texts.value(at(*one)));
            }
            joined.append_value("");
        }
        let joined: ArrayRef = Arc::new(joined.finish());
        Ok(match constant {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&joined, 0)?),
            false => ColumnarValue::Array(joined),
        })
    }
}
