//! Dates and timestamps out of text, in the years 1 to 9999. A number is neither: what it counts is not known.

use datafusion::arrow::array::{ArrayRef, Date32Array, StringArray, TimestampMicrosecondArray};
use std::sync::Arc;
use tidemill_rows::{CALENDAR, NoDate, beginning, day_of_text, timestamp_of_text};

/// Days since 1970.
///
/// # Errors
/// Names the first text that is no date, is not in the calendar, or has a time within a day.
pub(super) fn dates(column: &StringArray) -> Result<ArrayRef, String> {
    let dates = column.iter().map(|text| text.map(date).transpose()).collect::<Result<Date32Array, _>>()?;
    Ok(Arc::new(dates))
}

/// Microseconds since 1970 UTC.
///
/// # Errors
/// Names the first text that is no timestamp, or is not in the calendar.
pub(super) fn timestamps(column: &StringArray) -> Result<ArrayRef, String> {
    let times =
        column.iter().map(|text| text.map(timestamp).transpose()).collect::<Result<TimestampMicrosecondArray, _>>()?;
    Ok(Arc::new(times))
}

fn date(text: &str) -> Result<i32, String> {
    let days = day_of_text(text).map_err(|wrong| match wrong {
        NoDate::Other => not(text, "date"),
        NoDate::HasTime => format!("`{text}` has a time, which a date has not"),
    })?;
    within(text, beginning(days))?;
    Ok(days)
}

fn timestamp(text: &str) -> Result<i64, String> {
    let micros = timestamp_of_text(text).ok_or_else(|| not(text, "timestamp"))?;
    within(text, Some(micros))
}

fn within(text: &str, micros: Option<i64>) -> Result<i64, String> {
    let within = micros.filter(|micros| CALENDAR.contains(micros));
    within.ok_or_else(|| format!("`{text}` is outside of the years 1 to 9999"))
}

fn not(text: &str, what: &str) -> String {
    match text.parse::<f64>() {
        Ok(_) => format!("`{text}` is a number, not a {what}; read it as `bigint` or `double`, and cast that"),
        Err(_) => format!("`{text}` is not a {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_whole_days_of_the_calendar() {
        for (text, days) in [
            ("1970-01-02", Some(1)),
            ("19700102", Some(1)),
            ("1970-01-02T00:00:00", Some(1)),
            ("1970-01-02 02:00:00+02:00", Some(1)),
            ("0001-01-01", Some(-719_162)),
            ("9999-12-31", Some(2_932_896)),
            ("1970-01-02T10:00:00", None),
            ("1970-01-02T00:00:00+02:00", None),
            ("0000-12-31", None),
            ("-0001-01-01", None),
            ("+10000-01-01", None),
            ("0001-01-01T00:00:00+02:00", None),
            ("1706695200", None),
            ("1.5", None),
            ("2024-02-30", None),
            ("", None),
        ] {
            assert_eq!(date(text).ok(), days, "{text}");
        }
    }

    #[test]
    fn timestamps_are_times_of_the_calendar() {
        for (text, micros) in [
            ("1970-01-01T00:00:01.5Z", Some(1_500_000)),
            ("1970-01-01", Some(0)),
            ("9999-12-31T23:59:59.999999Z", Some(253_402_300_799_999_999)),
            ("9999-12-31T23:59:59-05:00", None),
            ("0001-01-01T00:00:00+01:00", None),
            ("0000-01-01T00:00:00Z", None),
            ("253402300800000000", None),
            ("1706695200.5", None),
            ("yesterday", None),
        ] {
            assert_eq!(timestamp(text).ok(), micros, "{text}");
        }
        assert_eq!(
            timestamp("1706695200").unwrap_err(),
            "`1706695200` is a number, not a timestamp; read it as `bigint` or `double`, and cast that"
        );
    }
}
