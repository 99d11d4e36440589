//! `date_bin`.

use super::trunc::months_on;
use super::{argument, as_timestamp, checked, micros};
use chrono::{DateTime, Datelike, NaiveDateTime};
use datafusion::arrow::array::types::IntervalMonthDayNanoType;
use datafusion::arrow::array::{Array, AsArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit};
use datafusion::common::{Result, exec_datafusion_err, exec_err, plan_err};
use datafusion::functions::datetime::date_bin;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DateBin {
    signature: Signature,
}

impl DateBin {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

impl ScalarUDFImpl for DateBin {
    fn name(&self) -> &str {
        "date_bin"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let takes = "`date_bin` takes an interval, a timestamp, and a timestamp to count from";
        let (stride, times) = match types {
            [stride, times @ ..] if matches!(times.len(), 1 | 2) => (stride, times),
            _ => return plan_err!("{takes}"),
        };
        if !matches!(stride, DataType::Interval(_) | DataType::Null) && !stride.is_string() {
            return plan_err!("{takes}, not {types:?}");
        }
        let time = |data_type: &DataType| match data_type {
            DataType::Time32(_) | DataType::Time64(_) => Some(times[0].clone()),
            data_type => as_timestamp(data_type),
        };
        match times.iter().map(time).collect::<Option<Vec<_>>>() {
            Some(times) => Ok([vec![INTERVAL], times].concat()),
            None => plan_err!("{takes}, not {types:?}"),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        types.get(1).cloned().ok_or_else(|| exec_datafusion_err!("`date_bin` takes a timestamp"))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (stride, value, origin) = match &args.args[..] {
            [stride, value] => (stride, value, None),
            [stride, value, origin] => (stride, value, Some(origin)),
            _ => return exec_err!("`date_bin` takes two or three arguments"),
        };
        let DataType::Timestamp(_, zone) = value.data_type() else {
            return date_bin().inner().invoke_with_args(args);
        };
        let rows = args.number_rows;
        let strides = argument(stride, rows, &INTERVAL)?;
        let strides = strides.as_primitive::<IntervalMonthDayNanoType>();
        let values = micros(value, rows)?;
        let origins = origin.map(|origin| micros(origin, rows)).transpose()?;
        let bin = |row: usize| -> Result<Option<i64>> {
            let null = |array: &dyn Array| array.is_null(row);
            if null(strides) || null(&values) || origins.as_ref().is_some_and(|origins| null(origins)) {
                return Ok(None);
            }
            let origin = origins.as_ref().map_or(0, |origins| origins.value(row));
            let start = Stride::of(strides.value(row))?.start(values.value(row), origin);
            let start = start.ok_or_else(|| exec_datafusion_err!("`date_bin` leaves the calendar"))?;
            checked("date_bin", start).map(Some)
        };
        let bins = (0..rows).map(bin).collect::<Result<TimestampMicrosecondArray>>()?;
        Ok(ColumnarValue::Array(Arc::new(bins.with_timezone_opt(zone))))
    }
}

/// How wide bins are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stride {
    Micros(i128),
    Months(i64),
}

impl Stride {
    fn of(interval: IntervalMonthDayNano) -> Result<Self> {
        let IntervalMonthDayNano { months, days, nanoseconds } = interval;
        let nanos = i128::from(days) * 86_400_000_000_000 + i128::from(nanoseconds);
        let stride = match (months, nanos) {
            (0, nanos) if nanos % 1000 == 0 => Self::Micros(nanos / 1000),
            (0, _) => return exec_err!("bins of `date_bin` are whole microseconds wide"),
            (months, 0) => Self::Months(months.into()),
            _ => return exec_err!("bins of `date_bin` are months wide, or days and shorter, not both"),
        };
        match stride {
            Self::Micros(1..) | Self::Months(1..) => Ok(stride),
            _ => exec_err!("bins of `date_bin` are wider than nothing"),
        }
    }

    /// Where the bin begins that a time is in, one of them at `origin`. None outside of all calendars.
    fn start(self, time: i64, origin: i64) -> Option<i128> {
        match self {
            Self::Micros(stride) => {
                let (time, origin) = (i128::from(time), i128::from(origin));
                Some(origin + (time - origin).div_euclid(stride) * stride)
            }
            Self::Months(stride) => {
                let at = |micros| Some(DateTime::from_timestamp_micros(micros)?.naive_utc());
                let (time, origin): (NaiveDateTime, NaiveDateTime) = (at(time)?, at(origin)?);
                let months = |time: NaiveDateTime| i64::from(time.year()) * 12 + i64::from(time.month0());
                let apart = (months(time) - months(origin)).div_euclid(stride) * stride;
                let start = months_on(origin, apart)?;
                // Of the same month, but later in it.
                let start = if start > time { months_on(origin, apart - stride)? } else { start };
                Some(start.and_utc().timestamp_micros().into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<DateTime<chrono::Utc>>().unwrap().timestamp_micros()
    }

    #[test]
    fn bins_of_all_centuries() {
        let days = Stride::Micros(7 * 86_400_000_000);
        let start = |stride: Stride, time, origin| stride.start(at(time), at(origin)).unwrap() as i64;
        assert_eq!(start(days, "9999-12-31T12:00:00Z", "1970-01-01T00:00:00Z"), at("9999-12-30T00:00:00Z"));
        assert_eq!(start(days, "0001-01-02T00:00:00Z", "0001-01-01T06:00:00Z"), at("0001-01-01T06:00:00Z"));
        assert_eq!(start(days, "1500-06-01T00:00:00Z", "9999-12-31T00:00:00Z"), at("1500-06-01T00:00:00Z"));
        let months = Stride::Months(3);
        assert_eq!(start(months, "9999-12-31T12:00:00Z", "1970-01-01T00:00:00Z"), at("9999-10-01T00:00:00Z"));
        assert_eq!(start(months, "1600-02-01T00:00:00Z", "2000-02-15T00:00:00Z"), at("1599-11-15T00:00:00Z"));
    }

    #[test]
    fn strides() {
        let of = |months, days, nanos| Stride::of(IntervalMonthDayNano::new(months, days, nanos)).ok();
        assert_eq!(of(0, 1, 1_000), Some(Stride::Micros(86_400_000_001)));
        assert_eq!(of(2, 0, 0), Some(Stride::Months(2)));
        for wrong in [(0, 0, 0), (0, 0, 1), (1, 1, 0), (-1, 0, 0), (0, -1, 0)] {
            assert_eq!(of(wrong.0, wrong.1, wrong.2), None, "{wrong:?}");
        }
    }
}
