//! Reading a segment: what it says up to its end or to what does not read, and what stands behind that.

use super::chain::Head;
use super::version3::{Durable3, Record3};
use super::{CLOSED, END_MARK, HEAD, KIND, LogError, RECORD, SNAPSHOT, VERSION, version1};
use crate::record::{Durable, Record};
use serde::de::DeserializeOwned;
use std::fmt;
use std::path::{Path, PathBuf};
use tidemill_common::frame::{self, FILE_HEADER, FRAME_HEADER, FileHeader, Step};

/// An entry of the log.
#[derive(Debug)]
pub(super) enum Entry {
    Head(Head),
    Snapshot(Box<Durable>),
    Record(Box<Record>),
    /// The log goes on in the segment of this number.
    Closed(u64),
}

/// What stands at some place of a segment.
#[derive(Debug)]
pub(super) enum Item {
    Entry { entry: Entry, end: usize },
    End,
    Fault(Fault),
}

/// What does not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A crash kept the last entry from being written.
    Torn { at: usize },
    /// Everything else. `end` is where it surely ends, `next` where the next whole entry begins.
    Damaged { at: usize, what: String, end: Option<usize>, next: Option<usize> },
}

/// How the entries of a file are laid out.
#[derive(Debug, Clone, Copy)]
enum Layout {
    Version1,
    /// Frames without a head before them and a mark behind each.
    Version2,
    Version3,
    Current,
}

/// The entries of a segment, one after the other.
#[derive(Debug)]
pub(super) struct Entries<'a> {
    layout: Layout,
    bytes: &'a [u8],
    pub(super) at: usize,
    /// The file's header is damaged; what follows tells by itself what it is.
    pub(super) headless: bool,
}

impl<'a> Entries<'a> {
    pub(super) fn of(path: &Path, bytes: &'a [u8]) -> Result<Self, LogError> {
        let entries = |layout, at, headless| Ok(Self { layout, bytes, at, headless });
        match frame::read_file_header(bytes) {
            FileHeader::Of(KIND, VERSION) => entries(Layout::Current, FILE_HEADER, false),
            FileHeader::Of(KIND, 3) => entries(Layout::Version3, FILE_HEADER, false),
            FileHeader::Of(KIND, 2) => entries(Layout::Version2, FILE_HEADER, false),
            FileHeader::Of(KIND, found) => Err(LogError::OtherVersion { path: path.to_path_buf(), found }),
            FileHeader::Other if version1::begins(bytes) => entries(Layout::Version1, 0, false),
            FileHeader::Of(..) | FileHeader::Damaged | FileHeader::Other => {
                let version2 = matches!(frame::step(bytes, FILE_HEADER), Step::Whole { kind: SNAPSHOT, .. });
                let marked = || {
                    let whole = |layout| Self { layout, bytes, at: FILE_HEADER, headless: true }.count_whole();
                    let version3 = whole(Layout::Version3) > whole(Layout::Current);
                    if version3 { Layout::Version3 } else { Layout::Current }
                };
                entries(if version2 { Layout::Version2 } else { marked() }, FILE_HEADER, true)
            }
        }
    }

    /// Whether a snapshot stands at this byte.
    pub(super) fn is_snapshot(&self, at: usize) -> bool {
        let there = Self { at, bytes: self.bytes, ..*self };
        matches!(there.item(), Item::Entry { entry: Entry::Snapshot(_), .. })
    }

    fn has_head(&self) -> bool {
        matches!(self.layout, Layout::Version3 | Layout::Current)
    }

    /// The entry at the place where it is. Stays there until it is told to go on.
    pub(super) fn item(&self) -> Item {
        if let Layout::Version1 = self.layout {
            return version1::item(self.bytes, self.at);
        }
        let (marked, old) = (self.has_head(), !matches!(self.layout, Layout::Current));
        match frame::step(self.bytes, self.at) {
            Step::Whole { kind, body, end } => match unmarked(body, marked).and_then(|body| decode(kind, body, old)) {
                Ok(entry) => Item::Entry { entry, end },
                Err(what) => {
                    let next = (end < self.bytes.len()).then_some(end);
                    Item::Fault(Fault::Damaged { at: self.at, what, end: Some(end), next })
                }
            },
            Step::End => Item::End,
            Step::Torn => Item::Fault(Fault::Torn { at: self.at }),
            // No entry ends with a zero: what does was not written to its end.
            Step::Damaged { end, next: None, .. }
                if marked && frame::ends_in_zeros(self.bytes, end.unwrap_or(self.at + FRAME_HEADER)) =>
            {
                Item::Fault(Fault::Torn { at: self.at })
            }
            Step::Damaged { what, end, next } => {
                Item::Fault(Fault::Damaged { at: self.at, what: what.to_string(), end, next })
            }
        }
    }
}

fn unmarked(body: &[u8], marked: bool) -> Result<&[u8], String> {
    match body {
        [body @ .., END_MARK] if marked => Ok(body),
        _ if marked => Err("an entry with the right checksum has no end".to_string()),
        body => Ok(body),
    }
}

/// With `old`, as versions 2 and 3 wrote it.
fn decode(kind: u8, body: &[u8], old: bool) -> Result<Entry, String> {
    let snapshot = |durable: Durable| Entry::Snapshot(Box::new(durable));
    let record = |record: Record| Entry::Record(Box::new(record));
    match kind {
        HEAD => whole(body).map(Entry::Head),
        CLOSED => whole(body).map(Entry::Closed),
        SNAPSHOT if old => whole::<Durable3>(body).map(Durable::from).map(snapshot),
        SNAPSHOT => whole(body).map(snapshot),
        RECORD if old => whole::<Record3>(body).map(Record::from).map(record),
        RECORD => whole(body).map(record),
        other => Err(format!("an entry is of kind {other}, which this version of tidemill does not know")),
    }
}

/// All of these bytes as postcard.
pub(super) fn whole<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let why = match postcard::take_from_bytes(body) {
        Ok((decoded, [])) => return Ok(decoded),
        Ok((_, rest)) => format!("{} bytes are left over", rest.len()),
        Err(error) => error.to_string(),
    };
    Err(format!("an entry with the right checksum cannot be decoded ({why}): another version of tidemill wrote it"))
}

/// What a segment says.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(super) head: Option<Head>,
    /// The snapshot and all records up to the end, or to what does not read; none without a snapshot.
    pub(crate) durable: Option<Durable>,
    /// The segment that it says it goes on in.
    pub(super) closed: Option<u64>,
    /// What does not read.
    pub(crate) fault: Option<Fault>,
}

/// Folds a segment up to its end, or to the first thing that does not read.
pub(crate) fn read_segment(path: &Path, bytes: &[u8]) -> Result<Read, LogError> {
    let mut entries = Entries::of(path, bytes)?;
    let mut read = Read::default();
    let damaged = |at, what: &str, end| Some(Fault::Damaged { at, what: what.to_string(), end, next: None });
    if entries.headless {
        read.fault = damaged(0, "the header of the file does not match its checksum", None);
        return Ok(read);
    }
    loop {
        let at = entries.at;
        match entries.item() {
            Item::Entry { entry, end } => {
                if let Err(what) = read.take(entry, entries.has_head()) {
                    read.fault = damaged(at, what, Some(end));
                    return Ok(read);
                }
                entries.at = end;
            }
            // A segment gets its name only with its snapshot.
            Item::End | Item::Fault(Fault::Torn { .. }) if read.durable.is_none() => {
                read.fault = damaged(at, "its snapshot is cut off", None);
                return Ok(read);
            }
            Item::End => return Ok(read),
            Item::Fault(fault) => {
                read.fault = Some(fault);
                return Ok(read);
            }
        }
    }
}

impl Read {
    fn take(&mut self, entry: Entry, has_head: bool) -> Result<(), &'static str> {
        match (entry, &mut self.durable) {
            _ if self.closed.is_some() => return Err("entries stand behind the end of the segment"),
            (Entry::Head(head), None) if self.head.is_none() => self.head = Some(head),
            (Entry::Head(_), _) => return Err("a second head stands behind entries"),
            (Entry::Snapshot(snapshot), None) if self.head.is_some() == has_head => self.durable = Some(*snapshot),
            (Entry::Snapshot(_), None) => return Err("there is no head"),
            (Entry::Snapshot(_), Some(_)) => return Err("a snapshot stands behind entries"),
            (Entry::Record(record), Some(durable)) => durable.apply(&record),
            (Entry::Closed(next), Some(_)) => self.closed = Some(next),
            (Entry::Record(_) | Entry::Closed(_), None) => return Err("there is no snapshot"),
        }
        Ok(())
    }
}

/// The snapshot of a segment of a version without heads.
pub(super) fn first_snapshot(path: &Path, bytes: &[u8]) -> Result<Option<Durable>, LogError> {
    Ok(match Entries::of(path, bytes)?.item() {
        Item::Entry { entry: Entry::Snapshot(snapshot), .. } => Some(*snapshot),
        _ => None,
    })
}

/// What is wrong with a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub path: PathBuf,
    /// The first byte of what does not read.
    pub offset: u64,
    /// What is wrong with it.
    pub what: String,
    /// Whole entries before it, the snapshot included.
    pub before: u64,
    /// Whole entries after it.
    pub after: u64,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, offset, what, before, after } = self;
        let path = path.display();
        write!(
            f,
            "{path} is damaged at byte {offset}: {what}; {before} entries before it are whole, and {after} after it"
        )
    }
}

impl Damage {
    pub(crate) fn of(path: &Path, bytes: &[u8], fault: Option<Fault>) -> Self {
        let (offset, what) = match fault {
            Some(Fault::Damaged { at, what, .. }) => (at, what),
            Some(Fault::Torn { at }) => (at, "an entry is cut off".into()),
            None => (0, "there is no snapshot".into()),
        };
        let (mut before, mut after) = (0, 0);
        // A file that was read before has a header that reads.
        if let Ok(mut entries) = Entries::of(path, bytes) {
            while let Some((at, whole)) = entries.skip_one() {
                let count = if at < offset { &mut before } else { &mut after };
                *count += u64::from(whole);
            }
        }
        Self { path: path.to_path_buf(), offset: offset as u64, what, before, after }
    }
}

impl Entries<'_> {
    fn count_whole(mut self) -> u64 {
        std::iter::from_fn(|| self.skip_one()).map(|(_, whole)| u64::from(whole)).sum()
    }

    /// Goes on to the next place that may read; gives back where it was, and whether that was a whole entry.
    fn skip_one(&mut self) -> Option<(usize, bool)> {
        let at = self.at;
        let (next, whole) = match self.item() {
            Item::Entry { entry, end } => (end, matches!(entry, Entry::Snapshot(_) | Entry::Record(_))),
            Item::Fault(Fault::Damaged { next: Some(next), .. }) => (next, false),
            Item::End | Item::Fault(_) => return None,
        };
        self.at = next;
        Some((at, whole))
    }
}
