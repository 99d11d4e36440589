//! Files that appear in a directory, on a file system or in an object store, each read once.
//!
//! What makes it once is a log behind [`FileLog`]: a file is remembered there, with the offset of its first record,
//! before it is read. A receiver that starts again first reads on in the files whose records did not all come
//! in, in the order of that log, then takes what is new. Names are compared, not times, so a file that
//! becomes visible late is not lost.

use super::list::{Directory, FileEntry, Listed};
use super::read::{self, Content, Piece};
use crate::intake::Intake;
use crate::receiver::{HoldError, ReceiverError};
use crate::status::ReceiverState;
use futures::future::BoxFuture;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Pieces of a file that are read ahead.
const PIECES_AHEAD: usize = 2;

/// A watched directory.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    pub(super) directory: Directory,
    /// Which names count: `*` is any text, `?` any character.
    pub(super) pattern: String,
    /// Whether files that are there when it is first looked at are left out.
    pub(super) new_files_only: bool,
    /// How often it is looked at.
    pub(super) poll_interval: Duration,
    /// Files that may be known at once.
    pub(super) max_files: usize,
    pub(super) content: Content,
}

/// What the driver's log says of the files of a receiver, and what adds to it.
#[derive(Clone)]
pub struct FilesLog {
    /// Whether the directory was looked at before.
    pub started: bool,
    /// Size and time of the files that are not to be chosen again, by name.
    pub known: HashMap<String, (u64, i64)>,
    /// Files whose records did not all come in, in order, with the offset of the first record of each.
    pub open: VecDeque<(FileEntry, u64)>,
    /// Remembers choices.
    pub log: Arc<dyn FileLog>,
}

impl fmt::Debug for FilesLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilesLog").field("known", &self.known.len()).field("open", &self.open).finish_non_exhaustive()
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
pub(super) async fn run(intake: &mut Intake, files: Watched, log: FilesLog) -> Result<(), ReceiverError> {
    let mut watch =
        Watch { files, log, pending: VecDeque::new(), unknown: HashSet::new(), crowded: false, resuming: true };
    // All records of a file are in if the next one begins before what is wanted now.
    while watch.log.open.get(1).is_some_and(|(_, first_offset)| *first_offset <= intake.position()) {
        watch.log.open.pop_front();
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
    files: Watched,
    log: FilesLog,
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
        if let Some((file, first_offset)) = self.log.open.pop_front() {
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
                let now = intake.wait_for(tokio::task::spawn_blocking(move || directory.entry(file.name))).await?;
                let Some(now) = now else { return Ok(None) };
                // One that has gone away meanwhile is not there to be read.
                if let Ok(Ok(Some(now))) = now {
                    return Ok(self.choose(intake, now, gone).await?.map(|file| (file, 0)));
                }
            }
            let (directory, pattern) = (self.files.directory.clone(), self.files.pattern.clone());
            let listed = intake.wait_for(tokio::task::spawn_blocking(move || directory.list(&pattern))).await?;
            let Some(listed) = listed else { return Ok(None) };
            match listed.unwrap_or_else(|error| Err(error.to_string())) {
                Ok(found) => {
                    gone.extend(self.look_at(intake, found));
                    if self.files.new_files_only && !self.log.started {
                        self.skip_pending(intake).await?;
                    }
                    self.log.started = true;
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
            if self.pending.is_empty() && intake.wait_for(tokio::time::sleep(self.files.poll_interval)).await?.is_none()
            {
                return Ok(None);
            }
        }
    }

    /// Notes which files are new, and says which known ones are there no more.
    fn look_at(&mut self, intake: &Intake, found: Listed) -> Vec<String> {
        self.tell_unknown(intake, found.unknown);
        let names: HashSet<&str> = found.files.iter().map(|file| file.name.as_str()).collect();
        let gone: Vec<String> = self.log.known.keys().filter(|name| !names.contains(name.as_str())).cloned().collect();
        self.log.known.retain(|name, _| names.contains(name.as_str()));
        let mut left_out = 0;
        for file in found.files {
            let stamp = (file.size, file.modified_ns);
            let room = self.log.known.len() + self.pending.len() < self.files.max_files;
            match self.log.known.get_mut(&file.name) {
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
        self.log.known.extend(skipped.iter().map(|file| (file.name.clone(), (file.size, file.modified_ns))));
        let remembered = self.log.log.remember(FileChoice { skipped, ..FileChoice::default() });
        if let Some(remembered) = intake.wait_for(remembered).await? {
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
        self.log.known.insert(file.name.clone(), (file.size, file.modified_ns));
        let choice = FileChoice { file: Some((file.clone(), intake.position())), skipped: Vec::new(), gone };
        let remembered = self.log.log.remember(choice);
        match intake.wait_for(remembered).await? {
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
        intake.begin(skip + self.files.content.header_lines());
        loop {
            match intake.wait_for(pieces.recv()).await? {
                None => return Ok(false),
                Some(Some(Piece::End)) => break,
                Some(Some(Piece::Bytes(chunk))) => {
                    intake.status.set(ReceiverState::Connected);
                    if intake.bytes(chunk).await?.is_none() {
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
                    intake.break_off();
                    bad_file(intake, &file.name, &format!("it could not be read, or not to its end: {reason}"));
                    break;
                }
            }
        }
        intake.end();
        Ok(true)
    }
}

/// Counts a file, and says why.
fn bad_file(intake: &Intake, name: &str, reason: &str) {
    tracing::warn!(file = name, reason, "a bad file");
    intake.status.bad_file(format!("file `{name}`: {reason}"));
}
