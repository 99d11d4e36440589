//! The mean of the labels so far: what other models have to beat.

use crate::{
    error::{SpecError, number},
    exact,
    family::{Answers, Family, Learns, OnePass, Sums},
    parameters::parameters,
    partial::Partial,
    report::{Learned, LearnedKind, Shape, Trained},
    rows::Table,
};
use serde::{Deserialize, Serialize};

parameters! {
    /// Parameters of the mean.
    pub struct MeanSpec {
        /// What earlier batches count for after a batch, above 0 and at most 1. Default 1.
        pub decay: f64 = 1.0,
    }
}

/// The mean of the labels so far, whatever the features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mean {
    features: usize,
    /// Weight of the labels.
    #[serde(with = "exact::number")]
    weight: f64,
    #[serde(with = "exact::number")]
    mean: f64,
}

impl Family for Mean {
    type Spec = MeanSpec;
    const NAME: &'static str = "mean";
    const SHAPE: Shape = &[("mean", LearnedKind::Number), ("weight", LearnedKind::Number)];
    const SUMS: Option<Sums<Self>> = Some(Sums::of());

    fn validate(spec: &MeanSpec) -> Result<(), SpecError> {
        number("decay", spec.decay, |d| 0.0 < d && d <= 1.0, "use a number above 0 and at most 1")
    }

    fn answers(_: &MeanSpec) -> Answers<'_> {
        Answers::Number
    }

    fn learns(_: &MeanSpec, _: usize) -> Learns {
        Learns::FromSums
    }

    fn new(_: &MeanSpec, features: usize) -> Self {
        Mean { features, weight: 0.0, mean: 0.0 }
    }

    fn features(&self) -> usize {
        self.features
    }

    fn finite(&self) -> bool {
        self.weight.is_finite() && self.mean.is_finite()
    }

    /// There are no lists that could have a wrong length.
    fn consistent(&self, _: &MeanSpec) -> bool {
        true
    }

    fn predict(&self, _: &MeanSpec, _: &[f64]) -> f64 {
        self.mean
    }

    fn learned(&self) -> Vec<Learned> {
        vec![Learned::Number(self.mean), Learned::Number(self.weight)]
    }

    #[cfg(test)]
    fn definitions() -> Vec<serde_json::Value> {
        vec![serde_json::json!({}), serde_json::json!({ "decay": 0.5 })]
    }
}

/// One list with one number: the sum of the labels, by weight.
impl OnePass for Mean {
    fn nothing(&self, _: &MeanSpec) -> Partial {
        Partial::zeros(self.features, [1])
    }

    fn gather(&self, _: &MeanSpec, split: &Table<'_>, sums: &mut Partial) {
        for row in split.rows() {
            if !row.counts() {
                sums.skipped += 1;
                continue;
            }
            sums.rows += 1;
            sums.weight += row.weight;
            sums.loss += row.weight * (row.y - self.mean) * (row.y - self.mean) / 2.0;
            sums.lists[0][0] += row.weight * row.y;
        }
    }

    fn learn(&mut self, spec: &MeanSpec, sums: &Partial) -> Trained {
        if sums.rows > 0 {
            self.weight = self.weight * spec.decay + sums.weight;
            self.mean += (sums.lists[0][0] / sums.weight - self.mean) * (sums.weight / self.weight);
        }
        sums.trained_once(0.0)
    }
}
