//! Everything the log says, and which jobs it knows, knows to have ended, or never had.

use super::{DurableJob, Ending, JobRecord, Record};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use tidemill_common::ids::{BatchId, JobId, Term, WorkerId};

/// Ended jobs that are remembered for `status`.
const ENDED_JOBS_KEPT: usize = 50;
/// Ranges of numbers of unknown jobs that are told apart.
const UNKNOWN_RANGES: usize = 100;
/// A job without state has no checkpoints: every so many batches it is no longer doubtful.
const DOUBTFUL_BATCHES: u64 = 1000;
/// Numbers of jobs and workers, and terms, that are left out when entries of the log were lost.
const LEFT_OUT: u64 = 1000;

impl DurableJob {
    /// Whether a job goes on by itself after this, whatever the log has lost of it: it needs nothing from before.
    pub(crate) fn settles_doubt(&self, record: &JobRecord) -> bool {
        match record {
            JobRecord::Checkpoint(_) => true,
            JobRecord::Completed { batch, .. } => !self.stateful && batch.0.is_multiple_of(DOUBTFUL_BATCHES),
            JobRecord::Ended(ending) => !matches!(ending, Ending::Failed(_)),
            _ => false,
        }
    }
}

/// Everything the log says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Durable {
    /// The cluster's id.
    pub cluster_id: String,
    /// The last term.
    pub term: Term,
    /// Highest job number given out.
    pub last_job: JobId,
    /// Highest worker id given out.
    pub last_worker: WorkerId,
    /// Workers admitted and not declared dead.
    pub members: BTreeSet<WorkerId>,
    /// Jobs, the ended ones too (a bounded number of them).
    pub jobs: BTreeMap<JobId, DurableJob>,
    /// Numbers, from the first to the last, of jobs that this log never had and that workers may have something of. Ascending.
    pub unknown_jobs: Vec<(JobId, JobId)>,
    /// Jobs of which entries of the log were lost, and that have had no checkpoint since.
    pub doubtful: BTreeSet<JobId>,
}

/// What the log says of a number of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has not ended.
    Live,
    /// It has ended.
    Ended,
    /// The log never had it, or has lost what was said of it.
    Unknown,
}

impl Durable {
    /// The last complete batch of every job.
    pub fn completed(&self) -> BTreeMap<JobId, BatchId> {
        self.jobs.values().map(|job| (job.id, job.completed)).collect()
    }

    /// Folds one record in.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Cluster { id } => self.cluster_id.clone_from(id),
            Record::Started { term } => self.term = *term,
            Record::WorkerJoined(worker) => {
                self.last_worker = self.last_worker.max(*worker);
                self.members.insert(*worker);
            }
            Record::WorkerLost(worker) => {
                self.members.remove(worker);
            }
            Record::Submitted(job) => {
                self.last_job = self.last_job.max(job.id);
                self.jobs.insert(job.id, (**job).clone());
                self.forget_old_jobs();
            }
            Record::Job(id, record) => {
                if let Some(job) = self.jobs.get_mut(id) {
                    job.apply(record);
                    if job.settles_doubt(record) {
                        self.doubtful.remove(id);
                    }
                }
            }
            Record::JobsUnknown { through } => self.leave_out(*through),
            Record::JobForgotten(job) => self.forget_unknown(*job),
            Record::JobDoubtful(job) => {
                self.doubtful.insert(*job);
            }
        }
    }

    /// What the log says of a number. Numbers are given out once, so one below the last that is not live has ended.
    pub fn standing(&self, job: JobId) -> Standing {
        match self.jobs.get(&job) {
            Some(known) if known.ending.is_none() => Standing::Live,
            Some(DurableJob { ending: Some(Ending::Failed(_)), .. }) if self.doubtful.contains(&job) => {
                Standing::Unknown
            }
            Some(_) => Standing::Ended,
            None if job > self.last_job => Standing::Unknown,
            None if self.unknown_jobs.iter().any(|(first, last)| (*first..=*last).contains(&job)) => Standing::Unknown,
            None => Standing::Ended,
        }
    }

    /// Numbers up to `through` are not given out: workers know jobs that had them.
    fn leave_out(&mut self, through: JobId) {
        if through <= self.last_job {
            return;
        }
        let first = JobId(self.last_job.0 + 1);
        match self.unknown_jobs.last_mut() {
            Some((_, last)) if last.0 + 1 == first.0 => *last = through,
            _ => self.unknown_jobs.push((first, through)),
        }
        self.last_job = through;
        if self.unknown_jobs.len() > UNKNOWN_RANGES {
            // Between the two are jobs that have ended long ago.
            let (first, _) = self.unknown_jobs.remove(0);
            self.unknown_jobs[0].0 = first;
        }
    }

    fn forget_unknown(&mut self, job: JobId) {
        let without = |(first, last): (JobId, JobId)| {
            let parts =
                [(first, JobId(job.0.saturating_sub(1)).min(last)), (JobId(job.0.saturating_add(1)).max(first), last)];
            let inside = (first..=last).contains(&job);
            let whole = (!inside).then_some((first, last));
            whole.into_iter().chain(parts.into_iter().filter(move |(first, last)| inside && first <= last))
        };
        self.unknown_jobs = std::mem::take(&mut self.unknown_jobs).into_iter().flat_map(without).collect();
        self.doubtful.remove(&job);
    }

    /// The last entry may be lost: what workers have of the jobs beyond it is not given up.
    pub fn doubt(&mut self) {
        self.doubtful = self.jobs.values().filter(|job| job.ending.is_none()).map(|job| job.id).collect();
    }

    /// Entries were lost: jobs may lack some, and numbers may have been given out that this log does not know.
    pub fn after_a_loss(&mut self) {
        self.doubt();
        self.leave_out(JobId(self.last_job.0 + LEFT_OUT));
        self.last_worker.0 += LEFT_OUT;
        self.term.0 += LEFT_OUT;
    }

    fn forget_old_jobs(&mut self) {
        let ended: Vec<JobId> = self.jobs.values().filter(|j| j.ending.is_some()).map(|j| j.id).collect();
        for id in ended.iter().take(ended.len().saturating_sub(ENDED_JOBS_KEPT)) {
            self.jobs.remove(id);
            self.doubtful.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_number_of_ended_jobs_is_remembered() {
        let mut durable = Durable::default();
        for id in 1..=ENDED_JOBS_KEPT as u64 + 10 {
            let id = JobId(id);
            durable.apply(&Record::Submitted(Box::new(DurableJob { id, ..DurableJob::default() })));
            durable.apply(&Record::Job(id, JobRecord::Ended(Ending::Stopped)));
        }
        assert_eq!(durable.jobs.len(), ENDED_JOBS_KEPT + 1);
        assert_eq!(durable.last_job, JobId(ENDED_JOBS_KEPT as u64 + 10));
        assert!(!durable.jobs.contains_key(&JobId(1)));
    }

    #[test]
    fn a_number_is_live_ended_or_unknown() {
        let mut durable = Durable::default();
        let submit = |id| Record::Submitted(Box::new(DurableJob { id: JobId(id), ..DurableJob::default() }));
        durable.apply(&submit(1));
        durable.apply(&submit(2));
        durable.apply(&Record::Job(JobId(1), JobRecord::Ended(Ending::Stopped)));
        durable.apply(&Record::JobsUnknown { through: JobId(4) });
        durable.apply(&submit(5));
        durable.apply(&Record::JobsUnknown { through: JobId(7) });
        durable.apply(&Record::JobsUnknown { through: JobId(3) });
        let standing = |durable: &Durable| (1..=9).map(|id| durable.standing(JobId(id))).collect::<Vec<_>>();
        use Standing::{Ended, Live, Unknown};
        assert_eq!(standing(&durable), [Ended, Live, Unknown, Unknown, Live, Unknown, Unknown, Unknown, Unknown]);
        durable.apply(&Record::JobForgotten(JobId(6)));
        durable.apply(&Record::JobForgotten(JobId(3)));
        assert_eq!(standing(&durable), [Ended, Live, Ended, Unknown, Live, Ended, Unknown, Unknown, Unknown]);
        assert_eq!(durable.last_job, JobId(7));
    }

    #[test]
    fn what_a_job_leaves_that_fails_after_a_loss_is_not_given_up() {
        let mut durable = Durable::default();
        for id in 1..=3 {
            let job = DurableJob { id: JobId(id), stateful: true, ..DurableJob::default() };
            durable.apply(&Record::Submitted(Box::new(job)));
        }
        durable.after_a_loss();
        assert!(durable.last_job > JobId(100) && durable.last_worker > WorkerId(100));
        durable.apply(&Record::Job(JobId(2), JobRecord::Checkpoint(BatchId(7))));
        for id in 1..=2 {
            durable.apply(&Record::Job(JobId(id), JobRecord::Ended(Ending::Failed("lost".into()))));
        }
        durable.apply(&Record::Job(JobId(3), JobRecord::Ended(Ending::Stopped)));
        let standing: Vec<Standing> = (1..=4).map(|id| durable.standing(JobId(id))).collect();
        assert_eq!(standing, [Standing::Unknown, Standing::Ended, Standing::Ended, Standing::Unknown]);
    }

    #[test]
    fn ranges_of_unknown_numbers_are_bounded() {
        let mut durable = Durable::default();
        for n in 1..=3 * UNKNOWN_RANGES as u64 {
            durable.apply(&Record::JobsUnknown { through: JobId(10 * n) });
            durable.apply(&Record::Submitted(Box::new(DurableJob { id: JobId(10 * n + 1), ..DurableJob::default() })));
        }
        assert_eq!(durable.unknown_jobs.len(), UNKNOWN_RANGES);
        assert_eq!(durable.standing(JobId(15)), Standing::Unknown);
    }
}
