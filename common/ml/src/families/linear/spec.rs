//! Parameters of linear models.

use super::Optimizer;
use crate::{
    error::{SpecError, at_least_one, number},
    family::Learns,
    parameters::{parameters, words},
};
use serde::{Deserialize, Serialize};

/// Of more features `X'X` is not made: it is 1 MiB then, per split.
const MOST_FEATURES: usize = 512;

parameters! {
    /// Parameters of linear and logistic regression; the defaults are those of Spark's streaming algorithms.
    pub struct LinearSpec {
        /// Step of the first update. Default 0.1.
        pub step_size: f64 = 0.1,
        /// How the step shrinks. Default `per_batch`, as Spark.
        pub schedule: Schedule = Schedule::PerBatch,
        /// How a gradient moves a weight. Default plain descent.
        pub optimizer: Optimizer = Optimizer::Sgd,
        /// Updates per batch at most, in mode `batch`. Default 50.
        pub iterations: u32 = 50,
        /// Share of a batch's rows that an update looks at, in mode `batch`. Default 1.
        pub mini_batch_fraction: f64 = 1.0,
        /// Key of the choice of rows: update `i` of a batch takes row `n` if the hash of `(sample_seed + i, n)` is below the fraction.
        /// Default 42.
        pub sample_seed: u64 = 42,
        /// A batch's updates end when the weights move by less than this, relative to their length (at least 1). 0 never ends early.
        /// Default 0.001.
        pub convergence_tolerance: f64 = 0.001,
        /// What is added to the loss to keep weights small. Default `none`.
        pub regularization: Regularization = Regularization::None,
        /// How much of it. Default 0.
        pub reg_param: f64 = 0.0,
        /// Whether a constant is learnt beside the weights. It starts at `initial_intercept`, is carried over from batch to batch (Spark
        /// sets it to 1 in every batch) and not regularised. Default false.
        pub fit_intercept: bool = false,
        /// Weights before the first batch; they fix the number of features. Default: zeros, as many as the first rows have features.
        pub initial_weights: Option<Vec<f64>> = None,
        /// Intercept before the first batch. Default 0.
        pub initial_intercept: f64 = 0.0,
        /// Step of the intercept, moved by plain descent with the same schedule, as River does it (0.01 there). Default: the intercept is
        /// moved as the weights are.
        pub intercept_step_size: Option<f64> = None,
        /// Logistic only: the class is 1 if its probability is above this. Default 0.5.
        pub threshold: Option<f64> = None,
        /// Whether it learns a batch or a record at a time. Default `batch`.
        pub mode: Mode = Mode::Batch,
    }
}

/// How a model learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// From the gradient of the whole batch, several times: Spark's way.
    #[default]
    Batch,
    /// From one record after another, one update each: River's way.
    PerRecord,
}

/// How the step shrinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// `step_size / sqrt(i)`, `i` from 1 in every batch (in every record, in mode `per_record`): no forgetting of how to move, as Spark.
    #[default]
    PerBatch,
    /// `step_size / sqrt(i)`, `i` over all updates of the model: it comes to rest.
    Global,
    /// Always `step_size`.
    Constant,
}

words!(Mode: Batch, PerRecord);
words!(Schedule: PerBatch, Global, Constant);
words!(Regularization: None, L1, L2);

impl Schedule {
    /// The factor of an update, `i`-th (from 1) of its batch and `total`-th of the model.
    pub(crate) fn factor(self, i: u64, total: u64) -> f64 {
        match self {
            Schedule::PerBatch => 1.0 / libm::sqrt(i as f64),
            Schedule::Global => 1.0 / libm::sqrt(total as f64),
            Schedule::Constant => 1.0,
        }
    }
}

/// What is added to the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Regularization {
    /// Nothing.
    #[default]
    None,
    /// `reg_param * sum |w|`, by soft thresholding after the step (weights become exactly 0).
    L1,
    /// `reg_param / 2 * sum w^2`.
    L2,
}

impl LinearSpec {
    pub(super) fn validate_regression(&self) -> Result<(), SpecError> {
        if self.threshold.is_some() {
            return Err(SpecError::new("threshold", "is given for a regression", "leave it out, it is for classes"));
        }
        self.validate()
    }

    pub(super) fn validate_classification(&self) -> Result<(), SpecError> {
        number("threshold", self.threshold(), |p| 0.0 < p && p < 1.0, "use a probability between 0 and 1")?;
        self.validate()
    }

    fn validate(&self) -> Result<(), SpecError> {
        number("step_size", self.step_size, |step| step > 0.0, "use a positive number")?;
        at_least_one("iterations", self.iterations.into())?;
        let share = "use a share above 0 and at most 1";
        number("mini_batch_fraction", self.mini_batch_fraction, |f| 0.0 < f && f <= 1.0, share)?;
        number("convergence_tolerance", self.convergence_tolerance, |tol| tol >= 0.0, "use 0 or more")?;
        number("reg_param", self.reg_param, |reg| reg >= 0.0, "use 0 or more")?;
        if self.reg_param > 0.0 && self.regularization == Regularization::None {
            let problem = format!("is {} without a regularization", self.reg_param);
            return Err(SpecError::new("reg_param", problem, "set `regularization` to l1 or l2, or leave it out"));
        }
        self.optimizer.validate()?;
        if self.regularization == Regularization::L1 && self.optimizer != Optimizer::Sgd {
            let mend = "use l2, plain descent, or the optimizer ftrl with its own `l1`";
            return Err(SpecError::new("regularization", "is l1 beside an optimizer", mend));
        }
        self.validate_start()
    }

    fn validate_start(&self) -> Result<(), SpecError> {
        number("intercept_step_size", self.intercept_step_size.unwrap_or(1.0), |s| s > 0.0, "use a positive number")?;
        number("initial_intercept", self.initial_intercept, |_| true, "use a finite number")?;
        if self.initial_intercept != 0.0 && !self.fit_intercept {
            let problem = "is given but no intercept is learnt";
            return Err(SpecError::new("initial_intercept", problem, "set `fit_intercept = true`"));
        }
        match &self.initial_weights {
            Some(weights) if weights.is_empty() => {
                Err(SpecError::new("initial_weights", "is empty", "give a weight per feature or leave it out"))
            }
            Some(weights) if !crate::kernel::all_finite(weights) => {
                Err(SpecError::new("initial_weights", "holds a number that is not finite", "give finite numbers"))
            }
            _ => Ok(()),
        }
    }

    /// A batch takes one pass over its rows if there is one update, or the loss is quadratic and `X'X` is worth what it costs, `d^2 / 2`
    /// products per row against `2 d` per update.
    pub(super) fn learns(&self, quadratic: bool, features: usize) -> Learns {
        let narrow = features <= MOST_FEATURES && features <= 8 * self.iterations as usize;
        let one_pass = self.mini_batch_fraction >= 1.0 && (self.iterations == 1 || quadratic && narrow);
        match self.mode {
            Mode::PerRecord => Learns::ByRecord,
            Mode::Batch if one_pass => Learns::FromSums,
            Mode::Batch => Learns::FromRows,
        }
    }

    pub(super) fn threshold(&self) -> f64 {
        self.threshold.unwrap_or(0.5)
    }
}
