//! Linear and logistic regression by gradient descent.
//!
//! In mode `batch` a batch is passed over several times, as in Spark's `GradientDescent.runMiniBatchSGD` (Spark 3.5, and Robbins and
//! Monro, A stochastic approximation method, 1951): every pass adds up the gradients of all rows, split by split, and moves the weights
//! by their mean. In mode `per_record` every row moves the weights once.

mod loss;
mod optimizer;
mod spec;

use crate::{
    exact,
    family::{Family, Shape},
    kernel,
    model::{Learned, LearnedKind, Trained},
    random,
    rows::{Row, Table},
};
use loss::Loss;
pub(crate) use loss::sigmoid;
use optimizer::Memory;
pub use optimizer::Optimizer;
use serde::{Deserialize, Serialize};
pub use spec::{LinearSpec, Mode, Regularization, Schedule};

/// What a linear or a logistic regression has learnt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Linear<const LOGISTIC: bool> {
    #[serde(with = "exact::list")]
    weights: Vec<f64>,
    #[serde(with = "exact::number", default)]
    intercept: f64,
    /// Updates of the weights since the beginning.
    #[serde(default)]
    updates: u64,
    /// The intercept's numbers stand behind those of the weights.
    #[serde(default)]
    memory: Memory,
}

impl<const LOGISTIC: bool> Family for Linear<LOGISTIC> {
    type Spec = LinearSpec;
    const SHAPE: Shape =
        &[("weights", LearnedKind::List), ("intercept", LearnedKind::Number), ("updates", LearnedKind::Count)];

    fn new(spec: &LinearSpec, dimension: usize) -> Self {
        let weights = spec.initial_weights.clone().unwrap_or_else(|| vec![0.0; dimension]);
        let memory = Memory::new(&spec.optimizer, weights.len() + 1);
        Linear { weights, intercept: spec.initial_intercept, updates: 0, memory }
    }

    fn fixed_dimension(spec: &LinearSpec) -> Option<usize> {
        spec.initial_weights.as_ref().map(Vec::len)
    }

    fn dimension(&self) -> usize {
        self.weights.len()
    }

    fn finite(&self) -> bool {
        kernel::all_finite(&self.weights) && self.intercept.is_finite()
    }

    fn consistent(&self, spec: &LinearSpec) -> bool {
        self.memory.fits(&spec.optimizer, self.weights.len() + 1)
    }

    fn predict(&self, spec: &LinearSpec, x: &[f64]) -> f64 {
        let margin = self.margin(x);
        if LOGISTIC { f64::from(u8::from(sigmoid(margin) > spec.threshold())) } else { margin }
    }

    fn probabilities(&self, _: &LinearSpec, x: &[f64]) -> Option<Vec<f64>> {
        let p = sigmoid(self.margin(x));
        LOGISTIC.then(|| vec![1.0 - p, p])
    }

    /// One row, one update.
    fn record(&mut self, spec: &LinearSpec, row: &Row<'_>) -> Option<f64> {
        if !Self::takes(row) {
            return None;
        }
        let mut sums = Sums::new(row.x.len());
        self.accumulate(&mut sums, row);
        // A record's weight scales its step; a mean over one row would cancel it.
        let loss = sums.loss / sums.weight + self.penalty(spec);
        sums.weight = 1.0;
        self.update(spec, &sums, 1);
        Some(loss)
    }

    /// A batch, several updates.
    fn batch(&mut self, spec: &LinearSpec, splits: &[Table<'_>]) -> Trained {
        let mut trained = Trained::default();
        splits.iter().flat_map(Table::rows).for_each(|row| trained.count(Self::takes(&row)));
        if trained.rows == 0 {
            return trained;
        }
        let mut before: Option<(Vec<f64>, f64)> = None;
        for i in 1..=u64::from(spec.iterations) {
            let sums = self.sums(splits, spec.mini_batch_fraction, spec.sample_seed.wrapping_add(i));
            if sums.weight <= 0.0 {
                continue;
            }
            trained.losses.push(sums.loss / sums.weight + self.penalty(spec));
            self.update(spec, &sums, i);
            trained.updates += 1;
            // The start of the batch is not compared with: at least two updates, as Spark.
            if before.as_ref().is_some_and(|before| self.converged(before, spec.convergence_tolerance)) {
                break;
            }
            before = Some((self.weights.clone(), self.intercept));
        }
        trained.loss = trained.losses.first().copied();
        trained
    }

    fn learned(&self) -> Vec<Learned> {
        vec![Learned::List(self.weights.clone()), Learned::Number(self.intercept), Learned::Count(self.updates)]
    }
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

impl<const LOGISTIC: bool> Linear<LOGISTIC> {
    const LOSS: Loss = if LOGISTIC { Loss::Logistic } else { Loss::Squared };

    /// `w.x + b`
    fn margin(&self, x: &[f64]) -> f64 {
        kernel::dot(&self.weights, x) + self.intercept
    }

    fn takes(row: &Row<'_>) -> bool {
        row.counts() && Self::LOSS.takes(row.y)
    }

    fn sums(&self, splits: &[Table<'_>], fraction: f64, seed: u64) -> Sums {
        let mut ordinal = 0;
        let mut total = Sums::new(self.weights.len());
        for split in splits {
            let mut sums = Sums::new(self.weights.len());
            for row in split.rows() {
                let chosen = fraction >= 1.0 || random::unit(random::keyed(seed, ordinal)) < fraction;
                ordinal += 1;
                if chosen && Self::takes(&row) {
                    self.accumulate(&mut sums, &row);
                }
            }
            total.add(&sums);
        }
        total
    }

    fn accumulate(&self, sums: &mut Sums, row: &Row<'_>) {
        let (loss, slope) = Self::LOSS.at(self.margin(row.x), row.y);
        kernel::add_scaled(&mut sums.gradient, slope * row.weight, row.x);
        sums.intercept += slope * row.weight;
        sums.loss += loss * row.weight;
        sums.weight += row.weight;
    }

    /// Moves the weights against the mean gradient: update `i` of its batch.
    fn update(&mut self, spec: &LinearSpec, sums: &Sums, i: u64) {
        self.updates += 1;
        let schedule = spec.schedule.factor(i, self.updates);
        // FTRL reads its whole past by one step: it has to stay the same.
        let step = spec.step_size * if matches!(spec.optimizer, Optimizer::Ftrl { .. }) { 1.0 } else { schedule };
        if spec.optimizer == Optimizer::Sgd {
            self.descend(spec, sums, step);
        } else {
            let l2 = if spec.regularization == Regularization::L2 { spec.reg_param } else { 0.0 };
            for (i, (w, sum)) in self.weights.iter_mut().zip(&sums.gradient).enumerate() {
                let gradient = sum / sums.weight + l2 * *w;
                *w = self.memory.moved(&spec.optimizer, i, *w, gradient, step, self.updates);
            }
        }
        let gradient = sums.intercept / sums.weight;
        match spec.intercept_step_size {
            _ if !spec.fit_intercept => {}
            Some(size) => self.intercept -= size * schedule * gradient,
            None => {
                let (last, t) = (self.weights.len(), self.updates);
                self.intercept = self.memory.moved(&spec.optimizer, last, self.intercept, gradient, step, t);
            }
        }
    }

    /// Spark's updaters.
    fn descend(&mut self, spec: &LinearSpec, sums: &Sums, step: f64) {
        if spec.regularization == Regularization::L2 {
            let keep = 1.0 - step * spec.reg_param;
            self.weights.iter_mut().for_each(|w| *w *= keep);
        }
        for (w, gradient) in self.weights.iter_mut().zip(&sums.gradient) {
            *w -= step * (gradient / sums.weight);
        }
        if spec.regularization == Regularization::L1 {
            let shrink = step * spec.reg_param;
            self.weights.iter_mut().for_each(|w| *w = soft_threshold(*w, shrink));
        }
    }

    /// The regularisation's part of the loss.
    fn penalty(&self, spec: &LinearSpec) -> f64 {
        match spec.regularization {
            Regularization::None => 0.0,
            Regularization::L1 => spec.reg_param * self.weights.iter().fold(0.0, |sum, w| sum + w.abs()),
            Regularization::L2 => 0.5 * spec.reg_param * kernel::dot(&self.weights, &self.weights),
        }
    }

    fn converged(&self, (weights, intercept): &(Vec<f64>, f64), tolerance: f64) -> bool {
        let intercept = intercept - self.intercept;
        let moved = libm::sqrt(kernel::squared_distance(weights, &self.weights) + intercept * intercept);
        let length = libm::sqrt(kernel::dot(&self.weights, &self.weights) + self.intercept * self.intercept);
        moved < tolerance * length.max(1.0)
    }
}

/// `sign(w) * max(0, |w| - shrink)`; what is not a number stays so.
fn soft_threshold(w: f64, shrink: f64) -> f64 {
    if w.abs() <= shrink { 0.0 } else { w - shrink * w.signum() }
}
