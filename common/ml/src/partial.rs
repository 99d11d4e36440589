//! Sums over the rows of one split, made where the rows are: all that a batch learnt in one pass needs to know of them.
//!
//! A model says whether a batch takes one pass ([`ModelSpec::one_pass`](crate::ModelSpec::one_pass)). If so, learning the batch is nothing
//! but a [`Partial`] per split, added in the order of the splits, and one step of the model by the total; so whoever made the partials,
//! the model is the same to the bit.

use crate::{
    envelope::{Envelope, are_counts},
    error::{DecodeError, ModelError},
    exact, kernel,
    report::Trained,
};
use serde::{Deserialize, Serialize};

/// What the rows of one split add to a model as of some batch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Partial {
    /// Features of the rows; 0 without rows.
    pub(crate) dimension: usize,
    /// Rows to learn.
    pub(crate) rows: u64,
    /// Rows that are not learnt.
    pub(crate) skipped: u64,
    /// Their weights.
    #[serde(with = "exact::number")]
    pub(crate) weight: f64,
    /// Their losses before the batch, by weight.
    #[serde(with = "exact::number")]
    pub(crate) loss: f64,
    /// What else the family sums up.
    #[serde(with = "exact::lists")]
    pub(crate) lists: Vec<Vec<f64>>,
    /// Texts that the family gathers, per column.
    pub(crate) texts: Vec<Vec<String>>,
}

const PARTIAL: Envelope = Envelope { letters: *b"TMps", what: "partial sum", version: 1 };

impl Partial {
    /// Zeros in lists of these lengths.
    pub(crate) fn zeros(dimension: usize, lengths: impl IntoIterator<Item = usize>) -> Partial {
        Partial { dimension, lists: lengths.into_iter().map(|n| vec![0.0; n]).collect(), ..Partial::default() }
    }

    /// Adds all sums.
    pub(crate) fn add(&mut self, other: &Partial) {
        self.add_counts(other);
        self.lists.iter_mut().zip(&other.lists).for_each(|(sum, part)| kernel::add_scaled(sum, 1.0, part));
    }

    /// Adds the sums that all families have.
    pub(crate) fn add_counts(&mut self, other: &Partial) {
        self.rows += other.rows;
        self.skipped += other.skipped;
        self.weight += other.weight;
        self.loss += other.loss;
    }

    /// The total of a batch, whose partials came from elsewhere: each has to have the lists of `self`, which are zeros.
    pub(crate) fn total(
        mut self,
        partials: &[Partial],
        merge: impl Fn(&mut Partial, &Partial),
    ) -> Result<Partial, ModelError> {
        for partial in partials.iter().filter(|partial| partial.dimension > 0) {
            if partial.dimension != self.dimension {
                return Err(ModelError::Dimension { expected: self.dimension, found: partial.dimension });
            }
            let lists = partial.lists.iter().map(Vec::len).eq(self.lists.iter().map(Vec::len));
            if !lists || partial.texts.len() != self.texts.len() {
                return Err(ModelError::Partial);
            }
            merge(&mut self, partial);
        }
        Ok(self)
    }

    /// What a batch has done that was learnt by one update; nothing is in the report's losses without rows.
    pub(crate) fn trained_once(&self, penalty: f64) -> Trained {
        let mut trained = Trained { rows: self.rows, skipped: self.skipped, ..Trained::default() };
        if self.rows > 0 {
            trained.updates = 1;
            trained.losses = vec![self.loss / self.weight + penalty];
            trained.loss = trained.losses.first().copied();
        }
        trained
    }

    /// The sums, exactly.
    pub fn to_bytes(&self) -> Vec<u8> {
        PARTIAL.seal(self)
    }

    /// The sums that [`Partial::to_bytes`] wrote. Anything else is refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<Partial, DecodeError> {
        let partial: Partial = PARTIAL.open(bytes)?;
        if !are_counts(&[partial.rows, partial.skipped]) {
            return Err(DecodeError::Content("it has more rows than there can be".to_owned()));
        }
        Ok(partial)
    }
}
