//! Keys of outputs.

use super::{Key, PRINT_ROWS, Shape};
use tidemill_connect::Connectors;

/// Keys of an output beside its sink.
pub(crate) const OUTPUT: &[Key] = &[
    Key::new("from", Shape::Name, "The source or stream that is read."),
    Key::new("from_model", Shape::Name, "In place of `from`: what a model has learnt, one row per batch."),
    Key::new("name", Shape::Name, "The output's name. Default: that of what it reads."),
];

pub(crate) const WATCHED: &[Key] =
    &[Key::new("print", Shape::TrueOrTable(PRINT), "Shows the first rows of every batch.")];

pub(crate) const CALLED: &[Key] =
    &[Key::new("for_each_batch", Shape::Text, "A function in Rust that sees all rows of the batch, at least once.")];

/// The sinks of an output; exactly one of them.
pub(crate) fn sinks(connectors: &Connectors) -> Vec<&'static [Key]> {
    let sinks = connectors.sinks().map(|key| &key[..]);
    [WATCHED].into_iter().chain(sinks).chain([CALLED]).collect()
}

/// All keys of an output.
pub(crate) fn output(connectors: &Connectors) -> Vec<&'static [Key]> {
    [OUTPUT].into_iter().chain(sinks(connectors)).collect()
}

pub(crate) const PRINT: &[Key] =
    &[Key::new("rows", Shape::Count(PRINT_ROWS), "Rows shown of every batch. Default 10.")];
