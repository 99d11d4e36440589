//! Files that are read or written at once, wherever they are.

use crate::objects::Objects;
use crate::{Entry, StoreError};
use bytes::Bytes;
use std::fs::{self, File};
use std::io::{self, Read};
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
            let failed = |error| local(path, error);
            let found = fs::metadata(path).map_err(failed)?;
            if !found.is_file() {
                // A device or a pipe has no length, and may give bytes without an end or none at all.
                return Err(failed(io::Error::other("it is not a regular file")));
            }
            let too_long = |bytes| StoreError::TooLong { url: path.display().to_string(), bytes, limit };
            if found.len() > limit {
                return Err(too_long(found.len()));
            }
            // It may grow, or become another one, while it is read.
            let mut bytes = Vec::with_capacity(found.len() as usize);
            File::open(path).map_err(failed)?.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
            if bytes.len() as u64 > limit {
                return Err(too_long(bytes.len() as u64));
            }
            Ok(bytes.into())
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
    fn what_has_no_length_is_not_read() {
        for device in ["/dev/zero", "/dev/null", "/dev/urandom"] {
            let wrong = read(&Location::Local(device.into()), 10).unwrap_err().to_string();
            assert!(wrong.contains(device) && wrong.contains("not a regular file"), "{wrong}");
        }
        // These have no length that is known before they are read.
        let status = Location::Local("/proc/self/status".into());
        assert!(matches!(read(&status, 10), Err(StoreError::TooLong { bytes: 11, limit: 10, .. })));
        assert!(read(&status, 1 << 20).unwrap().starts_with(b"Name:"));
    }

    #[test]
    fn a_bucket_is_no_file() {
        let bucket = Location::resolve(Path::new(""), "s3://bucket");
        assert!(matches!(read(&bucket, 1), Err(StoreError::NoObject { .. })));
        assert!(matches!(stamp(&bucket), Err(StoreError::NoObject { .. })));
    }
}
