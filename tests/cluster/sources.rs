//! Sources other than the acknowledged one, and records that cannot be read.

use crate::processes::{Cluster, Process};
use crate::revenue::{Producer, Revenue, batches, counter, number, receiver, rows};
use serde_json::Value;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

#[test]
fn plain_socket() {
    let cluster = Cluster::start(2);
    let producer = Producer::start(6000, 4000.0, false);
    let revenue = Revenue::start(&cluster, producer, false, "");
    let ended = revenue.finish(&cluster);
    assert_eq!(counter(&ended, "blocks"), counter(&ended, "blocks_held_twice"));
    assert_eq!((number(receiver(&ended), "reconnects"), number(receiver(&ended), "discarded")), (0, 0));
    cluster.end(&[]);
}

#[test]
fn generated_rows_up_to_a_limit() {
    let cluster = Cluster::start(2);
    cluster.submit(
        r#"
name = "generate"
batch_interval = "200ms"

[source.rows]
connector = "generate"
rows_per_second = 20_000
keys = 20
limit = 10_001
receivers = 3

[stream.totals]
from = "rows"
update_state_by_key = { key = "key", state = { rows = "coalesce(state.rows, 0) + count(*)" } }

[[output]]
from = "totals"
json = { path = "totals" }
"#,
    );
    let finished = |status: &Value| {
        let receivers = status["sources"][0]["receivers"].as_array().expect("a list");
        receivers.len() == 3 && receivers.iter().all(|receiver| receiver["state"] == "finished")
    };
    let over =
        cluster.wait_status("generate", "all rows", |status| finished(status) && number(status, "records") == 10_001);
    assert_eq!(number(&over, "received_records"), 10_001);
    let ended = cluster.ask(&["stop", "generate", "--json"]).json();
    assert_eq!((&ended["state"], number(&ended, "records")), (&"STOPPED".into(), 10_001));
    let batches = batches(&cluster.path("totals"));
    let newest = rows(batches.last_key_value().expect("there were batches").1);
    assert_eq!(newest.len(), 20);
    assert_eq!(newest.iter().map(|row| number(row, "rows")).sum::<u64>(), 10_001);
    cluster.end(&[]);
}

const LINES: &str = "ana,1.5\nbob,cheap\nana,2\nbob\ncid,3.25\n";

/// A job over five lines, two of them bad, from `tidemill produce file`.
fn with_bad_records(cluster: &Cluster, on_bad_record: &str) -> Process {
    let file = cluster.path("lines.csv");
    std::fs::write(&file, LINES).expect("the file is written");
    let produce = ["produce", "file", &file.to_string_lossy(), "--port", "0"];
    let producer = Process::start(&produce, cluster.path("producer.log"));
    let address = producer.said.split_whitespace().last().expect("it says where it listens");
    cluster.submit(&format!(
        r#"
name = "prices"
batch_interval = "200ms"

[source.prices]
connector = "socket"
address = "{address}"
acknowledge = true
format = "csv"
columns = {{ user = "string", price = "double" }}
on_bad_record = "{on_bad_record}"

[stream.totals]
from = "prices"
update_state_by_key = {{ key = "user", state = {{ total = "coalesce(state.total, 0.0) + coalesce(sum(price), 0.0)" }} }}

[[output]]
from = "totals"
json = {{ path = "totals" }}
"#
    ));
    producer
}

#[test]
fn bad_records_are_counted_and_sampled() {
    let cluster = Cluster::start(2);
    let producer = with_bad_records(&cluster, "skip");
    cluster.wait_status("prices", "the bad records", |status| number(status, "bad_records") == 2);
    let ended = cluster.ask(&["stop", "prices", "--json"]).json();
    assert_eq!(number(&ended, "received_records"), 5);
    let samples = ended["bad_samples"].as_array().expect("a list");
    let sample = |number: usize| (samples[number]["offset"].as_u64(), samples[number]["text"].as_str());
    assert_eq!(samples.len(), 2, "{ended:#}");
    assert_eq!((sample(0), sample(1)), ((Some(1), Some("bob,cheap")), (Some(3), Some("bob"))));
    assert!(samples.iter().all(|sample| sample["source"] == "prices" && sample["reason"] != ""), "{ended:#}");
    let batches = batches(&cluster.path("totals"));
    let mut newest = rows(batches.last_key_value().expect("there were batches").1);
    newest.sort_by_key(|row| row["user"].to_string());
    assert_eq!(
        newest,
        [serde_json::json!({"user": "ana", "total": 3.5}), serde_json::json!({"user": "cid", "total": 3.25})]
    );
    assert_eq!(producer.terminate(), 0);
    cluster.end(&[]);
}

#[test]
fn a_bad_record_fails_the_job_that_wants_it() {
    let cluster = Cluster::start(2);
    let _producer = with_bad_records(&cluster, "fail");
    let failed = cluster.wait_status("prices", "the failure", |status| status["state"] == "FAILED");
    let reason = failed["reason"].as_str().expect("a text");
    for part in ["record 1 of source `prices`", "bob,cheap", "on_bad_record = \"fail\""] {
        assert!(reason.contains(part), "no `{part}` in {reason}");
    }
    let stop = cluster.ask(&["stop", "prices"]);
    assert_eq!(stop.code, 2, "{stop:#?}");
    assert!(stop.stderr.contains("job `prices` has ended already"), "{stop:#?}");
    cluster.end(&[]);
}

/// Files that appear while workers and the driver are killed: each line once, in order of the files.
#[test]
fn files_through_kills() {
    let mut cluster = Cluster::start(3);
    let folder = cluster.path("in");
    std::fs::create_dir(&folder).expect("the folder is made");
    cluster.submit(
        r#"
name = "files"
batch_interval = "200ms"
block_interval = "50ms"
block_bytes = "1KiB"

[source.lines]
connector = "files"
path = "in"
pattern = "*.txt"
poll_interval = "20ms"

[[output]]
from = "lines"
text = { path = "out", roll = true }
"#,
    );
    let mut written = String::new();
    let mut next_file = |number: u64| {
        let text: String = (0..500).map(|line| format!("{number}-{line}\n")).collect();
        // Under a hidden name first, so that it appears whole.
        let hidden = folder.join(format!("_{number:05}.txt"));
        std::fs::write(&hidden, &text).expect("the file is written");
        std::fs::rename(hidden, folder.join(format!("{number:05}.txt"))).expect("it gets its name");
        written += &text;
        std::thread::sleep(std::time::Duration::from_millis(40));
    };
    let records = |cluster: &Cluster, count: u64| {
        cluster.wait_status("files", "lines", |status| number(status, "received_records") >= count)
    };
    (0..10).for_each(&mut next_file);
    let status = records(&cluster, 1000);
    let worker = number(receiver(&status), "worker");
    cluster.kill_worker(cluster.slot_of(worker));
    (10..20).for_each(&mut next_file);
    records(&cluster, 5000);
    cluster.kill_driver();
    (20..30).for_each(&mut next_file);
    cluster.start_driver();
    records(&cluster, 11_000);
    cluster.kill_driver();
    let slots = cluster.slots();
    cluster.start_driver();
    cluster.kill_worker(slots[0]);
    (30..40).for_each(&mut next_file);
    let all = cluster.wait_status("files", "all lines", |status| number(status, "records") == 20_000);
    assert_eq!(number(receiver(&all), "bad_files"), 0, "{all:#}");
    cluster.ask(&["stop", "files", "--json"]).json();
    assert_eq!(std::fs::read_to_string(cluster.path("out/part-00000000")).expect("the lines"), written);
    cluster.end(&[]);
}

/// The queue of `tests/vectors`, live: Spark's `queueStream`.
#[test]
fn a_queue_gives_one_entry_per_batch() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/dstream");
    let read = |name: &str| std::fs::read_to_string(vectors.join(name)).expect("the vectors are there");
    let expected = read("queue.expect.jsonl");
    let expected = expected.lines().map(|line| {
        let batch: Value = serde_json::from_str(line).expect("JSON lines");
        let values = batch["rows"].as_array().expect("rows").iter().map(|row| row["value"].as_str().expect("text"));
        values.map(|value| format!("{value}\n")).collect::<String>()
    });
    let cluster = Cluster::start(2);
    cluster.submit(&read("queue.toml"));
    cluster.wait_status("queue", "all entries", |status| number(status, "records") == 5);
    cluster.ask(&["stop", "queue", "--json"]).json();
    let parts = batches(&cluster.path("out")).into_values().map(|batch| batch.join("part-00000"));
    let found: Vec<_> = parts.map(|part| std::fs::read_to_string(part).expect("lines of text")).collect();
    assert_eq!(found, expected.collect::<Vec<_>>());
    cluster.end(&[]);
}

/// A job over a plain sender that writes as fast as it can; keys of the job, and of the source.
fn over_fast_sender(cluster: &Cluster, of_job: &str, of_source: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    std::thread::spawn(move || {
        let (mut receiver, _) = listener.accept().expect("the receiver connects");
        // The receiver is gone when the job is stopped.
        while receiver.write_all(b"a line of a fast sender\n").is_ok() {}
    });
    cluster.submit(&format!(
        r#"
name = "bounded"
batch_interval = "200ms"
{of_job}

[source.lines]
connector = "socket"
address = "{address}"
{of_source}

[[output]]
from = "lines"
print = true
"#
    ));
}

#[test]
fn a_fast_sender_is_slowed_down_to_max_rate() {
    let cluster = Cluster::start(2);
    over_fast_sender(&cluster, "", "max_rate = 1000");
    let begun = cluster.wait_status("bounded", "the first lines at this rate", |status| {
        number(status, "received_records") > 0 && receiver(status)["rate"] == 1000.0
    });
    let (at_first, start) = (number(&begun, "received_records"), Instant::now());
    std::thread::sleep(Duration::from_secs(3));
    let received = number(&cluster.status("bounded"), "received_records") - at_first;
    let seconds = start.elapsed().as_secs_f64();
    assert!((2_000..5_000).contains(&received) || seconds > 4.0, "{received} records in {seconds} s");
    let ended = cluster.ask(&["stop", "bounded", "--json"]).json();
    assert_eq!(number(&ended, "received_records"), number(&ended, "records"), "{ended:#}");
    cluster.end(&[]);
}

#[test]
fn the_rate_follows_the_batches() {
    let cluster = Cluster::start(2);
    over_fast_sender(&cluster, "backpressure = { initial_rate = 1000, min_rate = 10 }", "");
    let rate = |status: &Value| receiver(status)["rate"].as_f64().expect("a number");
    let begun = cluster.wait_status("bounded", "the first rate", |status| rate(status) > 0.0);
    let changed = cluster.wait_status("bounded", "another rate", |status| ![0.0, 1000.0].contains(&rate(status)));
    assert!(rate(&changed) >= 10.0, "{begun:#}, then {changed:#}");
    let ended = cluster.ask(&["stop", "bounded", "--json"]).json();
    assert_eq!(number(&ended, "received_records"), number(&ended, "records"), "{ended:#}");
    cluster.end(&[]);
}
