//! Where the files of batches are.

use std::path::Path;
use tidemill_common::location::Location;

/// Where the files of batches are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilePlace {
    /// In `<path>/<TIME_MS>`, or in `<path>` when they roll.
    Directory(String),
    /// `saveAsTextFiles`: in `<prefix>-<TIME_MS>[.<suffix>]`.
    Prefix {
        /// What comes before the time.
        prefix: String,
        /// What comes behind it.
        suffix: Option<String>,
    },
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
    }
}
