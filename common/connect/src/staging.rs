//! Where tasks leave the rows of an output before they are committed; driver and workers agree on it here.

use tidemill_common::ids::{BatchId, JobId, OutputIdx, TaskId};

/// The folder inside an output's directory for what is not committed yet.
pub const UNCOMMITTED: &str = ".tidemill";

/// Directory, within an output's folder, of what the tasks of one batch have brought for it.
pub fn parts_dir(job: JobId, batch: BatchId, output: OutputIdx) -> String {
    format!("{UNCOMMITTED}/{job}-{batch}-{output}")
}

/// The batch of a directory of parts, by its name within [`UNCOMMITTED`]; none if it is not of this job and output.
pub fn batch_of_parts(name: &str, job: JobId, output: OutputIdx) -> Option<BatchId> {
    let batch = name.strip_prefix(&format!("{job}-"))?.strip_suffix(&format!("-{output}"))?;
    batch.parse().ok().map(BatchId)
}

/// Directory, within an output's folder, in which a batch is put together before it is renamed into place.
pub fn staging_dir(job: JobId, batch: BatchId, output: OutputIdx) -> String {
    format!("{UNCOMMITTED}/commit-{job}-{batch}-{output}")
}

/// What a task calls the part it has written: a task writes one per output, and task ids are never used twice.
pub fn part_name(stage: u32, task: TaskId) -> String {
    format!("{stage:04}-{:020}", task.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_batches() {
        assert_eq!(parts_dir(JobId(1), BatchId(2), OutputIdx(3)), ".tidemill/1-2-3");
        assert_eq!(batch_of_parts("1-2-3", JobId(1), OutputIdx(3)), Some(BatchId(2)));
        for other in ["1-2-2", "11-2-3", "1-2-13", "1--3", "1-3", "commit-1-2-3"] {
            assert_eq!(batch_of_parts(other, JobId(1), OutputIdx(3)), None, "{other}");
        }
    }
}
