//! Encoded keys back to columns.

use super::{NULL, VALUE};
use crate::error::PlanError;
use datafusion::arrow::array::types::*;
use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BinaryBuilder, BooleanBuilder, PrimitiveBuilder, StringBuilder,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef, TimeUnit};
use std::borrow::Cow;
use std::sync::Arc;

/// The columns that [`encode_keys`](super::encode_keys) encoded; `fields` says their types.
///
/// # Errors
/// [`PlanError::Malformed`] when the bytes are not keys of these types.
pub fn decode_keys(keys: &BinaryArray, fields: &[FieldRef]) -> Result<Vec<ArrayRef>, PlanError> {
    let mut rest: Vec<&[u8]> = (0..keys.len()).map(|row| keys.value(row)).collect();
    let mut columns = Vec::with_capacity(fields.len());
    for (i, field) in fields.iter().enumerate() {
        columns.push(column(&mut rest, field.data_type(), i + 1 == fields.len())?);
    }
    if rest.iter().any(|rest| !rest.is_empty()) {
        return Err(malformed());
    }
    Ok(columns)
}

fn malformed() -> PlanError {
    PlanError::Malformed("not an encoded key of these columns".into())
}

fn column(rest: &mut [&[u8]], data_type: &DataType, last: bool) -> Result<ArrayRef, PlanError> {
    use DataType::*;
    let unsign64 = |b: [u8; 8]| (u64::from_be_bytes(b) ^ (1 << 63)) as i64;
    Ok(match data_type {
        Boolean => {
            let mut builder = BooleanBuilder::with_capacity(rest.len());
            for bytes in rest {
                builder.append_option(fixed::<1>(bytes)?.map(|[byte]| byte != 0));
            }
            Arc::new(builder.finish())
        }
        Int8 => primitive::<Int8Type, 1>(rest, data_type, |[b]| (b ^ 0x80) as i8)?,
        Int16 => primitive::<Int16Type, 2>(rest, data_type, |b| (u16::from_be_bytes(b) ^ (1 << 15)) as i16)?,
        Int32 => primitive::<Int32Type, 4>(rest, data_type, unsign32)?,
        Date32 => primitive::<Date32Type, 4>(rest, data_type, unsign32)?,
        Int64 => primitive::<Int64Type, 8>(rest, data_type, unsign64)?,
        UInt8 => primitive::<UInt8Type, 1>(rest, data_type, u8::from_be_bytes)?,
        UInt16 => primitive::<UInt16Type, 2>(rest, data_type, u16::from_be_bytes)?,
        UInt32 => primitive::<UInt32Type, 4>(rest, data_type, u32::from_be_bytes)?,
        UInt64 => primitive::<UInt64Type, 8>(rest, data_type, u64::from_be_bytes)?,
        Float32 => primitive::<Float32Type, 4>(rest, data_type, float32)?,
        Float64 => primitive::<Float64Type, 8>(rest, data_type, float64)?,
        Timestamp(TimeUnit::Second, _) => primitive::<TimestampSecondType, 8>(rest, data_type, unsign64)?,
        Timestamp(TimeUnit::Millisecond, _) => primitive::<TimestampMillisecondType, 8>(rest, data_type, unsign64)?,
        Timestamp(TimeUnit::Microsecond, _) => primitive::<TimestampMicrosecondType, 8>(rest, data_type, unsign64)?,
        Timestamp(TimeUnit::Nanosecond, _) => primitive::<TimestampNanosecondType, 8>(rest, data_type, unsign64)?,
        Decimal128(_, _) => {
            primitive::<Decimal128Type, 16>(rest, data_type, |b| (u128::from_be_bytes(b) ^ (1 << 127)) as i128)?
        }
        Utf8 | LargeUtf8 | Utf8View => {
            let mut builder = StringBuilder::with_capacity(rest.len(), 0);
            for bytes in rest {
                match variable(bytes, last)? {
                    None => builder.append_null(),
                    Some(v) => {
                        builder.append_value(std::str::from_utf8(&v).map_err(|_| malformed())?);
                    }
                }
            }
            cast(&builder.finish(), data_type)?
        }
        Binary | LargeBinary | BinaryView => {
            let mut builder = BinaryBuilder::with_capacity(rest.len(), 0);
            for bytes in rest {
                builder.append_option(variable(bytes, last)?);
            }
            cast(&builder.finish(), data_type)?
        }
        other => return Err(PlanError::Internal(format!("a key cannot have the type {other}"))),
    })
}

fn primitive<T: ArrowPrimitiveType, const N: usize>(
    rest: &mut [&[u8]],
    data_type: &DataType,
    decode: impl Fn([u8; N]) -> T::Native,
) -> Result<ArrayRef, PlanError> {
    let mut builder = PrimitiveBuilder::<T>::with_capacity(rest.len());
    for bytes in rest {
        builder.append_option(fixed::<N>(bytes)?.map(&decode));
    }
    Ok(Arc::new(builder.finish().with_data_type(data_type.clone())))
}

/// Takes the mark; whether a value follows.
fn value_follows(bytes: &mut &[u8]) -> Result<bool, PlanError> {
    let (&mark, rest) = bytes.split_first().ok_or_else(malformed)?;
    *bytes = rest;
    match mark {
        NULL => Ok(false),
        VALUE => Ok(true),
        _ => Err(malformed()),
    }
}

fn fixed<const N: usize>(bytes: &mut &[u8]) -> Result<Option<[u8; N]>, PlanError> {
    if !value_follows(bytes)? {
        return Ok(None);
    }
    let (&value, rest) = bytes.split_first_chunk::<N>().ok_or_else(malformed)?;
    *bytes = rest;
    Ok(Some(value))
}

fn variable<'a>(bytes: &mut &'a [u8], last: bool) -> Result<Option<Cow<'a, [u8]>>, PlanError> {
    if !value_follows(bytes)? {
        return Ok(None);
    }
    if last {
        return Ok(Some(Cow::Borrowed(std::mem::take(bytes))));
    }
    let mut value = Vec::new();
    loop {
        let zero = bytes.iter().position(|&byte| byte == 0).ok_or_else(malformed)?;
        value.extend_from_slice(&bytes[..zero]);
        let after = bytes.get(zero + 1).copied().ok_or_else(malformed)?;
        *bytes = &bytes[zero + 2..];
        match after {
            0 => return Ok(Some(Cow::Owned(value))),
            0xFF => value.push(0),
            _ => return Err(malformed()),
        }
    }
}

fn unsign32(bytes: [u8; 4]) -> i32 {
    (u32::from_be_bytes(bytes) ^ (1 << 31)) as i32
}

fn float64(bytes: [u8; 8]) -> f64 {
    let bits = u64::from_be_bytes(bytes);
    f64::from_bits(bits ^ if bits >> 63 == 1 { 1 << 63 } else { u64::MAX })
}

fn float32(bytes: [u8; 4]) -> f32 {
    let bits = u32::from_be_bytes(bytes);
    f32::from_bits(bits ^ if bits >> 31 == 1 { 1 << 31 } else { u32::MAX })
}
