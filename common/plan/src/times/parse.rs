//! `to_timestamp` and its kin.

use super::{DAY, argument, checked, micros, timestamp};
use chrono::format::{Parsed, StrftimeItems, parse};
use chrono::{DateTime, FixedOffset, Utc};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::types::{Date32Type, Decimal128Type, Float64Type, Int64Type, UInt64Type};
use datafusion::arrow::array::{Array, AsArray, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::compute::kernels::cast_utils::string_to_datetime;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

/// All of them, by the unit of numbers.
pub(super) fn functions() -> impl Iterator<Item = ScalarUDF> {
    let units = [
        ("to_timestamp", Unit { nanos: 1_000_000_000, whole: false }),
        ("to_timestamp_seconds", Unit { nanos: 1_000_000_000, whole: true }),
        ("to_timestamp_millis", Unit { nanos: 1_000_000, whole: true }),
        ("to_timestamp_micros", Unit { nanos: 1_000, whole: true }),
        ("to_timestamp_nanos", Unit { nanos: 1, whole: true }),
    ];
    let function = |(name, unit)| {
        let signature = Signature::variadic_any(Volatility::Immutable);
        ScalarUDF::from(ToTimestamp { name, unit, signature })
    };
    units.into_iter().map(function)
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Unit {
    nanos: i64,
    /// Whether fractions of it are left out.
    whole: bool,
}

impl Unit {
    /// So many units, `scale` digits of them behind the point, in microseconds.
    fn of_number(self, function: &str, value: i128, scale: u32) -> Result<i64> {
        let too_much = || exec_datafusion_err!("`{function}` gives a timestamp outside of the years 1 to 9999");
        let one = 10i128.checked_pow(scale).ok_or_else(too_much)?;
        let value = if self.whole { value / one * one } else { value };
        let nanos = value.checked_mul(i128::from(self.nanos)).ok_or_else(too_much)?;
        let micro = one * 1000;
        // Half a microsecond and more is one.
        let half = if self.whole { 0 } else { micro / 2 };
        checked(function, (nanos + half).div_euclid(micro))
    }

    fn of_float(self, function: &str, value: f64) -> Result<i64> {
        let value = if self.whole { value.trunc() } else { value };
        let micros = (value * self.nanos as f64 / 1000.0).round();
        if !micros.is_finite() {
            return exec_err!("`{function}` of {value}: no timestamp");
        }
        checked(function, micros as i128)
    }

    /// A point in time, to whole units.
    fn of_micros(self, function: &str, micros: i64) -> Result<i64> {
        let unit = if self.whole { (self.nanos / 1000).max(1) } else { 1 };
        checked(function, i128::from(micros.div_euclid(unit) * unit))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToTimestamp {
    name: &'static str,
    unit: Unit,
    signature: Signature,
}

impl ScalarUDFImpl for ToTimestamp {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [first, formats @ ..] if formats.is_empty() || first.is_string() || first.is_null() => Ok(timestamp(None)),
            _ => plan_err!("`{}` takes a value, and formats only behind a text", self.name),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (rows, name, unit) = (args.number_rows, self.name, self.unit);
        let Some((value, formats)) = args.args.split_first() else {
            return exec_err!("`{name}` takes a value");
        };
        let data_type = value.data_type();
        let times: TimestampMicrosecondArray = match &data_type {
            DataType::Null => return Ok(ColumnarValue::Scalar(ScalarValue::try_from(&timestamp(None))?)),
            DataType::UInt64 => {
                let values = argument(value, rows, &data_type)?;
                let values = values.as_primitive::<UInt64Type>();
                values.try_unary(|value| unit.of_number(name, value.into(), 0))?
            }
            number if number.is_integer() => {
                let values = argument(value, rows, &DataType::Int64)?;
                values.as_primitive::<Int64Type>().try_unary(|value| unit.of_number(name, value.into(), 0))?
            }
            number if number.is_floating() => {
                let values = argument(value, rows, &DataType::Float64)?;
                values.as_primitive::<Float64Type>().try_unary(|value| unit.of_float(name, value))?
            }
            DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal128(_, scale) => {
                let scale = (*scale).max(0);
                let values = argument(value, rows, &DataType::Decimal128(38, scale))?;
                let values = values.as_primitive::<Decimal128Type>();
                values.try_unary(|value| unit.of_number(name, value, u32::from(scale.unsigned_abs())))?
            }
            DataType::Date32 => {
                let values = argument(value, rows, &data_type)?;
                let values = values.as_primitive::<Date32Type>();
                values.try_unary(|days| checked(name, i128::from(days) * i128::from(DAY)))?
            }
            DataType::Timestamp(_, _) => micros(value, rows)?.try_unary(|micros| unit.of_micros(name, micros))?,
            text if text.is_string() => of_texts(name, unit, value, formats, rows)?,
            other => return exec_err!("`{name}` does not take a {other}"),
        };
        Ok(ColumnarValue::Array(Arc::new(times)))
    }
}

fn of_texts(
    name: &str,
    unit: Unit,
    value: &ColumnarValue,
    formats: &[ColumnarValue],
    rows: usize,
) -> Result<TimestampMicrosecondArray> {
    let texts = strings(value, rows)?;
    let formats = formats.iter().map(|format| strings(format, rows)).collect::<Result<Vec<_>>>()?;
    let time = |row: usize| -> Result<Option<i64>> {
        if texts.is_null(row) {
            return Ok(None);
        }
        let text = texts.value(row);
        if formats.is_empty() {
            return Ok(Some(string_to_datetime(&Utc, text)?.timestamp_micros()));
        }
        let mut given = formats.iter().filter(|format| format.is_valid(row)).map(|format| format.value(row)).peekable();
        if given.peek().is_none() {
            return Ok(None);
        }
        let mut last = None;
        for format in given {
            match formatted(text, format) {
                Some(time) => return Ok(Some(time.timestamp_micros())),
                None => last = Some(format),
            }
        }
        exec_err!("`{name}`: '{text}' does not have the format '{}'", last.unwrap_or_default())
    };
    let times = (0..rows).map(|row| time(row)?.map(|micros| unit.of_micros(name, micros)).transpose());
    times.collect()
}

fn strings(value: &ColumnarValue, rows: usize) -> Result<StringArray> {
    Ok(argument(value, rows, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// A text in chrono's format; without an offset it is UTC, without a time midnight. A name of a time zone (`%Z`) may stand
/// at the end, behind a space.
fn formatted(text: &str, format: &str) -> Option<DateTime<Utc>> {
    let (text, format, zone) = match format.trim_end().strip_suffix(" %Z") {
        Some(format) => {
            let (text, zone) = text.trim_end().rsplit_once(' ')?;
            (text, format, Some(zone.parse::<Tz>().ok()?))
        }
        None => (text, format, None),
    };
    let mut parsed = Parsed::new();
    parse(&mut parsed, text, StrftimeItems::new(format)).ok()?;
    if let Some(zone) = zone {
        return Some(parsed.to_datetime_with_timezone(&zone).ok()?.with_timezone(&Utc));
    }
    let with_offset: Option<DateTime<FixedOffset>> = parsed.to_datetime().ok();
    match with_offset {
        Some(time) => Some(time.with_timezone(&Utc)),
        None => {
            let time = parsed.to_naive_datetime_with_offset(0).ok();
            let time = time.or_else(|| parsed.to_naive_date().ok()?.and_hms_opt(0, 0, 0))?;
            Some(time.and_utc())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::SECOND;
    use super::*;

    const SECONDS: Unit = Unit { nanos: 1_000_000_000, whole: false };

    #[test]
    fn numbers_are_exact_or_refused() {
        assert_eq!(SECONDS.of_number("f", 15_000_004, 7).unwrap(), SECOND + 500_000);
        assert_eq!(SECONDS.of_number("f", -15_000_005, 7).unwrap(), -SECOND - 500_000);
        assert_eq!(SECONDS.of_number("f", 253_402_300_799, 0).unwrap(), 253_402_300_799_000_000);
        assert!(SECONDS.of_number("f", 253_402_300_800, 0).is_err());
        assert!(SECONDS.of_number("f", i128::MAX, 0).is_err());
        assert_eq!(SECONDS.of_float("f", 1.005).unwrap(), 1_005_000);
        assert!(SECONDS.of_float("f", f64::NAN).is_err());
        assert!(SECONDS.of_float("f", 1e300).is_err());
        let nanos = Unit { nanos: 1, whole: true };
        assert_eq!(nanos.of_number("f", -1, 0).unwrap(), -1);
    }

    #[test]
    fn formats() {
        let micros = |text, format| formatted(text, format).map(|time| time.to_rfc3339());
        assert_eq!(micros("31/12/9999", "%d/%m/%Y").unwrap(), "9999-12-31T00:00:00+00:00");
        assert_eq!(micros("0001-01-01 05:00 +02:00", "%Y-%m-%d %H:%M %z").unwrap(), "0001-01-01T03:00:00+00:00");
        assert_eq!(micros("2024-07-01 12:00 Europe/Berlin", "%Y-%m-%d %H:%M %Z").unwrap(), "2024-07-01T10:00:00+00:00");
        assert_eq!(micros("yesterday", "%Y-%m-%d"), None);
    }
}
