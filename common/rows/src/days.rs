//! The calendar: days and times of the years 1 to 9999, in UTC.

use arrow::array::types::Date32Type;
use arrow::compute::kernels::cast_utils::{Parser, string_to_datetime};
use chrono::Utc;
use std::ops::RangeInclusive;

/// The first microsecond of the year 1, and the last of the year 9999, since 1970.
pub const CALENDAR: RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;
/// Microseconds of a day.
pub const DAY: i64 = 86_400_000_000;

/// Why a text is no date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoDate {
    /// It is something else.
    Other,
    /// It has a time within a day, which a date has not.
    HasTime,
}

/// The microsecond at which a day begins, both since 1970; none for days that have none.
pub fn beginning(day: i32) -> Option<i64> {
    i64::from(day).checked_mul(DAY)
}

/// The day that begins at this microsecond; none within a day.
pub fn day_beginning(micros: i64) -> Option<i32> {
    (micros.rem_euclid(DAY) == 0).then(|| i32::try_from(micros.div_euclid(DAY)).ok())?
}

/// The microsecond that a text is, since 1970 UTC; none if it is no timestamp.
pub fn timestamp_of_text(text: &str) -> Option<i64> {
    Some(string_to_datetime(&Utc, text).ok()?.timestamp_micros())
}

/// The day that a text is, since 1970.
///
/// # Errors
/// When it is none.
pub fn day_of_text(text: &str) -> Result<i32, NoDate> {
    // Longer texts without a sign have a time, which the library would cut off.
    if text.len() <= 10 || text.starts_with(['+', '-']) {
        return Date32Type::parse(text).ok_or(NoDate::Other);
    }
    let micros = timestamp_of_text(text).ok_or(NoDate::Other)?;
    day_beginning(micros).ok_or(NoDate::HasTime)
}
