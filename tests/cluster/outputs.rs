//! Outputs while workers and the driver are killed: every row of every batch once, in order.

use crate::processes::Cluster;
use crate::revenue::number;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const ROWS: u64 = 24_000;
const JOB: &str = "outputs";

/// One stream in every kind of file.
fn submit(cluster: &Cluster) {
    cluster.submit(&format!(
        r#"
name = "{JOB}"
batch_interval = "200ms"
block_interval = "50ms"

[source.rows]
connector = "generate"
rows_per_second = 6000
limit = {ROWS}

[stream.numbers]
from = "rows"
select = {{ seq = "seq" }}

[[output]]
from = "numbers"
name = "text"
text = {{ prefix = "out/numbers", suffix = "txt" }}

[[output]]
from = "numbers"
name = "rolling"
text = {{ path = "rolling", roll = {{ bytes = "20KiB", age = "1h" }} }}

[[output]]
from = "numbers"
name = "columns"
parquet = {{ path = "columns" }}
"#
    ));
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be read").path())
        .filter(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(['.', '_'])))
        .collect();
    entries.sort_unstable();
    entries
}

fn numbers(text: &str) -> Vec<u64> {
    text.lines().map(|line| line.parse().expect("a number")).collect()
}

/// What a reader of the rolling files sees who goes by the manifest.
fn rolled(folder: &Path) -> Vec<u64> {
    let manifest: Value = serde_json::from_slice(&fs::read(folder.join("_manifest.json")).expect("a manifest"))
        .expect("a manifest is JSON");
    let files = manifest["files"].as_array().expect("a list").iter().chain([&manifest["open"]]);
    let mut seen = Vec::new();
    for file in files {
        let text = fs::read_to_string(folder.join(file["name"].as_str().expect("a name"))).expect("the file is there");
        let part = numbers(&text[..number(file, "bytes") as usize]);
        assert_eq!(part.len() as u64, number(file, "rows"), "{manifest:#}");
        seen.extend(part);
    }
    seen
}

#[test]
fn killed_while_writing() {
    let mut cluster = Cluster::start(3);
    submit(&cluster);
    let progress = |cluster: &Cluster, rows: u64| {
        cluster.wait_status(JOB, "rows", |status| number(status, "records") >= rows);
    };
    progress(&cluster, 4000);
    cluster.kill_driver();
    cluster.start_driver();
    progress(&cluster, 10_000);
    let victim = cluster.slots()[1];
    cluster.kill_worker(victim);
    progress(&cluster, 15_000);
    // A reader in the middle of it sees whole batches.
    let seen = rolled(&cluster.path("rolling"));
    assert!(seen.len() >= 15_000 || seen.len() as u64 >= number(&cluster.status(JOB), "records") / 2);
    cluster.kill_driver();
    cluster.start_driver();
    progress(&cluster, ROWS);
    let ended = cluster.ask(&["stop", JOB, "--json"]).json();
    assert_eq!(number(&ended, "received_records"), ROWS, "{ended:#}");

    let all: Vec<u64> = (0..ROWS).collect();
    let mut text = Vec::new();
    for batch in entries(&cluster.path("out")) {
        assert!(batch.extension().is_some_and(|suffix| suffix == "txt"), "{batch:?}");
        for part in entries(&batch) {
            text.extend(numbers(&fs::read_to_string(part).expect("a part")));
        }
    }
    assert_eq!(text, all, "text");
    assert_eq!(rolled(&cluster.path("rolling")), all, "rolling");
    let columns: usize = entries(&cluster.path("columns")).iter().map(|batch| entries(batch).len()).sum();
    assert_eq!(columns, entries(&cluster.path("out")).len(), "as many Parquet files as batches");
    cluster.end(&[]);
}

#[test]
fn two_jobs_cannot_share_a_directory() {
    let cluster = Cluster::start(1);
    submit(&cluster);
    let other = r#"
name = "other"
batch_interval = "1s"
[source.rows]
connector = "generate"
rows_per_second = 1
[[output]]
from = "rows"
csv = { path = "./x/../rolling" }
"#;
    let file = cluster.path("other.toml");
    fs::write(&file, other).expect("the definition is written");
    let refused = cluster.ask(&["submit", &file.to_string_lossy()]);
    assert_eq!(refused.code, 2, "{refused:#?}");
    assert!(refused.stderr.contains(&format!("job `{JOB}` writes to")), "{refused:#?}");
    cluster.end(&[]);
}
