//! Where the parts of a file output lie until they are committed; driver and workers agree on it here.

use crate::ids::{BatchId, JobId};
use std::path::{Path, PathBuf};

/// Directory of the attempts of one batch, inside the output's directory.
pub fn attempts_dir(output: &Path, job: JobId, batch: BatchId) -> PathBuf {
    output.join(".tidemill").join(format!("{job}-{batch}"))
}

/// Directory in which the winning parts are gathered before it is renamed into place.
pub fn staging_dir(output: &Path, job: JobId, batch: BatchId) -> PathBuf {
    output.join(".tidemill").join(format!("commit-{job}-{batch}"))
}
