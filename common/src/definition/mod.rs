//! What definitions are read with: a spanned TOML tree, keys that say what may stand behind them, names, columns, formats.
//!
//! A connector brings its own keys and reads its own table with these; `tidemill-job` reads everything else.

mod alias;
mod column;
mod format;
mod key;
pub mod limits;
mod reader;

pub use alias::{ALIASES, Hints};
pub use column::{ColumnDef, ColumnType};
pub use format::*;
pub use key::*;
pub use reader::{JOB_NAME_MARKS, NAME_MARKS, Reader, Table, Value};

use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::time::Duration;

/// Byte range in the text of the definition.
pub type Span = Range<usize>;

/// A name as written, with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// The text.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// A piece of SQL as written, with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sql {
    /// The text.
    pub text: String,
    /// Where it stands (inside the quotes).
    pub span: Span,
}

/// What may be left out: none if it is there and wrong.
pub fn optional<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        Some(None) => None,
        Some(value) => Some(value),
        None => Some(None),
    }
}

/// A duration as written, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Period {
    /// The duration.
    pub duration: Duration,
    /// Where it stands (inside the quotes).
    pub span: Span,
}
