//! The driver's log: append-only segment files. A segment starts with a snapshot of everything before it, so a restart reads
//! one segment; the one before it is kept, since it can stand in for a snapshot that is damaged.
//!
//! A segment is a [file of frames](tidemill_common::frame). What `append` returned for is with the operating system and
//! survives `kill -9`; with `sync` it is on the disk. A torn tail is cut off, said, and kept in a file of its own.
//! Anything else that does not read is damage: the log is not opened, and [`repair`] is asked for by people alone.

mod repair;
pub(crate) mod segment;
mod version1;

pub use repair::{LostJob, Repair, repair};
pub use segment::Damage;

use crate::record::{Durable, Record};
use segment::{Fault, read_segment};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tidemill_common::frame;

/// Bytes after which a new segment is started.
const SEGMENT_BYTES: u64 = 8 << 20;
/// What tells a segment from other files of frames.
const KIND: [u8; 4] = *b"dlog";
/// Version of the layout of [`Durable`] and [`Record`]. One that is older is brought up to date when it is read.
const VERSION: u32 = 2;
/// Kinds of frames.
const SNAPSHOT: u8 = 1;
const RECORD: u8 = 2;
/// Most files that are set aside of one segment.
const MOST_SET_ASIDE: u32 = 1000;

/// Why the log could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Another driver has the directory.
    #[error("the data directory {path} is in use by another process; stop it, or choose another with --data-dir")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Written by another program than this one can read.
    #[error(
        "{path} was written with version {found} of the log, this program reads versions 1 to {VERSION}; use the tidemill that wrote it, or another --data-dir"
    )]
    OtherVersion {
        /// The segment.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Something else than the end of the newest segment does not read.
    #[error(
        "{0}. Nothing was changed: put a good copy of the file in its place, or start with `tidemill driver --repair`, which goes on from the entries before the damage, keeps the file under another name, and says what is lost"
    )]
    Damaged(Box<Damage>),
    /// Nothing of the log can be used.
    #[error(
        "{damage}. It cannot be repaired: its snapshot, on which all entries build, does not read, and {earlier}. Put a good copy of the file in its place; with another --data-dir the cluster begins anew"
    )]
    BeyondRepair {
        /// What is wrong with the newest segment.
        damage: Box<Damage>,
        /// Why the segment before it does not help.
        earlier: String,
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

impl LogError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
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
        let lock = lock(dir)?;
        let newest = segment_numbers(dir)?.last().copied();
        let (durable, torn) = match newest {
            Some(number) => read_newest(&segment_path(dir, number))?,
            None => (Durable::default(), false),
        };
        let number = newest.map_or(1, |number| number + 1);
        let (file, written) = write_segment(dir, number, &durable)?;
        if let Some(newest) = newest.filter(|_| torn) {
            // It stays under the name that was told.
            remove(&segment_path(dir, newest))?;
        }
        remove_older(dir, number)?;
        let dir = dir.to_path_buf();
        let log = Self { dir, file, number, written, snapshot_bytes: written, buffer: Vec::new(), _lock: lock };
        Ok((log, durable))
    }

    /// Appends records and hands them to the operating system in one write; with `sync`, to the disk.
    ///
    /// # Errors
    /// The file system failed; what was written may be torn and is then cut off by the next [`Log::open`].
    pub fn append(&mut self, records: &[Record], sync: bool) -> Result<(), LogError> {
        if records.is_empty() {
            return Ok(());
        }
        let path = segment_path(&self.dir, self.number);
        self.buffer.clear();
        for record in records {
            encode(&mut self.buffer, RECORD, record).map_err(LogError::io(&path))?;
        }
        self.file.write_all(&self.buffer).map_err(LogError::io(&path))?;
        self.written += self.buffer.len() as u64;
        if sync {
            self.file.sync_data().map_err(LogError::io(&path))?;
        }
        Ok(())
    }

    /// Whether the segment is long enough for [`Log::rotate`] to pay.
    pub fn wants_rotation(&self) -> bool {
        self.written > SEGMENT_BYTES.max(2 * self.snapshot_bytes)
    }

    /// Starts a new segment from a snapshot and removes the older ones, but for the last.
    ///
    /// # Errors
    /// The file system failed.
    pub fn rotate(&mut self, durable: &Durable) -> Result<(), LogError> {
        // It stands in for the new one's snapshot.
        self.file.sync_data().map_err(LogError::io(&segment_path(&self.dir, self.number)))?;
        let (file, written) = write_segment(&self.dir, self.number + 1, durable)?;
        self.file = file;
        self.number += 1;
        self.written = written;
        self.snapshot_bytes = written;
        remove_older(&self.dir, self.number)
    }
}

/// Keeps other drivers out for as long as the file is open.
fn lock(dir: &Path) -> Result<File, LogError> {
    fs::create_dir_all(dir).map_err(LogError::io(dir))?;
    let path = dir.join("lock");
    let lock = OpenOptions::new().create(true).append(true).open(&path).map_err(LogError::io(&path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(LogError::Locked { path: dir.to_path_buf() }),
        Err(fs::TryLockError::Error(source)) => Err(LogError::Io { path, source }),
    }
}

fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("log-{number:012}"))
}

/// Numbers of the segments, ascending.
fn segment_numbers(dir: &Path) -> Result<Vec<u64>, LogError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(LogError::io(dir))? {
        let name = entry.map_err(LogError::io(dir))?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix("log-"));
        numbers.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// What the newest segment says, and whether its tail was torn: then it has a second name, which stays.
fn read_newest(path: &Path) -> Result<(Durable, bool), LogError> {
    let bytes = fs::read(path).map_err(LogError::io(path))?;
    let read = read_segment(path, &bytes)?;
    match (read.durable, read.fault) {
        (Some(durable), None) => Ok((durable, false)),
        (Some(mut durable), Some(Fault::Torn { at })) => {
            let kept = set_aside(path, "torn")?;
            tracing::warn!(
                path = %path.display(), at, bytes = bytes.len() - at, kept = %kept.display(),
                "the last entry of the log was not written to its end and is cut off"
            );
            durable.doubt();
            Ok((durable, true))
        }
        (_, fault) => Err(LogError::Damaged(Box::new(Damage::of(path, &bytes, fault)))),
    }
}

/// Gives a segment a second name, under which nothing removes it.
fn set_aside(path: &Path, why: &str) -> Result<PathBuf, LogError> {
    let name = |n: u32| PathBuf::from(format!("{}.{why}-{n}", path.display()));
    let mut candidates = (1..=MOST_SET_ASIDE).map(name);
    loop {
        let Some(to) = candidates.next() else {
            let full = io::Error::other(format!("{MOST_SET_ASIDE} files `{}` are there already", name(1).display()));
            return Err(LogError::Io { path: path.to_path_buf(), source: full });
        };
        if to.exists() {
            continue;
        }
        // Not every file system has second names.
        fs::hard_link(path, &to).or_else(|_| fs::copy(path, &to).map(drop)).map_err(LogError::io(&to))?;
        let dir = path.parent().unwrap_or(Path::new("."));
        let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all()).map_err(LogError::io(path));
        sync(&to)?;
        sync(dir)?;
        return Ok(to);
    }
}

/// A segment appears under its name only with its snapshot synced.
fn write_segment(dir: &Path, number: u64, durable: &Durable) -> Result<(File, u64), LogError> {
    let path = segment_path(dir, number);
    let temporary = dir.join(format!("new-{number:012}"));
    let write = || -> io::Result<(File, u64)> {
        let mut bytes = frame::file_header(KIND, VERSION).to_vec();
        encode(&mut bytes, SNAPSHOT, durable)?;
        let mut file = File::create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        fs::rename(&temporary, &path)?;
        File::open(dir)?.sync_all()?;
        Ok((file, bytes.len() as u64))
    };
    write().map_err(LogError::io(&path))
}

/// Removes the segments before `number`, but for the last of them.
fn remove_older(dir: &Path, number: u64) -> Result<(), LogError> {
    let numbers = segment_numbers(dir)?;
    numbers.into_iter().filter(|other| other + 1 < number).try_for_each(|other| remove(&segment_path(dir, other)))
}

fn remove(path: &Path) -> Result<(), LogError> {
    fs::remove_file(path).map_err(LogError::io(path))
}

fn encode(buffer: &mut Vec<u8>, kind: u8, body: &impl serde::Serialize) -> io::Result<()> {
    let bytes = postcard::to_stdvec(body).map_err(io::Error::other)?;
    if frame::push(buffer, kind, &bytes) {
        return Ok(());
    }
    Err(io::Error::other(format!("an entry of {} bytes is longer than {} bytes", bytes.len(), frame::MAX_BODY)))
}

#[cfg(test)]
mod tests;
