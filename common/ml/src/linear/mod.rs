//! Linear and logistic regression by gradient descent.
//!
//! In mode `batch` a batch is passed over several times, as in Spark's `GradientDescent.runMiniBatchSGD` (Spark 3.5, and Robbins and
//! Monro, A stochastic approximation method, 1951): every pass adds up the gradients of all rows, split by split, and moves the weights
//! by their mean. In mode `per_record` every row moves the weights once.

mod loss;
mod spec;

use crate::{
    exact, kernel,
    model::Trained,
    random,
    rows::{Row, Table},
};
pub(crate) use loss::{Loss, sigmoid};
use serde::{Deserialize, Serialize};
pub use spec::{LinearSpec, Mode, Regularization, Schedule};

/// What a linear model has learnt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinearState {
    #[serde(with = "exact::list")]
    pub(crate) weights: Vec<f64>,
    #[serde(with = "exact::number", default)]
    pub(crate) intercept: f64,
    /// Updates of the weights since the beginning.
    #[serde(default)]
    pub(crate) updates: u64,
}

impl LinearState {
    pub(crate) fn new(spec: &LinearSpec, dimension: usize) -> LinearState {
        let weights = spec.initial_weights.clone().unwrap_or_else(|| vec![0.0; dimension]);
        LinearState { weights, intercept: spec.initial_intercept, updates: 0 }
    }

    pub(crate) fn finite(&self) -> bool {
        kernel::all_finite(&self.weights) && self.intercept.is_finite()
    }

    /// `w.x + b`
    pub(crate) fn margin(&self, x: &[f64]) -> f64 {
        kernel::dot(&self.weights, x) + self.intercept
    }
}

/// A model at work: its parameters, its loss, and what it has learnt.
pub(crate) struct Learner<'a> {
    pub(crate) spec: &'a LinearSpec,
    pub(crate) loss: Loss,
    pub(crate) state: &'a mut LinearState,
}

/// Sums over rows.
struct Sums {
    gradient: Vec<f64>,
    intercept: f64,
    loss: f64,
    weight: f64,
}

impl Sums {
    fn new(dimension: usize) -> Sums {
        Sums { gradient: vec![0.0; dimension], intercept: 0.0, loss: 0.0, weight: 0.0 }
    }

    fn add(&mut self, other: &Sums) {
        kernel::add_scaled(&mut self.gradient, 1.0, &other.gradient);
        self.intercept += other.intercept;
        self.loss += other.loss;
        self.weight += other.weight;
    }
}

impl Learner<'_> {
    /// A batch, several updates.
    pub(crate) fn batch(&mut self, splits: &[Table<'_>]) -> Trained {
        let mut trained = Trained::default();
        for row in splits.iter().flat_map(Table::rows) {
            trained.count(self.takes(&row));
        }
        if trained.rows == 0 {
            return trained;
        }
        let mut before: Option<LinearState> = None;
        for i in 1..=u64::from(self.spec.iterations) {
            let sums = self.sums(splits, self.spec.sample_seed.wrapping_add(i));
            if sums.weight <= 0.0 {
                continue;
            }
            trained.losses.push(sums.loss / sums.weight + self.penalty());
            self.update(&sums, i);
            trained.updates += 1;
            // The start of the batch is not compared with: at least two updates, as Spark.
            if before.as_ref().is_some_and(|before| self.converged(before)) {
                break;
            }
            before = Some(self.state.clone());
        }
        trained.loss = trained.losses.first().copied();
        trained
    }

    /// One row, one update; gives its loss before.
    pub(crate) fn record(&mut self, row: &Row<'_>) -> Option<f64> {
        if !self.takes(row) {
            return None;
        }
        let mut sums = Sums::new(row.x.len());
        self.accumulate(&mut sums, row);
        // A record's weight scales its step; a mean over one row would cancel it.
        let loss = sums.loss / sums.weight + self.penalty();
        sums.weight = 1.0;
        self.update(&sums, 1);
        Some(loss)
    }

    fn takes(&self, row: &Row<'_>) -> bool {
        row.counts() && self.loss.takes(row.y)
    }

    fn sums(&self, splits: &[Table<'_>], seed: u64) -> Sums {
        let all = self.spec.mini_batch_fraction >= 1.0;
        let mut ordinal = 0;
        let mut total = Sums::new(self.state.weights.len());
        for split in splits {
            let mut sums = Sums::new(self.state.weights.len());
            for row in split.rows() {
                let chosen = all || random::unit(random::keyed(seed, ordinal)) < self.spec.mini_batch_fraction;
                ordinal += 1;
                if chosen && self.takes(&row) {
                    self.accumulate(&mut sums, &row);
                }
            }
            total.add(&sums);
        }
        total
    }

    fn accumulate(&self, sums: &mut Sums, row: &Row<'_>) {
        let (loss, slope) = self.loss.at(self.state.margin(row.x), row.y);
        kernel::add_scaled(&mut sums.gradient, slope * row.weight, row.x);
        sums.intercept += slope * row.weight;
        sums.loss += loss * row.weight;
        sums.weight += row.weight;
    }

    /// Moves the weights against the mean gradient: update `i` of its batch.
    fn update(&mut self, sums: &Sums, i: u64) {
        let (spec, state) = (self.spec, &mut *self.state);
        state.updates += 1;
        let step = spec.step_size * spec.schedule.factor(i, state.updates);
        if spec.regularization == Regularization::L2 {
            let keep = 1.0 - step * spec.reg_param;
            state.weights.iter_mut().for_each(|w| *w *= keep);
        }
        for (w, gradient) in state.weights.iter_mut().zip(&sums.gradient) {
            *w -= step * (gradient / sums.weight);
        }
        if spec.regularization == Regularization::L1 {
            let shrink = step * spec.reg_param;
            state.weights.iter_mut().for_each(|w| *w = soft_threshold(*w, shrink));
        }
        if spec.fit_intercept {
            state.intercept -= step * (sums.intercept / sums.weight);
        }
    }

    /// The regularisation's part of the loss.
    fn penalty(&self) -> f64 {
        let weights = &self.state.weights;
        match self.spec.regularization {
            Regularization::None => 0.0,
            Regularization::L1 => self.spec.reg_param * weights.iter().fold(0.0, |sum, w| sum + w.abs()),
            Regularization::L2 => 0.5 * self.spec.reg_param * kernel::dot(weights, weights),
        }
    }

    fn converged(&self, before: &LinearState) -> bool {
        let (old, new) = (before, &*self.state);
        let intercept = old.intercept - new.intercept;
        let moved = libm::sqrt(kernel::squared_distance(&old.weights, &new.weights) + intercept * intercept);
        let length = libm::sqrt(kernel::dot(&new.weights, &new.weights) + new.intercept * new.intercept);
        moved < self.spec.convergence_tolerance * length.max(1.0)
    }
}

/// `sign(w) * max(0, |w| - shrink)`; what is not a number stays so.
fn soft_threshold(w: f64, shrink: f64) -> f64 {
    if w.abs() <= shrink { 0.0 } else { w - shrink * w.signum() }
}
