//! File outputs in folders that go away.

use super::*;
use crate::parts::PartRow;
use crate::sink::{Part, part_of};
use crate::staging::parts_dir;
use std::io;
use std::path::PathBuf;
use tidemill_common::ids::{BatchId, JobId, OutputIdx};

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

    pub(super) fn sink(&self) -> FileSink {
        let (place, compression, roll) = (self.place.clone(), self.compression, self.roll);
        FileSink { place, format: FileFormat::Json, compression, roll }
    }

    pub(super) fn commit(&self, batch: u64, time_ms: i64, parts: &[&str]) -> Commit {
        let parts = parts.iter().map(|part| Part::Staged(part.to_string())).collect();
        let (job, base_dir) = (self.job, self.base().to_path_buf());
        Commit { job, time_ms, base_dir, parts, sync: true, ..crate::testkit::commit(batch) }
    }

    pub(super) fn put(&self, batch: u64, time_ms: i64, parts: &[&str]) -> Result<(), PutError> {
        self.sink().put(&self.commit(batch, time_ms, parts))
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
    part_of(rows.iter().map(row).collect()).unwrap()
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
        output.put(batch, time_ms, &["a"])
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
