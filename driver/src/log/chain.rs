//! The order of the segments. Each begins with its number and with what the one before it was, and one that is finished ends with
//! the number of the next. So a file that is copied, swapped, foreign or missing is seen before anything builds on it.

use super::segment::{Fault, first_snapshot, read_segment};
use super::{CLOSED, LogError, encode, segment_path};
use crate::record::Durable;
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

/// What stands at the beginning of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) cluster: String,
    pub(super) number: u64,
    /// The segment that this one goes on from; none in the first.
    pub(super) before: Option<Before>,
}

/// What a segment was when the next one was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Before {
    pub(super) number: u64,
    bytes: u64,
    crc: u32,
}

impl Before {
    pub(super) fn of(number: u64, bytes: &[u8]) -> Self {
        Self { number, bytes: bytes.len() as u64, crc: crc32fast::hash(bytes) }
    }

    /// Whether this is that segment. What was written after it is at most [`close`]'s entry.
    pub(super) fn is(&self, bytes: &[u8]) -> bool {
        let Some((then, since)) = usize::try_from(self.bytes).ok().and_then(|at| bytes.split_at_checked(at)) else {
            return false;
        };
        crc32fast::hash(then) == self.crc && is_closing(since)
    }
}

fn is_closing(since: &[u8]) -> bool {
    use tidemill_common::frame::{Step, step};
    match step(since, 0) {
        Step::End | Step::Torn => true,
        Step::Whole { kind, end, .. } => kind == CLOSED && end == since.len(),
        Step::Damaged { .. } => false,
    }
}

/// Ends a segment: it goes on in segment `next`, which is there.
pub(super) fn close(path: &Path, next: u64) -> Result<(), LogError> {
    let append = || {
        let mut bytes = Vec::new();
        encode(&mut bytes, CLOSED, &next)?;
        let mut file = OpenOptions::new().append(true).open(path)?;
        file.write_all(&bytes)?;
        file.sync_data()
    };
    append().map_err(LogError::io(path))
}

/// That a segment has the number of its name.
pub(super) fn has_its_name(path: &Path, number: u64, head: Option<&Head>) -> Result<(), LogError> {
    match head {
        Some(head) if head.number != number => {
            let what =
                format!("it is segment {} of the log of cluster `{}`, under another name", head.number, head.cluster);
            Err(LogError::Misplaced { path: path.to_path_buf(), what })
        }
        _ => Ok(()),
    }
}

/// The segments of which it is known that the newest one holds all that they do, of `numbers`, ascending.
///
/// # Errors
/// The segment right before the newest one is whole, and not what the newest one goes on from.
pub(super) fn earlier(dir: &Path, numbers: &[u64], head: Option<&Head>) -> Result<Vec<u64>, LogError> {
    let [rest @ .., newest] = numbers else { return Ok(Vec::new()) };
    let mut proven = Vec::new();
    if let Some(last) = rest.last() {
        match head {
            Some(head) => follow(dir, rest, head, &mut proven)?,
            None if is_behind(dir, *newest, *last)? => {
                let what =
                    format!("it knows less than {}, which was written before it", segment_path(dir, *last).display());
                return Err(LogError::Misplaced { path: segment_path(dir, *newest), what });
            }
            None => proven.extend(is_whole(dir, *last)?.then_some(*last)),
        }
    }
    for number in rest.iter().filter(|number| !proven.contains(number)) {
        let path = segment_path(dir, *number);
        tracing::warn!(path = %path.display(), "the log does not go on from this file; it is not used, and stays");
    }
    Ok(proven)
}

fn follow(dir: &Path, rest: &[u64], head: &Head, proven: &mut Vec<u64>) -> Result<(), LogError> {
    let mut before = head.before;
    while let Some(link) = before.filter(|link| rest.contains(&link.number)) {
        let path = segment_path(dir, link.number);
        let bytes = fs::read(&path).map_err(LogError::io(&path))?;
        if !link.is(&bytes) {
            break;
        }
        proven.push(link.number);
        before = read_segment(&path, &bytes).ok().and_then(|read| read.head?.before);
    }
    // What is older than the one that it was begun from says nothing of it: that one may have been set aside.
    let begun_from = head.before.map_or(0, |before| before.number);
    match rest.last().filter(|last| !proven.contains(last) && **last >= begun_from) {
        // One that does not read is of no use, and no reason to doubt the newest one.
        Some(last) if is_whole(dir, *last)? => {
            let last = segment_path(dir, *last);
            let what = format!("it was not begun from {} as that file is now", last.display());
            Err(LogError::Misplaced { path: segment_path(dir, head.number), what })
        }
        _ => Ok(()),
    }
}

fn is_whole(dir: &Path, number: u64) -> Result<bool, LogError> {
    let path = segment_path(dir, number);
    let bytes = fs::read(&path).map_err(LogError::io(&path))?;
    Ok(read_segment(&path, &bytes).is_ok_and(|read| read.fault.is_none()))
}

/// Whether the newest segment, of a version without heads, begins before the one before it ends.
fn is_behind(dir: &Path, newest: u64, last: u64) -> Result<bool, LogError> {
    let read = |number| {
        let path = segment_path(dir, number);
        fs::read(&path).map_err(LogError::io(&path)).map(|bytes| (path, bytes))
    };
    let (path, bytes) = read(last)?;
    let Ok(last) = read_segment(&path, &bytes) else { return Ok(false) };
    let (path, bytes) = read(newest)?;
    let (Some(before), Some(begun)) = (last.durable, first_snapshot(&path, &bytes)?) else { return Ok(false) };
    if last.head.is_some() {
        return Ok(true);
    }
    let usable = matches!(last.fault, None | Some(Fault::Torn { .. }));
    Ok(usable && knows_less(&begun, &before))
}

fn knows_less(newer: &Durable, older: &Durable) -> bool {
    newer.cluster_id != older.cluster_id && !older.cluster_id.is_empty()
        || (newer.term, newer.last_job) < (older.term, older.last_job)
        || newer.jobs.values().any(|job| {
            older.jobs.get(&job.id).is_some_and(|old| {
                (job.last_frozen, job.completed) < (old.last_frozen, old.completed)
                    || job.ending.is_none() && old.ending.is_some()
            })
        })
}
