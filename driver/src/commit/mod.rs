//! Brings the rows of a batch to where they go: into files once (INV-4), or to a server at least once.
//!
//! Tasks leave parts in a directory of the batch. Here those of the tasks that counted are merged into one order and
//! written as files: a [directory per batch](batch), a [rolling set of files](rolling), or [objects](objects) in a
//! store. The first two appear by one rename, the third by its manifest, and doing it again changes nothing: after a
//! crash the batch runs again and comes here once more. So do the [models](model) that a job saves.

mod batch;
mod model;
mod objects;
mod post;
mod rolling;

use crate::core::{Commit, CommitFiles};
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemill_common::ids::{BatchId, JobId, OutputIdx};
use tidemill_common::location::Location;
use tidemill_job::layout::{UNCOMMITTED, batch_of_parts, parts_dir};
use tidemill_store::{Objects, StoreError};
use tokio_util::sync::CancellationToken;

/// How long a store may be away before that is the end of the job.
const PATIENCE: Duration = Duration::from_secs(600);
/// Waits between attempts double from the first to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Why something could not be put in place.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Disk(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whose rows are committed.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    /// The cluster's id: job numbers begin anew in another one.
    pub(crate) cluster: String,
    pub(crate) job: JobId,
    pub(crate) batch: BatchId,
}

impl Writer {
    /// A name that no other job ever has.
    fn job_name(&self) -> String {
        format!("{}.{}", self.cluster, self.job)
    }
}

/// Commits all outputs of a batch, one after the other.
pub(crate) async fn commit(writer: Writer, outputs: Vec<Commit>, stop: CancellationToken) -> Result<(), String> {
    for output in outputs {
        match output {
            Commit::Post(post) => post::send(&writer, post, &stop).await?,
            Commit::Files(files) => {
                let (writer, place) = (writer.clone(), files.to.root());
                patiently(place, &stop, move || put(&writer, &files)).await?;
            }
            Commit::Model(model) => {
                patiently(model.directory.clone(), &stop, move || model::save(&model)).await?;
            }
        }
    }
    Ok(())
}

/// Does something until it is done, or has failed for good. All that is done here can be done again.
async fn patiently(
    place: Location,
    stop: &CancellationToken,
    work: impl Fn() -> Result<(), Failure> + Send + Sync + 'static,
) -> Result<(), String> {
    let (work, began) = (Arc::new(work), Instant::now());
    let mut wait = FIRST_WAIT;
    loop {
        let now = work.clone();
        match tokio::task::spawn_blocking(move || now()).await.map_err(|error| error.to_string())? {
            Ok(()) => return Ok(()),
            Err(Failure::Disk(error)) => return Err(format!("{place}: {error}")),
            Err(Failure::Store(error)) if !error.is_passing() || began.elapsed() >= PATIENCE => {
                return Err(error.to_string());
            }
            Err(Failure::Store(error)) => tracing::warn!(%error, "a store is away; what it is to hold is sent again"),
        }
        tokio::select! {
            () = stop.cancelled() => return Err("the driver is stopping".to_string()),
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

fn put(writer: &Writer, files: &CommitFiles) -> Result<(), Failure> {
    let folder = match files.to.folder() {
        Location::Object(url) => return objects::place(&Objects::new(url), writer, files),
        Location::Local(folder) => folder,
    };
    let parts = folder.join(parts_dir(writer.job, writer.batch, files.output));
    match files.to.roll {
        Some(roll) => rolling::append(writer, files, roll, &folder, &parts)?,
        None => batch::place(writer, files, &folder, &parts)?,
    }
    remove_parts(writer, files.output, &folder);
    Ok(())
}

/// Removes what tasks have left of this batch, which is in place, and of earlier ones. A task that was cancelled may be
/// writing there still: what it leaves is no loss, must not end the job, and goes with the next batch.
fn remove_parts(writer: &Writer, output: OutputIdx, folder: &Path) {
    let Ok(entries) = fs::read_dir(folder.join(UNCOMMITTED)) else { return };
    for entry in entries.flatten() {
        let batch = batch_of_parts(&entry.file_name().to_string_lossy(), writer.job, output);
        if batch.is_none_or(|batch| batch > writer.batch) {
            continue;
        }
        if let Err(error) = fs::remove_dir_all(entry.path()) {
            tracing::info!(path = %entry.path().display(), %error, "what tasks have left is removed later");
        }
    }
}

/// All rows of a batch in order.
fn rows(files: &CommitFiles, parts: &Path) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>>> {
    let open = |name: &String| tidemill_plan::read_part(BufReader::new(File::open(parts.join(name))?));
    Ok(tidemill_plan::merge(files.parts.iter().map(open).collect::<io::Result<Vec<_>>>()?))
}

/// Makes sure that the entries of a directory are on the disk.
fn sync_dir(directory: Option<&Path>) -> io::Result<()> {
    match directory.filter(|directory| !directory.as_os_str().is_empty()) {
        Some(directory) => File::open(directory)?.sync_all(),
        None => File::open(PathBuf::from("."))?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_job::{Compression, FileFormat, FilePlace, FileSink, Roll};
    use tidemill_plan::arrow::datatypes::Schema;
    use tidemill_plan::{FileOutput, PartRow};

    /// A file output of JSON lines in a folder that goes away.
    pub(super) struct Output {
        folder: tempfile::TempDir,
        pub(super) place: FilePlace,
        pub(super) job: JobId,
        pub(super) compression: Option<Compression>,
        roll: Option<Roll>,
    }

    impl Output {
        pub(super) fn new(roll: Option<Roll>) -> Self {
            let place = FilePlace::Directory("out".into());
            Self { folder: tempfile::tempdir().unwrap(), place, job: JobId(1), compression: None, roll }
        }

        pub(super) fn base(&self) -> &Path {
            self.folder.path()
        }

        pub(super) fn path(&self, name: &str) -> PathBuf {
            self.base().join("out").join(name)
        }

        pub(super) fn writer(&self, batch: u64) -> Writer {
            Writer { cluster: "c".into(), job: self.job, batch: BatchId(batch) }
        }

        pub(super) fn files(&self, time_ms: i64, parts: &[&str]) -> CommitFiles {
            let sink = FileSink {
                place: self.place.clone(),
                format: FileFormat::Json,
                compression: self.compression,
                roll: self.roll,
            };
            let to = FileOutput::new(&sink, Arc::new(Schema::empty()), self.base());
            let parts = parts.iter().map(|part| part.to_string()).collect();
            CommitFiles { output: OutputIdx(0), to, time_ms, parts, sync: true }
        }

        /// Where the tasks of a batch leave their parts.
        pub(super) fn parts(&self, batch: u64) -> PathBuf {
            let Location::Local(folder) = self.place.folder(self.base()) else { panic!("a local folder") };
            folder.join(parts_dir(self.job, BatchId(batch), OutputIdx(0)))
        }

        /// Writes a part as a task does.
        pub(super) fn part(&self, batch: u64, name: &str, rows: &[(u64, &str)]) {
            let folder = self.parts(batch);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(name), part(rows)).unwrap();
        }
    }

    /// A part with these rows and their places.
    pub(super) fn part(rows: &[(u64, &str)]) -> Vec<u8> {
        let row =
            |(order, row): &(u64, &str)| PartRow { lane: 0, order: *order, key: vec![], row: row.as_bytes().to_vec() };
        let mut bytes = Vec::new();
        tidemill_plan::write_part(&mut bytes, &rows.iter().map(row).collect::<Vec<_>>()).unwrap();
        bytes
    }

    pub(super) fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    pub(super) fn names(folder: &Path) -> Vec<String> {
        let entry = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().to_string_lossy().into_owned();
        let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(entry).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_late_tasks_leave_fails_nothing_and_goes_with_the_next_batch() {
        let output = Output::new(None);
        let commit = |batch: u64, time_ms: i64| {
            output.part(batch, "a", &[(0, "x")]);
            put(&output.writer(batch), &output.files(time_ms, &["a"]))
        };
        // What is no directory cannot be removed as one, as a directory in which a task is writing.
        fs::create_dir_all(output.path(UNCOMMITTED)).unwrap();
        fs::write(output.path(".tidemill/1-1-0"), "").unwrap();
        fs::create_dir_all(output.path(".tidemill/1-9-0")).unwrap();
        commit(2, 2000).unwrap();
        assert_eq!(read(&output.path("2000/part-00000.jsonl")), "x\n");
        output.part(2, "late", &[(0, "y")]);
        commit(3, 3000).unwrap();
        assert_eq!(names(&output.path(UNCOMMITTED)), ["1-1-0", "1-9-0"]);
    }
}
