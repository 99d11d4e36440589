//! What a leaf gathers, predicts, and how it finds its split.

use super::{HoeffdingTreeSpec, LeafPrediction};
use crate::{
    classes::{likeliest, normalised},
    exact, kernel,
    rows::Row,
    stats::Moments,
};
use serde::{Deserialize, Serialize};
use std::f64::consts::{SQRT_2, TAU};

/// A leaf.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Leaf {
    /// Weight of every class, what the split it comes from gave it included.
    #[serde(with = "exact::list")]
    classes: Vec<f64>,
    /// Per feature, per class.
    seen: Vec<Vec<Seen>>,
    /// Weight at the last look for a split.
    #[serde(with = "exact::number")]
    looked_at: f64,
    /// Weight of the rows that the majority, and naive Bayes, would have got right.
    #[serde(with = "exact::number")]
    majority_right: f64,
    #[serde(with = "exact::number")]
    bayes_right: f64,
}

/// A feature's values within a class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    #[serde(with = "exact::number")]
    n: f64,
    #[serde(with = "exact::number")]
    mean: f64,
    #[serde(with = "exact::number")]
    m2: f64,
    #[serde(with = "exact::number")]
    least: f64,
    #[serde(with = "exact::number")]
    most: f64,
}

impl Seen {
    fn add(&mut self, value: f64, weight: f64) {
        let first = self.n == 0.0;
        let mut moments = Moments { n: self.n, mean: self.mean, m2: self.m2 };
        moments.add(value, weight);
        (self.n, self.mean, self.m2) = (moments.n, moments.mean, moments.m2);
        self.least = if first { value } else { self.least.min(value) };
        self.most = if first { value } else { self.most.max(value) };
    }

    /// Of a sample, as River's splitters; 0 if there is none.
    fn deviation(&self) -> f64 {
        if self.n > 1.0 { libm::sqrt(self.m2 / (self.n - 1.0)) } else { 0.0 }
    }

    /// `ln` of the normal density; None without a deviation.
    fn log_density(&self, value: f64) -> Option<f64> {
        let deviation = self.deviation();
        let z = (value - self.mean) / deviation;
        (deviation > 0.0).then(|| -z * z / 2.0 - libm::log(deviation) - libm::log(TAU) / 2.0)
    }

    /// Weight of the values up to a place, and beyond it.
    fn cut(&self, at: f64) -> [f64; 2] {
        if self.n == 0.0 || at < self.least {
            return [0.0, self.n];
        }
        if at >= self.most {
            return [self.n, 0.0];
        }
        let deviation = self.deviation();
        let below = if deviation > 0.0 { libm::erfc((self.mean - at) / deviation / SQRT_2) / 2.0 } else { 0.0 };
        [below * self.n, self.n - below * self.n]
    }
}

/// A place to split at.
struct Candidate {
    feature: usize,
    threshold: f64,
    merit: f64,
    sides: [Vec<f64>; 2],
}

impl Leaf {
    pub(super) fn new(spec: &HoeffdingTreeSpec, dimension: usize) -> Leaf {
        Leaf::with(vec![0.0; spec.classes as usize], dimension)
    }

    fn with(classes: Vec<f64>, dimension: usize) -> Leaf {
        let seen = vec![vec![Seen::default(); classes.len()]; dimension];
        let looked_at = sum(&classes);
        Leaf { classes, seen, looked_at, majority_right: 0.0, bayes_right: 0.0 }
    }

    pub(super) fn consistent(&self, spec: &HoeffdingTreeSpec, dimension: usize) -> bool {
        let classes = spec.classes as usize;
        let features = self.seen.len() == dimension && self.seen.iter().all(|seen| seen.len() == classes);
        self.classes.len() == classes && features
    }

    pub(super) fn finite(&self) -> bool {
        let seen = |seen: &Seen| kernel::all_finite(&[seen.n, seen.mean, seen.m2]);
        kernel::all_finite(&self.classes) && self.seen.iter().flatten().all(seen)
    }

    pub(super) fn describe(&self) -> String {
        format!("class {} of {:?}", likeliest(&self.classes), self.classes)
    }

    pub(super) fn probabilities(&self, spec: &HoeffdingTreeSpec, x: &[f64]) -> Vec<f64> {
        match spec.leaf_prediction {
            LeafPrediction::Majority => self.majority(),
            LeafPrediction::NaiveBayes => self.bayes(x),
            LeafPrediction::NaiveBayesAdaptive if self.bayes_right >= self.majority_right => self.bayes(x),
            LeafPrediction::NaiveBayesAdaptive => self.majority(),
        }
    }

    fn majority(&self) -> Vec<f64> {
        let total = sum(&self.classes);
        if total == 0.0 {
            return vec![1.0 / self.classes.len() as f64; self.classes.len()];
        }
        self.classes.iter().map(|weight| weight / total).collect()
    }

    /// A feature without a deviation within a class says nothing about it.
    fn bayes(&self, x: &[f64]) -> Vec<f64> {
        let total = sum(&self.classes);
        if total == 0.0 {
            return self.majority();
        }
        let log = |(class, weight): (usize, &f64)| {
            if *weight == 0.0 {
                return f64::NEG_INFINITY;
            }
            let densities = x.iter().zip(&self.seen).filter_map(|(x, seen)| seen[class].log_density(*x));
            densities.fold(libm::log(weight / total), |sum, density| sum + density)
        };
        normalised(self.classes.iter().enumerate().map(log).collect())
    }

    pub(super) fn learn(&mut self, spec: &HoeffdingTreeSpec, row: &Row<'_>, label: usize) {
        if spec.leaf_prediction == LeafPrediction::NaiveBayesAdaptive {
            let empty = sum(&self.classes) == 0.0;
            if empty || likeliest(&self.classes) == label as f64 {
                self.majority_right += row.weight;
            }
            if !empty && likeliest(&self.bayes(row.x)) == label as f64 {
                self.bayes_right += row.weight;
            }
        }
        self.classes[label] += row.weight;
        self.seen.iter_mut().zip(row.x).for_each(|(seen, x)| seen[label].add(*x, row.weight));
    }

    /// Feature, threshold and the two leaves of a split, if it is time to look for one and one is found.
    pub(super) fn split(&mut self, spec: &HoeffdingTreeSpec) -> Option<(usize, f64, [Leaf; 2])> {
        let total = sum(&self.classes);
        if total - self.looked_at < spec.grace_period {
            return None;
        }
        self.looked_at = total;
        let several = self.classes.iter().filter(|weight| **weight > 0.0).count();
        let most = self.classes.iter().fold(0.0f64, |most, weight| most.max(*weight));
        if several < 2 || most / total > spec.max_share_to_split {
            return None;
        }
        let range = libm::log2(several as f64);
        let bound = libm::sqrt(range * range * libm::log(1.0 / spec.delta) / (2.0 * total));
        // Not to split gains nothing: it stands for the second best if there is none. A best split that gains nothing counts, as in River:
        // of a leaf whose rows all have another class than what it inherited, it makes two that inherited nothing wrong.
        let (mut best, mut second): (Option<Candidate>, f64) = (None, 0.0);
        for candidate in (0..self.seen.len()).filter_map(|feature| self.best_of(spec, feature)) {
            match &best {
                Some(best) if candidate.merit <= best.merit => second = second.max(candidate.merit),
                before => {
                    second = before.as_ref().map_or(second, |before| second.max(before.merit));
                    best = Some(candidate);
                }
            }
        }
        let best = best?;
        if best.merit - second <= bound && bound >= spec.tau {
            return None;
        }
        let dimension = self.seen.len();
        Some((best.feature, best.threshold, best.sides.map(|classes| Leaf::with(classes, dimension))))
    }

    /// The best place to split a feature at, by information gain.
    fn best_of(&self, spec: &HoeffdingTreeSpec, feature: usize) -> Option<Candidate> {
        let seen = &self.seen[feature];
        let known = || seen.iter().filter(|seen| seen.n > 0.0);
        let least = known().fold(f64::INFINITY, |least, seen| least.min(seen.least));
        let most = known().fold(f64::NEG_INFINITY, |most, seen| most.max(seen.most));
        let step = (most - least) / (f64::from(spec.split_points) + 1.0);
        // Of what the leaf itself has seen, as is the entropy after: with what it inherited, which it cannot cut, a gain would be lost.
        let before = entropy(&seen.iter().map(|seen| seen.n).collect::<Vec<_>>());
        let mut best: Option<Candidate> = None;
        for i in 1..=spec.split_points {
            let threshold = least + step * f64::from(i);
            if !(least < threshold && threshold < most) {
                continue;
            }
            let cuts: Vec<[f64; 2]> = seen.iter().map(|seen| seen.cut(threshold)).collect();
            let sides = [0, 1].map(|side| cuts.iter().map(|cut| cut[side]).collect::<Vec<f64>>());
            let weights = [sum(&sides[0]), sum(&sides[1])];
            let total = weights[0] + weights[1];
            if !weights.iter().all(|weight| weight / total > spec.min_branch_fraction) {
                continue;
            }
            let after = weights[0] * entropy(&sides[0]) + weights[1] * entropy(&sides[1]);
            let merit = before - after / total;
            if best.as_ref().is_none_or(|best| merit > best.merit) {
                best = Some(Candidate { feature, threshold, merit, sides });
            }
        }
        best
    }
}

fn sum(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |sum, value| sum + value)
}

/// In bits.
fn entropy(classes: &[f64]) -> f64 {
    let total = sum(classes);
    classes
        .iter()
        .filter(|weight| **weight > 0.0)
        .fold(0.0, |bits, weight| bits - weight / total * libm::log2(weight / total))
}
