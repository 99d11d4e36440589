//! The key encoding: own, versioned, order-preserving, decodable.
//!
//! It decides the key group of a row and the order of keyed rows, and it is part of the state format, so what it
//! says for a value never changes within a version. A key is its columns one after the other, each
//!
//! | part | bytes |
//! |---|---|
//! | null | `00` |
//! | a value | `01`, then: |
//! | boolean | `00` or `01` |
//! | signed integers, date, timestamp, decimal | big-endian, sign bit flipped |
//! | unsigned integers | big-endian |
//! | floats | IEEE bits, big-endian, sign bit flipped; all bits if negative. `-0.0` is `0.0`; there is one NaN, the greatest |
//! | text, binary | bytes with `00` written as `00 FF`, then `00 00`; in the *last* column the plain bytes |
//!
//! so comparing bytes compares keys: column by column, ascending, nulls first.

mod decode;
mod encode;

pub use decode::decode_keys;
pub use encode::{encode_keys, encode_rows};

use datafusion::arrow::datatypes::DataType;
use twox_hash::XxHash3_64;

/// Which version of the encoding this is.
pub const KEY_ENCODING_VERSION: u8 = 1;

/// Of the hash that makes key groups; never changes.
const SEED: u64 = 0x7469_6465_6d69_6c6c;

const NULL: u8 = 0;
const VALUE: u8 = 1;

/// The key group of an encoded key, in `0..groups`; `groups` is at least 1.
pub fn key_group(encoded: &[u8], groups: u32) -> u32 {
    let hash = XxHash3_64::oneshot_with_seed(SEED, encoded);
    (hash % u64::from(groups.max(1))) as u32
}

/// Whether a column of this type may be a key column.
pub(crate) fn is_encodable(data_type: &DataType) -> bool {
    use DataType::*;
    matches!(
        data_type,
        Boolean
            | Int8
            | Int16
            | Int32
            | Int64
            | UInt8
            | UInt16
            | UInt32
            | UInt64
            | Float32
            | Float64
            | Utf8
            | LargeUtf8
            | Utf8View
            | Binary
            | LargeBinary
            | BinaryView
            | Date32
            | Timestamp(_, _)
            | Decimal128(_, _)
    )
}

#[cfg(test)]
mod tests;
