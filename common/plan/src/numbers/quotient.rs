//! Decimals divided: the nearest decimal, a half rounded away from zero. arrow cuts further digits off.

use datafusion::arrow::array::types::{Decimal128Type, Decimal256Type, DecimalType};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Datum, PrimitiveArray};
use datafusion::arrow::datatypes::{ArrowNativeTypeOp, DataType, i256};
use datafusion::arrow::error::ArrowError;
use std::sync::Arc;

/// The quotients of decimals, as `returns`.
///
/// # Errors
/// Division by zero, and a quotient that does not fit.
pub(super) fn quotients(a: &dyn Datum, b: &dyn Datum, returns: &DataType) -> Result<ArrayRef, ArrowError> {
    match returns {
        DataType::Decimal128(..) => divided::<Decimal128Type>(a, b, returns, i256::from_i128, i256::to_i128),
        _ => divided::<Decimal256Type>(a, b, returns, |value| value, Some),
    }
}

fn divided<T: DecimalType>(
    a: &dyn Datum,
    b: &dyn Datum,
    returns: &DataType,
    widen: impl Fn(T::Native) -> i256,
    narrow: impl Fn(i256) -> Option<T::Native>,
) -> Result<ArrayRef, ArrowError> {
    let ((a, one_a), (b, one_b)) = (a.get(), b.get());
    // Digits that the dividend needs, so that the quotient has its own.
    let digits = i32::from(scale(returns)) - i32::from(scale(a.data_type())) + i32::from(scale(b.data_type()));
    let power = |digits: i32| i256::from_i128(10).pow_checked(digits.max(0).unsigned_abs());
    let (more, fewer) = (power(digits)?, power(digits.saturating_neg())?);
    let (a, b) = (a.as_primitive::<T>(), b.as_primitive::<T>());
    let rows = if one_a { b.len() } else { a.len() };
    let value = |of: &PrimitiveArray<T>, one: bool, row: usize| {
        let row = if one { 0 } else { row };
        of.is_valid(row).then(|| widen(of.value(row)))
    };
    let quotient = |row: usize| match (value(a, one_a, row), value(b, one_b, row)) {
        (Some(a), Some(b)) => {
            let found = nearest(a.mul_checked(more)?, b.mul_checked(fewer)?)?;
            let overflow = || ArrowError::ArithmeticOverflow(format!("{found} overflows {returns}"));
            Ok(Some(narrow(found).ok_or_else(overflow)?))
        }
        _ => Ok(None),
    };
    let quotients = (0..rows).map(quotient).collect::<Result<PrimitiveArray<T>, ArrowError>>()?;
    Ok(Arc::new(quotients.with_data_type(returns.clone())))
}

fn scale(data_type: &DataType) -> i8 {
    match data_type {
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => *scale,
        _ => 0,
    }
}

/// The whole number next to a quotient, a half rounded away from zero.
pub(super) fn nearest(a: i256, b: i256) -> Result<i256, ArrowError> {
    let (whole, rest) = (a.div_checked(b)?, a.mod_checked(b)?);
    let (rest, divisor) = (rest.wrapping_abs(), b.wrapping_abs());
    if rest < divisor.wrapping_sub(rest) {
        return Ok(whole);
    }
    let away = if a.is_negative() == b.is_negative() { i256::ONE } else { i256::MINUS_ONE };
    whole.add_checked(away)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn halves_go_away_from_zero() {
        for (a, b, expected) in
            [(5, 2, 3), (-5, 2, -3), (5, -2, -3), (-5, -2, 3), (7, 3, 2), (-7, 3, -2), (8, 3, 3), (0, 3, 0)]
        {
            let found = nearest(i256::from_i128(a), i256::from_i128(b)).unwrap();
            assert_eq!(found, i256::from_i128(expected), "{a} / {b}");
        }
        assert!(matches!(nearest(i256::ONE, i256::ZERO), Err(ArrowError::DivideByZero)));
    }

    proptest! {
        #[test]
        fn nothing_is_nearer(a: i64, b in any::<i64>().prop_filter("not zero", |b| *b != 0)) {
            let found = nearest(i256::from(a), i256::from(b)).unwrap().to_i128().unwrap();
            let (a, b) = (i128::from(a), i128::from(b));
            prop_assert!((2 * (a - found * b)).abs() <= b.abs());
        }
    }
}
