//! What a model is: its family and its parameters, as in a job definition.

use crate::{
    bayes::{GaussianNaiveBayesSpec, MultinomialNaiveBayesSpec},
    error::SpecError,
    kmeans::KMeansSpec,
    linear::{LinearSpec, Mode},
    passive::PassiveAggressiveSpec,
    rls::RlsSpec,
    softmax::SoftmaxSpec,
    tree::HoeffdingTreeSpec,
};
use serde::{Deserialize, Serialize};

/// Family and parameters of a model. Every parameter has a default; where Spark has the model, it is Spark's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ModelSpec {
    /// `y = w.x + b` by stochastic gradient descent on the squared error.
    LinearRegression(LinearSpec),
    /// `P(y = 1) = 1 / (1 + exp(-(w.x + b)))` by stochastic gradient descent on the log loss.
    LogisticRegression(LinearSpec),
    /// k centres that forget.
    #[serde(rename = "kmeans")]
    KMeans(KMeansSpec),
    /// `y = w.x + b`, moved by every record just as far as to be near enough to it.
    PassiveAggressiveRegressor(PassiveAggressiveSpec),
    /// Class 1 if `w.x + b > 0`, moved by every record just as far as to be on its right side.
    PassiveAggressiveClassifier(PassiveAggressiveSpec),
    /// `y = w.x + b`, the least squares of all rows so far, with forgetting.
    RecursiveLeastSquares(RlsSpec),
    /// Several classes, `P(y = c)` in proportion to `exp(w_c.x + b_c)`.
    Softmax(SoftmaxSpec),
    /// Several classes, every feature normal within a class.
    GaussianNaiveBayes(GaussianNaiveBayesSpec),
    /// Several classes, features that are counts.
    MultinomialNaiveBayes(MultinomialNaiveBayesSpec),
    /// Several classes, a tree that splits where it is sure enough; adaptive or not.
    HoeffdingTree(HoeffdingTreeSpec),
}

impl ModelSpec {
    /// Whether the parameters can be. The error names the first that cannot and what to do.
    pub fn validate(&self) -> Result<(), SpecError> {
        match self {
            ModelSpec::LinearRegression(spec) => spec.validate_regression(),
            ModelSpec::LogisticRegression(spec) => spec.validate_classification(),
            ModelSpec::KMeans(spec) => spec.validate(),
            ModelSpec::PassiveAggressiveRegressor(spec) => spec.validate(false),
            ModelSpec::PassiveAggressiveClassifier(spec) => spec.validate(true),
            ModelSpec::RecursiveLeastSquares(spec) => spec.validate(),
            ModelSpec::Softmax(spec) => spec.validate(),
            ModelSpec::GaussianNaiveBayes(spec) => spec.validate(),
            ModelSpec::MultinomialNaiveBayes(spec) => spec.validate(),
            ModelSpec::HoeffdingTree(spec) => spec.validate(),
        }
    }

    /// Name of the family, as in a definition.
    pub fn kind(&self) -> &'static str {
        match self {
            ModelSpec::LinearRegression(_) => "linear_regression",
            ModelSpec::LogisticRegression(_) => "logistic_regression",
            ModelSpec::KMeans(_) => "kmeans",
            ModelSpec::PassiveAggressiveRegressor(_) => "passive_aggressive_regressor",
            ModelSpec::PassiveAggressiveClassifier(_) => "passive_aggressive_classifier",
            ModelSpec::RecursiveLeastSquares(_) => "recursive_least_squares",
            ModelSpec::Softmax(_) => "softmax",
            ModelSpec::GaussianNaiveBayes(_) => "gaussian_naive_bayes",
            ModelSpec::MultinomialNaiveBayes(_) => "multinomial_naive_bayes",
            ModelSpec::HoeffdingTree(_) => "hoeffding_tree",
        }
    }

    /// Whether it learns from labels.
    pub fn supervised(&self) -> bool {
        !matches!(self, ModelSpec::KMeans(_))
    }

    /// Whether it learns record by record, each predicted before it is learnt, instead of a batch at a time. Passive-aggressive models,
    /// recursive least squares and trees always do.
    pub fn per_record(&self) -> bool {
        match self {
            ModelSpec::LinearRegression(spec) | ModelSpec::LogisticRegression(spec) => spec.per_record(),
            ModelSpec::KMeans(_) => false,
            ModelSpec::PassiveAggressiveRegressor(_)
            | ModelSpec::PassiveAggressiveClassifier(_)
            | ModelSpec::RecursiveLeastSquares(_)
            | ModelSpec::HoeffdingTree(_) => true,
            ModelSpec::Softmax(spec) => spec.mode == Mode::PerRecord,
            ModelSpec::GaussianNaiveBayes(spec) => spec.mode == Mode::PerRecord,
            ModelSpec::MultinomialNaiveBayes(spec) => spec.mode == Mode::PerRecord,
        }
    }

    /// Whether a batch of rows with so many features is learnt from one pass over them, so that the sums may be made where the rows are
    /// ([`Model::partial`](crate::Model::partial)). Otherwise the rows have to be in one place.
    pub fn one_pass(&self, dimension: usize) -> bool {
        match self {
            ModelSpec::LinearRegression(spec) => spec.one_pass(true, dimension),
            ModelSpec::LogisticRegression(spec) => spec.one_pass(false, dimension),
            ModelSpec::KMeans(_) => true,
            ModelSpec::Softmax(spec) => spec.mode == Mode::Batch && spec.iterations == 1,
            ModelSpec::GaussianNaiveBayes(spec) => spec.mode == Mode::Batch,
            ModelSpec::MultinomialNaiveBayes(spec) => spec.mode == Mode::Batch,
            ModelSpec::PassiveAggressiveRegressor(_)
            | ModelSpec::PassiveAggressiveClassifier(_)
            | ModelSpec::RecursiveLeastSquares(_)
            | ModelSpec::HoeffdingTree(_) => false,
        }
    }

    /// Number of classes of a classifier.
    pub fn classes(&self) -> Option<usize> {
        match self {
            ModelSpec::LogisticRegression(_) | ModelSpec::PassiveAggressiveClassifier(_) => Some(2),
            ModelSpec::Softmax(spec) => Some(spec.classes as usize),
            ModelSpec::GaussianNaiveBayes(spec) => Some(spec.classes as usize),
            ModelSpec::MultinomialNaiveBayes(spec) => Some(spec.classes as usize),
            ModelSpec::HoeffdingTree(spec) => Some(spec.classes as usize),
            ModelSpec::LinearRegression(_)
            | ModelSpec::KMeans(_)
            | ModelSpec::PassiveAggressiveRegressor(_)
            | ModelSpec::RecursiveLeastSquares(_) => None,
        }
    }
}
