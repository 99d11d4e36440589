//! The driver's log: append-only segment files. A segment starts with a snapshot of everything before
//! it, so that the older ones can go and a restart reads at most one segment.
//!
//! An entry is `length u32 | crc32 u32 | postcard bytes`. What `append` returned for is with the
//! operating system and survives `kill -9`; with `sync` it is on the disk. A torn tail is cut off.

use crate::record::{Durable, Record};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Bytes after which a new segment is started.
const SEGMENT_BYTES: u64 = 8 << 20;
/// Version of the format; another one is refused.
const FORMAT: u32 = 1;
const MAX_ENTRY_BYTES: usize = 1 << 30;

#[derive(Serialize, Deserialize)]
enum Entry {
    Snapshot(u32, Durable),
    Record(Record),
}

/// Why the log could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Another driver has the directory.
    #[error("the data directory {path} is in use by another process; stop it, or choose another with --data-dir")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Written by a newer program.
    #[error(
        "{path} was written by a newer version of tidemill (log format {found}, this program reads {FORMAT}); use that version, or another --data-dir"
    )]
    NewerFormat {
        /// The segment.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The newest segment does not start with a readable snapshot.
    #[error("{path} is damaged: {what}; move it away to start from the segment before it, if there is one")]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The file system failed.
    #[error("the log in {path} could not be used: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// An open log.
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    file: File,
    number: u64,
    written: u64,
    snapshot_bytes: u64,
    buffer: Vec<u8>,
    _lock: File,
}

impl Log {
    /// Opens or creates the log in `dir` and folds what it says.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn open(dir: &Path) -> Result<(Self, Durable), LogError> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| LogError::Io { path, source }
        };
        fs::create_dir_all(dir).map_err(io(dir))?;
        let lock_path = dir.join("lock");
        let lock = OpenOptions::new().create(true).append(true).open(&lock_path).map_err(io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(LogError::Locked { path: dir.to_path_buf() }),
            Err(fs::TryLockError::Error(source)) => return Err(LogError::Io { path: lock_path, source }),
        }
        let numbers = segment_numbers(dir).map_err(io(dir))?;
        let (durable, number) = match read_newest(dir, &numbers)? {
            Some((durable, number)) => (durable, number + 1),
            None => (Durable::default(), 1),
        };
        let mut log = Self::create_segment(dir, number, &durable, lock)?;
        log.remove_older()?;
        Ok((log, durable))
    }

    fn create_segment(dir: &Path, number: u64, durable: &Durable, lock: File) -> Result<Self, LogError> {
        let (file, written) = write_segment(dir, number, durable)?;
        Ok(Self {
            dir: dir.to_path_buf(),
            file,
            number,
            written,
            snapshot_bytes: written,
            buffer: Vec::new(),
            _lock: lock,
        })
    }

    /// Appends records and hands them to the operating system in one write; with `sync`, to the disk.
    ///
    /// # Errors
    /// The file system failed; what was written may be torn and is then cut off by the next [`Log::open`].
    pub fn append(&mut self, records: &[Record], sync: bool) -> Result<(), LogError> {
        if records.is_empty() {
            return Ok(());
        }
        self.buffer.clear();
        for record in records {
            encode(&mut self.buffer, &Entry::Record(record.clone())).map_err(|e| self.io(e))?;
        }
        self.file.write_all(&self.buffer).map_err(|e| self.io(e))?;
        self.written += self.buffer.len() as u64;
        if sync {
            self.file.sync_data().map_err(|e| self.io(e))?;
        }
        Ok(())
    }

    /// Whether the segment is long enough for [`Log::rotate`] to pay.
    pub fn wants_rotation(&self) -> bool {
        self.written > SEGMENT_BYTES.max(2 * self.snapshot_bytes)
    }

    /// Starts a new segment from a snapshot and removes the older ones.
    ///
    /// # Errors
    /// The file system failed.
    pub fn rotate(&mut self, durable: &Durable) -> Result<(), LogError> {
        let (file, written) = write_segment(&self.dir, self.number + 1, durable)?;
        self.file = file;
        self.number += 1;
        self.written = written;
        self.snapshot_bytes = written;
        self.remove_older()
    }

    fn remove_older(&mut self) -> Result<(), LogError> {
        for number in segment_numbers(&self.dir).map_err(|e| self.io(e))? {
            if number < self.number {
                fs::remove_file(segment_path(&self.dir, number)).map_err(|e| self.io(e))?;
            }
        }
        Ok(())
    }

    fn io(&self, source: io::Error) -> LogError {
        LogError::Io { path: segment_path(&self.dir, self.number), source }
    }
}

fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("log-{number:012}"))
}

fn segment_numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if let Some(number) = name.to_str().and_then(|n| n.strip_prefix("log-")).and_then(|n| n.parse().ok()) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// A segment appears under its name only with its snapshot synced.
fn write_segment(dir: &Path, number: u64, durable: &Durable) -> Result<(File, u64), LogError> {
    let path = segment_path(dir, number);
    let temporary = dir.join(format!("new-{number:012}"));
    let write = || -> io::Result<(File, u64)> {
        let mut bytes = Vec::new();
        encode(&mut bytes, &Entry::Snapshot(FORMAT, durable.clone()))?;
        let mut file = File::create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        fs::rename(&temporary, &path)?;
        File::open(dir)?.sync_all()?;
        Ok((file, bytes.len() as u64))
    };
    write().map_err(|source| LogError::Io { path: path.clone(), source })
}

fn encode(buffer: &mut Vec<u8>, entry: &Entry) -> io::Result<()> {
    let bytes = postcard::to_stdvec(entry).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    buffer.extend_from_slice(&bytes);
    Ok(())
}

fn read_newest(dir: &Path, numbers: &[u64]) -> Result<Option<(Durable, u64)>, LogError> {
    let Some(&number) = numbers.last() else {
        return Ok(None);
    };
    let path = segment_path(dir, number);
    let mut bytes = Vec::new();
    File::open(&path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(|source| LogError::Io { path: path.clone(), source })?;
    let mut rest = bytes.as_slice();
    let damaged = |what: &str| LogError::Damaged { path: path.clone(), what: what.to_string() };
    let mut durable = match next_entry(&mut rest).ok_or_else(|| damaged("its first entry cannot be read"))? {
        Entry::Snapshot(FORMAT, durable) => durable,
        Entry::Snapshot(found, _) => return Err(LogError::NewerFormat { path, found }),
        Entry::Record(_) => return Err(damaged("it does not start with a snapshot")),
    };
    while let Some(Entry::Record(record)) = next_entry(&mut rest) {
        durable.apply(&record);
    }
    if !rest.is_empty() {
        tracing::info!(bytes = rest.len(), path = %path.display(), "cut off the torn tail of the log");
    }
    Ok(Some((durable, number)))
}

fn next_entry(rest: &mut &[u8]) -> Option<Entry> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (crc, after) = after.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > MAX_ENTRY_BYTES || after.len() < length {
        return None;
    }
    let (bytes, after) = after.split_at(length);
    if crc32fast::hash(bytes) != u32::from_le_bytes(*crc) {
        return None;
    }
    let entry = postcard::from_bytes(bytes).ok()?;
    *rest = after;
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_common::ids::{Term, WorkerId};

    #[test]
    fn what_was_appended_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, durable) = Log::open(dir.path()).unwrap();
        assert_eq!(durable, Durable::default());
        log.append(&[Record::Cluster { id: "c".into() }, Record::Started { term: Term(1) }], false).unwrap();
        log.append(&[Record::WorkerJoined(WorkerId(7))], true).unwrap();
        drop(log);
        let (_, durable) = Log::open(dir.path()).unwrap();
        assert_eq!(durable.cluster_id, "c");
        assert_eq!(durable.last_worker, WorkerId(7));
    }

    #[test]
    fn a_torn_tail_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = Log::open(dir.path()).unwrap();
        log.append(&[Record::WorkerJoined(WorkerId(1))], false).unwrap();
        log.append(&[Record::WorkerJoined(WorkerId(2))], false).unwrap();
        let path = segment_path(dir.path(), log.number);
        drop(log);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let (_, durable) = Log::open(dir.path()).unwrap();
        assert_eq!(durable.last_worker, WorkerId(1));
    }

    #[test]
    fn rotation_keeps_the_state_and_one_segment() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, mut durable) = Log::open(dir.path()).unwrap();
        for n in 1..=5 {
            let record = Record::WorkerJoined(WorkerId(n));
            durable.apply(&record);
            log.append(&[record], false).unwrap();
            log.rotate(&durable).unwrap();
        }
        assert_eq!(segment_numbers(dir.path()).unwrap().len(), 1);
        drop(log);
        assert_eq!(Log::open(dir.path()).unwrap().1, durable);
    }

    #[test]
    fn a_second_driver_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _log = Log::open(dir.path()).unwrap();
        assert!(matches!(Log::open(dir.path()), Err(LogError::Locked { .. })));
    }

    #[test]
    fn a_newer_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        encode(&mut bytes, &Entry::Snapshot(FORMAT + 1, Durable::default())).unwrap();
        fs::write(segment_path(dir.path(), 1), bytes).unwrap();
        assert!(matches!(Log::open(dir.path()), Err(LogError::NewerFormat { found: 2, .. })));
    }
}
