//! Numbers that are added up without rounding, in numbers so wide that no number of rows makes them overflow.

use datafusion::arrow::array::types::{
    ArrowPrimitiveType, Decimal128Type, Decimal256Type, DecimalType, Int64Type, UInt64Type,
};
use datafusion::arrow::datatypes::{ArrowNativeTypeOp, DataType, i256};
use datafusion::common::{Result, exec_err};

/// How numbers of one type are added up.
pub(super) trait Exact: Send + Sync + 'static {
    /// What is added up.
    type In: ArrowPrimitiveType<Native: Ord> + Send;
    /// What it is added up in.
    type Wide: DecimalType + Send;

    /// Whether a sum can overflow even so.
    const OVERFLOWS: bool = false;

    /// The number, wider.
    fn widen(value: Native<Self::In>) -> Native<Self::Wide>;
    /// The sum, if it fits.
    fn narrow(sum: Native<Self::Wide>) -> Option<Native<Self::In>>;
}

pub(super) type Native<T> = <T as ArrowPrimitiveType>::Native;

/// `bigint`: 2^63 rows of it fit into 128 bits.
pub(super) struct Integers;
/// Integers without a sign.
pub(super) struct Naturals;
/// Decimals of at most [`SMALL_DIGITS`] digits: 2^63 rows of them fit into 128 bits.
pub(super) struct SmallDecimals;
/// All other decimals of 128 bits.
pub(super) struct Decimals;
/// Decimals of 256 bits, of which a sum may overflow on its way.
pub(super) struct WideDecimals;

/// See [`SmallDecimals`].
pub(super) const SMALL_DIGITS: u8 = 19;

impl Exact for Integers {
    type In = Int64Type;
    type Wide = Decimal128Type;

    fn widen(value: i64) -> i128 {
        i128::from(value)
    }

    fn narrow(sum: i128) -> Option<i64> {
        i64::try_from(sum).ok()
    }
}

impl Exact for Naturals {
    type In = UInt64Type;
    type Wide = Decimal128Type;

    fn widen(value: u64) -> i128 {
        i128::from(value)
    }

    fn narrow(sum: i128) -> Option<u64> {
        u64::try_from(sum).ok()
    }
}

impl Exact for SmallDecimals {
    type In = Decimal128Type;
    type Wide = Decimal128Type;

    fn widen(value: i128) -> i128 {
        value
    }

    fn narrow(sum: i128) -> Option<i128> {
        Some(sum)
    }
}

impl Exact for Decimals {
    type In = Decimal128Type;
    type Wide = Decimal256Type;

    fn widen(value: i128) -> i256 {
        i256::from_i128(value)
    }

    fn narrow(sum: i256) -> Option<i128> {
        sum.to_i128()
    }
}

impl Exact for WideDecimals {
    type In = Decimal256Type;
    type Wide = Decimal256Type;
    const OVERFLOWS: bool = true;

    fn widen(value: i256) -> i256 {
        value
    }

    fn narrow(sum: i256) -> Option<i256> {
        Some(sum)
    }
}

/// The type of the sums of numbers of this type.
pub(super) fn wide_type<E: Exact>(data_type: &DataType) -> DataType {
    let scale = match data_type {
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => *scale,
        _ => 0,
    };
    E::Wide::TYPE_CONSTRUCTOR(E::Wide::MAX_PRECISION, scale)
}

/// Does `$with` for the way to add up numbers of a type, `$else` for types that are no exact numbers.
macro_rules! by_type {
    ($data_type:expr, $with:ident($($arg:expr),*), $else:expr) => {
        match $data_type {
            DataType::Int64 => $with::<Integers>($($arg),*),
            DataType::UInt64 => $with::<Naturals>($($arg),*),
            DataType::Decimal128(digits, _) if *digits <= SMALL_DIGITS => $with::<SmallDecimals>($($arg),*),
            DataType::Decimal128(..) => $with::<Decimals>($($arg),*),
            DataType::Decimal256(..) => $with::<WideDecimals>($($arg),*),
            _ => $else,
        }
    };
}
pub(super) use by_type;

/// Adds to a running sum. Only that of [`WideDecimals`] can overflow.
pub(super) fn add<T: ArrowNativeTypeOp>(sum: &mut T, value: T) -> Result<()> {
    match sum.add_checked(value) {
        Ok(total) => *sum = total,
        Err(_) => return exec_err!("a sum overflows 256 bits"),
    }
    Ok(())
}

/// The sum, if it fits into this type.
pub(super) fn fitted<E: Exact>(sum: Native<E::Wide>, data_type: &DataType) -> Option<Native<E::In>> {
    let digits = match data_type {
        DataType::Decimal128(precision, _) | DataType::Decimal256(precision, _) => Some(*precision),
        _ => None,
    };
    match digits {
        Some(digits) if !E::Wide::is_valid_decimal_precision(sum, digits) => None,
        _ => E::narrow(sum),
    }
}
