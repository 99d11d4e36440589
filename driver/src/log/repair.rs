//! Going on from a log that is damaged, or whose newest segment is missing, when people ask for it: what reads is kept, what does
//! not is named, and the file stays under another name.

use super::chain::{self, Before, Head};
use super::segment::{Damage, Entries, Entry, Fault, Item, read_segment};
use super::{LogError, head, lock, remove, segment_numbers, segment_path, set_aside, write_segment};
use crate::record::{Durable, JobRecord, Record};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use tidemill_common::ids::{BatchId, JobId};

/// What a repair has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// What is lost, and where it was.
    pub loss: Loss,
    /// What is lost of each job, as far as it can be read; all jobs that have not ended if none of it can.
    pub jobs: BTreeMap<JobId, LostJob>,
}

/// What is lost of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// The end of a segment, or all that was written to it.
    Damaged {
        /// What was wrong.
        damage: Damage,
        /// Where the damaged file is now.
        kept_as: PathBuf,
        /// The segment that stood in for the snapshot of the damaged one.
        from_earlier: Option<PathBuf>,
        /// Nothing of the segment was used, and nobody knows how much was in it.
        whole_segment: bool,
        /// Bytes, at the end of the file, that are not used any more.
        bytes: u64,
        /// Entries in these bytes that can be read; they build on what cannot.
        entries: u64,
    },
    /// The newest segment.
    Missing {
        /// It.
        path: PathBuf,
        /// The one before it, from whose end the log goes on.
        before: PathBuf,
    },
}

/// What is lost of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LostJob {
    /// Its name, if it is known.
    pub name: Option<String>,
    /// That it was submitted is lost: it is not known any more.
    pub unknown: bool,
    /// That it ended is lost: it runs again.
    pub ended: bool,
    /// Entries.
    pub entries: u64,
    /// Records in blocks that were received.
    pub received_records: u64,
    /// The last batch that was complete, if that can be read.
    pub from: Option<BatchId>,
    /// The last batch that is complete now.
    pub to: BatchId,
}

/// Begins a new segment from what can be read of the newest one, if that is damaged, or from the end of the one before it, if the
/// newest one is missing; else there is nothing to do.
///
/// # Errors
/// See [`LogError`]. The damaged file is there afterwards in any case.
pub fn repair(dir: &Path) -> Result<Option<Repair>, LogError> {
    let (_lock, _) = lock(dir)?;
    let numbers = segment_numbers(dir)?;
    let Some(number) = numbers.last().copied() else { return Ok(None) };
    let path = segment_path(dir, number);
    let bytes = fs::read(&path).map_err(LogError::io(&path))?;
    let read = read_segment(&path, &bytes)?;
    chain::has_its_name(&path, number, read.head.as_ref())?;
    match (read.fault, read.durable, read.closed) {
        (None, Some(durable), Some(next)) => go_back(dir, number, next, &bytes, durable).map(Some),
        (None | Some(Fault::Torn { .. }), ..) => Ok(None),
        (fault, ..) => {
            let damage = Damage::of(&path, &bytes, fault);
            // Only the one that was written right before it comes to the same.
            let earlier = numbers.contains(&(number - 1)).then(|| segment_path(dir, number - 1));
            mend(dir, number, &bytes, damage, earlier.as_deref()).map(Some)
        }
    }
}

/// Goes on from the end of a segment without the next one.
fn go_back(dir: &Path, number: u64, next: u64, bytes: &[u8], mut durable: Durable) -> Result<Repair, LogError> {
    let jobs = all_jobs(&durable);
    durable.after_a_loss();
    // Its name stays free for it.
    write_segment(dir, &head(&durable, next + 1, Some(Before::of(number, bytes))), &durable)?;
    let (path, before) = (segment_path(dir, next), segment_path(dir, number));
    Ok(Repair { loss: Loss::Missing { path, before }, jobs })
}

/// Goes on from what can be read of a damaged segment.
fn mend(dir: &Path, number: u64, bytes: &[u8], damage: Damage, earlier: Option<&Path>) -> Result<Repair, LogError> {
    let path = segment_path(dir, number);
    let Salvage { mut durable, from_earlier, used } = salvage(&path, bytes, earlier, &damage)?;
    let whole_segment = used == 0;
    let mut jobs = if whole_segment { all_jobs(&durable) } else { BTreeMap::new() };
    let entries = lost(&path, bytes, used, &durable, &mut jobs)?;
    durable.after_a_loss();
    let kept_as = set_aside(&path, "damaged")?;
    write_segment(dir, &head(&durable, number + 1, Some(Before::of(number, bytes))), &durable)?;
    remove(&path)?;
    let bytes = (bytes.len() - used) as u64;
    Ok(Repair { loss: Loss::Damaged { damage, kept_as, from_earlier, whole_segment, bytes, entries }, jobs })
}

/// Of each job that has not ended some may be lost that nobody can read.
fn all_jobs(durable: &Durable) -> BTreeMap<JobId, LostJob> {
    let live = durable.jobs.values().filter(|job| job.ending.is_none());
    live.map(|job| (job.id, LostJob { name: Some(job.name.clone()), to: job.completed, ..LostJob::default() }))
        .collect()
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
    let (mut found, mut durable, mut from_earlier) = (None, None, None);
    loop {
        let next = match (entries.item(), &mut durable) {
            (Item::Entry { entry: Entry::Head(head), end }, None) => {
                found = Some(head);
                end
            }
            (Item::Entry { entry: Entry::Snapshot(snapshot), end }, None) => {
                durable = Some(*snapshot);
                end
            }
            (Item::Entry { entry: Entry::Record(record), end }, Some(durable)) => {
                durable.apply(&record);
                end
            }
            // A damaged head: the snapshot behind it says all that is needed.
            (Item::Fault(Fault::Damaged { next: Some(next), .. }), None) if entries.is_snapshot(next) => next,
            // The snapshot is what the segment before this one comes to, and where it ends the first record begins.
            (Item::Fault(Fault::Damaged { end: Some(end), .. }), none @ None) => {
                *none = Some(fold_earlier(earlier, found.as_ref(), damage)?);
                from_earlier = earlier.map(Path::to_path_buf);
                end
            }
            _ => break,
        };
        entries.at = next;
    }
    let used = entries.at;
    match durable {
        Some(durable) => Ok(Salvage { durable, from_earlier, used }),
        None => {
            let durable = fold_earlier(earlier, found.as_ref(), damage)?;
            Ok(Salvage { durable, from_earlier: earlier.map(Path::to_path_buf), used: 0 })
        }
    }
}

fn fold_earlier(earlier: Option<&Path>, head: Option<&Head>, damage: &Damage) -> Result<Durable, LogError> {
    let beyond = |earlier: String| LogError::BeyondRepair { damage: Box::new(damage.clone()), earlier };
    let path = earlier.ok_or_else(|| beyond("there is no segment before it".into()))?;
    let bytes = fs::read(path).map_err(LogError::io(path))?;
    if head.is_some_and(|head| head.before.is_none_or(|before| !before.is(&bytes))) {
        return Err(beyond(format!("{} is not the segment that it goes on from", path.display())));
    }
    let read = read_segment(path, &bytes)?;
    match (read.durable, read.fault) {
        (Some(durable), None) => Ok(durable),
        (_, fault) => Err(beyond(format!("the segment before it does not help: {}", Damage::of(path, &bytes, fault)))),
    }
}

/// Adds what can be read in the bytes that are not used; gives back how many entries that are.
fn lost(
    path: &Path,
    bytes: &[u8],
    used: usize,
    durable: &Durable,
    jobs: &mut BTreeMap<JobId, LostJob>,
) -> Result<u64, LogError> {
    let mut count = 0;
    let mut entries = Entries::of(path, bytes)?;
    entries.at = entries.at.max(used);
    loop {
        match entries.item() {
            Item::Entry { entry, end } => {
                entries.at = end;
                if let Entry::Record(record) = entry {
                    count += 1;
                    note(jobs, &record);
                }
            }
            Item::Fault(Fault::Damaged { next: Some(next), .. }) => entries.at = next,
            Item::End | Item::Fault(_) => break,
        }
    }
    for (id, lost) in jobs {
        let known = durable.jobs.get(id);
        lost.unknown = known.is_none();
        lost.to = known.map_or(BatchId(0), |job| job.completed);
        lost.name = lost.name.take().or_else(|| Some(known?.name.clone()));
    }
    Ok(count)
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
                JobRecord::Block(block, _) => {
                    lost.received_records = lost.received_records.saturating_add(block.records)
                }
                JobRecord::Completed { batch, .. } => lost.from = Some(*batch),
                JobRecord::Ended(_) => lost.ended = true,
                _ => {}
            }
        }
        _ => {}
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.loss)?;
        self.jobs.iter().try_for_each(|(id, lost)| write!(f, "\n{}", lost.line(*id)))
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { path, before } => {
                let (path, before) = (path.display(), before.display());
                writeln!(
                    f,
                    "the log is repaired: it goes on from the end of {before}, without {path}, which is missing"
                )?;
                write!(
                    f,
                    "lost: one segment, {path}, with everything that was written to it; how much that is cannot be told"
                )
            }
            Self::Damaged { damage, kept_as, from_earlier, whole_segment, bytes, entries } => {
                writeln!(f, "the log is repaired: {damage}")?;
                writeln!(f, "the damaged file is kept as {}", kept_as.display())?;
                match from_earlier {
                    Some(earlier) if *whole_segment => {
                        writeln!(f, "the log goes on from the end of {}", earlier.display())?;
                        write!(
                            f,
                            "lost: one segment, {}, with everything that was written to it: {bytes} bytes are there, with {entries} entries that can be read; how many there were cannot be told",
                            damage.path.display()
                        )
                    }
                    Some(earlier) => {
                        writeln!(f, "its snapshot was made again from {}", earlier.display())?;
                        at_its_end(f, *bytes, *entries)
                    }
                    None => at_its_end(f, *bytes, *entries),
                }
            }
        }
    }
}

fn at_its_end(f: &mut fmt::Formatter<'_>, bytes: u64, entries: u64) -> fmt::Result {
    match bytes {
        0 => f.write_str("nothing is lost: all entries of the file were read"),
        _ => write!(f, "lost: {bytes} bytes at its end, with {entries} entries that can be read"),
    }
}

impl LostJob {
    fn line(&self, id: JobId) -> String {
        let name = self.name.as_ref().map_or(String::new(), |name| format!(" `{name}`"));
        let Self { unknown, ended, entries, received_records, from, to, .. } = self;
        let fate = match (unknown, from) {
            (true, Some(from)) => format!("it is not known any more; it had completed batch {from}"),
            (true, None) => "it is not known any more".to_string(),
            (false, Some(from)) => format!("goes back from batch {from} to batch {to}"),
            (false, None) if *entries > 0 => format!("goes on from batch {to}"),
            (false, None) => format!("goes back to batch {to}; from which batch cannot be told"),
        };
        let again = if *ended && !unknown { "; it had ended, and runs again" } else { "" };
        let lost = match entries {
            0 => String::new(),
            _ => format!("; lost: {entries} entries, {received_records} received records"),
        };
        format!("  job {id}{name}: {fate}{again}{lost}")
    }
}
