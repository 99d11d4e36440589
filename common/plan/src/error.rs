//! What can go wrong when a plan runs, and whose fault it is.

use crate::words::all_said;
use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use tidemill_rows::RowError;

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
        let reason = Self::reason(&error);
        match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => Self::Memory(reason),
            DataFusionError::Execution(_)
            | DataFusionError::Plan(_)
            | DataFusionError::NotImplemented(_)
            | DataFusionError::Configuration(_) => Self::Data(reason),
            DataFusionError::ArrowError(arrow, _) => Self::from_arrow(arrow),
            _ => Self::Internal(reason),
        }
    }
}

impl From<RowError> for PlanError {
    fn from(error: RowError) -> Self {
        match error {
            RowError::Data(reason) => Self::Data(reason),
            RowError::Arrow(error) => Self::from_arrow(&error),
        }
    }
}

impl From<ArrowError> for PlanError {
    fn from(error: ArrowError) -> Self {
        Self::from_arrow(&error)
    }
}

impl PlanError {
    /// What went wrong, without where in DataFusion.
    pub(crate) fn reason(error: &DataFusionError) -> String {
        all_said(&match error.find_root() {
            DataFusionError::ResourcesExhausted(text)
            | DataFusionError::Execution(text)
            | DataFusionError::Plan(text)
            | DataFusionError::NotImplemented(text)
            | DataFusionError::Configuration(text) => text.clone(),
            // What follows asks to report a fault of DataFusion's.
            DataFusionError::Internal(text) => text.lines().next().unwrap_or_default().to_string(),
            DataFusionError::ArrowError(arrow, _) => arrow.to_string(),
            other => other.strip_backtrace(),
        })
    }

    fn from_arrow(error: &ArrowError) -> Self {
        match error {
            ArrowError::SchemaError(_) | ArrowError::CDataInterface(_) | ArrowError::NotYetImplemented(_) => {
                Self::Internal(error.to_string())
            }
            ArrowError::IpcError(text) => Self::Malformed(text.clone()),
            other => Self::Data(all_said(&other.to_string())),
        }
    }
}
