//! Files that are read or written at once, wherever they are.

use crate::objects::Objects;
use crate::{Entry, StoreError};
use bytes::Bytes;
use std::fs;
use std::io;
use std::path::Path;
use tidemill_common::location::{Location, ObjectUrl};

/// All of a file.
///
/// # Errors
/// See [`StoreError`]; among them that it has more than `limit` bytes.
pub fn read(file: &Location, limit: u64) -> Result<Bytes, StoreError> {
    match file {
        Location::Object(url) => {
            let (objects, name) = object(url)?;
            objects.get(&name, limit)
        }
        Location::Local(path) => {
            let bytes = fs::metadata(path).map_err(|error| local(path, error))?.len();
            if bytes > limit {
                return Err(StoreError::TooLong { url: path.display().to_string(), bytes, limit });
            }
            fs::read(path).map(Bytes::from).map_err(|error| local(path, error))
        }
    }
}

/// Writes a file.
///
/// # Errors
/// See [`StoreError`].
pub fn write(file: &Location, bytes: Vec<u8>) -> Result<(), StoreError> {
    match file {
        Location::Object(url) => {
            let (objects, name) = object(url)?;
            objects.put(&name, bytes)
        }
        Location::Local(path) => fs::write(path, bytes).map_err(|error| local(path, error)),
    }
}

/// What tells a file from what was there before, and is there after it was replaced.
///
/// # Errors
/// See [`StoreError`]; that it is not there is one.
pub fn stamp(file: &Location) -> Result<Entry, StoreError> {
    match file {
        Location::Object(url) => {
            let (objects, name) = object(url)?;
            objects.entry(&name)?.ok_or_else(|| StoreError::NotFound { url: url.to_string() })
        }
        Location::Local(path) => {
            let found = fs::metadata(path).map_err(|error| local(path, error))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok(Entry::of_file(name, &found))
        }
    }
}

/// The directory that an object is in, and its name there.
fn object(url: &ObjectUrl) -> Result<(Objects, String), StoreError> {
    let (folder, name) = url.split().ok_or_else(|| StoreError::NoObject { url: url.to_string() })?;
    Ok((Objects::new(folder), name))
}

fn local(path: &Path, error: io::Error) -> StoreError {
    StoreError::Local { path: path.display().to_string(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_on_this_side() {
        let folder = tempfile::tempdir().unwrap();
        let file = Location::Local(folder.path().join("a"));
        assert!(read(&file, 10).unwrap_err().to_string().contains("/a: "));
        assert!(stamp(&file).is_err());
        write(&file, b"one".to_vec()).unwrap();
        assert_eq!(read(&file, 3).unwrap(), "one");
        assert!(matches!(read(&file, 2), Err(StoreError::TooLong { bytes: 3, limit: 2, .. })));
        assert_eq!(stamp(&file).unwrap().size, 3);
    }

    #[test]
    fn a_bucket_is_no_file() {
        let bucket = Location::resolve(Path::new(""), "s3://bucket");
        assert!(matches!(read(&bucket, 1), Err(StoreError::NoObject { .. })));
        assert!(matches!(stamp(&bucket), Err(StoreError::NoObject { .. })));
    }
}
