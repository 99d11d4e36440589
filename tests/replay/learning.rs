//! Models beside windows: trained when the window fires, asked in every batch, the same to the byte whatever is lost.

use crate::command::Case;

const JOB: &str = r#"
name = "learning"
batch_interval = "1s"

[source.points]
connector = "socket"
address = "127.0.0.1:9999"
format = "csv"
delimiter = "\t"
columns = { y = "double", x = "vector(2)" }

[model.line]
kind = "linear_regression"
step_size = 0.5
iterations = 2

[model.each]
kind = "passive_aggressive_regressor"

[stream.recent]
from = "points"
window = { length = "2s", slide = "2s" }

[stream.trained]
from = "recent"
train = { model = "line", features = "x", label = "y" }

[stream.each]
from = "points"
train = { model = "each", features = "x", label = "y" }

[stream.predictions]
from = "points"
select = { y = "y", before = "predict('line', x)", after = "predict_after_training('line', x)" }

[stream.quality]
from = "predictions"
evaluate = { task = "regression", prediction = "before", label = "y", metrics = ["rmse"] }

[[output]]
from = "trained"
print = true

[[output]]
from = "each"
print = true

[[output]]
from = "predictions"
print = true

[[output]]
from = "quality"
print = true

[[output]]
from_model = "line"
print = true
"#;

#[test]
fn a_model_trained_over_a_window_is_the_same_everywhere() {
    let batches = serde_json::json!([["1.0\t1,0", "2.0\t0,1"], ["1.0\t1,0"], ["3.0\t1,1"], ["3.0\t1,1"], []]);
    let case = Case::new(JOB, &serde_json::json!({ "sources": { "points": batches } }).to_string());
    let once = case.replay(&["--workers", "1"]).ok();
    let fired = |output: &str| once.lines().filter(|line| line.contains(&format!("\"output\": \"{output}\""))).count();
    assert_eq!((fired("trained"), fired("line"), fired("predictions"), fired("each")), (2, 2, 5, 5), "{once}");
    assert!(once.contains(r#"{"y":1.0,"before":0.0,"after":0.49046817359701056}"#), "{once}");
    assert!(once.contains(r#""prediction":0.0"#), "each row is predicted before it is learnt: {once}");
    for workers in ["2", "5"] {
        assert_eq!(case.replay(&["--workers", workers]).ok(), once);
    }
    for kill in ["1", "2", "4"] {
        assert_eq!(case.replay(&["--workers", "3", "--kill", kill]).ok(), once);
    }
}
