//! The job most tests run: purchases and revenue per user, from a producer in this process that knows the truth.

use crate::processes::{Cluster, Slot, wait_for};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidemill::produce::{self, Pace, ProducerStats, PurchaseStream, PurchasesConfig, Totals, Users};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

pub(crate) const JOB: &str = "revenue";

/// A sender of purchases.
pub(crate) struct Producer {
    pub(crate) address: SocketAddr,
    pub(crate) stream: PurchaseStream,
    pub(crate) total: u64,
    pub(crate) stats: Arc<ProducerStats>,
    stop: CancellationToken,
    runtime: Option<Runtime>,
}

impl Producer {
    /// Sends `total` purchases, `rate` a second.
    pub(crate) fn start(total: u64, rate: f64, acknowledge: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = runtime.block_on(tokio::net::TcpListener::bind(any)).expect("a port");
        let address = listener.local_addr().expect("it has an address");
        let pace = Pace::PerSecond(rate);
        let config = PurchasesConfig {
            listen: address,
            pace,
            users: Users::Synthetic(100),
            seed: 7,
            total: Some(total),
            acknowledge,
        };
        let stream = config.stream();
        let (stats, stop) = (Arc::new(ProducerStats::default()), CancellationToken::new());
        runtime.spawn(produce::serve(listener, config, stats.clone(), stop.clone()));
        Self { address, stream, total, stats, stop, runtime: Some(runtime) }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The running job with its producer.
pub(crate) struct Revenue {
    pub(crate) producer: Producer,
    archive: PathBuf,
}

impl Revenue {
    /// Submits the job with some settings of its own.
    pub(crate) fn start(cluster: &Cluster, producer: Producer, acknowledge: bool, settings: &str) -> Self {
        let address = producer.address;
        cluster.submit(&format!(
            r#"
name = "{JOB}"
batch_interval = "200ms"
{settings}

[source.purchases]
connector = "socket"
address = "{address}"
acknowledge = {acknowledge}
format = "csv"
columns = {{ user = "string", product = "string", price = "double" }}

[stream.revenue]
from = "purchases"

[stream.revenue.update_state_by_key]
key = "user"
state.purchases = "coalesce(state.purchases, 0) + count(*)"
state.revenue = "coalesce(state.revenue, 0.0) + coalesce(sum(price), 0.0)"

[[output]]
from = "revenue"
print = {{ rows = 200 }}

[[output]]
from = "revenue"
name = "archive"
json = {{ path = "archive" }}
"#
        ));
        Self { producer, archive: cluster.path("archive") }
    }

    /// The usual one: some seconds of acknowledged purchases.
    pub(crate) fn usual(cluster: &Cluster, settings: &str) -> Self {
        Self::start(cluster, Producer::start(16_000, 4000.0, true), true, settings)
    }

    /// Waits until so many records are in complete batches.
    pub(crate) fn wait_records(&self, cluster: &Cluster, records: u64) -> Value {
        cluster.wait_status(JOB, &format!("{records} records"), |status| number(status, "records") >= records)
    }

    /// The slot of the worker with the receiver.
    pub(crate) fn receiver(&self, cluster: &Cluster) -> Slot {
        let running = |status: &Value| receiver(status)["worker"] != 0;
        let status = cluster.wait_status(JOB, "a receiver", running);
        cluster.slot_of(number(receiver(&status), "worker"))
    }

    /// Slots of workers without a receiver; they have state.
    pub(crate) fn others(&self, cluster: &Cluster) -> Vec<Slot> {
        let receiver = self.receiver(cluster);
        cluster.slots().into_iter().filter(|slot| *slot != receiver).collect()
    }

    /// Waits for all that is sent, stops the job, and compares it with what the producer counted.
    pub(crate) fn finish(&self, cluster: &Cluster) -> Value {
        let total = self.producer.total;
        self.wait_records(cluster, total);
        let ended = cluster.ask(&["stop", JOB, "--json"]).json();
        assert_eq!((&ended["state"], &ended["reason"]), (&"STOPPED".into(), &"".into()), "{ended:#}");
        assert_eq!(number(&ended, "records"), total);
        assert_eq!(number(&ended, "received_records"), total, "records were received twice");
        let (records, found) = self.check_archive();
        let rows: usize = batches(&self.archive).values().map(|folder| rows(folder).len()).sum();
        assert_eq!(number(&ended["outputs"][1], "rows"), rows as u64, "rows committed, and rows there");
        assert_eq!(records, total, "the newest batch of the archive");
        assert_eq!(found, self.producer.stream.totals(total));
        ended
    }

    /// Every batch has to be what the purchases up to some line add up to, and later batches go further. Gives back
    /// the newest one, and up to which line it goes.
    fn check_archive(&self) -> (u64, Totals) {
        let mut newest = (0, Totals::new());
        for (time_ms, folder) in batches(&self.archive) {
            let found = read_batch(&folder);
            let lines = found.values().map(|(purchases, _)| purchases).sum();
            assert!(lines >= newest.0, "batch {time_ms} goes back from line {} to {lines}", newest.0);
            if lines > newest.0 {
                assert_eq!(found, self.producer.stream.totals(lines), "batch {time_ms}");
            }
            assert_eq!(found.len(), self.producer.stream.totals(lines).len(), "batch {time_ms}");
            newest = (lines, found);
        }
        newest
    }

    /// Waits until the sender knows that everything is held.
    pub(crate) fn wait_held(&self) {
        let all = self.producer.total;
        wait_for("all purchases to be acknowledged", || (self.producer.stats.held() == all).then_some(()));
    }
}

/// Folders of batches by time.
pub(crate) fn batches(archive: &Path) -> BTreeMap<i64, PathBuf> {
    let entries = fs::read_dir(archive).expect("the archive is there").map(|entry| entry.expect("an entry").path());
    let time = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse().ok());
    entries.filter_map(|path| Some((time(&path)?, path))).collect()
}

/// The rows of a batch.
pub(crate) fn rows(folder: &Path) -> Vec<Value> {
    let mut rows = Vec::new();
    for entry in fs::read_dir(folder).expect("the batch is there") {
        let text = fs::read_to_string(entry.expect("an entry").path()).expect("a part");
        rows.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a JSON line")));
    }
    rows
}

fn read_batch(folder: &Path) -> Totals {
    let mut totals = Totals::new();
    for row in rows(folder) {
        let (user, total) = user(&row);
        assert!(totals.insert(user, total).is_none(), "a user is twice in {}", folder.display());
    }
    totals
}

/// User, purchases and whole cents of a row.
pub(crate) fn user(row: &Value) -> (String, (u64, u64)) {
    let cents = row["revenue"].as_f64().expect("a double") * 100.0;
    let user = row["user"].as_str().expect("a text");
    (user.to_string(), (number(row, "purchases"), cents.round() as u64))
}

/// The job's only receiver.
pub(crate) fn receiver(status: &Value) -> &Value {
    &status["sources"][0]["receivers"][0]
}

pub(crate) fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("`{name}` is no number in {value:#}"))
}

pub(crate) fn counter(status: &Value, name: &str) -> u64 {
    number(&status["counters"], name)
}
