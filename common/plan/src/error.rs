//! What can go wrong when a plan runs, and whose fault it is.

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;

/// A failure while running a plan. Mistakes in a definition are [`Diagnostics`](tidemill_common::diag::Diagnostics) instead.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The data does not fit the expressions (a division by zero, an overflow, a text that is no number): running
    /// it again gives the same.
    #[error("{0}")]
    Data(String),
    /// The fragment needs more memory than a task may have.
    #[error("out of memory for one task: {0}")]
    Memory(String),
    /// Bytes from another process are not what they should be.
    #[error("malformed bytes: {0}")]
    Malformed(String),
    /// A mistake in this program.
    #[error("internal: {0}")]
    Internal(String),
}

impl From<DataFusionError> for PlanError {
    fn from(error: DataFusionError) -> Self {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(text) => Self::Memory(text.clone()),
            DataFusionError::Execution(text) => Self::Data(text.clone()),
            DataFusionError::ArrowError(arrow, _) => Self::from_arrow(arrow),
            other => Self::Internal(other.strip_backtrace()),
        }
    }
}

impl From<ArrowError> for PlanError {
    fn from(error: ArrowError) -> Self {
        Self::from_arrow(&error)
    }
}

impl PlanError {
    fn from_arrow(error: &ArrowError) -> Self {
        match error {
            ArrowError::SchemaError(_) | ArrowError::CDataInterface(_) | ArrowError::NotYetImplemented(_) => {
                Self::Internal(error.to_string())
            }
            ArrowError::IpcError(text) => Self::Malformed(text.clone()),
            other => Self::Data(other.to_string()),
        }
    }
}
