//! Models beside windows: trained when the window fires, asked in every batch, the same to the byte whatever is lost.

use crate::command::{Case, job_over_points, tidemill};

/// A job over values and vectors of two numbers, a tab between them.
fn over_lines(rest: &str) -> String {
    job_over_points("", "format = \"csv\"\ndelimiter = \"\\t\"", "y = \"double\", x = \"vector(2)\"", rest)
}

/// A job over rows of these columns, in small blocks and few key groups.
fn over_small_blocks(columns: &str, rest: &str) -> String {
    job_over_points("block_bytes = \"1KiB\"\nkey_groups = 4", "format = \"json\"", columns, rest)
}

const JOB: &str = r#"
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

/// Line 1 of a window of two batches, in whose second the import comes; the other model learns in every batch.
#[test]
fn an_import_is_the_same_everywhere() {
    let job =
        over_lines(JOB).replace("[stream.recent]", "[model.fixed]\nkind = \"linear_regression\"\n\n[stream.recent]");
    let job = job.replace("select = { y", "select = { fixed = \"predict('fixed', x)\", y");
    let document = |kind: &str, parameters: serde_json::Value, weights: [f64; 2]| {
        let mut spec = parameters;
        spec["kind"] = kind.into();
        let state = serde_json::json!({ kind: { "weights": weights, "intercept": 0.0, "updates": 1 } });
        serde_json::json!({ "format": "tidemill-model", "version": 1, "spec": spec, "state": state })
    };
    let line =
        |weights| document("linear_regression", serde_json::json!({ "step_size": 0.5, "iterations": 2 }), weights);
    let batches = vec![["1.0\t1,0", "2.0\t0,1"]; 5];
    let input = serde_json::json!({
        "sources": { "points": batches },
        "imports": [
            { "batch": 3, "model": "line", "document": line([10.0, 20.0]) },
            { "batch": 4, "model": "each", "document": document("passive_aggressive_regressor", serde_json::json!({}), [5.0, 6.0]) },
            { "batch": 2, "model": "fixed", "document": document("linear_regression", serde_json::json!({}), [7.0, 8.0]) },
        ],
    });
    let case = Case::new(&job, &input.to_string());
    let once = case.replay(&["--workers", "1"]).ok();
    let predictions: Vec<serde_json::Value> = once
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON lines"))
        .filter(|line| line["output"] == "predictions")
        .map(|line| line["rows"][0].clone())
        .collect();
    let of = |column: &str| predictions.iter().map(|row| row[column].as_f64().expect("a number")).collect::<Vec<_>>();
    assert_eq!(of("fixed"), [0.0, 7.0, 7.0, 7.0, 7.0]);
    // The window fires in batches 2 and 4: batch 3 leaves what was imported as it is.
    let (before, after) = (of("before"), of("after"));
    assert_eq!((before[2], after[2], before[3]), (10.0, 10.0, 10.0), "{once}");
    assert!(after[3] < 10.0 && before[4] == after[3], "{once}");
    let each: Vec<&str> = once.lines().filter(|line| line.contains("\"output\": \"each\"")).collect();
    assert!(each[3].contains("\"prediction\":5.0"), "{once}");
    case.prints_the_same(&once, &["2", "3", "5"], &["2", "3", "4"]);
}

#[test]
fn a_model_trained_over_a_window_is_the_same_everywhere() {
    let batches = serde_json::json!([["1.0\t1,0", "2.0\t0,1"], ["1.0\t1,0"], ["3.0\t1,1"], ["3.0\t1,1"], []]);
    let case = Case::new(&over_lines(JOB), &serde_json::json!({ "sources": { "points": batches } }).to_string());
    let once = case.replay(&["--workers", "1"]).ok();
    let fired = |output: &str| once.lines().filter(|line| line.contains(&format!("\"output\": \"{output}\""))).count();
    assert_eq!((fired("trained"), fired("line"), fired("predictions"), fired("each")), (2, 2, 5, 5), "{once}");
    assert!(once.contains(r#"{"y":1.0,"before":0.0,"after":0.49046817359701056}"#), "{once}");
    assert!(once.contains(r#""prediction":0.0"#), "each row is predicted before it is learnt: {once}");
    case.prints_the_same(&once, &["2", "5"], &["1", "2", "4"]);
}

/// A model of every way to learn: from sums made per block and per key group, and from rows.
const SPREAD: &str = r#"
[model.once]
kind = "linear_regression"
iterations = 1
fit_intercept = true

[model.squares]
kind = "linear_regression"
iterations = 20

[model.logistic]
kind = "logistic_regression"
iterations = 1

[model.passes]
kind = "logistic_regression"
iterations = 3

[model.softmax]
kind = "softmax"
iterations = 1

[model.bayes]
kind = "gaussian_naive_bayes"

[model.clusters]
kind = "kmeans"
k = 3
decay_factor = 0.5

[model.averages]
kind = "kmeans"

[stream.left]
from = "points"
filter = "y > 0.0"

[stream.right]
from = "points"
filter = "y <= 0.0"

# Two lanes, in this order.
[stream.both]
from = ["left", "right"]
union = true

[stream.once]
from = "both"
train = { model = "once", features = "x", label = "y", weight = "u" }

[stream.squares]
from = "points"
train = { model = "squares", features = ["x", "a"], label = "y" }

[stream.logistic]
from = "points"
train = { model = "logistic", features = "x", label = "c" }

[stream.passes]
from = "points"
train = { model = "passes", features = "x", label = "c" }

[stream.softmax]
from = "points"
train = { model = "softmax", features = "x", label = "c" }

[stream.bayes]
from = "points"
train = { model = "bayes", features = "x", label = "c" }

[stream.clusters]
from = "points"
train = { model = "clusters", features = "x" }

# Rows of key groups.
[stream.of_class]
from = "points"
reduce_by_key = { key = "c", aggregates = { a = "avg(a)", y = "sum(y)" } }

[stream.averages]
from = "of_class"
train = { model = "averages", features = ["a", "y"] }

[stream.predicted]
from = "points"
reduce = { error = "avg(abs(predict('squares', x, a) - y))", cluster = "max(cluster('clusters', x))" }

[[output]]
from = "predicted"
print = true
"#;

/// A number between -1 and 1, by batch and place (SplitMix64).
fn number(batch: u64, i: u64) -> f64 {
    let mut z = (batch * 1000 + i).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1 << 23) - 1.0
}

/// `n` rows of a batch; some weights are 0, some features null.
fn points(batch: u64, n: u64) -> Vec<String> {
    let number = |i| number(batch, i);
    let row = |i: u64| {
        let x = [number(5 * i), number(5 * i + 1), number(5 * i + 2)];
        let y = 2.0 * x[0] - x[1] + 0.1 * number(5 * i + 3);
        let a = if i % 17 == 3 { serde_json::Value::Null } else { number(5 * i + 4).into() };
        serde_json::json!({ "y": y, "c": f64::from(u8::from(y > 0.3)), "u": (i % 4) as f64, "x": x, "a": a })
    };
    (0..n).map(|i| row(i).to_string()).collect()
}

#[test]
fn sums_made_where_the_rows_are_are_the_same_everywhere() {
    let outputs = ["once", "squares", "logistic", "passes", "softmax", "bayes", "clusters", "averages"];
    let print = |name: &str| {
        format!(
            "[[output]]\nfrom = \"{name}\"\nprint = true\n[[output]]\nname = \"{name}_model\"\nfrom_model = \"{name}\"\nprint = true\n"
        )
    };
    let columns = "y = \"double\", c = \"double\", u = \"double\", x = \"vector(3)\", a = \"double\"";
    let job = over_small_blocks(columns, SPREAD) + &outputs.map(print).concat();
    let batches: Vec<_> = [120, 60, 0, 90].into_iter().zip(1..).map(|(n, batch)| points(batch, n)).collect();
    let case = Case::new(&job, &serde_json::json!({ "sources": { "points": batches } }).to_string());
    let once = case.replay(&["--workers", "1"]).ok();
    assert!(once.contains(r#""output": "once", "rows": [{"rows":90,"skipped":30,"updates":1,"#), "{once}");
    assert!(once.contains(r#""output": "squares", "rows": [{"rows":113,"skipped":7,"updates":20,"#), "{once}");
    case.prints_the_same(&once, &["3", "5"], &["1", "2", "4"]);
}

#[test]
fn rows_of_another_width_fail_the_job_and_say_so() {
    let job = over_lines(JOB).replace("iterations = 2", "iterations = 1\ninitial_weights = [0.0, 0.0, 0.0]");
    let job = job.replace(
        "select = { y = \"y\", before = \"predict('line', x)\", after = \"predict_after_training('line', x)\" }",
        "select = { y = \"y\", before = \"y\" }",
    );
    let batches = serde_json::json!([["1.0\t1,0"], ["2.0\t0,1"]]);
    let case = Case::new(&job, &serde_json::json!({ "sources": { "points": batches } }).to_string());
    let run = case.replay(&["--workers", "2"]);
    assert_ne!(run.code, 0, "{run:#?}");
    assert!(run.stderr.contains("model `line`: the model has 3 features, the rows have 2"), "{run:#?}");
}

const CHOICE: &str = r#"
[model.slow]
kind = "linear_regression"
step_size = 1e-6

[model.quick]
kind = "passive_aggressive_regressor"

[stream.slow]
from = "points"
train = { model = "slow", features = "x", label = "y" }

[stream.quick]
from = "points"
train = { model = "quick", features = "x", label = "y" }

[stream.judged]
from = "points"
select = { slow = "power(predict('slow', x) - y, 2)", quick = "power(predict('quick', x) - y, 2)" }

[stream.chosen]
from = "judged"
choose = { losses = { slow = "slow", quick = "quick" }, window = 2, publish = "best" }

[stream.answers]
from = "points"
select = { best = "predict('best', x)", slow = "predict('slow', x)", quick = "predict('quick', x)" }

[[output]]
from = "answers"
print = true

[[output]]
from = "chosen"
print = true
"#;

#[test]
fn the_champion_answers_from_the_batch_after_it_was_chosen() {
    let batches = vec![["1.0\t1,0", "2.0\t0,1", "3.1\t1,1", "2.9\t1,1"]; 6];
    let case = Case::new(&over_lines(CHOICE), &serde_json::json!({ "sources": { "points": batches } }).to_string());
    let once = case.replay(&["--workers", "1"]).ok();
    let mut champion = "slow".to_string();
    let mut changes = 0;
    for batch in 1..=6 {
        let of_batch = |output: &str| {
            let lines = once.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON lines"));
            let mut lines = lines.filter(|line| line["batch"] == batch && line["output"] == output);
            lines.next().expect("the output fires")["rows"][0].clone()
        };
        let answers = of_batch("answers");
        assert_eq!(answers["best"], answers[&champion], "batch {batch}: {once}");
        let chosen = of_batch("chosen");
        changes += u32::from(chosen["changed"] == true);
        champion = chosen["champion"].as_str().expect("a name").to_string();
    }
    assert_eq!((changes, champion.as_str()), (1, "quick"), "{once}");
    case.prints_the_same(&once, &["2", "5"], &["3", "4"]);
}

/// The same model three times, with another action each, and one that learns record by record.
const ACTIONS: &str = r#"
[model.told]
kind = "gaussian_naive_bayes"

[model.reset]
kind = "gaussian_naive_bayes"

[model.replaced]
kind = "gaussian_naive_bayes"

[model.tree]
kind = "hoeffding_tree"
grace_period = 50

[stream.told]
from = "points"
train = { model = "told", features = "x", label = "c", drift = { detector = "adwin" } }

[stream.reset]
from = "points"
train = { model = "reset", features = "x", label = "c", drift = { detector = "ddm", action = "reset" } }

[stream.replaced]
from = "points"
train = { model = "replaced", features = "x", label = "c", drift = { detector = "adwin", action = "replace", delta = 0.01 } }

[stream.tree]
from = "points"
train = { model = "tree", features = "x", label = "c", drift = { detector = "ddm", action = "replace" } }

[stream.tree_acted]
from = "tree"
filter = "action IS NOT NULL OR drift IS NOT NULL"

[stream.errors]
from = "points"
reduce = { told = "avg(abs(predict('told', x) - c))", reset = "avg(abs(predict('reset', x) - c))", replaced = "avg(abs(predict('replaced', x) - c))" }

[[output]]
from = "told"
print = true

[[output]]
from = "reset"
print = true

[[output]]
from = "replaced"
print = true

[[output]]
from = "tree_acted"
print = true

[[output]]
from = "errors"
print = true

[[output]]
name = "replaced_model"
from_model = "replaced"
print = true
"#;

#[test]
fn a_model_that_acts_on_drift_is_better_afterwards_and_the_same_everywhere() {
    let (change, batches) = (7, 14);
    let row = |batch: u64, i: u64| {
        let x = [number(batch, 3 * i), number(batch, 3 * i + 1)];
        let side = x[0] + 0.2 * number(batch, 3 * i + 2) > 0.0;
        serde_json::json!({ "c": f64::from(u8::from(side != (batch >= change))), "x": x }).to_string()
    };
    let input: Vec<Vec<String>> = (1..=batches).map(|batch| (0..80).map(|i| row(batch, i)).collect()).collect();
    let job = over_small_blocks("c = \"double\", x = \"vector(2)\"", ACTIONS);
    let case = Case::new(&job, &serde_json::json!({ "sources": { "points": input } }).to_string());
    let once = case.replay(&["--workers", "1"]).ok();
    let rows = |output: &str| -> Vec<(u64, serde_json::Value)> {
        let lines = once.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line of JSON"));
        let of_output = lines.filter(|line| line["output"] == output);
        of_output.map(|line| (line["batch"].as_u64().expect("a batch"), line["rows"].clone())).collect()
    };
    let mut error = [0.0; 3];
    for (_, rows) in rows("errors").into_iter().filter(|(batch, _)| *batch > change) {
        for (sum, model) in error.iter_mut().zip(["told", "reset", "replaced"]) {
            *sum += rows[0][model].as_f64().expect("an error");
        }
    }
    let [told, reset, replaced] = error;
    assert!(reset < 0.5 * told && replaced < 0.5 * told, "{error:?}\n{once}");
    for (model, wanted) in [("told", None), ("reset", Some("reset")), ("replaced", Some("replaced"))] {
        let of_model = rows(model);
        let mut acted = of_model.iter().filter(|(_, rows)| rows[0]["action"].as_str() == wanted);
        assert!(acted.any(|(batch, _)| *batch >= change), "{model}: {of_model:?}");
        let seen = of_model.iter().find(|(_, rows)| rows[0]["drift"] == "drift");
        assert!(seen.is_some_and(|(batch, _)| *batch >= change), "{model}: {of_model:?}");
    }
    assert!(rows("tree_acted").iter().any(|(batch, rows)| *batch >= change && rows[0]["drift"].is_string()), "{once}");
    case.prints_the_same(&once, &["3", "5"], &["3", "7", "9"]);
}

/// Batches without rows to learn are none that a model has learnt from: they save nothing.
#[test]
fn an_idle_model_is_not_saved() {
    for mode in ["batch", "per_record"] {
        let job = format!(
            r#"
name = "idle"
batch_interval = "100ms"

[source.points]
connector = "queue"
format = "csv"
columns = {{ y = "double", x = "double" }}
batches = [["1,1"], ["2,2"], ["3,"]]

[model.line]
kind = "linear_regression"
mode = "{mode}"
save = {{ path = "saved" }}

[stream.trained]
from = "points"
train = {{ model = "line", features = "x", label = "y" }}

[[output]]
from_model = "line"
print = true
"#
        );
        let case = Case::new(&job, "{}");
        let path = case.job();
        tidemill(["local", path.to_str().expect("a plain path"), "--batches", "8"]).ok();
        let saved = path.with_file_name("saved");
        let files = std::fs::read_dir(&saved).expect("it is saved");
        let names = files.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        assert_eq!(names.filter(|name| name.starts_with("line-")).count(), 2, "{mode}");
        let latest = std::fs::read_to_string(saved.join("latest.json")).expect("it reads");
        let latest: serde_json::Value = serde_json::from_str(&latest).expect("JSON");
        assert_eq!((&latest["counters"]["batches"], &latest["counters"]["rows"]), (&2.into(), &2.into()), "{mode}");
    }
}
