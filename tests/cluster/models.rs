//! Models go in and out of a running job: imported at a batch, named, and there again after the driver has died.

use crate::learning::{FEATURES, POINTS, Sender, http};
use crate::processes::{Cluster, Process, run, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const JOB: &str = "models";

/// `step_size` is so small that what was imported is still to be seen at the end.
fn definition(address: &str, more: &str) -> String {
    format!(
        r#"
name = "{JOB}"
batch_interval = "200ms"
checkpoint_interval = "600ms"
key_groups = 1

[source.points]
connector = "socket"
address = "{address}"
acknowledge = true
format = "csv"
delimiter = "\t"
columns = {{ y = "double", x = "vector({FEATURES})" }}

[model.line]
kind = "linear_regression"
step_size = 1e-9
iterations = 2
fit_intercept = true
keep = 1000
{more}

[model.fixed]
kind = "linear_regression"
fit_intercept = true

[stream.trained]
from = "points"
train = {{ model = "line", features = "x", label = "y" }}

[stream.asked]
from = "points"
reduce = {{ line = "avg(predict('line', x))", fixed = "avg(predict('fixed', x))", rows = "count(*)" }}

[[output]]
from = "asked"
print = true
"#
    )
}

fn model(cluster: &Cluster, command: &[&str]) -> Value {
    let run = cluster.ask(&[&["model"], command].concat());
    run.json()
}

fn rows(model: &Value) -> u64 {
    model["counters"]["rows"].as_u64().expect("a count")
}

fn intercept(model: &Value) -> f64 {
    model["state"]["linear_regression"]["intercept"].as_f64().expect("a number")
}

/// The first batch that sees an import, as the command tells it.
fn import(cluster: &Cluster, name: &str, document: &Value) -> u64 {
    let file = cluster.path(&format!("{name}.json"));
    std::fs::write(&file, document.to_string()).expect("the file is written");
    let run = cluster.ask(&["model", "import", name, &file.to_string_lossy()]);
    assert_eq!(run.code, 0, "{run:#?}");
    let batch = run.stdout.split("from batch ").nth(1).and_then(|rest| rest.split(' ').next());
    batch.and_then(|batch| batch.parse().ok()).unwrap_or_else(|| panic!("{run:#?}"))
}

/// What the batches have said so far of the two models.
fn said(watch: &Process) -> BTreeMap<u64, (f64, f64)> {
    let answers = |line: String| {
        let line: Value = serde_json::from_str(&line).expect("JSON lines");
        let row = &line["rows"].get(0)?;
        Some((line["batch"].as_u64()?, (row["line"].as_f64()?, row["fixed"].as_f64()?)))
    };
    std::iter::once(watch.said.clone()).chain(watch.lines.try_iter()).filter_map(answers).collect()
}

/// Files are there whatever was killed, the newest of them twice, and another job can begin with it.
fn check_saved(cluster: &Cluster) {
    let read = |name: &str| -> Value {
        let text = std::fs::read_to_string(cluster.path("saved").join(name)).expect("it is saved");
        serde_json::from_str(&text).expect("JSON")
    };
    let entries = std::fs::read_dir(cluster.path("saved")).expect("the directory is there");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name != "latest.json").collect();
    names.sort_unstable();
    for name in &names {
        assert!(name.starts_with("line-") && read(name)["counters"]["batches"].as_u64().is_some_and(|n| n % 2 == 0));
    }
    assert_eq!(read("latest.json"), read(names.last().expect("there are some")));
    let other = definition("127.0.0.1:9", "initial = \"saved/latest.json\"");
    let file = cluster.path("other.toml");
    std::fs::write(&file, other).expect("the definition is written");
    let checked = run(&["check", &file.to_string_lossy()]);
    assert_eq!(checked.code, 0, "{checked:#?}");
}

#[test]
fn an_imported_model_goes_on_whatever_is_killed() {
    let mut cluster = Cluster::start(3);
    let sender = Sender::start();
    let saves = "save = { path = \"saved\", every = 2 }";
    cluster.submit(&definition(&sender.address.to_string(), saves));
    let watch = ["watch", JOB, "--json", "--driver", &cluster.url];
    let watch = Process::start(&watch, cluster.path("watch.log"));
    let exported = wait_for("a thousand rows", || {
        let run = cluster.ask(&["model", "export", "line"]);
        (run.code == 0).then(|| run.json()).filter(|model| rows(model) > 1000)
    });

    let mut other = exported.clone();
    other["spec"]["step_size"] = json!(0.5);
    let (code, answer) = http(&cluster, "PUT", "/models/line", &other.to_string());
    assert!(code == 400 && answer["error"].as_str().is_some_and(|e| e.contains("`spec.step_size` is 0.5")), "{answer}");
    let (code, answer) = http(&cluster, "PUT", "/models/lime", &other.to_string());
    assert!(code == 404 && answer["error"].as_str().is_some_and(|e| e.contains("line, fixed")), "{answer}");

    let mut changed = exported.clone();
    changed["state"]["linear_regression"]["intercept"] = json!(1000.0);
    let mut seven = exported.clone();
    seven["spec"] = json!({ "kind": "linear_regression", "fit_intercept": true });
    seven["state"] = json!({ "linear_regression": { "weights": vec![0.0; FEATURES], "intercept": 7.0, "updates": 1 } });
    let seven_from = import(&cluster, "fixed", &seven);
    let from = import(&cluster, "line", &changed);
    let owner = cluster.workers().iter().find(|w| w["owned_groups"] == 1).and_then(|w| w["worker_id"].as_u64());
    cluster.kill_worker(cluster.slot_of(owner.expect("somebody owns the model")));

    cluster.wait_status(JOB, "batches with the imports", |status| status["batch"].as_u64() > Some(from + 2));
    for (batch, (line, fixed)) in said(&watch) {
        assert_eq!(
            (line > 500.0, fixed),
            (batch >= from, if batch >= seven_from { 7.0 } else { 0.0 }),
            "batch {batch}"
        );
    }
    let tagged = cluster.ask(&["model", "tag", "line", &from.to_string(), "imported"]);
    assert_eq!(tagged.code, 0, "{tagged:#?}");
    cluster.kill_driver();
    cluster.start_driver();
    let first = model(&cluster, &["show", "line"]);
    assert!(first["batch"].as_u64() >= Some(from) && first["named"]["imported"] == from, "{first:#}");

    cluster.wait_status(JOB, "all records", |status| status["records"] == POINTS);
    let last = wait_for("the last batch's model", || {
        let last = model(&cluster, &["export", "line"]);
        let before = model(&cluster, &["export", "line", "--version", &(from - 1).to_string()]);
        (rows(&last) == rows(&exported) + POINTS - rows(&before)).then_some(last)
    });
    assert!((intercept(&last) - 1000.0).abs() < 1.0, "{last:#}");
    let named = model(&cluster, &["export", "line", "--version", "imported"]);
    assert!((intercept(&named) - 1000.0).abs() < 1.0 && rows(&named) >= rows(&exported), "{named:#}");
    let (code, served) = http(&cluster, "GET", "/models/line?version=imported", "");
    assert_eq!((code, served), (200, named));

    let stopped = cluster.ask(&["stop", JOB]);
    assert_eq!(stopped.code, 0, "{stopped:#?}");
    check_saved(&cluster);
    sender.end();
    cluster.end(&["no connection to the sender"]);
}
