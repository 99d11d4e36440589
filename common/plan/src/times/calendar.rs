//! What arithmetic makes of dates has to be in the calendar. Users cannot name this function.

use super::{CALENDAR, DAY};
use datafusion::arrow::array::types::{
    ArrowPrimitiveType, Date32Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampSecondType,
};
use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

const NAME: &str = "in_calendar";

/// The same date or timestamp; one outside of the years 1 to 9999 fails.
pub(crate) fn in_calendar(date: Expr) -> Expr {
    match is_in_calendar(&date) {
        true => date,
        false => ScalarUDF::from(InCalendar { signature: Signature::any(1, Volatility::Immutable) }).call(vec![date]),
    }
}

/// Whether it is this function.
pub(super) fn is_own(function: &ScalarUDF) -> bool {
    function.inner().is::<InCalendar>()
}

/// Whether it is a call of this function.
pub(crate) fn is_in_calendar(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if is_own(&call.func))
}

/// Whether a call looks after that by itself.
pub(crate) fn gives_dates_in_calendar(expr: &Expr) -> bool {
    const OWN: [&str; 4] = ["date_trunc", "date_bin", "from_unixtime", "now"];
    let by_name = |name: &str| OWN.contains(&name) || name.starts_with("to_timestamp") || name.starts_with("current_");
    is_in_calendar(expr) || matches!(expr, Expr::ScalarFunction(call) if by_name(call.func.name()))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct InCalendar {
    signature: Signature,
}

impl ScalarUDFImpl for InCalendar {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        types.first().cloned().ok_or_else(|| exec_datafusion_err!("`{NAME}` takes a date"))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = &args.args[..] else {
            return exec_err!("`{NAME}` takes a date");
        };
        let array = value.to_array(args.number_rows)?;
        let within = match array.data_type() {
            DataType::Date32 => all_within::<Date32Type>(&array, DAY),
            DataType::Timestamp(TimeUnit::Second, _) => all_within::<TimestampSecondType>(&array, 1_000_000),
            DataType::Timestamp(TimeUnit::Millisecond, _) => all_within::<TimestampMillisecondType>(&array, 1000),
            DataType::Timestamp(TimeUnit::Microsecond, _) => all_within::<TimestampMicrosecondType>(&array, 1),
            _ => true,
        };
        if within { Ok(value.clone()) } else { exec_err!("a date outside of the years 1 to 9999") }
    }
}

/// Whether all values, of so many microseconds each, are in the calendar.
fn all_within<T: ArrowPrimitiveType<Native: Into<i64>>>(array: &dyn Array, micros: i64) -> bool {
    let values = array.as_primitive::<T>();
    values.iter().flatten().all(|value| value.into().checked_mul(micros).is_some_and(|value| CALENDAR.contains(&value)))
}
