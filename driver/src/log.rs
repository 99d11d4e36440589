//! The driver's log: append-only segment files. A segment starts with a snapshot of everything before it, so a restart reads
//! one segment; the one before it is kept, since it can stand in for a snapshot that is damaged. Segments are
//! chained (`chain.rs`), and only what the newest one is known to hold is ever deleted.
//!
//! A segment is a [file of frames](tidemill_common::frame), whose bodies end with a mark. What `append` returned for is with the operating system and
//! survives `kill -9`; with `sync` it is on the disk. A torn tail is cut off, said, and kept in a file of its own.
//! Anything else that does not read is damage: the log is not opened, and [`repair`] is asked for by people alone.

mod chain;
mod repair;
pub(crate) mod segment;
mod version1;
mod version3;

pub use repair::{Loss, LostJob, Repair, repair};
pub use segment::Damage;

use crate::record::{Durable, Record};
use chain::{Before, Head};
use segment::{Fault, Read, read_segment};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tidemill_common::frame;
use tidemill_metrics::{Counter, Histogram, SECONDS, metric};

metric! {
    static APPENDED_RECORDS: Counter =
        Counter::new("tidemill_log_records_total", "Records appended to the driver's log.");
    static APPENDED_BYTES: Counter = Counter::new("tidemill_log_bytes_total", "Bytes appended to the driver's log.");
    static APPEND: Histogram = Histogram::new(
        "tidemill_log_append_duration_seconds",
        "Time of one write to the driver's log, until it is where `durability` asks for.",
        SECONDS,
    );
}

/// Bytes after which a new segment is started.
const SEGMENT_BYTES: u64 = 8 << 20;
/// What tells a segment from other files of frames.
const KIND: [u8; 4] = *b"dlog";
/// Version of the layout of [`Durable`] and [`Record`]. One that is older is brought up to date when it is read.
const VERSION: u32 = 4;
/// Kinds of frames.
const SNAPSHOT: u8 = 1;
const RECORD: u8 = 2;
const HEAD: u8 = 3;
const CLOSED: u8 = 4;
/// The last byte of every body: one that ends with a zero was not written to its end.
const END_MARK: u8 = 0xa5;
/// Most files with different content that are set aside of one segment.
const MOST_SET_ASIDE: u32 = 20;

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
    /// A segment is where another one belongs.
    #[error(
        "{path} is not the segment of the log that belongs there: {what}. Nothing was changed: take the file that is wrong out of the directory, or put the right one in its place"
    )]
    Misplaced {
        /// The segment.
        path: PathBuf,
        /// What shows it.
        what: String,
    },
    /// The newest segment is not there.
    #[error(
        "{path} is missing: the log goes on there from the end of {before}. Nothing was changed: put the file back, or start with `tidemill driver --repair`, which goes on from the end of {before} and says which jobs go back to which batch"
    )]
    Missing {
        /// The segment.
        path: PathBuf,
        /// The one before it.
        before: PathBuf,
    },
    /// There are only parts of a log that were set aside.
    #[error(
        "the log is missing: {left} was set aside from it, and no segment is left. Put the log back; to begin a new cluster, use another --data-dir"
    )]
    Gone {
        /// What was set aside.
        left: PathBuf,
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
    /// Segments of which this one holds all.
    older: Vec<u64>,
    _lock: File,
}

impl Log {
    /// Opens or creates the log in `dir` and folds what it says.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn open(dir: &Path) -> Result<(Self, Durable), LogError> {
        let (lock, was_used) = lock(dir)?;
        let numbers = segment_numbers(dir)?;
        let Some(newest) = numbers.last().copied() else {
            return Self::begin(dir, lock, was_used);
        };
        let path = segment_path(dir, newest);
        let bytes = fs::read(&path).map_err(LogError::io(&path))?;
        let read = read_newest(dir, newest, &bytes)?;
        let older = chain::earlier(dir, &numbers, read.head.as_ref())?;
        let torn = torn(&path, &bytes, read.fault)?;
        let mut durable = read.durable.unwrap_or_default();
        if torn {
            durable.doubt();
        }
        let number = newest + 1;
        let head = head(&durable, number, Some(Before::of(newest, &bytes)));
        let (file, written) = write_segment(dir, &head, &durable)?;
        match torn {
            // It stays under the name that was told.
            true => remove(&path)?,
            false if read.head.is_some() => chain::close(&path, number)?,
            false => {}
        }
        remove_all(dir, &older)?;
        let older = if torn { Vec::new() } else { vec![newest] };
        let dir = dir.to_path_buf();
        let log = Self { dir, file, number, written, snapshot_bytes: written, buffer: Vec::new(), older, _lock: lock };
        Ok((log, durable))
    }

    fn begin(dir: &Path, lock: File, was_used: bool) -> Result<(Self, Durable), LogError> {
        if let Some(left) = set_aside_files(dir)? {
            return Err(LogError::Gone { left });
        }
        if was_used {
            tracing::warn!(
                path = %dir.display(),
                "this directory was used before and has no log any more; a new cluster begins, and workers of the one before are refused"
            );
        }
        let durable = Durable::default();
        let (file, written) = write_segment(dir, &head(&durable, 1, None), &durable)?;
        let (dir, buffer) = (dir.to_path_buf(), Vec::new());
        let log =
            Self { dir, file, number: 1, written, snapshot_bytes: written, buffer, older: Vec::new(), _lock: lock };
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
        let began = Instant::now();
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
        APPEND.observe(began.elapsed().as_secs_f64());
        APPENDED_RECORDS.add(records.len() as u64);
        APPENDED_BYTES.add(self.buffer.len() as u64);
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
        let path = segment_path(&self.dir, self.number);
        // It stands in for the new one's snapshot.
        self.file.sync_data().map_err(LogError::io(&path))?;
        let bytes = fs::read(&path).map_err(LogError::io(&path))?;
        let number = self.number + 1;
        let head = head(durable, number, Some(Before::of(self.number, &bytes)));
        let (file, written) = write_segment(&self.dir, &head, durable)?;
        let before = std::mem::replace(&mut self.number, number);
        self.file = file;
        self.written = written;
        self.snapshot_bytes = written;
        chain::close(&path, number)?;
        remove_all(&self.dir, &std::mem::replace(&mut self.older, vec![before]))
    }
}

/// Keeps other drivers out for as long as the file is open. Gives back whether there was one before.
fn lock(dir: &Path) -> Result<(File, bool), LogError> {
    fs::create_dir_all(dir).map_err(LogError::io(dir))?;
    let path = dir.join("lock");
    let was_used = path.exists();
    let lock = OpenOptions::new().create(true).append(true).open(&path).map_err(LogError::io(&path))?;
    match lock.try_lock() {
        Ok(()) => Ok((lock, was_used)),
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
        let path = entry.map_err(LogError::io(dir))?.path();
        let digits = path.file_name().and_then(|name| name.to_str()?.strip_prefix("log-"));
        let Some(digits) = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        match digits.parse::<u64>() {
            Ok(number) if number > 0 && segment_path(dir, number) == path => numbers.push(number),
            _ => tracing::warn!(path = %path.display(), "this is not the name of a segment of the log; it is ignored"),
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// A file that was set aside, if there is one.
fn set_aside_files(dir: &Path) -> Result<Option<PathBuf>, LogError> {
    for entry in fs::read_dir(dir).map_err(LogError::io(dir))? {
        let path = entry.map_err(LogError::io(dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("log-") && (name.contains(".torn-") || name.contains(".damaged-")) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// What the newest segment says. It has the place of its name, and is damaged nowhere but at its end.
fn read_newest(dir: &Path, number: u64, bytes: &[u8]) -> Result<Read, LogError> {
    let path = segment_path(dir, number);
    let read = read_segment(&path, bytes)?;
    chain::has_its_name(&path, number, read.head.as_ref())?;
    match (&read.durable, read.closed, &read.fault) {
        (Some(_), None, None | Some(Fault::Torn { .. })) => Ok(read),
        (Some(_), Some(next), None) => Err(LogError::Missing { path: segment_path(dir, next), before: path }),
        _ => Err(LogError::Damaged(Box::new(Damage::of(&path, bytes, read.fault)))),
    }
}

/// Whether the end of a segment is torn: then it has a second name, which stays.
fn torn(path: &Path, bytes: &[u8], fault: Option<Fault>) -> Result<bool, LogError> {
    let Some(Fault::Torn { at }) = fault else { return Ok(false) };
    let kept = set_aside(path, "torn")?;
    tracing::warn!(
        path = %path.display(), at, bytes = bytes.len() - at, kept = %kept.display(),
        "the last entry of the log was not written to its end and is cut off"
    );
    Ok(true)
}

/// Gives a segment a second name, under which nothing removes it; the one that it has already, if that is so.
fn set_aside(path: &Path, why: &str) -> Result<PathBuf, LogError> {
    let name = |n: u32| PathBuf::from(format!("{}.{why}-{n}", path.display()));
    for to in (1..=MOST_SET_ASIDE).map(name) {
        if to.exists() {
            if is_same(path, &to).map_err(LogError::io(&to))? {
                return Ok(to);
            }
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
    let full = format!("{MOST_SET_ASIDE} files `{}` are there already; move them away", name(1).display());
    Err(LogError::Io { path: path.to_path_buf(), source: io::Error::other(full) })
}

fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    Ok(fs::metadata(one)?.len() == fs::metadata(other)?.len() && fs::read(one)? == fs::read(other)?)
}

fn head(durable: &Durable, number: u64, before: Option<Before>) -> Head {
    Head { cluster: durable.cluster_id.clone(), number, before }
}

/// A segment appears under its name only with its snapshot synced, and read back as it was written.
fn write_segment(dir: &Path, head: &Head, durable: &Durable) -> Result<(File, u64), LogError> {
    let path = segment_path(dir, head.number);
    let temporary = dir.join(format!("new-{:012}", head.number));
    let write = || -> io::Result<(File, u64)> {
        let mut bytes = frame::file_header(KIND, VERSION).to_vec();
        encode(&mut bytes, HEAD, head)?;
        encode(&mut bytes, SNAPSHOT, durable)?;
        let mut file = File::create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        if fs::read(&temporary)? != bytes {
            return Err(io::Error::other("what was written does not read as it was written"));
        }
        fs::rename(&temporary, &path)?;
        File::open(dir)?.sync_all()?;
        Ok((file, bytes.len() as u64))
    };
    write().map_err(LogError::io(&path))
}

fn remove_all(dir: &Path, numbers: &[u64]) -> Result<(), LogError> {
    numbers.iter().try_for_each(|number| remove(&segment_path(dir, *number)))
}

fn remove(path: &Path) -> Result<(), LogError> {
    fs::remove_file(path).map_err(LogError::io(path))
}

fn encode(buffer: &mut Vec<u8>, kind: u8, body: &impl serde::Serialize) -> io::Result<()> {
    let mut bytes = postcard::to_stdvec(body).map_err(io::Error::other)?;
    bytes.push(END_MARK);
    if frame::push(buffer, kind, &bytes) {
        return Ok(());
    }
    Err(io::Error::other(format!("an entry of {} bytes is longer than {} bytes", bytes.len(), frame::MAX_BODY)))
}

#[cfg(test)]
mod tests;
