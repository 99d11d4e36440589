//! The block log: blocks that must survive a power loss, appended to segment files and synced.
//!
//! Concurrent appends share one sync. A segment goes when all its blocks are removed. Every process
//! starts a new segment, so only what was being written at a crash can be torn.
//!
//! A record is `length u32 | crc32 u32 | body`, little-endian; the body is a [`BlockId`] with its number
//! of records, and the block's bytes.

use super::spool::{Backing, DiskBudget};
use super::{BlockId, StoreError, lock};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tidemill_common::ids::{JobId, SourceIdx};

const SEGMENT_BYTES: u64 = 64 << 20;
const SUFFIX: &str = "blocks";
const FRAME: usize = 8;
const HEADER: usize = 40;

/// The log. Opened without reading; [`recover`](Self::recover) reads what is there.
pub(super) struct SegmentLog {
    dir: PathBuf,
    disk: Arc<DiskBudget>,
    state: Mutex<State>,
    synced: Condvar,
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
        Arc::new(Self { dir, disk, state: Mutex::new(state), synced: Condvar::new() })
    }

    /// Appends a block and returns when it is on the disk.
    pub(super) fn append(
        self: &Arc<Self>,
        id: &BlockId,
        records: u64,
        bytes: &[u8],
    ) -> Result<Arc<LogRecord>, StoreError> {
        let frame = encode(id, records, bytes);
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
            offset: segment.bytes + FRAME as u64,
            len: frame.len() - FRAME,
            crc: crc_of(frame),
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
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(StoreError::io("sync", &self.dir))?;
        let number = state.next_segment;
        state.next_segment += 1;
        state.segments.insert(number, Segment { path, file: Arc::new(file), bytes: 0, live: 0 });
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
            if let Err(error) = fs::remove_file(&segment.path) {
                tracing::warn!(path = %segment.path.display(), %error, "cannot delete a block segment");
            }
            self.disk.give_back(segment.bytes);
        }
    }

    /// Reads all segments of earlier processes, oldest first. What is torn is left out; a segment
    /// without a whole block is deleted.
    pub(super) fn recover(self: &Arc<Self>) -> Result<Vec<Recovered>, StoreError> {
        let mut found = Vec::new();
        let mut state = lock(&self.state);
        for (number, path) in self.segment_files()? {
            if state.segments.contains_key(&number) {
                continue;
            }
            let file = Arc::new(File::open(&path).map_err(StoreError::io("open", &path))?);
            let bytes = file.metadata().map_err(StoreError::io("read", &path))?.len();
            let before = found.len();
            self.read_segment(number, &path, &file, bytes, &mut found)?;
            let live = (found.len() - before) as u64;
            self.disk.found(bytes);
            state.segments.insert(number, Segment { path, file, bytes, live });
            state.next_segment = state.next_segment.max(number + 1);
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

    fn read_segment(
        self: &Arc<Self>,
        segment: u64,
        path: &Path,
        file: &Arc<File>,
        size: u64,
        found: &mut Vec<Recovered>,
    ) -> Result<(), StoreError> {
        let read = StoreError::io("read", path);
        let mut at = 0;
        let outcome = loop {
            match read_frame(file, at, size) {
                Ok(Some((crc, body))) => {
                    let Some((id, records)) = decode_header(&body) else { break Ok(()) };
                    let (offset, len) = (at + FRAME as u64, body.len());
                    let (log, file, path) = (self.clone(), file.clone(), path.to_owned());
                    let record = LogRecord { log, segment, file, path, offset, len, crc };
                    let bytes = (len - HEADER) as u64;
                    found.push(Recovered { id, records, bytes, record: Arc::new(record) });
                    at = offset + len as u64;
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if at < size {
            tracing::warn!(path = %path.display(), at, torn_bytes = size - at, "ignored the torn end of a block segment");
        }
        outcome.map_err(read)
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

fn encode(id: &BlockId, records: u64, bytes: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME + HEADER + bytes.len());
    frame.extend_from_slice(&((HEADER + bytes.len()) as u32).to_le_bytes());
    frame.extend_from_slice(&[0; 4]);
    for number in [id.job.0, id.epoch, id.first_offset, records] {
        frame.extend_from_slice(&number.to_le_bytes());
    }
    frame.extend_from_slice(&id.source.0.to_le_bytes());
    frame.extend_from_slice(&id.receiver.to_le_bytes());
    frame.extend_from_slice(bytes);
    let crc = crc32fast::hash(&frame[FRAME..]);
    frame[4..FRAME].copy_from_slice(&crc.to_le_bytes());
    frame
}

fn crc_of(frame: &[u8]) -> u32 {
    u32_at(frame, 4).unwrap_or_default()
}

fn decode_header(body: &[u8]) -> Option<(BlockId, u64)> {
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

/// The record at `at` with its checksum; `None` at the end and where the rest is torn.
fn read_frame(file: &File, at: u64, size: u64) -> std::io::Result<Option<(u32, Vec<u8>)>> {
    if size - at < FRAME as u64 {
        return Ok(None);
    }
    let mut frame = [0; FRAME];
    file.read_exact_at(&mut frame, at)?;
    let len = u64::from(u32_at(&frame, 0).unwrap_or_default());
    let crc = crc_of(&frame);
    if len < HEADER as u64 || len > size - at - FRAME as u64 {
        return Ok(None);
    }
    let mut body = vec![0; len as usize];
    file.read_exact_at(&mut body, at + FRAME as u64)?;
    Ok((crc32fast::hash(&body) == crc).then_some((crc, body)))
}
