//! What River gives, row by row: the same models, the same drifts, the same pipelines (`common/ml/tests/vectors`, `tests/vectors/river`).

use crate::command::Case;
use serde_json::{Value, json};
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rows of a table, without its head.
fn table(name: &str) -> Vec<Vec<String>> {
    let text = read(&format!("common/ml/tests/vectors/{name}"));
    text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// Rows of numbers as one source's lines `number <tab> label <tab> features`; the label stands last.
fn labelled(name: &str) -> Vec<String> {
    let line = |(number, row): (usize, Vec<String>)| {
        let (label, features) = row.split_last().expect("columns");
        format!("{number}\t{label}\t{}", features.join(","))
    };
    table(name).into_iter().enumerate().map(line).collect()
}

fn job(features: usize, rest: &str) -> String {
    format!(
        "name = \"river\"\nbatch_interval = \"1s\"\n\n[source.rows]\nconnector = \"socket\"\naddress = \"127.0.0.1:9999\"\n\
         format = \"csv\"\ndelimiter = \"\\t\"\ncolumns = {{ i = \"bigint\", y = \"double\", x = \"vector({features})\" }}\n{rest}"
    )
}

/// What an output prints in every batch.
fn played(job: &str, batches: &[Vec<String>]) -> impl Fn(&str) -> Vec<Vec<Value>> + use<> {
    let case = Case::new(job, &json!({ "sources": { "rows": batches } }).to_string());
    let once = case.replay(&["--workers", "1"]).ok();
    assert_eq!(case.replay(&["--workers", "3", "--kill", "2"]).ok(), once);
    let lines: Vec<Value> = once.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect();
    move |output| {
        let of_output = lines.iter().filter(|line| line["output"] == output);
        of_output.map(|line| line["rows"].as_array().expect("rows").clone()).collect()
    }
}

fn batches(rows: &[String], size: usize) -> Vec<Vec<String>> {
    rows.chunks(size).map(<[String]>::to_vec).collect()
}

fn close(found: &Value, expected: &Value, what: &str) {
    let [found, expected] = [found, expected].map(|value| value.as_f64().unwrap_or(f64::NAN));
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{what}: {found}, River {expected}");
}

/// A model that learns record by record, and the measures of what it predicted before.
fn judged(name: &str, model: &str, task: &str, weight: &str) -> String {
    format!(
        "\n[model.{name}]\n{model}\n\n[stream.{name}]\nfrom = \"rows\"\ntrain = {{ model = \"{name}\", features = \"x\", label = \"y\" }}\n\n\
         [stream.{name}_measures]\nfrom = \"{name}\"\n\
         evaluate = {{ prediction = \"prediction\", label = \"y\", weight = \"{weight}\", {task} }}\n\n\
         [[output]]\nfrom = \"{name}_measures\"\nprint = true\n"
    )
}

#[test]
fn classifiers_are_right_and_wrong_where_rivers_are() {
    let linear = "kind = \"logistic_regression\"\nmode = \"per_record\"\nfit_intercept = true\nintercept_step_size = 0.01\nstep_size = ";
    let tree = "kind = \"hoeffding_tree\"\n";
    let short = format!("{tree}grace_period = 50\ndelta = 1e-5\nleaf_prediction = ");
    let models = [
        ("logreg_raw", format!("{linear}0.01")),
        ("logreg_raw_lr01", format!("{linear}0.1")),
        ("pa1_raw", "kind = \"passive_aggressive_classifier\"".to_owned()),
        ("gaussian_nb", "kind = \"gaussian_naive_bayes\"\nmode = \"per_record\"".to_owned()),
        ("hoeffding_tree", tree.to_owned()),
        ("hoeffding_tree_mc", format!("{short}\"majority\"")),
        ("hoeffding_tree_nb", format!("{short}\"naive_bayes\"")),
    ];
    // Bayes and trees say nothing of the first row at River.
    let weight = |name: &str| {
        if name.starts_with("logreg") || name.starts_with("pa") { "1" } else { "case when i = 0 then 0 else 1 end" }
    };
    let task = "task = \"binary\", metrics = [\"accuracy\", \"f1\"]";
    let each: Vec<String> = models.iter().map(|(name, model)| judged(name, model, task, weight(name))).collect();
    let found = played(&job(9, &each.concat()), &batches(&labelled("phishing.csv"), 200));
    let expected: Value = serde_json::from_str(&read("tests/vectors/river/phishing_metrics.json")).expect("JSON");
    for (name, _) in &models {
        let measures = found(&format!("{name}_measures"));
        let checkpoints = expected[name].as_array().expect("a list");
        assert!(checkpoints.len() >= 6);
        for (checkpoint, measures) in checkpoints.iter().zip(&measures) {
            close(&measures[0]["accuracy"], &checkpoint["Accuracy"], name);
            close(&measures[0]["f1"], &checkpoint["F1"], name);
        }
    }
}

#[test]
fn a_regression_on_a_stream_that_drifts() {
    // River's squared error has no half, so its steps are twice as long.
    let model = "kind = \"linear_regression\"\nmode = \"per_record\"\nfit_intercept = true\nstep_size = 0.02";
    let measures = judged("linreg", model, "task = \"regression\", metrics = [\"mae\", \"rmse\", \"r2\"]", "1");
    let found = played(&job(10, &measures), &batches(&labelled("friedman_2000.csv"), 1000))("linreg_measures");
    let results: Value = serde_json::from_str(&read("common/ml/tests/vectors/river_results.json")).expect("JSON");
    let checkpoints = results["friedman"]["linreg"]["checkpoints"].as_array().expect("a list");
    assert_eq!((checkpoints.len(), found.len()), (2, 2));
    for (checkpoint, measures) in checkpoints.iter().zip(&found) {
        for (ours, rivers) in [("mae", "MAE"), ("rmse", "RMSE"), ("r2", "R2")] {
            close(&measures[0][ours], &checkpoint[rivers], ours);
        }
    }
}

/// A row a batch: predicted with the scaler of the row before, learnt with the scaler that has seen it.
#[test]
fn a_pipeline_of_scaler_and_classifier() {
    const ROWS: usize = 40;
    let pipeline = r#"
[model.scaled]
kind = "standard_scaler"

[model.logistic]
kind = "logistic_regression"
mode = "per_record"
fit_intercept = true
intercept_step_size = 0.01
step_size = 0.1

[stream.scaling]
from = "rows"
train = { model = "scaled", features = "x" }

[stream.seen]
from = "rows"
select = { y = "y", z = "transform_after_training('scaled', x)" }

[stream.learning]
from = "seen"
train = { model = "logistic", features = "z", label = "y" }

[stream.asked]
from = "rows"
select = { p = "predict_proba('logistic', transform('scaled', x))" }

[[output]]
from = "asked"
print = true
"#;
    let rows = labelled("phishing.csv");
    let found = played(&job(9, pipeline), &batches(&rows[..ROWS], 1))("asked");
    let text = read("common/ml/tests/vectors/phishing_p.csv");
    let names: Vec<&str> = text.lines().next().expect("a head").split(',').collect();
    let column = names.iter().position(|name| *name == "scaler_logreg").expect("the column");
    let expected = table("phishing_p.csv");
    assert_eq!(found.len(), ROWS);
    for (row, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let expected: f64 = expected[column].parse().expect("a number");
        close(&found[0]["p"], &expected.into(), &format!("row {row}"));
    }
}

/// DDM, EDDM and Page-Hinkley begin anew after a detection as River's do; ADWIN keeps the newer part of its window, so only the first is the same.
#[test]
fn drifts_are_found_where_river_finds_them() {
    let results: Value = serde_json::from_str(&read("common/ml/tests/vectors/drift_results.json")).expect("JSON");
    let (mut definition, mut expected) = (String::new(), Vec::new());
    for (column, sequence) in [("real", "real_5000"), ("bits", "bits_5000")] {
        for (name, detector) in results["sequences"][sequence]["detectors"].as_object().expect("detectors") {
            let kinds = ["adwin", "page_hinkley", "eddm", "ddm"];
            let Some(kind) = kinds.into_iter().find(|kind| name.starts_with(kind)) else { continue };
            let mut parameters = String::new();
            for (parameter, value) in detector["params"].as_object().expect("parameters") {
                let parameter = if parameter == "mode" { "direction" } else { parameter };
                parameters += &format!(", {parameter} = {value}");
            }
            let stream = format!("{column}_{}", name.replace('-', "_"));
            definition += &format!(
                "\n[stream.{stream}]\nfrom = \"rows\"\ndetect_drift = {{ value = \"x[{}]\", detector = \"{kind}\"{parameters} }}\n\n\
                 [[output]]\nfrom = \"{stream}\"\nprint = true\n",
                if column == "real" { 1 } else { 2 }
            );
            let at: Vec<i64> =
                detector["drift_at"].as_array().expect("places").iter().filter_map(Value::as_i64).collect();
            expected.push((stream, kind, at));
        }
    }
    let lines: Vec<String> =
        table("drift_sequences.csv").iter().map(|row| format!("{}\t0\t{},{}", row[0], row[1], row[3])).collect();
    let found = played(&job(2, &definition), &batches(&lines, 1000));
    assert!(expected.len() > 10);
    for (stream, kind, at) in expected {
        let said = found(&stream).concat();
        let drifts = said.iter().filter(|row| row["state"] == "drift");
        let drifts: Vec<i64> = drifts.filter_map(|row| Some(row["seen"].as_i64()? - 1)).collect();
        let compared = if kind == "adwin" { 1 } else { at.len().max(drifts.len()) };
        assert_eq!(drifts[..compared.min(drifts.len())], at[..compared.min(at.len())], "{stream}");
    }
}
