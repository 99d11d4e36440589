//! What is in a directory.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use tidemill_common::location::Location;
use tidemill_store::Objects;

/// A file as it is told from others: another size or time makes it another file.
pub use tidemill_store::Entry as FileEntry;

/// A directory that is watched.
#[derive(Debug, Clone)]
pub enum Directory {
    /// On a file system.
    Local(PathBuf),
    /// In an object store.
    Objects(Objects),
}

impl From<Location> for Directory {
    fn from(location: Location) -> Self {
        match location {
            Location::Local(path) => Self::Local(path),
            Location::Object(url) => Self::Objects(Objects::new(url)),
        }
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => path.display().fmt(f),
            Self::Objects(objects) => objects.url().fmt(f),
        }
    }
}

/// What was found in a directory.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// The files, by time and name.
    pub(super) files: Vec<FileEntry>,
    /// Names of which nothing can be said, and why.
    pub(super) unknown: Vec<(String, String)>,
}

impl Directory {
    /// The files that match; or why that cannot be said. Names that begin with `.` or `_` are left
    /// out, as Spark does: they are for files that are being written.
    pub(super) fn list(&self, pattern: &str) -> Result<Listed, String> {
        let visible = |name: &str| !name.starts_with(['.', '_']) && matches(pattern, name);
        match self {
            Self::Local(path) => list(path, visible).map_err(|error| format!("{}: {error}", path.display())),
            Self::Objects(objects) => {
                let mut files = objects.list().map_err(|error| error.to_string())?;
                files.retain(|file| visible(&file.name));
                // They are by name; below the second, the time is none.
                files.sort_by_key(FileEntry::modified_s);
                Ok(Listed { files, unknown: Vec::new() })
            }
        }
    }

    /// A file as it is now; none if it is not there, or not a file.
    pub(super) fn entry(&self, name: String) -> Result<Option<FileEntry>, String> {
        match self {
            Self::Local(path) => entry(&path.join(&name), name).map_err(|error| error.to_string()),
            Self::Objects(objects) => objects.entry(&name).map_err(|error| error.to_string()),
        }
    }
}

fn list(directory: &Path, visible: impl Fn(&str) -> bool) -> io::Result<Listed> {
    let mut found = Listed::default();
    for listed in std::fs::read_dir(directory)? {
        let listed = listed?;
        let (name, unreadable) = match listed.file_name().into_string() {
            Ok(name) => (name, None),
            Err(name) => (name.to_string_lossy().into_owned(), Some("its name is not UTF-8".to_owned())),
        };
        if !visible(&name) {
            continue;
        }
        match unreadable.map_or_else(|| entry(&listed.path(), name.clone()).map_err(|e| e.to_string()), Err) {
            Ok(file) => found.files.extend(file),
            Err(reason) => found.unknown.push((name, reason)),
        }
    }
    found.files.sort_by(|a, b| (a.modified_ns, &a.name).cmp(&(b.modified_ns, &b.name)));
    Ok(found)
}

fn entry(path: &Path, name: String) -> io::Result<Option<FileEntry>> {
    let metadata = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata?,
    };
    Ok(metadata.is_file().then(|| FileEntry::of_file(name, &metadata)))
}

/// Whether a name matches: `*` is any text, `?` any character.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on if the text behind the last star does not match: the star, and one character more for it.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(wanted) if *wanted == '?' || *wanted == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match &mut star {
                Some((at, taken)) => {
                    *taken += 1;
                    (p, n) = (*at + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, good, bad) in [
            ("*.csv", &["a.csv", ".csv"][..], &["a.csv.tmp", "csv"][..]),
            ("a?c*", &["abc", "abcd"], &["ac", "xabc"]),
            ("*a*b*", &["ab", "xaxbx", "aab"], &["ba", ""]),
            ("", &[""], &["a"]),
        ] {
            assert!(good.iter().all(|name| matches(pattern, name)), "{pattern}");
            assert!(!bad.iter().any(|name| matches(pattern, name)), "{pattern}");
        }
    }

    #[test]
    fn hidden_files_and_folders_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b", "a", ".hidden", "_temporary"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        let directory = Directory::Local(folder.path().to_path_buf());
        let mut names: Vec<_> = directory.list("*").unwrap().files.into_iter().map(|file| file.name).collect();
        names.sort_unstable();
        assert_eq!(names, ["a", "b"]);
        assert!(directory.entry("c".into()).unwrap().is_none());
    }

    #[test]
    fn one_that_cannot_be_looked_at_does_not_hide_the_others() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "x").unwrap();
        std::os::unix::fs::symlink("loop", folder.path().join("loop")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("dangling")).unwrap();
        let odd = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"odd\xff");
        std::fs::write(folder.path().join(odd), "x").unwrap();
        let mut listed = Directory::Local(folder.path().to_path_buf()).list("*").unwrap();
        listed.unknown.sort_unstable();
        let names: Vec<_> = listed.unknown.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((listed.files.len(), names), (1, vec!["loop", "odd\u{fffd}"]));
    }
}
