//! Rows as JSON, for people and files: what `tidemill replay` prints and the JSON sink writes.
//!
//! Integers are JSON integers, also above 2^53; doubles the shortest decimal that reads back the same, with a
//! point or an exponent; `"NaN"`, `"Infinity"`, `"-Infinity"` and decimals strings; timestamps RFC 3339 in UTC;
//! binary base64; nulls written; lists arrays; structs objects.

use crate::error::RowError;
use arrow::array::types::*;
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::record_batch::RecordBatch;
use arrow::temporal_conversions::date32_to_datetime;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, SecondsFormat, Utc};
use std::fmt::{Display, Write};

/// One JSON object per row, the columns in order.
///
/// # Errors
/// For values that have no text, such as dates outside of the calendar.
pub fn rows_to_json(batch: &RecordBatch) -> Result<Vec<String>, RowError> {
    let schema = batch.schema();
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        columns.push((quoted(field.name()), writer(column)?));
    }
    (0..batch.num_rows())
        .map(|row| {
            let mut out = String::with_capacity(32 * columns.len() + 2);
            object(&columns, row, &mut out)?;
            Ok(out)
        })
        .collect()
}

type Writer<'a> = Box<dyn Fn(usize, &mut String) -> Result<(), RowError> + 'a>;

fn object(columns: &[(String, Writer<'_>)], row: usize, out: &mut String) -> Result<(), RowError> {
    out.push('{');
    for (i, (name, write)) in columns.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push_str(name);
        out.push(':');
        write(row, out)?;
    }
    out.push('}');
    Ok(())
}

fn writer<'a>(column: &'a ArrayRef) -> Result<Writer<'a>, RowError> {
    let value = value_writer(column)?;
    // A column of type `Null` has no null bitmap, but its own writer.
    Ok(Box::new(move |row, out| {
        if column.is_null(row) {
            out.push_str("null");
            return Ok(());
        }
        value(row, out)
    }))
}

fn value_writer<'a>(column: &'a ArrayRef) -> Result<Writer<'a>, RowError> {
    use DataType::*;
    Ok(match column.data_type() {
        Null => text(|_, out| out.push_str("null")),
        Boolean => {
            let array = column.as_boolean();
            text(move |row, out| push(out, array.value(row)))
        }
        Int8 => number::<Int8Type>(column),
        Int16 => number::<Int16Type>(column),
        Int32 => number::<Int32Type>(column),
        Int64 => number::<Int64Type>(column),
        UInt8 => number::<UInt8Type>(column),
        UInt16 => number::<UInt16Type>(column),
        UInt32 => number::<UInt32Type>(column),
        UInt64 => number::<UInt64Type>(column),
        Float32 => {
            let values = column.as_primitive::<Float32Type>().values();
            text(move |row, out| push_float(out, values[row], values[row].into()))
        }
        Float64 => {
            let values = column.as_primitive::<Float64Type>().values();
            text(move |row, out| push_float(out, values[row], values[row]))
        }
        Utf8 => {
            let array = column.as_string::<i32>();
            text(move |row, out| push_quoted(out, array.value(row)))
        }
        LargeUtf8 => {
            let array = column.as_string::<i64>();
            text(move |row, out| push_quoted(out, array.value(row)))
        }
        Utf8View => {
            let array = column.as_string_view();
            text(move |row, out| push_quoted(out, array.value(row)))
        }
        Binary => {
            let array = column.as_binary::<i32>();
            text(move |row, out| push_base64(out, array.value(row)))
        }
        LargeBinary => {
            let array = column.as_binary::<i64>();
            text(move |row, out| push_base64(out, array.value(row)))
        }
        BinaryView => {
            let array = column.as_binary_view();
            text(move |row, out| push_base64(out, array.value(row)))
        }
        Date32 => {
            let values = column.as_primitive::<Date32Type>().values();
            Box::new(move |row, out| {
                let date = date32_to_datetime(values[row]).ok_or_else(out_of_calendar)?.date();
                push_quoted(out, &date.to_string());
                Ok(())
            })
        }
        Timestamp(unit, _) => timestamp(column, *unit),
        List(_) => {
            let array = column.as_list::<i32>();
            list(array.values(), |row| array.value_offsets()[row] as usize..array.value_offsets()[row + 1] as usize)?
        }
        LargeList(_) => {
            let array = column.as_list::<i64>();
            list(array.values(), |row| array.value_offsets()[row] as usize..array.value_offsets()[row + 1] as usize)?
        }
        FixedSizeList(_, size) => {
            let array = column.as_fixed_size_list();
            let size = *size as usize;
            list(array.values(), move |row| row * size..(row + 1) * size)?
        }
        Struct(fields) => {
            let mut columns = Vec::with_capacity(fields.len());
            for (field, column) in fields.iter().zip(column.as_struct().columns()) {
                columns.push((quoted(field.name()), writer(column)?));
            }
            Box::new(move |row, out| object(&columns, row, out))
        }
        // Decimals, and what is rare (intervals, times, dictionaries), as text.
        _ => {
            let options = FormatOptions::new().with_display_error(false);
            let formatter = ArrayFormatter::try_new(column, &options)?;
            Box::new(move |row, out| {
                let text = formatter.value(row).try_to_string()?;
                push_quoted(out, &text);
                Ok(())
            })
        }
    })
}

fn text<'a>(write: impl Fn(usize, &mut String) + 'a) -> Writer<'a> {
    Box::new(move |row, out| {
        write(row, out);
        Ok(())
    })
}

fn number<T: ArrowPrimitiveType>(column: &ArrayRef) -> Writer<'_>
where
    T::Native: Display,
{
    let values = column.as_primitive::<T>().values();
    text(move |row, out| push(out, values[row]))
}

fn list<'a>(
    values: &'a ArrayRef,
    range: impl Fn(usize) -> std::ops::Range<usize> + 'a,
) -> Result<Writer<'a>, RowError> {
    let value = writer(values)?;
    Ok(Box::new(move |row, out| {
        out.push('[');
        for (i, at) in range(row).enumerate() {
            if i > 0 {
                out.push(',');
            }
            value(at, out)?;
        }
        out.push(']');
        Ok(())
    }))
}

fn timestamp(column: &ArrayRef, unit: TimeUnit) -> Writer<'_> {
    let (values, per_second) = match unit {
        TimeUnit::Second => (column.as_primitive::<TimestampSecondType>().values(), 1),
        TimeUnit::Millisecond => (column.as_primitive::<TimestampMillisecondType>().values(), 1_000),
        TimeUnit::Microsecond => (column.as_primitive::<TimestampMicrosecondType>().values(), 1_000_000),
        TimeUnit::Nanosecond => (column.as_primitive::<TimestampNanosecondType>().values(), 1_000_000_000),
    };
    Box::new(move |row, out| {
        let seconds = values[row].div_euclid(per_second);
        let nanos = values[row].rem_euclid(per_second) * (1_000_000_000 / per_second);
        let time: DateTime<Utc> = DateTime::from_timestamp(seconds, nanos as u32).ok_or_else(out_of_calendar)?;
        push_quoted(out, &time.to_rfc3339_opts(SecondsFormat::AutoSi, true));
        Ok(())
    })
}

fn out_of_calendar() -> RowError {
    RowError::Data("a date outside of the calendar".into())
}

fn push(out: &mut String, value: impl Display) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{value}");
}

/// `{:?}` of a float is the shortest text that reads back the same, and has a point or an exponent.
fn push_float(out: &mut String, shortest: impl std::fmt::Debug, value: f64) {
    if value.is_nan() {
        out.push_str("\"NaN\"");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" });
    } else {
        let _ = write!(out, "{shortest:?}");
    }
}

fn push_base64(out: &mut String, bytes: &[u8]) {
    out.push('"');
    BASE64.encode_string(bytes, out);
    out.push('"');
}

fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' => {
                let _ = write!(out, "\\u{:04x}", control as u32);
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_quoted(&mut out, text);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        BinaryArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int64Array, ListArray, NullArray,
        StringArray, StructArray, TimestampMicrosecondArray, UInt64Array,
    };
    use arrow::datatypes::Field;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn values(column: impl Array + 'static) -> Vec<String> {
        let batch = RecordBatch::try_from_iter_with_nullable([("v", Arc::new(column) as ArrayRef, true)]).unwrap();
        let unwrap = |row: String| row[r#"{"v":"#.len()..row.len() - 1].to_string();
        rows_to_json(&batch).unwrap().into_iter().map(unwrap).collect()
    }

    #[test]
    fn every_kind_of_value() {
        assert_eq!(values(Int64Array::from(vec![Some(i64::MAX), None])), ["9223372036854775807", "null"]);
        assert_eq!(values(UInt64Array::from(vec![u64::MAX])), ["18446744073709551615"]);
        let doubles = vec![1.0, -0.0, 0.1, 1e300, 1e-7, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        let expected = ["1.0", "-0.0", "0.1", "1e300", "1e-7", "\"NaN\"", "\"Infinity\"", "\"-Infinity\""];
        assert_eq!(values(Float64Array::from(doubles)), expected);
        assert_eq!(values(Float32Array::from(vec![0.1])), ["0.1"]);
        let decimals = Decimal128Array::from(vec![-5, 12345]).with_precision_and_scale(10, 3).unwrap();
        assert_eq!(values(decimals), ["\"-0.005\"", "\"12.345\""]);
        let times = TimestampMicrosecondArray::from(vec![0, 1_500_000, -1]);
        let expected = ["\"1970-01-01T00:00:00Z\"", "\"1970-01-01T00:00:01.500Z\"", "\"1969-12-31T23:59:59.999999Z\""];
        assert_eq!(values(times), expected);
        assert_eq!(values(Date32Array::from(vec![19_000])), ["\"2022-01-08\""]);
        assert_eq!(values(BinaryArray::from(vec![&b"\x00\xffa"[..]])), ["\"AP9h\""]);
        assert_eq!(values(StringArray::from(vec!["a\"b\\\n\u{1}é"])), ["\"a\\\"b\\\\\\n\\u0001é\""]);
        assert_eq!(values(NullArray::new(1)), ["null"]);
    }

    #[test]
    fn lists_and_structs() {
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
        assert_eq!(values(list.clone()), ["[1,null]", "null", "[]"]);
        assert_eq!(values(list.slice(1, 2)), ["null", "[]"]);
        let column: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
        let point = StructArray::from(vec![(Arc::new(Field::new("a", DataType::Utf8, true)), column)]);
        assert_eq!(values(point), [r#"{"a":"x"}"#]);
    }

    #[test]
    fn columns_keep_their_order() {
        let one: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let batch = RecordBatch::try_from_iter([("z", one.clone()), ("a", one)]).unwrap();
        assert_eq!(rows_to_json(&batch).unwrap(), [r#"{"z":1,"a":1}"#]);
    }

    proptest! {
        #[test]
        fn text_and_doubles_read_back(text in "(?s).{0,20}", double: f64) {
            let value: serde_json::Value = serde_json::from_str(&quoted(&text)).unwrap();
            prop_assert_eq!(value.as_str(), Some(text.as_str()));
            if double.is_finite() {
                let written = values(Float64Array::from(vec![double])).remove(0);
                prop_assert_eq!(written.parse::<f64>().unwrap().to_bits(), double.to_bits());
            }
        }
    }
}
