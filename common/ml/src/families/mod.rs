//! The families of models, a file or folder each, and the list of them.
//!
//! To add one: its file, its `mod` line, and its line in `FAMILIES` (`docs/adding-a-model-family.md`).

pub mod bandit;
pub mod bayes;
#[cfg(test)]
pub(crate) mod checks;
pub mod kmeans;
pub mod linear;
#[cfg(test)]
pub mod mean;
pub mod one_hot;
pub mod passive;
pub mod rls;
pub mod scale;
pub mod softmax;
pub mod tree;

use crate::erased::Entry;
use serde_json::Value;
use std::sync::LazyLock;

/// All families.
pub(crate) static FAMILIES: &[Entry] = &[
    Entry::of::<linear::LinearRegression>(),
    Entry::of::<linear::LogisticRegression>(),
    Entry::of::<kmeans::KMeans>(),
    Entry::of::<passive::PassiveAggressiveRegressor>(),
    Entry::of::<passive::PassiveAggressiveClassifier>(),
    Entry::of::<rls::RecursiveLeastSquares>(),
    Entry::of::<softmax::Softmax>(),
    Entry::of::<bayes::GaussianNaiveBayes>(),
    Entry::of::<bayes::MultinomialNaiveBayes>(),
    Entry::of::<tree::HoeffdingTree>(),
    Entry::of::<scale::StandardScaler>(),
    Entry::of::<scale::MinMaxScaler>(),
    Entry::of::<scale::Imputer>(),
    Entry::of::<one_hot::OneHot>(),
    Entry::of::<bandit::EpsilonGreedy>(),
    Entry::of::<bandit::Ucb1>(),
    Entry::of::<bandit::ThompsonSampling>(),
    Entry::of::<bandit::LinUcb>(),
    #[cfg(test)]
    Entry::of::<mean::Mean>(),
];

/// The names of all families, as `kind` in a definition.
pub fn kinds() -> &'static [&'static str] {
    static KINDS: LazyLock<Vec<&'static str>> = LazyLock::new(|| FAMILIES.iter().map(|family| family.name).collect());
    &KINDS
}

/// The names of all families, each with the JSON Schema of a table of its parameters (without `kind`).
pub fn schemas() -> impl Iterator<Item = (&'static str, Value)> {
    FAMILIES.iter().map(|family| (family.name, (family.schema)()))
}
