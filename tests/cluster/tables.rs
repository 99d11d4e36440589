//! Tables whose files change while a job runs.

use crate::processes::{Cluster, wait_for};
use crate::revenue::number;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

const JOB: &str = r#"
name = "tables"
batch_interval = "200ms"

[source.rows]
connector = "generate"
rows_per_second = 200
keys = 4

[table.names]
path = "names.csv"
format = "csv"
columns = { key = "string", name = "string", number = "int" }
reload_interval = "100ms"

[stream.named]
from = ["rows", "names"]
sql = "select key, name, number from names"

[stream.totals]
from = "named"
update_state_by_key = { key = "key", state = { name = "max(name)", number = "coalesce(state.number, 0) + sum(number)" } }

[[output]]
from = "totals"
json = { path = "totals" }

[stream.keyed]
from = "rows"
select = { key = "'k'" }

[stream.joined]
from = ["keyed", "names"]
join = { on = "key" }

[[output]]
from = "joined"
json = { path = "joined" }
"#;

/// Replaces the file at once.
fn replace(file: &Path, content: &str) {
    let hidden = file.with_extension("new");
    std::fs::write(&hidden, content).expect("the file is written");
    std::fs::rename(hidden, file).expect("it gets its name");
}

/// What is in the output: the text of each batch, by time.
fn outputs(cluster: &Cluster, output: &str) -> BTreeMap<String, String> {
    let Ok(batches) = std::fs::read_dir(cluster.path(output)) else { return BTreeMap::new() };
    let batches = batches.map(|entry| entry.expect("it can be read").path());
    let text = |batch: std::path::PathBuf| {
        let text = std::fs::read_to_string(batch.join("part-00000.jsonl")).ok()?;
        Some((batch.file_name()?.to_string_lossy().into_owned(), text))
    };
    batches.filter_map(text).collect()
}

fn table(status: &Value) -> &Value {
    &status["tables"][0]
}

#[test]
fn a_table_follows_its_file_through_kills() {
    let mut cluster = Cluster::start(3);
    let file = cluster.path("names.csv");
    replace(&file, "key,name,number\nk,old,1\n");
    cluster.submit(JOB);
    let with = |cluster: &Cluster, name: &str| {
        let wanted = format!("\"{name}\"");
        wait_for(name, || {
            let outputs = outputs(cluster, "totals");
            outputs.values().any(|text| text.contains(&wanted)).then_some(outputs)
        })
    };
    with(&cluster, "old");
    replace(&file, "key,name,number\nk,new,1\n");
    with(&cluster, "new");
    let slot = cluster.slots()[0];
    cluster.kill_worker(slot);
    replace(&file, "key,name,number\nk,newer,1\n");
    let before = with(&cluster, "newer");
    cluster.kill_driver();
    // It is found when the driver is there again.
    replace(&file, "key,name,number\nk,newest,1\n");
    cluster.start_driver();
    cluster.start_worker(slot);
    let known = with(&cluster, "newest");
    for (time, text) in &before {
        assert_eq!(known.get(time), Some(text), "batch {time} has changed");
    }
    replace(&file, "key,name,number\nk,wrong,1\nk,wrong,many\n");
    let status = cluster.wait_status("tables", "the mistake", |status| table(status)["wrong"] != "");
    assert!(table(&status)["wrong"].as_str().expect("a text").contains("names.csv: line 3: "), "{status:#}");
    let at = number(&status, "batch");
    let later = cluster.wait_status("tables", "batches after it", |status| number(status, "batch") > at + 3);
    assert_eq!((&table(&later)["since"], &table(&later)["name"]), (&table(&status)["since"], &"names".into()));
    // The same content as before: nothing is wrong any more, and nothing new.
    replace(&file, "key,name,number\nk,newest,1\n");
    let fine = cluster.wait_status("tables", "a file without mistakes", |status| table(status)["wrong"] == "");
    assert_eq!(table(&fine)["since"], table(&status)["since"]);
    cluster.ask(&["stop", "tables", "--json"]).json();
    check_totals(&outputs(&cluster, "totals"), &outputs(&cluster, "joined"));
    cluster.end(&["a table keeps its content"]);
}

/// Names come one after the other, in both outputs with the same batch, and `number` has counted each batch once.
fn check_totals(totals: &BTreeMap<String, String>, joined: &BTreeMap<String, String>) {
    let rows = |text: &String| -> Vec<Value> {
        text.lines().map(|row| serde_json::from_str(row).expect("a row of JSON")).collect()
    };
    let name = |row: &Value| row["name"].as_str().expect("a text").to_owned();
    let mut names: Vec<String> = totals.values().flat_map(rows).map(|row| name(&row)).collect();
    names.dedup();
    assert_eq!(names, ["old", "new", "newer", "newest"]);
    let numbers: Vec<u64> = totals.values().flat_map(rows).map(|row| number(&row, "number")).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    assert!(joined.len() > 3, "{joined:#?}");
    for (time, text) in joined {
        let of_batch = rows(&totals[time]).iter().map(name).next();
        assert!(rows(text).iter().all(|row| Some(name(row)) == of_batch), "batch {time}");
    }
}
