//! Crammer, Dekel, Keshet, Shalev-Shwartz, Singer, Online passive-aggressive algorithms, 2006.
//!
//! Every record moves the weights as little as it takes to have no loss on it, held back by `c`: `w += t s x`, with loss `l` and side `s`
//! (classes: `l = max(0, 1 - s m)`, `s` = 1 or -1 by the label; values: `l = max(0, |y - m| - epsilon)`, `s` the sign of `y - m`).

use super::linear::sigmoid;
use crate::{
    error::{SpecError, number},
    exact,
    family::{Answers, Family, Learns},
    kernel,
    parameters::{parameters, words},
    report::{Learned, LearnedKind, Shape},
    rows::Row,
};
use serde::{Deserialize, Serialize};

parameters! {
    /// Parameters of passive-aggressive models.
    pub struct PassiveAggressiveSpec {
        /// How aggressive at most; multiplied by a row's weight. Default 1.
        pub c: f64 = 1.0,
        /// How it is held back. Default `pa1`.
        pub variant: Variant = Variant::Pa1,
        /// Regression only: how far off is no loss. Default 0.1.
        pub epsilon: Option<f64> = None,
        /// Whether a constant is learnt, moved by the same `t s`. Default true.
        pub fit_intercept: bool = true,
    }
}

/// How a passive-aggressive step is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Not: `t = l / |x|^2`.
    Pa,
    /// `t = min(c, l / |x|^2)`.
    #[default]
    Pa1,
    /// `t = l / (|x|^2 + 1 / (2 c))`.
    Pa2,
}

words!(Variant: Pa, Pa1, Pa2);

impl PassiveAggressiveSpec {
    fn validate(&self, classify: bool) -> Result<(), SpecError> {
        number("c", self.c, |c| c > 0.0, "use a positive number")?;
        if classify && self.epsilon.is_some() {
            return Err(SpecError::new("epsilon", "is given for a classifier", "leave it out, it is for values"));
        }
        number("epsilon", self.epsilon(), |e| e >= 0.0, "use 0 or more")
    }

    fn epsilon(&self) -> f64 {
        self.epsilon.unwrap_or(0.1)
    }
}

/// `y = w.x + b`, moved by every record just as far as to be near enough to it.
pub type PassiveAggressiveRegressor = PassiveAggressive<false>;

/// Class 1 if `w.x + b > 0`, moved by every record just as far as to be on its right side.
pub type PassiveAggressiveClassifier = PassiveAggressive<true>;

/// What it has learnt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassiveAggressive<const CLASSIFY: bool> {
    #[serde(with = "exact::list")]
    weights: Vec<f64>,
    #[serde(with = "exact::number", default)]
    intercept: f64,
    #[serde(default)]
    updates: u64,
}

impl<const CLASSIFY: bool> PassiveAggressive<CLASSIFY> {
    fn margin(&self, x: &[f64]) -> f64 {
        kernel::dot(&self.weights, x) + self.intercept
    }
}

impl<const CLASSIFY: bool> Family for PassiveAggressive<CLASSIFY> {
    type Spec = PassiveAggressiveSpec;
    const NAME: &'static str = if CLASSIFY { "passive_aggressive_classifier" } else { "passive_aggressive_regressor" };
    const SHAPE: Shape =
        &[("weights", LearnedKind::List), ("intercept", LearnedKind::Number), ("updates", LearnedKind::Count)];

    fn validate(spec: &PassiveAggressiveSpec) -> Result<(), SpecError> {
        spec.validate(CLASSIFY)
    }

    fn answers(_: &PassiveAggressiveSpec) -> Answers<'_> {
        if CLASSIFY { Answers::Class { classes: 2 } } else { Answers::Number }
    }

    fn learns(_: &PassiveAggressiveSpec, _: usize) -> Learns {
        Learns::ByRecord
    }

    fn new(_: &PassiveAggressiveSpec, dimension: usize) -> Self {
        PassiveAggressive { weights: vec![0.0; dimension], intercept: 0.0, updates: 0 }
    }

    fn features(&self) -> usize {
        self.weights.len()
    }

    fn finite(&self) -> bool {
        kernel::all_finite(&self.weights) && self.intercept.is_finite()
    }

    fn consistent(&self, _: &PassiveAggressiveSpec) -> bool {
        true
    }

    fn predict(&self, _: &PassiveAggressiveSpec, x: &[f64]) -> f64 {
        let margin = self.margin(x);
        if CLASSIFY { f64::from(u8::from(margin > 0.0)) } else { margin }
    }

    /// The sigmoid of the margin: in order, but not calibrated.
    fn probabilities(&self, _: &PassiveAggressiveSpec, x: &[f64]) -> Option<Vec<f64>> {
        let p = sigmoid(self.margin(x));
        CLASSIFY.then(|| vec![1.0 - p, p])
    }

    fn record(&mut self, spec: &PassiveAggressiveSpec, row: &Row<'_>) -> Option<f64> {
        if !row.counts() || (CLASSIFY && row.y != 0.0 && row.y != 1.0) {
            return None;
        }
        let margin = self.margin(row.x);
        let (side, loss) = if CLASSIFY {
            let side = if row.y > 0.0 { 1.0 } else { -1.0 };
            (side, 1.0 - side * margin)
        } else {
            let apart = row.y - margin;
            (apart.signum(), apart.abs() - spec.epsilon())
        };
        self.updates += 1;
        if loss <= 0.0 {
            return Some(0.0);
        }
        let (square, c) = (kernel::dot(row.x, row.x), spec.c * row.weight);
        let size = match spec.variant {
            Variant::Pa2 => loss / (square + 0.5 / c),
            _ if square == 0.0 => 0.0,
            Variant::Pa => loss / square,
            Variant::Pa1 if loss / square > c => c,
            Variant::Pa1 => loss / square,
        };
        kernel::add_scaled(&mut self.weights, size * side, row.x);
        if spec.fit_intercept {
            self.intercept += size * side;
        }
        Some(loss)
    }

    fn learned(&self) -> Vec<Learned> {
        vec![Learned::List(self.weights.clone()), Learned::Number(self.intercept), Learned::Count(self.updates)]
    }

    #[cfg(test)]
    fn definitions() -> Vec<serde_json::Value> {
        ["pa", "pa1", "pa2"].map(|variant| serde_json::json!({ "variant": variant })).into()
    }
}
