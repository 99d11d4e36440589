//! Naive Bayes: `P(y = c | x)` in proportion to `P(c) * product of P(x_j | c)` (Manning, Raghavan, Schütze, Introduction to information
//! retrieval, 2008, chapter 13). What is learnt are sums, so a batch is learnt in one go and the order of its rows does not matter.

use super::linear::Mode;
use crate::{
    classes::{check_classes, class_of, likeliest, normalised},
    error::{SpecError, number},
    exact,
    family::{Answers, Family, Learns, OnePass, Sums},
    kernel,
    parameters::parameters,
    partial::Partial,
    report::{Learned, LearnedKind, Shape, Trained},
    rows::{Row, Table},
    stats::Moments,
};
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

parameters! {
    /// Parameters of naive Bayes with normal features.
    pub struct GaussianNaiveBayesSpec {
        /// Number of classes; labels are 0 to `classes - 1`. Default 2.
        pub classes: u32 = 2,
        /// Is added to every density, so that a single feature far off does not decide alone. Default 1e-9, as River.
        pub floor: f64 = 1e-9,
        /// Whether it learns a batch or a record at a time. Default `batch`.
        pub mode: Mode = Mode::Batch,
    }
}

impl GaussianNaiveBayesSpec {
    fn validate(&self) -> Result<(), SpecError> {
        check_classes(self.classes)?;
        number("floor", self.floor, |floor| floor > 0.0, "use a small positive number")
    }
}

parameters! {
    /// Parameters of naive Bayes with counts as features.
    pub struct MultinomialNaiveBayesSpec {
        /// Number of classes; labels are 0 to `classes - 1`. Default 2.
        pub classes: u32 = 2,
        /// Is added to every count. Default 1 (Laplace).
        pub alpha: f64 = 1.0,
        /// Whether it learns a batch or a record at a time. Default `batch`.
        pub mode: Mode = Mode::Batch,
    }
}

impl MultinomialNaiveBayesSpec {
    fn validate(&self) -> Result<(), SpecError> {
        check_classes(self.classes)?;
        number("alpha", self.alpha, |alpha| alpha > 0.0, "use a positive number")
    }
}

/// `ln(count / sum of counts) + of(class)`, normalised; as likely each before any row.
fn posterior(counts: &[f64], of: impl Fn(usize) -> f64) -> Vec<f64> {
    let total = counts.iter().fold(0.0, |sum, count| sum + count);
    if total == 0.0 {
        return vec![1.0 / counts.len() as f64; counts.len()];
    }
    let log = |(class, count): (usize, &f64)| {
        if *count > 0.0 { libm::log(count / total) + of(class) } else { f64::NEG_INFINITY }
    };
    normalised(counts.iter().enumerate().map(log).collect())
}

/// Sums of rows are the sums of their parts.
fn learns(mode: Mode) -> Learns {
    match mode {
        Mode::Batch => Learns::FromSums,
        Mode::PerRecord => Learns::ByRecord,
    }
}

#[cfg(test)]
fn definitions() -> Vec<serde_json::Value> {
    ["batch", "per_record"].map(|mode| serde_json::json!({ "classes": 3, "mode": mode })).into()
}

/// Walks over the rows of a split that are learnt, with their labels, and adds what all families have.
fn each_row(
    sums: &mut Partial,
    split: &Table<'_>,
    takes: impl Fn(&Row<'_>) -> Option<usize>,
    probabilities: impl Fn(&[f64]) -> Option<Vec<f64>>,
    mut add: impl FnMut(&Row<'_>, usize),
) {
    for row in split.rows() {
        let Some(label) = takes(&row) else {
            sums.skipped += 1;
            continue;
        };
        sums.rows += 1;
        sums.weight += row.weight;
        sums.loss += row.weight * log_loss(probabilities(row.x), label);
        add(&row, label);
    }
}

fn log_loss(p: Option<Vec<f64>>, label: usize) -> f64 {
    -libm::log(p.map_or(f64::NAN, |p| p[label]).clamp(1e-15, 1.0))
}

/// Several classes, every feature normal within a class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GaussianNaiveBayes {
    /// Weight of the rows of every class.
    #[serde(with = "exact::list")]
    counts: Vec<f64>,
    /// Means, a list per class.
    #[serde(with = "exact::lists")]
    means: Vec<Vec<f64>>,
    /// Sums of squared deviations from the means, likewise.
    #[serde(with = "exact::lists")]
    squares: Vec<Vec<f64>>,
}

impl GaussianNaiveBayes {
    fn takes(&self, row: &Row<'_>) -> Option<usize> {
        if row.counts() { class_of(row.y, self.counts.len()) } else { None }
    }

    fn of_feature(&self, class: usize, feature: usize) -> Moments {
        Moments { n: self.counts[class], mean: self.means[class][feature], m2: self.squares[class][feature] }
    }

    fn change(&mut self, class: usize, n: f64, change: impl Fn(usize, &mut Moments)) {
        for feature in 0..self.means[class].len() {
            let mut moments = self.of_feature(class, feature);
            change(feature, &mut moments);
            self.means[class][feature] = moments.mean;
            self.squares[class][feature] = moments.m2;
        }
        self.counts[class] += n;
    }

    fn add(&mut self, row: &Row<'_>, label: usize) {
        self.change(label, row.weight, |feature, moments| moments.add(row.x[feature], row.weight));
    }

    fn merge(&mut self, other: &GaussianNaiveBayes) {
        for class in 0..self.counts.len() {
            self.change(class, other.counts[class], |feature, m| m.merge(&other.of_feature(class, feature)));
        }
    }

    /// `ln(floor + density)` with the variance of the rows themselves; without a variance the density is 0, as River.
    fn log_density(&self, spec: &GaussianNaiveBayesSpec, class: usize, feature: usize, x: f64) -> f64 {
        let moments = self.of_feature(class, feature);
        let variance = moments.variance();
        if variance <= 0.0 {
            return libm::log(spec.floor);
        }
        let apart = x - moments.mean;
        libm::log(spec.floor + libm::exp(-apart * apart / (2.0 * variance)) / libm::sqrt(TAU * variance))
    }

    fn proba(&self, spec: &GaussianNaiveBayesSpec, x: &[f64]) -> Vec<f64> {
        posterior(&self.counts, |class| {
            x.iter().enumerate().fold(0.0, |sum, (feature, x)| sum + self.log_density(spec, class, feature, *x))
        })
    }
}

impl Family for GaussianNaiveBayes {
    type Spec = GaussianNaiveBayesSpec;
    const NAME: &'static str = "gaussian_naive_bayes";
    const SHAPE: Shape =
        &[("counts", LearnedKind::List), ("means", LearnedKind::Lists), ("variances", LearnedKind::Lists)];

    const SUMS: Option<Sums<Self>> = Some(Sums::of());

    fn validate(spec: &GaussianNaiveBayesSpec) -> Result<(), SpecError> {
        spec.validate()
    }

    fn answers(spec: &GaussianNaiveBayesSpec) -> Answers<'_> {
        Answers::Class { classes: spec.classes as usize }
    }

    fn learns(spec: &GaussianNaiveBayesSpec, _: usize) -> Learns {
        learns(spec.mode)
    }

    fn new(spec: &GaussianNaiveBayesSpec, dimension: usize) -> Self {
        let lists = vec![vec![0.0; dimension]; spec.classes as usize];
        GaussianNaiveBayes { counts: vec![0.0; spec.classes as usize], means: lists.clone(), squares: lists }
    }

    fn features(&self) -> usize {
        self.means.first().map_or(0, Vec::len)
    }

    fn finite(&self) -> bool {
        [&self.counts].into_iter().chain(&self.means).chain(&self.squares).all(|list| kernel::all_finite(list))
    }

    fn consistent(&self, spec: &GaussianNaiveBayesSpec) -> bool {
        let lists = |lists: &Vec<Vec<f64>>| {
            lists.len() == self.counts.len() && lists.iter().all(|l| l.len() == self.features())
        };
        self.counts.len() == spec.classes as usize && lists(&self.means) && lists(&self.squares)
    }

    fn predict(&self, spec: &GaussianNaiveBayesSpec, x: &[f64]) -> f64 {
        likeliest(&self.proba(spec, x))
    }

    fn probabilities(&self, spec: &GaussianNaiveBayesSpec, x: &[f64]) -> Option<Vec<f64>> {
        Some(self.proba(spec, x))
    }

    fn record(&mut self, spec: &GaussianNaiveBayesSpec, row: &Row<'_>) -> Option<f64> {
        let label = self.takes(row)?;
        let loss = log_loss(self.probabilities(spec, row.x), label);
        self.add(row, label);
        Some(loss)
    }

    fn learned(&self) -> Vec<Learned> {
        // A class without rows shows 0.
        let variance =
            |class: usize, feature: usize| self.squares[class][feature] / self.counts[class].max(f64::MIN_POSITIVE);
        let of_class = |class| (0..self.features()).map(|feature| variance(class, feature)).collect();
        vec![
            Learned::List(self.counts.clone()),
            Learned::Lists(self.means.clone()),
            Learned::Lists((0..self.counts.len()).map(of_class).collect()),
        ]
    }

    #[cfg(test)]
    fn definitions() -> Vec<serde_json::Value> {
        definitions()
    }
}

/// Sums are a model of their rows alone: a list of counts, then the means, then the squares of every class.
impl OnePass for GaussianNaiveBayes {
    fn nothing(&self, spec: &GaussianNaiveBayesSpec) -> Partial {
        GaussianNaiveBayes::new(spec, self.features()).stored(Partial::default())
    }

    fn gather(&self, spec: &GaussianNaiveBayesSpec, split: &Table<'_>, sums: &mut Partial) {
        let mut rows = GaussianNaiveBayes::restored(sums);
        let probabilities = |x: &[f64]| self.probabilities(spec, x);
        each_row(sums, split, |row| self.takes(row), probabilities, |row, label| rows.add(row, label));
        *sums = rows.stored(std::mem::take(sums));
    }

    fn merge(sums: &mut Partial, next: &Partial) {
        let mut rows = GaussianNaiveBayes::restored(sums);
        rows.merge(&GaussianNaiveBayes::restored(next));
        sums.add_counts(next);
        *sums = rows.stored(std::mem::take(sums));
    }

    fn learn(&mut self, _: &GaussianNaiveBayesSpec, sums: &Partial) -> Trained {
        self.merge(&GaussianNaiveBayes::restored(sums));
        sums.trained_once(0.0)
    }
}

impl GaussianNaiveBayes {
    /// As lists.
    fn stored(self, sums: Partial) -> Partial {
        let dimension = self.features();
        let lists = [self.counts].into_iter().chain(self.means).chain(self.squares).collect();
        Partial { dimension, lists, ..sums }
    }

    /// From lists.
    fn restored(sums: &Partial) -> GaussianNaiveBayes {
        let (counts, lists) =
            sums.lists.split_first().map(|(counts, lists)| (counts.clone(), lists)).unwrap_or_default();
        let (means, squares) = lists.split_at(counts.len().min(lists.len()));
        GaussianNaiveBayes { counts, means: means.to_vec(), squares: squares.to_vec() }
    }
}

/// Several classes, features that are counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultinomialNaiveBayes {
    /// Weight of the rows of every class.
    #[serde(with = "exact::list")]
    counts: Vec<f64>,
    /// Sums of the features, a list per class.
    #[serde(with = "exact::lists")]
    sums: Vec<Vec<f64>>,
}

impl MultinomialNaiveBayes {
    /// Counts are not negative.
    fn takes(&self, row: &Row<'_>) -> Option<usize> {
        if row.counts() && row.x.iter().all(|x| *x >= 0.0) { class_of(row.y, self.counts.len()) } else { None }
    }

    fn add(&mut self, row: &Row<'_>, label: usize) {
        kernel::add_scaled(&mut self.sums[label], row.weight, row.x);
        self.counts[label] += row.weight;
    }

    fn proba(&self, spec: &MultinomialNaiveBayesSpec, x: &[f64]) -> Vec<f64> {
        posterior(&self.counts, |class| {
            let sums = &self.sums[class];
            let total = sums.iter().fold(0.0, |sum, count| sum + count) + spec.alpha * sums.len() as f64;
            x.iter().zip(sums).fold(0.0, |sum, (x, count)| sum + x * libm::log((count + spec.alpha) / total))
        })
    }
}

impl Family for MultinomialNaiveBayes {
    type Spec = MultinomialNaiveBayesSpec;
    const NAME: &'static str = "multinomial_naive_bayes";
    const SHAPE: Shape = &[("counts", LearnedKind::List), ("sums", LearnedKind::Lists)];

    const SUMS: Option<Sums<Self>> = Some(Sums::of());

    fn validate(spec: &MultinomialNaiveBayesSpec) -> Result<(), SpecError> {
        spec.validate()
    }

    fn answers(spec: &MultinomialNaiveBayesSpec) -> Answers<'_> {
        Answers::Class { classes: spec.classes as usize }
    }

    fn learns(spec: &MultinomialNaiveBayesSpec, _: usize) -> Learns {
        learns(spec.mode)
    }

    fn new(spec: &MultinomialNaiveBayesSpec, dimension: usize) -> Self {
        let classes = spec.classes as usize;
        MultinomialNaiveBayes { counts: vec![0.0; classes], sums: vec![vec![0.0; dimension]; classes] }
    }

    fn features(&self) -> usize {
        self.sums.first().map_or(0, Vec::len)
    }

    fn finite(&self) -> bool {
        [&self.counts].into_iter().chain(&self.sums).all(|list| kernel::all_finite(list))
    }

    fn consistent(&self, spec: &MultinomialNaiveBayesSpec) -> bool {
        let classes = spec.classes as usize;
        let lists = self.sums.iter().all(|list| list.len() == self.features());
        lists && self.counts.len() == classes && self.sums.len() == classes
    }

    fn predict(&self, spec: &MultinomialNaiveBayesSpec, x: &[f64]) -> f64 {
        likeliest(&self.proba(spec, x))
    }

    fn probabilities(&self, spec: &MultinomialNaiveBayesSpec, x: &[f64]) -> Option<Vec<f64>> {
        Some(self.proba(spec, x))
    }

    fn record(&mut self, spec: &MultinomialNaiveBayesSpec, row: &Row<'_>) -> Option<f64> {
        let label = self.takes(row)?;
        let loss = log_loss(self.probabilities(spec, row.x), label);
        self.add(row, label);
        Some(loss)
    }

    fn learned(&self) -> Vec<Learned> {
        vec![Learned::List(self.counts.clone()), Learned::Lists(self.sums.clone())]
    }

    #[cfg(test)]
    fn definitions() -> Vec<serde_json::Value> {
        definitions()
    }
}

/// A list per class: the sums of its rows and, last, their weight.
impl OnePass for MultinomialNaiveBayes {
    fn nothing(&self, _: &MultinomialNaiveBayesSpec) -> Partial {
        let dimension = self.features();
        Partial::zeros(dimension, self.sums.iter().map(|_| dimension + 1))
    }

    fn gather(&self, spec: &MultinomialNaiveBayesSpec, split: &Table<'_>, sums: &mut Partial) {
        let mut lists = std::mem::take(&mut sums.lists);
        let probabilities = |x: &[f64]| self.probabilities(spec, x);
        each_row(
            sums,
            split,
            |row| self.takes(row),
            probabilities,
            |row, label| {
                if let Some((count, list)) = lists[label].split_last_mut() {
                    kernel::add_scaled(list, row.weight, row.x);
                    *count += row.weight;
                }
            },
        );
        sums.lists = lists;
    }

    fn learn(&mut self, _: &MultinomialNaiveBayesSpec, sums: &Partial) -> Trained {
        for ((count, of_class), list) in self.counts.iter_mut().zip(&mut self.sums).zip(&sums.lists) {
            if let Some((n, list)) = list.split_last() {
                kernel::add_scaled(of_class, 1.0, list);
                *count += n;
            }
        }
        sums.trained_once(0.0)
    }
}
