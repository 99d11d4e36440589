//! Making features fit for models: scaling, filling in what is missing, combining, and categories as numbers.
//!
//! Streaming and, as models, test-then-train: a batch is transformed with what was learnt before it, then learnt.

mod categories;
mod polynomial;

use crate::{
    codec::{self, Envelope},
    error::{DecodeError, ModelError, SpecError, number},
    rows::Table,
    stats::Moments,
};
pub use categories::{FeatureHasher, OneHot};
use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

/// What to do with features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum PrepareSpec {
    /// `(x - mean) / deviation` of the feature so far (of the rows themselves, not of a sample); 0 while there is no deviation.
    StandardScaler {
        /// Whether the deviation is divided by. Default true.
        #[serde(default = "yes")]
        with_std: bool,
        /// What earlier batches count for after a batch, above 0 and at most 1. Default 1.
        #[serde(default = "one")]
        decay: f64,
    },
    /// `low + (high - low) (x - least) / (most - least)` of the feature so far; `low` while there is no difference. What is outside of
    /// what was seen lands outside.
    MinMaxScaler {
        /// Default 0.
        #[serde(default)]
        low: f64,
        /// Default 1.
        #[serde(default = "one")]
        high: f64,
    },
    /// What is not a number becomes `value`, or the mean of the feature so far.
    Imputer {
        /// Default: the mean (0 before any number).
        #[serde(default)]
        value: Option<f64>,
    },
    /// Products of up to `degree` features, the features themselves first, as scikit-learn's order.
    Polynomial {
        /// Default 2.
        #[serde(default = "two")]
        degree: u32,
        /// Only products of different features. Default false.
        #[serde(default)]
        interaction_only: bool,
    },
}

fn yes() -> bool {
    true
}
fn one() -> f64 {
    1.0
}
fn two() -> u32 {
    2
}

impl PrepareSpec {
    /// Whether the parameters can be.
    pub fn validate(&self) -> Result<(), SpecError> {
        match *self {
            PrepareSpec::StandardScaler { decay, .. } => {
                number("decay", decay, |d| 0.0 < d && d <= 1.0, "use a number above 0 and at most 1")
            }
            PrepareSpec::MinMaxScaler { low, high } => {
                number("low", low, |_| true, "use a finite number")?;
                number("high", high, |high| high > low, "use a number above `low`")
            }
            PrepareSpec::Imputer { value } => number("value", value.unwrap_or(0.0), |_| true, "use a finite number"),
            PrepareSpec::Polynomial { degree, .. } if !(1..=polynomial::MOST_DEGREES).contains(&degree) => {
                let mend = format!("use 1 to {}", polynomial::MOST_DEGREES);
                Err(SpecError::new("degree", format!("is {degree}"), mend))
            }
            PrepareSpec::Polynomial { .. } => Ok(()),
        }
    }
}

/// A step of preparation as of some batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Preparer {
    spec: PrepareSpec,
    features: Vec<Feature>,
}

/// What was seen of a feature; what is not finite is not looked at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Feature {
    moments: Moments,
    range: Option<(f64, f64)>,
}

impl Feature {
    fn add(&mut self, value: f64) {
        if value.is_finite() {
            self.moments.add(value, 1.0);
            self.widen(value, value);
        }
    }

    fn widen(&mut self, low: f64, high: f64) {
        self.range = Some(self.range.map_or((low, high), |(least, most)| (least.min(low), most.max(high))));
    }

    fn merge(&mut self, other: &Feature) {
        self.moments.merge(&other.moments);
        if let Some((low, high)) = other.range {
            self.widen(low, high);
        }
    }
}

const PREPARER: Envelope = Envelope { letters: *b"TMpr", what: "preparer", version: 1 };

impl Preparer {
    /// Before any data.
    pub fn new(spec: PrepareSpec) -> Result<Preparer, SpecError> {
        spec.validate()?;
        Ok(Preparer { spec, features: Vec::new() })
    }

    /// The rows (rows x features) prepared with what was learnt so far. Before any row, any number of features will do.
    pub fn transform(&self, x: ArrayView2<'_, f64>) -> Result<Array2<f64>, ModelError> {
        self.check(&x)?;
        if let PrepareSpec::Polynomial { degree, interaction_only } = self.spec {
            return polynomial::expand(x, degree, interaction_only);
        }
        let nothing = Feature::default();
        let mut prepared = x.to_owned();
        for (feature, mut column) in prepared.columns_mut().into_iter().enumerate() {
            let seen = self.features.get(feature).unwrap_or(&nothing);
            column.mapv_inplace(|value| self.value(seen, value));
        }
        Ok(prepared)
    }

    fn value(&self, seen: &Feature, value: f64) -> f64 {
        match self.spec {
            PrepareSpec::StandardScaler { with_std, .. } => {
                let apart = value - seen.moments.mean;
                let deviation = if with_std { libm::sqrt(seen.moments.variance()) } else { 1.0 };
                // Not above 0, or not a number: nothing to scale with.
                if deviation > 0.0 { apart / deviation } else { apart * 0.0 }
            }
            PrepareSpec::MinMaxScaler { low, high } => match seen.range {
                Some((least, most)) if most > least => low + (high - low) * ((value - least) / (most - least)),
                _ => low,
            },
            PrepareSpec::Imputer { value: fixed } if value.is_nan() => fixed.unwrap_or(seen.moments.mean),
            _ => value,
        }
    }

    /// Learns a batch, its splits in order.
    pub fn learn(&mut self, splits: &[ArrayView2<'_, f64>]) -> Result<(), ModelError> {
        let rows = || splits.iter().filter(|split| split.nrows() > 0);
        let Some(width) = rows().map(|split| split.ncols()).next() else { return Ok(()) };
        for split in rows() {
            self.check(split)?;
            if split.ncols() != width {
                return Err(ModelError::Dimension { expected: width, found: split.ncols() });
            }
        }
        self.features.resize(width, Feature::default());
        if let PrepareSpec::StandardScaler { decay, .. } = self.spec {
            self.features.iter_mut().for_each(|feature| feature.moments.fade(decay));
        }
        for split in rows() {
            let mut sums = vec![Feature::default(); width];
            for row in Table::of(*split).rows() {
                sums.iter_mut().zip(row.x).for_each(|(feature, value)| feature.add(*value));
            }
            self.features.iter_mut().zip(&sums).for_each(|(feature, sums)| feature.merge(sums));
        }
        Ok(())
    }

    fn check(&self, x: &ArrayView2<'_, f64>) -> Result<(), ModelError> {
        let (expected, found) = (self.features.len(), x.ncols());
        if expected > 0 && x.nrows() > 0 && expected != found {
            return Err(ModelError::Dimension { expected, found });
        }
        Ok(())
    }

    /// What was learnt, exactly.
    pub fn to_bytes(&self) -> Vec<u8> {
        PREPARER.seal(&(codec::spec_text(&self.spec), &self.features))
    }

    /// What [`Preparer::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Preparer, DecodeError> {
        let (spec, features): (String, Vec<Feature>) = PREPARER.open(bytes)?;
        let spec: PrepareSpec = codec::read_spec(&spec)?;
        spec.validate()?;
        Ok(Preparer { spec, features })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{array, s};

    fn learnt(spec: PrepareSpec, x: &Array2<f64>) -> Preparer {
        let mut preparer = Preparer::new(spec).unwrap();
        preparer.learn(&[x.slice(s![..1, ..]), x.slice(s![1.., ..])]).unwrap();
        assert_eq!(Preparer::from_bytes(&preparer.to_bytes()).unwrap(), preparer);
        preparer
    }

    #[test]
    fn scales() {
        let x = array![[1.0, 5.0], [3.0, 5.0], [f64::NAN, 5.0]];
        let standard = learnt(PrepareSpec::StandardScaler { with_std: true, decay: 1.0 }, &x);
        assert_eq!(standard.transform(array![[4.0, 7.0]].view()).unwrap(), array![[2.0, 0.0]]);
        let range = learnt(PrepareSpec::MinMaxScaler { low: -1.0, high: 1.0 }, &x);
        assert_eq!(range.transform(array![[4.0, 7.0], [1.0, 5.0]].view()).unwrap(), array![[2.0, -1.0], [-1.0, -1.0]]);
        let wide = standard.transform(array![[1.0, 2.0, 3.0]].view());
        assert_eq!(wide, Err(ModelError::Dimension { expected: 2, found: 3 }));
    }

    #[test]
    fn fills_in() {
        let x = array![[1.0, 5.0], [3.0, f64::NAN]];
        let mean = learnt(PrepareSpec::Imputer { value: None }, &x);
        let missing = array![[f64::NAN, f64::NAN], [9.0, 8.0]];
        assert_eq!(mean.transform(missing.view()).unwrap(), array![[2.0, 5.0], [9.0, 8.0]]);
        let fixed = learnt(PrepareSpec::Imputer { value: Some(-1.0) }, &x);
        assert_eq!(fixed.transform(missing.view()).unwrap()[(0, 0)], -1.0);
    }

    #[test]
    fn a_batch_is_transformed_with_what_was_before_it() {
        let scaler = Preparer::new(PrepareSpec::StandardScaler { with_std: true, decay: 1.0 }).unwrap();
        assert_eq!(scaler.transform(array![[4.0], [5.0]].view()).unwrap(), array![[0.0], [0.0]]);
    }

    #[test]
    fn definitions() {
        let read: PrepareSpec = serde_json::from_str(r#"{"kind": "polynomial"}"#).unwrap();
        assert_eq!(read, PrepareSpec::Polynomial { degree: 2, interaction_only: false });
        for (name, spec) in [
            ("high", PrepareSpec::MinMaxScaler { low: 1.0, high: 1.0 }),
            ("decay", PrepareSpec::StandardScaler { with_std: true, decay: 0.0 }),
            ("degree", PrepareSpec::Polynomial { degree: 0, interaction_only: false }),
        ] {
            assert_eq!(spec.validate().unwrap_err().parameter, name);
        }
    }
}
