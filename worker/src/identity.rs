//! The worker's data directory: used by one process at a time, and by one cluster for ever.

use crate::WorkerError;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

const CLUSTER_FILE: &str = "cluster";

/// A locked data directory.
#[derive(Debug)]
pub(crate) struct DataDir {
    _lock: File,
    /// The cluster that its contents belong to, if any.
    pub(crate) cluster_id: String,
}

/// Creates and locks the directory.
pub(crate) fn open(dir: &Path) -> Result<DataDir, WorkerError> {
    fs::create_dir_all(dir).map_err(io(dir))?;
    let path = dir.join("lock");
    let lock = OpenOptions::new().create(true).append(true).open(&path).map_err(io(&path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(WorkerError::Locked { path: dir.to_path_buf() }),
        Err(TryLockError::Error(error)) => return Err(io(&path)(error)),
    }
    let path = dir.join(CLUSTER_FILE);
    let cluster_id = match fs::read_to_string(&path) {
        Ok(id) => id.trim().to_string(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(io(&path)(error)),
    };
    Ok(DataDir { _lock: lock, cluster_id })
}

/// Notes the cluster that the directory belongs to from now on.
pub(crate) fn save(dir: &Path, cluster_id: &str) -> Result<(), WorkerError> {
    let path = dir.join(CLUSTER_FILE);
    fs::write(&path, format!("{cluster_id}\n")).map_err(io(&path))
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> WorkerError {
    let path: PathBuf = path.to_path_buf();
    move |source| WorkerError::Io { path, source }
}
