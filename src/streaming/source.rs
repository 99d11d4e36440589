//! Sources of a job written in Rust.

use super::Graph;
use super::dstream::DStream;
use super::text::Toml;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// A source of lines in the making: it becomes a stream with its format.
#[derive(Debug)]
#[must_use = "it becomes a stream with `text`, `csv` or `json`"]
pub struct LineSource {
    graph: Rc<RefCell<Graph>>,
    /// Its name, before it gets another.
    word: &'static str,
    keys: Vec<(&'static str, Toml)>,
}

impl LineSource {
    pub(super) fn socket(graph: Rc<RefCell<Graph>>, key: &'static str, addresses: Toml) -> Self {
        Self { graph, word: "socket", keys: vec![("connector", "socket".into()), (key, addresses)] }
    }

    pub(super) fn receiver(graph: Rc<RefCell<Graph>>, function: &str, options: &[(&str, &str)]) -> Self {
        let mut keys = vec![("connector", "receiver".into()), ("function", function.into())];
        if !options.is_empty() {
            keys.push(("options", Toml::named(options)));
        }
        Self { graph, word: "receiver", keys }
    }

    pub(super) fn queue(graph: Rc<RefCell<Graph>>, batches: &[&[&str]]) -> Self {
        let batches = Toml::List(batches.iter().map(|lines| Toml::texts(lines)).collect());
        Self { graph, word: "queue", keys: vec![("connector", "queue".into()), ("batches", batches)] }
    }

    fn with(mut self, key: &'static str, value: impl Into<Toml>) -> Self {
        self.keys.push((key, value.into()));
        self
    }

    /// The given batches of a queue come again and again.
    pub fn repeat(self) -> Self {
        self.with("repeat", true)
    }

    /// The sender of a socket speaks the acknowledged line protocol: nothing is lost or counted twice.
    pub fn acknowledge(self) -> Self {
        self.with("acknowledge", true)
    }

    /// So many receivers: connections to a single plain address, or of one's own kind.
    pub fn receivers(self, receivers: u32) -> Self {
        self.with("receivers", receivers)
    }

    /// Each receiver reads at most so many records per second.
    pub fn max_rate(self, records_per_second: u64) -> Self {
        self.with("max_rate", records_per_second)
    }

    /// A record that does not parse fails the job; by default it is counted and left out.
    pub fn fail_on_bad_record(self) -> Self {
        self.with("on_bad_record", "fail")
    }

    /// What separates the fields of csv: one ASCII character.
    pub fn delimiter(self, delimiter: &str) -> Self {
        self.with("delimiter", delimiter)
    }

    /// The csv text that means null.
    pub fn null(self, text: &str) -> Self {
        self.with("null", text)
    }

    /// Every line is one string column, `value`.
    pub fn text(self) -> DStream {
        self.format("text")
    }

    /// Delimited text with these columns and types: `&[("user", "string"), ("price", "double")]`.
    pub fn csv(self, columns: &[(&str, &str)]) -> DStream {
        self.with("columns", Toml::named(columns)).format("csv")
    }

    /// A JSON object per line, of which these columns are read.
    pub fn json(self, columns: &[(&str, &str)]) -> DStream {
        self.with("columns", Toml::named(columns)).format("json")
    }

    fn format(self, format: &str) -> DStream {
        let Self { graph, word, keys } = self.with("format", format);
        let at = graph.borrow_mut().add("source", word, Vec::new(), keys);
        DStream::new(graph, at)
    }
}

/// A source of files in the making: its lines are read as those of any other source, and it has formats of its own.
#[derive(Debug)]
#[must_use = "it becomes a stream with `lines` and a format, or with `parquet`"]
pub struct FileSource {
    lines: LineSource,
}

impl FileSource {
    pub(super) fn new(graph: Rc<RefCell<Graph>>, path: &str) -> Self {
        let keys = vec![("connector", "files".into()), ("path", path.into())];
        Self { lines: LineSource { graph, word: "files", keys } }
    }

    fn with(self, key: &'static str, value: impl Into<Toml>) -> Self {
        Self { lines: self.lines.with(key, value) }
    }

    /// Only files with such names count, with `*` and `?`.
    pub fn pattern(self, pattern: &str) -> Self {
        self.with("pattern", pattern)
    }

    /// Files that are there when the job begins are left out.
    pub fn new_files_only(self) -> Self {
        self.with("new_files_only", true)
    }

    /// How often the directory is looked at. Default 1 s.
    pub fn poll_interval(self, interval: Duration) -> Self {
        self.with("poll_interval", interval)
    }

    /// Csv files begin with a line of names.
    pub fn header(self) -> Self {
        self.with("header", true)
    }

    /// Files of lines.
    pub fn lines(self) -> LineSource {
        self.lines
    }

    /// Parquet files, of which these columns are read.
    pub fn parquet(self, columns: &[(&str, &str)]) -> DStream {
        self.lines.with("columns", Toml::named(columns)).format("parquet")
    }
}

/// A generating source in the making.
#[derive(Debug)]
#[must_use = "it becomes a stream with `rows`"]
pub struct GenerateSource {
    graph: Rc<RefCell<Graph>>,
    keys: Vec<(&'static str, Toml)>,
}

impl GenerateSource {
    pub(super) fn new(graph: Rc<RefCell<Graph>>, rows_per_second: u64) -> Self {
        Self { graph, keys: vec![("connector", "generate".into()), ("rows_per_second", rows_per_second.into())] }
    }

    fn with(mut self, key: &'static str, value: impl Into<Toml>) -> Self {
        self.keys.push((key, value.into()));
        self
    }

    /// Distinct keys. Default 100.
    pub fn keys(self, keys: u64) -> Self {
        self.with("keys", keys)
    }

    /// Another seed, other rows. Default 1.
    pub fn seed(self, seed: u64) -> Self {
        self.with("seed", seed)
    }

    /// So many rows in all. Default no end.
    pub fn limit(self, rows: u64) -> Self {
        self.with("limit", rows)
    }

    /// Receivers that share the rate. Default 1.
    pub fn receivers(self, receivers: u32) -> Self {
        self.with("receivers", receivers)
    }

    /// The rows.
    pub fn rows(self) -> DStream {
        let at = self.graph.borrow_mut().add("source", "generate", Vec::new(), self.keys);
        DStream::new(self.graph, at)
    }
}
