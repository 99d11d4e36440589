//! Decimals out of text: further digits are rounded, a half away from zero, as a cast does.

use datafusion::arrow::array::{ArrayRef, Decimal128Array, StringArray};
use std::sync::Arc;

/// Decimals of so many digits, `scale` of them behind the point, null where the text is.
///
/// # Errors
/// Names the first text that is no number, or has more digits before the point.
pub(super) fn from_text(column: &StringArray, precision: u8, scale: i8) -> Result<ArrayRef, String> {
    let decimal = |text: Option<&str>| text.map(|text| parse(text, precision, scale)).transpose();
    let decimals = column.iter().map(decimal).collect::<Result<Decimal128Array, _>>()?;
    Ok(Arc::new(decimals.with_precision_and_scale(precision, scale).map_err(|error| error.to_string())?))
}

/// So many digits, `scale` of them behind the point.
pub(crate) fn parse(text: &str, precision: u8, scale: i8) -> Result<i128, String> {
    let no_number = || format!("`{text}` is not a decimal");
    let (negative, unsigned) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| no_number())?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if digits().next().is_none() || !digits().all(|digit| digit.is_ascii_digit()) {
        return Err(no_number());
    }
    // Digits that are kept: those before the point, which the exponent moves, and `scale` behind it.
    let kept = whole.len() as i64 + i64::from(exponent) + i64::from(scale);
    let too_large =
        || format!("`{text}` has more than {} digits before the point", i32::from(precision) - i32::from(scale));
    let greatest = 10_i128.pow(u32::from(precision)) - 1;
    let mut value: i128 = 0;
    let mut add = |digit: u8| {
        value = value.checked_mul(10).and_then(|value| value.checked_add(digit.into())).ok_or_else(too_large)?;
        if value > greatest { Err(too_large()) } else { Ok(()) }
    };
    let mut rest = digits().map(|digit| digit - b'0');
    let mut left = kept;
    while left > 0 {
        match rest.next() {
            Some(digit) => add(digit)?,
            // Only zeros are left to add, of which none makes a zero greater.
            None if value_is_zero(whole, fraction) => break,
            None => add(0)?,
        }
        left -= 1;
    }
    // The first digit that is cut off; before the first of all stand zeros.
    if left == 0 && kept >= 0 && rest.next().is_some_and(|digit| digit >= 5) {
        value += 1;
        if value > greatest {
            return Err(too_large());
        }
    }
    Ok(if negative { -value } else { value })
}

fn value_is_zero(whole: &str, fraction: &str) -> bool {
    whole.bytes().chain(fraction.bytes()).all(|digit| digit == b'0')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn further_digits_are_rounded() {
        let cases = [
            ("1.999", Ok(200)),
            ("-1.999", Ok(-200)),
            ("1.006", Ok(101)),
            ("1.004", Ok(100)),
            ("1.005", Ok(101)),
            ("-0.005", Ok(-1)),
            ("0.0049", Ok(0)),
            ("1e2", Ok(10_000)),
            ("+12.5E-1", Ok(125)),
            ("9e-3", Ok(1)),
            ("9e-4", Ok(0)),
            ("9e-400", Ok(0)),
            ("0e400", Ok(0)),
            ("-0.00", Ok(0)),
            (".5", Ok(50)),
            ("5.", Ok(500)),
            ("00000000000000000000000000000000000000000000007", Ok(700)),
            ("999.994", Ok(99_999)),
            ("999.995", Err("`999.995` has more than 3 digits before the point")),
            ("1000", Err("`1000` has more than 3 digits before the point")),
            ("1e400", Err("`1e400` has more than 3 digits before the point")),
            ("", Err("`` is not a decimal")),
            (".", Err("`.` is not a decimal")),
            ("-", Err("`-` is not a decimal")),
            ("1.2.3", Err("`1.2.3` is not a decimal")),
            ("abc", Err("`abc` is not a decimal")),
            ("1e", Err("`1e` is not a decimal")),
            ("1 ", Err("`1 ` is not a decimal")),
            ("NaN", Err("`NaN` is not a decimal")),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text, 5, 2), expected.map_err(str::to_string), "{text}");
        }
        assert_eq!(parse(&"9".repeat(38), 38, 0), Ok(10_i128.pow(38) - 1));
    }

    proptest! {
        #[test]
        fn it_is_the_nearest(units in -1_000_000_000_i64..1_000_000_000, digits in 0_u32..6, scale in 0_i8..6) {
            let one = 10_i128.pow(digits);
            let (sign, whole) = (if units < 0 { "-" } else { "" }, i128::from(units.unsigned_abs()));
            let text = match digits {
                0 => format!("{sign}{whole}"),
                digits => format!("{sign}{}.{:0width$}", whole / one, whole % one, width = digits as usize),
            };
            let scaled = whole * 10_i128.pow(scale.unsigned_abs().into());
            let nearest = (2 * scaled + one) / (2 * one);
            prop_assert_eq!(parse(&text, 38, scale), Ok(if units < 0 { -nearest } else { nearest }));
        }
    }
}
