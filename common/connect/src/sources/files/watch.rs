//! Watching: which file is read next, and up to where each was read.

use super::list::{Directory, FileEntry, Listed};
use super::progress::{LOOKED_AT, Progress, Stamp};
use super::read::{Content, Piece, pieces as read_pieces};
use crate::intake::Intake;
use crate::receiver::ReceiverError;
use crate::status::ReceiverState;
use std::collections::{HashSet, VecDeque};
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

/// Reads files until stopped.
pub(super) async fn run(intake: &mut Intake, files: Watched) -> Result<(), ReceiverError> {
    let Some(resumed) = resumed(intake).await? else { return Ok(()) };
    let mut watch = Watch { files, pending: VecDeque::new(), unknown: HashSet::new(), crowded: false, resumed };
    intake.status.set(ReceiverState::Connected);
    while let Some((file, skip)) = watch.next(intake).await? {
        if !watch.read(intake, &file, skip).await? || !read(intake, &file).await? {
            break;
        }
    }
    Ok(())
}

/// A file is read; false when stopped before that is noted.
async fn read(intake: &mut Intake, file: &FileEntry) -> Result<bool, ReceiverError> {
    Ok(intake.moved(&file.name, Progress::Read(Stamp::from(file)).to_bytes()).await?.is_some())
}

/// The file that is to be read on in, and how many of its records are in already; none when stopped.
///
/// A log of version 3 or before says of several files that they are open: of those the last one that begins before what is
/// wanted now is read, and no record of those behind it is in. Of two that begin there, one is empty.
async fn resumed(intake: &mut Intake) -> Result<Option<VecDeque<(FileEntry, u64)>>, ReceiverError> {
    let wanted = intake.offset();
    let mut open = Vec::new();
    for (name, position) in intake.positions().iter().filter(|(name, _)| *name != LOOKED_AT) {
        if let Progress::Open { stamp, first_offset } = progress(position)? {
            open.push((
                FileEntry { name: name.into(), size: stamp.size, modified_ns: stamp.modified_ns },
                first_offset,
            ));
        }
    }
    let first = open.iter().map(|(_, first)| *first).filter(|first| *first <= wanted).max();
    let mut resumed = VecDeque::new();
    for (file, first_offset) in open {
        let goes_on = match first_offset {
            at if Some(at) == first => {
                resumed.push_back((file, wanted - first_offset));
                true
            }
            at if at <= wanted => read(intake, &file).await?,
            _ => intake.forget(&file.name).await?.is_some(),
        };
        if !goes_on {
            return Ok(None);
        }
    }
    Ok(Some(resumed))
}

fn progress(position: &[u8]) -> Result<Progress, ReceiverError> {
    Progress::from_bytes(position).ok_or(ReceiverError::Internal("the log has a position of a file that does not read"))
}

struct Watch {
    files: Watched,
    /// Found and not begun yet.
    pending: VecDeque<FileEntry>,
    /// Names of which nothing could be said when they were last looked at.
    unknown: HashSet<String>,
    /// There were more files than may be known.
    crowded: bool,
    /// Files to read on in, and how many of the records of each are in.
    resumed: VecDeque<(FileEntry, u64)>,
}

impl Watch {
    /// The file to read, and how many of its records are in already; none when stopped.
    async fn next(&mut self, intake: &mut Intake) -> Result<Option<(FileEntry, u64)>, ReceiverError> {
        if let Some(resumed) = self.resumed.pop_front() {
            return Ok(Some(resumed));
        }
        loop {
            while let Some(file) = self.pending.pop_front() {
                let directory = self.files.directory.clone();
                let now = intake.wait_for(tokio::task::spawn_blocking(move || directory.entry(file.name))).await?;
                let Some(now) = now else { return Ok(None) };
                // One that has gone away meanwhile is not there to be read.
                if let Ok(Ok(Some(now))) = now {
                    return self.begin(intake, now).await;
                }
            }
            if !self.look(intake).await? {
                return Ok(None);
            }
            if self.pending.is_empty() && !self.pause(intake).await? {
                return Ok(None);
            }
        }
    }

    async fn begin(&self, intake: &mut Intake, file: FileEntry) -> Result<Option<(FileEntry, u64)>, ReceiverError> {
        let open = Progress::Open { stamp: Stamp::from(&file), first_offset: intake.offset() };
        let noted = intake.moved(&file.name, open.to_bytes()).await?;
        Ok(noted.map(|()| (file, 0)))
    }

    /// Looks at the directory; false when stopped.
    async fn look(&mut self, intake: &mut Intake) -> Result<bool, ReceiverError> {
        let (directory, pattern) = (self.files.directory.clone(), self.files.pattern.clone());
        let listed = intake.wait_for(tokio::task::spawn_blocking(move || directory.list(&pattern))).await?;
        let Some(listed) = listed else { return Ok(false) };
        match listed.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(found) => {
                if !self.look_at(intake, found).await? {
                    return Ok(false);
                }
                if self.files.new_files_only
                    && intake.positions().get(LOOKED_AT).is_none()
                    && !self.skip_pending(intake).await?
                {
                    return Ok(false);
                }
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
        Ok(true)
    }

    /// Waits until it is time to look again; false when stopped.
    async fn pause(&self, intake: &mut Intake) -> Result<bool, ReceiverError> {
        // No record may follow for long.
        if intake.settle().await?.is_none() {
            return Ok(false);
        }
        Ok(intake.wait_for(tokio::time::sleep(self.files.poll_interval)).await?.is_some())
    }

    /// Notes which files are new, and forgets those that are there no more; false when stopped.
    async fn look_at(&mut self, intake: &mut Intake, found: Listed) -> Result<bool, ReceiverError> {
        // Of those, too, nobody can say that they have gone.
        let unknown = found.unknown.iter().map(|(name, _)| name.as_str());
        let names: HashSet<&str> = found.files.iter().map(|file| file.name.as_str()).chain(unknown).collect();
        let is_gone = |name: &&str| *name != LOOKED_AT && !names.contains(name);
        let known = intake.positions().iter().map(|(name, _)| name);
        let gone: Vec<String> = known.filter(is_gone).map(str::to_owned).collect();
        for name in gone {
            if intake.forget(&name).await?.is_none() {
                return Ok(false);
            }
        }
        self.tell_unknown(intake, found.unknown);
        let mut left_out = 0;
        for file in found.files {
            let stamp = Stamp::from(&file);
            let room = intake.positions().len() + self.pending.len() < self.files.max_files;
            match intake.positions().get(&file.name).map(progress).transpose()? {
                None if room => self.pending.push_back(file),
                None => left_out += 1,
                Some(known) if known.stamp() != stamp => {
                    bad_file(intake, &file.name, "it has changed after it was read; it is not read again");
                    if !read(intake, &file).await? {
                        return Ok(false);
                    }
                }
                Some(_) => {}
            }
        }
        self.tell_left_out(intake, left_out);
        Ok(true)
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

    /// What is there at first is not to be read; false when stopped.
    async fn skip_pending(&mut self, intake: &mut Intake) -> Result<bool, ReceiverError> {
        while let Some(file) = self.pending.pop_front() {
            if !read(intake, &file).await? {
                return Ok(false);
            }
        }
        Ok(intake.moved(LOOKED_AT, Vec::new()).await?.is_some() && intake.settle().await?.is_some())
    }

    /// Takes the records of a file in but for the first `skip`; false when stopped.
    async fn read(&self, intake: &mut Intake, file: &FileEntry, skip: u64) -> Result<bool, ReceiverError> {
        let (sender, mut pieces) = mpsc::channel(PIECES_AHEAD);
        let (directory, content, expected) = (self.files.directory.clone(), self.files.content.clone(), file.clone());
        tokio::task::spawn_blocking(move || read_pieces(&directory, &expected, &content, &sender));
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
