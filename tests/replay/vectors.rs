//! What Spark gives: `tests/vectors`.

use crate::command::replay;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn cases(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(folder);
    let entries = std::fs::read_dir(folder).expect("the vectors are there");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut jobs: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    jobs.sort();
    jobs
}

fn check(folder: &str, expected_cases: usize) {
    let jobs = cases(folder);
    assert_eq!(jobs.len(), expected_cases);
    for job in jobs {
        let expect = job.with_extension("expect.jsonl");
        let mut options = vec!["--tolerance", "1e-10", "--expect", expect.to_str().expect("a plain path")];
        if job.file_stem().is_some_and(|name| name == "flat_map" || name == "union" || name == "queue") {
            options.push("--ordered");
        }
        for workers in ["1", "3"] {
            let run =
                replay(&job, &job.with_extension("input.json"), &[&options[..], &["--workers", workers]].concat());
            assert_eq!(run.code, 0, "{}: {run:#?}", job.display());
        }
    }
}

#[test]
fn spark_suites() {
    check("dstream", 19);
}

#[test]
fn update_state_by_key() {
    check("update_state_by_key", 4);
}

#[test]
fn reduce_by_key_and_window() {
    check("reduce_by_key_and_window", 7);
}

#[test]
fn state_and_windows_with_a_worker_killed() {
    for job in cases("update_state_by_key").into_iter().chain(cases("reduce_by_key_and_window")) {
        let input = job.with_extension("input.json");
        let expect = job.with_extension("expect.jsonl");
        let expect = ["--tolerance", "1e-10", "--expect", expect.to_str().expect("a plain path")];
        for kill in ["1", "3", "8"] {
            let run = replay(&job, &input, &[&expect[..], &["--workers", "3", "--kill", kill]].concat());
            assert_eq!(run.code, 0, "{}, --kill {kill}: {run:#?}", job.display());
            assert!(run.stderr.contains("\"killed_worker\""), "{run:#?}");
        }
    }
}

/// Spark's models: weights, centres and predictions after every batch, with any number of workers and one killed.
#[test]
fn learning() {
    check("learn", 5);
    for job in cases("learn") {
        let input = job.with_extension("input.json");
        let expect = job.with_extension("expect.jsonl");
        let expect = ["--tolerance", "1e-9", "--expect", expect.to_str().expect("a plain path")];
        let run = replay(&job, &input, &[&expect[..], &["--workers", "3", "--kill", "1"]].concat());
        assert_eq!(run.code, 0, "{}: {run:#?}", job.display());
        assert!(run.stderr.contains("\"killed_worker\""), "{run:#?}");
    }
}

/// What stands between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_case_is_accounted_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let readme = read("tests/vectors/README.md");
    let (_, table) = readme.split_once("| file | cases | tests |\n|---|---|---|\n").expect("the table of cases");
    let (mut seen, mut jobs) = (BTreeSet::new(), BTreeSet::new());
    for row in table.lines() {
        let [_, file, cases, tests, _] = row.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("not a row: {row}");
        };
        assert!(quoted(cases).all(|case| seen.insert((file, case))), "twice: {row}");
        if tests.strip_prefix("not: ").is_some_and(|reason| !reason.is_empty()) {
            continue;
        }
        assert!(quoted(tests).next().is_some(), "neither a test nor a reason: {row}");
        for test in quoted(tests) {
            match test.split_once("::") {
                Some((file, name)) => {
                    assert!(read(file).contains(&format!("fn {name}()")), "{test}");
                }
                None => assert!(jobs.insert(test.to_owned()), "twice: {test}"),
            }
        }
    }
    let folders = ["dstream", "learn", "reduce_by_key_and_window", "update_state_by_key"];
    let name = |job: PathBuf| {
        let (folder, name) = (job.parent()?.file_name()?.to_str()?, job.file_stem()?.to_str()?);
        Some(format!("{folder}/{name}"))
    };
    assert_eq!(jobs, folders.into_iter().flat_map(cases).filter_map(name).collect());
}
