//! Metrics against their definitions, computed from scratch.

use ndarray::{Array1, array, s};
use proptest::prelude::*;
use tidemill_ml::families::kmeans::{KMeans, KMeansSpec};
use tidemill_ml::metrics::{Evaluator, EvaluatorSpec, Metric, Observed, Task};
use tidemill_ml::{Model, ModelSpec};

type Batch = Vec<(f64, f64, f64)>;

/// Prediction, label, score.
fn columns(rows: &Batch) -> [Array1<f64>; 3] {
    [rows.iter().map(|r| r.0).collect(), rows.iter().map(|r| r.1).collect(), rows.iter().map(|r| r.2).collect()]
}

fn update(evaluator: &mut Evaluator, rows: &Batch, cut: usize) -> (u64, u64) {
    let [prediction, label, score] = columns(rows);
    let cut = cut.min(rows.len());
    let part = |from: usize, to: usize| Observed {
        prediction: prediction.slice(s![from..to]),
        label: Some(label.slice(s![from..to])),
        score: Some(score.slice(s![from..to])),
        weight: None,
    };
    evaluator.update(&[part(0, cut), part(cut, rows.len())]).unwrap()
}

fn report(spec: EvaluatorSpec, batches: &[Batch]) -> Vec<(&'static str, f64)> {
    let mut evaluator = Evaluator::new(spec).unwrap();
    batches.iter().for_each(|batch| {
        update(&mut evaluator, batch, 3);
    });
    evaluator.report()
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{found}, expected {expected}");
}

fn get(report: &[(&'static str, f64)], name: &str) -> f64 {
    report.iter().find(|(found, _)| *found == name).unwrap().1
}

#[test]
fn regression() {
    let rows = vec![(2.5, 3.0, 0.0), (0.0, -0.5, 0.0), (2.0, 2.0, 0.0), (8.0, 7.0, 0.0)];
    // The values in the documentation of scikit-learn.
    let found = report(EvaluatorSpec::new(Task::Regression), &[rows]);
    for (name, expected) in [("count", 4.0), ("mse", 0.375), ("mae", 0.5), ("r2", 0.9486081370449679)] {
        close(get(&found, name), expected);
    }
    close(get(&found, "rmse"), 0.375f64.sqrt());
}

#[test]
fn binary() {
    let rows = vec![
        (0.0, 0.0, 0.1),
        (0.0, 0.0, 0.4),
        (0.0, 1.0, 0.35),
        (1.0, 1.0, 0.8),
        (1.0, 0.0, 0.6),
        (f64::NAN, 1.0, 0.6),
    ];
    let found = report(EvaluatorSpec::new(Task::Binary), std::slice::from_ref(&rows));
    let logs: f64 = rows.iter().map(|(_, y, p)| -(if *y == 1.0 { *p } else { 1.0 - p }).ln()).sum();
    let expected = [
        ("accuracy", 0.5),
        ("balanced_accuracy", (1.0 / 3.0 + 2.0 / 3.0) / 2.0),
        ("precision", 0.5),
        ("recall", 1.0 / 3.0),
        ("f1", 0.4),
        ("log_loss", logs / 6.0),
        // Pairs won: 0.35 beats one, 0.8 beats three, 0.6 beats two and ties one.
        ("auc", 6.5 / 9.0),
        ("auc_error", 0.5 / 9.0),
        ("true_positives", 1.0),
        ("false_positives", 1.0),
        ("true_negatives", 2.0),
        ("false_negatives", 2.0),
    ];
    for (name, expected) in expected {
        close(get(&found, name), expected);
    }
}

#[test]
fn several_classes() {
    let pairs = [(0., 0.), (2., 1.), (1., 2.), (0., 0.), (0., 1.), (1., 2.)];
    let rows: Batch = pairs.iter().map(|(prediction, label)| (*prediction, *label, 0.5)).collect();
    let mut evaluator = Evaluator::new(EvaluatorSpec::new(Task::Multiclass)).unwrap();
    assert_eq!(update(&mut evaluator, &rows, 2), (6, 0));
    let found = evaluator.report();
    for (name, expected) in [
        ("accuracy", 1.0 / 3.0),
        ("balanced_accuracy", 1.0 / 3.0),
        ("precision", 2.0 / 9.0),
        ("recall", 1.0 / 3.0),
        ("f1", 4.0 / 15.0),
        ("kappa", 0.0),
        ("log_loss", 0.5f64.ln().abs()),
    ] {
        close(get(&found, name), expected);
    }
    let (classes, matrix) = evaluator.confusion();
    assert_eq!((classes, matrix[(2, 1)], matrix[(1, 0)]), (vec![0, 1, 2], 2.0, 1.0));
    assert_eq!(update(&mut evaluator, &vec![(1.0, 0.5, 0.5), (1.0, f64::NAN, 0.5), (1.0, -1.0, 0.5)], 0), (0, 3));
}

#[test]
fn a_clustering_gives_the_distances_that_are_evaluated() {
    let centers = Some(vec![vec![0.0, 0.0], vec![3.0, 4.0], vec![6.0, 8.0]]);
    let spec = ModelSpec::of::<KMeans>(KMeansSpec { k: 3, initial_centers: centers, ..KMeansSpec::default() });
    let distances = Model::new(spec).unwrap().distances(array![[3.0, 4.0], [6.0, 7.0]].view()).unwrap();
    assert_eq!(distances, array![[0.0, 5.0], [1.0, 18f64.sqrt()]]);
}

#[test]
fn clusters_by_the_two_nearest_centres() {
    let (nearest, second) = (Array1::from_vec(vec![1.0, 0.0, 2.0]), Array1::from_vec(vec![4.0, 3.0, 2.0]));
    let mut evaluator = Evaluator::new(EvaluatorSpec::new(Task::Clustering)).unwrap();
    let rows = Observed { prediction: nearest.view(), label: None, score: Some(second.view()), weight: None };
    evaluator.update(&[rows]).unwrap();
    let found = evaluator.report();
    close(get(&found, "mean_squared_distance"), 5.0 / 3.0);
    close(get(&found, "silhouette"), (0.75 + 1.0 + 0.0) / 3.0);
}

#[test]
fn fading_counts_the_past_less() {
    let spec = EvaluatorSpec { fading: Some(0.5), ..EvaluatorSpec::new(Task::Regression) };
    let found = report(spec, &[vec![(3.0, 0.0, 0.0)], vec![(2.0, 0.0, 0.0)], vec![(1.0, 0.0, 0.0)]]);
    close(get(&found, "count"), 1.75);
    close(get(&found, "mse"), (9.0 * 0.25 + 4.0 * 0.5 + 1.0) / 1.75);
}

#[test]
fn a_definition_that_cannot_be_names_the_parameter() {
    let regression = EvaluatorSpec::new(Task::Regression);
    for (name, spec) in [
        ("metrics", EvaluatorSpec { metrics: vec![Metric::Auc], ..regression.clone() }),
        ("window", EvaluatorSpec { window: Some(0), ..regression.clone() }),
        ("fading", EvaluatorSpec { fading: Some(1.0), ..regression.clone() }),
        ("fading", EvaluatorSpec { fading: Some(0.5), window: Some(3), ..regression.clone() }),
        ("auc_bins", EvaluatorSpec { auc_bins: 0, ..regression.clone() }),
    ] {
        assert_eq!(spec.validate().unwrap_err().parameter, name);
    }
    let before = Evaluator::new(regression).unwrap().report();
    assert!(before.iter().all(|(name, value)| *name == "count" || value.is_nan()));
}

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let class = || (0u8..2).prop_map(f64::from);
    let row = (class(), class(), 0.0..1.0f64);
    proptest::collection::vec(proptest::collection::vec(row, 0..20), 1..8)
}

proptest! {
    #[test]
    fn a_window_equals_a_report_from_scratch(batches in batches(), window in 1u32..5) {
        for task in [Task::Regression, Task::Binary, Task::Multiclass, Task::Clustering] {
            let spec = EvaluatorSpec { window: Some(window), ..EvaluatorSpec::new(task) };
            let recent = &batches[batches.len().saturating_sub(window as usize)..];
            let (all, scratch) = (report(spec.clone(), &batches), report(spec, recent));
            prop_assert_eq!(format!("{all:?}"), format!("{scratch:?}"));
        }
    }

    #[test]
    fn counts_do_not_depend_on_the_splits_and_bytes_come_back(batches in batches(), cut in 0usize..20) {
        for task in [Task::Binary, Task::Multiclass] {
            let spec = EvaluatorSpec::new(task);
            let [mut one, mut two] = [(); 2].map(|()| Evaluator::new(spec.clone()).unwrap());
            for batch in &batches {
                update(&mut one, batch, cut);
                update(&mut two, batch, 0);
            }
            prop_assert_eq!(one.confusion(), two.confusion());
            prop_assert_eq!(Evaluator::from_bytes(&one.to_bytes()).unwrap(), one);
        }
    }

    #[test]
    fn auc_is_the_exact_one_up_to_its_stated_error(batches in batches(), bins in 1u32..50) {
        let spec = EvaluatorSpec { auc_bins: bins, ..EvaluatorSpec::new(Task::Binary) };
        let found = report(spec, &batches);
        let rows = batches.concat();
        let (mut won, mut pairs) = (0.0, 0.0);
        for (_, _, p) in rows.iter().filter(|r| r.1 == 1.0) {
            for (_, _, q) in rows.iter().filter(|r| r.1 == 0.0) {
                pairs += 1.0;
                won += if p > q { 1.0 } else if p == q { 0.5 } else { 0.0 };
            }
        }
        if pairs > 0.0 {
            prop_assert!((get(&found, "auc") - won / pairs).abs() <= get(&found, "auc_error") + 1e-12);
        }
    }
}
