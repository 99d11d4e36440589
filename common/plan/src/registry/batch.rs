//! Users' functions over all rows of a unit.

use super::{FunctionError, FunctionKind, FunctionRef};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use std::fmt;
use std::sync::Arc;

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

    pub(crate) fn function_ref(&self) -> &FunctionRef {
        &self.function_ref
    }

    /// The columns of what it gives.
    pub(crate) fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Calls it; the result has the declared columns.
    pub(crate) fn call(&self, rows: &RecordBatch) -> Result<RecordBatch, FunctionError> {
        let name = &self.function_ref.name;
        let result = (self.call)(rows).map_err(|error| FunctionError(format!("`{name}`: {error}")))?;
        let same = result.num_columns() == self.schema.fields().len()
            && result.columns().iter().zip(self.schema.fields()).all(|(c, field)| c.data_type() == field.data_type());
        if !same {
            let got: Vec<_> = result.columns().iter().map(|column| column.data_type().clone()).collect();
            return Err(FunctionError(format!("{self:?} gave columns of other types: {}", super::shown(&got))));
        }
        RecordBatch::try_new(self.schema.clone(), result.columns().to_vec()).map_err(FunctionError::new)
    }
}
