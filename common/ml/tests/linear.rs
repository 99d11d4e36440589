//! What linear models do beyond Spark's.

use ndarray::{Array1, Array2};
use tidemill_ml::families::linear::{LinearRegression, LinearSpec, LogisticRegression, Mode, Regularization, Schedule};
use tidemill_ml::{Health, Learned, Model, ModelSpec, Rows, SpecError, Trained};

/// `y = 2 x0 - x1 + 0 x2 + 5` on a grid.
fn grid() -> (Array2<f64>, Array1<f64>) {
    let x = Array2::from_shape_fn((60, 3), |(i, j)| ((i * (j + 3) * 7 + j) % 19) as f64 / 9.0 - 1.0);
    let y = x.rows().into_iter().map(|row| 2.0 * row[0] - row[1] + 5.0).collect();
    (x, y)
}

fn train(spec: LinearSpec, batches: usize) -> (Vec<f64>, f64, Trained) {
    let (x, y) = grid();
    let mut model = Model::new(ModelSpec::of::<LinearRegression>(spec)).unwrap();
    let mut last = Trained::default();
    for _ in 0..batches {
        last = model.train(&[Rows { x: x.view(), y: Some(y.view()), weight: None }]).unwrap();
    }
    match &model.learned()[..] {
        [(_, Learned::List(weights)), (_, Learned::Number(intercept)), _] => (weights.clone(), *intercept, last),
        other => panic!("{other:?}"),
    }
}

fn spec() -> LinearSpec {
    LinearSpec { step_size: 0.5, fit_intercept: true, convergence_tolerance: 1e-9, ..LinearSpec::default() }
}

#[test]
fn the_intercept_is_carried_from_batch_to_batch() {
    let (weights, intercept, last) = train(spec(), 40);
    for (found, expected) in weights.iter().chain([&intercept]).zip([2.0, -1.0, 0.0, 5.0]) {
        assert!((found - expected).abs() < 1e-6, "{weights:?} {intercept}");
    }
    assert!(last.loss.unwrap() < 1e-10);
}

#[test]
fn regularisation_works_and_l1_gives_true_zeros() {
    let l2 = LinearSpec { regularization: Regularization::L2, reg_param: 0.1, ..spec() };
    let l1 = LinearSpec { regularization: Regularization::L1, reg_param: 0.1, ..spec() };
    let (small, _, last) = train(l2, 40);
    assert!(small[0] < 1.9 && small[0] > 1.0, "{small:?}");
    assert!(last.loss.unwrap() > 0.05, "the penalty is part of the loss");
    let (sparse, _, _) = train(l1, 40);
    assert_eq!(sparse[2], 0.0);
    assert!(sparse[0] < 1.9, "{sparse:?}");
}

#[test]
fn a_sample_of_the_rows_learns_too() {
    let (weights, _, last) = train(LinearSpec { mini_batch_fraction: 0.3, ..spec() }, 40);
    assert!((weights[0] - 2.0).abs() < 1e-2, "{weights:?}");
    assert_eq!(last.rows, 60);
    let none = LinearSpec { mini_batch_fraction: 1e-9, ..spec() };
    let (_, _, last) = train(none, 1);
    assert_eq!((last.updates, last.loss), (0, None));
}

#[test]
fn a_weight_counts_as_that_many_rows() {
    let (x, y) = grid();
    let twice = ndarray::concatenate![ndarray::Axis(0), x, x];
    let labels = ndarray::concatenate![ndarray::Axis(0), y, y];
    let weight = Array1::from_elem(60, 2.0);
    let mut model = Model::new(ModelSpec::of::<LinearRegression>(spec())).unwrap();
    let mut other = model.clone();
    model.train(&[Rows { x: twice.view(), y: Some(labels.view()), weight: None }]).unwrap();
    other.train(&[Rows { x: x.view(), y: Some(y.view()), weight: Some(weight.view()) }]).unwrap();
    let [a, b] = [&model, &other].map(|m| m.predict(x.view()).unwrap());
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-12));
}

#[test]
fn labels_that_are_no_class_and_weights_that_are_no_weight_are_skipped_and_counted() {
    let x = Array2::from_elem((5, 1), 1.0);
    let y = Array1::from_vec(vec![1.0, 2.0, f64::NAN, 0.0, 1.0]);
    let weight = Array1::from_vec(vec![1.0, 1.0, 1.0, -1.0, f64::NAN]);
    let mut model = Model::new(ModelSpec::of::<LogisticRegression>(LinearSpec::default())).unwrap();
    let trained = model.train(&[Rows { x: x.view(), y: Some(y.view()), weight: Some(weight.view()) }]).unwrap();
    assert_eq!((trained.rows, trained.skipped), (1, 4));
    assert_eq!(model.seen(), (1, 1, 4));
}

#[test]
fn a_model_that_diverges_says_since_when() {
    let (x, y) = grid();
    let wild = LinearSpec { step_size: 1000.0, convergence_tolerance: 0.0, ..LinearSpec::default() };
    let mut model = Model::new(ModelSpec::of::<LinearRegression>(wild)).unwrap();
    let mut since = None;
    for batch in 1..=20 {
        model.train(&[Rows { x: x.view(), y: Some(y.view()), weight: None }]).unwrap();
        match model.health() {
            Health::Diverged { since_batch } => assert_eq!(*since.get_or_insert(batch), since_batch),
            Health::Healthy => assert_eq!(since, None),
        }
    }
    assert!(since.is_some());
}

#[test]
fn schedules_per_record() {
    for schedule in [Schedule::PerBatch, Schedule::Global, Schedule::Constant] {
        let (weights, _, last) = train(LinearSpec { mode: Mode::PerRecord, schedule, step_size: 0.3, ..spec() }, 30);
        assert!((weights[0] - 2.0).abs() < 0.05, "{schedule:?} {weights:?}");
        assert_eq!(last.updates, 60);
    }
}

#[test]
fn a_definition_that_cannot_be_names_the_parameter() {
    let wrong = [
        ("step_size", LinearSpec { step_size: -1.0, ..spec() }),
        ("iterations", LinearSpec { iterations: 0, ..spec() }),
        ("mini_batch_fraction", LinearSpec { mini_batch_fraction: 1.5, ..spec() }),
        ("convergence_tolerance", LinearSpec { convergence_tolerance: f64::NAN, ..spec() }),
        ("reg_param", LinearSpec { reg_param: 0.1, ..spec() }),
        ("initial_intercept", LinearSpec { fit_intercept: false, initial_intercept: 1.0, ..spec() }),
        ("initial_weights", LinearSpec { initial_weights: Some(vec![]), ..spec() }),
        ("threshold", LinearSpec { threshold: Some(0.5), ..spec() }),
    ];
    for (name, spec) in wrong {
        let SpecError { parameter, .. } = ModelSpec::of::<LinearRegression>(spec).validate().unwrap_err();
        assert_eq!(parameter, name);
    }
    let text = serde_json::json!({ "kind": "logistic_regression", "step_size": 0.5, "steps": 3 });
    let error = serde_json::from_value::<ModelSpec>(text).unwrap_err();
    assert!(error.to_string().contains("unknown field `steps`"), "{error}");
}
