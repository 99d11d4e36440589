//! `date_trunc`.

use super::{DAY, SECOND, as_timestamp, checked, micros};
use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::types::TimestampMicrosecondType;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::temporal_conversions::as_datetime_with_timezone;
use datafusion::common::{Result, exec_datafusion_err, exec_err, plan_err};
use datafusion::functions::datetime::date_trunc;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DateTrunc {
    signature: Signature,
    aliases: Vec<String>,
}

impl DateTrunc {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable), aliases: vec!["datetrunc".to_string()] }
    }
}

impl ScalarUDFImpl for DateTrunc {
    fn name(&self) -> &str {
        "date_trunc"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [part, value] = types else {
            return plan_err!("`date_trunc` takes a part and a timestamp");
        };
        let value = match value {
            DataType::Time32(_) | DataType::Time64(_) => Some(value.clone()),
            value => as_timestamp(value),
        };
        match value {
            Some(value) if part.is_string() => Ok(vec![DataType::Utf8, value]),
            _ => plan_err!("`date_trunc` takes a part and a timestamp, not {types:?}"),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        types.get(1).cloned().ok_or_else(|| exec_datafusion_err!("`date_trunc` takes a part and a timestamp"))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [ColumnarValue::Scalar(part), value] = &args.args[..] else {
            return exec_err!("the part of `date_trunc` is a constant");
        };
        let DataType::Timestamp(_, zone) = value.data_type() else {
            return date_trunc().inner().invoke_with_args(args);
        };
        let part = Part::of(part.try_as_str().flatten().unwrap_or_default())?;
        let values = micros(value, args.number_rows)?;
        let start: Box<dyn Fn(i64) -> Option<i64>> = match &zone {
            Some(zone) if part.depends_on_zone() => {
                let zone: Tz = zone.parse()?;
                Box::new(move |value| local_start(part, value, zone))
            }
            _ => Box::new(move |value| part.start(value)),
        };
        let out_of_calendar = || exec_datafusion_err!("`date_trunc` of a timestamp outside of the years 1 to 9999");
        let started = values.try_unary::<_, TimestampMicrosecondType, _>(|value| {
            checked("date_trunc", i128::from(start(value).ok_or_else(out_of_calendar)?))
        })?;
        Ok(ColumnarValue::Array(Arc::new(started.with_timezone_opt(zone))))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// So many microseconds, counted from midnight.
    Fixed(i64),
    Week,
    Months(u32),
}

impl Part {
    fn of(name: &str) -> Result<Self> {
        Ok(match name.to_lowercase().as_str() {
            "microsecond" => Self::Fixed(1),
            "millisecond" => Self::Fixed(1000),
            "second" => Self::Fixed(SECOND),
            "minute" => Self::Fixed(60 * SECOND),
            "hour" => Self::Fixed(3600 * SECOND),
            "day" => Self::Fixed(DAY),
            "week" => Self::Week,
            "month" => Self::Months(1),
            "quarter" => Self::Months(3),
            "year" => Self::Months(12),
            other => {
                return exec_err!(
                    "`date_trunc` does not know '{other}': microsecond, millisecond, second, minute, hour, day, week, \
                     month, quarter, year"
                );
            }
        })
    }

    /// Offsets of time zones are whole minutes.
    fn depends_on_zone(self) -> bool {
        !matches!(self, Self::Fixed(micros) if micros <= 60 * SECOND)
    }

    /// Where the part begins that a time is in. Weeks begin on Monday.
    fn start(self, micros: i64) -> Option<i64> {
        let midnight = micros.div_euclid(DAY) * DAY;
        match self {
            Self::Fixed(unit) => Some(micros.div_euclid(unit) * unit),
            // 1970-01-01 was a Thursday.
            Self::Week => Some(midnight - (micros.div_euclid(DAY) + 3).rem_euclid(7) * DAY),
            Self::Months(months) => {
                let date = DateTime::from_timestamp_micros(midnight)?.date_naive();
                let first = NaiveDate::from_ymd_opt(date.year(), date.month0() / months * months + 1, 1)?;
                Some(first.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros())
            }
        }
    }
}

/// Where the part begins by the clocks of a time zone.
fn local_start(part: Part, micros: i64, zone: Tz) -> Option<i64> {
    let time = as_datetime_with_timezone::<TimestampMicrosecondType>(micros, zone)?;
    let start = part.start(time.naive_local().and_utc().timestamp_micros())?;
    let start: NaiveDateTime = DateTime::from_timestamp_micros(start)?.naive_utc();
    let offset = time.offset().fix();
    let resolved = match zone.from_local_datetime(&start) {
        chrono::LocalResult::Single(start) => start,
        // It was one of the two.
        chrono::LocalResult::Ambiguous(first, second) => {
            if first.offset().fix() == offset {
                first
            } else {
                second
            }
        }
        // A time that the clocks left out: as long behind one that they did show.
        chrono::LocalResult::None => {
            let gap = TimeDelta::try_hours(3)?;
            zone.from_local_datetime(&start.checked_sub_signed(gap)?).single()?.checked_add_signed(gap)?
        }
    };
    Some(resolved.timestamp_micros())
}

/// So many months on, or back.
pub(super) fn months_on(time: NaiveDateTime, months: i64) -> Option<NaiveDateTime> {
    let count = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
    if months < 0 { time.checked_sub_months(count) } else { time.checked_add_months(count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<DateTime<chrono::Utc>>().unwrap().timestamp_micros()
    }

    #[test]
    fn every_part_of_every_century() {
        let starts = |time: &str, expected: [&str; 5]| {
            for (part, expected) in ["day", "week", "month", "quarter", "year"].iter().zip(expected) {
                let start = Part::of(part).unwrap().start(at(time)).unwrap();
                assert_eq!(start, at(&format!("{expected}T00:00:00Z")), "{part} of {time}");
            }
        };
        starts("9999-12-31T23:59:59.999999Z", ["9999-12-31", "9999-12-27", "9999-12-01", "9999-10-01", "9999-01-01"]);
        starts("0001-01-01T00:00:00Z", ["0001-01-01", "0001-01-01", "0001-01-01", "0001-01-01", "0001-01-01"]);
        starts("1500-02-28T13:00:00Z", ["1500-02-28", "1500-02-26", "1500-02-01", "1500-01-01", "1500-01-01"]);
        starts("2262-04-12T00:00:00Z", ["2262-04-12", "2262-04-07", "2262-04-01", "2262-04-01", "2262-01-01"]);
        assert!(Part::of("era").is_err());
    }

    #[test]
    fn days_of_a_time_zone() {
        let zone: Tz = "Europe/Berlin".parse().unwrap();
        let start = |part, time| local_start(Part::of(part).unwrap(), at(time), zone).unwrap();
        assert_eq!(start("day", "2024-07-01T23:30:00Z"), at("2024-07-01T22:00:00Z"));
        assert_eq!(start("year", "9999-12-31T22:00:00Z"), at("9998-12-31T23:00:00Z"));
    }
}
