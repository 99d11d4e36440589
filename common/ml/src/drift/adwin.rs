//! Bifet and Gavaldà, Learning from time-changing data with adaptive windowing, 2007.
//!
//! The window is kept as buckets of 1, 2, 4, ... numbers, at most `max_buckets` of a size (an exponential histogram), so that it costs
//! memory and time in the logarithm of its length.

use super::Drift;
use crate::envelope::are_counts;
use crate::error::{SpecError, at_least_one, number};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Parameters of ADWIN; the defaults are River's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdwinSpec {
    /// Bound on the chance of a false alarm at a look. Default 0.002.
    pub delta: f64,
    /// It looks at every so many numbers. Default 32.
    pub clock: u32,
    /// Buckets of a size. Default 5.
    pub max_buckets: u32,
    /// Both parts of the window have to be at least so long. Default 5.
    pub min_window_length: u32,
    /// No look before the window is longer than this. Default 10.
    pub grace_period: u32,
}

impl Default for AdwinSpec {
    fn default() -> Self {
        AdwinSpec { delta: 0.002, clock: 32, max_buckets: 5, min_window_length: 5, grace_period: 10 }
    }
}

impl AdwinSpec {
    pub(super) fn validate(&self) -> Result<(), SpecError> {
        number("delta", self.delta, |d| 0.0 < d && d < 1.0, "use a chance between 0 and 1")?;
        at_least_one("clock", self.clock.into())?;
        at_least_one("max_buckets", self.max_buckets.into())?;
        at_least_one("min_window_length", self.min_window_length.into())
    }
}

/// Numbers side by side in the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Bucket {
    sum: f64,
    /// Sum of squared deviations from the mean.
    m2: f64,
}

/// The window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Adwin {
    /// Buckets of `2^i` numbers, oldest first.
    sizes: Vec<VecDeque<Bucket>>,
    width: u64,
    all: Bucket,
    ticks: u64,
}

impl Adwin {
    pub(crate) fn estimate(&self) -> Option<f64> {
        (self.width > 0).then(|| self.all.sum / self.width as f64)
    }

    pub(crate) fn update(&mut self, spec: &AdwinSpec, value: f64) -> Drift {
        self.insert(spec, value);
        self.ticks += 1;
        let mut drift = Drift::None;
        if self.ticks.is_multiple_of(spec.clock.into()) && self.width > spec.grace_period.into() {
            while self.has_cut(spec) {
                drift = Drift::Detected;
                self.drop_oldest();
            }
        }
        drift
    }

    fn insert(&mut self, spec: &AdwinSpec, value: f64) {
        if self.width > 0 {
            let n = self.width as f64;
            let apart = value - self.all.sum / n;
            self.all.m2 += n * apart * apart / (n + 1.0);
        }
        self.all.sum += value;
        self.width += 1;
        let mut carried = Some(Bucket { sum: value, m2: 0.0 });
        for size in 0.. {
            let Some(bucket) = carried.take() else { return };
            if self.sizes.len() == size {
                self.sizes.push(VecDeque::new());
            }
            let buckets = &mut self.sizes[size];
            buckets.push_back(bucket);
            if buckets.len() > spec.max_buckets as usize {
                carried = join(buckets, (1u64 << size) as f64);
            }
        }
    }

    /// Whether there is a place at which the window's two parts have different means.
    fn has_cut(&self, spec: &AdwinSpec) -> bool {
        let (mut n0, mut sum0) = (0, 0.0);
        let least = u64::from(spec.min_window_length);
        let oldest_first = self.sizes.iter().enumerate().rev();
        for (n, bucket) in oldest_first.flat_map(|(size, buckets)| buckets.iter().map(move |b| (1u64 << size, b))) {
            n0 += n;
            sum0 += bucket.sum;
            let n1 = self.width - n0;
            if n1 == 0 {
                break;
            }
            let apart = sum0 / n0 as f64 - (self.all.sum - sum0) / n1 as f64;
            if n0 >= least && n1 >= least && apart.abs() > self.bound(spec, n0, n1) {
                return true;
            }
        }
        false
    }

    /// The difference that chance alone hardly exceeds (the paper's formula 3.1 with the variance of the window).
    fn bound(&self, spec: &AdwinSpec, n0: u64, n1: u64) -> f64 {
        let width = self.width as f64;
        let log = libm::log(2.0 * libm::log(width) / spec.delta);
        let part = |n: u64| 1.0 / (n - u64::from(spec.min_window_length) + 1) as f64;
        let both = part(n0) + part(n1);
        libm::sqrt(2.0 * both * (self.all.m2 / width) * log) + 2.0 / 3.0 * log * both
    }

    fn drop_oldest(&mut self) {
        let Some(size) = self.sizes.iter().rposition(|buckets| !buckets.is_empty()) else { return };
        let Some(bucket) = self.sizes[size].pop_front() else { return };
        let n = (1u64 << size) as f64;
        self.sizes.truncate(self.sizes.iter().rposition(|buckets| !buckets.is_empty()).map_or(0, |last| last + 1));
        self.width -= 1 << size;
        self.all.sum -= bucket.sum;
        if self.width == 0 {
            self.all = Bucket::default();
            return;
        }
        let rest = self.width as f64;
        let apart = bucket.sum / n - self.all.sum / rest;
        // Rounding must not leave a variance below 0.
        self.all.m2 = (self.all.m2 - (bucket.m2 + n * rest * apart * apart / (n + rest))).max(0.0);
    }

    /// Whether the buckets are those of a window of this width.
    pub(crate) fn consistent(&self, spec: &AdwinSpec) -> bool {
        let most = spec.max_buckets as usize;
        // A shift by so much cannot be, and no sum of these overflows.
        let few = self.sizes.len() < 48 && self.sizes.iter().all(|buckets| buckets.len() <= most);
        let numbers =
            || self.sizes.iter().enumerate().map(|(size, buckets)| u128::from(1_u64 << size) * buckets.len() as u128);
        few && numbers().sum::<u128>() == self.width.into() && are_counts(&[self.width, self.ticks])
    }

    pub(super) fn finite(&self) -> bool {
        self.all.sum.is_finite() && self.all.m2.is_finite()
    }

    /// Numbers in the window.
    pub(crate) fn width(&self) -> u64 {
        self.width
    }

    #[cfg(test)]
    pub(super) fn window(&self) -> (u64, f64) {
        (self.width, self.all.m2)
    }
}

/// Joins the two oldest buckets of a size.
fn join(buckets: &mut VecDeque<Bucket>, n: f64) -> Option<Bucket> {
    let (a, b) = (buckets.pop_front()?, buckets.pop_front()?);
    let apart = a.sum / n - b.sum / n;
    Some(Bucket { sum: a.sum + b.sum, m2: a.m2 + b.m2 + n * n * apart * apart / (n + n) })
}
