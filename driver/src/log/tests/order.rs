//! Segments that are missing, or not where they belong, and what a repair says of them.

use super::*;

/// Two segments of a log: a job in batch 1, and later in batch 2.
fn two_segments(dir: &Path) -> (PathBuf, PathBuf, Durable) {
    let complete =
        |batch| Record::Job(JobId(1), JobRecord::Completed { batch: BatchId(batch), totals: Totals::default() });
    let mut records = vec![Record::Cluster { id: "c".into() }, submitted(1, "first"), complete(1)];
    let older = written(dir, &records);
    records.extend([complete(2), submitted(2, "second")]);
    let newer = written(dir, &records[3..]);
    assert_eq!(segment_numbers(dir).unwrap(), [1, 2]);
    (older, newer, folded(&records))
}

/// Nothing is changed by a log that is refused.
fn refused(dir: &Path) -> LogError {
    let before = contents(dir);
    let error = Log::open(dir).unwrap_err();
    assert_eq!(contents(dir), before, "{error}");
    error
}

fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    names(dir).into_iter().map(|name| (name.clone(), fs::read(dir.join(name)).unwrap())).collect()
}

#[test]
fn a_segment_under_another_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (older, newer, state) = two_segments(dir.path());
    // A backup is put where the newest one would be.
    let copy = segment_path(dir.path(), 3);
    for (from, number) in [(&older, 1), (&newer, 2)] {
        fs::copy(from, &copy).unwrap();
        let error = refused(dir.path());
        assert!(matches!(&error, LogError::Misplaced { path, .. } if *path == copy), "{error}");
        let said =
            format!("log-000000000003 is not the segment of the log that belongs there: it is segment {number} of");
        assert!(error.to_string().contains(&said), "{error}");
        assert!(matches!(repair(dir.path()), Err(LogError::Misplaced { .. })));
    }
    remove(&copy).unwrap();
    // Two are swapped.
    fs::rename(&older, &copy).unwrap();
    fs::rename(&newer, &older).unwrap();
    fs::rename(&copy, &newer).unwrap();
    assert!(matches!(refused(dir.path()), LogError::Misplaced { path, .. } if path == newer));
    fs::rename(&newer, &copy).unwrap();
    fs::rename(&older, &newer).unwrap();
    fs::rename(&copy, &older).unwrap();
    assert_eq!(Log::open(dir.path()).unwrap().1, state);
}

#[test]
fn a_segment_of_another_log_is_refused() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (older, newer, state) = two_segments(dir.path());
    written(other.path(), &[Record::Cluster { id: "other".into() }]);
    let foreign = written(other.path(), &[submitted(1, "first")]);
    let right = fs::read(&newer).unwrap();
    fs::copy(&foreign, &newer).unwrap();
    let error = refused(dir.path());
    assert!(error.to_string().contains("it was not begun from"), "{error}");
    fs::write(&newer, &right).unwrap();
    // The older one is only there in case of need. One that is damaged is no reason to stop, and it stays.
    let damaged = change(&older, |bytes| bytes[FILE_HEADER + 3] ^= 1);
    let (mut log, durable) = Log::open(dir.path()).unwrap();
    assert_eq!(durable, state);
    log.rotate(&durable).unwrap();
    assert_eq!(fs::read(&older).unwrap(), damaged);
    assert_eq!(segment_numbers(dir.path()).unwrap(), [1, 3, 4]);
}

#[test]
fn a_missing_segment_is_refused_and_left_out_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let (older, newer, _) = two_segments(dir.path());
    let away = dir.path().join("away");
    fs::rename(&newer, &away).unwrap();
    let error = refused(dir.path());
    assert!(matches!(&error, LogError::Missing { path, before } if *path == newer && *before == older), "{error}");
    assert!(error.to_string().contains("log-000000000002 is missing"), "{error}");
    let put_back = tempfile::tempdir().unwrap();
    for name in names(dir.path()) {
        fs::copy(dir.path().join(&name), put_back.path().join(&name)).unwrap();
    }
    let said = repair(dir.path()).unwrap().unwrap().to_string();
    assert!(said.contains("lost: one segment, ") && said.contains("log-000000000002, with everything"), "{said}");
    assert!(said.contains("job 1 `first`: goes back to batch 1; from which batch cannot be told"), "{said}");
    let (_, durable) = Log::open(dir.path()).unwrap();
    assert_eq!((durable.jobs[&JobId(1)].completed, durable.jobs.len()), (BatchId(1), 1));
    assert_eq!(durable.doubtful, [JobId(1)].into());

    let missing = segment_path(put_back.path(), 2);
    fs::rename(put_back.path().join("away"), &missing).unwrap();
    assert_eq!(Log::open(put_back.path()).unwrap().1.jobs[&JobId(1)].completed, BatchId(2));
}

#[test]
fn a_repair_that_uses_nothing_of_a_segment_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (_, newer, _) = two_segments(dir.path());
    let head_ends = head_ends(&fs::read(&newer).unwrap());
    for length in [0, 10, head_ends, head_ends + 20] {
        let copy = tempfile::tempdir().unwrap();
        for name in names(dir.path()) {
            fs::copy(dir.path().join(&name), copy.path().join(&name)).unwrap();
        }
        let newer = segment_path(copy.path(), 2);
        change(&newer, |bytes| bytes.truncate(length));
        assert!(matches!(refused(copy.path()), LogError::Damaged(_)));
        let done = repair(copy.path()).unwrap().unwrap();
        assert_eq!(lost(&done), (length, 0));
        let said = done.to_string();
        assert!(said.contains("with everything that was written to it") && !said.contains("nothing is lost"), "{said}");
        assert!(said.contains("job 1 `first`: goes back to batch 1; from which"), "{said}");
    }
}

#[test]
fn what_was_set_aside_without_a_log_is_no_new_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), &[submitted(1, "a")]);
    change(&path, |bytes| bytes.truncate(bytes.len() - 1));
    drop(Log::open(dir.path()).unwrap());
    remove(&segment_path(dir.path(), 2)).unwrap();
    let error = refused(dir.path());
    assert!(matches!(&error, LogError::Gone { left } if left.ends_with("log-000000000001.torn-1")), "{error}");
}

/// As with a full disk: the new segment cannot be written, time and again.
#[test]
fn a_torn_segment_is_set_aside_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), &[submitted(1, "a"), joined(2)]);
    change(&path, |bytes| bytes.truncate(bytes.len() - 1));
    fs::create_dir(dir.path().join("new-000000000002")).unwrap();
    for _ in 0..3 {
        assert!(matches!(Log::open(dir.path()), Err(LogError::Io { .. })));
        assert_eq!(names(dir.path()), ["log-000000000001", "log-000000000001.torn-1", "new-000000000002"]);
    }
    fs::remove_dir(dir.path().join("new-000000000002")).unwrap();
    assert_eq!(Log::open(dir.path()).unwrap().1.jobs.len(), 1);
}

#[test]
fn other_names_are_no_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (_, _, state) = two_segments(dir.path());
    let others = ["log-4", "log-99999999999999999999", "log-000000000009.bak", "log-0000000000007", "log-000000000000"];
    others.iter().for_each(|name| fs::write(dir.path().join(name), b"x").unwrap());
    assert_eq!(Log::open(dir.path()).unwrap().1, state);
    assert!(others.iter().all(|name| dir.path().join(name).exists()));
}

/// Segments of before there were heads are in order if none knows less than the one before it.
#[test]
fn a_segment_of_version_2_that_goes_back_is_refused() {
    let write = |dir: &Path, number, records: &[Record]| {
        let mut bytes = frame::file_header(KIND, 2).to_vec();
        frame::push(&mut bytes, SNAPSHOT, &postcard::to_stdvec(&folded(records)).unwrap());
        fs::write(segment_path(dir, number), bytes).unwrap();
    };
    let started = [Record::Cluster { id: "c".into() }, Record::Started { term: Term(1) }, submitted(1, "a")];
    let complete = Record::Job(JobId(1), JobRecord::Completed { batch: BatchId(1), totals: Totals::default() });
    let later = [&started[..], &[complete]].concat();
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 2, &later);
    write(dir.path(), 3, &started);
    assert!(refused(dir.path()).to_string().contains("it knows less than"));
    write(dir.path(), 2, &started);
    write(dir.path(), 3, &later);
    assert_eq!(Log::open(dir.path()).unwrap().1, folded(&later));
    assert_eq!(segment_numbers(dir.path()).unwrap(), [3, 4]);
    // And no such one follows a newer version.
    write(dir.path(), 5, &later);
    assert!(matches!(refused(dir.path()), LogError::Misplaced { .. }));
}
