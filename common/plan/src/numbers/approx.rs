//! `approx_percentile_cont`, `approx_percentile_cont_with_weight` and `approx_median`: DataFusion's t-digest of the finite
//! values, with how many there are besides. A digest is made of means, and one infinite value makes all of them NaN.

use super::no_distinct;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Schema};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion::functions_aggregate::approx_median::ApproxMedian;
use datafusion::functions_aggregate::approx_percentile_cont::ApproxPercentileCont;
use datafusion::functions_aggregate::approx_percentile_cont_with_weight::ApproxPercentileContWithWeight;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, ColumnarValue, Signature};
use datafusion_functions_aggregate_common::tdigest::{Centroid, TDigest};
use std::hash::{Hash, Hasher};
use std::iter::once;
use std::sync::Arc;

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Median,
    Percentile,
    Weighted,
}

/// A percentile from a sketch.
#[derive(Debug)]
pub(super) struct Approx {
    kind: Kind,
    plain: Arc<dyn AggregateUDFImpl>,
}

impl PartialEq for Approx {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl Eq for Approx {}

impl Hash for Approx {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind.hash(state);
    }
}

impl Approx {
    pub(super) fn all() -> [Self; 3] {
        [
            Self { kind: Kind::Median, plain: Arc::new(ApproxMedian::new()) },
            Self { kind: Kind::Percentile, plain: Arc::new(ApproxPercentileCont::new()) },
            Self { kind: Kind::Weighted, plain: Arc::new(ApproxPercentileContWithWeight::new()) },
        ]
    }
}

/// The constant that says which percentile, from the least value.
///
/// # Errors
/// When it is none.
pub(super) fn share(args: &AccumulatorArgs<'_>, argument: usize) -> Result<f64> {
    let no_columns = RecordBatch::new_empty(Arc::new(Schema::empty()));
    let value = args.exprs.get(argument).map(|expr| expr.evaluate(&no_columns));
    let Some(Ok(ColumnarValue::Scalar(value))) = value else {
        return plan_err!("a percentile is a constant from 0 to 1");
    };
    match value.cast_to(&DataType::Float64)? {
        ScalarValue::Float64(Some(share)) if (0.0..=1.0).contains(&share) => {
            let descending = args.order_bys.first().is_some_and(|key| key.options.descending);
            Ok(if descending { 1.0 - share } else { share })
        }
        _ => plan_err!("a percentile is a constant from 0 to 1"),
    }
}

impl AggregateUDFImpl for Approx {
    fn name(&self) -> &str {
        self.plain.name()
    }

    fn signature(&self) -> &Signature {
        self.plain.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.plain.return_type(types)
    }

    fn supports_within_group_clause(&self) -> bool {
        self.plain.supports_within_group_clause()
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let (name, null) = (args.name, args.input_fields[0].data_type().is_null());
        let mut fields = self.plain.state_fields(args)?;
        if !null {
            let outside = ["below", "above", "nan"].map(|part| format_state_name(name, part));
            fields.extend(outside.map(|name| Arc::new(Field::new(name, DataType::Float64, false))));
        }
        Ok(fields)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return no_distinct(self.name());
        }
        let share = match self.kind {
            Kind::Median => 0.5,
            Kind::Percentile => share(&args, 1)?,
            Kind::Weighted => share(&args, 2)?,
        };
        let (returns, weighted) = (args.return_field.data_type().clone(), self.kind == Kind::Weighted);
        let null = args.expr_fields[0].data_type().is_null();
        let mut empty = self.plain.accumulator(args)?;
        if null {
            return Ok(empty);
        }
        let digest = TDigest::from_scalar_state(&empty.state()?);
        Ok(Box::new(Sketch { digest, outside: [0.0; 3], share, weighted, returns }))
    }
}

/// Values, and what lies outside of them.
#[derive(Debug)]
struct Sketch {
    /// The finite values.
    digest: TDigest,
    /// The weight of minus infinity, infinity and NaN.
    outside: [f64; 3],
    share: f64,
    weighted: bool,
    returns: DataType,
}

/// The place of what is not finite.
fn outside(value: f64) -> Option<usize> {
    match value {
        f64::NEG_INFINITY => Some(0),
        f64::INFINITY => Some(1),
        value => value.is_nan().then_some(2),
    }
}

impl Sketch {
    fn merge(&mut self, digests: &[TDigest]) {
        self.digest = TDigest::merge_digests(digests.iter().chain(once(&self.digest)));
    }

    fn percentile(&self) -> Result<Option<f64>> {
        let [below, above, nan] = self.outside;
        let finite = self.digest.count();
        let all = below + finite + above + nan;
        if all == 0.0 {
            return Ok(None);
        }
        let behind = self.share * all - below;
        Ok(Some(match () {
            () if below > 0.0 && behind <= 0.0 => f64::NEG_INFINITY,
            () if finite > 0.0 && (behind <= finite || above + nan == 0.0) => {
                let found = self.digest.estimate_quantile((behind / finite).clamp(0.0, 1.0));
                if !found.is_finite() {
                    return exec_err!("an approximate percentile adds up numbers that are too large for a double");
                }
                found
            }
            () if above > 0.0 && (behind <= finite + above || nan == 0.0) => f64::INFINITY,
            () => f64::NAN,
        }))
    }
}

impl Accumulator for Sketch {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let doubles = |column: &ArrayRef| cast(column, &DataType::Float64);
        let column = doubles(&values[0])?;
        let column = column.as_primitive::<Float64Type>();
        if !self.weighted {
            let mut finite = Vec::with_capacity(column.len() - column.null_count());
            for value in column.iter().flatten() {
                match outside(value) {
                    Some(place) => self.outside[place] += 1.0,
                    None => finite.push(value),
                }
            }
            self.digest = self.digest.merge_unsorted_f64(finite);
            return Ok(());
        }
        let weights = doubles(&values[1])?;
        let mut finite = Vec::new();
        for (value, weight) in column.iter().zip(weights.as_primitive::<Float64Type>()) {
            let (Some(value), Some(weight)) = (value, weight) else { continue };
            if !weight.is_finite() || weight < 0.0 {
                return exec_err!("a weight is {weight:?}: it has to be finite, and not less than 0");
            }
            match outside(value) {
                _ if weight == 0.0 => {}
                Some(place) => self.outside[place] += weight,
                None => finite.push(TDigest::new_with_centroid(self.digest.max_size(), Centroid::new(value, weight))),
            }
        }
        self.merge(&finite);
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let Some((digests, outside)) = states.split_last_chunk::<3>() else {
            return internal_err!("a sketch of {} parts", states.len());
        };
        for (weight, column) in self.outside.iter_mut().zip(outside) {
            *weight += column.as_primitive::<Float64Type>().iter().flatten().sum::<f64>();
        }
        let digest = |row| {
            let state = digests.iter().map(|column| ScalarValue::try_from_array(column, row));
            Ok(TDigest::from_scalar_state(&state.collect::<Result<Vec<_>>>()?))
        };
        let digests = (0..digests[0].len()).map(digest).collect::<Result<Vec<_>>>()?;
        self.merge(&digests);
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut state = self.digest.to_scalar_state();
        state.extend(self.outside.map(|weight| ScalarValue::Float64(Some(weight))));
        Ok(state)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::Float64(self.percentile()?).cast_to(&self.returns)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.digest.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::Float64Array;
    use proptest::prelude::*;

    const INF: f64 = f64::INFINITY;

    fn sketch(share: f64, weighted: bool) -> Sketch {
        let digest = TDigest::new(100);
        Sketch { digest, outside: [0.0; 3], share, weighted, returns: DataType::Float64 }
    }

    fn found(values: &[f64], share: f64) -> f64 {
        let mut sketch = sketch(share, false);
        sketch.update_batch(&[Arc::new(Float64Array::from(values.to_vec()))]).unwrap();
        sketch.percentile().unwrap().unwrap()
    }

    #[test]
    fn what_is_not_finite_has_its_place() {
        for (values, share, expected) in [
            (&[0.0, 0.0, INF][..], 0.5, 0.0),
            (&[INF, INF], 0.5, INF),
            (&[-INF, 1.0, 1.0, 1.0], 0.5, 1.0),
            (&[-INF, 1.0, 1.0], 0.0, -INF),
            (&[-INF, -INF, 3.0], 0.5, -INF),
            (&[1.0, 2.0, INF], 1.0, INF),
            (&[1.0, 2.0], 1.0, 2.0),
            (&[1.0, 2.0, INF, f64::NAN], 0.0, 1.0),
            (&[1.0, INF, f64::NAN, f64::NAN], 0.4, INF),
        ] {
            assert_eq!(found(values, share), expected, "{values:?} {share}");
        }
        assert!(found(&[1.0, f64::NAN], 1.0).is_nan());
        assert!(found(&[f64::NAN], 0.5).is_nan());
        assert_eq!(sketch(0.5, false).percentile().unwrap(), None);
    }

    #[test]
    fn weights() {
        let mut sketch = sketch(0.5, true);
        let column = |values: &[f64]| Arc::new(Float64Array::from(values.to_vec())) as ArrayRef;
        sketch.update_batch(&[column(&[1.0, 5.0, INF]), column(&[10.0, 0.0, 2.0])]).unwrap();
        assert_eq!(sketch.percentile().unwrap(), Some(1.0));
        for wrong in [-1.0, INF, f64::NAN] {
            let error = sketch.update_batch(&[column(&[1.0]), column(&[wrong])]).unwrap_err();
            assert!(error.to_string().contains("it has to be finite"), "{error}");
        }
    }

    proptest! {
        /// Where a value is in the order, whatever it is and however the rows are split.
        #[test]
        fn between_its_neighbours(
            mut values in prop::collection::vec(
                prop_oneof![8 => -1e9..1e9f64, 1 => Just(INF), 1 => Just(-INF), 1 => Just(f64::NAN)], 1..60),
            cut in any::<prop::sample::Index>(),
            share in 0.0..=1.0f64,
        ) {
            let (first, second) = values.split_at(cut.index(values.len()));
            let mut merged = sketch(share, false);
            for part in [first, second] {
                let mut sketch = sketch(share, false);
                sketch.update_batch(&[Arc::new(Float64Array::from(part.to_vec()))]).unwrap();
                let state = sketch.state().unwrap();
                let state: Vec<_> = state.iter().map(|part| part.to_array().unwrap()).collect();
                merged.merge_batch(&state).unwrap();
            }
            let found = merged.percentile().unwrap().unwrap();
            values.sort_by(f64::total_cmp);
            let place = share * values.len() as f64;
            let at = |place: f64| values[(place.max(0.0) as usize).min(values.len() - 1)];
            let (low, high) = (at(place.floor() - 2.0), at(place.ceil() + 1.0));
            prop_assert!(found.total_cmp(&low).is_ge() && found.total_cmp(&high).is_le(), "{} {} {}", low, found, high);
        }
    }
}
