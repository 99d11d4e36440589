//! Functions that users write in Rust and register by name.
//!
//! A registry goes into [`compile`](crate::compile()) on every process alike. Names, versions and types of the
//! functions that a job uses are part of its plan and of its fingerprint, so a cluster whose processes know other
//! functions, or other versions of them, refuses the job.

mod aggregate;
mod batch;
mod scalar;
mod typed;
mod uses;

pub use aggregate::Aggregate;
pub use batch::{Batch, BatchHandler, BatchMap, Row};
pub use scalar::ArrowScalar;
pub use tidemill_connect::sources::receiver::{
    FunctionError, Receiver, ReceiverFactory, ReceiverOptions, Restart, Store, StoreError,
};
pub use typed::{Argument, Arguments, ScalarFunction, ScalarResult, Value};

pub(crate) use uses::{Uses, is_users};

use crate::decode::arrow_type;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, LazyLock};
use tidemill_connect::{Connectors, SinkConnector, SourceConnector};
use tidemill_job::ColumnType;

/// What a function is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FunctionKind {
    /// One value for every row, in any expression.
    Scalar,
    /// One value for many rows, wherever an aggregate may stand.
    Aggregate,
    /// Rows for the rows of a unit: `batch_map`.
    BatchMap,
    /// Sees every batch: `for_each_batch`.
    ForEachBatch,
    /// Gets records: `connector = "receiver"`.
    Receiver,
    /// A kind of source: `connector = "NAME"`.
    Source,
    /// A kind of sink: a key of `[[output]]`.
    Sink,
}

impl FunctionKind {
    /// Its name, on the wire and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Aggregate => "aggregate",
            Self::BatchMap => "batch_map",
            Self::ForEachBatch => "for_each_batch",
            Self::Receiver => "receiver",
            Self::Source => "source",
            Self::Sink => "sink",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        use FunctionKind::{Aggregate, BatchMap, ForEachBatch, Receiver, Scalar, Sink, Source};
        let all = [Scalar, Aggregate, BatchMap, ForEachBatch, Receiver, Source, Sink];
        all.into_iter().find(|kind| kind.name() == name)
    }
}

/// A function that a job uses or a process knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FunctionRef {
    /// What it is for.
    pub kind: FunctionKind,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
}

impl fmt::Display for FunctionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind.name(), self.name)?;
        if self.version == UNVERSIONED { Ok(()) } else { write!(f, " version {}", self.version) }
    }
}

/// Why a function was not registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The name is not letters, digits and `_`, or begins with a digit.
    #[error("`{0}` is not a name for a function: letters, digits and `_`, not beginning with a digit")]
    Name(String),
    /// A function of that name is there already.
    #[error("there are two functions called `{0}`")]
    Twice(String),
    /// SQL has a function of that name.
    #[error("`{0}` is the name of an SQL function; choose another")]
    BuiltIn(String),
    /// A column type that does not exist.
    #[error("function `{function}`: column `{column}`: `{data_type}` is not a type; expected {expected}")]
    Type {
        /// The function.
        function: String,
        /// Its column.
        column: String,
        /// What was written.
        data_type: String,
        /// What there is.
        expected: &'static str,
    },
    /// A function without columns, or with two of one name.
    #[error("function `{0}` needs at least one column, each with a name of its own")]
    Columns(String),
    /// A kind of source that cannot be registered.
    #[error(transparent)]
    Connector(#[from] tidemill_connect::RegisterError),
}

/// The version of what has none.
pub(crate) const UNVERSIONED: u32 = 0;

/// All functions that a process knows. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Functions {
    scalars: BTreeMap<String, Arc<ScalarUDF>>,
    aggregates: BTreeMap<String, Arc<AggregateUDF>>,
    batch_maps: BTreeMap<String, BatchMap>,
    batch_handlers: BTreeMap<String, BatchHandler>,
    receivers: BTreeMap<String, ReceiverFactory>,
    connectors: Connectors,
    known: BTreeSet<FunctionRef>,
}

impl Functions {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a function of one row: a closure over up to four plain values (`bool`, `i32`, `i64`, `f32`, `f64`, `&str`, or
    /// `Option` of them) that gives one (or an `Option`, or a `Result`).
    ///
    /// Where an argument that is no `Option` is null, the function is not called and the result is null.
    ///
    /// It must be pure: the same arguments, the same value, on any machine, at any time. A batch may be computed twice,
    /// and has to come out the same.
    ///
    /// # Errors
    /// When the name cannot be used.
    pub fn scalar<M>(
        &mut self,
        name: &str,
        version: u32,
        function: impl ScalarFunction<M>,
    ) -> Result<(), RegisterError> {
        self.name(FunctionKind::Scalar, name, version)?;
        self.scalars.insert(name.to_string(), Arc::new(scalar::typed(name, version, function)));
        Ok(())
    }

    /// Registers a function of one row over Arrow arrays. As pure as the other kind.
    ///
    /// # Errors
    /// When the name cannot be used.
    pub fn scalar_arrow(&mut self, name: &str, version: u32, function: ArrowScalar) -> Result<(), RegisterError> {
        self.name(FunctionKind::Scalar, name, version)?;
        self.scalars.insert(name.to_string(), Arc::new(scalar::arrow(name, version, function)));
        Ok(())
    }

    /// Registers an aggregate. As pure as a scalar.
    ///
    /// # Errors
    /// When the name cannot be used.
    pub fn aggregate(&mut self, name: &str, version: u32, aggregate: impl Aggregate) -> Result<(), RegisterError> {
        self.name(FunctionKind::Aggregate, name, version)?;
        self.aggregates.insert(name.to_string(), Arc::new(aggregate::udaf(name, version, aggregate)));
        Ok(())
    }

    /// Registers a function for `batch_map`; `columns` are names and types (as in a definition) of the rows it gives.
    /// As pure as a scalar.
    ///
    /// # Errors
    /// When the name or a column cannot be used.
    pub fn batch_map(
        &mut self,
        name: &str,
        version: u32,
        columns: &[(&str, &str)],
        function: impl Fn(&crate::arrow::array::RecordBatch) -> Result<crate::arrow::array::RecordBatch, FunctionError>
        + Send
        + Sync
        + 'static,
    ) -> Result<(), RegisterError> {
        let schema = columns_of(name, columns)?;
        self.name(FunctionKind::BatchMap, name, version)?;
        let function = BatchMap::new(name, version, Arc::new(schema), Arc::new(function));
        self.batch_maps.insert(name.to_string(), function);
        Ok(())
    }

    /// Registers a function that is called with all rows of every batch of an output, in order, on one worker. It may do
    /// anything; it is called at least once per batch: again, with another [`attempt`](Batch::attempt), when a batch
    /// runs again after a failure. When it fails, the batch's task is tried again, `max_task_failures` times.
    ///
    /// It has no version: its work is no part of the results.
    ///
    /// # Errors
    /// When the name cannot be used.
    pub fn for_each_batch(
        &mut self,
        name: &str,
        handler: impl Fn(&Batch) -> Result<(), FunctionError> + Send + Sync + 'static,
    ) -> Result<(), RegisterError> {
        self.name(FunctionKind::ForEachBatch, name, UNVERSIONED)?;
        self.batch_handlers.insert(name.to_string(), BatchHandler::new(handler));
        Ok(())
    }

    /// The handler of this name.
    pub fn batch_handler(&self, name: &str) -> Option<&BatchHandler> {
        self.batch_handlers.get(name)
    }

    /// Registers what makes the receivers of sources with `connector = "receiver"`. It has no version.
    ///
    /// # Errors
    /// When the name cannot be used.
    pub fn receiver<R: Receiver>(
        &mut self,
        name: &str,
        make: impl Fn(&ReceiverOptions) -> Result<R, FunctionError> + Send + Sync + 'static,
    ) -> Result<(), RegisterError> {
        self.name(FunctionKind::Receiver, name, UNVERSIONED)?;
        self.receivers.insert(name.to_string(), ReceiverFactory::new(make));
        Ok(())
    }

    /// Registers a kind of source, which definitions can then name as their `connector`. It has no version.
    ///
    /// # Errors
    /// When its name cannot be used.
    pub fn source<C: SourceConnector>(&mut self, connector: C) -> Result<(), RegisterError> {
        self.connectors.source(connector)?;
        self.name(FunctionKind::Source, C::NAME, UNVERSIONED)
    }

    /// Registers a kind of sink, which definitions can then name as a key of `[[output]]`. It has no version.
    ///
    /// # Errors
    /// When its key cannot be used.
    pub fn sink<C: SinkConnector>(&mut self, connector: C) -> Result<(), RegisterError> {
        self.connectors.sink(connector, &tidemill_job::output_keys())?;
        self.name(FunctionKind::Sink, C::KEY[0].name, UNVERSIONED)
    }

    /// The registered kind of sink of this name; those that come with Tidemill are known everywhere.
    pub(crate) fn find_sink(&self, name: &str) -> Option<&FunctionRef> {
        self.known.iter().find(|known| known.kind == FunctionKind::Sink && known.name == name)
    }

    /// The registered kind of source of this name; those that come with Tidemill are known everywhere.
    pub(crate) fn find_source(&self, name: &str) -> Option<&FunctionRef> {
        self.known.iter().find(|known| known.kind == FunctionKind::Source && known.name == name)
    }

    /// The connectors: those that come with Tidemill, and those that were registered.
    pub fn connectors(&self) -> &Connectors {
        &self.connectors
    }

    /// What makes the receivers of this name.
    pub fn receiver_factory(&self, name: &str) -> Option<&ReceiverFactory> {
        self.receivers.get(name)
    }

    /// All of them, in order.
    pub fn known(&self) -> impl Iterator<Item = &FunctionRef> {
        self.known.iter()
    }

    /// What keeps this process from running a job that uses `function`; none if it knows it.
    pub fn lack(&self, function: &FunctionRef) -> Option<String> {
        lack(&self.known, function)
    }

    pub(crate) fn scalars(&self) -> impl Iterator<Item = &Arc<ScalarUDF>> {
        self.scalars.values()
    }

    pub(crate) fn aggregates(&self) -> impl Iterator<Item = &Arc<AggregateUDF>> {
        self.aggregates.values()
    }

    pub(crate) fn find_batch_map(&self, name: &str) -> Option<&BatchMap> {
        self.batch_maps.get(name)
    }

    /// The names of one kind, in order.
    pub(crate) fn names(&self, kind: FunctionKind) -> impl Iterator<Item = &str> {
        self.known.iter().filter(move |known| known.kind == kind).map(|known| known.name.as_str())
    }

    /// Takes a name.
    fn name(&mut self, kind: FunctionKind, name: &str, version: u32) -> Result<(), RegisterError> {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(good) || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(RegisterError::Name(name.to_string()));
        }
        // A source and a sink may have one name.
        let connector = |kind| matches!(kind, FunctionKind::Source | FunctionKind::Sink);
        let same_place = |known: &FunctionRef| known.kind == kind || !(connector(kind) || connector(known.kind));
        if self.known.iter().any(|known| known.name == name && same_place(known)) {
            return Err(RegisterError::Twice(name.to_string()));
        }
        let in_sql = matches!(kind, FunctionKind::Scalar | FunctionKind::Aggregate);
        if in_sql && BUILT_IN.contains(&name.to_lowercase()) {
            return Err(RegisterError::BuiltIn(name.to_string()));
        }
        self.known.insert(FunctionRef { kind, name: name.to_string(), version });
        Ok(())
    }
}

/// What keeps a process that knows these functions from running a job that uses `function`; none if it can. A name is
/// known once per process.
pub fn lack<'a>(known: impl IntoIterator<Item = &'a FunctionRef>, function: &FunctionRef) -> Option<String> {
    let same = |known: &&FunctionRef| known.kind == function.kind && known.name == function.name;
    match known.into_iter().find(same) {
        None => Some(format!("{function} is not known there")),
        Some(known) if known.version != function.version => {
            Some(format!("{function} is wanted, but version {} is known there", known.version))
        }
        Some(_) => None,
    }
}

/// The functions of SQL.
static BUILT_IN: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let state = SessionStateBuilder::new().with_default_features().build();
    let names = state.scalar_functions().keys().chain(state.aggregate_functions().keys());
    names.chain(state.window_functions().keys()).map(|name| name.to_lowercase()).collect()
});

fn columns_of(function: &str, columns: &[(&str, &str)]) -> Result<Schema, RegisterError> {
    let mut fields: Vec<Field> = Vec::with_capacity(columns.len());
    for &(column, data_type) in columns {
        let found = ColumnType::from_name(data_type).ok_or_else(|| RegisterError::Type {
            function: function.to_string(),
            column: column.to_string(),
            data_type: data_type.to_string(),
            expected: ColumnType::EXPECTED,
        })?;
        fields.push(Field::new(column, arrow_type(found), true));
    }
    let twice = |i: usize| fields[..i].iter().any(|field| field.name() == fields[i].name());
    if fields.is_empty() || (0..fields.len()).any(twice) {
        return Err(RegisterError::Columns(function.to_string()));
    }
    Ok(Schema::new(fields))
}

/// The types as people write them, for messages.
fn shown(types: &[DataType]) -> String {
    types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
