//! Definitions that are deep, wide or huge: `check`, `submit` and `replay` say the same of them, and a job beside them goes
//! on.

use crate::processes::{Cluster, Run, run};
use crate::revenue::number;
use std::path::Path;

/// A job with a source of numbers and texts.
fn job(name: &str, streams: &str) -> String {
    format!(
        r#"
name = "{name}"
batch_interval = "200ms"

[source.lines]
connector = "queue"
batches = [["1,a", "2,b"]]
repeat = true
format = "csv"
columns = {{ x = "bigint", t = "string" }}

{streams}

[[output]]
from = "s"
print = true
"#
    )
}

fn over_lines(operator: &str) -> String {
    format!("[stream.s]\nfrom = \"lines\"\n{operator}\n")
}

fn chain(terms: usize, operator: &str, term: impl Fn(usize) -> String) -> String {
    (0..terms).map(term).collect::<Vec<_>>().join(&format!(" {operator} "))
}

/// Names and streams of jobs that are fine.
fn good() -> Vec<(&'static str, String)> {
    let sum = chain(200, "+", |_| "x".into());
    let any = chain(400, "or", |i| format!("x = {i}"));
    let list = chain(5_000, ",", |i| i.to_string());
    let stream = |i: usize| match i {
        0 => "[stream.s0]\nfrom = \"lines\"\nfilter = \"x > 0\"\n".to_string(),
        _ => format!("[stream.s{i}]\nfrom = \"s{}\"\nfilter = \"x > 0\"\n", i - 1),
    };
    let streams: String = (0..300).map(stream).collect();
    vec![
        ("a-sum", over_lines(&format!("select = {{ y = \"{sum}\" }}"))),
        ("any-of", over_lines(&format!("filter = \"{any}\""))),
        ("a-list", over_lines(&format!("filter = \"x in ({list})\""))),
        ("a-chain", format!("{streams}[stream.s]\nfrom = \"s299\"\ncount = true\n")),
    ]
}

/// The same of jobs that are refused, and what is said.
fn refused() -> Vec<(&'static str, String, &'static str)> {
    let sum = chain(10_000, "+", |_| "x".into());
    let all = chain(10_000, "and", |i| format!("x <> {i}"));
    let texts = chain(100_000, "||", |_| "t".into());
    let name = "n".repeat(100_000);
    let many: String = (0..2_000).map(|i| format!("[stream.s{i}]\nfrom = \"lines\"\ndistinct = true\n")).collect();
    vec![
        ("sum", over_lines(&format!("select = {{ y = \"{sum}\" }}")), "too deep"),
        ("all", over_lines(&format!("filter = \"{all}\"")), "too deep"),
        ("texts", over_lines(&format!("sql = \"select {texts} as y from lines\"")), "too deep"),
        ("nested", over_lines(&format!("filter = \"{}true\"", "not ".repeat(100_000))), "too deep"),
        ("name", over_lines(&format!("select = {{ {name} = \"x\" }}")), "this name has 100000 bytes"),
        ("many", many, "there are 2000 streams; there can be 1000"),
        ("constant", over_lines("select = { y = \"length(repeat('a', 1000000000))\" }"), "`repeat` would make"),
        ("sample", over_lines("sql = \"select x from lines tablesample bernoulli (1)\""), "`tablesample`"),
    ]
}

fn says(run: &Run, code: i32, text: &str) {
    assert_eq!(run.code, code, "{}", &run.stderr[..run.stderr.len().min(2_000)]);
    assert!(run.stderr.contains(text), "expected `{text}` in {}", &run.stderr[..run.stderr.len().min(2_000)]);
    assert!(run.stderr.len() < 20_000, "{} bytes are said", run.stderr.len());
}

fn written(folder: &Path, name: &str, text: &str) -> String {
    let file = folder.join(format!("{name}.toml"));
    std::fs::write(&file, text).expect("the definition is written");
    file.to_string_lossy().into_owned()
}

#[test]
fn a_definition_ends_its_request_and_nothing_else() {
    let cluster = Cluster::start(2);
    cluster.submit(&job("victim", "[stream.s]\nfrom = \"lines\"\nupdate_state_by_key = { key = \"t\", state = { n = \"coalesce(state.n, 0) + count(*)\" } }"));
    let at = |cluster: &Cluster| number(&cluster.status("victim"), "batch");
    let goes_on = |what: &str| {
        let batch = at(&cluster);
        cluster.wait_status("victim", what, |status| number(status, "batch") > batch && status["state"] == "RUNNING");
    };
    let workers = cluster.workers();
    let input = cluster.path("input.json");
    std::fs::write(&input, r#"{"sources": {"lines": [["1,a", "2,b"]]}}"#).expect("the input is written");
    let input = input.to_string_lossy().into_owned();
    for (name, streams, text) in refused() {
        let file = written(cluster.path("").as_path(), name, &job(name, &streams));
        says(&run(&["check", &file]), 2, text);
        says(&run(&["replay", &file, "--input", &input]), 2, text);
        says(&cluster.ask(&["submit", &file]), 2, text);
        goes_on(name);
    }
    for (name, streams) in good() {
        let file = written(cluster.path("").as_path(), name, &job(name, &streams));
        assert_eq!(run(&["check", &file]).code, 0, "{name}");
        let submitted = cluster.ask(&["submit", &file]);
        assert_eq!(submitted.code, 0, "{submitted:#?}");
        cluster.wait_status(name, "a batch", |status| number(status, "batch") > 0 && status["state"] == "RUNNING");
        assert_eq!(cluster.ask(&["stop", name, "--now"]).code, 0, "{name}");
        goes_on(name);
    }
    let ids =
        |workers: &[serde_json::Value]| workers.iter().map(|worker| number(worker, "worker_id")).collect::<Vec<_>>();
    assert_eq!(ids(&cluster.workers()), ids(&workers), "no worker was lost");
    cluster.end(&[]);
}
