//! Programs with functions of their own: what is refused where one is missing, and kills of workers that run a receiver or
//! an output in Rust.

use crate::processes::{Cluster, Slot, example, own_functions, plain, run_with, wait_for};
use crate::revenue::{number, receiver};
use std::collections::BTreeMap;
use std::fs;

/// Readings as they come, and their means for `for_each_batch`.
const JOB: &str = r#"
name = "own"
batch_interval = "200ms"
block_interval = "50ms"

[source.temperatures]
connector = "receiver"
function = "thermometers"
options = { rooms = "3" }
format = "csv"
columns = { room = "string", celsius = "double" }

[stream.readings]
from = "temperatures"
select = { line = "room || ' ' || cast(celsius as string)" }

[stream.per_room]
from = "temperatures"
reduce_by_key = { key = "room", aggregates = { readings = "count(*)", mean = "fahrenheit(trimmed_mean(celsius))" } }

[stream.so_far]
from = "temperatures"
update_state_by_key = { key = "room", state = { mean = "coalesce(state.mean, 0.0) + count(*)" } }

[[output]]
from = "readings"
text = { path = "readings", roll = true }

[[output]]
from = "per_room"
print = true

[[output]]
from = "so_far"
for_each_batch = "console"
"#;

fn write_job(cluster: &Cluster) -> String {
    let file = cluster.path("own.toml");
    fs::write(&file, JOB).expect("the definition is written");
    file.to_string_lossy().into_owned()
}

#[test]
fn a_worker_that_lacks_functions_has_the_job_refused() {
    let mut cluster = Cluster::of(own_functions(), 1);
    cluster.start_worker_of(&plain(), 1);
    let stranger = number(&cluster.worker_in(1).expect("it is there"), "worker_id");
    let job = write_job(&cluster);
    let refused = cluster.ask(&["submit", &job]);
    assert_eq!(refused.code, 2, "{refused:#?}");
    for (kind, name) in [("scalar", "fahrenheit"), ("aggregate", "trimmed_mean"), ("receiver", "thermometers")] {
        let missing = format!("worker {stranger}: {kind} `{name}`");
        assert!(refused.stderr.contains(&missing), "no `{missing}` in {refused:#?}");
    }
    assert!(refused.stderr.contains("start the driver and all workers from the same program"), "{refused:#?}");
    // Without it, the job runs; one that joins later is left out, and told why.
    assert_eq!(cluster.terminate_worker(1), 0);
    wait_for("the worker to be gone", || (cluster.workers().len() == 1).then_some(()));
    cluster.submit(JOB);
    cluster.start_worker_of(&plain(), 1);
    wait_for("the refusal", || {
        let log = fs::read_to_string(cluster.path("driver.log")).ok()?;
        log.lines().find(|line| line.contains("a worker cannot run the job")).map(str::to_string)
    });
    let before = number(&cluster.status("own"), "records");
    let status = cluster.wait_status("own", "records", |status| number(status, "records") >= before + 10);
    assert_eq!((status["state"].as_str(), number(&status, "copies")), (Some("DEGRADED"), 1), "{status:#}");
    cluster.ask(&["stop", "own", "--json"]).json();
    cluster.end(&["a worker cannot run the job"]);
}

#[test]
fn a_driver_that_lacks_functions_refuses_the_job() {
    let mut cluster = Cluster::start(0);
    cluster.start_worker_of(&own_functions(), 0);
    let job = write_job(&cluster);
    let refused = cluster.ask_as(&own_functions(), &["submit", &job]);
    assert_eq!(refused.code, 2, "{refused:#?}");
    assert!(refused.stderr.contains("thermometers"), "{refused:#?}");
    cluster.end(&[]);
}

/// The reading of this number, as the example makes it.
fn reading(number: u64) -> String {
    let tenths = 180 + number * 7 % 40;
    format!("room-{} {}.{}", number % 3, tenths / 10, tenths % 10)
}

/// What workers print, by batch: the lines of each attempt.
#[derive(Default)]
struct Console(BTreeMap<u64, BTreeMap<u64, Vec<String>>>);

impl Console {
    /// Adds lines such as `batch 3 attempt 7: room-1 Some(12.0)`; true if there are any.
    fn hear(&mut self, lines: Vec<String>) -> bool {
        let heard = !lines.is_empty();
        for line in lines {
            let (head, row) = line.split_once(": ").expect("a row");
            let mut words = head.split(' ').filter_map(|word| word.parse::<u64>().ok());
            let (batch, attempt) = (words.next().expect("a batch"), words.next().expect("an attempt"));
            self.0.entry(batch).or_default().entry(attempt).or_default().push(row.to_string());
        }
        heard
    }
}

/// A worker that runs the receiver is killed, and one that runs the output: each reading is there once, each batch at least once.
#[test]
fn kills_under_a_receiver_and_an_output_in_rust() {
    let mut cluster = Cluster::of(own_functions(), 3);
    cluster.submit(JOB);
    let mut console = Console::default();
    let records =
        |cluster: &Cluster, count| cluster.wait_status("own", "readings", |status| number(status, "records") >= count);
    let status = records(&cluster, 10);
    let reads = cluster.slot_of(number(receiver(&status), "worker"));
    console.hear(cluster.kill_and_hear(reads));
    records(&cluster, 25);
    // Which one runs the output is seen by what it says.
    let slots: Vec<Slot> = cluster.slots();
    let says = wait_for("a worker that runs the output", || {
        slots.iter().copied().find(|slot| console.hear(cluster.said(*slot)))
    });
    console.hear(cluster.kill_and_hear(says));
    cluster.start_worker(reads);
    records(&cluster, 45);
    let ended = cluster.ask(&["stop", "own", "--json"]).json();
    let received = number(&ended, "received_records");
    assert_eq!((number(&ended, "records"), number(&ended, "bad_records")), (received, 0), "{ended:#}");
    let expected: String = (0..received).map(|number| reading(number) + "\n").collect();
    let readings = fs::read_to_string(cluster.path("readings/part-00000000")).expect("the readings");
    assert_eq!(readings, expected);

    let last = number(&ended, "batch");
    wait_for("the last batch on the console", || {
        for slot in cluster.slots() {
            console.hear(cluster.said(slot));
        }
        console.0.get(&last)?.values().any(|rows| rows.len() == 3).then_some(())
    });
    let first = *console.0.keys().next().expect("there were batches");
    for batch in first..=last {
        let attempts = console.0.get(&batch).unwrap_or_else(|| panic!("batch {batch} was not seen"));
        // One that was cut short by the kill may have said less.
        let longest = attempts.values().max_by_key(|rows| rows.len()).expect("an attempt");
        assert!(attempts.values().all(|rows| longest.starts_with(rows)), "batch {batch}: {attempts:?}");
    }
    cluster.end(&["a batch could not", "unavailable", "cannot reach"]);
}

/// A kind of source that only this program knows: its keys are checked, and its records come once although its worker is killed.
#[test]
fn a_source_of_another_program() {
    let mut cluster = Cluster::of(example("own_source"), 3);
    let job = r#"
name = "ticks"
batch_interval = "200ms"

[source.clock]
connector = "ticks"
every = "20ms"

[[output]]
from = "clock"
csv = { path = "ticks", roll = true }
"#;
    let file = cluster.path("ticks.toml");
    fs::write(&file, job.replace("20ms\"", "often\"")).expect("the definition is written");
    let path = file.to_string_lossy().into_owned();
    let wrong = run_with(&example("own_source"), &["check", &path]);
    assert!(wrong.code == 2 && wrong.stderr.contains("ticks.toml:7"), "{wrong:#?}");
    let unknown = run_with(&plain(), &["check", &path]);
    assert!(unknown.code == 2 && unknown.stderr.contains("`ticks` is not among the choices"), "{unknown:#?}");

    cluster.submit(job);
    let records =
        |cluster: &Cluster, count| cluster.wait_status("ticks", "records", |status| number(status, "records") >= count);
    let status = records(&cluster, 20);
    let reads = cluster.slot_of(number(receiver(&status), "worker"));
    cluster.kill_and_hear(reads);
    records(&cluster, 60);
    let ended = cluster.ask(&["stop", "ticks", "--json"]).json();
    let received = number(&ended, "received_records");
    let ticks = fs::read_to_string(cluster.path("ticks/part-00000000.csv")).expect("the ticks");
    let expected: String = (0..received).map(|tick| format!("{tick}\n")).collect();
    assert_eq!(ticks, format!("tick\n{expected}"));
    cluster.end(&["a batch could not", "unavailable", "cannot reach"]);
}

/// A kind of sink that only this program knows: its keys are checked, and each row is there once although the driver is killed
/// between a commit and its log.
#[test]
fn a_sink_of_another_program() {
    let mut cluster = Cluster::of(example("own_sink"), 2);
    let job = r#"
name = "ledger"
batch_interval = "50ms"

[source.rows]
connector = "generate"
rows_per_second = 2000
keys = 5
seed = 1

[stream.counts]
from = "rows"
reduce_by_key = { key = "key", aggregates = { rows = "count(*)" } }

[[output]]
from = "counts"
ledger = { path = "ledger.txt" }
"#;
    let file = cluster.path("ledger.toml");
    fs::write(&file, job.replace("path =", "pat =")).expect("the definition is written");
    let path = file.to_string_lossy().into_owned();
    let wrong = run_with(&example("own_sink"), &["check", &path]);
    assert!(wrong.code == 2 && wrong.stderr.contains("did you mean `path`?"), "{wrong:#?}");
    let unknown = run_with(&plain(), &["check", &path]);
    assert!(unknown.code == 2 && unknown.stderr.contains("`ledger`"), "{unknown:#?}");

    cluster.submit(job);
    let batches =
        |cluster: &Cluster, count| cluster.wait_status("ledger", "batches", |status| number(status, "batch") >= count);
    let mut reached = 0;
    for _ in 0..4 {
        reached = number(&batches(&cluster, reached + 4), "batch");
        cluster.kill_driver();
        cluster.start_driver();
    }
    batches(&cluster, reached + 4);
    let ended = cluster.ask(&["stop", "ledger", "--json"]).json();
    assert_eq!(ended["outputs"][0]["delivery"], "exactly once", "{ended:#}");
    let ledger = fs::read_to_string(cluster.path("ledger.txt")).expect("the ledger");
    let (markers, rows): (Vec<&str>, Vec<&str>) = ledger.lines().partition(|line| line.starts_with("# "));
    let counts = rows.iter().map(|row| number(&serde_json::from_str(row).expect("a row"), "rows"));
    assert_eq!(counts.sum::<u64>(), number(&ended, "records"), "{ended:#}");
    let distinct: std::collections::BTreeSet<&str> = markers.iter().copied().collect();
    assert_eq!(distinct.len(), markers.len(), "{markers:?}");
    assert!(markers.iter().all(|marker| marker.ends_with("-counts")), "{markers:?}");
    cluster.end(&["a batch could not", "unavailable", "cannot reach", "the driver"]);
}
