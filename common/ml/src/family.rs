//! What every family of models does, and the states of all families.

use crate::{
    bandit::{Arms, EpsilonGreedySpec, LinUcbSpec, ThompsonSamplingSpec, Ucb1Spec},
    bayes::{Gaussian, Multinomial},
    error::ModelError,
    kmeans::KMeansState,
    linear::Linear,
    model::{Counters, Learned, LearnedKind, Trained},
    partial::Partial,
    passive::PassiveAggressive,
    prepare::{Categories, ImputerSpec, MinMaxScalerSpec, Seen, StandardScalerSpec},
    rls::Rls,
    rows::{Row, Table},
    softmax::Softmax,
    spec::ModelSpec,
    tree::HoeffdingTree,
};
use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

/// Names and kinds of what a family has learnt.
pub(crate) type Shape = &'static [(&'static str, LearnedKind)];

/// What a model of a family has learnt, and how it learns on. The number of features of rows is checked by the caller.
pub(crate) trait Family: Sized {
    /// Its parameters.
    type Spec;

    /// What [`Family::learned`] gives.
    const SHAPE: Shape;

    /// Before any data.
    fn new(spec: &Self::Spec, dimension: usize) -> Self;

    /// Number of features, if the parameters fix it.
    fn fixed_dimension(_: &Self::Spec) -> Option<usize> {
        None
    }

    /// Number of features.
    fn dimension(&self) -> usize;

    /// Whether all parameters are finite.
    fn finite(&self) -> bool;

    /// Whether all lists have the lengths they must have; for what was stored elsewhere.
    fn consistent(&self, spec: &Self::Spec) -> bool;

    /// Value, class or index of the nearest centre. Not a number for what predicts nothing ([`ModelSpec::predicts`]).
    fn predict(&self, _: &Self::Spec, _: &[f64]) -> f64 {
        f64::NAN
    }

    /// Probability of every class; None if it is no classifier.
    fn probabilities(&self, _: &Self::Spec, _: &[f64]) -> Option<Vec<f64>> {
        None
    }

    /// The features of a row made fit for other models; None if it is no transformer of numbers.
    fn transform(&self, _: &Self::Spec, _: &[f64]) -> Option<Vec<f64>> {
        None
    }

    /// The place of an arm for every row of these ids and contexts (rows x context); None if it is no bandit.
    fn choose(&self, _: &Self::Spec, _: &Counters, _ids: &[u64], _context: &ArrayView2<'_, f64>) -> Option<Vec<usize>> {
        None
    }

    /// Learns a row; gives its loss before, or None if the row is not one to learn.
    fn record(&mut self, spec: &Self::Spec, row: &Row<'_>) -> Option<f64>;

    /// Learns a batch; row after row if the family knows no better.
    fn batch(&mut self, spec: &Self::Spec, splits: &[Table<'_>]) -> Trained {
        Trained::of_records(splits.iter().flat_map(Table::rows), |row| self.record(spec, row))
    }

    /// What it has learnt.
    fn learned(&self) -> Vec<Learned>;
}

/// A family that learns a batch, or some batches ([`ModelSpec::one_pass`]), from sums over its rows.
pub(crate) trait OnePass: Family {
    /// The sums over no rows.
    fn nothing(&self, spec: &Self::Spec) -> Partial;

    /// Adds the rows of a split to sums.
    fn gather(&self, spec: &Self::Spec, split: &Table<'_>, sums: &mut Partial);

    /// Adds the sums of the next split to those before it.
    fn merge(sums: &mut Partial, next: &Partial) {
        sums.add(next);
    }

    /// Learns a batch of these sums, which were gathered by `self`.
    fn learn(&mut self, spec: &Self::Spec, sums: &Partial) -> Trained;
}

/// The sums of one split.
fn partial<T: OnePass>(state: &T, spec: &T::Spec, split: &Table<'_>) -> Partial {
    let mut sums = state.nothing(spec);
    state.gather(spec, split, &mut sums);
    sums
}

/// One batch from the sums of its splits.
fn apply<T: OnePass>(state: &mut T, spec: &T::Spec, partials: &[Partial]) -> Result<Trained, ModelError> {
    let sums = state.nothing(spec).total(partials, T::merge)?;
    Ok(state.learn(spec, &sums))
}

/// What a model has learnt; the variants are those of [`ModelSpec`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    LinearRegression(Linear<false>),
    LogisticRegression(Linear<true>),
    #[serde(rename = "kmeans")]
    KMeans(KMeansState),
    PassiveAggressiveRegressor(PassiveAggressive<false>),
    PassiveAggressiveClassifier(PassiveAggressive<true>),
    RecursiveLeastSquares(Rls),
    Softmax(Softmax),
    GaussianNaiveBayes(Gaussian),
    MultinomialNaiveBayes(Multinomial),
    HoeffdingTree(HoeffdingTree),
    StandardScaler(Seen<StandardScalerSpec>),
    MinMaxScaler(Seen<MinMaxScalerSpec>),
    Imputer(Seen<ImputerSpec>),
    OneHot(Categories),
    EpsilonGreedy(Arms<EpsilonGreedySpec>),
    Ucb1(Arms<Ucb1Spec>),
    ThompsonSampling(Arms<ThompsonSamplingSpec>),
    LinUcb(Arms<LinUcbSpec>),
}

/// `$body` with the parameters `$s` and the state `$t` of the family that both are of. A state is made of its definition, and one that
/// was stored is checked against it ([`State::check`]).
macro_rules! paired {
    ($spec:expr, $state:expr, |$s:ident, $t:ident| $body:expr) => {
        paired!(@ $spec, $state, $s, $t, $body, LinearRegression, LogisticRegression, KMeans, PassiveAggressiveRegressor,
            PassiveAggressiveClassifier, RecursiveLeastSquares, Softmax, GaussianNaiveBayes, MultinomialNaiveBayes, HoeffdingTree,
            StandardScaler, MinMaxScaler, Imputer, OneHot, EpsilonGreedy, Ucb1, ThompsonSampling, LinUcb)
    };
    (@ $spec:expr, $state:expr, $s:ident, $t:ident, $body:expr, $($family:ident),*) => {
        match ($spec, $state) {
            $((ModelSpec::$family($s), State::$family($t)) => $body,)*
            _ => unreachable!("a state is one of its definition's family"),
        }
    };
}

/// As [`paired`], for the families that may learn in one pass; None for the others.
macro_rules! summed {
    ($spec:expr, $state:expr, |$s:ident, $t:ident| $body:expr) => {
        summed!(@ $spec, $state, $s, $t, $body, LinearRegression, LogisticRegression, KMeans, Softmax, GaussianNaiveBayes,
            MultinomialNaiveBayes, StandardScaler, MinMaxScaler, Imputer, OneHot, EpsilonGreedy, Ucb1, ThompsonSampling, LinUcb)
    };
    (@ $spec:expr, $state:expr, $s:ident, $t:ident, $body:expr, $($family:ident),*) => {
        match ($spec, $state) {
            $((ModelSpec::$family($s), State::$family($t)) => Some($body),)*
            _ => None,
        }
    };
}

/// `$body` with the parameters `$s` and the type of state `$T` of a definition's family, and the variant to make of it.
macro_rules! by_family {
    ($spec:expr, |$s:ident, $T:ident, $wrap:ident| $body:expr) => {
        by_family!(@ $spec, $s, $T, $wrap, $body, LinearRegression: Linear<false>, LogisticRegression: Linear<true>,
            KMeans: KMeansState, PassiveAggressiveRegressor: PassiveAggressive<false>,
            PassiveAggressiveClassifier: PassiveAggressive<true>, RecursiveLeastSquares: Rls, Softmax: Softmax,
            GaussianNaiveBayes: Gaussian, MultinomialNaiveBayes: Multinomial, HoeffdingTree: HoeffdingTree,
            StandardScaler: Seen<StandardScalerSpec>, MinMaxScaler: Seen<MinMaxScalerSpec>, Imputer: Seen<ImputerSpec>,
            OneHot: Categories, EpsilonGreedy: Arms<EpsilonGreedySpec>, Ucb1: Arms<Ucb1Spec>,
            ThompsonSampling: Arms<ThompsonSamplingSpec>, LinUcb: Arms<LinUcbSpec>)
    };
    (@ $spec:expr, $s:ident, $T:ident, $wrap:ident, $body:expr, $($family:ident: $state:ty),*) => {
        match $spec {
            $(ModelSpec::$family($s) => {
                type $T = $state;
                #[allow(unused_variables, reason = "not every body makes a state")]
                let $wrap = State::$family;
                $body
            })*
        }
    };
}

impl State {
    pub(crate) fn new(spec: &ModelSpec, dimension: usize) -> State {
        by_family!(spec, |s, T, wrap| wrap(T::new(s, dimension)))
    }

    /// Number of features that a definition fixes.
    pub(crate) fn fixed_dimension(spec: &ModelSpec) -> Option<usize> {
        by_family!(spec, |s, T, wrap| T::fixed_dimension(s))
    }

    pub(crate) fn shape(spec: &ModelSpec) -> Shape {
        by_family!(spec, |_s, T, wrap| T::SHAPE)
    }

    pub(crate) fn dimension(&self, spec: &ModelSpec) -> usize {
        paired!(spec, self, |_s, t| t.dimension())
    }

    pub(crate) fn finite(&self, spec: &ModelSpec) -> bool {
        paired!(spec, self, |_s, t| t.finite())
    }

    pub(crate) fn predict(&self, spec: &ModelSpec, x: &[f64]) -> f64 {
        paired!(spec, self, |s, t| t.predict(s, x))
    }

    pub(crate) fn probabilities(&self, spec: &ModelSpec, x: &[f64]) -> Option<Vec<f64>> {
        paired!(spec, self, |s, t| t.probabilities(s, x))
    }

    pub(crate) fn transform(&self, spec: &ModelSpec, x: &[f64]) -> Option<Vec<f64>> {
        paired!(spec, self, |s, t| t.transform(s, x))
    }

    pub(crate) fn choose(
        &self,
        spec: &ModelSpec,
        seen: &Counters,
        ids: &[u64],
        context: &ArrayView2<'_, f64>,
    ) -> Option<Vec<usize>> {
        paired!(spec, self, |s, t| t.choose(s, seen, ids, context))
    }

    pub(crate) fn record(&mut self, spec: &ModelSpec, row: &Row<'_>) -> Option<f64> {
        paired!(spec, self, |s, t| t.record(s, row))
    }

    /// Learns a batch. An error only for sums that are not of this model.
    pub(crate) fn batch(&mut self, spec: &ModelSpec, splits: &[Table<'_>]) -> Result<Trained, ModelError> {
        if spec.per_record() {
            return Ok(Trained::of_records(splits.iter().flat_map(Table::rows), |row| self.record(spec, row)));
        }
        if spec.one_pass(self.dimension(spec)) {
            let partials: Option<Vec<_>> = splits.iter().map(|split| self.partial(spec, split)).collect();
            return self.apply(spec, &partials.unwrap_or_default());
        }
        Ok(paired!(spec, self, |s, t| t.batch(s, splits)))
    }

    /// What a split adds to a batch; None if the family never learns in one pass.
    pub(crate) fn partial(&self, spec: &ModelSpec, split: &Table<'_>) -> Option<Partial> {
        summed!(spec, self, |s, t| partial(t, s, split))
    }

    /// Learns a batch from what its splits add to it, in their order.
    pub(crate) fn apply(&mut self, spec: &ModelSpec, partials: &[Partial]) -> Result<Trained, ModelError> {
        summed!(spec, self, |s, t| apply(t, s, partials)).unwrap_or(Err(ModelError::Partial))
    }

    pub(crate) fn learned(&self, spec: &ModelSpec) -> Vec<Learned> {
        paired!(spec, self, |_s, t| t.learned())
    }

    /// Whether it is a state that a model of this definition may have.
    pub(crate) fn check(&self, spec: &ModelSpec) -> Result<(), String> {
        if std::mem::discriminant(self) != std::mem::discriminant(&State::new(spec, 1)) {
            return Err(format!("the state is not one of a model of kind {}", spec.kind()));
        }
        let dimension = self.dimension(spec);
        if dimension == 0 || !paired!(spec, self, |s, t| t.consistent(s)) {
            return Err("the lists of the state have wrong lengths".to_owned());
        }
        match State::fixed_dimension(spec) {
            Some(fixed) if fixed != dimension => {
                Err(format!("the state has {dimension} features, the definition fixes {fixed}"))
            }
            _ => Ok(()),
        }
    }
}
