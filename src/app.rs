//! A program that is the engine: the command line, with functions of its own.

use crate::cli;
use std::process::ExitCode;
use tidemill_connect::{SinkConnector, SourceConnector};
use tidemill_plan::arrow::array::RecordBatch;
use tidemill_plan::registry::{
    Aggregate, ArrowScalar, Batch, FunctionError, Functions, Receiver, ReceiverOptions, RegisterError, ScalarFunction,
};

/// Begins a program that is the engine.
pub fn app() -> App {
    App { functions: Ok(Functions::new()) }
}

/// A program in the making: functions are registered by name, then it [`run`](App::run)s.
///
/// All functions have to be pure: the same arguments, the same value, on any machine, at any time. A batch may be
/// computed twice (after a failure), and has to come out the same. Change the version when a function gives other
/// values than before: jobs only run where all processes know the version.
#[derive(Debug)]
#[must_use = "it does nothing before `run`"]
pub struct App {
    functions: Result<Functions, RegisterError>,
}

impl App {
    /// A function of one row, from up to four plain values to one. See [`Functions::scalar`].
    pub fn scalar<M>(self, name: &str, version: u32, function: impl ScalarFunction<M>) -> Self {
        self.with(|functions| functions.scalar(name, version, function))
    }

    /// A function of one row over Arrow arrays. See [`Functions::scalar_arrow`].
    pub fn scalar_arrow(self, name: &str, version: u32, function: ArrowScalar) -> Self {
        self.with(|functions| functions.scalar_arrow(name, version, function))
    }

    /// A function of many rows. See [`Aggregate`].
    pub fn aggregate(self, name: &str, version: u32, aggregate: impl Aggregate) -> Self {
        self.with(|functions| functions.aggregate(name, version, aggregate))
    }

    /// A function over all rows of a unit, for `batch_map`. See [`Functions::batch_map`].
    pub fn batch_map(
        self,
        name: &str,
        version: u32,
        columns: &[(&str, &str)],
        function: impl Fn(&RecordBatch) -> Result<RecordBatch, FunctionError> + Send + Sync + 'static,
    ) -> Self {
        self.with(|functions| functions.batch_map(name, version, columns, function))
    }

    /// A function that sees all rows of every batch of an output. See [`Functions::for_each_batch`].
    pub fn for_each_batch(
        self,
        name: &str,
        handler: impl Fn(&Batch) -> Result<(), FunctionError> + Send + Sync + 'static,
    ) -> Self {
        self.with(|functions| functions.for_each_batch(name, handler))
    }

    /// A source of one's own, for `connector = "receiver"`. See [`Receiver`].
    pub fn receiver<R: Receiver>(
        self,
        name: &str,
        make: impl Fn(&ReceiverOptions) -> Result<R, FunctionError> + Send + Sync + 'static,
    ) -> Self {
        self.with(|functions| functions.receiver(name, make))
    }

    /// A kind of source that definitions can name as their `connector`. See [`SourceConnector`].
    pub fn source(self, connector: impl SourceConnector) -> Self {
        self.with(|functions| functions.source(connector))
    }

    /// A kind of sink that definitions can name as a key of `[[output]]`. See [`SinkConnector`].
    pub fn sink(self, connector: impl SinkConnector) -> Self {
        self.with(|functions| functions.sink(connector))
    }

    /// The functions, or the first mistake in registering one.
    ///
    /// # Errors
    /// When a name or a column cannot be used.
    pub fn functions(self) -> Result<Functions, RegisterError> {
        self.functions
    }

    /// Runs the command line: `driver`, `worker`, `submit`, `local`, `replay`, `check` and all others.
    pub fn run(self) -> ExitCode {
        match self.functions {
            Ok(functions) => cli::main(functions),
            Err(error) => {
                note!("error: {error}");
                crate::exit::Outcome::Usage.into()
            }
        }
    }

    fn with(self, register: impl FnOnce(&mut Functions) -> Result<(), RegisterError>) -> Self {
        let functions = self.functions.and_then(|mut functions| register(&mut functions).map(|()| functions));
        Self { functions }
    }
}
