//! A model learns every row once, whatever is killed meanwhile, and is served.

use crate::processes::{Cluster, wait_for};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use tidemill::produce::{self, LinearPoints, MadeConfig, Pace, ProducerStats};
use tokio_util::sync::CancellationToken;

pub(crate) const POINTS: u64 = 6000;
pub(crate) const FEATURES: usize = 5;

/// A sender of [`POINTS`] points near a line.
pub(crate) struct Sender {
    pub(crate) points: Arc<LinearPoints>,
    pub(crate) address: SocketAddr,
    runtime: tokio::runtime::Runtime,
    stop: CancellationToken,
}

impl Sender {
    pub(crate) fn start() -> Self {
        let points = Arc::new(LinearPoints::new(FEATURES, 5, 0.0, 0.0));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = runtime.block_on(tokio::net::TcpListener::bind(any)).expect("a port");
        let address = listener.local_addr().expect("it has an address");
        let config = MadeConfig { pace: Pace::PerSecond(1500.0), seed: 5, total: Some(POINTS), acknowledge: true };
        let (stats, stop) = (Arc::new(ProducerStats::default()), CancellationToken::new());
        runtime.spawn(produce::serve_lines(listener, points.clone(), config, stats, stop.clone()));
        Self { points, address, runtime, stop }
    }

    pub(crate) fn end(self) {
        self.stop.cancel();
        self.runtime.shutdown_background();
    }
}

/// One request, one answer.
pub(crate) fn http(cluster: &Cluster, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(&cluster.http).expect("the driver serves");
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).expect("it takes the request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let code = answer.split_whitespace().nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    let body = answer.split_once("\r\n\r\n").expect("a body").1;
    (code, serde_json::from_str(body).expect("JSON"))
}

/// Rows that the published model has learnt.
fn learnt(cluster: &Cluster) -> Option<u64> {
    let run = cluster.ask(&["model", "show", "line"]);
    if run.code != 0 {
        return None;
    }
    run.json()["rows"].as_u64()
}

#[test]
fn every_row_is_learnt_once_and_the_model_is_served() {
    let mut cluster = Cluster::start(3);
    let sender = Sender::start();
    let address = sender.address;
    cluster.submit(&format!(
        r#"
name = "learning"
batch_interval = "200ms"

[source.points]
connector = "socket"
address = "{address}"
acknowledge = true
format = "csv"
delimiter = "\t"
columns = {{ y = "double", x = "vector({FEATURES})" }}

[model.line]
kind = "linear_regression"
step_size = 0.2
iterations = 5
fit_intercept = true

[stream.trained]
from = "points"
train = {{ model = "line", features = "x", label = "y" }}

[stream.errors]
from = "points"
reduce = {{ mse = "avg(power(predict('line', x) - y, 2))" }}

[[output]]
from = "errors"
print = true
"#
    ));
    wait_for("a thousand rows", || learnt(&cluster).filter(|rows| *rows > 1000));
    let victim = cluster.slots()[0];
    cluster.kill_worker(victim);
    wait_for("three thousand rows", || learnt(&cluster).filter(|rows| *rows > 3000));
    let status = cluster.status("learning");
    assert!(status["incidents"].as_array().is_some_and(|incidents| !incidents.is_empty()), "{status:#}");
    cluster.kill_driver();
    cluster.start_driver();
    wait_for("all rows", || learnt(&cluster).filter(|rows| *rows >= POINTS));
    let exported = cluster.ask(&["model", "export", "line"]);
    assert_eq!(exported.code, 0, "{exported:#?}");
    let (code, served) = http(&cluster, "GET", "/models/line", "");
    let exported: Value = serde_json::from_str(&exported.stdout).expect("JSON");
    // Empty batches go on between the two, and are counted.
    assert_eq!((code, &served["state"], &served["spec"]), (200, &exported["state"], &exported["spec"]));
    assert_eq!(learnt(&cluster), Some(POINTS), "every row once");

    let (weights, intercept) = sender.points.truth(0);
    let x = vec![0.5; FEATURES];
    let truth: f64 = weights.iter().map(|w| w * 0.5).sum::<f64>() + intercept;
    let (code, answer) = http(&cluster, "POST", "/models/line/predict", &json!({ "features": x }).to_string());
    let prediction = answer["prediction"].as_f64().expect("a number");
    assert!(code == 200 && (prediction - truth).abs() < 0.1, "{answer} instead of {truth}");
    let (code, answer) = http(&cluster, "POST", "/models/line/predict", r#"{"features": [[1, 2], [3]]}"#);
    assert!(code == 400 && answer["error"].as_str().is_some_and(|e| e.contains("row 1 has 1 features")), "{answer}");
    let (code, answer) = http(&cluster, "POST", "/models/line/predict", r#"{"features": [1, 2]}"#);
    assert!(code == 400 && answer["error"].as_str().is_some_and(|e| e.contains("5 features")), "{answer}");
    let (code, answer) = http(&cluster, "GET", "/models/lin", "");
    assert!(code == 404 && answer["error"].as_str().is_some_and(|e| e.contains("line")), "{answer}");

    let stopped = cluster.ask(&["stop", "learning"]);
    assert_eq!(stopped.code, 0, "{stopped:#?}");
    sender.end();
    cluster.end(&["no connection to the sender"]);
}
