//! A model: what it is, what it has learnt, and what may be asked of it.

use crate::{
    error::{ModelError, SpecError},
    family::State,
    partial::Partial,
    prepare::Categories,
    rows::{Row, Rows, Table},
    spec::ModelSpec,
};
use ndarray::{Array1, Array2, ArrayView2};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// A model as of some batch.
///
/// A failed call leaves it as it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    pub(crate) spec: ModelSpec,
    /// None until the number of features is known.
    pub(crate) state: Option<State>,
    pub(crate) counters: Counters,
}

/// What a model has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Counters {
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

impl Model {
    /// A model before any data. The error names the parameter that cannot be.
    pub fn new(spec: ModelSpec) -> Result<Model, SpecError> {
        spec.validate()?;
        Ok(Model { spec, state: None, counters: Counters::default() }.anew())
    }

    /// A model of the same definition before any data.
    pub(crate) fn anew(&self) -> Model {
        let state = State::fixed_dimension(&self.spec).map(|dimension| State::new(&self.spec, dimension));
        Model { spec: self.spec.clone(), state, counters: Counters::default() }
    }

    /// What it is.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Number of features: fixed by initial weights or centres, else by the first batch that has rows.
    pub fn dimension(&self) -> Option<usize> {
        self.state.as_ref().map(|state| state.dimension(&self.spec))
    }

    /// Batches, rows and skipped rows that it was trained with.
    pub fn seen(&self) -> (u64, u64, u64) {
        (self.counters.batches, self.counters.rows, self.counters.skipped)
    }

    /// Whether its parameters are numbers.
    pub fn health(&self) -> Health {
        match self.counters.diverged_since {
            Some(since_batch) => Health::Diverged { since_batch },
            None => Health::Healthy,
        }
    }

    /// Value (regression), class (classification) or index of the nearest centre (clustering) of every row of `x` (rows x features).
    ///
    /// A model that has not seen a row yet predicts with its initial parameters, whatever the number of features. Error for transformers
    /// and bandits.
    pub fn predict(&self, x: ArrayView2<'_, f64>) -> Result<Array1<f64>, ModelError> {
        if !self.spec.predicts() {
            return Err(self.gives_no("predictions"));
        }
        let state = self.state_for(&x)?;
        Ok(Table::of(x).rows().map(|row| state.predict(&self.spec, row.x)).collect())
    }

    /// Probability of every class (rows x classes). Error for models that are no classifiers.
    pub fn predict_proba(&self, x: ArrayView2<'_, f64>) -> Result<Array2<f64>, ModelError> {
        let state = self.state_for(&x)?;
        let mut probabilities = Vec::new();
        for row in Table::of(x).rows() {
            probabilities.extend(state.probabilities(&self.spec, row.x).ok_or_else(|| self.gives_no("probabilities"))?);
        }
        let classes = self.spec.classes().ok_or_else(|| self.gives_no("probabilities"))?;
        Array2::from_shape_vec((x.nrows(), classes), probabilities).map_err(|_| self.gives_no("probabilities"))
    }

    fn gives_no(&self, what: &'static str) -> ModelError {
        ModelError::NotGiven { kind: self.spec.kind(), what }
    }

    /// Euclidean distance of every row to its nearest centre. Error for models that are no clusterings.
    pub fn distance(&self, x: ArrayView2<'_, f64>) -> Result<Array1<f64>, ModelError> {
        Ok(self.distances(x)?.column(0).to_owned())
    }

    /// Distances of every row to the nearest and the second nearest centre (rows x 2; the second is infinite if there is one centre):
    /// what an evaluator of clusters looks at. Error for models that are no clusterings.
    pub fn distances(&self, x: ArrayView2<'_, f64>) -> Result<Array2<f64>, ModelError> {
        let state = self.state_for(&x)?;
        let State::KMeans(state) = &*state else {
            return Err(self.gives_no("distances"));
        };
        let mut distances = Array2::zeros((x.nrows(), 2));
        for (row, mut out) in Table::of(x).rows().zip(distances.rows_mut()) {
            let two = state.nearest_two(row.x);
            out[0] = two[0];
            out[1] = two[1];
        }
        Ok(distances)
    }

    /// Every row of `x` (rows x features) prepared with what was learnt so far. What is missing is not a number, and stays so unless it is
    /// filled in. Error for models that are no transformers of numbers.
    pub fn transform(&self, x: ArrayView2<'_, f64>) -> Result<Array2<f64>, ModelError> {
        let state = self.state_for(&x)?;
        let mut prepared = Vec::with_capacity(x.len());
        for row in Table::of(x).rows() {
            prepared
                .extend(state.transform(&self.spec, row.x).ok_or_else(|| self.gives_no("features made of numbers"))?);
        }
        Array2::from_shape_vec(x.dim(), prepared).map_err(|_| self.gives_no("features made of numbers"))
    }

    /// The texts of every row, one per column, as features (rows x features). Error for models that are no transformers of text.
    pub fn transform_text<'a>(
        &self,
        rows: impl IntoIterator<Item = Vec<Option<&'a str>>>,
    ) -> Result<Array2<f64>, ModelError> {
        let wrong = || self.gives_no("features of text");
        let spec = self.spec.one_hot().ok_or_else(wrong)?;
        let (mut count, mut features) = (0, Vec::new());
        let mut known: Option<Cow<'_, Categories>> = None;
        for texts in rows {
            let known = match &mut known {
                Some(known) => known,
                none => none.insert(self.categories(texts.len())?),
            };
            known.check_columns(texts.len())?;
            features.extend(known.features(spec, &texts));
            count += 1;
        }
        Array2::from_shape_vec((count, features.len() / count.max(1)), features).map_err(|_| wrong())
    }

    /// What one split of texts, one per column in each row, adds to a batch; as [`Model::partial`]. Error for models that are no
    /// transformers of text.
    pub fn partial_of_text<'a>(
        &self,
        rows: impl IntoIterator<Item = Vec<Option<&'a str>>>,
    ) -> Result<Partial, ModelError> {
        let spec = self.spec.one_hot().ok_or_else(|| self.gives_no("features of text"))?;
        let mut rows = rows.into_iter().peekable();
        let Some(columns) = rows.peek().map(Vec::len) else { return Ok(Partial::default()) };
        Ok(self.categories(columns)?.unknown(spec, rows))
    }

    fn categories(&self, columns: usize) -> Result<Cow<'_, Categories>, ModelError> {
        match &self.state {
            Some(State::OneHot(known)) => known.check_columns(columns).map(|()| Cow::Borrowed(known)),
            _ => match State::new(&self.spec, columns) {
                State::OneHot(known) => Ok(Cow::Owned(known)),
                _ => Err(self.gives_no("features of text")),
            },
        }
    }

    /// The place of the arm that each row gets: a function of the model and of the row's id and context (rows x context; no columns for
    /// a policy without contexts). Error for models that are no bandits.
    pub fn choose(&self, ids: &[u64], context: ArrayView2<'_, f64>) -> Result<Vec<usize>, ModelError> {
        let (rows, contexts, found) = (ids.len(), context.nrows(), context.ncols());
        if rows != contexts {
            return Err(ModelError::Contexts { rows, contexts });
        }
        let state = match &self.state {
            Some(state) => Cow::Borrowed(state),
            None => Cow::Owned(State::new(&self.spec, 1 + found)),
        };
        match state.dimension(&self.spec).saturating_sub(1) {
            expected if self.spec.arms().is_some() && expected != found && rows > 0 => {
                Err(ModelError::Dimension { expected, found })
            }
            _ => state
                .choose(&self.spec, &self.counters, ids, &context)
                .ok_or_else(|| self.gives_no("choices among arms")),
        }
    }

    /// Learns one batch.
    ///
    /// The splits are taken in their order: sums are made per split and added in order, so the same splits give the same bytes. Models
    /// of mode `per_record` learn row after row, as [`Model::train_per_record`].
    pub fn train(&mut self, splits: &[Rows<'_>]) -> Result<Trained, ModelError> {
        let mut state = self.start(splits)?;
        let tables: Vec<Table<'_>> = splits.iter().map(Table::new).collect();
        let trained = match &mut state {
            Some(state) => state.batch(&self.spec, &tables)?,
            None => Trained::default(),
        };
        self.finish(state, &trained);
        Ok(trained)
    }

    /// What one split adds to a batch that is learnt in one pass ([`ModelSpec::one_pass`]); error for other models and for rows that the
    /// model cannot take. `train(splits)` is `apply` of the partials of all splits.
    pub fn partial(&self, split: &Rows<'_>) -> Result<Partial, ModelError> {
        split.check(self.spec.kind(), self.spec.supervised())?;
        if self.state.is_none() && split.x.nrows() == 0 {
            return Ok(Partial::default());
        }
        let state = self.state_for(&split.x)?;
        let one_pass = self.spec.one_pass(state.dimension(&self.spec));
        let partial = if one_pass { state.partial(&self.spec, &Table::new(split)) } else { None };
        partial.ok_or_else(|| self.gives_no("sums over rows"))
    }

    /// Learns one batch from what its splits add to it, in the order of the splits. The partials have to be made by this model as of the
    /// batch before.
    pub fn apply(&mut self, partials: &[Partial]) -> Result<Trained, ModelError> {
        let first = partials.iter().map(|partial| partial.dimension).find(|dimension| *dimension > 0);
        let mut state = self.state.clone().or_else(|| first.map(|dimension| State::new(&self.spec, dimension)));
        let trained = match &mut state {
            Some(state) => state.apply(&self.spec, partials)?,
            None => Trained::default(),
        };
        self.finish(state, &trained);
        Ok(trained)
    }

    /// Predicts each row, then learns it; the predictions in the order of the rows. One call is one batch. Error for models of mode
    /// `batch`.
    pub fn train_per_record(&mut self, rows: &Rows<'_>) -> Result<(Array1<f64>, Trained), ModelError> {
        if !self.spec.per_record() {
            return Err(self.gives_no("learning per record in mode batch"));
        }
        let (predictions, trained) = self.train_records(std::slice::from_ref(rows))?;
        Ok((Array1::from_vec(predictions), trained))
    }

    /// Predicts each row, then learns it; one batch.
    pub(crate) fn train_records(&mut self, splits: &[Rows<'_>]) -> Result<(Vec<f64>, Trained), ModelError> {
        let mut state = self.start(splits)?;
        let tables: Vec<Table<'_>> = splits.iter().map(Table::new).collect();
        let mut predictions = Vec::new();
        let trained = match &mut state {
            None => Trained::default(),
            Some(state) => Trained::of_records(tables.iter().flat_map(Table::rows), |row| {
                predictions.push(state.predict(&self.spec, row.x));
                state.record(&self.spec, row)
            }),
        };
        self.finish(state, &trained);
        Ok((predictions, trained))
    }

    /// The state to learn into. None: nothing is known of the features yet, and the batch has no rows.
    fn start(&self, splits: &[Rows<'_>]) -> Result<Option<State>, ModelError> {
        let mut state = self.state.clone();
        for split in splits {
            split.check(self.spec.kind(), self.spec.supervised())?;
            if split.x.nrows() == 0 {
                continue;
            }
            let found = split.x.ncols();
            let expected = state.get_or_insert_with(|| State::new(&self.spec, found)).dimension(&self.spec);
            if expected != found {
                return Err(ModelError::Dimension { expected, found });
            }
        }
        Ok(state)
    }

    fn finish(&mut self, state: Option<State>, trained: &Trained) {
        self.state = state;
        // A batch without rows to learn is none that it has learnt from.
        self.counters.batches += u64::from(trained.rows > 0);
        self.counters.rows += trained.rows;
        self.counters.skipped += trained.skipped;
        let finite = self.state.as_ref().is_none_or(|state| state.finite(&self.spec));
        self.counters.diverged_since = match self.counters.diverged_since {
            _ if finite => None,
            Some(batch) => Some(batch),
            None => Some(self.counters.batches),
        };
    }

    /// The state to predict `x` with.
    fn state_for(&self, x: &ArrayView2<'_, f64>) -> Result<Cow<'_, State>, ModelError> {
        let found = x.ncols();
        match &self.state {
            Some(state) => match state.dimension(&self.spec) {
                expected if x.nrows() > 0 && expected != found => Err(ModelError::Dimension { expected, found }),
                _ => Ok(Cow::Borrowed(state)),
            },
            None => Ok(Cow::Owned(State::new(&self.spec, found))),
        }
    }

    /// What it has learnt, by name, in a fixed order; see [`Model::learned_shape`].
    pub fn learned(&self) -> Vec<(&'static str, Learned)> {
        let state = self.state.clone().unwrap_or_else(|| State::new(&self.spec, 0));
        let names = State::shape(&self.spec).iter().map(|(name, _)| *name);
        names.zip(state.learned(&self.spec)).collect()
    }

    /// Names and kinds of what [`Model::learned`] gives for models of a definition, without data.
    pub fn learned_shape(spec: &ModelSpec) -> Vec<(&'static str, LearnedKind)> {
        State::shape(spec).to_vec()
    }
}
