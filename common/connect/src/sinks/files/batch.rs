//! A directory for every batch.

use super::FileSink;
use super::writer::RowWriter;
use crate::sink::Commit;
use crate::staging::staging_dir;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::Path;
use tidemill_store::sync_dir;

/// A file is followed by another one when its rows have this many bytes.
pub(super) const FILE_BYTES: u64 = 128 << 20;

/// A file with some rows of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WrittenFile {
    pub(super) name: String,
    pub(super) rows: u64,
}

/// Writes the files into a staging directory and renames that into place. A crash on the way leaves no such
/// directory, or the whole of it.
pub(super) fn place(sink: &FileSink, commit: &Commit, folder: &Path, parts: &Path) -> io::Result<()> {
    let place = folder.join(sink.place.batch_name(commit.time_ms));
    if place.exists() {
        return Ok(());
    }
    let staging = folder.join(staging_dir(commit.job, commit.batch, commit.number));
    if staging.exists() {
        fs::remove_dir_all(&staging)?;
    }
    fs::create_dir_all(&staging)?;
    write(sink, commit, parts, &staging, FILE_BYTES)?;
    fs::rename(&staging, &place)?;
    if commit.sync { sync_dir(place.parent()) } else { Ok(()) }
}

/// Writes the files of a batch into a directory; says which.
pub(super) fn write(
    sink: &FileSink,
    commit: &Commit,
    parts: &Path,
    staging: &Path,
    file_bytes: u64,
) -> io::Result<Vec<WrittenFile>> {
    let mut file: Option<RowWriter<BufWriter<File>>> = None;
    let mut written: Vec<WrittenFile> = Vec::new();
    let finish = |file: RowWriter<BufWriter<File>>| {
        let file = file.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        if commit.sync { file.sync_all() } else { Ok(()) }
    };
    let encoding = sink.encoding(commit.schema.clone());
    for row in commit.rows(parts)? {
        if let Some(full) = file.take_if(|file| file.bytes() >= file_bytes) {
            finish(full)?;
        }
        let open = match &mut file {
            Some(open) => open,
            None => {
                let name = format!("part-{:05}{}", written.len(), encoding.extension());
                let out = BufWriter::new(File::create(staging.join(&name))?);
                written.push(WrittenFile { name, rows: 0 });
                file.insert(encoding.writer(out)?)
            }
        };
        open.write(row?)?;
        if let Some(file) = written.last_mut() {
            file.rows += 1;
        }
    }
    file.map_or(Ok(()), finish)?;
    if commit.sync {
        sync_dir(Some(staging))?;
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::files::FilePlace;
    use crate::sinks::files::tests::{Output, names, read};

    #[test]
    fn only_what_counts_appears_in_order_and_a_second_commit_changes_nothing() {
        let output = Output::new(None);
        output.part(1, "0001-7", &[(2, "three"), (5, "five")]);
        output.part(1, "0001-8", &[(2, "three, of an attempt that does not count")]);
        output.part(1, "0001-9", &[(1, "two")]);
        output.part(1, "0000-4", &[(0, "one")]);
        for _ in 0..2 {
            output.put(1, 1000, &["0001-7", "0000-4", "0001-9"]).unwrap();
        }
        let place = output.path("1000");
        assert_eq!(names(&place), ["part-00000.jsonl"]);
        assert_eq!(read(&place.join("part-00000.jsonl")), "one\ntwo\nthree\nfive\n");
        assert_eq!(names(&output.path(".tidemill")), Vec::<String>::new());
    }

    #[test]
    fn a_commit_that_was_cut_short_is_done_again() {
        let output = Output::new(None);
        let staging = output.path(".tidemill/commit-1-1-0");
        fs::create_dir_all(&staging).unwrap();
        fs::write(staging.join("part-00007.jsonl"), "half").unwrap();
        output.part(1, "0000-1", &[(0, "whole")]);
        output.put(1, 1000, &["0000-1"]).unwrap();
        assert_eq!(names(&output.path("1000")), ["part-00000.jsonl"]);
    }

    #[test]
    fn large_batches_have_several_files() {
        let output = Output::new(None);
        output.part(1, "0000-1", &[(0, "aaaa"), (1, "bbbb"), (2, "cccc")]);
        let commit = output.commit(1, 1000, &["0000-1"]);
        let parts = output.parts(1);
        let staging = output.path("staging");
        fs::create_dir_all(&staging).unwrap();
        let written = write(&output.sink(), &commit, &parts, &staging, 10).unwrap();
        let rows: Vec<_> = written.iter().map(|file| file.rows).collect();
        assert_eq!(rows, [2, 1]);
        assert_eq!(read(&staging.join("part-00000.jsonl")), "aaaa\nbbbb\n");
        assert_eq!(read(&staging.join("part-00001.jsonl")), "cccc\n");
    }

    #[test]
    fn directories_with_a_prefix() {
        let mut output = Output::new(None);
        output.place = FilePlace::Prefix { prefix: "words".into(), suffix: Some("txt".into()) };
        output.part(1, "0000-1", &[(0, "a")]);
        output.put(1, 1000, &["0000-1"]).unwrap();
        assert_eq!(read(&output.base().join("words-1000.txt/part-00000.jsonl")), "a\n");
    }
}
