//! Columns to encoded keys.

use super::{NULL, VALUE};
use crate::error::PlanError;
use crate::plan::KEY_COLUMN;
use datafusion::arrow::array::types::*;
use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, RecordBatch};
use datafusion::arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use tidemill_rows::{canonical, canonical_single};

/// The encoded key of every row, never null. All columns have the same length.
///
/// # Errors
/// For a type that keys cannot have (compiling refuses it before), and beyond 2 GiB of keys.
pub fn encode_keys(columns: &[ArrayRef]) -> Result<BinaryArray, PlanError> {
    if let [column] = columns
        && let Some(keys) = encode_one(column)?
    {
        return Ok(keys);
    }
    let rows = columns.first().map_or(0, |column| column.len());
    let mut writers = Vec::with_capacity(columns.len());
    for (i, column) in columns.iter().enumerate() {
        if column.len() != rows {
            return Err(PlanError::Internal("key columns differ in length".into()));
        }
        writers.push(writer(column, i + 1 == columns.len())?);
    }
    let mut bytes: Vec<u8> = Vec::with_capacity(rows * 16);
    let mut offsets: Vec<i32> = Vec::with_capacity(rows + 1);
    offsets.push(0);
    for row in 0..rows {
        for write in &writers {
            write(row, &mut bytes);
        }
        offsets.push(offset(bytes.len())?);
    }
    finish(bytes, offsets)
}

/// The encoded key of every row of a batch; `keys` are the positions of the key columns. Without any, all rows have
/// the empty key. A column called [`KEY_COLUMN`] is an encoded key already.
///
/// # Errors
/// Those of [`encode_keys`].
pub fn encode_rows(batch: &RecordBatch, keys: &[usize]) -> Result<BinaryArray, PlanError> {
    match keys {
        [] => Ok(BinaryArray::from_iter_values(std::iter::repeat_n([0u8; 0], batch.num_rows()))),
        [key] if batch.schema().field(*key).name() == KEY_COLUMN => Ok(batch.column(*key).as_binary().clone()),
        keys => encode_keys(&keys.iter().map(|key| batch.column(*key).clone()).collect::<Vec<_>>()),
    }
}

/// The two kinds of keys that matter most, without a call per row: one text or one `bigint`, no nulls.
fn encode_one(column: &ArrayRef) -> Result<Option<BinaryArray>, PlanError> {
    if column.null_count() > 0 {
        return Ok(None);
    }
    let mut offsets: Vec<i32> = Vec::with_capacity(column.len() + 1);
    offsets.push(0);
    let mut bytes = Vec::new();
    if let Some(array) = column.as_string_opt::<i32>() {
        bytes.reserve(array.value_data().len() + array.len());
        for row in 0..array.len() {
            bytes.push(VALUE);
            bytes.extend_from_slice(array.value(row).as_bytes());
            offsets.push(offset(bytes.len())?);
        }
    } else if let Some(array) = column.as_primitive_opt::<Int64Type>() {
        bytes.reserve(array.len() * 9);
        for &value in array.values() {
            bytes.push(VALUE);
            bytes.extend_from_slice(&signed(value));
            offsets.push(offset(bytes.len())?);
        }
    } else {
        return Ok(None);
    }
    finish(bytes, offsets).map(Some)
}

fn offset(bytes: usize) -> Result<i32, PlanError> {
    i32::try_from(bytes).map_err(|_| PlanError::Data("more than 2 GiB of keys in one piece".into()))
}

fn finish(bytes: Vec<u8>, offsets: Vec<i32>) -> Result<BinaryArray, PlanError> {
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    Ok(BinaryArray::try_new(offsets, Buffer::from_vec(bytes), None)?)
}

type Writer<'a> = Box<dyn Fn(usize, &mut Vec<u8>) + 'a>;

fn writer<'a>(column: &'a ArrayRef, last: bool) -> Result<Writer<'a>, PlanError> {
    use DataType::*;
    Ok(match column.data_type() {
        Boolean => {
            let array = column.as_boolean();
            nullable(column, move |row, out| out.push(u8::from(array.value(row))))
        }
        Int8 => fixed::<Int8Type, 1>(column, |v| (v as u8 ^ 0x80).to_be_bytes()),
        Int16 => fixed::<Int16Type, 2>(column, |v| (v as u16 ^ (1 << 15)).to_be_bytes()),
        Int32 => fixed::<Int32Type, 4>(column, |v| (v as u32 ^ (1 << 31)).to_be_bytes()),
        Date32 => fixed::<Date32Type, 4>(column, |v| (v as u32 ^ (1 << 31)).to_be_bytes()),
        Int64 => fixed::<Int64Type, 8>(column, signed),
        UInt8 => fixed::<UInt8Type, 1>(column, u8::to_be_bytes),
        UInt16 => fixed::<UInt16Type, 2>(column, u16::to_be_bytes),
        UInt32 => fixed::<UInt32Type, 4>(column, u32::to_be_bytes),
        UInt64 => fixed::<UInt64Type, 8>(column, u64::to_be_bytes),
        Float32 => fixed::<Float32Type, 4>(column, float32),
        Float64 => fixed::<Float64Type, 8>(column, float64),
        Timestamp(TimeUnit::Second, _) => fixed::<TimestampSecondType, 8>(column, signed),
        Timestamp(TimeUnit::Millisecond, _) => fixed::<TimestampMillisecondType, 8>(column, signed),
        Timestamp(TimeUnit::Microsecond, _) => fixed::<TimestampMicrosecondType, 8>(column, signed),
        Timestamp(TimeUnit::Nanosecond, _) => fixed::<TimestampNanosecondType, 8>(column, signed),
        Decimal128(_, _) => fixed::<Decimal128Type, 16>(column, |v| (v as u128 ^ (1 << 127)).to_be_bytes()),
        Utf8 => bytes::<Utf8Type>(column, last),
        LargeUtf8 => bytes::<LargeUtf8Type>(column, last),
        Binary => bytes::<BinaryType>(column, last),
        LargeBinary => bytes::<LargeBinaryType>(column, last),
        Utf8View => {
            let array = column.as_string_view();
            nullable(column, move |row, out| put_bytes(array.value(row).as_bytes(), last, out))
        }
        BinaryView => {
            let array = column.as_binary_view();
            nullable(column, move |row, out| put_bytes(array.value(row), last, out))
        }
        other => return Err(PlanError::Internal(format!("a key cannot have the type {other}"))),
    })
}

fn nullable<'a>(column: &'a ArrayRef, value: impl Fn(usize, &mut Vec<u8>) + 'a) -> Writer<'a> {
    Box::new(move |row, out| {
        if column.is_null(row) {
            out.push(NULL);
        } else {
            out.push(VALUE);
            value(row, out);
        }
    })
}

fn fixed<T: ArrowPrimitiveType, const N: usize>(column: &ArrayRef, encode: fn(T::Native) -> [u8; N]) -> Writer<'_> {
    let values = column.as_primitive::<T>().values();
    nullable(column, move |row, out| out.extend_from_slice(&encode(values[row])))
}

fn bytes<T: ByteArrayType>(column: &ArrayRef, last: bool) -> Writer<'_> {
    let array = column.as_bytes::<T>();
    nullable(column, move |row, out| put_bytes(array.value(row).as_ref(), last, out))
}

fn put_bytes(value: &[u8], last: bool, out: &mut Vec<u8>) {
    if last {
        return out.extend_from_slice(value);
    }
    for &byte in value {
        out.push(byte);
        if byte == 0 {
            out.push(0xFF);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

fn signed(value: i64) -> [u8; 8] {
    (value as u64 ^ (1 << 63)).to_be_bytes()
}

fn float64(value: f64) -> [u8; 8] {
    let bits = canonical(value).to_bits();
    let flip = if bits >> 63 == 1 { u64::MAX } else { 1 << 63 };
    (bits ^ flip).to_be_bytes()
}

fn float32(value: f32) -> [u8; 4] {
    let bits = canonical_single(value).to_bits();
    let flip = if bits >> 31 == 1 { u32::MAX } else { 1 << 31 };
    (bits ^ flip).to_be_bytes()
}
