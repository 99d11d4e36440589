//! Casts that keep values as they are, or say of which rows they cannot.

use crate::days::{CALENDAR, beginning, day_beginning, day_of_text};
use crate::types::type_name;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{CastOptions, can_cast_types, cast_with_options, is_null, nullif, or};
use arrow::datatypes::{DataType, Date32Type, Field, Float64Type, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::sync::Arc;

/// How people call a declared type.
fn name(declared: &DataType) -> String {
    match declared {
        DataType::Decimal128(precision, scale) => format!("decimal({precision}, {scale})"),
        DataType::FixedSizeList(_, length) => format!("vector({length})"),
        other => type_name(other),
    }
}

/// What cannot be cast becomes null.
const OR_NULL: CastOptions<'static> = CastOptions { safe: true, format_options: FormatOptions::new() };

/// Characters kept of a value.
const VALUE_CHARS: usize = 100;

/// A column as it was declared.
pub(super) struct Cast {
    /// With null in place of what does not fit.
    pub(super) column: ArrayRef,
    /// Rows whose value does not fit, and why.
    pub(super) misfits: Vec<(usize, String)>,
}

/// Whether values of this type can fit a declared column.
///
/// # Errors
/// If none can.
pub(super) fn check(declared: &Field, found: &DataType) -> Result<(), String> {
    let found = plain(found);
    let to = declared.data_type();
    if found == to || (can_fit(found, to) && can_cast_types(found, to)) {
        return Ok(());
    }
    if let DataType::Interval(_) = found {
        return Err(format!(
            "column `{}` has intervals, which cannot be read from Parquet: write texts or numbers",
            declared.name()
        ));
    }
    Err(format!("column `{}` is declared as {}, and the file has {found} there", declared.name(), name(to)))
}

/// The type of values, however they are stored.
fn plain(found: &DataType) -> &DataType {
    match found {
        DataType::Dictionary(_, values) => plain(values),
        other => other,
    }
}

fn is_text(of: &DataType) -> bool {
    matches!(of, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn can_fit(found: &DataType, declared: &DataType) -> bool {
    use DataType::*;
    let is_bytes = |of: &DataType| matches!(of, Binary | LargeBinary | BinaryView | FixedSizeBinary(_));
    let is_day = |of: &DataType| matches!(of, Date32 | Date64 | Timestamp(..));
    if *found == Null || (is_text(found) && !declared.is_nested()) {
        return true;
    }
    match declared {
        Boolean => found.is_integer(),
        Int32 | Int64 | Float32 | Float64 | Decimal128(..) => found.is_numeric(),
        // The reader leaves the months of intervals out.
        Utf8 if matches!(found, Interval(_)) => false,
        Utf8 => found.is_numeric() || *found == Boolean || is_day(found) || is_bytes(found) || found.is_temporal(),
        Date32 | Timestamp(..) => is_day(found),
        Binary => is_bytes(found),
        FixedSizeList(item, _) => match found {
            List(of) | LargeList(of) | FixedSizeList(of, _) => can_fit(of.data_type(), item.data_type()),
            _ => false,
        },
        _ => false,
    }
}

/// Casts a column that [`check`] has let pass.
///
/// # Errors
/// Those of the library, for what it cannot cast.
pub(super) fn cast(column: &ArrayRef, declared: &Field) -> Result<Cast, ArrowError> {
    let to = declared.data_type();
    if *plain(column.data_type()) == DataType::Null {
        return Ok(Cast { column: new_null_array(to, column.len()), misfits: Vec::new() });
    }
    // Times are in UTC, days those of UTC.
    let from = match plain(column.data_type()) {
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, None),
        DataType::Date64 => DataType::Timestamp(TimeUnit::Millisecond, None),
        other => other.clone(),
    };
    let column = cast_with_options(column, &from, &OR_NULL)?;
    let cast = match (&from, to) {
        (DataType::Timestamp(..), DataType::Date32) => midnights(&column)?,
        (DataType::Date32, DataType::Timestamp(..)) => beginnings(&column),
        (text, DataType::Date32) if is_text(text) => dates(&column)?,
        (text, DataType::Boolean) if is_text(text) => cast_with_options(&only_true_and_false(&column)?, to, &OR_NULL)?,
        _ => cast_with_options(&column, to, &OR_NULL)?,
    };
    let mut lost = match is_exact(&from, to) {
        true => lossy(&column, &cast)?,
        false => is_null(&cast)?,
    };
    if to.is_floating() {
        lost = or(&lost, &too_large(&column, &cast)?)?;
    }
    if let Some(outside) = outside_of_calendar(&cast) {
        lost = or(&lost, &outside)?;
    }
    let misfits: Vec<usize> = (0..column.len()).filter(|row| lost.value(*row) && column.is_valid(*row)).collect();
    if misfits.is_empty() {
        return Ok(Cast { column: cast, misfits: Vec::new() });
    }
    let format = FormatOptions::new().with_display_error(true);
    let values = ArrayFormatter::try_new(&column, &format)?;
    let reason = |row: usize| {
        let value: String = values.value(row).to_string().chars().take(VALUE_CHARS).collect();
        (row, format!("column `{}`: {value} does not fit {}", declared.name(), name(to)))
    };
    let misfits = misfits.into_iter().map(reason).collect();
    Ok(Cast { column: nullif(&cast, &lost)?, misfits })
}

/// Whether the cast has to be one that can be undone. Other casts give null for what does not fit, or round.
fn is_exact(from: &DataType, to: &DataType) -> bool {
    let rounds = from.is_floating() || from.is_decimal();
    match to {
        DataType::Int32 | DataType::Int64 => rounds,
        DataType::Boolean | DataType::Float32 | DataType::Float64 => from.is_integer(),
        _ => false,
    }
}

/// Rows that are not the same when they are cast back.
fn lossy(column: &ArrayRef, cast: &ArrayRef) -> Result<BooleanArray, ArrowError> {
    if column.data_type().is_floating() {
        // -0.0 is 0.
        let doubles = cast_with_options(column, &DataType::Float64, &OR_NULL)?;
        let doubles = doubles.as_primitive::<Float64Type>();
        let lost = |row: usize| cast.is_null(row) || doubles.value(row).fract() != 0.0;
        return Ok((0..column.len()).map(|row| Some(lost(row))).collect());
    }
    let back = cast_with_options(cast, column.data_type(), &OR_NULL)?;
    distinct(&back, column)
}

/// The days that these times begin; null for a time within a day. The library cuts the time off, and has no day for some.
fn midnights(times: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let micros = cast_with_options(times, &DataType::Timestamp(TimeUnit::Microsecond, None), &OR_NULL)?;
    let micros = micros.as_primitive::<TimestampMicrosecondType>();
    Ok(Arc::new(micros.iter().map(|micros| micros.and_then(day_beginning)).collect::<Date32Array>()))
}

/// The days of texts; null for those with a time within a day, which the library cuts off.
fn dates(texts: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let texts = cast_with_options(texts, &DataType::Utf8, &OR_NULL)?;
    Ok(Arc::new(texts.as_string::<i32>().iter().map(|text| day_of_text(text?).ok()).collect::<Date32Array>()))
}

/// Texts that csv takes for booleans; the library takes more.
fn only_true_and_false(texts: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let texts = cast_with_options(texts, &DataType::Utf8, &OR_NULL)?;
    let plain = |text: &&str| ["true", "false"].iter().any(|word| text.eq_ignore_ascii_case(word));
    Ok(Arc::new(texts.as_string::<i32>().iter().map(|text| text.filter(plain)).collect::<StringArray>()))
}

/// Rows that are infinite only because they are too large.
fn too_large(column: &ArrayRef, cast: &ArrayRef) -> Result<BooleanArray, ArrowError> {
    let cast = cast_with_options(cast, &DataType::Float64, &OR_NULL)?;
    let cast = cast.as_primitive::<Float64Type>();
    let infinite = |row: usize| cast.is_valid(row) && cast.value(row).is_infinite();
    if !(0..cast.len()).any(infinite) {
        return Ok(BooleanArray::new(BooleanBuffer::new_unset(cast.len()), None));
    }
    let texts = cast_with_options(column, &DataType::Utf8, &OR_NULL)?;
    let texts = texts.as_string::<i32>();
    let written = |row: usize| texts.value(row).trim_start_matches(['+', '-']).starts_with(['i', 'I']);
    Ok((0..cast.len()).map(|row| Some(infinite(row) && !written(row))).collect())
}

/// The times at which days begin; null for days that have none.
fn beginnings(days: &ArrayRef) -> ArrayRef {
    let days = days.as_primitive::<Date32Type>();
    Arc::new(days.iter().map(|day| day.and_then(beginning)).collect::<TimestampMicrosecondArray>())
}

/// Days and times that are not in the years 1 to 9999.
fn outside_of_calendar(cast: &ArrayRef) -> Option<BooleanArray> {
    let micros = |row: usize| match cast.data_type() {
        DataType::Date32 => beginning(cast.as_primitive::<Date32Type>().value(row)),
        _ => Some(cast.as_primitive::<TimestampMicrosecondType>().value(row)),
    };
    let outside = |row: usize| micros(row).is_none_or(|micros| !CALENDAR.contains(&micros));
    let is_day = matches!(cast.data_type(), DataType::Date32 | DataType::Timestamp(TimeUnit::Microsecond, _));
    is_day.then(|| (0..cast.len()).map(|row| Some(cast.is_valid(row) && outside(row))).collect())
}
