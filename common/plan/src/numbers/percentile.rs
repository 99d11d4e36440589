//! `percentile_cont`: between two values in a straight line, to the last digit, whatever infinite there is beside it.
//!
//! DataFusion rounds the share of the way to six digits, has no number between two infinite ones, takes its own `min` and
//! `max` for both ends, and merges the values of one block only.

use super::approx::share;
use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::functions_aggregate::percentile_cont::PercentileCont;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature};

/// The percentile.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Percentile {
    plain: PercentileCont,
}

impl AggregateUDFImpl for Percentile {
    fn name(&self) -> &str {
        self.plain.name()
    }

    fn aliases(&self) -> &[String] {
        self.plain.aliases()
    }

    fn signature(&self) -> &Signature {
        self.plain.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.plain.return_type(types)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.plain.state_fields(args)
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let (share, returns, distinct) = (share(&args, 1)?, args.return_field.data_type().clone(), args.is_distinct);
        let null = args.expr_fields[0].data_type().is_null();
        let inner = self.plain.accumulator(args)?;
        Ok(if null { inner } else { Box::new(Interpolated { inner, share, distinct, returns }) })
    }
}

/// The percentile of the values that DataFusion's accumulator keeps.
#[derive(Debug)]
struct Interpolated {
    inner: Box<dyn Accumulator>,
    share: f64,
    distinct: bool,
    returns: DataType,
}

impl Accumulator for Interpolated {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.update_batch(values)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        // It looks at the first of them.
        (0..states[0].len()).try_for_each(|row| self.inner.merge_batch(&[states[0].slice(row, 1)]))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let state = self.inner.state()?;
        let [ScalarValue::List(list)] = &state[..] else {
            return internal_err!("`percentile_cont` keeps no list");
        };
        // Which has been taken out, and a sliding frame goes on.
        if !self.distinct {
            let list: ArrayRef = list.clone();
            self.inner.merge_batch(&[list])?;
        }
        let doubles = cast(&list.value(0), &DataType::Float64)?;
        let mut values = doubles.as_primitive::<Float64Type>().values().to_vec();
        ScalarValue::Float64(percentile(&mut values, self.share)).cast_to(&self.returns)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.inner.size()
    }
}

/// The value that so great a share of the way from the least to the greatest is behind; NaN is the greatest.
fn percentile(values: &mut [f64], share: f64) -> Option<f64> {
    let way = share * values.len().checked_sub(1)? as f64;
    let (lower, upper) = (way.floor() as usize, way.ceil() as usize);
    let (_, low, rest) = values.select_nth_unstable_by(lower, f64::total_cmp);
    let low = *low;
    let high = rest.iter().copied().min_by(f64::total_cmp).filter(|_| upper > lower).unwrap_or(low);
    Some(between(low, high, way - way.floor()))
}

fn between(low: f64, high: f64, share: f64) -> f64 {
    let distance = high - low;
    match () {
        () if low == high => low,
        () if distance.is_finite() => low + distance * share,
        () => low * (1.0 - share) + high * share,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INF: f64 = f64::INFINITY;

    #[test]
    fn infinite_values() {
        for (values, share, expected) in [
            (&[1.0, 2.0, INF][..], 0.5, 2.0),
            (&[INF, INF], 0.3, INF),
            (&[-INF, 4.0], 0.5, -INF),
            (&[4.0, INF], 0.5, INF),
            (&[4.0, INF], 0.0, 4.0),
            (&[f64::MAX, -f64::MAX], 0.5, 0.0),
            (&[f64::MAX, f64::MAX], 0.5, f64::MAX),
            (&[0.0, 1e9], 1.0 / 3.0, 1e9 / 3.0),
            (&[f64::NAN, 1.0, 2.0], 0.5, 2.0),
            (&[1.0, 2.0, 3.0], 1.0, 3.0),
        ] {
            assert_eq!(percentile(&mut values.to_vec(), share), Some(expected), "{values:?} {share}");
        }
        assert_eq!(percentile(&mut [], 0.5), None);
        for (values, share) in [(&[-INF, INF][..], 0.5), (&[1.0, f64::NAN], 0.5), (&[1.0, f64::NAN], 1.0)] {
            assert!(percentile(&mut values.to_vec(), share).unwrap().is_nan(), "{values:?} {share}");
        }
    }

    #[test]
    fn states_are_merged_whole() {
        let list = |values: &[f64]| {
            let values = values.iter().map(|value| ScalarValue::Float64(Some(*value))).collect::<Vec<_>>();
            ScalarValue::List(ScalarValue::new_list_nullable(&values, &DataType::Float64))
        };
        let states = ScalarValue::iter_to_array([list(&[1.0]), list(&[2.0, 3.0]), list(&[])]).unwrap();
        let mut inner =
            Interpolated { inner: Box::new(Kept(Vec::new())), share: 0.5, distinct: false, returns: DataType::Float64 };
        inner.merge_batch(&[states]).unwrap();
        for _ in 0..2 {
            assert_eq!(inner.evaluate().unwrap(), ScalarValue::Float64(Some(2.0)));
        }
    }

    /// Takes one state at a time, as DataFusion's does.
    #[derive(Debug)]
    struct Kept(Vec<f64>);

    impl Accumulator for Kept {
        fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
            self.0.extend(values[0].as_primitive::<Float64Type>().values());
            Ok(())
        }

        fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
            self.update_batch(&[states[0].as_list::<i32>().value(0)])
        }

        fn state(&mut self) -> Result<Vec<ScalarValue>> {
            let values: Vec<_> = self.0.drain(..).map(|value| ScalarValue::Float64(Some(value))).collect();
            Ok(vec![ScalarValue::List(ScalarValue::new_list_nullable(&values, &DataType::Float64))])
        }

        fn evaluate(&mut self) -> Result<ScalarValue> {
            internal_err!("not asked for")
        }

        fn size(&self) -> usize {
            0
        }
    }

    proptest! {
        /// As from a sorted list.
        #[test]
        fn as_the_sorted_list_has_it(mut values in prop::collection::vec(-1e6..1e6f64, 1..40), share in 0.0..=1.0f64) {
            let found = percentile(&mut values.clone(), share).unwrap();
            values.sort_by(f64::total_cmp);
            let way = share * (values.len() - 1) as f64;
            let (low, high) = (values[way.floor() as usize], values[way.ceil() as usize]);
            let expected = low + (high - low) * way.fract();
            prop_assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{} {}", found, expected);
            prop_assert!(low <= found && found <= high);
        }
    }
}
