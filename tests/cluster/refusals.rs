//! What the command line and the driver refuse, with which exit code and which words.

use crate::processes::{Cluster, Run, run};

fn assert_refused(run: &Run, code: i32, message: &str) {
    assert_eq!(run.code, code, "{run:#?}");
    assert!(run.stderr.contains(message), "expected `{message}` in {run:#?}");
    assert!(!run.stderr.contains("panicked"), "{run:#?}");
}

#[test]
fn one_driver_per_directory_and_port() {
    let cluster = Cluster::start(0);
    let second = cluster.driver_options();
    assert_refused(&run(&second), 4, "choose another");
    let data_dir = second.last().expect("it has a data directory");
    let elsewhere = run(&["driver", "--listen", "127.0.0.1:0", "--data-dir", data_dir]);
    assert_refused(&elsewhere, 4, "is in use by another process");
    let taken = cluster.url.trim_start_matches("http://");
    let other_dir = cluster.path("other").to_string_lossy().into_owned();
    let same_port = run(&["driver", "--listen", taken, "--data-dir", &other_dir]);
    assert_refused(&same_port, 4, &format!("cannot listen on {taken}"));
    cluster.end(&[]);
}

#[test]
fn one_worker_per_directory() {
    let cluster = Cluster::start(1);
    let data_dir = cluster.path("worker-0").to_string_lossy().into_owned();
    assert_refused(&cluster.ask(&["worker", "--data-dir", &data_dir]), 4, "worker-0");
    cluster.end(&[]);
}

#[test]
fn worker_of_another_cluster() {
    let mut cluster = Cluster::start(1);
    assert_eq!(cluster.terminate_worker(0), 0);
    cluster.kill_driver();
    std::fs::remove_dir_all(cluster.path("driver")).expect("the driver has a directory");
    cluster.start_driver();
    let data_dir = cluster.path("worker-0").to_string_lossy().into_owned();
    let refused = cluster.ask(&["worker", "--data-dir", &data_dir]);
    assert_refused(&refused, 4, "the worker has joined cluster");
    assert!(refused.stderr.contains("--data-dir"), "{refused:#?}");
    cluster.end(&["refused a worker"]);
}

#[test]
fn wrong_definition() {
    let cluster = Cluster::start(1);
    let job = cluster.path("wrong.toml");
    let text = "name = \"wrong\"\nbatch_intervall = \"1s\"\n\n[source.lines]\nconnector = \"socket\"\naddress = \"127.0.0.1:1\"\n\n[[output]]\nfrom = \"lines\"\nprint = true\n";
    std::fs::write(&job, text).expect("the definition is written");
    let refused = cluster.ask(&["submit", &job.to_string_lossy()]);
    assert_refused(&refused, 2, "wrong.toml:2:1");
    assert!(refused.stderr.contains("^^^") && refused.stderr.contains("`batch_interval`"), "{refused:#?}");
    assert_eq!(cluster.ask(&["status", "--json"]).json()["jobs"], serde_json::json!([]));
    cluster.end(&[]);
}

#[test]
fn unknown_job() {
    let cluster = Cluster::start(0);
    for command in ["status", "stop", "watch"] {
        let refused = cluster.ask(&[command, "nobody"]);
        assert_refused(&refused, 2, "`nobody`");
    }
    cluster.end(&[]);
}

#[test]
fn nobody_there() {
    // Port 1 of the loopback interface is nobody's.
    let refused = run(&["status", "--driver", "http://127.0.0.1:1"]);
    assert_refused(&refused, 4, "no driver answers at http://127.0.0.1:1");
    let refused = run(&["status", "--driver", "not a url"]);
    assert_refused(&refused, 2, "write http://host:port");
}
