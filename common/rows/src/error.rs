//! What can go wrong with rows.

use arrow::error::ArrowError;

/// A failure to write rows as text.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// A value that has no text, such as a date outside of the calendar.
    #[error("{0}")]
    Data(String),
    /// What Arrow cannot do with it.
    #[error("{0}")]
    Arrow(#[from] ArrowError),
}
