//! How good predictions are: over all rows so far, over the last batches, or with fading.
//!
//! A batch becomes sums that merge; a report is computed from sums and nothing else. A window keeps the sums of its batches
//! and merges them anew for every report, oldest first, so nothing drifts and a report equals one made from scratch.

mod report;
mod sums;

use crate::{
    envelope::{self, Envelope},
    error::{DecodeError, ModelError, SpecError, at_least_one, number},
};
use ndarray::{Array2, ArrayView1};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
pub(crate) use sums::Sums;

/// What is measured and over which rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluatorSpec {
    /// What is predicted.
    pub task: Task,
    /// What to report, in this order. Empty (default): all that the task has, without the counts of rows that were left out.
    #[serde(default)]
    pub metrics: Vec<Metric>,
    /// Only the last so many batches count. Default: all.
    #[serde(default)]
    pub window: Option<u32>,
    /// What came before counts so much less with every batch, between 0 and 1 (prequential error with a fading factor: Gama, Sebastião,
    /// Rodrigues, On evaluating stream learning algorithms, 2013). Default: no fading.
    #[serde(default)]
    pub fading: Option<f64>,
    /// Number of bins of the probability for `auc`. Default 1000.
    #[serde(default = "default_bins")]
    pub auc_bins: u32,
}

fn default_bins() -> u32 {
    1000
}

/// What is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// A value.
    Regression,
    /// Class 0 or 1; 1 is the positive one.
    Binary,
    /// One of several classes, whole numbers from 0. Precision, recall and F1 are means over the classes, each counted alike.
    Multiclass,
    /// A cluster, seen through the distances to the nearest and the second nearest centre.
    Clustering,
}

/// What can be reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are those of the literature; `docs/learning.md` has the formulas")]
pub enum Metric {
    Count,
    Mse,
    Rmse,
    Mae,
    R2,
    Accuracy,
    BalancedAccuracy,
    Precision,
    Recall,
    F1,
    Kappa,
    LogLoss,
    Auc,
    AucError,
    TruePositives,
    FalsePositives,
    TrueNegatives,
    FalseNegatives,
    MeanSquaredDistance,
    Silhouette,
    Skipped,
    Unscored,
}

impl Metric {
    /// Whether it is computed from scores ([`Observed::score`]) alone.
    pub fn needs_score(self) -> bool {
        matches!(self, Metric::LogLoss | Metric::Auc | Metric::AucError | Metric::Silhouette)
    }
}

impl Task {
    /// What is reported of it by default.
    fn metrics(self) -> &'static [Metric] {
        use Metric::*;
        match self {
            Task::Regression => &[Count, Mse, Rmse, Mae, R2],
            Task::Binary => &[
                Count,
                Accuracy,
                BalancedAccuracy,
                Precision,
                Recall,
                F1,
                Kappa,
                LogLoss,
                Auc,
                AucError,
                TruePositives,
                FalsePositives,
                TrueNegatives,
                FalseNegatives,
            ],
            Task::Multiclass => &[Count, Accuracy, BalancedAccuracy, Precision, Recall, F1, Kappa, LogLoss],
            Task::Clustering => &[Count, MeanSquaredDistance, Silhouette],
        }
    }

    /// What counts the rows that were left out.
    fn left_out(self) -> &'static [Metric] {
        match self {
            Task::Regression => &[Metric::Skipped],
            Task::Binary | Task::Multiclass | Task::Clustering => &[Metric::Skipped, Metric::Unscored],
        }
    }
}

impl EvaluatorSpec {
    /// All metrics of a task over all rows.
    pub fn new(task: Task) -> EvaluatorSpec {
        EvaluatorSpec { task, metrics: Vec::new(), window: None, fading: None, auc_bins: default_bins() }
    }

    /// Whether the parameters can be.
    pub fn validate(&self) -> Result<(), SpecError> {
        let known = || self.task.metrics().iter().chain(self.task.left_out());
        if let Some(metric) = self.metrics.iter().find(|metric| !known().any(|known| known == *metric)) {
            let names: Vec<&str> = known().map(|metric| metric.name()).collect();
            let problem = format!("has `{}`, which this task has not", metric.name());
            return Err(SpecError::new("metrics", problem, format!("use any of {}", names.join(", "))));
        }
        at_least_one("window", self.window.unwrap_or(1).into())?;
        at_least_one("auc_bins", self.auc_bins.into())?;
        number("fading", self.fading.unwrap_or(0.5), |f| 0.0 < f && f < 1.0, "use a number between 0 and 1")?;
        if self.window.is_some() && self.fading.is_some() {
            return Err(SpecError::new("fading", "is given beside `window`", "give only one of them"));
        }
        Ok(())
    }

    /// What is reported, in order.
    pub fn reported(&self) -> &[Metric] {
        if self.metrics.is_empty() { self.task.metrics() } else { &self.metrics }
    }

    /// The same for rows without scores: by default only what needs none is reported.
    ///
    /// # Errors
    /// For a metric that is asked for by name and needs scores.
    pub fn without_scores(mut self) -> Result<EvaluatorSpec, SpecError> {
        if let Some(metric) = self.metrics.iter().find(|metric| metric.needs_score()) {
            let name = metric.name();
            let of = match self.task {
                Task::Clustering => "the distance to the second nearest centre",
                Task::Multiclass => "the probability of the label",
                _ => "the probability of class 1",
            };
            let mend = format!("give `score`, {of}, or leave `{name}` out");
            return Err(SpecError::new("metrics", format!("has `{name}`, which is computed from scores"), mend));
        }
        self.metrics = self.reported().iter().copied().filter(|metric| !metric.needs_score()).collect();
        Ok(self)
    }
}

/// One split of a batch of predictions.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// Predicted value or class; for clusters the distance to the nearest centre.
    pub prediction: ArrayView1<'a, f64>,
    /// Label. Clusters have none. A row whose label is not a number (or no class) is skipped.
    pub label: Option<ArrayView1<'a, f64>>,
    /// Probability of class 1 (binary) or of the label (multiclass); for clusters the distance to the second nearest centre. A row whose
    /// score is none of that counts for all metrics but log loss, AUC and silhouette.
    pub score: Option<ArrayView1<'a, f64>>,
    /// How much a row counts; 1 each if not given. A row whose weight is not a positive number is skipped.
    pub weight: Option<ArrayView1<'a, f64>>,
}

/// A row of [`Observed`].
#[derive(Clone, Copy)]
pub(crate) struct Observation {
    pub(crate) prediction: f64,
    pub(crate) label: f64,
    pub(crate) score: Option<f64>,
    pub(crate) weight: f64,
}

impl Observed<'_> {
    fn check(&self, supervised: bool) -> Result<(), ModelError> {
        let rows = self.prediction.len();
        let wrong = |list: &Option<ArrayView1<'_, f64>>| list.as_ref().map(|l| l.len()).filter(|len| *len != rows);
        if supervised && self.label.is_none() {
            return Err(ModelError::NoLabels { kind: "evaluator" });
        }
        if let Some(labels) = wrong(&self.label) {
            return Err(ModelError::Labels { rows, labels });
        }
        if let Some(scores) = wrong(&self.score) {
            return Err(ModelError::Scores { rows, scores });
        }
        match wrong(&self.weight) {
            Some(weights) => Err(ModelError::Weights { rows, weights }),
            None => Ok(()),
        }
    }

    fn rows(&self) -> impl Iterator<Item = Observation> {
        self.prediction.iter().enumerate().map(|(i, &prediction)| Observation {
            prediction,
            label: self.label.map_or(f64::NAN, |label| label[i]),
            score: self.score.map(|score| score[i]),
            weight: self.weight.map_or(1.0, |weight| weight[i]),
        })
    }
}

/// Measures batch after batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluator {
    spec: EvaluatorSpec,
    /// One entry without a window, else one per batch of it, oldest first.
    state: VecDeque<Sums>,
}

const EVALUATOR: Envelope = Envelope { letters: *b"TMev", what: "evaluator", version: 2 };

impl Evaluator {
    /// Before any data.
    pub fn new(spec: EvaluatorSpec) -> Result<Evaluator, SpecError> {
        spec.validate()?;
        Ok(Evaluator { spec, state: VecDeque::new() })
    }

    /// What it measures.
    pub fn spec(&self) -> &EvaluatorSpec {
        &self.spec
    }

    /// One batch; sums are made per split and added in the order of the splits. Gives the rows counted and the rows skipped.
    pub fn update(&mut self, splits: &[Observed<'_>]) -> Result<(u64, u64), ModelError> {
        let supervised = self.spec.task != Task::Clustering;
        splits.iter().try_for_each(|split| split.check(supervised))?;
        let mut batch = Sums::new(self.spec.task);
        let (mut counted, mut skipped) = (0, 0);
        for split in splits {
            let mut sums = Sums::new(self.spec.task);
            for row in split.rows() {
                if sums.add(&row, self.spec.auc_bins) { counted += 1 } else { skipped += 1 }
            }
            batch.merge(&sums);
        }
        match (self.spec.window, self.state.back_mut()) {
            (None, Some(all)) => {
                all.fade(self.spec.fading.unwrap_or(1.0));
                all.merge(&batch);
            }
            _ => self.state.push_back(batch),
        }
        let window = self.spec.window.unwrap_or(1) as usize;
        while self.state.len() > window {
            self.state.pop_front();
        }
        Ok((counted, skipped))
    }

    fn sums(&self) -> Sums {
        let mut sums = Sums::new(self.spec.task);
        self.state.iter().for_each(|batch| sums.merge(batch));
        sums
    }

    /// The metrics asked for, in order; NaN where there is nothing to measure.
    pub fn report(&self) -> Vec<(&'static str, f64)> {
        let sums = self.sums();
        self.spec.reported().iter().map(|metric| (metric.name(), sums.metric(*metric))).collect()
    }

    /// The classes seen, ascending, and the weight of the rows with label `i` (row) predicted as `j` (column). -1 is a prediction that
    /// is no class. Empty for other tasks.
    pub fn confusion(&self) -> (Vec<i64>, Array2<f64>) {
        self.sums().confusion()
    }

    /// The evaluator, exactly.
    pub fn to_bytes(&self) -> Vec<u8> {
        EVALUATOR.seal(&(envelope::spec_text(&self.spec), &self.state))
    }

    /// The evaluator that [`Evaluator::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Evaluator, DecodeError> {
        let (spec, state): (String, VecDeque<Sums>) = EVALUATOR.open(bytes)?;
        let spec: EvaluatorSpec = envelope::read_spec(&spec)?;
        spec.validate()?;
        if state.len() > spec.window.unwrap_or(1) as usize || !state.iter().all(|sums| sums.is_of(spec.task)) {
            return Err(DecodeError::Content("the sums do not fit the definition".to_owned()));
        }
        Ok(Evaluator { spec, state })
    }
}
