//! Users' functions over many rows at once: all of a unit, or all of a batch.

use super::typed::Argument;
use super::{FunctionError, FunctionKind, FunctionRef};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use std::fmt;
use std::sync::Arc;
use tidemill_common::ids::{BatchId, JobId};
use tidemill_rows::canonical_rows;

type Call = Arc<dyn Fn(&RecordBatch) -> Result<RecordBatch, FunctionError> + Send + Sync>;

/// A function that makes rows of the rows of a unit (a block, a key group, or everything), all at once and in order.
#[derive(Clone)]
pub struct BatchMap {
    function_ref: FunctionRef,
    schema: SchemaRef,
    call: Call,
}

impl fmt::Debug for BatchMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types: Vec<_> = self.schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect();
        write!(f, "{} -> ({})", self.function_ref, types.join(", "))
    }
}

impl BatchMap {
    pub(super) fn new(name: &str, version: u32, schema: SchemaRef, call: Call) -> Self {
        let function_ref = FunctionRef { kind: FunctionKind::BatchMap, name: name.to_string(), version };
        Self { function_ref, schema, call }
    }

    /// The columns of what it gives.
    pub(crate) fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Calls it; the result has the declared columns.
    pub(crate) fn call(&self, rows: &RecordBatch) -> Result<RecordBatch, FunctionError> {
        let name = &self.function_ref.name;
        let result = (self.call)(rows).map_err(|error| FunctionError::new(format!("`{name}`: {error}")))?;
        let same = result.num_columns() == self.schema.fields().len()
            && result.columns().iter().zip(self.schema.fields()).all(|(c, field)| c.data_type() == field.data_type());
        if !same {
            let got: Vec<_> = result.columns().iter().map(|column| column.data_type().clone()).collect();
            return Err(FunctionError::new(format!("{self:?} gave columns of other types: {}", super::shown(&got))));
        }
        RecordBatch::try_new(self.schema.clone(), result.columns().to_vec())
            .map(canonical_rows)
            .map_err(FunctionError::new)
    }
}

/// All rows of a batch of one output.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The job.
    pub job: JobId,
    /// Which batch.
    pub batch: BatchId,
    /// Its time, milliseconds since 1970 UTC.
    pub time_ms: i64,
    /// Another number, and a greater one, for every attempt at the batch.
    pub attempt: u64,
    /// The rows, in order; none for an empty batch.
    pub records: RecordBatch,
}

impl Batch {
    /// The rows one by one.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        (0..self.records.num_rows()).map(|index| Row { records: &self.records, index })
    }
}

/// A row of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    records: &'a RecordBatch,
    index: usize,
}

impl<'a> Row<'a> {
    /// The value in a column: `row.get::<&str>("user")?`, `row.get::<Option<f64>>("price")?`.
    ///
    /// # Errors
    /// When there is no such column, it has another type, or the value is null and `T` is no `Option`.
    pub fn get<T: Argument>(&self, column: &str) -> Result<T::Item<'a>, FunctionError> {
        let records = self.records;
        let found = records.column_by_name(column);
        let found = found.ok_or_else(|| FunctionError::new(format!("there is no column `{column}`")))?;
        let typed = found.as_any().downcast_ref::<T::Array>().ok_or_else(|| {
            FunctionError::new(format!("column `{column}` is a {}, not a {}", found.data_type(), T::data_type()))
        })?;
        T::get(typed, self.index).ok_or_else(|| FunctionError::new(format!("column `{column}` is null")))
    }
}

type Handle = Arc<dyn Fn(&Batch) -> Result<(), FunctionError> + Send + Sync>;

/// A registered function that sees every batch of an output.
#[derive(Clone)]
pub struct BatchHandler(Handle);

impl fmt::Debug for BatchHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BatchHandler")
    }
}

impl BatchHandler {
    pub(super) fn new(handler: impl Fn(&Batch) -> Result<(), FunctionError> + Send + Sync + 'static) -> Self {
        Self(Arc::new(handler))
    }

    /// Calls it.
    ///
    /// # Errors
    /// Its own.
    pub fn call(&self, batch: &Batch) -> Result<(), FunctionError> {
        (self.0)(batch)
    }
}
