//! What a model is: its family and its parameters, as in a job definition.

use crate::{error::SpecError, kmeans::KMeansSpec, linear::LinearSpec};
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
}

impl ModelSpec {
    /// Whether the parameters can be. The error names the first that cannot and what to do.
    pub fn validate(&self) -> Result<(), SpecError> {
        match self {
            ModelSpec::LinearRegression(spec) => spec.validate_regression(),
            ModelSpec::LogisticRegression(spec) => spec.validate_classification(),
            ModelSpec::KMeans(spec) => spec.validate(),
        }
    }

    /// Name of the family, as in a definition.
    pub fn kind(&self) -> &'static str {
        match self {
            ModelSpec::LinearRegression(_) => "linear_regression",
            ModelSpec::LogisticRegression(_) => "logistic_regression",
            ModelSpec::KMeans(_) => "kmeans",
        }
    }

    /// How many classes it tells apart, if it classifies.
    pub fn classes(&self) -> Option<usize> {
        match self {
            ModelSpec::LogisticRegression(_) => Some(2),
            _ => None,
        }
    }

    /// Whether it learns from labels.
    pub fn supervised(&self) -> bool {
        !matches!(self, ModelSpec::KMeans(_))
    }

    /// Whether it learns record by record, each predicted before it is learnt, instead of a batch at a time.
    pub fn per_record(&self) -> bool {
        match self {
            ModelSpec::LinearRegression(spec) | ModelSpec::LogisticRegression(spec) => spec.per_record(),
            ModelSpec::KMeans(_) => false,
        }
    }
}
