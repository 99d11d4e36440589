//! What an output is: where results go, and how that is read.

use super::Name;
use super::keys;
use tidemill_common::definition::{Key, Reader, Value};
use tidemill_connect::{Connectors, Sink};

/// Where results go.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputDef {
    /// Unique; by default the stream's name.
    pub name: Name,
    /// A source or stream; a model, if `of_model`.
    pub from: Name,
    /// Whether it shows what a model has learnt: one row per batch. `from_model = "price"`
    pub of_model: bool,
    /// How results leave.
    pub target: Target,
}

/// How results leave.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// Spark's `print`: the first `rows` rows of every batch to whoever watches.
    Print {
        /// Rows shown. Default 10.
        rows: u32,
    },
    /// A registered function sees all rows of the batch; at least once. `for_each_batch = "name"`
    ForEachBatch(Name),
    /// All others.
    Sink(Sink),
}

/// Keys of an output that are no sink of a registry.
pub fn output_keys() -> [&'static [Key]; 3] {
    [keys::OUTPUT, keys::WATCHED, keys::CALLED]
}

/// Reads what stands behind the key of an output that says where its rows go.
pub(super) fn read_target<'t>(
    r: &mut Reader<'t>,
    key: &str,
    value: &'t Value<'t>,
    connectors: &Connectors,
) -> Option<Target> {
    match key {
        "print" => read_print(r, value),
        "for_each_batch" => r.text(value).map(Target::ForEachBatch),
        sink => connectors.read_sink(sink, r, value).map(Target::Sink),
    }
}

fn read_print<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Target> {
    if value.get_ref().is_bool() {
        r.only_true(value)?;
        return Some(Target::Print { rows: 10 });
    }
    let table = r.table(value, "`print`", value.span(), &[keys::PRINT])?;
    match table.get("rows") {
        Some(rows) => Some(Target::Print { rows: r.small_count(rows, keys::PRINT_ROWS)? }),
        None => Some(Target::Print { rows: 10 }),
    }
}
