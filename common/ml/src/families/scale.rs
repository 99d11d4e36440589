//! Transformers that go feature by feature: scaling, and filling in what is missing.
//!
//! They are models like any other, so a batch is transformed with what was learnt before it, then learnt.

use crate::{
    error::{SpecError, number},
    exact,
    family::{Answers, Family, Learns, OnePass, Sums},
    kernel,
    parameters::{Parameters, parameters},
    partial::Partial,
    report::{Learned, LearnedKind, Shape, Trained},
    rows::Table,
    stats::Moments,
};
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;

parameters! {
    /// `(x - mean) / deviation` of the feature so far (of the rows themselves, not of a sample); 0 while there is no deviation.
    pub struct StandardScalerSpec {
        /// Whether the deviation is divided by. Default true.
        pub with_std: bool = true,
        /// What earlier batches count for after a batch, above 0 and at most 1. Default 1.
        pub decay: f64 = 1.0,
    }
}

parameters! {
    /// `low + (high - low) (x - least) / (most - least)` of the feature so far; `low` while there is no difference. What is outside of what
    /// was seen lands outside.
    pub struct MinMaxScalerSpec {
        /// What the least becomes. Default 0.
        pub low: f64 = 0.0,
        /// What the largest becomes. Default 1.
        pub high: f64 = 1.0,
    }
}

parameters! {
    /// What is not a number becomes `value`, or the mean of the feature so far.
    pub struct ImputerSpec {
        /// What stands in for what is missing. Default: the mean (0 before any number).
        pub value: Option<f64> = None,
    }
}

/// What was seen of a feature.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Feature {
    moments: Moments,
    least: f64,
    most: f64,
}

impl Feature {
    fn add(&mut self, value: f64, weight: f64) {
        self.widen(value, value);
        self.moments.add(value, weight);
    }

    fn merge(&mut self, other: &Feature) {
        if other.moments.n > 0.0 {
            self.widen(other.least, other.most);
            self.moments.merge(&other.moments);
        }
    }

    fn widen(&mut self, least: f64, most: f64) {
        let first = self.moments.n == 0.0;
        self.least = if first { least } else { self.least.min(least) };
        self.most = if first { most } else { self.most.max(most) };
    }
}

/// A step of preparation that goes feature by feature.
pub trait Step: Parameters {
    /// `kind` in definitions.
    const NAME: &'static str;

    /// What is shown of a feature, by name.
    const SHAPE: Shape;

    /// What is shown of a feature, in the order of [`Step::SHAPE`].
    fn shown(seen: &Feature) -> Vec<f64>;

    /// What earlier batches count for after a batch.
    fn decay(&self) -> f64 {
        1.0
    }

    /// Whether the parameters can be.
    ///
    /// # Errors
    /// See [`SpecError`].
    fn validate(&self) -> Result<(), SpecError>;

    /// The prepared value.
    fn value(&self, seen: &Feature, value: f64) -> f64;
}

impl Step for StandardScalerSpec {
    const NAME: &'static str = "standard_scaler";
    const SHAPE: Shape =
        &[("counts", LearnedKind::List), ("means", LearnedKind::List), ("deviations", LearnedKind::List)];

    fn shown(seen: &Feature) -> Vec<f64> {
        let Moments { n, mean, m2 } = seen.moments;
        vec![n, mean, if n > 0.0 { libm::sqrt(m2 / n) } else { 0.0 }]
    }

    fn decay(&self) -> f64 {
        self.decay
    }

    fn validate(&self) -> Result<(), SpecError> {
        number("decay", self.decay, |d| 0.0 < d && d <= 1.0, "use a number above 0 and at most 1")
    }

    fn value(&self, seen: &Feature, value: f64) -> f64 {
        let apart = value - seen.moments.mean;
        let deviation = if self.with_std { libm::sqrt(seen.moments.variance()) } else { 1.0 };
        // Not above 0, or not a number: nothing to scale with. What is missing stays so.
        if deviation > 0.0 { apart / deviation } else { (apart * 0.0).abs() }
    }
}

impl Step for MinMaxScalerSpec {
    const NAME: &'static str = "min_max_scaler";
    const SHAPE: Shape = &[("counts", LearnedKind::List), ("least", LearnedKind::List), ("most", LearnedKind::List)];

    fn shown(seen: &Feature) -> Vec<f64> {
        vec![seen.moments.n, seen.least, seen.most]
    }

    fn validate(&self) -> Result<(), SpecError> {
        number("low", self.low, |_| true, "use a finite number")?;
        number("high", self.high, |high| high > self.low, "use a number above `low`")
    }

    fn value(&self, seen: &Feature, value: f64) -> f64 {
        let Feature { least, most, .. } = seen;
        let share = if most > least { (value - least) / (most - least) } else { (value * 0.0).abs() };
        self.low + (self.high - self.low) * share
    }
}

impl Step for ImputerSpec {
    const NAME: &'static str = "imputer";
    const SHAPE: Shape = &[("counts", LearnedKind::List), ("means", LearnedKind::List)];

    fn shown(seen: &Feature) -> Vec<f64> {
        vec![seen.moments.n, seen.moments.mean]
    }

    fn validate(&self) -> Result<(), SpecError> {
        number("value", self.value.unwrap_or(0.0), |_| true, "use a finite number")
    }

    fn value(&self, seen: &Feature, value: f64) -> f64 {
        if value.is_nan() { self.value.unwrap_or(seen.moments.mean) } else { value }
    }
}

/// A transformer: every feature less its mean, by its deviation.
pub type StandardScaler = Seen<StandardScalerSpec>;

/// A transformer: every feature between two bounds.
pub type MinMaxScaler = Seen<MinMaxScalerSpec>;

/// A transformer: something in place of what is missing.
pub type Imputer = Seen<ImputerSpec>;

/// What was seen of every feature; what is not finite is not looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "", deny_unknown_fields)]
pub struct Seen<S> {
    /// Weight of the numbers of every feature.
    #[serde(with = "exact::list")]
    counts: Vec<f64>,
    #[serde(with = "exact::list")]
    means: Vec<f64>,
    /// Sums of squared deviations.
    #[serde(with = "exact::list")]
    squares: Vec<f64>,
    /// 0 before any number, as is `most`.
    #[serde(with = "exact::list")]
    least: Vec<f64>,
    #[serde(with = "exact::list")]
    most: Vec<f64>,
    #[serde(skip)]
    step: PhantomData<S>,
}

impl<S> Seen<S> {
    fn of(features: &[Feature]) -> Seen<S> {
        let list = |part: fn(&Feature) -> f64| features.iter().map(part).collect();
        Seen {
            counts: list(|feature| feature.moments.n),
            means: list(|feature| feature.moments.mean),
            squares: list(|feature| feature.moments.m2),
            least: list(|feature| feature.least),
            most: list(|feature| feature.most),
            step: PhantomData,
        }
    }

    fn feature(&self, at: usize) -> Feature {
        let moments = Moments { n: self.counts[at], mean: self.means[at], m2: self.squares[at] };
        Feature { moments, least: self.least[at], most: self.most[at] }
    }

    fn seen(&self) -> impl Iterator<Item = Feature> {
        (0..self.counts.len()).map(|at| self.feature(at))
    }

    fn lists(&self) -> [&Vec<f64>; 5] {
        [&self.counts, &self.means, &self.squares, &self.least, &self.most]
    }
}

impl<S: Step> Family for Seen<S> {
    type Spec = S;
    const NAME: &'static str = S::NAME;
    const SHAPE: Shape = S::SHAPE;
    const SUMS: Option<Sums<Self>> = Some(Sums::of());

    fn validate(spec: &S) -> Result<(), SpecError> {
        spec.validate()
    }

    fn answers(_: &S) -> Answers<'_> {
        Answers::Features
    }

    fn learns(_: &S, _: usize) -> Learns {
        Learns::FromSums
    }

    fn new(_: &S, dimension: usize) -> Self {
        Seen::of(&vec![Feature::default(); dimension])
    }

    fn features(&self) -> usize {
        self.counts.len()
    }

    fn finite(&self) -> bool {
        self.lists().into_iter().all(|list| kernel::all_finite(list))
    }

    fn consistent(&self, _: &S) -> bool {
        self.lists().into_iter().all(|list| list.len() == self.counts.len())
    }

    fn transform(&self, spec: &S, x: &[f64]) -> Option<Vec<f64>> {
        Some(self.seen().zip(x).map(|(seen, value)| spec.value(&seen, *value)).collect())
    }

    fn learned(&self) -> Vec<Learned> {
        let shown: Vec<Vec<f64>> = self.seen().map(|seen| S::shown(&seen)).collect();
        (0..S::SHAPE.len()).map(|at| Learned::List(shown.iter().map(|of_feature| of_feature[at]).collect())).collect()
    }
}

/// Sums are what was seen of the rows alone, in the lists of a [`Seen`].
impl<S: Step> OnePass for Seen<S> {
    fn nothing(&self, _: &S) -> Partial {
        Partial::zeros(self.features(), [self.features(); 5])
    }

    fn gather(&self, _: &S, split: &Table<'_>, sums: &mut Partial) {
        let mut features = restored(sums);
        for row in split.rows() {
            if !row.counts() {
                sums.skipped += 1;
                continue;
            }
            sums.rows += 1;
            sums.weight += row.weight;
            let numbers = features.iter_mut().zip(row.x).filter(|(_, value)| value.is_finite());
            numbers.for_each(|(feature, value)| feature.add(*value, row.weight));
        }
        store(&features, sums);
    }

    fn merge(sums: &mut Partial, next: &Partial) {
        let mut features = restored(sums);
        features.iter_mut().zip(&restored(next)).for_each(|(feature, next)| feature.merge(next));
        sums.add_counts(next);
        store(&features, sums);
    }

    fn learn(&mut self, spec: &S, sums: &Partial) -> Trained {
        let mut features: Vec<Feature> = self.seen().collect();
        if sums.rows > 0 {
            features.iter_mut().for_each(|feature| feature.moments.fade(spec.decay()));
        }
        features.iter_mut().zip(&restored(sums)).for_each(|(feature, batch)| feature.merge(batch));
        *self = Seen::of(&features);
        Trained { rows: sums.rows, skipped: sums.skipped, updates: u32::from(sums.rows > 0), ..Trained::default() }
    }
}

fn restored(sums: &Partial) -> Vec<Feature> {
    let of_feature = |at: usize| {
        let [n, mean, m2, least, most] = std::array::from_fn(|list| sums.lists[list][at]);
        Feature { moments: Moments { n, mean, m2 }, least, most }
    };
    (0..sums.dimension).map(of_feature).collect()
}

fn store(features: &[Feature], sums: &mut Partial) {
    sums.lists = Seen::<()>::of(features).lists().map(Vec::clone).to_vec();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Model, ModelError, ModelSpec, Rows};
    use ndarray::{Array2, array, s};

    fn learnt(spec: ModelSpec, x: &Array2<f64>) -> Model {
        let mut model = Model::new(spec).unwrap();
        let rows = |x| Rows { x, y: None, weight: None };
        model.train(&[rows(x.slice(s![..1, ..])), rows(x.slice(s![1.., ..]))]).unwrap();
        assert_eq!(Model::from_bytes(&model.to_bytes()).unwrap(), model);
        assert_eq!(Model::from_json(&model.to_json()).unwrap(), model);
        model
    }

    #[test]
    fn scales() {
        let x = array![[1.0, 5.0], [3.0, 5.0], [f64::NAN, 5.0]];
        let standard = learnt(ModelSpec::of::<StandardScaler>(StandardScalerSpec::default()), &x);
        assert_eq!(standard.transform(array![[4.0, 7.0]].view()).unwrap(), array![[2.0, 0.0]]);
        let range = learnt(ModelSpec::of::<MinMaxScaler>(MinMaxScalerSpec { low: -1.0, high: 1.0 }), &x);
        assert_eq!(range.transform(array![[4.0, 7.0], [1.0, 5.0]].view()).unwrap(), array![[2.0, -1.0], [-1.0, -1.0]]);
        let missing = range.transform(array![[f64::NAN, f64::NAN]].view()).unwrap();
        assert!(missing.iter().all(|value| value.is_nan()));
        let wide = standard.transform(array![[1.0, 2.0, 3.0]].view());
        assert_eq!(wide, Err(ModelError::Dimension { expected: 2, found: 3 }));
    }

    #[test]
    fn fills_in() {
        let x = array![[1.0, 5.0], [3.0, f64::NAN]];
        let mean = learnt(ModelSpec::of::<Imputer>(ImputerSpec::default()), &x);
        let missing = array![[f64::NAN, f64::NAN], [9.0, 8.0]];
        assert_eq!(mean.transform(missing.view()).unwrap(), array![[2.0, 5.0], [9.0, 8.0]]);
        let fixed = learnt(ModelSpec::of::<Imputer>(ImputerSpec { value: Some(-1.0) }), &x);
        assert_eq!(fixed.transform(missing.view()).unwrap()[(0, 0)], -1.0);
        assert_eq!(mean.predict(missing.view()), Err(ModelError::NotGiven { kind: "imputer", what: "predictions" }));
    }

    #[test]
    fn a_batch_is_transformed_with_what_was_before_it() {
        let scaler = Model::new(ModelSpec::of::<StandardScaler>(StandardScalerSpec::default())).unwrap();
        assert_eq!(scaler.transform(array![[4.0], [5.0]].view()).unwrap(), array![[0.0], [0.0]]);
    }

    #[test]
    fn definitions() {
        for (name, spec) in [
            ("high", ModelSpec::of::<MinMaxScaler>(MinMaxScalerSpec { low: 1.0, high: 1.0 })),
            ("decay", ModelSpec::of::<StandardScaler>(StandardScalerSpec { with_std: true, decay: 0.0 })),
            ("value", ModelSpec::of::<Imputer>(ImputerSpec { value: Some(f64::INFINITY) })),
        ] {
            assert_eq!(spec.validate().unwrap_err().parameter, name);
        }
    }
}
