//! Softmax (multinomial logistic) regression: `P(y = c) = exp(m_c) / sum exp(m)`, `m_c = w_c.x + b_c`, by gradient descent on the log loss
//! (Bishop, Pattern recognition and machine learning, 2006, 4.3.4).

use super::linear::{Mode, Schedule};
use crate::{
    classes::{check_classes, class_of, likeliest, normalise, normalised},
    error::{SpecError, at_least_one, number},
    exact,
    family::{Answers, Family, Learns, OnePass, Sums},
    kernel,
    parameters::parameters,
    partial::Partial,
    report::{Learned, LearnedKind, Shape, Trained},
    rows::{Row, Table},
};
use serde::{Deserialize, Serialize};

parameters! {
    /// Parameters of softmax regression.
    pub struct SoftmaxSpec {
        /// Number of classes; labels are 0 to `classes - 1`. Default 2.
        pub classes: u32 = 2,
        /// Step of the first update. Default 0.1.
        pub step_size: f64 = 0.1,
        /// How the step shrinks. Default `per_batch`.
        pub schedule: Schedule = Schedule::PerBatch,
        /// Updates per batch at most, in mode `batch`. Default 50.
        pub iterations: u32 = 50,
        /// As linear regression's. Default 0.001.
        pub convergence_tolerance: f64 = 0.001,
        /// `l2 / 2 * sum w^2` is added to the loss. Default 0.
        pub l2: f64 = 0.0,
        /// Whether a constant per class is learnt. Default true.
        pub fit_intercept: bool = true,
        /// Whether it learns a batch or a record at a time. Default `batch`.
        pub mode: Mode = Mode::Batch,
    }
}

impl SoftmaxSpec {
    fn validate(&self) -> Result<(), SpecError> {
        check_classes(self.classes)?;
        number("step_size", self.step_size, |step| step > 0.0, "use a positive number")?;
        at_least_one("iterations", self.iterations.into())?;
        number("convergence_tolerance", self.convergence_tolerance, |tol| tol >= 0.0, "use 0 or more")?;
        number("l2", self.l2, |l2| l2 >= 0.0, "use 0 or more")
    }
}

/// Several classes, `P(y = c)` in proportion to `exp(w_c.x + b_c)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Softmax {
    /// A list per class.
    #[serde(with = "exact::lists")]
    weights: Vec<Vec<f64>>,
    #[serde(with = "exact::list")]
    intercepts: Vec<f64>,
    #[serde(default)]
    updates: u64,
}

impl Softmax {
    fn margins<'a>(&'a self, x: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
        self.weights.iter().zip(&self.intercepts).map(|(w, b)| kernel::dot(w, x) + b)
    }

    fn proba(&self, x: &[f64]) -> Vec<f64> {
        normalised(self.margins(x).collect())
    }

    fn takes(&self, row: &Row<'_>) -> Option<usize> {
        if row.counts() { class_of(row.y, self.weights.len()) } else { None }
    }

    /// A list per class: the sum of the gradients and, last, the intercept's part.
    fn no_sums(&self) -> Partial {
        let dimension = self.features();
        Partial::zeros(dimension, self.weights.iter().map(|_| dimension + 1))
    }

    fn add_gradients(&self, sums: &mut Partial, split: &Table<'_>) {
        let mut p = Vec::with_capacity(self.weights.len());
        for row in split.rows() {
            let Some(label) = self.takes(&row) else {
                sums.skipped += 1;
                continue;
            };
            p.clear();
            p.extend(self.margins(row.x));
            normalise(&mut p);
            sums.rows += 1;
            sums.loss -= row.weight * libm::log(p[label].clamp(1e-300, 1.0));
            sums.weight += row.weight;
            for (class, (p, list)) in p.iter().zip(&mut sums.lists).enumerate() {
                let slope = row.weight * (p - f64::from(u8::from(class == label)));
                if let Some((intercept, gradient)) = list.split_last_mut() {
                    kernel::add_scaled(gradient, slope, row.x);
                    *intercept += slope;
                }
            }
        }
    }

    fn update(&mut self, spec: &SoftmaxSpec, sums: &Partial, weight: f64, i: u64) {
        self.updates += 1;
        let step = spec.step_size * spec.schedule.factor(i, self.updates);
        for ((w, b), list) in self.weights.iter_mut().zip(&mut self.intercepts).zip(&sums.lists) {
            let Some((intercept, gradient)) = list.split_last() else { continue };
            w.iter_mut().for_each(|w| *w *= 1.0 - step * spec.l2);
            kernel::add_scaled(w, -step / weight, gradient);
            if spec.fit_intercept {
                *b += -step / weight * intercept;
            }
        }
    }

    fn penalty(&self, spec: &SoftmaxSpec) -> f64 {
        if spec.l2 == 0.0 {
            return 0.0;
        }
        0.5 * spec.l2 * self.weights.iter().fold(0.0, |sum, w| sum + kernel::dot(w, w))
    }

    fn converged(&self, before: &Softmax, tolerance: f64) -> bool {
        let pairs = || self.weights.iter().zip(&before.weights).chain([(&self.intercepts, &before.intercepts)]);
        let moved = pairs().fold(0.0, |sum, (a, b)| sum + kernel::squared_distance(a, b));
        let length = pairs().fold(0.0, |sum, (a, _)| sum + kernel::dot(a, a));
        libm::sqrt(moved) < tolerance * libm::sqrt(length).max(1.0)
    }
}

impl Family for Softmax {
    type Spec = SoftmaxSpec;
    const NAME: &'static str = "softmax";
    const SHAPE: Shape =
        &[("weights", LearnedKind::Lists), ("intercepts", LearnedKind::List), ("updates", LearnedKind::Count)];

    const SUMS: Option<Sums<Self>> = Some(Sums::of());

    fn validate(spec: &SoftmaxSpec) -> Result<(), SpecError> {
        spec.validate()
    }

    fn answers(spec: &SoftmaxSpec) -> Answers<'_> {
        Answers::Class { classes: spec.classes as usize }
    }

    fn learns(spec: &SoftmaxSpec, _: usize) -> Learns {
        match spec.mode {
            Mode::PerRecord => Learns::ByRecord,
            Mode::Batch if spec.iterations == 1 => Learns::FromSums,
            Mode::Batch => Learns::FromRows,
        }
    }

    fn new(spec: &SoftmaxSpec, dimension: usize) -> Self {
        let classes = spec.classes as usize;
        Softmax { weights: vec![vec![0.0; dimension]; classes], intercepts: vec![0.0; classes], updates: 0 }
    }

    fn features(&self) -> usize {
        self.weights.first().map_or(0, Vec::len)
    }

    fn finite(&self) -> bool {
        self.weights.iter().all(|w| kernel::all_finite(w)) && kernel::all_finite(&self.intercepts)
    }

    fn consistent(&self, spec: &SoftmaxSpec) -> bool {
        let classes = spec.classes as usize;
        let lists = self.weights.iter().all(|w| w.len() == self.features());
        lists && self.weights.len() == classes && self.intercepts.len() == classes
    }

    fn predict(&self, _: &SoftmaxSpec, x: &[f64]) -> f64 {
        likeliest(&self.proba(x))
    }

    fn probabilities(&self, _: &SoftmaxSpec, x: &[f64]) -> Option<Vec<f64>> {
        Some(self.proba(x))
    }

    fn record(&mut self, spec: &SoftmaxSpec, row: &Row<'_>) -> Option<f64> {
        let mut sums = self.no_sums();
        self.add_gradients(&mut sums, &Table::of_row(row));
        let loss = (sums.rows > 0).then(|| sums.loss / sums.weight + self.penalty(spec))?;
        self.update(spec, &sums, 1.0, 1);
        Some(loss)
    }

    fn batch(&mut self, spec: &SoftmaxSpec, splits: &[Table<'_>]) -> Trained {
        let mut trained = Trained::default();
        let mut before: Option<Softmax> = None;
        for i in 1..=u64::from(spec.iterations) {
            let mut total = self.no_sums();
            for split in splits {
                let mut sums = self.no_sums();
                self.add_gradients(&mut sums, split);
                total.add(&sums);
            }
            (trained.rows, trained.skipped) = (total.rows, total.skipped);
            if total.rows == 0 {
                break;
            }
            trained.losses.push(total.loss / total.weight + self.penalty(spec));
            self.update(spec, &total, total.weight, i);
            trained.updates += 1;
            if before.as_ref().is_some_and(|before| self.converged(before, spec.convergence_tolerance)) {
                break;
            }
            before = Some(self.clone());
        }
        trained.loss = trained.losses.first().copied();
        trained
    }

    fn learned(&self) -> Vec<Learned> {
        vec![Learned::Lists(self.weights.clone()), Learned::List(self.intercepts.clone()), Learned::Count(self.updates)]
    }

    #[cfg(test)]
    fn definitions() -> Vec<serde_json::Value> {
        vec![
            serde_json::json!({ "classes": 3, "iterations": 1 }),
            serde_json::json!({ "classes": 3, "iterations": 4, "l2": 0.1 }),
            serde_json::json!({ "classes": 3, "mode": "per_record" }),
        ]
    }
}

/// Of one update per batch.
impl OnePass for Softmax {
    fn nothing(&self, _: &SoftmaxSpec) -> Partial {
        self.no_sums()
    }

    fn gather(&self, _: &SoftmaxSpec, split: &Table<'_>, sums: &mut Partial) {
        self.add_gradients(sums, split);
    }

    fn learn(&mut self, spec: &SoftmaxSpec, sums: &Partial) -> Trained {
        let trained = sums.trained_once(self.penalty(spec));
        if sums.rows > 0 {
            self.update(spec, sums, sums.weight, 1);
        }
        trained
    }
}
