//! What can be wrong with a definition, with rows, and with stored bytes.

use thiserror::Error;

/// A parameter that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{parameter}` {problem}: {mend}")]
pub struct SpecError {
    /// Name of the parameter, as in the definition.
    pub parameter: &'static str,
    /// What is wrong with it.
    pub problem: String,
    /// What to do about it.
    pub mend: String,
}

impl SpecError {
    pub(crate) fn new(parameter: &'static str, problem: impl Into<String>, mend: impl Into<String>) -> Self {
        SpecError { parameter, problem: problem.into(), mend: mend.into() }
    }
}

/// Refuses a number that is not finite or for which `fits` is false.
pub(crate) fn number(
    parameter: &'static str,
    value: f64,
    fits: impl Fn(f64) -> bool,
    mend: &str,
) -> Result<(), SpecError> {
    if value.is_finite() && fits(value) {
        return Ok(());
    }
    Err(SpecError::new(parameter, format!("is {value}"), mend))
}

/// Refuses a count of 0.
pub(crate) fn at_least_one(parameter: &'static str, value: u64) -> Result<(), SpecError> {
    if value > 0 { Ok(()) } else { Err(SpecError::new(parameter, "is 0", "use at least 1")) }
}

/// Rows a model cannot take. The model is as it was before.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ModelError {
    /// Another number of features than the model has.
    #[error("the model has {expected} features, the rows have {found}")]
    Dimension {
        /// Features of the model.
        expected: usize,
        /// Features of the rows.
        found: usize,
    },
    /// Rows without a single feature.
    #[error("the rows have no features")]
    NoFeatures,
    /// Another number of labels than rows.
    #[error("{rows} rows have {labels} labels")]
    Labels {
        /// Number of rows.
        rows: usize,
        /// Number of labels.
        labels: usize,
    },
    /// Another number of weights than rows.
    #[error("{rows} rows have {weights} weights")]
    Weights {
        /// Number of rows.
        rows: usize,
        /// Number of weights.
        weights: usize,
    },
    /// Another number of scores than rows.
    #[error("{rows} rows have {scores} scores")]
    Scores {
        /// Number of rows.
        rows: usize,
        /// Number of scores.
        scores: usize,
    },
    /// Another number of contexts than rows.
    #[error("{rows} rows have {contexts} contexts")]
    Contexts {
        /// Number of rows.
        rows: usize,
        /// Number of contexts.
        contexts: usize,
    },
    /// More features than may be.
    #[error("the products of these features are more than {limit}")]
    TooWide {
        /// Features that may be.
        limit: usize,
    },
    /// A degree of a polynomial that cannot be.
    #[error("the degree is {found}; use 1 to {most}")]
    Degree {
        /// What was asked for.
        found: u32,
        /// The largest.
        most: u32,
    },
    /// A model that learns from labels was given rows without.
    #[error("a model of kind {kind} learns from labels, the rows have none")]
    NoLabels {
        /// Kind of the model.
        kind: &'static str,
    },
    /// Sums over rows that were not made for this model.
    #[error("these sums over rows are not of this model")]
    Partial,
    /// The model cannot give what is asked for.
    #[error("a model of kind {kind} gives no {what}")]
    NotGiven {
        /// Kind of the model.
        kind: &'static str,
        /// What was asked for.
        what: &'static str,
    },
}

/// Stored bytes or JSON that are no model, detector or evaluator.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes end too early or start with something else.
    #[error("these bytes are not a stored {expected}")]
    Foreign {
        /// What was expected.
        expected: &'static str,
    },
    /// Written by a version that is not known here.
    #[error("stored in format {found}, this program reads format {expected}")]
    Version {
        /// Format that is read.
        expected: u64,
        /// Format that was found.
        found: u64,
    },
    /// The check sum does not fit.
    #[error("the check sum does not fit: the bytes are damaged")]
    Damaged,
    /// The content does not read.
    #[error("the content does not read: {0}")]
    Content(String),
    /// The definition is not one that can be.
    #[error(transparent)]
    Spec(#[from] SpecError),
}
