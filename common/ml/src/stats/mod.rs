//! Means, variances, and tests on them.

mod abtest;
mod distributions;
mod ttest;

pub use abtest::{Samples, StreamingTest, StreamingTestSpec, TestMethod};
use serde::{Deserialize, Serialize};
pub(crate) use ttest::paired_p_value;
pub use ttest::{TestResult, student_t_test, welch_t_test};

/// Weight, mean and sum of squared deviations of numbers; they merge (Chan, Golub, LeVeque, Updating formulae and a pairwise algorithm
/// for computing sample variances, 1979).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    /// Weight of the numbers; their count if each counts 1.
    pub n: f64,
    /// Their mean; 0 if there are none.
    pub mean: f64,
    /// Sum of `weight * (number - mean)^2`.
    pub m2: f64,
}

impl Moments {
    /// Adds a number of a weight above 0.
    pub fn add(&mut self, value: f64, weight: f64) {
        self.n += weight;
        let apart = value - self.mean;
        self.mean += apart * (weight / self.n);
        self.m2 += weight * apart * (value - self.mean);
    }

    /// Adds the numbers of another.
    pub fn merge(&mut self, other: &Moments) {
        if other.n == 0.0 {
            return;
        }
        let n = self.n + other.n;
        let apart = other.mean - self.mean;
        self.mean += apart * (other.n / n);
        self.m2 += other.m2 + apart * apart * (self.n * (other.n / n));
        self.n = n;
    }

    /// Makes all numbers count `factor` times as much.
    pub fn fade(&mut self, factor: f64) {
        self.n *= factor;
        self.m2 *= factor;
    }

    /// `m2 / (n - 1)`: the variance of what the numbers are a sample of. NaN below two numbers.
    pub fn sample_variance(&self) -> f64 {
        if self.n > 1.0 { self.m2 / (self.n - 1.0) } else { f64::NAN }
    }

    /// `m2 / n`: the variance of the numbers themselves. NaN without numbers.
    pub fn variance(&self) -> f64 {
        if self.n > 0.0 { self.m2 / self.n } else { f64::NAN }
    }
}
