//! Linear and logistic regression by gradient descent.
//!
//! In mode `batch` a batch is passed over several times, as in Spark's `GradientDescent.runMiniBatchSGD` (Spark 3.5, and Robbins and
//! Monro, A stochastic approximation method, 1951): every pass adds up the gradients of all rows, split by split, and moves the weights
//! by their mean. One pass is enough for one update, and for several on a squared loss (`quadratic`). In mode `per_record` every row
//! moves the weights once.

mod loss;
mod optimizer;
mod quadratic;
mod spec;

use crate::{
    error::SpecError,
    exact,
    family::{Answers, Family, Fixed, Learns, OnePass, Sums},
    kernel,
    partial::Partial,
    random,
    report::{Learned, LearnedKind, Shape, Trained},
    rows::{Row, Table},
};
use loss::Loss;
pub(super) use loss::sigmoid;
use optimizer::Memory;
pub use optimizer::Optimizer;
use serde::{Deserialize, Serialize};
pub use spec::{LinearSpec, Mode, Regularization, Schedule};

/// `y = w.x + b` by stochastic gradient descent on the squared error.
pub type LinearRegression = Linear<false>;

/// `P(y = 1) = 1 / (1 + exp(-(w.x + b)))` by stochastic gradient descent on the log loss.
pub type LogisticRegression = Linear<true>;

/// What a linear or a logistic regression has learnt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear<const LOGISTIC: bool> {
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
    const NAME: &'static str = if LOGISTIC { "logistic_regression" } else { "linear_regression" };
    const SHAPE: Shape =
        &[("weights", LearnedKind::List), ("intercept", LearnedKind::Number), ("updates", LearnedKind::Count)];
    const SUMS: Option<Sums<Self>> = Some(Sums::of());

    fn validate(spec: &LinearSpec) -> Result<(), SpecError> {
        if LOGISTIC { spec.validate_classification() } else { spec.validate_regression() }
    }

    fn answers(_: &LinearSpec) -> Answers<'_> {
        if LOGISTIC { Answers::Class { classes: 2 } } else { Answers::Number }
    }

    fn learns(spec: &LinearSpec, features: usize) -> Learns {
        spec.learns(!LOGISTIC, features)
    }

    fn new(spec: &LinearSpec, dimension: usize) -> Self {
        let weights = spec.initial_weights.clone().unwrap_or_else(|| vec![0.0; dimension]);
        let memory = Memory::new(&spec.optimizer, weights.len() + 1);
        Linear { weights, intercept: spec.initial_intercept, updates: 0, memory }
    }

    fn fixed(spec: &LinearSpec) -> Option<Fixed> {
        let weights = spec.initial_weights.as_ref()?;
        Some(Fixed { parameter: "initial_weights", features: weights.len() })
    }

    fn features(&self) -> usize {
        self.weights.len()
    }

    fn finite(&self) -> bool {
        kernel::all_finite(&self.weights) && self.intercept.is_finite() && self.memory.finite()
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
        let mut sums = self.no_sums(false);
        self.add_gradients(&mut sums, &[*row]);
        let loss = sums.loss / sums.weight + self.penalty(spec);
        // A record's weight scales its step; a mean over one row would cancel it.
        self.update(spec, &sums.lists[quadratic::GRADIENT], 1.0, 1);
        Some(loss)
    }

    /// A batch, several updates, a pass over the rows for each.
    fn batch(&mut self, spec: &LinearSpec, splits: &[Table<'_>]) -> Trained {
        let mut trained = Trained::default();
        splits.iter().flat_map(Table::rows).for_each(|row| trained.count(Self::takes(&row)));
        self.descend(spec, trained, |it, i| {
            let sums = it.sampled(splits, spec.mini_batch_fraction, spec.sample_seed.wrapping_add(i));
            (sums.lists[quadratic::GRADIENT].clone(), sums.loss, sums.weight)
        })
    }

    fn learned(&self) -> Vec<Learned> {
        vec![Learned::List(self.weights.clone()), Learned::Number(self.intercept), Learned::Count(self.updates)]
    }

    #[cfg(test)]
    fn definitions() -> Vec<serde_json::Value> {
        tests::definitions()
    }
}

impl<const LOGISTIC: bool> OnePass for Linear<LOGISTIC> {
    fn nothing(&self, spec: &LinearSpec) -> Partial {
        self.no_sums(spec.iterations > 1)
    }

    fn gather(&self, _: &LinearSpec, split: &Table<'_>, sums: &mut Partial) {
        let rows: Vec<Row<'_>> = split.rows().filter(Self::takes).collect();
        sums.skipped += (split.len() - rows.len()) as u64;
        self.add_gradients(sums, &rows);
        quadratic::add_squares(sums, &rows);
    }

    fn learn(&mut self, spec: &LinearSpec, sums: &Partial) -> Trained {
        let trained = Trained { rows: sums.rows, skipped: sums.skipped, ..Trained::default() };
        let start = self.parameters();
        self.descend(spec, trained, |it, i| {
            // Where the sums were made, whatever the parameters are: what is not a number differs from itself.
            let (gradient, loss) = match i {
                1 => quadratic::unmoved(sums),
                _ => {
                    let mut step = it.parameters();
                    kernel::add_scaled(&mut step, -1.0, &start);
                    quadratic::moved(sums, &step)
                }
            };
            (gradient, loss, sums.weight)
        })
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

    /// Weights, then the intercept.
    fn parameters(&self) -> Vec<f64> {
        self.weights.iter().copied().chain([self.intercept]).collect()
    }

    fn no_sums(&self, several_updates: bool) -> Partial {
        Partial::zeros(self.weights.len(), quadratic::lengths(self.weights.len(), several_updates))
    }

    /// The sums over the rows of an update's sample.
    fn sampled(&self, splits: &[Table<'_>], fraction: f64, seed: u64) -> Partial {
        let mut place = 0;
        let mut total = self.no_sums(false);
        for split in splits {
            let chosen = |row: &Row<'_>| {
                place += 1;
                let chosen = fraction >= 1.0 || random::unit(random::keyed(seed, place - 1)) < fraction;
                chosen && Self::takes(row)
            };
            let rows: Vec<Row<'_>> = split.rows().filter(chosen).collect();
            let mut sums = self.no_sums(false);
            self.add_gradients(&mut sums, &rows);
            total.add(&sums);
        }
        total
    }

    /// Adds gradients and losses of rows that are learnt.
    fn add_gradients(&self, sums: &mut Partial, rows: &[Row<'_>]) {
        let (loss, weight) = (&mut sums.loss, &mut sums.weight);
        let [gradient, ..] = &mut sums.lists[..] else { return };
        let Some((intercept, gradient)) = gradient.split_last_mut() else { return };
        let mut slope = |row: &Row<'_>| {
            let (lost, slope) = Self::LOSS.at(self.margin(row.x), row.y);
            *loss += lost * row.weight;
            *weight += row.weight;
            *intercept += slope * row.weight;
            slope * row.weight
        };
        let mut chunks = rows.chunks_exact(4);
        for chunk in &mut chunks {
            if let [a, b, c, d] = chunk {
                let slopes = [slope(a), slope(b), slope(c), slope(d)];
                kernel::add_scaled_rows(gradient, slopes, [a.x, b.x, c.x, d.x]);
            }
        }
        chunks.remainder().iter().for_each(|row| kernel::add_scaled(gradient, slope(row), row.x));
        sums.rows += rows.len() as u64;
    }

    /// The updates of a batch; `pass` gives gradient, loss and weight, summed over the rows, where the model is now.
    fn descend(
        &mut self,
        spec: &LinearSpec,
        mut trained: Trained,
        pass: impl Fn(&Self, u64) -> (Vec<f64>, f64, f64),
    ) -> Trained {
        let iterations = if trained.rows == 0 { 0 } else { u64::from(spec.iterations) };
        let mut before: Option<Vec<f64>> = None;
        for i in 1..=iterations {
            let (gradient, loss, weight) = pass(self, i);
            if weight <= 0.0 {
                continue;
            }
            trained.losses.push(loss / weight + self.penalty(spec));
            self.update(spec, &gradient, weight, i);
            trained.updates += 1;
            let now = self.parameters();
            // The start of the batch is not compared with: at least two updates, as Spark.
            if before.is_some_and(|before| converged(&before, &now, spec.convergence_tolerance)) {
                break;
            }
            before = Some(now);
        }
        trained.loss = trained.losses.first().copied();
        trained
    }

    /// Moves the weights against the mean gradient, given as a sum with its weight: update `i` of its batch.
    fn update(&mut self, spec: &LinearSpec, gradient: &[f64], weight: f64, i: u64) {
        self.updates += 1;
        let schedule = spec.schedule.factor(i, self.updates);
        // FTRL reads its whole past by one step: it has to stay the same.
        let step = spec.step_size * if matches!(spec.optimizer, Optimizer::Ftrl { .. }) { 1.0 } else { schedule };
        if spec.optimizer == Optimizer::Sgd {
            self.step(spec, gradient, weight, step);
        } else {
            let l2 = if spec.regularization == Regularization::L2 { spec.reg_param } else { 0.0 };
            for (i, (w, sum)) in self.weights.iter_mut().zip(gradient).enumerate() {
                let gradient = sum / weight + l2 * *w;
                *w = self.memory.moved(&spec.optimizer, i, *w, gradient, step, self.updates);
            }
        }
        let last = self.weights.len();
        let gradient = gradient[last] / weight;
        match spec.intercept_step_size {
            _ if !spec.fit_intercept => {}
            Some(size) => self.intercept -= size * schedule * gradient,
            None => {
                let t = self.updates;
                self.intercept = self.memory.moved(&spec.optimizer, last, self.intercept, gradient, step, t);
            }
        }
    }

    /// Spark's updaters.
    fn step(&mut self, spec: &LinearSpec, gradient: &[f64], weight: f64, step: f64) {
        if spec.regularization == Regularization::L2 {
            let keep = 1.0 - step * spec.reg_param;
            self.weights.iter_mut().for_each(|w| *w *= keep);
        }
        for (w, gradient) in self.weights.iter_mut().zip(gradient) {
            *w -= step * (gradient / weight);
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
}

/// Whether the parameters moved by less than the tolerance, relative to their length (at least 1).
fn converged(before: &[f64], now: &[f64], tolerance: f64) -> bool {
    let moved = libm::sqrt(kernel::squared_distance(before, now));
    moved < tolerance * libm::sqrt(kernel::dot(now, now)).max(1.0)
}

/// `sign(w) * max(0, |w| - shrink)`; what is not a number stays so.
fn soft_threshold(w: f64, shrink: f64) -> f64 {
    if w.abs() <= shrink { 0.0 } else { w - shrink * w.signum() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    pub(super) fn definitions() -> Vec<Value> {
        let mut all = vec![
            json!({ "iterations": 1, "fit_intercept": true }),
            json!({ "iterations": 4, "fit_intercept": true }),
            json!({ "iterations": 4, "fit_intercept": true, "mini_batch_fraction": 0.5 }),
            json!({ "mode": "per_record", "fit_intercept": true }),
            json!({ "iterations": 3, "fit_intercept": true, "regularization": "l1", "reg_param": 0.1 }),
            json!({ "iterations": 3, "fit_intercept": true, "regularization": "l2", "reg_param": 0.1, "intercept_step_size": 0.5 }),
            json!({ "iterations": 2, "fit_intercept": true, "step_size": 1e300 }),
        ];
        for optimizer in ["momentum", "adagrad", "rmsprop", "adam", "ftrl"] {
            for mode in ["batch", "per_record"] {
                let optimizer = json!({ "name": optimizer });
                all.push(json!({ "optimizer": optimizer, "mode": mode, "iterations": 1, "fit_intercept": true }));
            }
        }
        all
    }
}
