//! Learning from sums that were made where the rows are.

use ndarray::{Array1, Array2, s};
use proptest::prelude::*;
use tidemill_ml::families::{
    bayes::{GaussianNaiveBayes, GaussianNaiveBayesSpec, MultinomialNaiveBayes, MultinomialNaiveBayesSpec},
    kmeans::{KMeans, KMeansSpec},
    linear::{LinearRegression, LinearSpec, LogisticRegression, Optimizer, Regularization},
    softmax::{Softmax, SoftmaxSpec},
};
use tidemill_ml::{Health, Learned, Model, ModelError, ModelSpec, Partial, Rows, Trained};

fn one_pass() -> Vec<ModelSpec> {
    let linear = LinearSpec { fit_intercept: true, ..LinearSpec::default() };
    let once = LinearSpec { iterations: 1, ..linear.clone() };
    vec![
        ModelSpec::of::<LinearRegression>(linear.clone()),
        ModelSpec::of::<LinearRegression>(once.clone()),
        ModelSpec::of::<LinearRegression>(LinearSpec {
            optimizer: Optimizer::Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8 },
            ..linear.clone()
        }),
        ModelSpec::of::<LinearRegression>(LinearSpec {
            regularization: Regularization::L1,
            reg_param: 0.01,
            fit_intercept: false,
            ..linear
        }),
        ModelSpec::of::<LogisticRegression>(once),
        ModelSpec::of::<KMeans>(KMeansSpec { k: 3, decay_factor: 0.5, ..KMeansSpec::default() }),
        ModelSpec::of::<Softmax>(SoftmaxSpec { iterations: 1, l2: 0.1, ..SoftmaxSpec::default() }),
        ModelSpec::of::<GaussianNaiveBayes>(GaussianNaiveBayesSpec::default()),
        ModelSpec::of::<MultinomialNaiveBayes>(MultinomialNaiveBayesSpec::default()),
    ]
}

#[derive(Debug)]
struct Batch {
    x: Array2<f64>,
    y: Array1<f64>,
    weight: Array1<f64>,
}

impl Batch {
    /// Splits of five rows; the second of every five has no weight.
    fn splits(&self) -> Vec<Rows<'_>> {
        let bounds = (0..self.y.len()).step_by(5).map(|from| from..(from + 5).min(self.y.len()));
        let part = |rows: std::ops::Range<usize>| Rows {
            x: self.x.slice(s![rows.clone(), ..]),
            y: Some(self.y.slice(s![rows.clone()])),
            weight: Some(self.weight.slice(s![rows])),
        };
        bounds.map(part).collect()
    }
}

fn batch() -> impl Strategy<Value = Batch> {
    (0usize..23, any::<u32>()).prop_map(|(n, seed)| {
        let number =
            |i: usize| f64::from(seed.wrapping_mul(2_654_435_761).wrapping_add(i as u32 * 40_503) % 1000) / 250.0;
        Batch {
            x: Array2::from_shape_fn((n, 3), |(i, j)| number(i * 3 + j)),
            y: Array1::from_shape_fn(n, |i| f64::from(u8::from(number(i * 7) > 2.0))),
            weight: Array1::from_shape_fn(n, |i| if i % 5 == 1 { 0.0 } else { 1.0 + number(i) }),
        }
    })
}

fn apart(model: &mut Model, splits: &[Rows<'_>]) -> Trained {
    let partials: Vec<Partial> = splits
        .iter()
        .map(|split| {
            let partial = model.partial(split).unwrap();
            let back = Partial::from_bytes(&partial.to_bytes()).unwrap();
            assert_eq!(back, partial);
            back
        })
        .collect();
    model.apply(&partials).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_batch_is_its_partials_in_order(batches in proptest::collection::vec(batch(), 1..5)) {
        for spec in one_pass() {
            prop_assert!(spec.one_pass(3), "{spec:?}");
            let [mut whole, mut parts] = [(); 2].map(|()| Model::new(spec.clone()).unwrap());
            for batch in &batches {
                let trained = whole.train(&batch.splits()).unwrap();
                prop_assert_eq!(apart(&mut parts, &batch.splits()), trained);
                prop_assert_eq!(whole.to_bytes(), parts.to_bytes());
            }
        }
    }
}

/// `y = 3 x0 - 2 x1 + 7` and a little more, with features of different sizes, the first between `-size` and `size`.
fn plane(rows: usize, features: usize, batch: usize, size: f64) -> (Array2<f64>, Array1<f64>) {
    let x = Array2::from_shape_fn((rows, features), |(i, j)| {
        let at = (i + batch * rows) * 31 + j * 17 + i * j * 7;
        ((at % 101) as f64 / 50.0 - 1.0) * (1.0 + j as f64 / 3.0) * size
    });
    let y = x.rows().into_iter().enumerate().map(|(i, x)| 3.0 * x[0] - 2.0 * x[1] + 7.0 + (i % 13) as f64 / 20.0);
    let y = y.collect();
    (x, y)
}

fn parameters(model: &Model) -> Vec<f64> {
    match &model.learned()[..] {
        [(_, Learned::List(weights)), (_, Learned::Number(intercept)), _] => [&weights[..], &[*intercept]].concat(),
        other => panic!("{other:?}"),
    }
}

/// Nearly one, so that every update passes over all rows of the batch.
const ALL_ROWS: f64 = 1.0 - f64::EPSILON;

/// Trains once with `X'X` and once with a pass per update; gives the largest difference of parameters, relative to the largest
/// parameter, until one of them is not finite, and when that was.
fn compared(spec: LinearSpec, batches: usize, size: f64) -> (f64, [Option<u64>; 2]) {
    let passes = LinearSpec { mini_batch_fraction: ALL_ROWS, ..spec.clone() };
    let [mut one, mut several] =
        [spec, passes].map(|spec| Model::new(ModelSpec::of::<LinearRegression>(spec)).unwrap());
    assert!(one.spec().one_pass(4) && !several.spec().one_pass(4));
    let mut worst: f64 = 0.0;
    for batch in 0..batches {
        let (x, y) = plane(90, 4, batch, size);
        let rows = [Rows { x: x.view(), y: Some(y.view()), weight: None }];
        let [a, b] = [&mut one, &mut several].map(|model| model.train(&rows).unwrap());
        assert_eq!((a.rows, a.updates), (b.rows, b.updates));
        let [a, b] = [&one, &several].map(parameters);
        if a.iter().chain(&b).all(|p| p.is_finite()) {
            let size = b.iter().fold(0.0, |most: f64, p| most.max(p.abs()));
            worst = a.iter().zip(&b).fold(worst, |worst, (a, b)| worst.max((a - b).abs() / size));
        }
    }
    let since = [one, several].map(|model| match model.health() {
        Health::Healthy => None,
        Health::Diverged { since_batch } => Some(since_batch),
    });
    (worst, since)
}

#[test]
fn squares_are_as_good_as_a_pass_per_update() {
    let spec = LinearSpec { fit_intercept: true, step_size: 0.3, ..LinearSpec::default() };
    let l2 = LinearSpec { regularization: Regularization::L2, reg_param: 0.1, ..spec.clone() };
    let momentum = LinearSpec { optimizer: Optimizer::Momentum { rho: 0.9 }, step_size: 0.05, ..spec.clone() };
    for spec in [spec, l2, momentum] {
        let (worst, since) = compared(spec, 12, 1.0);
        assert!(worst < 1e-12, "{worst:e}");
        assert_eq!(since, [None, None]);
    }
}

#[test]
fn a_step_that_is_too_large_diverges_as_with_a_pass_per_update() {
    let wild = LinearSpec { fit_intercept: true, step_size: 1.0, convergence_tolerance: 0.0, ..LinearSpec::default() };
    let (worst, since) = compared(wild, 20, 6.0);
    assert!(worst < 1e-9, "{worst:e}");
    assert!(since[0].is_some() && since[0] == since[1], "{since:?}");
}

#[test]
fn what_takes_several_passes_gives_no_sums() {
    let (x, y) = plane(9, 4, 0, 1.0);
    let rows = Rows { x: x.view(), y: Some(y.view()), weight: None };
    let several = [
        ModelSpec::of::<LogisticRegression>(LinearSpec::default()),
        ModelSpec::of::<LinearRegression>(LinearSpec { mini_batch_fraction: 0.5, ..LinearSpec::default() }),
        ModelSpec::of::<LinearRegression>(LinearSpec {
            mini_batch_fraction: 0.5,
            iterations: 1,
            ..LinearSpec::default()
        }),
        ModelSpec::of::<Softmax>(SoftmaxSpec::default()),
    ];
    for spec in several {
        let model = Model::new(spec.clone()).unwrap();
        assert!(!spec.one_pass(4));
        assert!(matches!(model.partial(&rows), Err(ModelError::NotGiven { .. })));
    }
    let wide = |iterations| ModelSpec::of::<LinearRegression>(LinearSpec { iterations, ..LinearSpec::default() });
    assert_eq!([wide(2).one_pass(17), wide(50).one_pass(400), wide(1000).one_pass(513)], [false, true, false]);
    assert!(wide(1).one_pass(100_000));
}

#[test]
fn sums_of_another_model_are_refused_and_change_nothing() {
    let (x, y) = plane(9, 4, 0, 1.0);
    let rows = Rows { x: x.view(), y: Some(y.view()), weight: None };
    let line = Model::new(ModelSpec::of::<LinearRegression>(LinearSpec::default())).unwrap();
    let narrow = Rows { x: x.slice(s![.., ..2]), ..rows };
    let sums = [line.partial(&rows).unwrap(), line.partial(&narrow).unwrap()];
    let mut clusters = Model::new(ModelSpec::of::<KMeans>(KMeansSpec::default())).unwrap();
    let before = clusters.clone();
    assert_eq!(clusters.apply(&sums[..1]), Err(ModelError::Partial));
    let mut line = line;
    assert_eq!(line.apply(&sums), Err(ModelError::Dimension { expected: 4, found: 2 }));
    assert_eq!(clusters, before);
    assert_eq!(line.dimension(), None);
}
