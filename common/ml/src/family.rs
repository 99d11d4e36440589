//! What a family of models is: its name, its parameters, what it can do, and how it learns.
//!
//! A family is one file in `families/` with a type that implements [`Family`], and an entry in the list there. All that knows families
//! (reading definitions, storing models, messages, checks) goes through that list; `docs/adding-a-model-family.md` shows the steps.

use crate::{
    error::{ModelError, SpecError},
    parameters::Parameters,
    partial::Partial,
    report::{Counters, Learned, Shape, Trained},
    rows::{Row, Table},
};
use ndarray::ArrayView2;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

/// Plain data: what parameters and states are.
pub trait Data: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static> Data for T {}

/// What a model answers when it is asked about a row, and so what it learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers<'a> {
    /// A number; labels are numbers.
    Number,
    /// A class and the probability of each; labels are 0 to `classes - 1`.
    Class {
        /// Number of classes.
        classes: usize,
    },
    /// The index of the nearest centre, and the distance to it. There are no labels.
    Cluster,
    /// The row's numbers made fit for other models. There are no labels.
    Features,
    /// Numbers made of the row's texts. There are no labels.
    FeaturesOfText,
    /// An arm; labels are rewards, and the first feature of a row to learn is the place of the arm that was chosen.
    Arm {
        /// Names of the arms.
        arms: &'a [String],
        /// Whether the choice depends on features of the row.
        contextual: bool,
    },
}

/// How a batch is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learns {
    /// Row after row ([`Family::record`]), each predicted before it is learnt.
    ByRecord,
    /// In one step from sums over the rows ([`Family::SUMS`]), which may be made where the rows are.
    FromSums,
    /// From all rows in one place ([`Family::batch`]).
    FromRows,
}

/// A number of features that a definition fixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed {
    /// The parameter that fixes it.
    pub parameter: &'static str,
    /// Number of features, at least 1.
    pub features: usize,
}

/// A family of models; a value of it is what one model has learnt. The number of features of rows is checked by the caller.
///
/// As serialised it is the stored form of a model: fields stay as they are, or the format gets a new number (`stored.rs`). Numbers that
/// may be infinite or not a number go through `exact`.
pub trait Family: Data {
    /// Its parameters, as `parameters!` makes them.
    type Spec: Parameters;

    /// `kind` in definitions and in stored models: it stays for ever.
    const NAME: &'static str;

    /// Names and kinds of what [`Family::learned`] gives: the columns of `from_model`.
    const SHAPE: Shape;

    /// How it makes sums over rows ([`Sums::of`]), if [`Family::learns`] ever says so.
    const SUMS: Option<Sums<Self>> = None;

    /// Whether the parameters can be. The error names the first that cannot and what to do.
    ///
    /// # Errors
    /// See [`SpecError`].
    fn validate(spec: &Self::Spec) -> Result<(), SpecError>;

    /// What its models answer.
    fn answers(spec: &Self::Spec) -> Answers<'_>;

    /// How it learns a batch of rows with so many features. Whether it learns by record does not depend on their number.
    fn learns(spec: &Self::Spec, features: usize) -> Learns;

    /// Before any data.
    fn new(spec: &Self::Spec, features: usize) -> Self;

    /// The number of features, if the parameters fix it.
    fn fixed(_: &Self::Spec) -> Option<Fixed> {
        None
    }

    /// Of transformers: how many numbers so many columns become; None if it is made for another number of columns.
    fn width(_: &Self::Spec, columns: usize) -> Option<usize> {
        Some(columns)
    }

    /// Number of features.
    fn features(&self) -> usize;

    /// Whether all numbers are finite. A model with others has diverged.
    fn finite(&self) -> bool;

    /// Whether all lists have the lengths they must have; for what was stored elsewhere.
    fn consistent(&self, spec: &Self::Spec) -> bool;

    /// Value, class or index of the nearest centre. Not a number for what predicts nothing.
    fn predict(&self, _: &Self::Spec, _: &[f64]) -> f64 {
        f64::NAN
    }

    /// Of classifiers: the probability of every class.
    fn probabilities(&self, _: &Self::Spec, _: &[f64]) -> Option<Vec<f64>> {
        None
    }

    /// Of clusterings: the distances to the nearest and to the second nearest centre (infinite if there is one centre).
    fn distances(&self, _: &Self::Spec, _: &[f64]) -> Option<[f64; 2]> {
        None
    }

    /// Of transformers of numbers: the features of a row made fit for other models.
    fn transform(&self, _: &Self::Spec, _: &[f64]) -> Option<Vec<f64>> {
        None
    }

    /// Of transformers of text: the texts of a row, one per column, as numbers.
    fn transform_text(&self, _: &Self::Spec, _: &[Option<&str>]) -> Option<Vec<f64>> {
        None
    }

    /// Of transformers of text: the sums over rows of texts, one per column.
    fn gather_text(&self, _: &Self::Spec, _rows: &mut dyn Iterator<Item = Vec<Option<&str>>>) -> Option<Partial> {
        None
    }

    /// Of bandits: the place of an arm for every row of these ids and contexts (rows x context).
    fn choose(&self, _: &Self::Spec, _: &Counters, _ids: &[u64], _context: &ArrayView2<'_, f64>) -> Option<Vec<usize>> {
        None
    }

    /// Of what learns by record: learns a row; gives its loss before, or None if the row is not one to learn.
    fn record(&mut self, _: &Self::Spec, _: &Row<'_>) -> Option<f64> {
        None
    }

    /// Of what learns from rows: learns a batch.
    fn batch(&mut self, _: &Self::Spec, _splits: &[Table<'_>]) -> Trained {
        Trained::default()
    }

    /// What it has learnt, in the order of [`Family::SHAPE`].
    fn learned(&self) -> Vec<Learned>;

    /// Definitions, without `kind`, with which all checks of families are made: every mode, and whatever is computed by other code.
    #[cfg(test)]
    fn definitions() -> Vec<serde_json::Value> {
        vec![serde_json::json!({})]
    }
}

/// A family that learns a batch, or some batches ([`Learns::FromSums`]), from sums over its rows.
pub trait OnePass: Family {
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

/// Learns one batch from the sums of its splits. An error only for sums that are not of this model.
type Apply<F> = fn(&mut F, &<F as Family>::Spec, &[Partial]) -> Result<Trained, ModelError>;

/// How a family makes sums over rows, and learns from them.
pub struct Sums<F: Family> {
    /// The sums of one split.
    pub(crate) partial: fn(&F, &F::Spec, &Table<'_>) -> Partial,
    pub(crate) apply: Apply<F>,
}

impl<F: OnePass> Sums<F> {
    /// As [`OnePass`] says.
    pub(crate) const fn of() -> Sums<F> {
        Sums { partial: partial::<F>, apply: apply::<F> }
    }
}

fn partial<F: OnePass>(state: &F, spec: &F::Spec, split: &Table<'_>) -> Partial {
    let mut sums = state.nothing(spec);
    state.gather(spec, split, &mut sums);
    sums
}

fn apply<F: OnePass>(state: &mut F, spec: &F::Spec, partials: &[Partial]) -> Result<Trained, ModelError> {
    let sums = state.nothing(spec).total(partials, F::merge)?;
    Ok(state.learn(spec, &sums))
}
