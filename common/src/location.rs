//! Where a file or a directory is, as a definition says it: on a file system, or in an object store.

use std::fmt;
use std::path::{Component, Path, PathBuf};

/// Beginnings of the URLs of object stores, with those that are used for them.
const SCHEMES: [(&str, &str); 6] =
    [("s3", "s3"), ("s3a", "s3"), ("gs", "gs"), ("az", "az"), ("abfs", "abfs"), ("abfss", "abfss")];

/// Where a file or a directory is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Location {
    /// On a file system that driver and workers share, or that only one of them needs.
    Local(PathBuf),
    /// In an object store.
    Object(ObjectUrl),
}

/// An object, or all objects whose names begin with a prefix and `/`: `s3://bucket/some/key`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectUrl {
    /// `s3://bucket`
    bucket: String,
    /// Without `/` at its ends; empty for the whole bucket.
    key: String,
}

/// What is wrong with the text of a location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WrongLocation {
    /// There is none.
    Empty,
    /// No object store has such URLs.
    Scheme(String),
    /// The URL names no bucket.
    NoBucket,
    /// Objects cannot have this name: a part of it is empty, `.` or `..`, or has control characters.
    Key(String),
}

impl fmt::Display for WrongLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("this path is empty"),
            Self::Scheme(scheme) => write!(f, "`{scheme}://` URLs cannot be used here"),
            Self::NoBucket => f.write_str("this URL names no bucket"),
            Self::Key(part) => write!(f, "`{part}` cannot be part of an object's name"),
        }
    }
}

impl std::error::Error for WrongLocation {}

impl Location {
    /// Reads a location and says what is wrong with it.
    ///
    /// # Errors
    /// See [`WrongLocation`].
    pub fn parse(text: &str) -> Result<Self, WrongLocation> {
        if text.is_empty() {
            return Err(WrongLocation::Empty);
        }
        match text.split_once("://") {
            None => Ok(Self::Local(text.into())),
            Some(("file", path)) if path.starts_with('/') => Ok(Self::Local(path.into())),
            Some((scheme, rest)) => ObjectUrl::parse(scheme, rest).map(Self::Object),
        }
    }

    /// A location that was [checked](Self::parse) before; paths are relative to `base_dir`. What is no URL of an
    /// object store is a path.
    pub fn resolve(base_dir: &Path, text: &str) -> Self {
        match Self::parse(text) {
            Ok(Self::Object(url)) => Self::Object(url),
            Ok(Self::Local(path)) => Self::Local(normal(&base_dir.join(path))),
            Err(_) => Self::Local(normal(&base_dir.join(text))),
        }
    }

    /// What this is in, and its name there; none for a bucket and for the root of a file system.
    pub fn split(&self) -> Option<(Self, String)> {
        match self {
            Self::Local(path) => {
                let name = path.file_name()?.to_string_lossy().into_owned();
                Some((Self::Local(path.parent().map(Path::to_path_buf).unwrap_or_default()), name))
            }
            Self::Object(url) => url.split().map(|(folder, name)| (Self::Object(folder), name)),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => path.display().fmt(f),
            Self::Object(url) => url.fmt(f),
        }
    }
}

impl ObjectUrl {
    fn parse(scheme: &str, rest: &str) -> Result<Self, WrongLocation> {
        let known = SCHEMES.iter().find(|(known, _)| *known == scheme);
        let (_, scheme) = known.ok_or_else(|| WrongLocation::Scheme(scheme.to_owned()))?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let odd = |c: char| c.is_whitespace() || c.is_control() || "?#\\%".contains(c);
        if bucket.is_empty() || bucket.contains(odd) {
            return Err(WrongLocation::NoBucket);
        }
        let key = key.strip_suffix('/').unwrap_or(key);
        let bad = |part: &str| matches!(part, "" | "." | "..") || part.contains(|c: char| c.is_control());
        if let Some(bad) = key.split('/').find(|part| !key.is_empty() && bad(part)) {
            return Err(WrongLocation::Key(bad.to_owned()));
        }
        Ok(Self { bucket: format!("{scheme}://{bucket}"), key: key.to_owned() })
    }

    /// Which kind of store this is: `s3`, `gs`, `az`, `abfs` or `abfss`.
    pub fn scheme(&self) -> &str {
        self.bucket.split_once("://").map_or("", |(scheme, _)| scheme)
    }

    /// The URL of the bucket: `s3://bucket`.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The name within the bucket, without `/` at its ends; empty for the whole bucket.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What is below this, by a name that may have several parts.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        let key = if self.key.is_empty() { name.to_owned() } else { format!("{}/{name}", self.key) };
        Self { bucket: self.bucket.clone(), key }
    }

    /// What this is in, and its name there; none for a bucket.
    pub fn split(&self) -> Option<(Self, String)> {
        if self.key.is_empty() {
            return None;
        }
        let (folder, name) = self.key.rsplit_once('/').unwrap_or(("", &self.key));
        Some((Self { bucket: self.bucket.clone(), key: folder.to_owned() }, name.to_owned()))
    }
}

impl fmt::Display for ObjectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.bucket)?;
        if self.key.is_empty() { Ok(()) } else { write!(f, "/{}", self.key) }
    }
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
    use proptest::prelude::*;

    #[test]
    fn paths_and_urls() {
        let base = Path::new("/jobs/./x/..");
        let resolved = |text: &str| Location::resolve(base, text).to_string();
        assert_eq!(resolved("out/"), "/jobs/out");
        assert_eq!(resolved("../a"), "/a");
        assert_eq!(Location::resolve(Path::new(""), "../a"), Location::Local("../a".into()));
        assert_eq!(resolved("file:///data/x"), "/data/x");
        assert_eq!(resolved("s3a://bucket/some/key/"), "s3://bucket/some/key");
        assert_eq!(resolved("gs://bucket"), "gs://bucket");
        assert_eq!(resolved("abfss://c@account.dfs.core.windows.net/x"), "abfss://c@account.dfs.core.windows.net/x");
    }

    #[test]
    fn what_is_wrong() {
        use WrongLocation::{Empty, Key, NoBucket, Scheme};
        for (text, wrong) in [
            ("", Empty),
            ("memory:///x", Scheme("memory".into())),
            ("https://example.com/x", Scheme("https".into())),
            ("file://host/x", Scheme("file".into())),
            ("s3://", NoBucket),
            ("s3:///x", NoBucket),
            ("s3://a b/x", NoBucket),
            ("s3://a//x", Key(String::new())),
            ("s3://a/x/../y", Key("..".into())),
            ("gs://a/x/\ty", Key("\ty".into())),
        ] {
            assert_eq!(Location::parse(text), Err(wrong), "{text}");
        }
    }

    #[test]
    fn in_what_it_is() {
        let of = |text: &str| Location::resolve(Path::new("/"), text).split().map(|(at, name)| (at.to_string(), name));
        assert_eq!(of("s3://b/x/y"), Some(("s3://b/x".into(), "y".into())));
        assert_eq!(of("s3://b/x"), Some(("s3://b".into(), "x".into())));
        assert_eq!(of("s3://b"), None);
        assert_eq!(of("a/b"), Some(("/a".into(), "b".into())));
        assert_eq!(of("/"), None);
    }

    proptest! {
        #[test]
        fn a_url_reads_as_it_is_shown(parts in prop::collection::vec("[a-z0-9 =%+]{1,6}", 0..4)) {
            let text = format!("s3://bucket/{}", parts.join("/"));
            let Ok(Location::Object(url)) = Location::parse(&text) else { panic!("{text}") };
            prop_assert_eq!(Location::parse(&url.to_string()), Ok(Location::Object(url.clone())));
            let (child, name) = url.child("x").split().unwrap();
            prop_assert_eq!((child, name.as_str()), (url, "x"));
        }
    }
}
