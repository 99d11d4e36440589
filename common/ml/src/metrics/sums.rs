//! Sums over rows, from which every metric follows; they merge and they fade.

use super::{Observation, Task};
use crate::stats::Moments;
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Sums over rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sums {
    pub(super) of: OfTask,
    /// Rows that are in no other sum: their label or their weight cannot be used.
    pub(super) skipped: f64,
}

/// Sums of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum OfTask {
    Values(Values),
    Classes(Classes),
    Clusters(Clusters),
}

/// Of predicted values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Values {
    pub(super) labels: Moments,
    pub(super) squared: f64,
    pub(super) absolute: f64,
}

/// Of predicted classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Classes {
    binary: bool,
    /// Weight by label and prediction; [`NO_CLASS`] is a prediction that is none.
    pub(super) confusion: BTreeMap<(i64, i64), f64>,
    /// Sum of `-ln p(label)`.
    pub(super) log_loss: f64,
    /// Weight of the rows that have a probability, and of those that have none.
    pub(super) scored: f64,
    pub(super) unscored: f64,
    /// Weight of labels 0 and 1 by bin of the probability; binary only.
    pub(super) bins: BTreeMap<u32, [f64; 2]>,
}

/// Of distances to centres.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Clusters {
    pub(super) weight: f64,
    pub(super) squared: f64,
    /// Weight of the rows with a second distance, and of those without.
    pub(super) scored: f64,
    pub(super) unscored: f64,
    pub(super) silhouette: f64,
}

pub(super) const NO_CLASS: i64 = -1;

/// Probabilities are kept so far from 0 and 1 for the log loss.
const CLIP: f64 = 1e-15;

/// A sum of probabilities may miss 1 by so much.
const ROUNDING: f64 = 1e-9;

/// The class of a number: a whole one from 0 that a double holds exactly.
fn class(value: f64) -> Option<i64> {
    ((0.0..=9e15).contains(&value) && libm::trunc(value) == value).then_some(value as i64)
}

/// A probability; none for what is missing, not a number, or far from any.
fn probability(score: f64) -> Option<f64> {
    (-ROUNDING..=1.0 + ROUNDING).contains(&score).then(|| score.clamp(0.0, 1.0))
}

impl Sums {
    pub(crate) fn new(task: Task) -> Sums {
        let of = match task {
            Task::Regression => OfTask::Values(Values::default()),
            Task::Binary | Task::Multiclass => OfTask::Classes(Classes {
                binary: task == Task::Binary,
                confusion: BTreeMap::new(),
                log_loss: 0.0,
                scored: 0.0,
                unscored: 0.0,
                bins: BTreeMap::new(),
            }),
            Task::Clustering => OfTask::Clusters(Clusters::default()),
        };
        Sums { of, skipped: 0.0 }
    }

    pub(crate) fn is_of(&self, task: Task) -> bool {
        match &self.of {
            OfTask::Values(_) => task == Task::Regression,
            OfTask::Classes(classes) => task == if classes.binary { Task::Binary } else { Task::Multiclass },
            OfTask::Clusters(_) => task == Task::Clustering,
        }
    }

    /// Adds a row; says whether it counts for more than one that was skipped.
    pub(crate) fn add(&mut self, row: &Observation, bins: u32) -> bool {
        let counts = row.weight > 0.0 && row.weight.is_finite();
        let added = counts
            && match &mut self.of {
                OfTask::Values(values) => values.add(row),
                OfTask::Classes(classes) => classes.add(row, bins),
                OfTask::Clusters(clusters) => clusters.add(row),
            };
        self.skipped += f64::from(u8::from(!added));
        added
    }

    pub(crate) fn merge(&mut self, other: &Sums) {
        self.skipped += other.skipped;
        match (&mut self.of, &other.of) {
            (OfTask::Values(a), OfTask::Values(b)) => {
                a.labels.merge(&b.labels);
                a.squared += b.squared;
                a.absolute += b.absolute;
            }
            (OfTask::Classes(a), OfTask::Classes(b)) => {
                for (cell, weight) in &b.confusion {
                    *a.confusion.entry(*cell).or_default() += weight;
                }
                for (bin, weights) in &b.bins {
                    let sums = a.bins.entry(*bin).or_default();
                    sums[0] += weights[0];
                    sums[1] += weights[1];
                }
                a.log_loss += b.log_loss;
                a.scored += b.scored;
                a.unscored += b.unscored;
            }
            (OfTask::Clusters(a), OfTask::Clusters(b)) => {
                a.weight += b.weight;
                a.squared += b.squared;
                a.scored += b.scored;
                a.unscored += b.unscored;
                a.silhouette += b.silhouette;
            }
            // An evaluator's sums are all of its one task.
            _ => {}
        }
    }

    /// Makes all count `factor` times as much.
    pub(crate) fn fade(&mut self, factor: f64) {
        self.skipped *= factor;
        match &mut self.of {
            OfTask::Values(values) => {
                values.labels.fade(factor);
                values.squared *= factor;
                values.absolute *= factor;
            }
            OfTask::Classes(classes) => {
                classes.confusion.values_mut().for_each(|weight| *weight *= factor);
                classes.bins.values_mut().flatten().for_each(|weight| *weight *= factor);
                classes.log_loss *= factor;
                classes.scored *= factor;
                classes.unscored *= factor;
            }
            OfTask::Clusters(clusters) => {
                clusters.weight *= factor;
                clusters.squared *= factor;
                clusters.scored *= factor;
                clusters.unscored *= factor;
                clusters.silhouette *= factor;
            }
        }
    }

    pub(crate) fn confusion(&self) -> (Vec<i64>, Array2<f64>) {
        let OfTask::Classes(sums) = &self.of else { return (Vec::new(), Array2::zeros((0, 0))) };
        let classes = sums.classes();
        let place = |class: &i64| classes.binary_search(class).unwrap_or_default();
        let mut matrix = Array2::zeros((classes.len(), classes.len()));
        for ((label, prediction), weight) in &sums.confusion {
            matrix[(place(label), place(prediction))] += weight;
        }
        (classes, matrix)
    }
}

impl Values {
    fn add(&mut self, row: &Observation) -> bool {
        if row.label.is_nan() {
            return false;
        }
        let error = row.prediction - row.label;
        self.labels.add(row.label, row.weight);
        self.squared += row.weight * (error * error);
        self.absolute += row.weight * error.abs();
        true
    }
}

impl Classes {
    fn add(&mut self, row: &Observation, bins: u32) -> bool {
        let Some(label) = class(row.label).filter(|label| !self.binary || *label <= 1) else { return false };
        let prediction = class(row.prediction).filter(|class| !self.binary || *class <= 1).unwrap_or(NO_CLASS);
        *self.confusion.entry((label, prediction)).or_default() += row.weight;
        let Some(p) = row.score.and_then(probability) else {
            self.unscored += row.weight;
            return true;
        };
        let of_label = if self.binary && label == 0 { 1.0 - p } else { p };
        self.log_loss -= row.weight * libm::log(of_label.clamp(CLIP, 1.0 - CLIP));
        self.scored += row.weight;
        if self.binary {
            let bin = ((p * f64::from(bins)) as u32).min(bins - 1);
            self.bins.entry(bin).or_default()[usize::from(label == 1)] += row.weight;
        }
        true
    }

    pub(super) fn is_binary(&self) -> bool {
        self.binary
    }

    /// The classes that occur as label or prediction, ascending.
    pub(super) fn classes(&self) -> Vec<i64> {
        let all: BTreeSet<i64> = self.confusion.keys().flat_map(|(label, prediction)| [*label, *prediction]).collect();
        all.into_iter().collect()
    }
}

impl Clusters {
    fn add(&mut self, row: &Observation) -> bool {
        self.weight += row.weight;
        self.squared += row.weight * (row.prediction * row.prediction);
        // As far as can be: there is no second centre.
        let Some(second) = row.score.filter(|second| second.is_finite()) else {
            self.unscored += row.weight;
            return true;
        };
        let widest = second.max(row.prediction);
        self.scored += row.weight;
        self.silhouette += if widest == 0.0 { 0.0 } else { row.weight * ((second - row.prediction) / widest) };
        true
    }
}
