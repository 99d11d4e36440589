//! Puts the part files of a batch in place, once (INV-4).
//!
//! Workers write parts as `<path>/.tidemill/<job>-<batch>/<attempt>`. Here the winning ones are moved
//! into a staging directory as `part-00000.jsonl` .. and that is renamed to `<path>/<TIME_MS>`. A crash on
//! the way leaves either no such directory, and the batch runs again, or the whole of it.

use crate::core::CommitFiles;
use std::fs;
use std::io;
use std::path::Path;
use tidemill_common::ids::{BatchId, JobId};
use tidemill_common::layout::{attempts_dir, staging_dir};

/// Commits all outputs of a batch; doing it again changes nothing.
pub(crate) fn commit(job: JobId, batch: BatchId, outputs: &[CommitFiles]) -> Result<(), String> {
    for output in outputs {
        let path = Path::new(&output.path);
        commit_one(job, batch, path, output).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn commit_one(job: JobId, batch: BatchId, path: &Path, output: &CommitFiles) -> io::Result<()> {
    let attempts = attempts_dir(path, job, batch);
    let place = path.join(output.time_ms.to_string());
    if !output.parts.is_empty() && !place.exists() {
        let staging = staging_dir(path, job, batch);
        if staging.exists() {
            fs::remove_dir_all(&staging)?;
        }
        fs::create_dir_all(&staging)?;
        for (number, part) in output.parts.iter().enumerate() {
            fs::rename(attempts.join(part), staging.join(format!("part-{number:05}.jsonl")))?;
        }
        fs::rename(&staging, &place)?;
    }
    if attempts.exists() {
        fs::remove_dir_all(&attempts)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_common::ids::OutputIdx;

    #[test]
    fn only_winners_appear_and_a_second_commit_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (job, batch) = (JobId(1), BatchId(2));
        let attempts = attempts_dir(dir.path(), job, batch);
        fs::create_dir_all(&attempts).unwrap();
        fs::write(attempts.join("7"), "winner\n").unwrap();
        fs::write(attempts.join("8"), "loser\n").unwrap();
        let files = CommitFiles {
            output: OutputIdx(0),
            path: dir.path().to_string_lossy().into_owned(),
            time_ms: 2000,
            parts: vec!["7".into()],
        };
        commit(job, batch, std::slice::from_ref(&files)).unwrap();
        commit(job, batch, &[files]).unwrap();
        let place = dir.path().join("2000");
        assert_eq!(fs::read_to_string(place.join("part-00000.jsonl")).unwrap(), "winner\n");
        assert_eq!(fs::read_dir(place).unwrap().count(), 1);
        assert!(!attempts.exists());
    }
}
