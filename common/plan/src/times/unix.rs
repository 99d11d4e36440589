//! `to_unixtime` and `from_unixtime`: whole seconds since 1970 UTC.

use super::{SECOND, argument, checked, micros, timestamp};
use datafusion::arrow::array::AsArray;
use datafusion::arrow::array::types::{Int64Type, TimestampMicrosecondType};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::functions::datetime::to_unixtime;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ToUnixtime {
    signature: Signature,
}

impl ToUnixtime {
    pub(super) fn new() -> Self {
        Self { signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ToUnixtime {
    fn name(&self) -> &str {
        "to_unixtime"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let times = match args.args.first().map(ColumnarValue::data_type) {
            Some(DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64) if args.args.len() == 1 => {
                micros(&args.args[0], args.number_rows)?
            }
            Some(text) if text.is_string() => {
                let rows = args.number_rows;
                let Some(read) = super::parse::functions().next() else {
                    return exec_err!("`to_unixtime` reads no texts");
                };
                micros(&read.inner().invoke_with_args(args)?, rows)?
            }
            _ => return to_unixtime().inner().invoke_with_args(args),
        };
        let seconds = times.unary::<_, Int64Type>(|micros| micros.div_euclid(SECOND));
        Ok(ColumnarValue::Array(Arc::new(seconds)))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct FromUnixtime {
    signature: Signature,
}

impl FromUnixtime {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for FromUnixtime {
    fn name(&self) -> &str {
        "from_unixtime"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [seconds] if seconds.is_integer() || seconds.is_null() => Ok(vec![DataType::Int64]),
            [seconds, zone] if (seconds.is_integer() || seconds.is_null()) && zone.is_string() => {
                Ok(vec![DataType::Int64, DataType::Utf8])
            }
            _ => plan_err!("`from_unixtime` takes whole seconds, and a time zone"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(timestamp(None))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let zone = match args.scalar_arguments {
            [_] => None,
            [_, Some(zone)] => zone.try_as_str().flatten().map(Arc::from),
            _ => return plan_err!("the time zone of `from_unixtime` is a constant"),
        };
        Ok(Arc::new(Field::new(self.name(), timestamp(zone), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let DataType::Timestamp(_, zone) = args.return_field.data_type() else {
            return exec_err!("`from_unixtime` gives a timestamp");
        };
        let seconds = argument(&args.args[0], args.number_rows, &DataType::Int64)?;
        let times = seconds.as_primitive::<Int64Type>().try_unary::<_, TimestampMicrosecondType, _>(|seconds| {
            checked("from_unixtime", i128::from(seconds) * i128::from(SECOND))
        })?;
        Ok(ColumnarValue::Array(Arc::new(times.with_timezone_opt(zone.clone()))))
    }
}
