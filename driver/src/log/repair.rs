//! Going on from a log that is damaged, when people ask for it: what reads is kept, what does not is named, and the file stays
//! under another name.

use super::segment::{Damage, Entries, Entry, Fault, Item, read_segment};
use super::{LogError, lock, remove, segment_numbers, segment_path, set_aside, write_segment};
use crate::record::{Durable, JobRecord, Record};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use tidemill_common::ids::{BatchId, JobId};

/// What a repair has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// What was wrong.
    pub damage: Damage,
    /// Where the damaged file is now.
    pub kept_as: PathBuf,
    /// The segment that stood in for the snapshot of the damaged one.
    pub from_earlier: Option<PathBuf>,
    /// Bytes, at the end of the file, that are not used any more.
    pub lost_bytes: u64,
    /// Entries in these bytes that can be read; they build on what cannot.
    pub lost_entries: u64,
    /// What is lost of each job, as far as it can be read.
    pub jobs: BTreeMap<JobId, LostJob>,
}

/// What is lost of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LostJob {
    /// Its name, if it is known.
    pub name: Option<String>,
    /// That it was submitted is lost: it is not known any more.
    pub unknown: bool,
    /// Entries.
    pub entries: u64,
    /// Records in blocks that were received.
    pub received_records: u64,
    /// The last batch that was complete.
    pub completed: Option<BatchId>,
}

/// Begins a new segment from what can be read of the newest one, if that is damaged; else there is nothing to do.
///
/// # Errors
/// See [`LogError`]. The damaged file is there afterwards in any case.
pub fn repair(dir: &Path) -> Result<Option<Repair>, LogError> {
    let _lock = lock(dir)?;
    let numbers = segment_numbers(dir)?;
    let Some(number) = numbers.last().copied().filter(|number| *number > 0) else { return Ok(None) };
    let path = segment_path(dir, number);
    let bytes = fs::read(&path).map_err(LogError::io(&path))?;
    let fault = match read_segment(&path, &bytes)?.fault {
        None | Some(Fault::Torn { .. }) => return Ok(None),
        fault => fault,
    };
    let damage = Damage::of(&path, &bytes, fault);
    // Only the one that was written right before it comes to the same.
    let earlier = numbers.contains(&(number - 1)).then(|| segment_path(dir, number - 1));
    let Salvage { mut durable, from_earlier, used } = salvage(&path, &bytes, earlier.as_deref(), &damage)?;
    let (lost_entries, jobs) = lost(&path, &bytes, used, &durable)?;
    durable.after_a_loss();
    let kept_as = set_aside(&path, "damaged")?;
    write_segment(dir, number + 1, &durable)?;
    remove(&path)?;
    let lost_bytes = (bytes.len() - used) as u64;
    Ok(Some(Repair { damage, kept_as, from_earlier, lost_bytes, lost_entries, jobs }))
}

/// What can be used.
struct Salvage {
    durable: Durable,
    from_earlier: Option<PathBuf>,
    /// Up to which byte.
    used: usize,
}

fn salvage(path: &Path, bytes: &[u8], earlier: Option<&Path>, damage: &Damage) -> Result<Salvage, LogError> {
    let mut entries = Entries::of(path, bytes)?;
    let (mut durable, mut from_earlier) = (None, None);
    loop {
        let next = match entries.item() {
            Item::Entry { entry: Entry::Snapshot(snapshot), end } if durable.is_none() => {
                durable = Some(*snapshot);
                Some(end)
            }
            Item::Entry { entry: Entry::Record(record), end } => durable.as_mut().map(|durable: &mut Durable| {
                durable.apply(&record);
                end
            }),
            // The snapshot is what the segment before this one comes to, and where it ends the first record begins.
            Item::Fault(Fault::Damaged { end: Some(end), .. }) if durable.is_none() => {
                durable = Some(fold_earlier(earlier, damage)?);
                from_earlier = earlier.map(Path::to_path_buf);
                Some(end)
            }
            Item::Entry { .. } | Item::End | Item::Fault(_) => None,
        };
        match next {
            Some(next) => entries.at = next,
            None => break,
        }
    }
    let used = entries.at;
    match durable {
        Some(durable) => Ok(Salvage { durable, from_earlier, used }),
        None => {
            let durable = fold_earlier(earlier, damage)?;
            Ok(Salvage { durable, from_earlier: earlier.map(Path::to_path_buf), used: 0 })
        }
    }
}

fn fold_earlier(earlier: Option<&Path>, damage: &Damage) -> Result<Durable, LogError> {
    let beyond = |earlier: String| LogError::BeyondRepair { damage: Box::new(damage.clone()), earlier };
    let path = earlier.ok_or_else(|| beyond("there is no segment before it".into()))?;
    let bytes = fs::read(path).map_err(LogError::io(path))?;
    let read = read_segment(path, &bytes)?;
    match (read.durable, read.fault) {
        (Some(durable), None) => Ok(durable),
        (_, fault) => Err(beyond(format!("the segment before it does not help: {}", Damage::of(path, &bytes, fault)))),
    }
}

/// What can be read in the bytes that are not used.
fn lost(
    path: &Path,
    bytes: &[u8],
    used: usize,
    durable: &Durable,
) -> Result<(u64, BTreeMap<JobId, LostJob>), LogError> {
    let mut jobs: BTreeMap<JobId, LostJob> = BTreeMap::new();
    let mut count = 0;
    let mut entries = Entries::of(path, bytes)?;
    entries.at = entries.at.max(used);
    loop {
        match entries.item() {
            Item::Entry { entry, end } => {
                count += 1;
                entries.at = end;
                if let Entry::Record(record) = entry {
                    note(&mut jobs, &record);
                }
            }
            Item::Fault(Fault::Damaged { next: Some(next), .. }) => entries.at = next,
            Item::End | Item::Fault(_) => break,
        }
    }
    for (id, lost) in &mut jobs {
        lost.unknown = !durable.jobs.contains_key(id);
        lost.name = lost.name.take().or_else(|| Some(durable.jobs.get(id)?.name.clone()));
    }
    Ok((count, jobs))
}

fn note(jobs: &mut BTreeMap<JobId, LostJob>, record: &Record) {
    match record {
        Record::Submitted(job) => {
            let lost = jobs.entry(job.id).or_default();
            lost.entries += 1;
            lost.name = Some(job.name.clone());
        }
        Record::Job(id, record) => {
            let lost = jobs.entry(*id).or_default();
            lost.entries += 1;
            match record {
                JobRecord::Block(block) => lost.received_records = lost.received_records.saturating_add(block.records),
                JobRecord::Completed { batch, .. } => lost.completed = Some(*batch),
                _ => {}
            }
        }
        _ => {}
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the log is repaired: {}", self.damage)?;
        writeln!(f, "the damaged file is kept as {}", self.kept_as.display())?;
        if let Some(earlier) = &self.from_earlier {
            writeln!(f, "its snapshot was made again from {}", earlier.display())?;
        }
        let Self { lost_bytes, lost_entries, .. } = self;
        write!(f, "lost: {lost_bytes} bytes at its end, with {lost_entries} entries that can be read")?;
        for (id, lost) in &self.jobs {
            write!(f, "\n{}", lost.line(*id))?;
        }
        Ok(())
    }
}

impl LostJob {
    fn line(&self, id: JobId) -> String {
        let name = self.name.as_ref().map_or(String::new(), |name| format!(" `{name}`"));
        let unknown = if self.unknown { "it is not known any more; " } else { "" };
        let batches = self.completed.map_or(String::new(), |batch| format!(", batches up to {batch}"));
        let Self { entries, received_records, .. } = self;
        format!("  job {id}{name}: {unknown}{entries} entries, {received_records} received records{batches}")
    }
}
