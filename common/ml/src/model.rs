//! A model: what it is, what it has learnt, and what may be asked of it.

use crate::{
    error::{ModelError, SpecError},
    kmeans::KMeansState,
    linear::{Learner, LinearSpec, LinearState, Loss, sigmoid},
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

/// What a model has learnt, by family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Linear(LinearState),
    #[serde(rename = "kmeans")]
    KMeans(KMeansState),
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
}

impl State {
    fn new(spec: &ModelSpec, dimension: usize) -> State {
        match spec {
            ModelSpec::LinearRegression(spec) | ModelSpec::LogisticRegression(spec) => {
                State::Linear(LinearState::new(spec, dimension))
            }
            ModelSpec::KMeans(spec) => State::KMeans(KMeansState::new(spec, dimension)),
        }
    }

    pub(crate) fn dimension(&self) -> usize {
        match self {
            State::Linear(state) => state.weights.len(),
            State::KMeans(state) => state.dimension(),
        }
    }

    fn finite(&self) -> bool {
        match self {
            State::Linear(state) => state.finite(),
            State::KMeans(state) => state.finite(),
        }
    }
}

/// Number of features that a definition fixes.
pub(crate) fn fixed_dimension(spec: &ModelSpec) -> Option<usize> {
    match spec {
        ModelSpec::LinearRegression(spec) | ModelSpec::LogisticRegression(spec) => {
            spec.initial_weights.as_ref().map(Vec::len)
        }
        ModelSpec::KMeans(spec) => spec.initial_centers.as_ref().and_then(|centers| centers.first()).map(Vec::len),
    }
}

impl Model {
    /// A model before any data. The error names the parameter that cannot be.
    pub fn new(spec: ModelSpec) -> Result<Model, SpecError> {
        spec.validate()?;
        let state = fixed_dimension(&spec).map(|dimension| State::new(&spec, dimension));
        Ok(Model { spec, state, counters: Counters::default() })
    }

    /// What it is.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Number of features: fixed by initial weights or centres, else by the first batch that has rows.
    pub fn dimension(&self) -> Option<usize> {
        self.state.as_ref().map(State::dimension)
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
    /// A model that has not seen a row yet predicts with its initial parameters, whatever the number of features.
    pub fn predict(&self, x: ArrayView2<'_, f64>) -> Result<Array1<f64>, ModelError> {
        let state = self.state_for(&x)?;
        Ok(Table::of(x).rows().map(|row| self.predict_row(&state, row.x)).collect())
    }

    fn predict_row(&self, state: &State, x: &[f64]) -> f64 {
        match (state, &self.spec) {
            (State::Linear(state), ModelSpec::LogisticRegression(spec)) => {
                f64::from(u8::from(sigmoid(state.margin(x)) > spec.threshold()))
            }
            (State::Linear(state), _) => state.margin(x),
            (State::KMeans(state), _) => state.nearest(x).0 as f64,
        }
    }

    /// Probability of every class (rows x classes). Error for models that are no classifiers.
    pub fn predict_proba(&self, x: ArrayView2<'_, f64>) -> Result<Array2<f64>, ModelError> {
        let state = self.state_for(&x)?;
        let (State::Linear(state), ModelSpec::LogisticRegression(_)) = (&*state, &self.spec) else {
            return Err(ModelError::NotGiven { kind: self.spec.kind(), what: "probabilities" });
        };
        let mut probabilities = Array2::zeros((x.nrows(), 2));
        for (row, mut out) in Table::of(x).rows().zip(probabilities.rows_mut()) {
            let p = sigmoid(state.margin(row.x));
            out[0] = 1.0 - p;
            out[1] = p;
        }
        Ok(probabilities)
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
            return Err(ModelError::NotGiven { kind: self.spec.kind(), what: "distances" });
        };
        let mut distances = Array2::zeros((x.nrows(), 2));
        for (row, mut out) in Table::of(x).rows().zip(distances.rows_mut()) {
            let two = state.nearest_two(row.x);
            out[0] = two[0];
            out[1] = two[1];
        }
        Ok(distances)
    }

    /// Learns one batch.
    ///
    /// The splits are taken in their order: sums are made per split and added in order, so the same splits give the same bytes. Models
    /// of mode `per_record` learn row after row, as [`Model::train_per_record`].
    pub fn train(&mut self, splits: &[Rows<'_>]) -> Result<Trained, ModelError> {
        let mut state = self.start(splits)?;
        let tables: Vec<Table<'_>> = splits.iter().map(Table::new).collect();
        let trained = match (&mut state, &self.spec) {
            (None, _) => Trained::default(),
            (Some(State::Linear(state)), spec) => match linear(spec, state) {
                Some(mut learner) if learner.spec.per_record() => {
                    records(tables.iter().flat_map(Table::rows), |row| learner.record(row))
                }
                Some(mut learner) => learner.batch(&tables),
                None => Trained::default(),
            },
            (Some(State::KMeans(state)), ModelSpec::KMeans(spec)) => state.batch(spec, &tables),
            (Some(State::KMeans(_)), _) => Trained::default(),
        };
        self.finish(state, &trained);
        Ok(trained)
    }

    /// Predicts each row, then learns it; the predictions in the order of the rows. Error for models of mode `batch`.
    pub fn train_per_record(&mut self, rows: &Rows<'_>) -> Result<(Array1<f64>, Trained), ModelError> {
        if !self.spec.per_record() {
            return Err(ModelError::NotGiven { kind: self.spec.kind(), what: "learning per record in mode batch" });
        }
        let mut state = self.start(std::slice::from_ref(rows))?;
        let table = Table::new(rows);
        let mut predictions = Vec::with_capacity(rows.x.nrows());
        let trained = match &mut state {
            None => Trained::default(),
            Some(state) => records(table.rows(), |row| {
                predictions.push(self.predict_row(state, row.x));
                match state {
                    State::Linear(state) => linear(&self.spec, state)?.record(row),
                    State::KMeans(_) => None,
                }
            }),
        };
        self.finish(state, &trained);
        Ok((Array1::from_vec(predictions), trained))
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
            let expected = state.get_or_insert_with(|| State::new(&self.spec, found)).dimension();
            if expected != found {
                return Err(ModelError::Dimension { expected, found });
            }
        }
        Ok(state)
    }

    fn finish(&mut self, state: Option<State>, trained: &Trained) {
        self.state = state;
        self.counters.batches += 1;
        self.counters.rows += trained.rows;
        self.counters.skipped += trained.skipped;
        let finite = self.state.as_ref().is_none_or(State::finite);
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
            Some(state) if x.nrows() > 0 && state.dimension() != found => {
                Err(ModelError::Dimension { expected: state.dimension(), found })
            }
            Some(state) => Ok(Cow::Borrowed(state)),
            None => Ok(Cow::Owned(State::new(&self.spec, found))),
        }
    }

    /// What it has learnt, by name, in a fixed order; see [`Model::learned_shape`].
    pub fn learned(&self) -> Vec<(&'static str, Learned)> {
        let start;
        let state = match &self.state {
            Some(state) => state,
            None => {
                start = State::new(&self.spec, 0);
                &start
            }
        };
        match state {
            State::Linear(state) => vec![
                ("weights", Learned::List(state.weights.clone())),
                ("intercept", Learned::Number(state.intercept)),
                ("updates", Learned::Count(state.updates)),
            ],
            State::KMeans(state) => vec![
                ("centers", Learned::Lists(state.centers.clone())),
                ("weights", Learned::List(state.weights.clone())),
            ],
        }
    }

    /// Names and kinds of what [`Model::learned`] gives for models of a definition, without data.
    pub fn learned_shape(spec: &ModelSpec) -> Vec<(&'static str, LearnedKind)> {
        match spec {
            ModelSpec::LinearRegression(_) | ModelSpec::LogisticRegression(_) => vec![
                ("weights", LearnedKind::List),
                ("intercept", LearnedKind::Number),
                ("updates", LearnedKind::Count),
            ],
            ModelSpec::KMeans(_) => vec![("centers", LearnedKind::Lists), ("weights", LearnedKind::List)],
        }
    }
}

fn linear<'a>(spec: &'a ModelSpec, state: &'a mut LinearState) -> Option<Learner<'a>> {
    let (spec, loss): (&LinearSpec, Loss) = match spec {
        ModelSpec::LinearRegression(spec) => (spec, Loss::Squared),
        ModelSpec::LogisticRegression(spec) => (spec, Loss::Logistic),
        ModelSpec::KMeans(_) => return None,
    };
    Some(Learner { spec, loss, state })
}

/// Row after row; `learn` gives the loss of a row before it was learnt, or None if it was not.
fn records<'a>(rows: impl Iterator<Item = Row<'a>>, mut learn: impl FnMut(&Row<'a>) -> Option<f64>) -> Trained {
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
