//! River's predictions and errors, record by record (made by running River 0.26.1). Tolerances are stated per test.

use ndarray::{Array1, Array2, s};
use serde_json::Value;
use tidemill_ml::families::{
    bayes::{GaussianNaiveBayes, GaussianNaiveBayesSpec},
    linear::{LinearRegression, LinearSpec, LogisticRegression, Mode, Regularization},
    passive::{PassiveAggressiveClassifier, PassiveAggressiveSpec, Variant},
    scale::{StandardScaler, StandardScalerSpec},
    tree::{HoeffdingTree, HoeffdingTreeSpec, LeafPrediction},
};
use tidemill_ml::{Model, ModelSpec, Rows};

fn csv(text: &str) -> (Vec<String>, Array2<f64>) {
    let mut lines = text.lines();
    let names: Vec<String> = lines.next().unwrap().split(',').map(str::to_owned).collect();
    let cells: Vec<f64> = lines.flat_map(|line| line.split(',').map(|cell| cell.parse().unwrap_or(f64::NAN))).collect();
    (names.clone(), Array2::from_shape_vec((cells.len() / names.len(), names.len()), cells).unwrap())
}

fn phishing() -> (Array2<f64>, Array1<f64>) {
    let (_, rows) = csv(include_str!("vectors/phishing.csv"));
    (rows.slice(s![.., ..-1]).to_owned(), rows.column(rows.ncols() - 1).to_owned())
}

fn friedman() -> (Array2<f64>, Array1<f64>) {
    let (_, rows) = csv(include_str!("vectors/friedman_2000.csv"));
    (rows.slice(s![.., ..-1]).to_owned(), rows.column(rows.ncols() - 1).to_owned())
}

fn results() -> Value {
    serde_json::from_str(include_str!("vectors/river_results.json")).unwrap()
}

/// Row by row: predicted with what the scaler knew before, learnt with what it knows then. `see` gets model and prepared row.
fn play(
    spec: ModelSpec,
    scaled: bool,
    x: &Array2<f64>,
    y: &Array1<f64>,
    mut see: impl FnMut(usize, &Model, &Array2<f64>),
) {
    let mut model = Model::new(spec).unwrap();
    let mut scaler = Model::new(ModelSpec::of::<StandardScaler>(StandardScalerSpec::default())).unwrap();
    for i in 0..y.len() {
        let row = x.slice(s![i..i + 1, ..]);
        let prepared = |scaler: &Model| if scaled { scaler.transform(row).unwrap() } else { row.to_owned() };
        see(i, &model, &prepared(&scaler));
        scaler.train(&[Rows { x: row, y: None, weight: None }]).unwrap();
        let learnt = prepared(&scaler);
        model.train(&[Rows { x: learnt.view(), y: Some(y.slice(s![i..i + 1])), weight: None }]).unwrap();
    }
}

/// The largest difference to River's probability of class 1.
fn apart(name: &str, spec: ModelSpec, scaled: bool) -> f64 {
    let (x, y) = phishing();
    let (names, expected) = csv(include_str!("vectors/phishing_p.csv"));
    let column = expected.column(names.iter().position(|found| found == name).unwrap()).to_owned();
    let mut most = 0.0f64;
    let x = x.slice(s![..column.len(), ..]).to_owned();
    let y = y.slice(s![..column.len()]).to_owned();
    play(spec, scaled, &x, &y, |i, model, row| {
        // Naive Bayes and trees say nothing about the first row.
        if !column[i].is_nan() {
            most = most.max((model.predict_proba(row.view()).unwrap()[(0, 1)] - column[i]).abs());
        }
    });
    most
}

fn logistic(step_size: f64, l2: f64) -> ModelSpec {
    let regularization = if l2 > 0.0 { Regularization::L2 } else { Regularization::None };
    ModelSpec::of::<LogisticRegression>(LinearSpec {
        step_size,
        mode: Mode::PerRecord,
        fit_intercept: true,
        intercept_step_size: Some(0.01),
        regularization,
        reg_param: l2,
        ..LinearSpec::default()
    })
}

#[test]
fn logistic_regression_with_and_without_scaler_and_l2() {
    assert!(apart("logreg_raw", logistic(0.01, 0.0), false) < 1e-12);
    assert!(apart("scaler_logreg", logistic(0.1, 0.0), true) < 1e-9);
    assert!(apart("scaler_logreg_l2", logistic(0.05, 0.01), true) < 1e-9);
}

#[test]
fn passive_aggressive_classifiers() {
    let spec = |c, variant| {
        ModelSpec::of::<PassiveAggressiveClassifier>(PassiveAggressiveSpec {
            c,
            variant,
            ..PassiveAggressiveSpec::default()
        })
    };
    assert!(apart("pa1_raw", spec(1.0, Variant::Pa1), false) < 1e-9);
    assert!(apart("pa1_c001", spec(0.01, Variant::Pa1), false) < 1e-9);
    assert!(apart("pa2_scaler", spec(0.1, Variant::Pa2), true) < 1e-9);
}

#[test]
fn gaussian_naive_bayes() {
    let spec = GaussianNaiveBayesSpec { mode: Mode::PerRecord, ..GaussianNaiveBayesSpec::default() };
    assert!(apart("gaussian_nb", ModelSpec::of::<GaussianNaiveBayes>(spec), false) < 1e-9);
}

#[test]
fn linear_regression_on_a_stream_that_drifts() {
    let (x, y) = friedman();
    for (name, scaled) in [("linreg", false), ("scaler_linreg", true)] {
        // River's squared error has no half, so its steps are twice as long.
        let spec = ModelSpec::of::<LinearRegression>(LinearSpec {
            step_size: 0.02,
            mode: Mode::PerRecord,
            fit_intercept: true,
            ..LinearSpec::default()
        });
        let (mut absolute, mut compared) = (0.0, 0);
        let checkpoints = &results()["friedman"][name]["checkpoints"];
        play(spec, scaled, &x, &y, |i, model, row| {
            absolute += (model.predict(row.view()).unwrap()[0] - y[i]).abs();
            let at = checkpoints.as_array().unwrap().iter().find(|c| c["rows"].as_u64() == Some(i as u64 + 1));
            if let Some(expected) = at.map(|c| c["MAE"].as_f64().unwrap()) {
                assert!((absolute / (i + 1) as f64 - expected).abs() < 1e-9 * expected, "{name}");
                compared += 1;
            }
        });
        assert_eq!(compared, 2);
    }
}

#[test]
fn hoeffding_trees() {
    let spec = HoeffdingTreeSpec::default();
    let majority = HoeffdingTreeSpec {
        grace_period: 50.0,
        delta: 1e-5,
        leaf_prediction: LeafPrediction::Majority,
        ..HoeffdingTreeSpec::default()
    };
    let bayes = HoeffdingTreeSpec { leaf_prediction: LeafPrediction::NaiveBayes, ..majority.clone() };
    let adaptive = HoeffdingTreeSpec { adaptive: true, ..majority.clone() };
    for (name, spec) in [
        ("hoeffding_tree", spec),
        ("hoeffding_tree_mc", majority),
        ("hoeffding_tree_nb", bayes),
        ("hoeffding_adaptive_tree_nobootstrap", adaptive),
    ] {
        let found = apart(name, ModelSpec::of::<HoeffdingTree>(spec), false);
        assert!(found < 1e-9, "{name}: {found}");
    }
}
