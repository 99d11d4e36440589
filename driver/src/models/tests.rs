use super::*;
use tidemill_ml::ModelSpec;

fn bytes(step_size: f64) -> Bytes {
    let spec: ModelSpec =
        serde_json::from_value(json!({ "kind": "linear_regression", "step_size": step_size })).unwrap();
    Model::new(spec).unwrap().to_bytes().into()
}

/// After a restart; nothing is known of jobs.
fn open(dir: &Path) -> Published {
    Published::open(dir, &BTreeMap::new())
}

fn publish(published: &Published, id: u64, job: &str, batch: u64, keep: usize) {
    let bytes = bytes(batch as f64);
    let models = vec![PublishedModel { name: "m".into(), bytes, keep }];
    let (id, job, batch, time_ms) = (JobId(id), job.into(), BatchId(batch), batch as i64 * 1000);
    let publication = Publication { id, job, batch, time_ms, models, sync: false };
    published.write_files(&publication);
    published.publish(&publication);
}

fn kept(published: &Published, job: &str) -> (Vec<u64>, Vec<(String, u64)>) {
    let found = published.find(Some(job), "m", None).unwrap();
    let (last, named) = published.versions(&found);
    (last.iter().map(|b| b.0).collect(), named.into_iter().map(|(label, batch)| (label, batch.0)).collect())
}

#[test]
fn the_last_versions_and_named_ones_are_kept_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let published = open(dir.path());
    (1..=5).for_each(|batch| publish(&published, 1, "j", batch, 3));
    published.tag(None, "m", "3", "good").unwrap();
    (6..=9).for_each(|batch| publish(&published, 1, "j", batch, 3));
    let expected = (vec![7, 8, 9], vec![("good".to_string(), 3)]);
    assert_eq!(kept(&published, "j"), expected);
    let again = open(dir.path());
    assert_eq!(kept(&again, "j"), expected);
    for version in ["good", "3"] {
        let found = again.find(None, "m", Some(version)).unwrap();
        assert_eq!((found.version.batch, &found.version.stored.bytes), (BatchId(3), &bytes(3.0)));
    }
    let wrong = again.find(None, "m", Some("2")).unwrap_err().to_string();
    assert_eq!(wrong, "of model `m` the versions 7, 8, 9, good are kept, not 2");
    again.untag(None, "m", "good").unwrap();
    assert!(again.find(None, "m", Some("good")).is_err());
    assert_eq!(kept(&open(dir.path()), "j"), (vec![7, 8, 9], vec![]));
}

#[test]
fn a_job_that_runs_again_begins_anew_and_keeps_the_names() {
    let dir = tempfile::tempdir().unwrap();
    let published = open(dir.path());
    (1..=4).for_each(|batch| publish(&published, 1, "j", batch, 10));
    published.tag(None, "m", "4", "v1").unwrap();
    publish(&published, 2, "j", 1, 10);
    publish(&published, 2, "j", 2, 10);
    let expected = (vec![1, 2], vec![("v1".to_string(), 4)]);
    assert_eq!(kept(&published, "j"), expected);
    assert_eq!(kept(&open(dir.path()), "j"), expected);
    assert_eq!(published.find(None, "m", None).unwrap().version.batch, BatchId(2));
}

#[test]
fn what_is_meant_has_to_be_clear() {
    let dir = tempfile::tempdir().unwrap();
    let published = open(dir.path());
    publish(&published, 1, "a", 1, 10);
    publish(&published, 2, "b", 1, 10);
    assert!(matches!(published.find(None, "m", None), Err(NoModel::Ambiguous { .. })));
    assert!(matches!(published.find(Some("c"), "m", None), Err(NoModel::Unknown { .. })));
    assert_eq!(published.find(Some("b"), "m", None).unwrap().job, "b");
    for label in ["", "17", "a/b", "..x y"] {
        assert!(matches!(published.tag(Some("a"), "m", "1", label), Err(NoModel::Label(_))), "{label}");
    }
    assert!(matches!(published.tag(Some("a"), "m", "9", "x"), Err(NoModel::NotKept { .. })));
}

#[test]
fn jobs_and_names_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let published = open(dir.path());
    (1..=JOBS as u64 + 2).for_each(|id| publish(&published, id, &format!("j{id}"), id, 1));
    assert_eq!(published.list(None).len(), JOBS);
    assert!(published.find(Some("j1"), "m", None).is_err());
    assert_eq!(open(dir.path()).list(None).len(), JOBS);
    for label in 0..LABELS {
        published.tag(Some("j9"), "m", "9", &format!("v{label}")).unwrap();
    }
    assert!(matches!(published.tag(Some("j9"), "m", "9", "more"), Err(NoModel::TooManyLabels(_))));
}

#[test]
fn a_damaged_file_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let published = open(dir.path());
    (1..=2).for_each(|batch| publish(&published, 1, "j", batch, 3));
    let folder = dir.path().join("job-j").join("m");
    std::fs::write(folder.join("batch-2"), b"x").unwrap();
    std::fs::write(folder.join("new-batch-3"), b"x").unwrap();
    assert_eq!(kept(&open(dir.path()), "j").0, [1]);
    assert!(!folder.join("new-batch-3").exists());
}

#[test]
fn a_version_whose_batch_is_not_complete_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    (1..=3).for_each(|batch| publish(&open(dir.path()), 1, "j", batch, 5));
    let file = dir.path().join("job-j/m/batch-3");
    assert!(file.exists());
    for completed in [(JobId(2), BatchId(0)), (JobId(1), BatchId(3))] {
        assert_eq!(kept(&Published::open(dir.path(), &[completed].into()), "j").0, [1, 2, 3]);
    }
    assert_eq!(kept(&Published::open(dir.path(), &[(JobId(1), BatchId(2))].into()), "j").0, [1, 2]);
    assert!(!file.exists());
}
