//! What driver and workers say at `/metrics`, while a worker is killed.

use crate::processes::{Cluster, wait_for};
use crate::revenue::{JOB, Revenue, number};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use tidemill_proto::common::{BlockRef, ErrorKind};
use tidemill_proto::data::{Caller, GetBlockRequest, data_client::DataClient};
use tidemill_proto::error_kind;

/// By name with labels.
type Page = BTreeMap<String, f64>;

fn scrape(address: &str) -> Page {
    let mut stream = TcpStream::connect(address).expect("it serves");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("it takes the request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let samples = body.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        (name.to_string(), value.parse().expect("a number"))
    };
    samples.map(sample).collect()
}

/// The sum of all sets of labels.
fn sum(page: &Page, name: &str) -> f64 {
    let of_name = page.iter().filter(|(series, _)| series.split('{').next() == Some(name));
    of_name.map(|(_, value)| value).sum()
}

/// Asks a worker for a block, as a worker of another cluster would.
fn ask_as_stranger(worker: &str) -> Option<ErrorKind> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let caller = Some(Caller { cluster_id: "another".into(), worker_id: 1 });
    let request = GetBlockRequest { caller, block: Some(BlockRef::default()) };
    let answer = runtime.block_on(async {
        let mut client = DataClient::connect(format!("http://{worker}")).await.expect("it listens");
        client.get_block(request).await
    });
    error_kind(&answer.expect_err("it refuses"))
}

#[test]
fn metrics_move_while_a_worker_is_killed() {
    let mut cluster = Cluster::start(0);
    let addresses: Vec<String> = (0..3).map(|slot| cluster.start_worker_with_http(slot)).collect();
    let revenue = Revenue::usual(&cluster, "checkpoint_interval = \"1s\"");
    revenue.wait_records(&cluster, 2000);
    let driver = cluster.http.clone();
    let receiver = revenue.receiver(&cluster);

    let before = scrape(&driver);
    assert_eq!((sum(&before, "tidemill_workers"), sum(&before, "tidemill_incidents_total")), (3.0, 0.0), "{before:#?}");
    assert_eq!(before["tidemill_jobs{state=\"RUNNING\"}"], 1.0);
    for name in [
        "tidemill_batches_total",
        "tidemill_batch_duration_seconds_count",
        "tidemill_batch_scheduling_delay_seconds_count",
        "tidemill_records_total",
        "tidemill_received_bytes_total",
        "tidemill_output_rows_total",
        "tidemill_commit_duration_seconds_count",
        "tidemill_log_records_total",
        "tidemill_log_append_duration_seconds_count",
        "tidemill_state_keys",
        "process_resident_memory_bytes",
    ] {
        assert!(sum(&before, name) > 0.0, "{name}: {before:#?}");
    }
    assert!(!before.contains_key("tidemill_blocks_sealed_total"), "that is of workers");

    let sealing = scrape(&addresses[receiver]);
    for name in [
        "tidemill_blocks_sealed_total",
        "tidemill_sealed_bytes_total",
        "tidemill_block_copies_total",
        "tidemill_blocks",
        "tidemill_task_duration_seconds_count",
        "process_resident_memory_bytes",
    ] {
        assert!(sum(&sealing, name) > 0.0, "{name}: {sealing:#?}");
    }
    assert!(!sealing.contains_key("tidemill_workers"), "that is of the driver");

    assert_eq!(sum(&sealing, "tidemill_fenced_requests_total"), 0.0);
    let data = cluster.worker_in(receiver).expect("it is live")["address"].clone();
    assert_eq!(ask_as_stranger(data.as_str().expect("an address")), Some(ErrorKind::ErrorWrongCluster));
    assert_eq!(sum(&scrape(&addresses[receiver]), "tidemill_fenced_requests_total"), 1.0);

    let victim = revenue.others(&cluster)[0];
    cluster.kill_worker(victim);
    let after = wait_for("the recovery", || {
        let page = scrape(&driver);
        (sum(&page, "tidemill_recovery_duration_seconds_count") > 0.0).then_some(page)
    });
    assert_eq!((sum(&after, "tidemill_workers"), sum(&after, "tidemill_workers_lost_total")), (2.0, 1.0), "{after:#?}");
    assert_eq!(sum(&after, "tidemill_incidents_total"), 1.0);
    assert!(sum(&after, "tidemill_batches_total") > sum(&before, "tidemill_batches_total"));
    let later = scrape(&addresses[receiver]);
    assert!(
        sum(&later, "tidemill_task_duration_seconds_count") > sum(&sealing, "tidemill_task_duration_seconds_count")
    );

    let ended = revenue.finish(&cluster);
    let last = scrape(&driver);
    let records = number(&ended, "records") as f64;
    assert_eq!(
        (sum(&last, "tidemill_records_total"), sum(&last, "tidemill_received_records_total")),
        (records, records)
    );
    assert!(sum(&last, "tidemill_checkpoint_duration_seconds_count") > 0.0, "{last:#?}");
    let job = format!("{{job=\"{JOB}\"}}");
    assert!(after.contains_key(&format!("tidemill_state_keys{job}")), "{after:#?}");
    assert!(!last.contains_key(&format!("tidemill_state_keys{job}")), "the job has ended: {last:#?}");
    assert_eq!(last["tidemill_jobs{state=\"STOPPED\"}"], 1.0);
    cluster.end(&[]);
}
