//! Reading a segment: what it says up to its end or to what does not read, and what stands behind that.

use super::{KIND, LogError, RECORD, SNAPSHOT, VERSION, version1};
use crate::record::{Durable, Record};
use serde::de::DeserializeOwned;
use std::fmt;
use std::path::{Path, PathBuf};
use tidemill_common::frame::{self, FILE_HEADER, FileHeader, Step};

/// An entry of the log.
#[derive(Debug)]
pub(super) enum Entry {
    Snapshot(Box<Durable>),
    Record(Box<Record>),
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
    Frames,
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
            FileHeader::Of(KIND, VERSION) => entries(Layout::Frames, FILE_HEADER, false),
            FileHeader::Of(KIND, found) => Err(LogError::OtherVersion { path: path.to_path_buf(), found }),
            FileHeader::Other if version1::begins(bytes) => entries(Layout::Version1, 0, false),
            FileHeader::Of(..) | FileHeader::Damaged | FileHeader::Other => entries(Layout::Frames, FILE_HEADER, true),
        }
    }

    /// The entry at the place where it is. Stays there until it is told to go on.
    pub(super) fn item(&self) -> Item {
        let step = match self.layout {
            Layout::Version1 => return version1::item(self.bytes, self.at),
            Layout::Frames => frame::step(self.bytes, self.at),
        };
        match step {
            Step::Whole { kind, body, end } => match decode(kind, body) {
                Ok(entry) => Item::Entry { entry, end },
                Err(what) => {
                    let next = (end < self.bytes.len()).then_some(end);
                    Item::Fault(Fault::Damaged { at: self.at, what, end: Some(end), next })
                }
            },
            Step::End => Item::End,
            Step::Torn => Item::Fault(Fault::Torn { at: self.at }),
            Step::Damaged { what, end, next } => {
                Item::Fault(Fault::Damaged { at: self.at, what: what.to_string(), end, next })
            }
        }
    }
}

fn decode(kind: u8, body: &[u8]) -> Result<Entry, String> {
    match kind {
        SNAPSHOT => whole(body).map(|durable| Entry::Snapshot(Box::new(durable))),
        RECORD => whole(body).map(|record| Entry::Record(Box::new(record))),
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
#[derive(Debug)]
pub(crate) struct Read {
    /// The snapshot and all records up to the end, or to what does not read; none without a snapshot.
    pub(crate) durable: Option<Durable>,
    /// What does not read.
    pub(crate) fault: Option<Fault>,
}

/// Folds a segment up to its end, or to the first thing that does not read.
pub(crate) fn read_segment(path: &Path, bytes: &[u8]) -> Result<Read, LogError> {
    let mut entries = Entries::of(path, bytes)?;
    if entries.headless {
        let what = "the header of the file does not match its checksum".to_string();
        return Ok(Read { durable: None, fault: Some(Fault::Damaged { at: 0, what, end: None, next: None }) });
    }
    let mut durable: Option<Durable> = None;
    loop {
        let at = entries.at;
        let fault = match entries.item() {
            Item::Entry { entry: Entry::Snapshot(snapshot), end } if durable.is_none() => {
                durable = Some(*snapshot);
                entries.at = end;
                continue;
            }
            Item::Entry { entry: Entry::Record(record), end } if durable.is_some() => {
                durable.iter_mut().for_each(|durable| durable.apply(&record));
                entries.at = end;
                continue;
            }
            Item::End if durable.is_some() => None,
            Item::Fault(fault) if durable.is_some() || matches!(fault, Fault::Damaged { .. }) => Some(fault),
            Item::Entry { end, .. } => {
                let what = if durable.is_some() { "a snapshot stands behind entries" } else { "there is no snapshot" };
                Some(Fault::Damaged { at, what: what.into(), end: Some(end), next: None })
            }
            // A segment gets its name only with its snapshot.
            Item::End | Item::Fault(_) => {
                let what = "its snapshot is cut off".to_string();
                Some(Fault::Damaged { at, what, end: None, next: None })
            }
        };
        return Ok(Read { durable, fault });
    }
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
    /// Goes on to the next place that may read; gives back where it was, and whether that was a whole entry.
    fn skip_one(&mut self) -> Option<(usize, bool)> {
        let at = self.at;
        let (next, whole) = match self.item() {
            Item::Entry { end, .. } => (end, true),
            Item::Fault(Fault::Damaged { next: Some(next), .. }) => (next, false),
            Item::End | Item::Fault(_) => return None,
        };
        self.at = next;
        Some((at, whole))
    }
}
