//! Published models as files: `<dir>/<job>/<model>/batch-N` for the last versions, `named-LABEL` for those with names.
//!
//! A file appears by a rename, whole or not at all. It is a [file of frames](tidemill_common::frame) with one frame; of before
//! there were frames, the body alone. These are copies for those who ask; what a job goes on with is in its state.

use super::Version;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tidemill_common::frame::{self, FILE_HEADER, FileHeader, Step};
use tidemill_common::ids::{BatchId, JobId};

const BATCH: &str = "batch-";
const NAMED: &str = "named-";
/// What is being written, and was when the driver died.
const NEW: &str = "new";

/// What tells such a file from other files of frames, and the version of its body.
const KIND: [u8; 4] = *b"modl";
const VERSION: u32 = 1;
/// The one kind of frame.
const MODEL: u8 = 1;

/// What is in a file. The model's bytes have a check sum of their own.
#[derive(Serialize, Deserialize)]
pub(crate) struct Content {
    job: JobId,
    batch: BatchId,
    time_ms: i64,
    pub(crate) bytes: Bytes,
}

/// Which file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) job: String,
    pub(super) model: String,
    /// The version's name; none for one of the last versions.
    pub(super) label: Option<String>,
    file: String,
}

impl Place {
    pub(super) fn of_batch(job: &str, model: &str, batch: BatchId) -> Self {
        Self { job: job.into(), model: model.into(), label: None, file: format!("{BATCH}{batch}") }
    }

    pub(super) fn of_label(job: &str, model: &str, label: &str) -> Self {
        let (file, label) = (format!("{NAMED}{label}"), Some(label.into()));
        Self { job: job.into(), model: model.into(), label, file }
    }

    fn of_file(job: &str, model: &str, file: &str) -> Option<Self> {
        let label = file.strip_prefix(NAMED).map(String::from);
        (label.is_some() || file.starts_with(BATCH)).then(|| Self {
            job: job.into(),
            model: model.into(),
            label,
            file: file.into(),
        })
    }
}

/// The directory of published models.
#[derive(Debug, Clone)]
pub(super) struct Store(PathBuf);

impl Store {
    pub(super) fn new(dir: &Path) -> Self {
        Self(dir.to_path_buf())
    }

    /// The name of a job may begin with a dot.
    fn of_job(&self, job: &str) -> PathBuf {
        self.0.join(format!("job-{job}"))
    }

    /// Writes a version in the place of what is there.
    pub(super) fn write(&self, place: &Place, version: &Version, sync: bool) -> io::Result<()> {
        let folder = self.of_job(&place.job).join(&place.model);
        fs::create_dir_all(&folder)?;
        let Version { job, batch, time_ms, stored } = version;
        let content = Content { job: *job, batch: *batch, time_ms: *time_ms, bytes: stored.bytes.clone() };
        let body = postcard::to_stdvec(&content).map_err(io::Error::other)?;
        let mut content = frame::file_header(KIND, VERSION).to_vec();
        if !frame::push(&mut content, MODEL, &body) {
            return Err(io::Error::other("the model is too large"));
        }
        let new = folder.join(format!("{NEW}-{}", place.file));
        let mut file = File::create(&new)?;
        file.write_all(&content)?;
        if sync {
            file.sync_all()?;
        }
        fs::rename(&new, folder.join(&place.file))?;
        if sync { File::open(&folder)?.sync_all() } else { Ok(()) }
    }

    /// Removes a version; one that is left behind is found again after a restart, and goes then or with a later batch.
    pub(super) fn remove(&self, place: &Place) {
        let file = self.of_job(&place.job).join(&place.model).join(&place.file);
        warn(fs::remove_file(&file), &file);
    }

    /// Removes all of a job.
    pub(super) fn remove_job(&self, job: &str) {
        let folder = self.of_job(job);
        warn(fs::remove_dir_all(&folder), &folder);
    }

    /// All versions that are there and can be read.
    pub(super) fn read(&self) -> Vec<(Place, Version)> {
        let mut found = Vec::new();
        for (job, folder) in entries(&self.0) {
            let Some(job) = job.strip_prefix("job-") else { continue };
            for (model, folder) in entries(&folder) {
                for (name, file) in entries(&folder) {
                    match Place::of_file(job, &model, &name) {
                        Some(place) => found.extend(read_one(&file).map(|version| (place, version))),
                        None if name.starts_with(NEW) => warn(fs::remove_file(&file), &file),
                        None => {}
                    }
                }
            }
        }
        found
    }
}

fn read_one(file: &Path) -> Option<Version> {
    let content = fs::read(file).map_err(|error| error.to_string()).and_then(|bytes| decode(&bytes));
    match content {
        Ok(Content { job, batch, time_ms, bytes }) => Some(Version::new(job, batch, time_ms, bytes)),
        Err(error) => {
            tracing::warn!(file = %file.display(), error, "a published model does not read and is left out");
            None
        }
    }
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Content, String> {
    let body = match frame::read_file_header(bytes) {
        FileHeader::Of(KIND, VERSION) => match frame::step(bytes, FILE_HEADER) {
            Step::Whole { kind: MODEL, body, end } if end == bytes.len() => body,
            _ => return Err(format!("it is damaged behind byte {FILE_HEADER}")),
        },
        FileHeader::Of(kind, version) => {
            let kind = String::from_utf8_lossy(&kind).into_owned();
            return Err(format!("it is of kind `{kind}` and version {version}, not of `modl` and {VERSION}"));
        }
        FileHeader::Damaged => return Err("its header is damaged".into()),
        FileHeader::Other => bytes,
    };
    match postcard::take_from_bytes(body) {
        Ok((content, [])) => Ok(content),
        Ok((_, rest)) => Err(format!("{} bytes are left over", rest.len())),
        Err(error) => Err(error.to_string()),
    }
}

/// The entries of a directory by name; none of one that is not there.
fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut named: Vec<_> =
        entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path()))).collect();
    named.sort();
    named
}

fn warn(result: io::Result<()>, file: &Path) {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(file = %file.display(), %error, "a published model could not be removed");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content() -> Content {
        Content { job: JobId(1), batch: BatchId(2), time_ms: 3, bytes: Bytes::from_static(b"model") }
    }

    #[test]
    fn files_of_before_there_were_frames_are_read() {
        let read = decode(&postcard::to_stdvec(&content()).unwrap()).unwrap();
        assert_eq!((read.batch, read.bytes), (BatchId(2), content().bytes));
    }

    proptest! {
        #[test]
        fn a_damaged_file_is_left_out(bit in any::<prop::sample::Index>(), cut in any::<prop::sample::Index>()) {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::new(dir.path());
            let place = Place::of_batch("j", "m", BatchId(2));
            store.write(&place, &Version::new(JobId(1), BatchId(2), 3, content().bytes), false).unwrap();
            let file = store.of_job("j").join("m").join("batch-2");
            let whole = fs::read(&file).unwrap();
            prop_assert_eq!(store.read().len(), 1);
            let (mut flipped, bit) = (whole.clone(), bit.index(whole.len() * 8));
            flipped[bit / 8] ^= 1 << (bit % 8);
            for damaged in [&flipped[..], &whole[..cut.index(whole.len())]] {
                fs::write(&file, damaged).unwrap();
                prop_assert_eq!(store.read().len(), 0);
            }
        }

        #[test]
        fn noise_does_not_panic(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&noise);
        }
    }
}
