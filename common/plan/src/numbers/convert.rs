//! Casts whose result may not be what was meant: digits that are cut off, numbers that become infinite, dates outside of
//! the calendar, numbers that count seconds here and microseconds there.
//!
//! Decimals and doubles are rounded to whole numbers, a half away from zero. A number that becomes a timestamp counts
//! seconds since 1970 UTC, with its fraction up to microseconds, and a timestamp that becomes a number does the same.

use crate::decode::decimal_of_text;
use datafusion::arrow::array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue, exec_err, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;
use tidemill_rows::{CALENDAR, canonical_array, type_name};

/// What does not fit becomes null.
const OR_NULL: CastOptions<'static> =
    CastOptions { safe: true, format_options: datafusion::arrow::util::display::FormatOptions::new() };

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// Microseconds are seconds with so many digits.
const MICRO_DIGITS: i8 = 6;
/// Decimals of so many digits become the nearest double when both of their parts, the digits and the power of ten, are
/// exact doubles.
const EXACT_DIGITS: u8 = 15;
/// Characters of a value in a message.
const VALUE_CHARS: usize = 100;

/// A cast of ours. Users cannot name it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Convert {
    pub(super) to: DataType,
    /// Whether what does not fit becomes null.
    or_null: bool,
    signature: Signature,
}

/// Whether a cast is one of those.
pub(super) fn is_ours(from: &DataType, to: &DataType) -> bool {
    use DataType::{Date32, Decimal128, Float32, Float64, Timestamp};
    let number = from.is_integer() || from.is_floating() || from.is_decimal();
    match to {
        _ if from == to || from.is_null() => false,
        to if to.is_integer() => from.is_floating() || from.is_decimal() || from.is_string() || is_time(from),
        Float64 => from.is_string() || is_time(from) || matches!(from, Decimal128(digits, _) if *digits > EXACT_DIGITS),
        Float32 => from.is_string() || *from == Float64 || is_time(from),
        Decimal128(..) => from.is_string() || from.is_floating() || is_time(from) || may_not_fit(from, to),
        Timestamp(_, zone) => {
            let zoned = matches!(from, Timestamp(_, None)) && zone.is_some();
            number
                || from.is_string()
                || zoned
                || matches!(from, Timestamp(TimeUnit::Second | TimeUnit::Millisecond, _))
        }
        Date32 => number || from.is_string(),
        _ => false,
    }
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..))
}

fn may_not_fit(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Decimal128(from, from_scale), DataType::Decimal128(to, to_scale)) => {
            let before = |digits: u8, scale: i8| i32::from(digits) - i32::from(scale);
            before(*from, *from_scale) + i32::from(to_scale < from_scale) > before(*to, *to_scale)
        }
        _ => false,
    }
}

/// The cast as a call.
pub(super) fn convert(expr: Expr, to: DataType, or_null: bool) -> Result<Expr> {
    let convert = Convert { to, or_null, signature: Signature::any(1, Volatility::Immutable) };
    match expr {
        Expr::Literal(value, _) => {
            let converted = convert.values(&value.to_array()?)?;
            Ok(Expr::Literal(ScalarValue::try_from_array(&converted, 0)?, None))
        }
        expr => Ok(ScalarUDF::from(convert).call(vec![expr])),
    }
}

impl Convert {
    fn values(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let found = converted(values, &self.to)?;
        if !self.or_null && found.null_count() > values.logical_null_count() {
            let nulls = values.logical_nulls();
            let fits = |row: &usize| found.is_valid(*row) || nulls.as_ref().is_some_and(|nulls| nulls.is_null(*row));
            if let Some(row) = (0..values.len()).find(|row| !fits(row)) {
                return self.misfit(&ScalarValue::try_from_array(values, row)?);
            }
        }
        Ok(found)
    }

    fn misfit<T>(&self, value: &ScalarValue) -> Result<T> {
        let is_text = value.data_type().is_string();
        let shown: String = plain(value).chars().take(VALUE_CHARS).collect();
        let shown = if is_text { format!("'{shown}'") } else { shown };
        let date = matches!(self.to, DataType::Date32 | DataType::Timestamp(..));
        // What is a date at all without ours is one of another year.
        if date && (!is_text || value.cast_to(&self.to).is_ok()) {
            return exec_err!("{shown} gives a {} outside of the years 1 to 9999", type_name(&self.to));
        }
        exec_err!("{shown} does not fit {}", type_name(&self.to))
    }
}

/// A value as text.
pub(super) fn plain(value: &ScalarValue) -> String {
    match value {
        ScalarValue::Float64(Some(value)) => format!("{value:?}"),
        ScalarValue::Float32(Some(value)) => format!("{value:?}"),
        value => match value.cast_to(&DataType::Utf8) {
            Ok(ScalarValue::Utf8(Some(text))) => text,
            _ => value.to_string(),
        },
    }
}

/// The values, null where one does not fit.
fn converted(values: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let from = values.data_type();
    if from.is_string() {
        let texts = cast_with_options(values, &DataType::Utf8, &OR_NULL)?;
        return of_texts(&texts, to);
    }
    if is_time(from) && (to.is_integer() || to.is_floating() || to.is_decimal()) {
        return cast_with_options(&seconds(values, to.is_integer())?, to, &OR_NULL);
    }
    match to {
        to if to.is_integer() => integers(values, to),
        DataType::Timestamp(_, zone) if !is_time(from) => {
            cast_with_options(&micros(values)?.with_timezone_opt(zone.clone()), to, &OR_NULL)
        }
        DataType::Timestamp(..) | DataType::Date32 => in_calendar(cast_with_options(values, to, &OR_NULL)?),
        DataType::Float32 => {
            let floats = cast_with_options(values, to, &OR_NULL)?;
            let finite = |row: usize| values.as_primitive::<Float64Type>().value(row).is_finite();
            Ok(canonical_array(&keep::<Float32Type>(&floats, |row, value| !value.is_infinite() || !finite(row))))
        }
        // The nearest, of a number with many digits, is that of its text.
        DataType::Float64 => {
            let texts = cast_with_options(values, &DataType::Utf8, &OR_NULL)?;
            cast_with_options(&texts, to, &OR_NULL)
        }
        to => cast_with_options(values, to, &OR_NULL),
    }
}

fn of_texts(texts: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let text = |row: usize| texts.as_string::<i32>().value(row);
    let written = |row: usize| text(row).trim().trim_start_matches(['+', '-']).starts_with(['i', 'I']);
    if let DataType::Decimal128(precision, scale) = to {
        let decimal = |text: Option<&str>| text.and_then(|text| decimal_of_text(text.trim(), *precision, *scale).ok());
        let decimals: PrimitiveArray<Decimal128Type> = texts.as_string::<i32>().iter().map(decimal).collect();
        return Ok(Arc::new(decimals.with_precision_and_scale(*precision, *scale)?));
    }
    let found = cast_with_options(texts, to, &OR_NULL)?;
    match to {
        DataType::Float64 => {
            Ok(canonical_array(&keep::<Float64Type>(&found, |row, value| !value.is_infinite() || written(row))))
        }
        DataType::Float32 => {
            Ok(canonical_array(&keep::<Float32Type>(&found, |row, value| !value.is_infinite() || written(row))))
        }
        DataType::Date32 | DataType::Timestamp(..) => in_calendar(found),
        _ => Ok(found),
    }
}

/// Whole numbers, a half rounded away from zero.
fn integers(values: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    match values.data_type() {
        DataType::Decimal128(..) | DataType::Decimal256(..) => {
            cast_with_options(&whole_decimals(values)?, to, &OR_NULL)
        }
        _ => {
            let doubles = cast_with_options(values, &DataType::Float64, &OR_NULL)?;
            let rounded = doubles.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::round);
            cast_with_options(&rounded, to, &OR_NULL)
        }
    }
}

fn whole_decimals(values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let to = match values.data_type() {
        DataType::Decimal128(..) => DataType::Decimal128(38, 0),
        _ => DataType::Decimal256(76, 0),
    };
    cast_with_options(values, &to, &OR_NULL)
}

/// Seconds since 1970 of timestamps: with their fraction, or those that have passed.
fn seconds(times: &ArrayRef, whole: bool) -> Result<ArrayRef, ArrowError> {
    let micros = cast_with_options(times, &DataType::Timestamp(TimeUnit::Microsecond, None), &OR_NULL)?;
    let micros = micros.as_primitive::<TimestampMicrosecondType>();
    if whole {
        return Ok(Arc::new(micros.unary::<_, Int64Type>(|micros| micros.div_euclid(SECOND))));
    }
    let seconds = micros.unary::<_, Decimal128Type>(i128::from);
    Ok(Arc::new(seconds.with_precision_and_scale(19, MICRO_DIGITS)?))
}

/// Timestamps of seconds since 1970; null for those outside of the calendar.
fn micros(seconds: &ArrayRef) -> Result<PrimitiveArray<TimestampMicrosecondType>, ArrowError> {
    if seconds.data_type().is_floating() {
        let doubles = cast_with_options(seconds, &DataType::Float64, &OR_NULL)?;
        let micros = |seconds: f64| {
            let micros = (seconds * SECOND as f64).round();
            micros.is_finite().then_some(micros as i64).filter(|micros| CALENDAR.contains(micros))
        };
        return Ok(doubles.as_primitive::<Float64Type>().unary_opt(micros));
    }
    let decimals = cast_with_options(seconds, &DataType::Decimal128(38, MICRO_DIGITS), &OR_NULL)?;
    let micros = |micros: i128| i64::try_from(micros).ok().filter(|micros| CALENDAR.contains(micros));
    Ok(decimals.as_primitive::<Decimal128Type>().unary_opt(micros))
}

/// Dates and timestamps, null for those outside of the calendar.
fn in_calendar(times: ArrayRef) -> Result<ArrayRef, ArrowError> {
    match times.data_type() {
        DataType::Date32 => Ok(keep::<Date32Type>(&times, |_, days| CALENDAR.contains(&(i64::from(days) * DAY)))),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Ok(keep::<TimestampMicrosecondType>(&times, |_, micros| CALENDAR.contains(&micros)))
        }
        // What is coarser has come from what is in it.
        _ => Ok(times),
    }
}

/// The values that are to stay, null in place of the others.
fn keep<T: ArrowPrimitiveType>(values: &ArrayRef, stays: impl Fn(usize, T::Native) -> bool) -> ArrayRef {
    let values = values.as_primitive::<T>();
    let goes = |row: usize| values.is_valid(row) && !stays(row, values.value(row));
    if !(0..values.len()).any(goes) {
        return Arc::new(values.clone());
    }
    let kept: PrimitiveArray<T> =
        (0..values.len()).map(|row| (values.is_valid(row) && !goes(row)).then(|| values.value(row))).collect();
    Arc::new(kept.with_data_type(values.data_type().clone()))
}

impl ScalarUDFImpl for Convert {
    fn name(&self) -> &str {
        if self.or_null { "try_convert" } else { "convert" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = self.or_null || args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.to.clone(), nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &args.args[..] {
            [ColumnarValue::Array(values)] => Ok(ColumnarValue::Array(self.values(values)?)),
            [ColumnarValue::Scalar(value)] => {
                let converted = self.values(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&converted, 0)?))
            }
            other => internal_err!("a cast of {} values", other.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Float64Array, Int64Array, StringArray};

    fn shown(values: ArrayRef, to: DataType) -> Vec<String> {
        let convert = |values: &ArrayRef| {
            let convert =
                |or_null| Convert { to: to.clone(), or_null, signature: Signature::any(1, Volatility::Immutable) };
            match convert(false).values(values) {
                Ok(found) => ScalarValue::try_from_array(&found, 0).unwrap().to_string(),
                Err(error) => {
                    assert_eq!(convert(true).values(values).unwrap().null_count(), 1);
                    error.strip_backtrace().replace("Execution error: ", "")
                }
            }
        };
        (0..values.len()).map(|row| convert(&values.slice(row, 1))).collect()
    }

    fn decimals(values: Vec<i128>, scale: i8) -> ArrayRef {
        let values = PrimitiveArray::<Decimal128Type>::from_iter_values(values);
        Arc::new(values.with_precision_and_scale(38, scale).unwrap())
    }

    fn texts(texts: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(texts.to_vec()))
    }

    #[test]
    fn whole_numbers_are_rounded() {
        let found = shown(decimals(vec![9999, 150, -150, 149, -50], 2), DataType::Int64);
        assert_eq!(found, ["100", "2", "-2", "1", "-1"]);
        let doubles = Float64Array::from(vec![2.5, -0.5, 0.49999999999999994, 1e300]);
        assert_eq!(shown(Arc::new(doubles), DataType::Int32), ["3", "-1", "0", "1e300 does not fit int"]);
        let found = shown(decimals(vec![214_748_364_750], 2), DataType::Int32);
        assert_eq!(found, ["2147483647.50 does not fit int"]);
    }

    #[test]
    fn numbers_are_seconds() {
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        assert_eq!(shown(Arc::new(Int64Array::from(vec![1, -1])), micros.clone()), ["1000000", "-1000000"]);
        assert_eq!(shown(Arc::new(Float64Array::from(vec![1.5, 0.0000005])), micros.clone()), ["1500000", "1"]);
        assert_eq!(shown(decimals(vec![15_000_005], 7), micros.clone()), ["1500001"]);
        for numbers in [
            Arc::new(Int64Array::from(vec![253_402_300_800])) as ArrayRef,
            Arc::new(Float64Array::from(vec![f64::NAN])),
            decimals(vec![10_i128.pow(30)], 0),
        ] {
            let found = shown(numbers, micros.clone());
            assert!(found[0].ends_with("outside of the years 1 to 9999"), "{found:?}");
        }
    }

    #[test]
    fn texts_are_read_as_they_are_in_records() {
        let found = shown(texts(&["1e400", "-inf", "1e308", "NaN", "x"]), DataType::Float64);
        assert_eq!((&found[0][..], &found[1][..]), ("'1e400' does not fit double", "-inf"));
        assert_eq!((&found[3][..], &found[4][..]), ("NaN", "'x' does not fit double"));
        assert_eq!(shown(Arc::new(Float64Array::from(vec![1e300])), DataType::Float32).len(), 1);
        let found = shown(texts(&["1.005", "1e2", "1000"]), DataType::Decimal128(5, 2));
        assert_eq!((found[2].as_str(), found.len()), ("'1000' does not fit decimal(5, 2)", 3));
        let found = shown(texts(&["0000-01-01", "x"]), DataType::Date32);
        assert_eq!(found, ["'0000-01-01' gives a date outside of the years 1 to 9999", "'x' does not fit date"]);
    }
}
