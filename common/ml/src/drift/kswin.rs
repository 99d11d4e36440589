//! Raab, Heusinger, Schleif, Reactive soft prototype computing for concept drift streams, 2020: Kolmogorov and Smirnov's test of the
//! newest numbers against a random choice of those before them.

use super::Drift;
use crate::{
    error::{SpecError, at_least_one, number},
    random::{Stream, keyed},
};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Parameters of KSWIN; the defaults are River's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KswinSpec {
    /// Chance of a false alarm at a single number. Default 0.005.
    pub alpha: f64,
    /// How many numbers are kept. Default 100.
    pub window_size: u32,
    /// How many of them are new, and how many of the others are drawn. Default 30.
    pub stat_size: u32,
    /// Key of the draws. Default 0.
    pub seed: u64,
}

impl Default for KswinSpec {
    fn default() -> Self {
        KswinSpec { alpha: 0.005, window_size: 100, stat_size: 30, seed: 0 }
    }
}

impl KswinSpec {
    pub(super) fn validate(&self) -> Result<(), SpecError> {
        number("alpha", self.alpha, |a| 0.0 < a && a < 1.0, "use a chance between 0 and 1")?;
        at_least_one("stat_size", self.stat_size.into())?;
        if u64::from(self.window_size) < 2 * u64::from(self.stat_size) {
            let problem = format!("is {}", self.window_size);
            return Err(SpecError::new("window_size", problem, "use at least twice `stat_size`"));
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Kswin {
    window: VecDeque<f64>,
}

impl Kswin {
    /// Whether the window is not too long.
    pub(super) fn consistent(&self, spec: &KswinSpec) -> bool {
        self.window.len() <= spec.window_size as usize
    }

    pub(super) fn estimate(&self) -> Option<f64> {
        let sum = self.window.iter().fold(0.0, |sum, value| sum + value);
        (!self.window.is_empty()).then(|| sum / self.window.len() as f64)
    }

    /// `seen` is the number of this update.
    pub(super) fn update(&mut self, spec: &KswinSpec, value: f64, seen: u64) -> Drift {
        let (size, recent) = (spec.window_size as usize, spec.stat_size as usize);
        self.window.push_back(value);
        if self.window.len() > size {
            self.window.pop_front();
        }
        if self.window.len() < size {
            return Drift::None;
        }
        let mut older: Vec<f64> = self.window.iter().take(size - recent).copied().collect();
        draw(&mut older, recent, &mut Stream::new(keyed(spec.seed, seen)));
        let mut newest: Vec<f64> = self.window.iter().skip(size - recent).copied().collect();
        let apart = steps_apart(&mut older, &mut newest);
        // As River: a distance of at most a tenth is no drift, however many numbers there are.
        if chance(recent, apart) <= spec.alpha && apart * 10 > recent {
            self.window.drain(..size - recent);
            return Drift::Detected;
        }
        Drift::None
    }
}

/// Leaves `count` of the values, drawn without replacement.
fn draw(values: &mut Vec<f64>, count: usize, numbers: &mut Stream) {
    for i in 0..count {
        let left = values.len() - i;
        values.swap(i, i + ((numbers.unit() * left as f64) as usize).min(left - 1));
    }
    values.truncate(count);
}

/// The largest difference of the two empirical distributions, in steps of one number; both have the same length.
fn steps_apart(a: &mut [f64], b: &mut [f64]) -> usize {
    a.sort_by(f64::total_cmp);
    b.sort_by(f64::total_cmp);
    let (mut i, mut j, mut most) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        let value = a[i].min(b[j]);
        i += a[i..].iter().take_while(|x| **x <= value).count();
        j += b[j..].iter().take_while(|x| **x <= value).count();
        most = most.max(i.abs_diff(j));
    }
    most
}

/// Chance of a distance of at least `h / n` between two samples of `n` of the same distribution, exactly
/// (`2 sum_k (-1)^(k-1) C(2n, n - kh) / C(2n, n)`; Gnedenko and Korolyuk, 1951), summed by Horner's scheme.
fn chance(n: usize, h: usize) -> f64 {
    if h == 0 {
        return 1.0;
    }
    let mut p = 0.0;
    for k in (0..n / h).rev() {
        // C(2n, n - (k+1) h) / C(2n, n - k h)
        let ratio = (0..h).fold(1.0, |ratio, j| ratio * (n - k * h - j) as f64 / (n + k * h + j + 1) as f64);
        p = ratio * (1.0 - p);
    }
    (2.0 * p).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_and_its_chance() {
        assert_eq!(steps_apart(&mut [1.0, 2.0, 3.0], &mut [1.0, 2.0, 3.0]), 0);
        assert_eq!(steps_apart(&mut [1.0, 2.0, 3.0], &mut [6.0, 4.0, 5.0]), 3);
        assert_eq!(steps_apart(&mut [1.0, 1.0, 3.0], &mut [1.0, 2.0, 2.0]), 1);
        // Of the C(6, 3) = 20 orders of two triples, two are wholly apart; all differ somewhere.
        assert!((chance(3, 3) - 0.1).abs() < 1e-15);
        assert_eq!(chance(3, 1), 1.0);
        // The sum of the two terms in exact fractions.
        assert!((chance(30, 13) - 0.006548396368058781).abs() < 1e-15);
    }

    #[test]
    fn draws_are_without_replacement() {
        let mut values: Vec<f64> = (0..50).map(f64::from).collect();
        draw(&mut values, 20, &mut Stream::new(3));
        values.sort_by(f64::total_cmp);
        values.dedup();
        assert_eq!(values.len(), 20);
    }
}
