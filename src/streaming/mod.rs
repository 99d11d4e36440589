//! Jobs written in Rust: `StreamingContext` and `DStream`, as in Spark Streaming.
//!
//! A program says what a job definition says, with the same words, and what runs is the definition that it writes
//! ([`StreamingContext::definition`]): a text that `tidemill check` accepts and `tidemill submit` submits.
//!
//! ```no_run
//! use std::time::Duration;
//! use tidemill::StreamingContext;
//!
//! # fn main() -> Result<(), tidemill::StreamingError> {
//! let ctx = StreamingContext::new("words", Duration::from_secs(1));
//! ctx.socket("127.0.0.1:9999")
//!     .text()
//!     .flat_map_split("value", " ", "word")
//!     .reduce_by_key(&["word"], &[("times", "count(*)")])
//!     .print(10);
//! ctx.run_local(2)
//! # }
//! ```

mod dstream;
mod learn;
mod operators;
mod run;
mod source;
mod state;
mod text;

pub use dstream::{DStream, FlatMap};
pub use learn::{Model, Training};
pub use source::{FileSource, GenerateSource, LineSource};
pub use state::{MapWithState, StateUpdate};
pub use text::Toml;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use text::line;
use tidemill_plan::registry::{Functions, RegisterError};

/// Why a job was not run, or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamingError {
    /// An operator was called with something that it cannot work with.
    #[error("`{operator}` of `{stream}`: {reason}")]
    Operator {
        /// The operator.
        operator: &'static str,
        /// The stream it makes, or the source or stream it is called on.
        stream: String,
        /// What is wrong.
        reason: String,
    },
    /// The definition is wrong: all its mistakes, each with its line.
    #[error("{0}")]
    Definition(String),
    /// A function cannot be registered.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// A closure is known to this process alone and cannot be sent to a cluster.
    #[error(
        "`{operator}` of `{stream}` takes a closure, which a cluster does not know; \
         register it with `tidemill::app()` and name it"
    )]
    OnlyHere {
        /// The operator.
        operator: &'static str,
        /// The stream it is called on.
        stream: String,
    },
    /// A call that blocks was made where it would block a runtime.
    #[error("called from within an asynchronous runtime, which it would block; use a thread of its own")]
    InsideRuntime,
    /// No driver there, or a port is taken.
    #[error("{0}")]
    Unavailable(String),
    /// The job failed, or could not be run.
    #[error("{0}")]
    Failed(String),
}

/// A job in the making.
///
/// Mistakes in the use of operators are kept, and told by whatever needs the definition.
#[derive(Debug)]
pub struct StreamingContext {
    graph: Rc<RefCell<Graph>>,
}

/// What the streams of a context share.
#[derive(Debug)]
struct Graph {
    name: String,
    settings: Vec<(String, Toml)>,
    nodes: Vec<Node>,
    models: Vec<ModelNode>,
    outputs: Vec<Output>,
    functions: Functions,
    stop_after: Option<u64>,
    first_error: Option<StreamingError>,
    /// The first use of a closure.
    only_here: Option<StreamingError>,
}

/// A source, a stream or a table.
#[derive(Debug)]
struct Node {
    /// `source`, `stream` or `table`.
    kind: &'static str,
    name: String,
    /// Positions of what it reads.
    from: Vec<usize>,
    keys: Vec<(&'static str, Toml)>,
}

#[derive(Debug)]
struct ModelNode {
    name: String,
    keys: Vec<(String, Toml)>,
}

/// What an output shows, by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Node(usize),
    Model(usize),
}

#[derive(Debug)]
struct Output {
    from: Origin,
    sink: (&'static str, Toml),
}

impl StreamingContext {
    /// A job of this name with this batch interval: whole milliseconds, at least one.
    pub fn new(name: impl Into<String>, batch_interval: Duration) -> Self {
        let graph = Graph {
            name: name.into(),
            settings: vec![("batch_interval".to_string(), batch_interval.into())],
            nodes: Vec::new(),
            models: Vec::new(),
            outputs: Vec::new(),
            functions: Functions::new(),
            stop_after: None,
            first_error: None,
            only_here: None,
        };
        Self { graph: Rc::new(RefCell::new(graph)) }
    }

    /// Sets a job-wide key of the definition, for example `ctx.setting("replication", 1)`.
    pub fn setting(&self, key: &str, value: impl Into<Toml>) -> &Self {
        self.graph.borrow_mut().settings.push((key.to_string(), value.into()));
        self
    }

    /// The functions in Rust that expressions may use.
    pub fn functions(&self, functions: Functions) -> &Self {
        self.graph.borrow_mut().functions = functions;
        self
    }

    /// [`run_local`](Self::run_local) ends after so many batches.
    pub fn stop_after(&self, batches: u64) -> &Self {
        self.graph.borrow_mut().stop_after = Some(batches);
        self
    }

    /// Lines from a TCP server, `host:port`: Spark's `socketTextStream`.
    pub fn socket(&self, address: &str) -> LineSource {
        LineSource::socket(self.graph.clone(), "address", address.into())
    }

    /// Lines from several TCP servers, with a receiver for each.
    pub fn sockets(&self, addresses: &[&str]) -> LineSource {
        LineSource::socket(self.graph.clone(), "addresses", Toml::texts(addresses))
    }

    /// Lines of a receiver that is registered under this name, with its options.
    pub fn receiver(&self, function: &str, options: &[(&str, &str)]) -> LineSource {
        LineSource::receiver(self.graph.clone(), function, options)
    }

    /// The records of the files in a directory, each exactly once: Spark's `textFileStream`.
    pub fn files(&self, path: &str) -> FileSource {
        FileSource::new(self.graph.clone(), path)
    }

    /// Given lines, a list for each batch: Spark's `queueStream`.
    pub fn queue(&self, batches: &[&[&str]]) -> LineSource {
        LineSource::queue(self.graph.clone(), batches)
    }

    /// The rows of a csv file whose first line is its header, the same for every batch: something to join with, and to
    /// name in `sql`. Relative to the current directory.
    pub fn table(&self, name: &str, path: &str, columns: &[(&str, &str)]) -> DStream {
        let keys = vec![("path", path.into()), ("format", "csv".into()), ("columns", Toml::named(columns))];
        let at = self.graph.borrow_mut().add("table", name, Vec::new(), keys);
        DStream::new(self.graph.clone(), at).named(name)
    }

    /// Rows made in the workers: seq (bigint), key (string), value (double).
    pub fn generate(&self, rows_per_second: u64) -> GenerateSource {
        GenerateSource::new(self.graph.clone(), rows_per_second)
    }

    /// The job definition.
    ///
    /// # Errors
    /// The first misuse of an operator.
    pub fn definition(&self) -> Result<String, StreamingError> {
        let graph = self.graph.borrow();
        match &graph.first_error {
            Some(error) => Err(error.clone()),
            None => Ok(graph.definition()),
        }
    }
}

impl Graph {
    /// Adds a source or stream; its name is the operator's, with a number.
    fn add(&mut self, kind: &'static str, word: &str, from: Vec<usize>, keys: Vec<(&'static str, Toml)>) -> usize {
        let number = 1 + self.nodes.len();
        self.nodes.push(Node { kind, name: format!("{word}_{number}"), from, keys });
        self.nodes.len() - 1
    }

    /// Keeps a mistake, if it is the first.
    fn wrong(&mut self, operator: &'static str, at: usize, reason: impl Into<String>) {
        let stream = self.nodes[at].name.clone();
        self.first_error.get_or_insert(StreamingError::Operator { operator, stream, reason: reason.into() });
    }

    fn definition(&self) -> String {
        let mut text = line("name", &Toml::from(self.name.as_str()));
        for (key, value) in &self.settings {
            text.push_str(&line(key, value));
        }
        for node in &self.nodes {
            text.push_str(&format!("\n[{}.{}]\n", node.kind, node.name));
            let from: Vec<_> = node.from.iter().map(|from| self.nodes[*from].name.as_str()).collect();
            match from[..] {
                [] => {}
                [one] => text.push_str(&line("from", &Toml::from(one))),
                _ => text.push_str(&line("from", &Toml::texts(&from))),
            }
            for (key, value) in &node.keys {
                text.push_str(&line(key, value));
            }
        }
        for model in &self.models {
            text.push_str(&format!("\n[model.{}]\n", model.name));
            for (key, value) in &model.keys {
                text.push_str(&line(key, value));
            }
        }
        for (number, output) in self.outputs.iter().enumerate() {
            text.push_str("\n[[output]]\n");
            let (key, from) = match output.from {
                Origin::Node(at) => ("from", self.nodes[at].name.as_str()),
                Origin::Model(at) => ("from_model", self.models[at].name.as_str()),
            };
            text.push_str(&line(key, &Toml::from(from)));
            let before = self.outputs[..number].iter().filter(|other| other.from == output.from).count();
            if before > 0 {
                text.push_str(&line("name", &Toml::from(format!("{from}_{}", before + 1))));
            }
            text.push_str(&line(output.sink.0, &output.sink.1));
        }
        text
    }
}

#[cfg(test)]
mod tests;
