//! The driver's log is damaged, cut or gone: what workers hold is not lost, and jobs go on when the log is back.

use crate::processes::{Cluster, run, wait_for};
use crate::revenue::{JOB, Producer, Revenue, number};
use std::fs;
use std::path::PathBuf;
use tidemill_common::frame::{FILE_HEADER, Step, step};

/// The newest segment of the log.
fn newest(cluster: &Cluster) -> PathBuf {
    let files = fs::read_dir(cluster.path("driver")).expect("the driver has a directory");
    let files = files.map(|entry| entry.expect("an entry").path());
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("log-")?.parse::<u64>().ok();
    files.filter_map(|path| Some((number(&path)?, path))).max().expect("there is a log").1
}

/// Puts a file in the place of the whole log.
fn put_back(cluster: &Cluster, segment: &PathBuf, bytes: &[u8]) {
    for entry in fs::read_dir(cluster.path("driver")).expect("the driver has a directory").flatten() {
        if entry.file_name().to_string_lossy().starts_with("log-") {
            fs::remove_file(entry.path()).expect("it can be removed");
        }
    }
    fs::write(segment, bytes).expect("it can be written");
}

fn kept_aside(cluster: &Cluster) -> Option<()> {
    let workers = cluster.workers();
    let keeps = |worker: &serde_json::Value| worker["aside_jobs"] == serde_json::json!([1]);
    (workers.len() == 3 && workers.iter().all(keeps)).then_some(())
}

/// Where the definition is in a log, and where its entry ends.
fn entry_with_definition(log: &[u8]) -> (usize, usize) {
    let definition = b"[stream.revenue]";
    let at = log.windows(definition.len()).position(|bytes| bytes == definition).expect("the definition is there");
    let mut end = FILE_HEADER;
    while end < at {
        match step(log, end) {
            Step::Whole { end: next, .. } => end = next,
            other => panic!("{other:?}"),
        }
    }
    (at, end)
}

#[test]
fn a_damaged_log_is_refused_repaired_on_request_and_put_back() {
    for durability in ["replicated", "disk"] {
        let mut cluster = Cluster::start(3);
        let settings = format!("durability = \"{durability}\"\ncheckpoint_interval = \"400ms\"");
        let revenue = Revenue::usual(&cluster, &settings);
        cluster.wait_status(JOB, "a checkpoint", |status| number(status, "checkpoint") > 0);
        revenue.wait_records(&cluster, 4000);
        cluster.kill_driver();

        let segment = newest(&cluster);
        let whole = fs::read(&segment).expect("the log is there");
        let mut damaged = whole.clone();
        let definition = b"[stream.revenue]";
        let at =
            whole.windows(definition.len()).position(|bytes| bytes == definition).expect("the definition is there");
        damaged[at + 3] ^= 1;
        fs::write(&segment, &damaged).expect("it can be written");
        let refused = run(&cluster.driver_options());
        assert_eq!(refused.code, 4, "{refused:#?}");
        assert!(refused.stderr.contains("is damaged at byte"), "{refused:#?}");
        assert!(refused.stderr.contains("tidemill driver --repair"), "{refused:#?}");
        assert_eq!(fs::read(&segment).expect("it is there"), damaged);

        cluster.start_driver_with(&["--repair"]);
        let said = cluster.driver_log();
        assert!(said.contains("job 1: it is not known any more"), "{said}");
        assert_eq!(cluster.ask(&["status", "--json"]).json()["jobs"], serde_json::json!([]));
        wait_for("workers to keep what they have", || kept_aside(&cluster));
        let held: u64 = cluster.workers().iter().map(|worker| number(worker, "aside_bytes")).sum();
        assert!(held > 0, "state at the least");
        let shown = cluster.ask(&["workers"]).stdout;
        assert!(shown.contains("keeps aside what it has of jobs that this driver does not know: 1;"), "{shown}");
        if durability == "disk" {
            // What is on the disk is kept by the next process too.
            cluster.kill_worker(0);
            cluster.start_worker(0);
            wait_for("the worker to find what it kept", || kept_aside(&cluster));
        }

        cluster.kill_driver();
        put_back(&cluster, &segment, &whole);
        cluster.start_driver();
        revenue.finish(&cluster);
        revenue.wait_held();
        wait_for("nothing to be kept aside", || {
            cluster.workers().iter().all(|worker| worker["aside_jobs"] == serde_json::json!([])).then_some(())
        });
        cluster.end(&["does not know", "a worker has something of jobs", "refused a worker"]);
    }
}

/// A log that lacks its second half looks like one with a torn tail; but workers have seen what came after.
#[test]
fn a_log_that_is_cut_short_stops_the_job_until_it_is_put_back() {
    let mut cluster = Cluster::start(3);
    let revenue = Revenue::usual(&cluster, "checkpoint_interval = \"400ms\"");
    cluster.wait_status(JOB, "a checkpoint", |status| number(status, "checkpoint") > 0);
    revenue.wait_records(&cluster, 4000);
    cluster.kill_driver();
    let segment = newest(&cluster);
    let whole = fs::read(&segment).expect("the log is there");
    let half = entry_with_definition(&whole).1 + 3;
    fs::write(&segment, &whole[..half]).expect("it can be written");
    cluster.start_driver();
    let failed = cluster.wait_status(JOB, "it to fail", |status| status["state"] == "FAILED");
    assert!(failed["reason"].as_str().expect("a text").contains("the driver's log has lost entries"), "{failed:#}");
    wait_for("workers to keep what they have", || kept_aside(&cluster));
    cluster.kill_driver();
    put_back(&cluster, &segment, &whole);
    cluster.start_driver();
    revenue.finish(&cluster);
    revenue.wait_held();
    cluster.end(&["does not know", "a worker has something of jobs", "the last entry of the log"]);
}

/// An empty directory is another cluster: workers wait for their own, with all they have.
#[test]
fn a_log_that_is_gone_takes_nothing_with_it() {
    let mut cluster = Cluster::start(3);
    let revenue = Revenue::usual(&cluster, "checkpoint_interval = \"400ms\"");
    revenue.wait_records(&cluster, 4000);
    cluster.kill_driver();
    let (driver, away) = (cluster.path("driver"), cluster.path("away"));
    fs::rename(&driver, &away).expect("it can be moved");
    cluster.start_driver();
    wait_for("all workers to be refused", || {
        (0..3).all(|slot| cluster.worker_log(slot).contains("another driver answers")).then_some(())
    });
    cluster.kill_driver();
    fs::remove_dir_all(&driver).expect("it can be removed");
    fs::rename(&away, &driver).expect("it can be moved back");
    cluster.start_driver();
    revenue.finish(&cluster);
    revenue.wait_held();
    cluster.end(&["another driver answers", "refused a worker"]);
}

/// The log lacks its last entries without a trace, as after a loss of power of the driver's machine alone.
#[test]
fn blocks_that_the_log_has_lost_are_reported_again() {
    let mut cluster = Cluster::start(3);
    let revenue = Revenue::start(&cluster, Producer::start(16_000, 1500.0, true), true, "block_interval = \"20ms\"");
    let mut cut = 0;
    while cut == 0 {
        let records = number(&cluster.status(JOB), "records");
        revenue.wait_records(&cluster, records + 100);
        cluster.kill_driver();
        let segment = newest(&cluster);
        let bytes = fs::read(&segment).expect("the log is there");
        // Blocks at the end: records of a job (5), of job 1, of kind 2.
        let (mut at, mut blocks_from) = (FILE_HEADER, None);
        while let Step::Whole { body, end, .. } = step(&bytes, at) {
            blocks_from = if body.starts_with(&[5, 1, 2]) { blocks_from.or(Some(at)) } else { None };
            at = end;
        }
        if let Some(from) = blocks_from {
            cut = bytes.len() - from;
            fs::write(&segment, &bytes[..from]).expect("it can be written");
        }
        cluster.start_driver();
    }
    revenue.finish(&cluster);
    revenue.wait_held();
    cluster.end(&["a receiver is ahead of the log"]);
}
