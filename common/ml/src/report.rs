//! What learning a batch has done, and what a model shows of what it has learnt.

use crate::rows::Row;
use serde::{Deserialize, Serialize};

/// Names and kinds of what a family has learnt.
pub(crate) type Shape = &'static [(&'static str, LearnedKind)];

/// What a model has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Counters {
    pub(crate) batches: u64,
    pub(crate) rows: u64,
    pub(crate) skipped: u64,
    /// The batch, from 1, after which a parameter was infinite or not a number.
    pub(crate) diverged_since: Option<u64>,
}

/// What a batch has done to a model.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Trained {
    /// Rows learnt.
    pub rows: u64,
    /// Rows not learnt: a label that is no class, or a weight that is not a positive number.
    pub skipped: u64,
    /// Updates of the parameters.
    pub updates: u32,
    /// Mean loss before the batch's first update (squared error halved, log loss, squared distance), with regularisation, as entry 0 of
    /// Spark's loss history. In mode `per_record`: mean of the loss of every row before it was learnt. None without rows.
    pub loss: Option<f64>,
    /// Mean loss before every update of the batch, in order; in mode `per_record` only the mean.
    pub losses: Vec<f64>,
}

impl Trained {
    pub(crate) fn count(&mut self, learnt: bool) {
        if learnt { self.rows += 1 } else { self.skipped += 1 }
    }

    /// Row after row; `learn` gives the loss of a row before it was learnt, or None if it was not.
    pub(crate) fn of_records<'a>(
        rows: impl Iterator<Item = Row<'a>>,
        mut learn: impl FnMut(&Row<'a>) -> Option<f64>,
    ) -> Trained {
        let mut trained = Trained::default();
        let mut sum = 0.0;
        for row in rows {
            let loss = learn(&row);
            trained.count(loss.is_some());
            sum += loss.unwrap_or(0.0);
        }
        trained.updates = u32::try_from(trained.rows).unwrap_or(u32::MAX);
        if trained.rows > 0 {
            trained.loss = Some(sum / trained.rows as f64);
            trained.losses = trained.loss.into_iter().collect();
        }
        trained
    }
}

/// Whether the parameters of a model are numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// All are finite.
    Healthy,
    /// One is infinite or not a number. Predictions go on and mean nothing; learning on never mends it.
    Diverged {
        /// Number of the first batch (from 1) after which it was so.
        since_batch: u64,
    },
}

/// A value that a model has learnt.
#[derive(Debug, Clone, PartialEq)]
pub enum Learned {
    /// A number.
    Number(f64),
    /// A count.
    Count(u64),
    /// Numbers, one per feature or cluster.
    List(Vec<f64>),
    /// Lists of numbers, one per cluster or class.
    Lists(Vec<Vec<f64>>),
    /// A description.
    Text(String),
    /// Lists of texts, one per column.
    Texts(Vec<Vec<String>>),
}

/// Kind of a [`Learned`] value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LearnedKind {
    /// [`Learned::Number`]
    Number,
    /// [`Learned::Count`]
    Count,
    /// [`Learned::List`]
    List,
    /// [`Learned::Lists`]
    Lists,
    /// [`Learned::Text`]
    Text,
    /// [`Learned::Texts`]
    Texts,
}
