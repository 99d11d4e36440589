//! The driver answers for models of every kind, champions that nothing trains included, and still does after it has died.

use crate::learning::http;
use crate::processes::{Cluster, wait_for};
use serde_json::{Value, json};

const JOB: &str = r#"
name = "serving"
batch_interval = "200ms"

[source.sales]
connector = "queue"
batches = [["1,1,2,red", "2,3,6,blue"], ["3,2,4,green", "4,5,10,red"]]
repeat = true
format = "csv"
columns = { id = "bigint", weight = "double", paid = "double", colour = "string" }

[model.scaled]
kind = "standard_scaler"
keep = 1000

[model.bounded]
kind = "min_max_scaler"

[model.filled]
kind = "imputer"

[model.colours]
kind = "one_hot"
max_categories = 3

[model.page]
kind = "ucb1"
arms = ["short", "long"]

[model.offer]
kind = "lin_ucb"
arms = ["small", "large"]

[model.nothing]
kind = "linear_regression"

[model.fixed]
kind = "linear_regression"
initial = "fixed.json"

[stream.scaled]
from = "sales"
train = { model = "scaled", features = "weight" }

[stream.bounded]
from = "sales"
train = { model = "bounded", features = "weight" }

[stream.filled]
from = "sales"
train = { model = "filled", features = "weight" }

[stream.colours]
from = "sales"
train = { model = "colours", features = "colour" }

[stream.shown]
from = "sales"
select = { weight = "weight", paid = "paid", page = "choose_arm('page', id)", offer = "choose_arm('offer', id, weight)" }

[stream.page]
from = "shown"
train = { model = "page", arm = "page", label = "case page when 'long' then 1 else 0 end" }

[stream.offer]
from = "shown"
train = { model = "offer", arm = "offer", label = "case offer when 'large' then paid else 1 end", features = "weight" }

[stream.judged]
from = "sales"
select = { nothing = "abs(predict('nothing', weight) - paid)", fixed = "abs(predict('fixed', weight) - paid)" }

[stream.chosen]
from = "judged"
choose = { losses = { nothing = "nothing", fixed = "fixed" }, window = 3, publish = "best" }

[[output]]
from = "chosen"
print = true
"#;

/// What a model says; the request has to be fine.
fn says(cluster: &Cluster, model: &str, body: &Value) -> Value {
    let (code, answer) = http(cluster, "POST", &format!("/models/{model}/predict"), &body.to_string());
    assert_eq!(code, 200, "{model}: {answer}");
    answer
}

/// What `best` says of a weight of 10, once there is one.
fn best(cluster: &Cluster) -> Option<f64> {
    let (code, answer) = http(cluster, "POST", "/models/best/predict", r#"{"features": [10]}"#);
    (code == 200).then(|| answer["prediction"].as_f64().expect("a number"))
}

fn versions(shown: &Value) -> Vec<Value> {
    shown["versions"].as_array().expect("a list").clone()
}

fn check_answers(cluster: &Cluster) {
    let numbers = |model: &str, body: Value| {
        let transformed = says(cluster, model, &body)["transformed"].clone();
        let values = transformed.as_array().expect("a vector").iter().map(|value| value.as_f64().expect("a number"));
        values.collect::<Vec<_>>()
    };
    assert_eq!(numbers("bounded", json!({ "features": [5] })), [1.0]);
    assert!(numbers("scaled", json!({ "features": [5] }))[0] > 1.0);
    // The mean of all weights, or of those of the first batch once more than of the second one.
    let mean = numbers("filled", json!({ "features": [null] }))[0];
    assert!((2.5..=2.75).contains(&mean), "{mean}");
    assert_eq!(numbers("colours", json!({ "features": ["blue"] })), [0.0, 1.0, 0.0]);
    let arms = says(cluster, "page", &json!({ "id": [1, 2, 3] }));
    assert!(
        arms["arm"].as_array().is_some_and(|arms| arms.iter().all(|arm| arm == "short" || arm == "long")),
        "{arms}"
    );
    assert_eq!(says(cluster, "offer", &json!({ "id": 1, "features": [5] }))["arm"], "large");
    for model in ["scaled", "bounded", "filled", "colours", "page", "offer", "best"] {
        let (code, served) = http(cluster, "GET", &format!("/models/{model}"), "");
        assert!(code == 200 && served["format"] == "tidemill-model" && !served["state"].is_null(), "{model}: {served}");
    }
    for (model, body, why) in [
        ("scaled", json!({ "features": [1, 2] }), "the model has 1 features, the rows have 2"),
        ("colours", json!({ "features": ["red", "red"] }), "the model has 1 features, the rows have 2"),
        ("offer", json!({ "id": 1, "features": [1, 2] }), "the model has 1 features, the rows have 2"),
        ("page", json!({ "features": [1] }), "chooses for a row's id"),
    ] {
        let (code, answer) = http(cluster, "POST", &format!("/models/{model}/predict"), &body.to_string());
        assert!(code == 400 && answer["error"].as_str().is_some_and(|said| said.contains(why)), "{model}: {answer}");
    }
}

#[test]
fn models_of_every_kind_are_served_and_no_version_is_missing_after_the_driver_died() {
    let mut cluster = Cluster::start(2);
    let line = json!({ "linear_regression": { "weights": [2.0], "intercept": 0.0, "updates": 1 } });
    let fixed =
        json!({ "format": "tidemill-model", "version": 1, "spec": { "kind": "linear_regression" }, "state": line });
    std::fs::write(cluster.path("fixed.json"), fixed.to_string()).expect("the file is written");
    cluster.submit(JOB);
    let first = wait_for("a champion", || best(&cluster));
    assert!(first == 0.0 || first == 20.0, "{first}");
    wait_for("the better champion", || best(&cluster).filter(|prediction| *prediction == 20.0));
    for _ in 0..3 {
        let before = versions(&cluster.ask(&["model", "show", "scaled"]).json());
        assert!(before.len() >= 2, "{before:?}");
        cluster.kill_driver();
        cluster.start_driver();
        assert_eq!(best(&cluster), Some(20.0), "it was published before the driver died");
        let shown = cluster.ask(&["model", "show", "scaled"]).json();
        // A batch without rows makes no version; those that were there are.
        assert!(versions(&shown).starts_with(&before), "{before:?} were there before: {shown}");
        let batch = shown["batch"].as_u64().expect("a batch");
        cluster.wait_status("serving", "more batches", |status| status["batch"].as_u64() > Some(batch + 2));
    }
    let stopped = cluster.ask(&["stop", "serving"]);
    assert_eq!(stopped.code, 0, "{stopped:#?}");
    check_answers(&cluster);
    cluster.end(&[]);
}
