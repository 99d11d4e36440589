//! `train`: a model learns from the rows of each batch, or from sums over them that were made where they are.

use super::predict::spread;
use super::rows::{Learnable, Lesson};
use super::show::{learned, learned_schema};
use super::watch::said;
use super::{Fold, Folded};
use crate::error::PlanError;
use crate::plan::BatchContext;
use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use std::borrow::Cow;
use std::sync::Arc;
use tidemill_ml::drift::DetectorSpec;
use tidemill_ml::{Acted, DecodeError, DriftAction, Health, Model, ModelSpec, Partial, Trained, Watched};

/// Trains one model.
#[derive(Debug)]
pub(crate) struct TrainFold {
    lesson: Lesson,
    comes: Comes,
    /// What watches the model's errors. The value is a model then that watches itself; a model alone, as it is before the first batch or
    /// comes from outside, does so from then on.
    watch: Option<Watch>,
    /// How many of the last columns pass through.
    passing: usize,
    row_schema: SchemaRef,
    snapshot_schema: SchemaRef,
}

/// A detector, and what happens when it finds that errors rise.
pub(crate) type Watch = (DetectorSpec, DriftAction);

/// What comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comes {
    /// Rows to learn one after the other, and what passes through.
    Records,
    /// Rows that are learnt together.
    Rows,
    /// What [`Partial`](super::Partial) gives; not for a model that is watched.
    Partials,
}

/// Columns of a model that watches its errors: what its detector says, and what is done.
pub(crate) const WATCHED: [&str; 2] = ["drift", "action"];

impl TrainFold {
    /// `passing` are the columns that come out again where each record is predicted before it is learnt.
    pub(crate) fn new(lesson: Lesson, spec: &ModelSpec, comes: Comes, watch: Option<Watch>, passing: &Schema) -> Self {
        let field = |name: &str, data_type, nullable| Arc::new(Field::new(name, data_type, nullable));
        let (mut fields, passing) = if comes == Comes::Records {
            let prediction = field("prediction", DataType::Float64, true);
            (passing.fields().iter().cloned().chain([prediction]).collect::<Vec<_>>(), passing.fields().len())
        } else {
            let count = |name: &str| field(name, DataType::Int64, false);
            let loss = field("loss", DataType::Float64, true);
            let diverged = field("diverged", DataType::Boolean, false);
            (vec![count("rows"), count("skipped"), count("updates"), loss, diverged], 0)
        };
        fields.extend(WATCHED.iter().filter(|_| watch.is_some()).map(|name| field(name, DataType::Utf8, true)));
        let row_schema = Arc::new(Schema::new(fields));
        Self { lesson, comes, watch, passing, row_schema, snapshot_schema: learned_schema(spec) }
    }

    /// What comes out of the operator.
    pub(crate) fn row_schema(&self) -> SchemaRef {
        self.row_schema.clone()
    }

    /// What a model shows.
    pub(crate) fn snapshot_schema(&self) -> SchemaRef {
        self.snapshot_schema.clone()
    }

    /// A batch of a model that only learns: what comes out, and whether it has learnt something.
    fn learn(&self, model: &mut Model, rows: &RecordBatch) -> Result<(RecordBatch, bool), PlanError> {
        let wrong = |error| self.lesson.wrong(&error);
        let (columns, trained) = match self.comes {
            Comes::Partials => {
                let (partials, nulls) = self.partials(rows)?;
                let trained = model.apply(&partials).map_err(wrong)?;
                (report(model, &trained, nulls), trained)
            }
            Comes::Rows => {
                let learnable = self.lesson.learnable(rows)?;
                let trained = model.train(&learnable.splits()).map_err(wrong)?;
                (report(model, &trained, (rows.num_rows() - learnable.len()) as u64), trained)
            }
            Comes::Records => {
                let learnable = self.lesson.learnable(rows)?;
                let (predicted, trained) =
                    model.train_per_record(&learnable.rows(0..learnable.len())).map_err(wrong)?;
                (self.records(rows, &learnable, predicted.iter().copied()), trained)
            }
        };
        Ok((self.out(rows, columns)?, trained.rows > 0))
    }

    /// The same of a model that watches its errors.
    fn watch(&self, watched: &mut Watched, rows: &RecordBatch) -> Result<(RecordBatch, bool), PlanError> {
        let learnable = self.lesson.learnable(rows)?;
        let batch = watched.train(&learnable.splits()).map_err(|error| self.lesson.wrong(&error))?;
        let anew = matches!(batch.acted, Some(Acted::Reset | Acted::Replaced));
        let acted = batch.acted.map(Acted::name);
        let columns = if self.comes == Comes::Records {
            let mut columns = self.records(rows, &learnable, batch.rows.iter().map(|(prediction, _)| *prediction));
            let said = batch.rows.iter().map(|(_, drift)| said(*drift));
            let said = spread(&learnable.found.places, rows.num_rows(), said).map(Option::flatten);
            columns.push(Arc::new(said.collect::<StringArray>()) as ArrayRef);
            // What is done is done after the last row.
            let last = rows.num_rows().saturating_sub(1);
            let acted = (0..rows.num_rows()).map(|row| acted.filter(|_| row == last));
            columns.push(Arc::new(acted.collect::<StringArray>()));
            columns
        } else {
            let mut columns = report(watched.model(), &batch.trained, (rows.num_rows() - learnable.len()) as u64);
            columns
                .extend([said(batch.drift()), acted].map(|text| Arc::new(StringArray::from(vec![text])) as ArrayRef));
            columns
        };
        Ok((self.out(rows, columns)?, anew || batch.trained.rows > 0))
    }

    /// Nothing comes out of nothing.
    fn out(&self, rows: &RecordBatch, columns: Vec<ArrayRef>) -> Result<RecordBatch, PlanError> {
        if rows.num_rows() == 0 {
            return Ok(RecordBatch::new_empty(self.row_schema.clone()));
        }
        Ok(RecordBatch::try_new(self.row_schema.clone(), columns)?)
    }

    /// The sums that came, and the number of rows with a null.
    fn partials(&self, rows: &RecordBatch) -> Result<(Vec<Partial>, u64), PlanError> {
        let [partials, nulls] = rows.columns() else {
            return Err(PlanError::Internal("partial sums are two columns".into()));
        };
        let read = |bytes| Partial::from_bytes(bytes).map_err(|error| self.damaged(&error));
        let partials = partials.as_binary::<i32>().iter().flatten().map(read).collect::<Result<_, _>>()?;
        Ok((partials, nulls.as_primitive::<Int64Type>().iter().flatten().map(i64::unsigned_abs).sum()))
    }

    /// What passes through, with what was predicted of the rows that were learnt.
    fn records(
        &self,
        rows: &RecordBatch,
        learnable: &Learnable,
        predicted: impl Iterator<Item = f64>,
    ) -> Vec<ArrayRef> {
        let predictions = spread(&learnable.found.places, rows.num_rows(), predicted);
        let mut columns = rows.columns()[rows.num_columns() - self.passing..].to_vec();
        columns.push(Arc::new(predictions.collect::<Float64Array>()));
        columns
    }

    fn read(&self, bytes: &[u8]) -> Result<Model, PlanError> {
        Model::from_bytes(bytes).map_err(|error| self.damaged(&error))
    }

    fn watched(&self, value: &[u8], (detector, action): &Watch) -> Result<Watched, PlanError> {
        match Watched::from_bytes(value) {
            Err(DecodeError::Foreign { .. }) => Watched::new(self.read(value)?, detector.clone(), *action)
                .map_err(|error| PlanError::Internal(error.to_string())),
            watched => watched.map_err(|error| self.damaged(&error)),
        }
    }

    fn damaged(&self, error: &DecodeError) -> PlanError {
        PlanError::Malformed(format!("model `{}`: {error}", self.lesson.model))
    }
}

/// What a batch has done to a model.
fn report(model: &Model, trained: &Trained, nulls: u64) -> Vec<ArrayRef> {
    let count = |count: u64| Arc::new(Int64Array::from(vec![i64::try_from(count).unwrap_or(i64::MAX)])) as ArrayRef;
    vec![
        count(trained.rows),
        count(trained.skipped + nulls),
        count(u64::from(trained.updates)),
        Arc::new(Float64Array::from(vec![trained.loss])),
        Arc::new(BooleanArray::from(vec![model.health() != Health::Healthy])),
    ]
}

impl Fold for TrainFold {
    /// A batch without rows matters to some: clusters forget.
    fn every_key(&self) -> bool {
        true
    }

    fn step(&self, value: Option<&[u8]>, rows: &RecordBatch, _: &BatchContext) -> Result<Folded, PlanError> {
        let missing = || PlanError::Internal(format!("model `{}` is not in the state", self.lesson.model));
        let before = value.ok_or_else(missing)?;
        let ((rows, learnt), after) = match &self.watch {
            Some(watch) => {
                let mut watched = self.watched(before, watch)?;
                (self.watch(&mut watched, rows)?, watched.to_bytes())
            }
            None => {
                let mut model = self.read(before)?;
                (self.learn(&mut model, rows)?, model.to_bytes())
            }
        };
        Ok(Folded { value: (after != before).then_some(after), learnt, rows })
    }

    fn model<'v>(&self, value: &'v [u8]) -> Result<Cow<'v, [u8]>, PlanError> {
        match Watched::model_bytes(value) {
            Err(DecodeError::Foreign { .. }) => Ok(Cow::Borrowed(value)),
            model => model.map(Cow::Owned).map_err(|error| self.damaged(&error)),
        }
    }

    fn show(&self, value: &[u8]) -> Result<RecordBatch, PlanError> {
        Ok(learned(&self.read(&self.model(value)?)?, &self.snapshot_schema)?)
    }
}
