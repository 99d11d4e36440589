//! Where the files of an output are, before and after they are committed; driver and workers agree on it here.

use crate::ids::{BatchId, JobId, OutputIdx, TaskId};
use crate::job::{FilePlace, SaveModel};
use std::path::{Component, Path, PathBuf};

/// The folder inside an output's directory for what is not committed yet.
const UNCOMMITTED: &str = ".tidemill";

impl SaveModel {
    /// The directory that the files are in, which nothing else may have.
    pub fn root(&self, base_dir: &Path) -> PathBuf {
        normal(&base_dir.join(&self.path.text))
    }
}

impl FilePlace {
    /// The path as it was written.
    pub fn text(&self) -> &str {
        match self {
            Self::Directory(path) => path,
            Self::Prefix { prefix, .. } => prefix,
        }
    }

    /// What two outputs must not share: the directory, or the beginning of all its names.
    pub fn root(&self, base_dir: &Path) -> PathBuf {
        normal(&base_dir.join(self.text()))
    }

    /// The directory that holds what is written.
    fn folder(&self, base_dir: &Path) -> PathBuf {
        let root = self.root(base_dir);
        match self {
            Self::Directory(_) => root,
            Self::Prefix { .. } => root.parent().map(Path::to_path_buf).unwrap_or_default(),
        }
    }

    /// The directory of a batch.
    pub fn of_batch(&self, base_dir: &Path, time_ms: i64) -> PathBuf {
        let root = self.root(base_dir);
        match self {
            Self::Directory(_) => root.join(time_ms.to_string()),
            Self::Prefix { suffix, .. } => {
                let mut name = root.file_name().unwrap_or_default().to_os_string();
                name.push(format!("-{time_ms}"));
                if let Some(suffix) = suffix {
                    name.push(format!(".{suffix}"));
                }
                root.with_file_name(name)
            }
        }
    }

    /// Directory of what the tasks of one batch have brought for one output.
    pub fn parts_dir(&self, base_dir: &Path, job: JobId, batch: BatchId, output: OutputIdx) -> PathBuf {
        self.folder(base_dir).join(UNCOMMITTED).join(format!("{job}-{batch}-{output}"))
    }

    /// Directory in which a batch is put together before it is renamed into place.
    pub fn staging_dir(&self, base_dir: &Path, job: JobId, batch: BatchId, output: OutputIdx) -> PathBuf {
        self.folder(base_dir).join(UNCOMMITTED).join(format!("commit-{job}-{batch}-{output}"))
    }
}

/// What a task calls the part it has written: a task writes one per output, and task ids are never used twice.
pub fn part_name(stage: u32, task: TaskId) -> String {
    format!("{stage:04}-{:020}", task.0)
}

/// A path without `.` and `..`, as far as the text tells.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_batches() {
        let base = Path::new("/jobs/./x/..");
        let directory = FilePlace::Directory("out/".into());
        assert_eq!(directory.of_batch(base, 2000), Path::new("/jobs/out/2000"));
        let prefix = FilePlace::Prefix { prefix: "out/words".into(), suffix: Some("txt".into()) };
        assert_eq!(prefix.of_batch(base, 2000), Path::new("/jobs/out/words-2000.txt"));
        let parts = prefix.parts_dir(base, JobId(1), BatchId(2), OutputIdx(3));
        assert_eq!(parts, Path::new("/jobs/out/.tidemill/1-2-3"));
        assert_eq!(FilePlace::Directory("../a".into()).root(Path::new("")), Path::new("../a"));
    }
}
