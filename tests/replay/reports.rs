//! What users of other engines reported, as small jobs with the right answer: `tests/reports`.

use crate::command::replay;
use std::path::{Path, PathBuf};

/// The folders below `dir` that hold a job, in order of their names.
fn cases(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut folders: Vec<_> =
        entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    let mut found = Vec::new();
    for folder in folders {
        if folder.join("job.toml").exists() {
            found.push(folder.clone());
        }
        found.extend(cases(&folder));
    }
    found
}

/// `expect.jsonl` is the right output; `expect.error` the exit code of a right failure, and below it one line for each
/// text that standard error has to contain.
fn check(case: &Path) -> Result<(), String> {
    let (job, input) = (case.join("job.toml"), case.join("input.json"));
    if let Ok(expected) = std::fs::read_to_string(case.join("expect.error")) {
        let mut lines = expected.lines();
        let code: i32 =
            lines.next().and_then(|line| line.parse().ok()).ok_or("`expect.error` begins with no exit code")?;
        let run = replay(&job, &input, &[]);
        let missing: Vec<_> = lines.filter(|line| !run.stderr.contains(line)).collect();
        let right = run.code == code && missing.is_empty();
        return if right { Ok(()) } else { Err(format!("expected exit code {code} and {missing:?}: {run:#?}")) };
    }
    let expect = case.join("expect.jsonl");
    let tolerance = std::fs::read_to_string(case.join("tolerance")).unwrap_or_else(|_| "0".to_owned());
    let expect = expect.to_str().ok_or("not a plain path")?;
    let run = replay(&job, &input, &["--expect", expect, "--tolerance", tolerance.trim()]);
    if run.code == 0 { Ok(()) } else { Err(format!("{run:#?}")) }
}

#[test]
fn reports_have_their_right_answers() {
    let cases = cases(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reports"));
    assert!(!cases.is_empty());
    let wrong = |case: &PathBuf| check(case).err().map(|wrong| format!("{}: {wrong}", case.display()));
    let wrong: Vec<_> = cases.iter().filter_map(wrong).collect();
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
