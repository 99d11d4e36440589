//! What a model is: its family and its parameters, as in a job definition.

use crate::{
    bandit::{EpsilonGreedySpec, LinUcbSpec, Policy, ThompsonSamplingSpec, Ucb1Spec},
    bayes::{GaussianNaiveBayesSpec, MultinomialNaiveBayesSpec},
    error::SpecError,
    kmeans::KMeansSpec,
    linear::{LinearSpec, Mode},
    passive::PassiveAggressiveSpec,
    prepare::{ImputerSpec, MinMaxScalerSpec, OneHotSpec, StandardScalerSpec},
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
    /// A transformer: every feature less its mean, by its deviation.
    StandardScaler(StandardScalerSpec),
    /// A transformer: every feature between two bounds.
    MinMaxScaler(MinMaxScalerSpec),
    /// A transformer: something in place of what is missing.
    Imputer(ImputerSpec),
    /// A transformer: categories as features.
    OneHot(OneHotSpec),
    /// A bandit: the best arm so far, sometimes any.
    EpsilonGreedy(EpsilonGreedySpec),
    /// A bandit: the arm that may be best.
    Ucb1(Ucb1Spec),
    /// A bandit: every arm as often as it is likely to be best.
    ThompsonSampling(ThompsonSamplingSpec),
    /// A bandit: the arm that may be best in the row's context.
    LinUcb(LinUcbSpec),
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
            ModelSpec::StandardScaler(spec) => spec.validate(),
            ModelSpec::MinMaxScaler(spec) => spec.validate(),
            ModelSpec::Imputer(spec) => spec.validate(),
            ModelSpec::OneHot(spec) => spec.validate(),
            ModelSpec::EpsilonGreedy(spec) => spec.validate(),
            ModelSpec::Ucb1(spec) => spec.validate(),
            ModelSpec::ThompsonSampling(spec) => spec.validate(),
            ModelSpec::LinUcb(spec) => spec.validate(),
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
            ModelSpec::StandardScaler(_) => "standard_scaler",
            ModelSpec::MinMaxScaler(_) => "min_max_scaler",
            ModelSpec::Imputer(_) => "imputer",
            ModelSpec::OneHot(_) => "one_hot",
            ModelSpec::EpsilonGreedy(_) => "epsilon_greedy",
            ModelSpec::Ucb1(_) => "ucb1",
            ModelSpec::ThompsonSampling(_) => "thompson_sampling",
            ModelSpec::LinUcb(_) => "lin_ucb",
        }
    }

    /// Whether it learns from labels; those of a bandit are rewards.
    pub fn supervised(&self) -> bool {
        !self.clusters() && !self.transforms()
    }

    /// Whether it finds clusters.
    pub fn clusters(&self) -> bool {
        matches!(self, ModelSpec::KMeans(_))
    }

    /// Whether it is there to make features fit for other models ([`Model::transform`](crate::Model::transform)).
    pub fn transforms(&self) -> bool {
        match self {
            ModelSpec::StandardScaler(_) | ModelSpec::MinMaxScaler(_) | ModelSpec::Imputer(_) => true,
            _ => self.one_hot().is_some(),
        }
    }

    /// The parameters of the transformer whose columns are text and not numbers
    /// ([`Model::transform_text`](crate::Model::transform_text)).
    pub fn one_hot(&self) -> Option<&OneHotSpec> {
        match self {
            ModelSpec::OneHot(spec) => Some(spec),
            _ => None,
        }
    }

    /// Names of what a bandit chooses from ([`Model::choose`](crate::Model::choose)).
    pub fn arms(&self) -> Option<&[String]> {
        match self {
            ModelSpec::EpsilonGreedy(spec) => Some(spec.shared().arms),
            ModelSpec::Ucb1(spec) => Some(spec.shared().arms),
            ModelSpec::ThompsonSampling(spec) => Some(spec.shared().arms),
            ModelSpec::LinUcb(spec) => Some(spec.shared().arms),
            _ => None,
        }
    }

    /// Whether its choices depend on a context.
    pub fn contextual(&self) -> bool {
        matches!(self, ModelSpec::LinUcb(_))
    }

    /// Whether it predicts: values, classes or clusters.
    pub fn predicts(&self) -> bool {
        !self.transforms() && self.arms().is_none()
    }

    /// Whether it learns record by record, each predicted before it is learnt, instead of a batch at a time. Passive-aggressive models,
    /// recursive least squares and trees always do.
    pub fn per_record(&self) -> bool {
        match self {
            ModelSpec::LinearRegression(spec) | ModelSpec::LogisticRegression(spec) => spec.per_record(),
            ModelSpec::PassiveAggressiveRegressor(_)
            | ModelSpec::PassiveAggressiveClassifier(_)
            | ModelSpec::RecursiveLeastSquares(_)
            | ModelSpec::HoeffdingTree(_) => true,
            ModelSpec::Softmax(spec) => spec.mode == Mode::PerRecord,
            ModelSpec::GaussianNaiveBayes(spec) => spec.mode == Mode::PerRecord,
            ModelSpec::MultinomialNaiveBayes(spec) => spec.mode == Mode::PerRecord,
            _ => false,
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
            _ => !self.predicts(),
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
            _ => None,
        }
    }
}
