//! Functions over dates and timestamps that take the place of DataFusion's of the same names: those go through
//! nanoseconds, which end in 2262, and some give null for what they cannot hold. Timestamps are in microseconds here.

mod bin;
mod calendar;
mod duration;
mod parse;
mod trunc;
mod unix;

pub(crate) use calendar::{gives_dates_in_calendar, in_calendar, is_in_calendar};
pub(crate) use duration::{duration_of, length_of};

use datafusion::arrow::array::{ArrayRef, AsArray, TimestampMicrosecondArray};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarUDF};
use std::sync::Arc;
use tidemill_rows::{CALENDAR, DAY};

const SECOND: i64 = 1_000_000;

/// Those that replace DataFusion's.
pub(crate) fn functions() -> impl Iterator<Item = Arc<ScalarUDF>> {
    let own = [
        ScalarUDF::from(trunc::DateTrunc::new()),
        ScalarUDF::from(bin::DateBin::new()),
        ScalarUDF::from(unix::ToUnixtime::new()),
        ScalarUDF::from(unix::FromUnixtime::new()),
    ];
    own.into_iter().chain(parse::functions()).map(Arc::new)
}

/// Whether a function stands where nobody has written it.
pub(crate) fn is_hidden(function: &ScalarUDF) -> bool {
    calendar::is_own(function) || duration::is_own(function)
}

/// A timestamp in microseconds, without or with a time zone.
fn timestamp(zone: Option<Arc<str>>) -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, zone)
}

/// The type in which a function takes what can be a timestamp; none for what cannot.
fn as_timestamp(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Timestamp(_, zone) => Some(timestamp(zone.clone())),
        DataType::Date32 | DataType::Date64 | DataType::Null => Some(timestamp(None)),
        text if text.is_string() => Some(timestamp(None)),
        _ => None,
    }
}

/// The argument as so many values of this type.
///
/// # Errors
/// When a value has no place in it.
fn argument(argument: &ColumnarValue, rows: usize, data_type: &DataType) -> Result<ArrayRef> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    Ok(cast_with_options(&argument.to_array(rows)?, data_type, &strict)?)
}

/// The microseconds of an argument.
fn micros(argument_: &ColumnarValue, rows: usize) -> Result<TimestampMicrosecondArray> {
    let zone = match argument_.data_type() {
        DataType::Timestamp(_, zone) => zone,
        _ => None,
    };
    Ok(argument(argument_, rows, &timestamp(zone))?.as_primitive::<TimestampMicrosecondType>().clone())
}

/// What a function gives, which has to be in the calendar.
fn checked(function: &str, micros: i128) -> Result<i64> {
    match i64::try_from(micros) {
        Ok(micros) if CALENDAR.contains(&micros) => Ok(micros),
        _ => exec_err!("`{function}` gives a timestamp outside of the years 1 to 9999"),
    }
}
