//! Transformers and bandits: of use, and the same to the byte whatever is lost.

use crate::command::{Case, job_over_points};
use serde_json::{Value, json};

/// Features of very different sizes, some missing, one a category; two models on them, and a bandit between the two.
const JOB: &str = r#"
[model.filled]
kind = "imputer"

[model.scaled]
kind = "standard_scaler"

[model.bounded]
kind = "min_max_scaler"

[model.kinds]
kind = "one_hot"
max_categories = 2

[model.raw]
kind = "linear_regression"
fit_intercept = true

[model.fine]
kind = "linear_regression"
fit_intercept = true

[model.arms]
kind = "thompson_sampling"
arms = ["zero", "fine"]
rewards = "normal"

[model.upper]
kind = "ucb1"
arms = ["zero", "fine"]

[model.greedy]
kind = "epsilon_greedy"
arms = ["zero", "fine"]

[model.context]
kind = "lin_ucb"
arms = ["zero", "fine"]

[stream.whole]
from = "points"
select = { id = "id", y = "y", kind = "kind", x = "transform('filled', a, x)" }

[stream.fit]
from = "whole"
select = { id = "id", y = "y", z = "transform('scaled', x)", b = "transform('bounded', x)", k = "transform('kinds', kind)", h = "hash_features(4, kind, id)", p = "polynomial(transform('scaled', x), 2, true)" }

[stream.train_filled]
from = "points"
train = { model = "filled", features = ["a", "x"] }

[stream.train_scaled]
from = "whole"
train = { model = "scaled", features = "x" }

[stream.train_bounded]
from = "whole"
train = { model = "bounded", features = "x" }

[stream.train_kinds]
from = "points"
train = { model = "kinds", features = "kind" }

[stream.train_raw]
from = "whole"
train = { model = "raw", features = "x", label = "y" }

[stream.train_fine]
from = "fit"
train = { model = "fine", features = ["z", "k"], label = "y" }

[stream.asked]
from = "fit"
select = { y = "y", z = "z", arm = "choose_arm('arms', id)", upper = "choose_arm('upper', id)", greedy = "choose_arm('greedy', id)", context = "choose_arm('context', id, z)", fine = "abs(predict('fine', z, k) - y)" }

[stream.train_arms]
from = "asked"
train = { model = "arms", arm = "arm", label = "-case arm when 'fine' then fine else abs(y) end" }

[stream.train_upper]
from = "asked"
train = { model = "upper", arm = "upper", label = "-case upper when 'fine' then fine else abs(y) end" }

[stream.train_greedy]
from = "asked"
train = { model = "greedy", arm = "greedy", label = "-case greedy when 'fine' then fine else abs(y) end" }

[stream.train_context]
from = "asked"
train = { model = "context", arm = "context", label = "-case context when 'fine' then fine else abs(y) end", features = "z" }

"#;

/// `y` is a function of `a` (thousands), `x` (hundredths) and the kind.
fn points(batch: u64, n: u64) -> Vec<String> {
    let number = |i: u64| {
        let mixed = (batch * 1000 + i).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (mixed >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    let row = |i: u64| {
        let (a, x) = (2000.0 + 1000.0 * number(4 * i), [0.01 * number(4 * i + 1), number(4 * i + 2)]);
        let kind = if i.is_multiple_of(3) { "b" } else { "a" };
        let y = a / 500.0 + 100.0 * x[0] - x[1] + if kind == "a" { 2.0 } else { 0.0 };
        let missing = if i % 19 == 3 { Value::Null } else { a.into() };
        json!({ "id": batch * 1000 + i, "y": y, "a": missing, "x": x, "kind": kind }).to_string()
    };
    (0..n).map(row).collect()
}

/// The whole job.
fn job() -> String {
    let columns = "id = \"bigint\", y = \"double\", a = \"double\", x = \"vector(2)\", kind = \"string\"";
    job_over_points("", "format = \"json\"", columns, JOB) + &outputs()
}

fn outputs() -> String {
    let print = |of: &str, name: &str| format!("[[output]]\n{of} = \"{name}\"\nprint = true\n");
    let models = ["filled", "scaled", "bounded", "kinds", "fine", "arms", "upper", "greedy", "context"];
    let streams = ["fit", "asked", "train_raw", "train_fine", "train_arms"];
    let models = models.map(|name| print("from_model", name)).concat();
    models + &streams.map(|name| print("from", name)).concat()
}

fn rows(printed: &str, output: &str) -> Vec<Vec<Value>> {
    let lines = printed.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON lines"));
    let of_output = lines.filter(|line| line["output"] == output);
    of_output.map(|line| line["rows"].as_array().expect("rows").clone()).collect()
}

#[test]
fn prepared_features_and_chosen_arms_are_the_same_everywhere() {
    let batches: Vec<_> = [60, 40, 0, 50, 60, 60].into_iter().zip(1..).map(|(n, batch)| points(batch, n)).collect();
    let case = Case::new(&job(), &json!({ "sources": { "points": batches } }).to_string());
    let once = case.replay(&["--workers", "1"]).ok();

    // Scaled, one step size does for all; raw, the thousands drive it away.
    let raw = rows(&once, "train_raw").last().expect("batches")[0]["loss"].clone();
    assert!(raw.as_f64().is_none_or(|loss| loss > 1e6), "{raw}");
    let fine = rows(&once, "train_fine").last().expect("batches")[0]["loss"].as_f64().expect("a number");
    assert!(fine < 0.5, "{fine}");

    let fit = rows(&once, "fit");
    let width = |column: &str| fit[0][0][column].as_array().expect("a vector").len();
    assert_eq!(["z", "b", "k", "h", "p"].map(width), [3, 3, 2, 4, 6]);
    assert!(fit.concat().iter().all(|row| !row["z"].as_array().expect("a vector").contains(&Value::Null)));
    assert_eq!(rows(&once, "kinds")[0][0]["categories"], json!([["b", "a"]]));
    let arms = &rows(&once, "arms")[5][0];
    assert!(arms["shares"][1].as_f64().expect("a share") > 0.6, "{arms}");
    let last = &rows(&once, "asked")[5];
    let of_fine = |column: &str| last.iter().filter(|row| row[column] == "fine").count();
    assert!(["arm", "upper", "greedy", "context"].into_iter().all(|column| of_fine(column) > 25), "{last:?}");

    case.prints_the_same(&once, &["3", "5"], &["4"]);
}

#[test]
fn what_does_not_go_together_is_said_where_it_stands() {
    let wrong = |from: &str, to: &str, said: &str| {
        assert!(JOB.contains(from), "{from}");
        let case = Case::new(&job().replacen(from, to, 1), &json!({ "sources": {} }).to_string());
        let run = case.replay(&[]);
        assert_ne!(run.code, 0);
        assert!(run.stderr.contains(said), "{said}: {}", run.stderr);
    };
    wrong(
        "transform('scaled', x)",
        "predict('scaled', x)",
        "`predict` does not go with a model of kind standard_scaler",
    );
    wrong(
        "choose_arm('arms', id)",
        "choose_arm('arms', id, z)",
        "a model of kind thompson_sampling looks at no features",
    );
    wrong(
        "choose_arm('context', id, z)",
        "choose_arm('context', id)",
        "a model of kind lin_ucb needs the row's features",
    );
    wrong("arm = \"arm\", ", "", "learns from arms that were chosen");
    wrong("model = \"raw\", ", "model = \"raw\", arm = \"'a'\", ", "a model of kind linear_regression has no arms");
    wrong("features = \"kind\"", "features = \"y\"", "a double is no category");
    wrong("hash_features(4, kind, id)", "hash_features(kind, id)", "the number of features, then columns");
    wrong("x), 2, true)", "x), 9)", "the degree is 9; use 1 to 6");
    wrong("arms = [\"zero\", \"fine\"]\nrewards", "arms = []\nrewards", "`arms` has none");
}
