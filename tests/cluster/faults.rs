//! Whatever is killed, paused or restarted: every user's count and cents are those of the producer.

use crate::processes::{Cluster, Process, Slot, wait_for};
use crate::revenue::{JOB, Revenue, counter, number, receiver, user};
use serde_json::Value;
use std::collections::BTreeMap;

/// What the sender's end of a broken connection may look like to the receiver that comes back.
const RECONNECTS: &str = "no connection to the sender";

/// The incident of a worker.
fn incident(status: &Value, worker: u64) -> &Value {
    let incidents = status["incidents"].as_array().expect("a list");
    incidents.iter().find(|incident| incident["worker"] == worker).unwrap_or_else(|| panic!("{status:#}"))
}

fn id(cluster: &Cluster, slot: Slot) -> u64 {
    number(&cluster.worker_in(slot).expect("it is live"), "worker_id")
}

#[test]
fn no_fault() {
    let cluster = Cluster::start(3);
    let revenue = Revenue::usual(&cluster, "");
    let watch = ["watch", JOB, "--json", "--driver", &cluster.url];
    let watch = Process::start(&watch, cluster.path("watch.log"));
    let ended = revenue.finish(&cluster);
    let lines: Vec<String> = watch.lines.iter().collect();
    let last: Value = serde_json::from_str(lines.last().expect("there were batches")).expect("JSON lines");
    let shown: BTreeMap<_, _> = last["rows"].as_array().expect("rows").iter().map(user).collect();
    assert_eq!(shown, revenue.producer.stream.totals(revenue.producer.total));
    let faults = ["units_recomputed", "groups_moved", "fenced", "task_failures", "steps_back", "rewinds"];
    for fault in faults.into_iter().chain(["receivers_restarted"]) {
        assert_eq!(counter(&ended, fault), 0, "{fault}: {ended:#}");
    }
    assert_eq!(counter(&ended, "blocks"), counter(&ended, "blocks_held_twice"));
    assert_eq!(counter(&ended, "workers_used"), 3);
    cluster.end(&[]);
}

#[test]
fn worker_with_the_receiver_killed() {
    let mut cluster = Cluster::start(3);
    let revenue = Revenue::usual(&cluster, "");
    revenue.wait_records(&cluster, 4000);
    let victim = revenue.receiver(&cluster);
    let worker = id(&cluster, victim);
    cluster.kill_worker(victim);
    let ended = revenue.finish(&cluster);
    let incident = incident(&ended, worker);
    assert!(number(incident, "receivers_moved") == 1 && number(incident, "groups_moved") > 0, "{ended:#}");
    assert!(counter(&ended, "receivers_restarted") >= 1, "{ended:#}");
    cluster.end(&[]);
}

#[test]
fn worker_with_state_killed() {
    let mut cluster = Cluster::start(3);
    let revenue = Revenue::usual(&cluster, "");
    revenue.wait_records(&cluster, 4000);
    let victim = revenue.others(&cluster)[0];
    let worker = id(&cluster, victim);
    cluster.kill_worker(victim);
    let ended = revenue.finish(&cluster);
    let incident = incident(&ended, worker);
    assert!(number(incident, "receivers_moved") == 0 && number(incident, "groups_moved") > 0, "{ended:#}");
    assert_eq!(counter(&ended, "receivers_restarted"), 0, "{ended:#}");
    cluster.end(&[]);
}

#[test]
fn two_workers_killed_one_after_the_other() {
    let mut cluster = Cluster::start(3);
    let revenue = Revenue::usual(&cluster, "");
    let before = revenue.wait_records(&cluster, 2000);
    let first = revenue.receiver(&cluster);
    let mut lost = vec![id(&cluster, first)];
    cluster.kill_worker(first);
    cluster.start_worker(3);
    let filled = |worker: &Value| number(worker, "followed_groups") > 0 || number(worker, "owned_groups") > 0;
    wait_for("the fresh worker to have state", || cluster.worker_in(3).filter(filled));
    let batch = number(&cluster.status(JOB), "batch").max(number(&before, "batch")) + 8;
    // Before all is held twice again the second would be one too many.
    let held_twice = |status: &Value| number(status, "copies") == 2 && number(status, "groups_to_fill") == 0;
    cluster.wait_status(JOB, "some batches", |status| number(status, "batch") >= batch && held_twice(status));
    let second = revenue.receiver(&cluster);
    lost.push(id(&cluster, second));
    cluster.kill_worker(second);
    let ended = revenue.finish(&cluster);
    lost.iter().for_each(|worker| assert!(number(incident(&ended, *worker), "groups_moved") > 0, "{ended:#}"));
    assert!(counter(&ended, "receivers_restarted") >= 2, "{ended:#}");
    cluster.end(&[]);
}

#[test]
fn paused_worker_is_fenced() {
    let cluster = Cluster::start(3);
    let revenue = Revenue::usual(&cluster, "");
    revenue.wait_records(&cluster, 4000);
    let paused = revenue.receiver(&cluster);
    let worker = id(&cluster, paused);
    cluster.pause_worker(paused);
    let noticed = |status: &Value| status["incidents"].as_array().is_some_and(|all| !all.is_empty());
    let status = cluster.wait_status(JOB, "the pause to be noticed", noticed);
    assert_eq!(incident(&status, worker)["cause"], "silent", "{status:#}");
    assert!(number(incident(&status, worker), "silent_ms") >= 1000, "{status:#}");
    revenue.wait_records(&cluster, number(&status, "records") + 1000);
    cluster.resume_worker(paused);
    let back = wait_for("the paused worker to come back", || cluster.worker_in(paused));
    assert!(number(&back, "worker_id") > worker, "it came back as if nothing had happened: {back:#}");
    let ended = revenue.finish(&cluster);
    assert!(counter(&ended, "receivers_restarted") >= 1 && counter(&ended, "groups_moved") > 0, "{ended:#}");
    cluster.end(&[RECONNECTS]);
}

#[test]
fn driver_killed_and_started_again() {
    let mut cluster = Cluster::start(3);
    let revenue = Revenue::usual(&cluster, "");
    let before = revenue.wait_records(&cluster, 4000);
    let mut workers: Vec<_> = cluster.slots().into_iter().map(|slot| id(&cluster, slot)).collect();
    cluster.kill_driver();
    cluster.start_driver();
    let after = revenue.wait_records(&cluster, number(&before, "records") + 4000);
    let reply = cluster.ask(&["status", JOB, "--json"]).json();
    assert_eq!(number(&reply, "term"), 2, "{reply:#}");
    let mut resumed: Vec<_> = cluster.slots().into_iter().map(|slot| id(&cluster, slot)).collect();
    workers.sort_unstable();
    resumed.sort_unstable();
    assert_eq!(resumed, workers, "workers did not resume");
    assert_eq!(receiver(&after)["epoch"], receiver(&before)["epoch"], "the receiver was started again");
    let ended = revenue.finish(&cluster);
    assert_eq!(counter(&ended, "receivers_restarted"), 0, "{ended:#}");
    cluster.end(&[]);
}

#[test]
fn sigterm_in_the_middle_of_it() {
    let mut cluster = Cluster::start(3);
    let revenue = Revenue::usual(&cluster, "");
    revenue.wait_records(&cluster, 2000);
    assert_eq!(cluster.terminate_worker(revenue.receiver(&cluster)), 0);
    let ended = revenue.finish(&cluster);
    assert!(counter(&ended, "groups_moved") > 0, "{ended:#}");
    cluster.end(&[]);
}

#[test]
fn sigterm_ends_everything() {
    let cluster = Cluster::start(3);
    let revenue = Revenue::usual(&cluster, "");
    revenue.wait_records(&cluster, 2000);
    cluster.end(&[]);
}

/// Owner and follower of some key groups are gone at once; what they had comes back from their disks.
#[test]
fn state_from_checkpoints() {
    let mut cluster = Cluster::start(4);
    let revenue = Revenue::usual(&cluster, "checkpoint_interval = \"2s\"");
    let others = revenue.others(&cluster);
    let victims = &others[..2];
    // Well after one checkpoint and well before the next, which is ten batches later.
    let between =
        |status: &Value| number(status, "checkpoint") > 0 && (3..=6).contains(&number(status, "replay_depth"));
    cluster.wait_status(JOB, "batches after a checkpoint", between);
    cluster.kill_workers(victims);
    victims.iter().for_each(|slot| cluster.start_worker(*slot));
    let ended = revenue.finish(&cluster);
    assert!(counter(&ended, "rewinds") >= 1 && counter(&ended, "batches_replayed") >= 3, "{ended:#}");
    assert_eq!(ended["incidents"].as_array().map(Vec::len), Some(2), "{ended:#}");
    cluster.end(&[]);
}
