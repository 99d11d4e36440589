//! The block log: blocks that must survive a power loss, appended to segment files and synced.
//!
//! Concurrent appends share one sync. A segment goes when all its blocks are removed. Every process
//! starts a new segment, so only what was being written at a crash can be torn.
//!
//! A segment is a [file of frames](tidemill_common::frame); a body is a [`BlockId`] with its number of records, and the
//! block's bytes. One that is damaged is left out and counted; those behind it are found. Segments of
//! [before there were frames](super::old_segments) are read in the same way, and those of another version are left alone.

use super::old_segments::{is_old, old_step};
use super::spool::{Backing, DiskBudget};
use super::{BlockId, DAMAGED, StoreError, lock};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tidemill_common::frame::{self, FILE_HEADER, FRAME_HEADER, FileHeader, FrameHeader, Step};
use tidemill_common::ids::{JobId, SourceIdx};

const SEGMENT_BYTES: u64 = 64 << 20;
const SUFFIX: &str = "blocks";
/// A segment that held blocks which did not read.
const DAMAGED_SUFFIX: &str = "damaged";
/// What tells a segment from other files of frames, and the version of its bodies.
const KIND: [u8; 4] = *b"blks";
const VERSION: u32 = 1;
/// The one kind of frame.
const BLOCK: u8 = 1;
/// Bytes of a body before the block's own.
pub(super) const HEADER: usize = 40;

/// The log. Opened without reading; [`recover`](Self::recover) reads what is there.
pub(super) struct SegmentLog {
    dir: PathBuf,
    disk: Arc<DiskBudget>,
    state: Mutex<State>,
    synced: Condvar,
    /// Blocks that did not read as they were written.
    damaged: AtomicU64,
}

struct State {
    segments: BTreeMap<u64, Segment>,
    /// The segment that is appended to.
    active: Option<u64>,
    next_segment: u64,
    /// Files with writes that no sync covers yet.
    dirty: Vec<Arc<File>>,
    /// Appends so far, and how many of them are synced.
    appended: u64,
    durable: u64,
    syncing: bool,
    /// After a failed sync nobody knows what is on the disk.
    failed: Option<String>,
}

struct Segment {
    path: PathBuf,
    file: Arc<File>,
    bytes: u64,
    live: u64,
    damaged: bool,
}

/// A block in the log.
pub(super) struct LogRecord {
    log: Arc<SegmentLog>,
    segment: u64,
    file: Arc<File>,
    path: PathBuf,
    offset: u64,
    len: usize,
    crc: u32,
}

/// A block found by [`SegmentLog::recover`].
pub(super) struct Recovered {
    pub(super) id: BlockId,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) record: Arc<LogRecord>,
}

impl SegmentLog {
    pub(super) fn new(dir: PathBuf, disk: Arc<DiskBudget>) -> Arc<Self> {
        let state = State {
            segments: BTreeMap::new(),
            active: None,
            next_segment: 0,
            dirty: Vec::new(),
            appended: 0,
            durable: 0,
            syncing: false,
            failed: None,
        };
        Arc::new(Self { dir, disk, state: Mutex::new(state), synced: Condvar::new(), damaged: AtomicU64::new(0) })
    }

    /// Appends a block and returns when it is on the disk.
    pub(super) fn append(
        self: &Arc<Self>,
        id: &BlockId,
        records: u64,
        bytes: &[u8],
    ) -> Result<Arc<LogRecord>, StoreError> {
        let frame = encode(id, records, bytes)?;
        let mut state = lock(&self.state);
        self.check(&state)?;
        let record = self.write(&mut state, &frame)?;
        state.appended += 1;
        let mine = state.appended;
        match self.sync_to(state, mine) {
            Ok(()) => Ok(record),
            Err(error) => {
                record.removed();
                Err(error)
            }
        }
    }

    fn check(&self, state: &State) -> Result<(), StoreError> {
        match &state.failed {
            None => Ok(()),
            Some(cause) => Err(StoreError::LogStopped { dir: self.dir.clone(), cause: cause.clone() }),
        }
    }

    /// Writes at the end of the active segment. A failed write is overwritten by the next one.
    fn write(self: &Arc<Self>, state: &mut State, frame: &[u8]) -> Result<Arc<LogRecord>, StoreError> {
        let number = self.active_segment(state)?;
        let Some(segment) = state.segments.get_mut(&number) else {
            return Err(StoreError::LogStopped { dir: self.dir.clone(), cause: "its newest segment is gone".into() });
        };
        let len = frame.len() as u64;
        self.disk.take(len)?;
        if let Err(source) = segment.file.write_all_at(frame, segment.bytes) {
            self.disk.give_back(len);
            return Err(StoreError::io("append to", &segment.path)(source));
        }
        let record = Arc::new(LogRecord {
            log: self.clone(),
            segment: number,
            file: segment.file.clone(),
            path: segment.path.clone(),
            offset: segment.bytes + FRAME_HEADER as u64,
            len: frame.len() - FRAME_HEADER,
            crc: crc32fast::hash(&frame[FRAME_HEADER..]),
        });
        segment.bytes += len;
        segment.live += 1;
        if !state.dirty.iter().any(|file| Arc::ptr_eq(file, &segment.file)) {
            state.dirty.push(segment.file.clone());
        }
        Ok(record)
    }

    fn active_segment(&self, state: &mut State) -> Result<u64, StoreError> {
        if let Some(number) = state.active {
            if state.segments.get(&number).is_some_and(|s| s.bytes < SEGMENT_BYTES) {
                return Ok(number);
            }
            // Full, and now deleted as soon as its last block is; or already gone.
            state.active = None;
            self.drop_if_empty(state, number);
        }
        fs::create_dir_all(&self.dir).map_err(StoreError::io("create", &self.dir))?;
        let (path, file) = loop {
            let path = self.dir.join(format!("{:016}.{SUFFIX}", state.next_segment));
            match File::options().read(true).write(true).create_new(true).open(&path) {
                Ok(file) => break (path, file),
                // Left by an earlier process and not recovered (yet): its blocks are not ours to overwrite.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    state.next_segment += 1;
                }
                Err(error) => return Err(StoreError::io("create", &path)(error)),
            }
        };
        file.write_all_at(&frame::file_header(KIND, VERSION), 0).map_err(StoreError::io("write", &path))?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(StoreError::io("sync", &self.dir))?;
        let number = state.next_segment;
        state.next_segment += 1;
        let bytes = FILE_HEADER as u64;
        self.disk.found(bytes);
        state.segments.insert(number, Segment { path, file: Arc::new(file), bytes, live: 0, damaged: false });
        state.active = Some(number);
        Ok(number)
    }

    /// Waits until append number `mine` is synced, doing the sync itself if nobody is at it.
    fn sync_to<'a>(&'a self, mut state: MutexGuard<'a, State>, mine: u64) -> Result<(), StoreError> {
        while state.durable < mine {
            self.check(&state)?;
            if state.syncing {
                state = self.synced.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.syncing = true;
            let covered = state.appended;
            let dirty = std::mem::take(&mut state.dirty);
            drop(state);
            let outcome = dirty.iter().try_for_each(|file| file.sync_data());
            state = lock(&self.state);
            state.syncing = false;
            match outcome {
                Ok(()) => state.durable = covered,
                Err(error) => state.failed = Some(format!("cannot sync: {error}")),
            }
            self.synced.notify_all();
        }
        Ok(())
    }

    fn release(&self, number: u64) {
        let mut state = lock(&self.state);
        if let Some(segment) = state.segments.get_mut(&number) {
            segment.live -= 1;
        }
        if state.active != Some(number) {
            self.drop_if_empty(&mut state, number);
        }
    }

    fn drop_if_empty(&self, state: &mut State, number: u64) {
        if state.segments.get(&number).is_none_or(|segment| segment.live > 0) {
            return;
        }
        if let Some(segment) = state.segments.remove(&number) {
            let done = match segment.damaged {
                // Somebody may want to look at it.
                true => fs::rename(&segment.path, damaged_name(&segment.path)),
                false => fs::remove_file(&segment.path),
            };
            if let Err(error) = done {
                tracing::warn!(path = %segment.path.display(), %error, "cannot delete a block segment");
            }
            self.disk.give_back(segment.bytes);
        }
    }

    /// Blocks that did not read as they were written, so far.
    pub(super) fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Reads all segments of earlier processes, oldest first. What is torn is left out, and what is damaged counted; a segment
    /// without a whole block is deleted, or set aside if it is damaged.
    pub(super) fn recover(self: &Arc<Self>) -> Result<Vec<Recovered>, StoreError> {
        let mut found = Vec::new();
        let mut state = lock(&self.state);
        for (number, path) in self.segment_files()? {
            if state.segments.contains_key(&number) {
                continue;
            }
            let file = Arc::new(File::open(&path).map_err(StoreError::io("open", &path))?);
            let content = fs::read(&path).map_err(StoreError::io("read", &path))?;
            let (before, bytes) = (found.len(), content.len() as u64);
            state.next_segment = state.next_segment.max(number + 1);
            if let FileHeader::Of(kind, version) = frame::read_file_header(&content)
                && (kind, version) != (KIND, VERSION)
            {
                self.disk.found(bytes);
                tracing::error!(
                    path = %path.display(), version,
                    "these blocks were written by another version of tidemill; that version finds them here, this one does not use them"
                );
                continue;
            }
            let damaged = self.read_segment(number, &path, &file, &content, &mut found);
            let live = (found.len() - before) as u64;
            self.disk.found(bytes);
            state.segments.insert(number, Segment { path, file, bytes, live, damaged });
            self.drop_if_empty(&mut state, number);
        }
        Ok(found)
    }

    fn segment_files(&self) -> Result<BTreeMap<u64, PathBuf>, StoreError> {
        let mut files = BTreeMap::new();
        if !self.dir.exists() {
            return Ok(files);
        }
        for entry in fs::read_dir(&self.dir).map_err(StoreError::io("list", &self.dir))? {
            let path = entry.map_err(StoreError::io("list", &self.dir))?.path();
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            if let Some(number) = number.filter(|_| path.extension().is_some_and(|s| s == SUFFIX)) {
                files.insert(number, path);
            }
        }
        Ok(files)
    }

    /// Adds the whole blocks of a segment; gives back whether others are damaged.
    fn read_segment(
        self: &Arc<Self>,
        segment: u64,
        path: &Path,
        file: &Arc<File>,
        content: &[u8],
        found: &mut Vec<Recovered>,
    ) -> bool {
        let header = frame::read_file_header(content);
        let framed = header != FileHeader::Other || !is_old(content);
        let mut damaged = framed && !matches!(header, FileHeader::Of(..)) && content.len() >= FILE_HEADER;
        if damaged {
            self.count_damage(path, 0, "the header of the file does not match its checksum");
        }
        let mut at = if framed { FILE_HEADER } else { 0 };
        loop {
            let (body_at, end) = match if framed { frame::step(content, at) } else { old_step(content, at) } {
                Step::Whole { body, end, .. } => (end - body.len(), end),
                Step::Damaged { what, next, .. } => {
                    damaged = true;
                    self.count_damage(path, at, what);
                    let Some(next) = next else { return damaged };
                    at = next;
                    continue;
                }
                Step::Torn => {
                    let torn_bytes = content.len() - at;
                    tracing::warn!(path = %path.display(), at, torn_bytes, "ignored the torn end of a block segment");
                    return damaged;
                }
                Step::End => return damaged,
            };
            let body = &content[body_at..end];
            match decode_header(body) {
                Some((id, records)) => {
                    let (offset, len, crc) = (body_at as u64, body.len(), crc32fast::hash(body));
                    let (log, file, path) = (self.clone(), file.clone(), path.to_owned());
                    let record = LogRecord { log, segment, file, path, offset, len, crc };
                    let bytes = (len - HEADER) as u64;
                    found.push(Recovered { id, records, bytes, record: Arc::new(record) });
                }
                None => {
                    damaged = true;
                    self.count_damage(path, at, "a block is too short");
                }
            }
            at = end;
        }
    }

    fn count_damage(&self, path: &Path, at: usize, what: &str) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
        DAMAGED.add(1);
        tracing::error!(path = %path.display(), at, what, "blocks on this disk are damaged; copies of others are used");
    }
}

impl Backing for LogRecord {
    fn read(&self) -> Result<Bytes, StoreError> {
        let mut body = vec![0; self.len];
        self.file.read_exact_at(&mut body, self.offset).map_err(StoreError::io("read", &self.path))?;
        if crc32fast::hash(&body) != self.crc {
            let what = format!("wrong checksum of the record at byte {}", self.offset);
            return Err(StoreError::Damaged { path: self.path.clone(), what });
        }
        Ok(Bytes::from(body).slice(HEADER..))
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn removed(&self) {
        self.log.release(self.segment);
    }
}

/// A name that no file has.
fn damaged_name(path: &Path) -> PathBuf {
    let numbered = (1_u64..).map(|n| path.with_extension(format!("{DAMAGED_SUFFIX}-{n}")));
    let mut names = std::iter::once(path.with_extension(DAMAGED_SUFFIX)).chain(numbered);
    names.find(|name| !name.exists()).unwrap_or_else(|| path.with_extension(DAMAGED_SUFFIX))
}

fn encode(id: &BlockId, records: u64, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    let mut body = Vec::with_capacity(HEADER + bytes.len());
    for number in [id.job.0, id.epoch, id.first_offset, records] {
        body.extend_from_slice(&number.to_le_bytes());
    }
    body.extend_from_slice(&id.source.0.to_le_bytes());
    body.extend_from_slice(&id.receiver.to_le_bytes());
    body.extend_from_slice(bytes);
    let header = FrameHeader::of(BLOCK, &body);
    let header = header.ok_or_else(|| StoreError::Encode(format!("it has {} bytes", body.len())))?;
    Ok([&header.to_bytes()[..], &body].concat())
}

/// How many blocks a segment of this content has.
#[cfg(any(test, feature = "testkit"))]
pub(crate) fn count_blocks(content: &[u8]) -> std::io::Result<usize> {
    let (path, mut found) = (Path::new("/dev/null"), Vec::new());
    let log = SegmentLog::new(path.into(), DiskBudget::new(u64::MAX));
    log.read_segment(0, path, &Arc::new(File::open(path)?), content, &mut found);
    Ok(found.len())
}

/// These bytes as a segment whose checksums are right.
#[cfg(any(test, feature = "testkit"))]
pub(crate) fn sealed(bytes: &[u8]) -> Vec<u8> {
    tidemill_common::fuzz::sealed(bytes, KIND, VERSION)
}

pub(super) fn decode_header(body: &[u8]) -> Option<(BlockId, u64)> {
    let id = BlockId {
        job: JobId(u64_at(body, 0)?),
        source: SourceIdx(u32_at(body, 32)?),
        receiver: u32_at(body, 36)?,
        epoch: u64_at(body, 8)?,
        first_offset: u64_at(body, 16)?,
    };
    Some((id, u64_at(body, 24)?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}
