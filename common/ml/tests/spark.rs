//! Spark's own weights after every batch (made by running Spark 3.5.9).

use ndarray::{Array1, Array2};
use serde_json::Value;
use tidemill_ml::families::linear::{LinearRegression, LinearSpec, LogisticRegression};
use tidemill_ml::{Learned, Model, ModelSpec, Rows, Trained};

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

fn table(value: &Value) -> Array2<f64> {
    let rows: Vec<Vec<f64>> = serde_json::from_value(value.clone()).unwrap();
    Array2::from_shape_vec((rows.len(), rows[0].len()), rows.concat()).unwrap()
}

fn close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= 1e-12 * b.abs().max(1e-3), "{found:?}, Spark has {expected:?}");
    }
}

fn spec_of(params: &Value) -> LinearSpec {
    LinearSpec {
        step_size: params["stepSize"].as_f64().unwrap(),
        iterations: u32::try_from(params["numIterations"].as_u64().unwrap()).unwrap(),
        initial_weights: Some(numbers(&params["initialWeights"])),
        ..LinearSpec::default()
    }
}

fn weights(model: &Model) -> Vec<f64> {
    match &model.learned()[0] {
        ("weights", Learned::List(weights)) => weights.clone(),
        other => panic!("{other:?}"),
    }
}

/// Trains batch after batch and compares; `predictions` is what Spark's predictions are compared with, by name.
fn follows(text: &str, kind: impl Fn(LinearSpec) -> ModelSpec, before: &str, error: impl Fn(&[f64], &[f64]) -> f64) {
    let case: Value = serde_json::from_str(text).unwrap();
    let mut model = Model::new(kind(spec_of(&case["params"]))).unwrap();
    let probe = table(&case["probe"]);
    for batch in case["batches"].as_array().unwrap() {
        let (spark, x, y) =
            (&batch["spark"], table(&batch["input"]["x"]), Array1::from_vec(numbers(&batch["input"]["y"])));
        let mean = |model: &Model| error(model.predict(x.view()).unwrap().as_slice().unwrap(), y.as_slice().unwrap());
        close(&[mean(&model)], &[spark[before].as_f64().unwrap()]);
        let trained: Trained = model.train(&[Rows { x: x.view(), y: Some(y.view()), weight: None }]).unwrap();
        assert_eq!(u64::from(trained.updates), spark["updates_run"].as_u64().unwrap());
        // Spark passes over the batch once more, for the loss after the last update.
        close(&trained.losses, &numbers(&spark["loss_history"])[..trained.losses.len()]);
        assert_eq!(trained.loss, trained.losses.first().copied());
        close(&weights(&model), &numbers(&spark["weights"]));
        close(model.predict(probe.view()).unwrap().as_slice().unwrap(), &numbers(&spark["probe_predictions"]));
        if let Some(expected) = spark.get("probe_probabilities") {
            let probabilities = model.predict_proba(probe.view()).unwrap();
            close(&probabilities.column(1).to_vec(), &numbers(expected));
        }
    }
}

fn squared_error(predictions: &[f64], y: &[f64]) -> f64 {
    predictions.iter().zip(y).map(|(p, y)| (p - y) * (p - y)).sum::<f64>() / y.len() as f64
}

fn error_rate(predictions: &[f64], y: &[f64]) -> f64 {
    predictions.iter().zip(y).filter(|(p, y)| p != y).count() as f64 / y.len() as f64
}

#[test]
fn linear_regression_with_one_update_per_batch() {
    follows(include_str!("vectors/linreg_iter1.json"), ModelSpec::of::<LinearRegression>, "mse_before", squared_error);
}

#[test]
fn linear_regression_that_converges_early() {
    follows(include_str!("vectors/linreg_iter25.json"), ModelSpec::of::<LinearRegression>, "mse_before", squared_error);
}

#[test]
fn logistic_regression() {
    follows(
        include_str!("vectors/logreg_reg0.json"),
        ModelSpec::of::<LogisticRegression>,
        "error_rate_before",
        error_rate,
    );
}
