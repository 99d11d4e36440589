//! What each family promises, on data where the answer is known.

use ndarray::{Array1, Array2, array, s};
use tidemill_ml::families::{
    bayes::{GaussianNaiveBayes, GaussianNaiveBayesSpec, MultinomialNaiveBayes, MultinomialNaiveBayesSpec},
    linear::{LinearRegression, LinearSpec, LogisticRegression, Mode, Optimizer, Regularization},
    passive::{PassiveAggressiveRegressor, PassiveAggressiveSpec, Variant},
    rls::{RecursiveLeastSquares, RlsSpec},
    softmax::{Softmax, SoftmaxSpec},
    tree::{HoeffdingTree, HoeffdingTreeSpec},
};
use tidemill_ml::{Learned, Model, ModelSpec, Rows};

fn optimizer(name: &str) -> Optimizer {
    serde_json::from_value(serde_json::json!({ "name": name })).unwrap()
}

/// `y = 2 x0 - x1 + 3` on a grid.
fn plane() -> (Array2<f64>, Array1<f64>) {
    let x = Array2::from_shape_fn((80, 2), |(i, j)| ((i * (j + 3) * 7 + j) % 19) as f64 / 9.0 - 1.0);
    let y = x.rows().into_iter().map(|row| 2.0 * row[0] - row[1] + 3.0).collect();
    (x, y)
}

fn train(model: &mut Model, x: &Array2<f64>, y: &Array1<f64>) {
    model.train(&[Rows { x: x.view(), y: Some(y.view()), weight: None }]).unwrap();
}

fn accuracy(model: &Model, x: &Array2<f64>, y: &Array1<f64>) -> f64 {
    let right = model.predict(x.view()).unwrap().iter().zip(y).filter(|(p, y)| p == y).count();
    right as f64 / y.len() as f64
}

fn list(model: &Model) -> Vec<f64> {
    match &model.learned()[..] {
        [(_, Learned::List(weights)), (_, Learned::Number(intercept)), ..] => [&weights[..], &[*intercept]].concat(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_optimizer_finds_the_plane() {
    let (x, y) = plane();
    for (name, step_size) in
        [("sgd", 0.1), ("momentum", 0.02), ("adagrad", 0.5), ("rmsprop", 0.02), ("adam", 0.05), ("ftrl", 1.0)]
    {
        for mode in [Mode::Batch, Mode::PerRecord] {
            let mut model = Model::new(ModelSpec::of::<LinearRegression>(LinearSpec {
                optimizer: optimizer(name),
                step_size,
                mode,
                fit_intercept: true,
                convergence_tolerance: 0.0,
                ..LinearSpec::default()
            }))
            .unwrap();
            (0..60).for_each(|_| train(&mut model, &x, &y));
            for (found, expected) in list(&model).iter().zip([2.0, -1.0, 3.0]) {
                assert!((found - expected).abs() < 0.05, "{name} {mode:?}: {:?}", list(&model));
            }
        }
    }
}

#[test]
fn ftrl_makes_true_zeros_and_l1_beside_an_optimizer_is_refused() {
    let (x, y) = plane();
    let ftrl = Optimizer::Ftrl { beta: 1.0, l1: 1.0, l2: 0.0 };
    let wide =
        ndarray::concatenate![ndarray::Axis(1), x, Array2::from_shape_fn((80, 1), |(i, _)| (i % 2) as f64 * 1e-3)];
    let spec = LinearSpec { optimizer: ftrl, step_size: 0.5, fit_intercept: true, ..LinearSpec::default() };
    let mut model = Model::new(ModelSpec::of::<LinearRegression>(spec.clone())).unwrap();
    (0..20).for_each(|_| train(&mut model, &wide, &y));
    assert_eq!(list(&model)[2], 0.0);
    let refused = LinearSpec { regularization: Regularization::L1, ..spec };
    assert_eq!(ModelSpec::of::<LinearRegression>(refused).validate().unwrap_err().parameter, "regularization");
}

#[test]
fn recursive_least_squares_is_ridge_regression_and_follows_a_change_if_it_forgets() {
    let (x, y) = plane();
    let noisy: Array1<f64> = y.iter().enumerate().map(|(i, y)| y + ((i * 31) % 7) as f64 / 7.0).collect();
    let variance = 10.0;
    let rls = RlsSpec { forgetting: 1.0, initial_variance: variance, fit_intercept: false };
    let mut model = Model::new(ModelSpec::of::<RecursiveLeastSquares>(rls)).unwrap();
    train(&mut model, &x, &noisy);
    // (X'X + I / variance) w = X'y, by Cramer's rule.
    let (a, b) = (x.t().dot(&x) + Array2::<f64>::eye(2) / variance, x.t().dot(&noisy));
    let det = a[(0, 0)] * a[(1, 1)] - a[(0, 1)] * a[(1, 0)];
    let expected = [(b[0] * a[(1, 1)] - b[1] * a[(0, 1)]) / det, (a[(0, 0)] * b[1] - a[(1, 0)] * b[0]) / det, 0.0];
    for (found, expected) in list(&model).iter().zip(expected) {
        assert!((found - expected).abs() < 1e-10, "{found} {expected}");
    }
    let error_after_a_change = |forgetting| {
        let spec = RlsSpec { forgetting, ..RlsSpec::default() };
        let mut model = Model::new(ModelSpec::of::<RecursiveLeastSquares>(spec)).unwrap();
        (0..20).for_each(|_| train(&mut model, &x, &y));
        train(&mut model, &x, &y.mapv(|y| -y));
        let predicted = model.predict(x.view()).unwrap();
        (predicted + &y).mapv(|e| e * e).mean().unwrap()
    };
    let [quick, slow] = [0.95, 1.0].map(error_after_a_change);
    assert!(quick < slow / 2.0, "{quick} {slow}");
}

#[test]
fn forgetting_without_news_stays_bounded() {
    let mut model =
        Model::new(ModelSpec::of::<RecursiveLeastSquares>(RlsSpec { forgetting: 0.5, ..RlsSpec::default() })).unwrap();
    let (x, y) = (Array2::zeros((500, 2)), Array1::from_elem(500, 1.0));
    (0..20).for_each(|_| train(&mut model, &x, &y));
    assert!(list(&model).iter().all(|w| w.is_finite()));
    let (x, y) = plane();
    train(&mut model, &x, &y);
    assert!((list(&model)[0] - 2.0).abs() < 1e-3);
}

#[test]
fn passive_aggressive_regression_is_right_about_the_row_it_just_learnt() {
    let spec = PassiveAggressiveSpec { variant: Variant::Pa, fit_intercept: false, ..PassiveAggressiveSpec::default() };
    let mut model = Model::new(ModelSpec::of::<PassiveAggressiveRegressor>(spec)).unwrap();
    let (x, y) = plane();
    for i in 0..80 {
        let row = Rows { x: x.slice(s![i..i + 1, ..]), y: Some(y.slice(s![i..i + 1])), weight: None };
        let norm = x.row(i).dot(&x.row(i));
        model.train(&[row]).unwrap();
        let off = (model.predict(x.slice(s![i..i + 1, ..])).unwrap()[0] - y[i]).abs();
        assert!(norm == 0.0 || off <= 0.1 + 1e-12, "row {i} is off by {off}");
    }
}

/// Three groups on a triangle.
fn groups() -> (Array2<f64>, Array1<f64>) {
    let corners = [[0.0, 3.0], [3.0, -2.0], [-3.0, -2.0]];
    let x = Array2::from_shape_fn((90, 2), |(i, j)| corners[i % 3][j] + ((i * (7 + 4 * j)) % 13) as f64 / 13.0 - 0.5);
    (x, Array1::from_shape_fn(90, |i| (i % 3) as f64))
}

#[test]
fn several_classes() {
    let (x, y) = groups();
    let softmax = SoftmaxSpec { classes: 3, ..SoftmaxSpec::default() };
    let bayes = GaussianNaiveBayesSpec { classes: 3, ..GaussianNaiveBayesSpec::default() };
    for spec in [
        ModelSpec::of::<Softmax>(softmax.clone()),
        ModelSpec::of::<Softmax>(SoftmaxSpec { mode: Mode::PerRecord, ..softmax }),
        ModelSpec::of::<GaussianNaiveBayes>(bayes),
    ] {
        let mut model = Model::new(spec).unwrap();
        let even = model.predict_proba(x.view()).unwrap();
        assert!(even.iter().all(|p| (p - 1.0 / 3.0).abs() < 1e-12));
        (0..5).for_each(|_| train(&mut model, &x, &y));
        assert_eq!(accuracy(&model, &x, &y), 1.0);
        let sums = model.predict_proba(x.view()).unwrap().sum_axis(ndarray::Axis(1));
        assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-12));
    }
}

#[test]
fn softmax_of_two_classes_is_logistic_regression() {
    let (x, labels) = groups();
    let y = labels.mapv(|label| f64::from(u8::from(label == 0.0)));
    let softmax = SoftmaxSpec { step_size: 0.1, convergence_tolerance: 0.0, ..SoftmaxSpec::default() };
    // Two opposite lists of weights move twice as far apart.
    let logistic =
        LinearSpec { step_size: 0.2, convergence_tolerance: 0.0, fit_intercept: true, ..LinearSpec::default() };
    let [mut a, mut b] = [ModelSpec::of::<Softmax>(softmax), ModelSpec::of::<LogisticRegression>(logistic)]
        .map(|s| Model::new(s).unwrap());
    train(&mut a, &x, &y);
    train(&mut b, &x, &y);
    let difference = a.predict_proba(x.view()).unwrap() - b.predict_proba(x.view()).unwrap();
    assert!(difference.iter().all(|d| d.abs() < 1e-12));
}

#[test]
fn naive_bayes_learns_the_same_from_a_batch_and_from_records() {
    let (x, y) = groups();
    let spec = |mode| GaussianNaiveBayesSpec { classes: 3, mode, ..GaussianNaiveBayesSpec::default() };
    let [mut batch, mut records] =
        [Mode::Batch, Mode::PerRecord].map(|m| Model::new(ModelSpec::of::<GaussianNaiveBayes>(spec(m))).unwrap());
    train(&mut batch, &x, &y);
    train(&mut records, &x, &y);
    let difference = batch.predict_proba(x.view()).unwrap() - records.predict_proba(x.view()).unwrap();
    assert!(difference.iter().all(|d| d.abs() < 1e-12));
}

#[test]
fn multinomial_naive_bayes_as_in_the_book() {
    // Manning, Raghavan, Schütze, example 13.1: Chinese, Beijing, Shanghai, Macao, Tokyo, Japan; class 1 is China.
    let x = array![
        [2.0, 1.0, 0.0, 0.0, 0.0, 0.0],
        [2.0, 0.0, 1.0, 0.0, 0.0, 0.0],
        [1.0, 0.0, 0.0, 1.0, 0.0, 0.0],
        [1.0, 0.0, 0.0, 0.0, 1.0, 1.0]
    ];
    let y = array![1.0, 1.0, 1.0, 0.0];
    let mut model = Model::new(ModelSpec::of::<MultinomialNaiveBayes>(MultinomialNaiveBayesSpec::default())).unwrap();
    train(&mut model, &x, &y);
    let p = model.predict_proba(array![[3.0, 0.0, 0.0, 0.0, 1.0, 1.0]].view()).unwrap();
    let china = 3.0 / 4.0 * (3.0f64 / 7.0).powi(3) / 14.0 / 14.0;
    let other = 1.0 / 4.0 * (2.0f64 / 9.0).powi(3) * (2.0 / 9.0) * (2.0 / 9.0);
    assert!((p[(0, 1)] - china / (china + other)).abs() < 1e-12);
    let trained = model.train(&[Rows { x: (-&x).view(), y: Some(y.view()), weight: None }]).unwrap();
    assert_eq!((trained.rows, trained.skipped), (0, 4));
}

/// Rows on the unit square; class 1 where `x0 > 0.5` and `x1 > 0.5`, or the opposite.
fn corner(batch: usize, turned: bool) -> (Array2<f64>, Array1<f64>) {
    let spread = |n: usize| (n as f64 * 0.618_033_988_749_895).fract();
    let x = Array2::from_shape_fn((500, 2), |(i, j)| spread((batch * 500 + i) * (j * 7 + 1) + j * 13));
    let y = x.rows().into_iter().map(|row| f64::from(u8::from((row[0] > 0.5 && row[1] > 0.5) != turned))).collect();
    (x, y)
}

#[test]
fn a_tree_finds_the_corner_and_an_adaptive_one_takes_back_what_turned_wrong() {
    for adaptive in [false, true] {
        let spec = HoeffdingTreeSpec { adaptive, ..HoeffdingTreeSpec::default() };
        let mut model = Model::new(ModelSpec::of::<HoeffdingTree>(spec)).unwrap();
        let mut accuracies = Vec::new();
        for batch in 0..40 {
            let (x, y) = corner(batch, batch >= 20);
            accuracies.push(accuracy(&model, &x, &y));
            train(&mut model, &x, &y);
        }
        assert!(accuracies[19] > 0.93, "{accuracies:?}");
        let Learned::Count(taken) = model.learned()[3].1 else { panic!("no count") };
        assert_eq!(taken > 0, adaptive, "{accuracies:?}");
        assert!(!adaptive || accuracies[39] > 0.9, "{accuracies:?}");
        assert_eq!(Model::from_bytes(&model.to_bytes()).unwrap(), model);
    }
}
