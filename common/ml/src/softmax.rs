//! Softmax (multinomial logistic) regression: `P(y = c) = exp(m_c) / sum exp(m)`, `m_c = w_c.x + b_c`, by gradient descent on the log loss
//! (Bishop, Pattern recognition and machine learning, 2006, 4.3.4).

use crate::{
    error::{SpecError, at_least_one, number},
    exact,
    family::{Family, Shape},
    kernel,
    linear::{Mode, Schedule},
    model::{Learned, LearnedKind, Trained},
    rows::{Row, Table},
};
use serde::{Deserialize, Serialize};

/// Parameters of softmax regression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SoftmaxSpec {
    /// Number of classes; labels are 0 to `classes - 1`. Default 2.
    pub classes: u32,
    /// Step of the first update. Default 0.1.
    pub step_size: f64,
    /// How the step shrinks. Default `per_batch`.
    pub schedule: Schedule,
    /// Updates per batch at most, in mode `batch`. Default 50.
    pub iterations: u32,
    /// As linear regression's. Default 0.001.
    pub convergence_tolerance: f64,
    /// `l2 / 2 * sum w^2` is added to the loss. Default 0.
    pub l2: f64,
    /// Whether a constant per class is learnt. Default true.
    pub fit_intercept: bool,
    /// Whether it learns a batch or a record at a time. Default `batch`.
    pub mode: Mode,
}

impl Default for SoftmaxSpec {
    fn default() -> Self {
        SoftmaxSpec {
            classes: 2,
            step_size: 0.1,
            schedule: Schedule::PerBatch,
            iterations: 50,
            convergence_tolerance: 0.001,
            l2: 0.0,
            fit_intercept: true,
            mode: Mode::Batch,
        }
    }
}

/// More classes than this are a mistake (labels that are ids, say) and would take memory without bound.
const MOST_CLASSES: u32 = 10_000;

/// A number of classes that can be.
pub(crate) fn check_classes(classes: u32) -> Result<(), SpecError> {
    if (2..=MOST_CLASSES).contains(&classes) {
        return Ok(());
    }
    Err(SpecError::new("classes", format!("is {classes}"), format!("use 2 to {MOST_CLASSES}")))
}

/// The class a label means.
pub(crate) fn class_of(y: f64, classes: usize) -> Option<usize> {
    (y >= 0.0 && y < classes as f64 && libm::trunc(y) == y).then_some(y as usize)
}

/// The first of the most probable.
pub(crate) fn likeliest(values: &[f64]) -> f64 {
    let best = values.iter().enumerate().fold(0, |best, (i, value)| if *value > values[best] { i } else { best });
    best as f64
}

/// `exp(m) / sum exp(m)`, that does not overflow.
pub(crate) fn normalised(mut logs: Vec<f64>) -> Vec<f64> {
    let most = logs.iter().fold(f64::NEG_INFINITY, |most, m| most.max(*m));
    logs.iter_mut().for_each(|m| *m = libm::exp(*m - most));
    let sum = logs.iter().fold(0.0, |sum, p| sum + p);
    logs.iter_mut().for_each(|p| *p /= sum);
    logs
}

impl SoftmaxSpec {
    pub(crate) fn validate(&self) -> Result<(), SpecError> {
        check_classes(self.classes)?;
        number("step_size", self.step_size, |step| step > 0.0, "use a positive number")?;
        at_least_one("iterations", self.iterations.into())?;
        number("convergence_tolerance", self.convergence_tolerance, |tol| tol >= 0.0, "use 0 or more")?;
        number("l2", self.l2, |l2| l2 >= 0.0, "use 0 or more")
    }
}

/// What it has learnt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Softmax {
    /// A list per class.
    #[serde(with = "exact::lists")]
    weights: Vec<Vec<f64>>,
    #[serde(with = "exact::list")]
    intercepts: Vec<f64>,
    #[serde(default)]
    updates: u64,
}

/// Sums over rows.
struct Sums {
    gradients: Vec<Vec<f64>>,
    intercepts: Vec<f64>,
    loss: f64,
    weight: f64,
}

impl Softmax {
    fn proba(&self, x: &[f64]) -> Vec<f64> {
        normalised(self.weights.iter().zip(&self.intercepts).map(|(w, b)| kernel::dot(w, x) + b).collect())
    }

    fn takes(&self, row: &Row<'_>) -> Option<usize> {
        if row.counts() { class_of(row.y, self.weights.len()) } else { None }
    }

    fn nothing(&self) -> Sums {
        let gradients = vec![vec![0.0; self.dimension()]; self.weights.len()];
        Sums { gradients, intercepts: vec![0.0; self.weights.len()], loss: 0.0, weight: 0.0 }
    }

    fn accumulate(&self, sums: &mut Sums, row: &Row<'_>, label: usize) {
        let p = self.proba(row.x);
        sums.loss -= row.weight * libm::log(p[label].clamp(1e-300, 1.0));
        sums.weight += row.weight;
        for (class, p) in p.iter().enumerate() {
            let slope = row.weight * (p - f64::from(u8::from(class == label)));
            kernel::add_scaled(&mut sums.gradients[class], slope, row.x);
            sums.intercepts[class] += slope;
        }
    }

    fn update(&mut self, spec: &SoftmaxSpec, sums: &Sums, weight: f64, i: u64) {
        self.updates += 1;
        let step = spec.step_size * spec.schedule.factor(i, self.updates);
        for (w, gradient) in self.weights.iter_mut().zip(&sums.gradients) {
            w.iter_mut().for_each(|w| *w *= 1.0 - step * spec.l2);
            kernel::add_scaled(w, -step / weight, gradient);
        }
        if spec.fit_intercept {
            kernel::add_scaled(&mut self.intercepts, -step / weight, &sums.intercepts);
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
    const SHAPE: Shape =
        &[("weights", LearnedKind::Lists), ("intercepts", LearnedKind::List), ("updates", LearnedKind::Count)];

    fn new(spec: &SoftmaxSpec, dimension: usize) -> Self {
        let classes = spec.classes as usize;
        Softmax { weights: vec![vec![0.0; dimension]; classes], intercepts: vec![0.0; classes], updates: 0 }
    }

    fn dimension(&self) -> usize {
        self.weights.first().map_or(0, Vec::len)
    }

    fn finite(&self) -> bool {
        self.weights.iter().all(|w| kernel::all_finite(w)) && kernel::all_finite(&self.intercepts)
    }

    fn consistent(&self, spec: &SoftmaxSpec) -> bool {
        let classes = spec.classes as usize;
        let lists = self.weights.iter().all(|w| w.len() == self.dimension());
        lists && self.weights.len() == classes && self.intercepts.len() == classes
    }

    fn predict(&self, _: &SoftmaxSpec, x: &[f64]) -> f64 {
        likeliest(&self.proba(x))
    }

    fn probabilities(&self, _: &SoftmaxSpec, x: &[f64]) -> Option<Vec<f64>> {
        Some(self.proba(x))
    }

    fn record(&mut self, spec: &SoftmaxSpec, row: &Row<'_>) -> Option<f64> {
        let label = self.takes(row)?;
        let mut sums = self.nothing();
        self.accumulate(&mut sums, row, label);
        let loss = sums.loss / sums.weight + self.penalty(spec);
        self.update(spec, &sums, 1.0, 1);
        Some(loss)
    }

    fn batch(&mut self, spec: &SoftmaxSpec, splits: &[Table<'_>]) -> Trained {
        let mut trained = Trained::default();
        splits.iter().flat_map(Table::rows).for_each(|row| trained.count(self.takes(&row).is_some()));
        if trained.rows == 0 {
            return trained;
        }
        let mut before: Option<Softmax> = None;
        for i in 1..=u64::from(spec.iterations) {
            let mut total = self.nothing();
            for split in splits {
                let mut sums = self.nothing();
                for row in split.rows() {
                    if let Some(label) = self.takes(&row) {
                        self.accumulate(&mut sums, &row, label);
                    }
                }
                total.gradients.iter_mut().zip(&sums.gradients).for_each(|(a, b)| kernel::add_scaled(a, 1.0, b));
                kernel::add_scaled(&mut total.intercepts, 1.0, &sums.intercepts);
                total.loss += sums.loss;
                total.weight += sums.weight;
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
}
