//! A model: what it is, what it has learnt, and what may be asked of it.

use crate::{
    erased::State,
    error::{ModelError, SpecError},
    partial::Partial,
    report::{Counters, Health, Learned, LearnedKind, Trained},
    rows::{Rows, Table},
    spec::ModelSpec,
};
use ndarray::{Array1, Array2, ArrayView2};
use std::borrow::Cow;

/// A model as of some batch.
///
/// A failed call leaves it as it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    pub(crate) spec: ModelSpec,
    /// None until the number of features is known.
    pub(crate) state: Option<Box<State>>,
    pub(crate) counters: Counters,
}

impl Model {
    /// A model before any data. The error names the parameter that cannot be.
    pub fn new(spec: ModelSpec) -> Result<Model, SpecError> {
        spec.validate()?;
        Ok(Model { spec, state: None, counters: Counters::default() }.anew())
    }

    /// A model of the same definition before any data.
    pub(crate) fn anew(&self) -> Model {
        let state = self.spec.fixed().map(|fixed| self.spec.0.begin(fixed.features));
        Model { spec: self.spec.clone(), state, counters: Counters::default() }
    }

    /// What it is.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Number of features: fixed by initial weights or centres, else by the first batch that has rows.
    pub fn dimension(&self) -> Option<usize> {
        self.state.as_ref().map(|state| state.features())
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
        Ok(Array1::from_vec(state.predict(&Table::of(x))))
    }

    /// Probability of every class (rows x classes). Error for models that are no classifiers.
    pub fn predict_proba(&self, x: ArrayView2<'_, f64>) -> Result<Array2<f64>, ModelError> {
        let state = self.state_for(&x)?;
        let wrong = || self.gives_no("probabilities");
        let classes = self.spec.classes().ok_or_else(wrong)?;
        let probabilities = state.probabilities(&Table::of(x)).ok_or_else(wrong)?;
        Array2::from_shape_vec((x.nrows(), classes), probabilities).map_err(|_| wrong())
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
        let distances = state.distances(&Table::of(x)).filter(|_| self.spec.clusters());
        Ok(Array2::from(distances.ok_or_else(|| self.gives_no("distances"))?))
    }

    /// Every row of `x` (rows x features) prepared with what was learnt so far. What is missing is not a number, and stays so unless it is
    /// filled in. Error for models that are no transformers of numbers.
    pub fn transform(&self, x: ArrayView2<'_, f64>) -> Result<Array2<f64>, ModelError> {
        let state = self.state_for(&x)?;
        let wrong = || self.gives_no("features made of numbers");
        let prepared = state.transform(&Table::of(x)).ok_or_else(wrong)?;
        let width = self.spec.width(x.ncols()).ok_or_else(wrong)?;
        Array2::from_shape_vec((x.nrows(), width), prepared).map_err(|_| wrong())
    }

    /// The texts of every row, one per column, as features (rows x features). Error for models that are no transformers of text.
    pub fn transform_text<'a>(
        &self,
        rows: impl IntoIterator<Item = Vec<Option<&'a str>>>,
    ) -> Result<Array2<f64>, ModelError> {
        let wrong = || self.gives_no("features of text");
        let (mut count, mut features) = (0, Vec::new());
        let mut rows = rows.into_iter().peekable();
        let columns = rows.peek().map(Vec::len);
        let state = self.state_of_text(columns.unwrap_or(0))?;
        for texts in rows {
            of_width(&*state, texts.len())?;
            features.extend(state.transform_text(&texts).ok_or_else(wrong)?);
            count += 1;
        }
        let width = columns.or(self.dimension()).and_then(|columns| self.spec.width(columns)).unwrap_or(0);
        Array2::from_shape_vec((count, width), features).map_err(|_| wrong())
    }

    /// What one split of texts, one per column in each row, adds to a batch; as [`Model::partial`]. Error for models that are no
    /// transformers of text.
    pub fn partial_of_text<'a>(
        &self,
        rows: impl IntoIterator<Item = Vec<Option<&'a str>>>,
    ) -> Result<Partial, ModelError> {
        let mut rows = rows.into_iter().peekable();
        let columns = rows.peek().map(Vec::len);
        let state = self.state_of_text(columns.unwrap_or(0))?;
        match columns {
            None => return Ok(Partial::default()),
            Some(columns) => of_width(&*state, columns)?,
        }
        state.gather_text(&mut rows).ok_or_else(|| self.gives_no("features of text"))
    }

    /// The state to ask about texts in so many columns.
    fn state_of_text(&self, columns: usize) -> Result<Cow<'_, State>, ModelError> {
        if !self.spec.takes_text() {
            return Err(self.gives_no("features of text"));
        }
        Ok(self.state_or_new(columns))
    }

    /// The place of the arm that each row gets: a function of the model and of the row's id and context (rows x context; no columns for
    /// a policy without contexts). Error for models that are no bandits.
    pub fn choose(&self, ids: &[u64], context: ArrayView2<'_, f64>) -> Result<Vec<usize>, ModelError> {
        let (rows, contexts, found) = (ids.len(), context.nrows(), context.ncols());
        if rows != contexts {
            return Err(ModelError::Contexts { rows, contexts });
        }
        let state = self.state_or_new(1 + found);
        match state.features().saturating_sub(1) {
            expected if self.spec.arms().is_some() && expected != found && rows > 0 => {
                Err(ModelError::Dimension { expected, found })
            }
            _ => state.choose(&self.counters, ids, &context).ok_or_else(|| self.gives_no("choices among arms")),
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
            Some(state) => state.train(&tables)?,
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
        let one_pass = self.spec.one_pass(state.features());
        let partial = if one_pass { state.partial(&Table::new(split)) } else { None };
        partial.ok_or_else(|| self.gives_no("sums over rows"))
    }

    /// Learns one batch from what its splits add to it, in the order of the splits. The partials have to be made by this model as of the
    /// batch before.
    pub fn apply(&mut self, partials: &[Partial]) -> Result<Trained, ModelError> {
        let first = partials.iter().map(|partial| partial.dimension).find(|dimension| *dimension > 0);
        let mut state = self.state.clone().or_else(|| first.map(|features| self.spec.0.begin(features)));
        let trained = match &mut state {
            Some(state) => state.apply(partials)?,
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
        let (predictions, trained) = match &mut state {
            None => Default::default(),
            Some(state) => state.train_records(&tables),
        };
        self.finish(state, &trained);
        Ok((predictions, trained))
    }

    /// The state to learn into. None: nothing is known of the features yet, and the batch has no rows.
    fn start(&self, splits: &[Rows<'_>]) -> Result<Option<Box<State>>, ModelError> {
        let mut state = self.state.clone();
        for split in splits {
            split.check(self.spec.kind(), self.spec.supervised())?;
            if split.x.nrows() == 0 {
                continue;
            }
            let found = split.x.ncols();
            of_width(&**state.get_or_insert_with(|| self.spec.0.begin(found)), found)?;
        }
        Ok(state)
    }

    fn finish(&mut self, state: Option<Box<State>>, trained: &Trained) {
        self.state = state;
        // A batch without rows to learn is none that it has learnt from.
        self.counters.batches += u64::from(trained.rows > 0);
        self.counters.rows += trained.rows;
        self.counters.skipped += trained.skipped;
        let finite = self.state.as_ref().is_none_or(|state| state.finite());
        self.counters.diverged_since = match self.counters.diverged_since {
            _ if finite => None,
            Some(batch) => Some(batch),
            None => Some(self.counters.batches),
        };
    }

    /// The state to predict `x` with.
    fn state_for(&self, x: &ArrayView2<'_, f64>) -> Result<Cow<'_, State>, ModelError> {
        let state = self.state_or_new(x.ncols());
        if x.nrows() > 0 && self.state.is_some() {
            of_width(&*state, x.ncols())?;
        }
        Ok(state)
    }

    /// What was learnt, or what it is before any data.
    fn state_or_new(&self, features: usize) -> Cow<'_, State> {
        match &self.state {
            Some(state) => Cow::Borrowed(&**state),
            None => Cow::Owned(self.spec.0.begin(features)),
        }
    }

    /// What it has learnt, by name, in a fixed order; see [`Model::learned_shape`].
    pub fn learned(&self) -> Vec<(&'static str, Learned)> {
        let names = self.spec.0.shape().iter().map(|(name, _)| *name);
        names.zip(self.state_or_new(0).learned()).collect()
    }

    /// Names and kinds of what [`Model::learned`] gives for models of a definition, without data.
    pub fn learned_shape(spec: &ModelSpec) -> Vec<(&'static str, LearnedKind)> {
        spec.0.shape().to_vec()
    }
}

/// Refuses rows with another number of features.
fn of_width(state: &State, found: usize) -> Result<(), ModelError> {
    match state.features() {
        expected if expected == found => Ok(()),
        expected => Err(ModelError::Dimension { expected, found }),
    }
}
