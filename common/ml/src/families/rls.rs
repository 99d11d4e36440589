//! Recursive least squares with exponential forgetting (Haykin, Adaptive filter theory, 2002, chapter 9).
//!
//! With `x` of a row (1 appended for the intercept), weight `u` and error `e = y - w.x`:
//! `k = P x / (forgetting / u + x' P x)`, `w += k e`, `P = (P - k x' P) / forgetting`, beginning with `P = initial_variance I`.
//! Without forgetting the weights are those of ridge regression with penalty `1 / initial_variance` over all rows.

use crate::{
    error::{SpecError, number},
    exact,
    family::{Answers, Family, Learns},
    kernel,
    parameters::parameters,
    report::{Learned, LearnedKind, Shape},
    rows::Row,
};
use serde::{Deserialize, Serialize};

parameters! {
    /// Parameters of recursive least squares.
    pub struct RlsSpec {
        /// What earlier rows count for after a row, above 0 and at most 1. Default 1: all count alike.
        pub forgetting: f64 = 1.0,
        /// How little is known of the weights at the beginning. Default 1000.
        pub initial_variance: f64 = 1000.0,
        /// Whether a constant is learnt. Default true.
        pub fit_intercept: bool = true,
    }
}

impl RlsSpec {
    fn validate(&self) -> Result<(), SpecError> {
        number("forgetting", self.forgetting, |f| 0.0 < f && f <= 1.0, "use a number above 0 and at most 1")?;
        number("initial_variance", self.initial_variance, |v| v > 0.0, "use a positive number")
    }
}

/// `y = w.x + b`, the least squares of all rows so far, with forgetting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecursiveLeastSquares {
    #[serde(with = "exact::list")]
    weights: Vec<f64>,
    #[serde(with = "exact::number")]
    intercept: f64,
    /// Features and, last, the intercept.
    #[serde(with = "exact::lists")]
    p: Vec<Vec<f64>>,
    updates: u64,
}

impl Family for RecursiveLeastSquares {
    type Spec = RlsSpec;
    const NAME: &'static str = "recursive_least_squares";
    const SHAPE: Shape =
        &[("weights", LearnedKind::List), ("intercept", LearnedKind::Number), ("updates", LearnedKind::Count)];

    fn validate(spec: &RlsSpec) -> Result<(), SpecError> {
        spec.validate()
    }

    fn answers(_: &RlsSpec) -> Answers<'_> {
        Answers::Number
    }

    fn learns(_: &RlsSpec, _: usize) -> Learns {
        Learns::ByRecord
    }

    fn new(spec: &RlsSpec, dimension: usize) -> Self {
        let size = dimension + 1;
        let mut p = vec![vec![0.0; size]; size];
        p.iter_mut().enumerate().for_each(|(i, row)| row[i] = spec.initial_variance);
        if !spec.fit_intercept {
            p[dimension][dimension] = 0.0;
        }
        RecursiveLeastSquares { weights: vec![0.0; dimension], intercept: 0.0, p, updates: 0 }
    }

    fn features(&self) -> usize {
        self.weights.len()
    }

    fn finite(&self) -> bool {
        let p = self.p.iter().all(|row| kernel::all_finite(row));
        p && kernel::all_finite(&self.weights) && self.intercept.is_finite()
    }

    fn consistent(&self, _: &RlsSpec) -> bool {
        let size = self.weights.len() + 1;
        self.p.len() == size && self.p.iter().all(|row| row.len() == size)
    }

    fn predict(&self, _: &RlsSpec, x: &[f64]) -> f64 {
        kernel::dot(&self.weights, x) + self.intercept
    }

    fn record(&mut self, spec: &RlsSpec, row: &Row<'_>) -> Option<f64> {
        if !row.counts() {
            return None;
        }
        let error = row.y - self.predict(spec, row.x);
        let mut x = row.x.to_vec();
        x.push(f64::from(u8::from(spec.fit_intercept)));
        let px: Vec<f64> = self.p.iter().map(|row| kernel::dot(row, &x)).collect();
        let gain = 1.0 / (spec.forgetting / row.weight + kernel::dot(&x, &px));
        let (features, constant) = px.split_at(self.weights.len());
        kernel::add_scaled(&mut self.weights, error * gain, features);
        self.intercept += error * gain * constant.iter().fold(0.0, |sum, c| sum + c);
        for (row, a) in self.p.iter_mut().zip(&px) {
            // The product first: `P` stays symmetric to the bit. What is not symmetric would grow with every row that forgets.
            row.iter_mut().zip(&px).for_each(|(value, b)| *value -= gain * (a * b));
        }
        self.forget(spec);
        self.updates += 1;
        Some(error * error / 2.0)
    }

    fn learned(&self) -> Vec<Learned> {
        vec![Learned::List(self.weights.clone()), Learned::Number(self.intercept), Learned::Count(self.updates)]
    }

    #[cfg(test)]
    fn definitions() -> Vec<serde_json::Value> {
        vec![serde_json::json!({}), serde_json::json!({ "forgetting": 0.9, "fit_intercept": false })]
    }
}

impl RecursiveLeastSquares {
    /// Divides `P` by the forgetting, unless as little is known as at the beginning: without news in some direction `P` would grow for
    /// ever in it.
    fn forget(&mut self, spec: &RlsSpec) {
        let trace = self.p.iter().enumerate().fold(0.0, |sum, (i, row)| sum + row[i]);
        if spec.forgetting < 1.0 && trace < spec.initial_variance * self.weights.len() as f64 {
            self.p.iter_mut().flatten().for_each(|value| *value /= spec.forgetting);
        }
    }
}
