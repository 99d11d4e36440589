//! Sums over rows, from which every metric follows; they merge and they fade.

use super::{Observation, Task};
use crate::stats::Moments;
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Sums of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Sums {
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
    /// Weight of the rows that have a probability.
    pub(super) scored: f64,
    /// Weight of labels 0 and 1 by bin of the probability; binary only.
    pub(super) bins: BTreeMap<u32, [f64; 2]>,
}

/// Of distances to centres.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Clusters {
    pub(super) weight: f64,
    pub(super) squared: f64,
    /// Weight of the rows with a second distance.
    pub(super) scored: f64,
    pub(super) silhouette: f64,
}

pub(super) const NO_CLASS: i64 = -1;

/// Probabilities are kept so far from 0 and 1 for the log loss.
const CLIP: f64 = 1e-15;

/// The class of a number: a whole one from 0 that a double holds exactly.
fn class(value: f64) -> Option<i64> {
    ((0.0..=9e15).contains(&value) && libm::trunc(value) == value).then_some(value as i64)
}

impl Sums {
    pub(crate) fn new(task: Task) -> Sums {
        match task {
            Task::Regression => Sums::Values(Values::default()),
            Task::Binary | Task::Multiclass => Sums::Classes(Classes {
                binary: task == Task::Binary,
                confusion: BTreeMap::new(),
                log_loss: 0.0,
                scored: 0.0,
                bins: BTreeMap::new(),
            }),
            Task::Clustering => Sums::Clusters(Clusters::default()),
        }
    }

    pub(crate) fn is_of(&self, task: Task) -> bool {
        match self {
            Sums::Values(_) => task == Task::Regression,
            Sums::Classes(classes) => task == if classes.binary { Task::Binary } else { Task::Multiclass },
            Sums::Clusters(_) => task == Task::Clustering,
        }
    }

    /// Adds a row, or says that it cannot be counted.
    pub(crate) fn add(&mut self, row: &Observation, bins: u32) -> bool {
        if !(row.weight > 0.0 && row.weight.is_finite()) {
            return false;
        }
        match self {
            Sums::Values(values) => values.add(row),
            Sums::Classes(classes) => classes.add(row, bins),
            Sums::Clusters(clusters) => clusters.add(row),
        }
    }

    pub(crate) fn merge(&mut self, other: &Sums) {
        match (self, other) {
            (Sums::Values(a), Sums::Values(b)) => {
                a.labels.merge(&b.labels);
                a.squared += b.squared;
                a.absolute += b.absolute;
            }
            (Sums::Classes(a), Sums::Classes(b)) => {
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
            }
            (Sums::Clusters(a), Sums::Clusters(b)) => {
                a.weight += b.weight;
                a.squared += b.squared;
                a.scored += b.scored;
                a.silhouette += b.silhouette;
            }
            // An evaluator's sums are all of its one task.
            _ => {}
        }
    }

    /// Makes all count `factor` times as much.
    pub(crate) fn fade(&mut self, factor: f64) {
        match self {
            Sums::Values(values) => {
                values.labels.fade(factor);
                values.squared *= factor;
                values.absolute *= factor;
            }
            Sums::Classes(classes) => {
                classes.confusion.values_mut().for_each(|weight| *weight *= factor);
                classes.bins.values_mut().flatten().for_each(|weight| *weight *= factor);
                classes.log_loss *= factor;
                classes.scored *= factor;
            }
            Sums::Clusters(clusters) => {
                clusters.weight *= factor;
                clusters.squared *= factor;
                clusters.scored *= factor;
                clusters.silhouette *= factor;
            }
        }
    }

    pub(crate) fn confusion(&self) -> (Vec<i64>, Array2<f64>) {
        let Sums::Classes(sums) = self else { return (Vec::new(), Array2::zeros((0, 0))) };
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
        if let Some(p) = row.score {
            let of_label = if self.binary && label == 0 { 1.0 - p } else { p };
            // `clamp` keeps what is not a number.
            self.log_loss -= row.weight * libm::log(of_label.clamp(CLIP, 1.0 - CLIP));
            self.scored += row.weight;
            if self.binary {
                let bin = ((p * f64::from(bins)) as u32).min(bins - 1);
                self.bins.entry(bin).or_default()[usize::from(label == 1)] += row.weight;
            }
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
        if let Some(second) = row.score {
            let widest = second.max(row.prediction);
            self.scored += row.weight;
            self.silhouette += if widest == 0.0 { 0.0 } else { row.weight * ((second - row.prediction) / widest) };
        }
        true
    }
}
