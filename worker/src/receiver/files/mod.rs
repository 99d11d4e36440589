//! Files that appear in a directory, on a file system or in an object store, each read once.
//!
//! What makes it once is a log behind [`FileLog`]: a file is remembered there, with the offset of its first record,
//! before it is read. A receiver that starts again first reads on in the files whose records did not all come
//! in, in the order of that log, then takes what is new. Names are compared, not times, so a file that
//! becomes visible late is not lost.

mod list;
mod read;

pub use list::{Directory, FileEntry};
pub(crate) use read::Content;

use super::generate::take_in;
use super::intake::Intake;
use super::{HoldError, ReceiverError, ReceiverState};
use bytes::Bytes;
use futures::future::BoxFuture;
use list::Listed;
use read::Piece;
use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Files that may be known at once; each costs memory here and in the driver.
pub(crate) const MAX_FILES: usize = 100_000;
/// Pieces of a file that are read ahead.
const PIECES_AHEAD: usize = 2;
/// Bytes taken in at once while records are left out, which no rate bounds: what is behind them should not be much.
const SKIPPED_AT_ONCE: usize = 4 << 10;

/// A watched directory, and what is known of it.
pub struct WatchedFiles {
    /// The directory.
    pub directory: Directory,
    /// Which names count: `*` is any text, `?` any character.
    pub pattern: String,
    /// Whether files that are there when it is first looked at are left out.
    pub new_files_only: bool,
    /// How often it is looked at.
    pub poll_interval: Duration,
    /// Files that may be known at once.
    pub(crate) max_files: usize,
    /// What is in the files.
    pub(crate) content: Content,
    /// Whether the directory was looked at before.
    pub started: bool,
    /// Size and time of the files that are not to be chosen again, by name.
    pub known: HashMap<String, (u64, i64)>,
    /// Files whose records did not all come in, in order, with the offset of the first record of each.
    pub open: VecDeque<(FileEntry, u64)>,
    /// Remembers choices.
    pub log: Arc<dyn FileLog>,
}

impl std::fmt::Debug for WatchedFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchedFiles").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// What is to be remembered before reading goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileChoice {
    /// The file that is read next, with the offset of its first record.
    pub file: Option<(FileEntry, u64)>,
    /// Files that are never to be read.
    pub skipped: Vec<FileEntry>,
    /// Names that are in the directory no more.
    pub gone: Vec<String>,
}

/// Remembers choices for ever.
pub trait FileLog: Send + Sync + 'static {
    /// Resolves when the choice is safe. Choosing a file again changes the offset it was chosen with.
    fn remember(&self, choice: FileChoice) -> BoxFuture<'static, Result<(), HoldError>>;
}

/// Reads files until stopped.
pub(super) async fn run(intake: &mut Intake, watched: WatchedFiles) -> Result<(), ReceiverError> {
    let mut watch =
        Watch { files: watched, pending: VecDeque::new(), unknown: HashSet::new(), crowded: false, resuming: true };
    // All records of a file are in if the next one begins before what is wanted now.
    while watch.files.open.get(1).is_some_and(|(_, first_offset)| *first_offset <= intake.position()) {
        watch.files.open.pop_front();
    }
    intake.status.set(ReceiverState::Connected);
    while let Some((file, skip)) = watch.next(intake).await? {
        if !watch.read(intake, &file, skip).await? {
            break;
        }
    }
    Ok(())
}

struct Watch {
    files: WatchedFiles,
    /// Found and not chosen yet.
    pending: VecDeque<FileEntry>,
    /// Names of which nothing could be said when they were last looked at.
    unknown: HashSet<String>,
    /// There were more files than may be known.
    crowded: bool,
    /// The first open file has not been gone on with.
    resuming: bool,
}

impl Watch {
    /// The file to read, and how many of its records are in already; none when stopped.
    async fn next(&mut self, intake: &mut Intake) -> Result<Option<(FileEntry, u64)>, ReceiverError> {
        let resuming = std::mem::take(&mut self.resuming);
        if let Some((file, first_offset)) = self.files.open.pop_front() {
            if resuming {
                return Ok(Some((file, intake.position().saturating_sub(first_offset))));
            }
            // The files before it may have become shorter by what could not be read again.
            return Ok(self.choose(intake, file, Vec::new()).await?.map(|file| (file, 0)));
        }
        let mut gone = Vec::new();
        loop {
            while let Some(file) = self.pending.pop_front() {
                let directory = self.files.directory.clone();
                let now = waiting(intake, tokio::task::spawn_blocking(move || directory.entry(file.name))).await?;
                let Some(now) = now else { return Ok(None) };
                // One that has gone away meanwhile is not there to be read.
                if let Ok(Ok(Some(now))) = now {
                    return Ok(self.choose(intake, now, gone).await?.map(|file| (file, 0)));
                }
            }
            let (directory, pattern) = (self.files.directory.clone(), self.files.pattern.clone());
            let listed = waiting(intake, tokio::task::spawn_blocking(move || directory.list(&pattern))).await?;
            let Some(listed) = listed else { return Ok(None) };
            match listed.unwrap_or_else(|error| Err(error.to_string())) {
                Ok(found) => {
                    gone.extend(self.look_at(intake, found));
                    if self.files.new_files_only && !self.files.started {
                        self.skip_pending(intake).await?;
                    }
                    self.files.started = true;
                    intake.status.set(ReceiverState::Connected);
                }
                Err(error) => {
                    let state = ReceiverState::BackingOff { error, wait: self.files.poll_interval };
                    if intake.status.snapshot().state != state {
                        tracing::warn!(?state, "a directory cannot be looked at now; it is tried again");
                    }
                    intake.status.set(state);
                }
            }
            if self.pending.is_empty() && waiting(intake, tokio::time::sleep(self.files.poll_interval)).await?.is_none()
            {
                return Ok(None);
            }
        }
    }

    /// Notes which files are new, and says which known ones are there no more.
    fn look_at(&mut self, intake: &Intake, found: Listed) -> Vec<String> {
        self.tell_unknown(intake, found.unknown);
        let names: HashSet<&str> = found.files.iter().map(|file| file.name.as_str()).collect();
        let gone: Vec<String> =
            self.files.known.keys().filter(|name| !names.contains(name.as_str())).cloned().collect();
        self.files.known.retain(|name, _| names.contains(name.as_str()));
        let mut left_out = 0;
        for file in found.files {
            let stamp = (file.size, file.modified_ns);
            let room = self.files.known.len() + self.pending.len() < self.files.max_files;
            match self.files.known.get_mut(&file.name) {
                None if room => self.pending.push_back(file),
                None => left_out += 1,
                Some(known) if *known != stamp => {
                    *known = stamp;
                    bad_file(intake, &file.name, "it has changed after it was read; it is not read again");
                }
                Some(_) => {}
            }
        }
        self.tell_left_out(intake, left_out);
        gone
    }

    /// Counts each name once, for as long as nothing can be said of it.
    fn tell_unknown(&mut self, intake: &Intake, unknown: Vec<(String, String)>) {
        for (name, reason) in unknown.iter().filter(|(name, _)| !self.unknown.contains(name)) {
            bad_file(intake, name, reason);
        }
        self.unknown = unknown.into_iter().map(|(name, _)| name).collect();
    }

    fn tell_left_out(&mut self, intake: &Intake, left_out: usize) {
        if left_out > 0 {
            let most = self.files.max_files;
            let message = format!(
                "{left_out} files are not read: a source knows at most {most} files of its directory; remove some that were read"
            );
            if !self.crowded {
                tracing::warn!(directory = %self.files.directory, message);
            }
            intake.status.report(message);
        } else if self.crowded {
            intake.status.report(String::new());
        }
        self.crowded = left_out > 0;
    }

    async fn skip_pending(&mut self, intake: &mut Intake) -> Result<(), ReceiverError> {
        let skipped: Vec<FileEntry> = self.pending.drain(..).collect();
        self.files.known.extend(skipped.iter().map(|file| (file.name.clone(), (file.size, file.modified_ns))));
        let remembered = self.files.log.remember(FileChoice { skipped, ..FileChoice::default() });
        if let Some(remembered) = waiting(intake, remembered).await? {
            remembered?;
        }
        Ok(())
    }

    /// Has a file remembered; none when stopped.
    async fn choose(
        &mut self,
        intake: &mut Intake,
        file: FileEntry,
        gone: Vec<String>,
    ) -> Result<Option<FileEntry>, ReceiverError> {
        self.files.known.insert(file.name.clone(), (file.size, file.modified_ns));
        let choice = FileChoice { file: Some((file.clone(), intake.position())), skipped: Vec::new(), gone };
        let remembered = self.files.log.remember(choice);
        match waiting(intake, remembered).await? {
            Some(remembered) => remembered?,
            None => return Ok(None),
        }
        Ok(Some(file))
    }

    /// Takes the records of a file in but for the first `skip`; false when stopped.
    async fn read(&self, intake: &mut Intake, file: &FileEntry, skip: u64) -> Result<bool, ReceiverError> {
        let (sender, mut pieces) = mpsc::channel(PIECES_AHEAD);
        let (directory, content, expected) = (self.files.directory.clone(), self.files.content.clone(), file.clone());
        tokio::task::spawn_blocking(move || read::pieces(&directory, &expected, &content, &sender));
        intake.lines.begin(skip + self.files.content.header_lines());
        loop {
            match waiting(intake, pieces.recv()).await? {
                None => return Ok(false),
                Some(Some(Piece::End)) => break,
                Some(Some(Piece::Bytes(chunk))) => {
                    intake.status.set(ReceiverState::Connected);
                    if !take_in_at_rate(intake, chunk).await? {
                        return Ok(false);
                    }
                }
                Some(Some(Piece::Away { reason, wait })) => {
                    intake.status.set(ReceiverState::BackingOff { error: reason, wait });
                }
                Some(bad) => {
                    let reason = match bad {
                        Some(Piece::Bad(reason)) => reason,
                        _ => "its reader broke off".to_owned(),
                    };
                    intake.lines.discard_partial();
                    bad_file(intake, &file.name, &format!("it could not be read, or not to its end: {reason}"));
                    break;
                }
            }
        }
        intake.lines.end_record();
        Ok(true)
    }
}

/// Counts a file, and says why.
fn bad_file(intake: &Intake, name: &str, reason: &str) {
    tracing::warn!(file = name, reason, "a bad file");
    intake.status.bad_file(format!("file `{name}`: {reason}"));
}

/// Takes in as much of a chunk at a time as the rate allows, but for what is left out; false when stopped.
async fn take_in_at_rate(intake: &mut Intake, mut chunk: Bytes) -> Result<bool, ReceiverError> {
    while !chunk.is_empty() {
        if intake.lines.is_skipping() {
            let few = chunk.len().min(SKIPPED_AT_ONCE);
            take_in(intake, &chunk.split_to(few)).await?;
            continue;
        }
        let allowed = intake.allowed().min(chunk.len());
        if allowed == 0 {
            let wait = intake.limiter.wait();
            if waiting(intake, wait).await?.is_none() {
                return Ok(false);
            }
        } else {
            take_in(intake, &chunk.split_to(allowed)).await?;
            intake.limiter.read(allowed);
        }
    }
    Ok(true)
}

/// Runs something else while blocks are sealed in time and held; none if stopped before it was done.
async fn waiting<F: Future>(intake: &mut Intake, other: F) -> Result<Option<F::Output>, ReceiverError> {
    let mut other = std::pin::pin!(other);
    loop {
        let sealable = intake.is_sealable();
        tokio::select! {
            biased;
            () = intake.stop.cancelled() => return Ok(None),
            held = intake.window.more_held() => { held?; }
            _ = intake.tick.tick(), if sealable => intake.seal(),
            output = &mut other => return Ok(Some(output)),
        }
    }
}

#[cfg(test)]
mod tests;
