//! Intervals as times that pass, and as what they are compared by. Users cannot name these functions.

use super::argument;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::array::types::{Decimal128Type, DurationMicrosecondType, IntervalMonthDayNanoType};
use datafusion::arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

/// The duration of an interval, in microseconds: a day is 24 hours. One with months has none, and fails.
pub(crate) fn duration_of(interval: Expr) -> Expr {
    ScalarUDF::from(DurationOf { signature: Signature::any(1, Volatility::Immutable) }).call(vec![interval])
}

/// What an interval is compared by: its nanoseconds, with 24 hours a day and 30 days a month, as PostgreSQL and DuckDB do.
pub(crate) fn length_of(interval: Expr) -> Expr {
    ScalarUDF::from(LengthOf { signature: Signature::any(1, Volatility::Immutable) }).call(vec![interval])
}

/// Whether it is one of these functions.
pub(super) fn is_own(function: &ScalarUDF) -> bool {
    function.inner().is::<LengthOf>() || function.inner().is::<DurationOf>()
}

const NANOS_PER_DAY: i128 = 86_400_000_000_000;
const DAYS_PER_MONTH: i128 = 30;
/// Wide enough for every interval.
const LENGTH: DataType = DataType::Decimal128(38, 0);

#[derive(Debug, PartialEq, Eq, Hash)]
struct LengthOf {
    signature: Signature,
}

impl ScalarUDFImpl for LengthOf {
    fn name(&self) -> &str {
        "length_of_interval"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(LENGTH)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [interval] = &args.args[..] else {
            return exec_err!("`{}` takes an interval", self.name());
        };
        let intervals = argument(interval, args.number_rows, &DataType::Interval(IntervalUnit::MonthDayNano))?;
        let lengths = intervals.as_primitive::<IntervalMonthDayNanoType>().unary::<_, Decimal128Type>(|interval| {
            let days = i128::from(interval.months) * DAYS_PER_MONTH + i128::from(interval.days);
            days * NANOS_PER_DAY + i128::from(interval.nanoseconds)
        });
        Ok(ColumnarValue::Array(Arc::new(lengths.with_data_type(LENGTH))))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DurationOf {
    signature: Signature,
}

impl ScalarUDFImpl for DurationOf {
    fn name(&self) -> &str {
        "duration_of"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Duration(TimeUnit::Microsecond))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [interval] = &args.args[..] else {
            return exec_err!("`duration_of` takes an interval");
        };
        let intervals = argument(interval, args.number_rows, &DataType::Interval(IntervalUnit::MonthDayNano))?;
        let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
        let durations = intervals.try_unary::<_, DurationMicrosecondType, _>(|interval| {
            if interval.months != 0 {
                return exec_err!("a month is no fixed time to compare with: count in days");
            }
            let nanos = i128::from(interval.days) * NANOS_PER_DAY + i128::from(interval.nanoseconds);
            let too_long = || exec_datafusion_err!("an interval is longer than a duration can be");
            i64::try_from(nanos.div_euclid(1000)).map_err(|_| too_long())
        })?;
        Ok(ColumnarValue::Array(Arc::new(durations)))
    }
}
