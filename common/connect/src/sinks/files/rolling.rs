//! One set of files for all batches, and a manifest that says how much of it counts.
//!
//! A batch is appended to the open file, and counts from the rename that puts the next manifest in the place of the
//! last one. What a crash left behind the end that the manifest names is cut off before the next batch is
//! appended; nothing before that end ever changes. So a reader that goes by the manifest sees whole batches, each
//! once, and one that keeps an older manifest loses nothing.

use super::{FileSink, Roll};
use crate::sink::Commit;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom};
use std::path::Path;

/// The manifest; other programs leave out names that begin with `_`.
const MANIFEST: &str = "_manifest.json";
/// Full files in the manifest; so many go into a page of their own, which never changes.
const FILES_PER_PAGE: usize = 1000;
/// Batches in one file at most, to bound the manifest.
const BATCHES_PER_FILE: usize = 10_000;

/// What counts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Manifest {
    /// Of this format.
    version: u32,
    /// The job that writes, as `<cluster>.<number>`.
    writer: String,
    /// Its newest batch that is in the files.
    batch: u64,
    /// Time of that batch.
    time_ms: i64,
    /// Files described in `_manifest-00000.json` and so on, 1000 in each.
    archived: usize,
    /// Full files after those.
    files: Vec<FullFile>,
    /// The file that grows.
    open: Option<OpenFile>,
}

/// A file that does not change any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FullFile {
    name: String,
    bytes: u64,
    rows: u64,
    first_batch: u64,
    last_batch: u64,
    first_time_ms: i64,
    last_time_ms: i64,
}

/// The file that grows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct OpenFile {
    name: String,
    /// How much of it counts.
    bytes: u64,
    rows: u64,
    /// What is where, oldest first; at least one.
    batches: Vec<Entry>,
}

/// A batch within a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    batch: u64,
    time_ms: i64,
    /// Where it begins, in bytes.
    offset: u64,
    rows: u64,
}

/// Appends a batch, unless it is in the files already.
pub(super) fn append(sink: &FileSink, commit: &Commit, roll: Roll, folder: &Path, parts: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let _lock = lock(folder)?;
    let mut manifest = Manifest::load(folder)?;
    if manifest.writer != commit.job_name() {
        // A job that wrote here before has ended. Its files stay, and its batches have other numbers.
        manifest.close();
        manifest = Manifest { version: 1, writer: commit.job_name(), batch: 0, ..manifest };
    }
    if manifest.batch >= commit.batch.0 {
        return Ok(());
    }
    manifest.close_if_full(roll, commit.time_ms);
    let mut open = match manifest.open.take() {
        Some(open) => open,
        None => {
            let number = manifest.archived + manifest.files.len();
            let name = format!("part-{number:08}{}", sink.encoding(commit.schema.clone()).extension());
            OpenFile { name, bytes: 0, rows: 0, batches: Vec::new() }
        }
    };
    let (bytes, count) = append_rows(sink, commit, parts, folder, &open)?;
    open.batches.push(Entry { batch: commit.batch.0, time_ms: commit.time_ms, offset: open.bytes, rows: count });
    open.bytes += bytes;
    open.rows += count;
    manifest.open = Some(open);
    manifest.batch = commit.batch.0;
    manifest.time_ms = commit.time_ms;
    manifest.archive(folder, commit.sync)?;
    replace(folder, MANIFEST, &manifest, commit.sync)
}

/// One at a time: a job that was stopped at once may still be at its last batch when the next one begins.
fn lock(folder: &Path) -> io::Result<File> {
    let file = File::create(folder.join(".lock"))?;
    match file.lock() {
        // Not every file system has locks.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
        locked => locked?,
    }
    Ok(file)
}

/// Writes the rows behind the end that counts; gives back how many bytes and rows they are.
fn append_rows(
    sink: &FileSink,
    commit: &Commit,
    parts: &Path,
    folder: &Path,
    open: &OpenFile,
) -> io::Result<(u64, u64)> {
    let encoding = sink.encoding(commit.schema.clone());
    let path = folder.join(&open.name);
    let mut file = File::options().create(true).truncate(false).write(true).open(&path)?;
    if file.metadata()?.len() < open.bytes {
        let message = format!("{} is shorter than its manifest says", open.name);
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    file.set_len(open.bytes)?;
    file.seek(SeekFrom::End(0))?;
    let mut out = encoding.appender(BufWriter::new(file), open.bytes == 0)?;
    let mut count = 0;
    for row in commit.rows(parts)? {
        out.write(row?)?;
        count += 1;
    }
    let mut file = out.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    let bytes = file.stream_position()?.saturating_sub(open.bytes);
    if commit.sync {
        file.sync_all()?;
    }
    Ok((bytes, count))
}

/// Writes a file beside its place and renames it.
fn replace(folder: &Path, name: &str, value: &impl Serialize, sync: bool) -> io::Result<()> {
    tidemill_store::replace(folder, name, &serde_json::to_vec(value)?, sync)?;
    if sync { tidemill_store::sync_dir(Some(folder)) } else { Ok(()) }
}

impl Manifest {
    fn load(folder: &Path) -> io::Result<Self> {
        let text = match fs::read(folder.join(MANIFEST)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            text => text?,
        };
        let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("{MANIFEST}: {what}"));
        let manifest: Self = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        match manifest.version {
            1 => Ok(manifest),
            other => Err(wrong(format!("version {other} is not known"))),
        }
    }

    fn close_if_full(&mut self, roll: Roll, time_ms: i64) {
        let full = |open: &OpenFile| {
            let age_ms = open.batches.first().map_or(0, |first| time_ms - first.time_ms);
            open.bytes >= roll.bytes || age_ms >= roll.age.as_millis() as i64 || open.batches.len() >= BATCHES_PER_FILE
        };
        if self.open.as_ref().is_some_and(full) {
            self.close();
        }
    }

    fn close(&mut self) {
        let Some(OpenFile { name, bytes, rows, batches }) = self.open.take() else { return };
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else { return };
        self.files.push(FullFile {
            name,
            bytes,
            rows,
            first_batch: first.batch,
            last_batch: last.batch,
            first_time_ms: first.time_ms,
            last_time_ms: last.time_ms,
        });
    }

    /// Moves full files to a page of their own when there are many; the manifest is written for every batch.
    fn archive(&mut self, folder: &Path, sync: bool) -> io::Result<()> {
        if self.files.len() < FILES_PER_PAGE {
            return Ok(());
        }
        let page = self.archived / FILES_PER_PAGE;
        // A crash between this and the manifest's rename leads here again, with the same page.
        replace(folder, &format!("_manifest-{page:05}.json"), &self.files, sync)?;
        self.archived += std::mem::take(&mut self.files).len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::files::tests::{Output, names, read};
    use std::io::Read;
    use std::time::Duration;
    use tidemill_common::ids::JobId;
    use tidemill_rows::Compression;

    fn rolling(bytes: u64) -> Output {
        Output::new(Some(Roll { bytes, age: Duration::from_secs(10) }))
    }

    fn batch(output: &Output, batch: u64, row: &str) {
        output.part(batch, "0000-1", &[(0, row)]);
        output.put(batch, batch as i64 * 1000, &["0000-1"]).unwrap();
    }

    #[test]
    fn files_roll_by_size_and_by_age() {
        let output = rolling(8);
        for (number, row) in [(1, "aaa"), (2, "bbb"), (3, "c"), (20, "d")] {
            batch(&output, number, row);
        }
        assert_eq!(read(&output.path("part-00000000.jsonl")), "aaa\nbbb\n");
        assert_eq!(read(&output.path("part-00000001.jsonl")), "c\n");
        assert_eq!(read(&output.path("part-00000002.jsonl")), "d\n");
        let manifest = Manifest::load(&output.path("")).unwrap();
        assert_eq!((manifest.batch, manifest.files.len()), (20, 2));
        assert_eq!((manifest.files[0].first_batch, manifest.files[0].last_batch, manifest.files[0].rows), (1, 2, 2));
        let open = manifest.open.unwrap();
        assert_eq!(open.batches, [Entry { batch: 20, time_ms: 20_000, offset: 0, rows: 1 }]);
    }

    #[test]
    fn a_batch_counts_once_wherever_a_crash_comes() {
        let output = rolling(1000);
        batch(&output, 1, "one");
        let manifest = read(&output.path(MANIFEST));
        batch(&output, 2, "two");
        // The rows were written, the manifest was not.
        fs::write(output.path(MANIFEST), &manifest).unwrap();
        batch(&output, 2, "two");
        // All was written, and the driver did not log it.
        batch(&output, 2, "two");
        // Half of the rows were written.
        let path = output.path("part-00000000.jsonl");
        fs::write(&path, read(&path) + "thr").unwrap();
        batch(&output, 3, "three");
        assert_eq!(read(&path), "one\ntwo\nthree\n");
        let open = Manifest::load(&output.path("")).unwrap().open.unwrap();
        let places: Vec<_> = open.batches.iter().map(|entry| (entry.batch, entry.offset)).collect();
        assert_eq!(places, [(1, 0), (2, 4), (3, 8)]);
    }

    #[test]
    fn batches_of_a_compressed_file_are_streams_of_their_own() {
        for compression in [Compression::Gzip, Compression::Zstd, Compression::Lz4, Compression::Snappy] {
            let mut output = rolling(1000);
            output.compression = Some(compression);
            batch(&output, 1, "one");
            batch(&output, 2, "two");
            let name = format!("part-00000000.jsonl{}", compression.suffix());
            let bytes = fs::read(output.path(&name)).unwrap();
            let open = Manifest::load(&output.path("")).unwrap().open.unwrap();
            assert_eq!((open.name.as_str(), open.bytes), (name.as_str(), bytes.len() as u64));
            let (first, second) = bytes.split_at(open.batches[1].offset as usize);
            for (bytes, expected) in [(&bytes[..], "one\ntwo\n"), (first, "one\n"), (second, "two\n")] {
                let mut text = String::new();
                tidemill_rows::decompressed(&name, bytes).unwrap().read_to_string(&mut text).unwrap();
                assert_eq!(text, expected, "{compression}");
            }
        }
    }

    #[test]
    fn another_job_begins_a_file_of_its_own() {
        let mut output = rolling(1000);
        batch(&output, 5, "old");
        output.job = JobId(2);
        batch(&output, 1, "new");
        assert_eq!(read(&output.path("part-00000000.jsonl")), "old\n");
        assert_eq!(read(&output.path("part-00000001.jsonl")), "new\n");
    }

    #[test]
    fn many_files_have_pages() {
        let output = rolling(1);
        for number in 1..=FILES_PER_PAGE as u64 + 2 {
            batch(&output, number, "x");
        }
        let manifest = Manifest::load(&output.path("")).unwrap();
        assert_eq!((manifest.archived, manifest.files.len()), (FILES_PER_PAGE, 1));
        let page: Vec<FullFile> = serde_json::from_str(&read(&output.path("_manifest-00000.json"))).unwrap();
        assert_eq!(page.len(), FILES_PER_PAGE);
        assert!(names(&output.path("")).contains(&format!("part-{:08}.jsonl", FILES_PER_PAGE + 1)));
    }

    #[test]
    fn damage_is_told() {
        let output = rolling(1000);
        batch(&output, 1, "one");
        fs::write(output.path("part-00000000.jsonl"), "").unwrap();
        output.part(2, "0000-1", &[(0, "two")]);
        let error = output.put(2, 2000, &["0000-1"]).unwrap_err();
        assert!(error.to_string().contains("shorter than its manifest"), "{error}");
    }
}
