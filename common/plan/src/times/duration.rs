//! Intervals as times that pass. Users cannot name this function.

use super::argument;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::array::types::{DurationMicrosecondType, IntervalMonthDayNanoType};
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
            let nanos = i128::from(interval.days) * 86_400_000_000_000 + i128::from(interval.nanoseconds);
            let too_long = || exec_datafusion_err!("an interval is longer than a duration can be");
            i64::try_from(nanos.div_euclid(1000)).map_err(|_| too_long())
        })?;
        Ok(ColumnarValue::Array(Arc::new(durations)))
    }
}
