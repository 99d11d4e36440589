//! A stream of a job written in Rust, and its operators: those of the job definition, by their names.

use super::text::Toml;
use super::{Graph, Origin, Output, StreamingError};
use std::cell::RefCell;
use std::rc::Rc;
use tidemill_plan::registry::{Batch, FunctionError};

/// A source or a stream: batches of rows with named columns. Clones are the same stream.
#[derive(Debug, Clone)]
#[must_use = "a stream does nothing before it goes to an output, such as `print`"]
pub struct DStream {
    pub(super) graph: Rc<RefCell<Graph>>,
    pub(super) at: usize,
}

impl DStream {
    pub(super) fn new(graph: Rc<RefCell<Graph>>, at: usize) -> Self {
        Self { graph, at }
    }

    /// Gives it a name, which queries and outputs know it by; otherwise it is that of its operator with a number.
    pub fn named(self, name: &str) -> Self {
        self.graph.borrow_mut().nodes[self.at].name = name.to_string();
        self
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.graph.borrow().nodes[self.at].name.clone()
    }

    pub(super) fn operator(&self, operator: &'static str, value: impl Into<Toml>) -> Self {
        self.together(operator, &[], value)
    }

    /// An operator over this stream and others.
    pub(super) fn together(&self, operator: &'static str, others: &[&Self], value: impl Into<Toml>) -> Self {
        let keys = vec![(operator, value.into())];
        let from = std::iter::once(self).chain(others.iter().copied()).map(|stream| stream.at).collect();
        let graph = &mut *self.graph.borrow_mut();
        if others.iter().any(|other| !Rc::ptr_eq(&self.graph, &other.graph)) {
            graph.wrong(operator, self.at, "the streams belong to different contexts");
            return self.clone();
        }
        let at = graph.add("stream", operator, from, keys);
        Self { graph: self.graph.clone(), at }
    }

    fn columns(&self, operator: &'static str, columns: &[(&str, &str)]) -> Self {
        let made = self.operator(operator, Toml::named(columns));
        made.check_some(operator, columns.len(), "column");
        made
    }

    pub(super) fn check_some(&self, operator: &'static str, count: usize, what: &str) {
        if count == 0 {
            self.graph.borrow_mut().wrong(operator, self.at, format!("expected at least one {what}"));
        }
    }

    /// Spark's `map`: a row of these columns, each with its expression, for every row.
    pub fn select(&self, columns: &[(&str, &str)]) -> Self {
        self.columns("select", columns)
    }

    /// The rows for which the expression is true.
    pub fn filter(&self, condition: &str) -> Self {
        self.operator("filter", condition)
    }

    /// A row for every piece of a text or list.
    pub fn flat_map(&self, each: FlatMap) -> Self {
        self.operator("flat_map", Toml::Table(each.keys))
    }

    /// A row for every piece of a text between separators: the expression `text`, what separates, the piece's column.
    pub fn flat_map_split(&self, text: &str, by: &str, column: &str) -> Self {
        self.flat_map(FlatMap::split(text, by, column))
    }

    /// Aggregates per key: the key columns, and columns with their aggregates.
    pub fn reduce_by_key(&self, key: &[&str], aggregates: &[(&str, &str)]) -> Self {
        let table = [("key", Toml::texts(key)), ("aggregates", Toml::named(aggregates))];
        let made = self.operator("reduce_by_key", Toml::Table(table.map(|(k, v)| (k.to_string(), v)).to_vec()));
        made.check_some("reduce_by_key", key.len(), "key column");
        made.check_some("reduce_by_key", aggregates.len(), "aggregate");
        made
    }

    /// The number of rows of the batch, column `count`; 0 for an empty batch.
    pub fn count(&self) -> Self {
        self.operator("count", true)
    }

    /// Aggregates over the whole batch; no row for an empty one.
    pub fn reduce(&self, aggregates: &[(&str, &str)]) -> Self {
        self.columns("reduce", aggregates)
    }

    /// The distinct rows.
    pub fn distinct(&self) -> Self {
        self.operator("distinct", true)
    }

    /// A query over the rows of the batch, by the stream's [`name`](Self::named): Spark's `transform`.
    pub fn sql(&self, query: &str) -> Self {
        self.operator("sql", query)
    }

    /// A query over this stream and others, each by its name: joins, windows, anything; Spark's `transformWith`.
    pub fn sql_with(&self, others: &[&Self], query: &str) -> Self {
        self.together("sql", others, query)
    }

    /// The rows of this stream, then those of the others, which have the same columns.
    pub fn union(&self, others: &[&Self]) -> Self {
        self.together("union", others, true)
    }

    /// Spark's `mapPartitions`: what a registered function makes of all rows of a block or key group.
    pub fn batch_map(&self, function: &str) -> Self {
        self.operator("batch_map", Toml::Table(vec![("function".to_string(), function.into())]))
    }

    /// Ends it in any sink of the job definition, for example
    /// `stream.output("csv", Toml::Table(vec![("path".into(), "out".into()), ("header".into(), false.into())]))`.
    pub fn output(&self, sink: &'static str, value: impl Into<Toml>) {
        let sink = (sink, value.into());
        self.graph.borrow_mut().outputs.push(Output { from: Origin::Node(self.at), sink });
    }

    /// Shows the first rows of every batch, as Spark's `print`.
    pub fn print(&self, rows: u32) {
        self.output("print", Toml::Table(vec![("rows".to_string(), rows.into())]));
    }

    /// Writes the rows of every batch as JSON lines, exactly once, to a directory per batch below `path`.
    pub fn json(&self, path: &str) {
        self.output("json", Toml::named(&[("path", path)]));
    }

    /// The same as delimited text.
    pub fn csv(&self, path: &str) {
        self.output("csv", Toml::named(&[("path", path)]));
    }

    /// The same as Parquet files.
    pub fn parquet(&self, path: &str) {
        self.output("parquet", Toml::named(&[("path", path)]));
    }

    /// Writes the one column of every batch as text, exactly once, to a directory `prefix-TIME_MS[.suffix]`.
    pub fn save_as_text_files(&self, prefix: &str, suffix: Option<&str>) {
        let keys: Vec<_> = [("prefix", prefix)].into_iter().chain(suffix.map(|suffix| ("suffix", suffix))).collect();
        self.output("text", Toml::named(&keys));
    }

    /// Writes the rows of every batch as Arrow IPC files, exactly once, to a directory per batch below `path`.
    pub fn save_as_object_files(&self, path: &str) {
        self.output("object", Toml::named(&[("path", path)]));
    }

    /// Posts the rows of every batch, at least once, with a key by which the server can tell a repetition.
    pub fn http(&self, url: &str) {
        self.output("http", Toml::named(&[("url", url)]));
    }

    /// Spark's `foreachRDD`: calls the function with all rows of every batch, in order, at least once. For
    /// [`run_local`](super::StreamingContext::run_local); what runs on a cluster is registered with
    /// [`app`](crate::app) and [named](Self::for_each_batch_by).
    pub fn for_each_batch(&self, function: impl Fn(&Batch) -> Result<(), FunctionError> + Send + Sync + 'static) {
        let graph = &mut *self.graph.borrow_mut();
        let function_name = format!("closure_{}", graph.outputs.len() + 1);
        if let Err(error) = graph.functions.for_each_batch(&function_name, function) {
            graph.first_error.get_or_insert(error.into());
        }
        let stream = graph.nodes[self.at].name.clone();
        graph.only_here.get_or_insert(StreamingError::OnlyHere { operator: "for_each_batch", stream });
        graph.outputs.push(Output { from: Origin::Node(self.at), sink: ("for_each_batch", function_name.into()) });
    }

    /// The same with a function that is registered under this name.
    pub fn for_each_batch_by(&self, function: &str) {
        self.output("for_each_batch", function);
    }
}

/// What `flat_map` goes over.
#[derive(Debug, Clone)]
pub struct FlatMap {
    keys: Vec<(String, Toml)>,
}

impl FlatMap {
    /// The pieces of a text between separators: an expression, what separates, the piece's column. As Scala's `split`:
    /// trailing empty pieces are left out.
    pub fn split(text: &str, by: &str, column: &str) -> Self {
        let keys = [("split", text), ("by", by), ("as", column)];
        Self { keys: keys.map(|(key, value)| (key.to_string(), value.into())).to_vec() }
    }

    /// The elements of a list: an expression, and the element's column.
    pub fn unnest(list: &str, column: &str) -> Self {
        let keys = [("unnest", list), ("as", column)];
        Self { keys: keys.map(|(key, value)| (key.to_string(), value.into())).to_vec() }
    }

    /// Columns of the input that are kept beside it.
    pub fn keep(mut self, columns: &[&str]) -> Self {
        self.keys.push(("keep".to_string(), Toml::texts(columns)));
        self
    }
}
