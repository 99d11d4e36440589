//! Where the files of an output are, before and after they are committed; driver and workers agree on it here.

use crate::{FilePlace, SaveModel};
use std::path::Path;
use tidemill_common::ids::{BatchId, JobId, OutputIdx, TaskId};
use tidemill_common::location::Location;

/// The folder inside an output's directory for what is not committed yet.
pub const UNCOMMITTED: &str = ".tidemill";

impl SaveModel {
    /// The directory that the files are in, which nothing else may have.
    pub fn root(&self, base_dir: &Path) -> Location {
        Location::resolve(base_dir, &self.path.text)
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
    pub fn root(&self, base_dir: &Path) -> Location {
        Location::resolve(base_dir, self.text())
    }

    /// The directory that holds all that is written.
    pub fn folder(&self, base_dir: &Path) -> Location {
        let root = self.root(base_dir);
        match self {
            Self::Directory(_) => root,
            Self::Prefix { .. } => root.split().map_or(root, |(folder, _)| folder),
        }
    }

    /// The directory of a batch within the folder.
    pub fn batch_name(&self, time_ms: i64) -> String {
        match self {
            Self::Directory(_) => time_ms.to_string(),
            Self::Prefix { prefix, suffix } => {
                let name = Location::resolve(Path::new(""), prefix).split().map(|(_, name)| name).unwrap_or_default();
                let suffix = suffix.as_ref().map(|suffix| format!(".{suffix}")).unwrap_or_default();
                format!("{name}-{time_ms}{suffix}")
            }
        }
    }
}

/// Directory, within an output's folder, of what the tasks of one batch have brought for it.
pub fn parts_dir(job: JobId, batch: BatchId, output: OutputIdx) -> String {
    format!("{UNCOMMITTED}/{job}-{batch}-{output}")
}

/// The batch of a directory of parts, by its name within [`UNCOMMITTED`]; none if it is not of this job and output.
pub fn batch_of_parts(name: &str, job: JobId, output: OutputIdx) -> Option<BatchId> {
    let batch = name.strip_prefix(&format!("{job}-"))?.strip_suffix(&format!("-{output}"))?;
    batch.parse().ok().map(BatchId)
}

/// Directory, within an output's folder, in which a batch is put together before it is renamed into place.
pub fn staging_dir(job: JobId, batch: BatchId, output: OutputIdx) -> String {
    format!("{UNCOMMITTED}/commit-{job}-{batch}-{output}")
}

/// What a task calls the part it has written: a task writes one per output, and task ids are never used twice.
pub fn part_name(stage: u32, task: TaskId) -> String {
    format!("{stage:04}-{:020}", task.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_batches() {
        let base = Path::new("/jobs/./x/..");
        let at = |place: &FilePlace| (place.folder(base).to_string(), place.batch_name(2000));
        let directory = FilePlace::Directory("out/".into());
        assert_eq!(at(&directory), ("/jobs/out".into(), "2000".into()));
        let prefix = |prefix: &str| FilePlace::Prefix { prefix: prefix.into(), suffix: Some("txt".into()) };
        assert_eq!(at(&prefix("out/words")), ("/jobs/out".into(), "words-2000.txt".into()));
        assert_eq!(prefix("out/words").root(base).to_string(), "/jobs/out/words");
        assert_eq!(at(&prefix("s3://bucket/words")), ("s3://bucket".into(), "words-2000.txt".into()));
        assert_eq!(parts_dir(JobId(1), BatchId(2), OutputIdx(3)), ".tidemill/1-2-3");
        assert_eq!(batch_of_parts("1-2-3", JobId(1), OutputIdx(3)), Some(BatchId(2)));
        for other in ["1-2-2", "11-2-3", "1-2-13", "1--3", "1-3", "commit-1-2-3"] {
            assert_eq!(batch_of_parts(other, JobId(1), OutputIdx(3)), None, "{other}");
        }
    }
}
