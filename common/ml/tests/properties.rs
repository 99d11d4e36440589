//! What holds for every model and any data.

use ndarray::{Array1, Array2, s};
use proptest::prelude::*;
use tidemill_ml::{
    GaussianNaiveBayesSpec, HoeffdingTreeSpec, KMeansSpec, Learned, LearnedKind, LinearSpec, Mode, Model, ModelError,
    ModelSpec, MultinomialNaiveBayesSpec, Optimizer, PassiveAggressiveSpec, Regularization, RlsSpec, Rows, SoftmaxSpec,
    Variant,
};

fn specs() -> Vec<ModelSpec> {
    let linear = LinearSpec { fit_intercept: true, iterations: 5, ..LinearSpec::default() };
    vec![
        ModelSpec::LinearRegression(linear.clone()),
        ModelSpec::LinearRegression(LinearSpec { mode: Mode::PerRecord, step_size: 0.01, ..linear.clone() }),
        ModelSpec::LinearRegression(LinearSpec { mini_batch_fraction: 0.5, ..linear.clone() }),
        ModelSpec::LogisticRegression(LinearSpec {
            reg_param: 0.1,
            regularization: Regularization::L2,
            ..linear.clone()
        }),
        ModelSpec::LogisticRegression(LinearSpec { optimizer: optimizer("adam"), ..linear.clone() }),
        ModelSpec::LinearRegression(LinearSpec { optimizer: optimizer("momentum"), step_size: 0.01, ..linear.clone() }),
        ModelSpec::LinearRegression(LinearSpec { optimizer: optimizer("adagrad"), ..linear.clone() }),
        ModelSpec::LogisticRegression(LinearSpec {
            optimizer: optimizer("ftrl"),
            mode: Mode::PerRecord,
            ..linear.clone()
        }),
        ModelSpec::LogisticRegression(LinearSpec { optimizer: optimizer("rmsprop"), mode: Mode::PerRecord, ..linear }),
        ModelSpec::PassiveAggressiveRegressor(PassiveAggressiveSpec::default()),
        ModelSpec::PassiveAggressiveClassifier(PassiveAggressiveSpec {
            variant: Variant::Pa2,
            ..PassiveAggressiveSpec::default()
        }),
        ModelSpec::RecursiveLeastSquares(RlsSpec { forgetting: 0.9, ..RlsSpec::default() }),
        ModelSpec::Softmax(SoftmaxSpec { classes: 3, iterations: 5, ..SoftmaxSpec::default() }),
        ModelSpec::GaussianNaiveBayes(GaussianNaiveBayesSpec { classes: 3, ..GaussianNaiveBayesSpec::default() }),
        ModelSpec::MultinomialNaiveBayes(MultinomialNaiveBayesSpec::default()),
        ModelSpec::HoeffdingTree(HoeffdingTreeSpec {
            grace_period: 10.0,
            tau: 2.0,
            adaptive: true,
            ..HoeffdingTreeSpec::default()
        }),
        ModelSpec::KMeans(KMeansSpec { k: 3, decay_factor: 0.5, ..KMeansSpec::default() }),
    ]
}

fn optimizer(name: &str) -> Optimizer {
    serde_json::from_value(serde_json::json!({ "name": name })).unwrap()
}

#[derive(Debug)]
struct Data {
    x: Array2<f64>,
    y: Array1<f64>,
}

impl Data {
    fn splits(&self, ends: &[usize]) -> Vec<Rows<'_>> {
        let mut bounds: Vec<usize> = ends.iter().map(|end| end % (self.y.len() + 1)).collect();
        bounds.extend([0, self.y.len()]);
        bounds.sort_unstable();
        let part = |w: &[usize]| Rows {
            x: self.x.slice(s![w[0]..w[1], ..]),
            y: Some(self.y.slice(s![w[0]..w[1]])),
            weight: None,
        };
        bounds.windows(2).map(part).collect()
    }
}

fn data(values: impl Strategy<Value = f64> + Clone) -> impl Strategy<Value = Data> {
    (1usize..40).prop_flat_map(move |n| {
        let rows = proptest::collection::vec(values.clone(), n * 3);
        let labels = proptest::collection::vec(prop_oneof![Just(0.0), Just(1.0)], n);
        (rows, labels)
            .prop_map(move |(x, y)| Data { x: Array2::from_shape_vec((n, 3), x).unwrap(), y: Array1::from_vec(y) })
    })
}

fn flat(model: &Model) -> Vec<f64> {
    let values = model.learned().into_iter().flat_map(|(_, learned)| match learned {
        Learned::Number(x) => vec![x],
        Learned::Count(n) => vec![n as f64],
        Learned::List(xs) => xs,
        Learned::Lists(lists) => lists.concat(),
        Learned::Text(_) | Learned::Texts(_) => vec![],
    });
    values.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_same_splits_give_the_same_bytes_and_others_next_to_the_same(
        batches in proptest::collection::vec(data(-2.0..2.0f64), 1..4),
        ends in proptest::collection::vec(0usize..40, 0..4),
    ) {
        for spec in specs() {
            let [mut whole, mut split, mut again] = [(); 3].map(|()| Model::new(spec.clone()).unwrap());
            for batch in &batches {
                whole.train(&batch.splits(&[])).unwrap();
                split.train(&batch.splits(&ends)).unwrap();
                again.train(&batch.splits(&ends)).unwrap();
            }
            prop_assert_eq!(split.to_bytes(), again.to_bytes());
            for (a, b) in flat(&whole).into_iter().zip(flat(&split)) {
                prop_assert!((a - b).abs() <= 1e-9 * a.abs().max(1.0), "{:?}: {} and {}", spec, a, b);
            }
        }
    }

    #[test]
    fn damaged_bytes_are_refused(at in 0usize..200, flip in 1u8..) {
        for spec in specs() {
            let mut bytes = Model::new(spec).unwrap().to_bytes();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert!(Model::from_bytes(&bytes).is_err());
            prop_assert!(Model::from_bytes(&bytes[..at]).is_err());
        }
    }

    #[test]
    fn per_record_predicts_each_row_before_it_learns_it(batch in data(-2.0..2.0f64)) {
        for spec in specs().into_iter().filter(ModelSpec::per_record) {
            let [mut together, mut alone] = [(); 2].map(|()| Model::new(spec.clone()).unwrap());
            let (predictions, trained) = together.train_per_record(&batch.splits(&[])[0]).unwrap();
            prop_assert_eq!(trained.rows as usize, batch.y.len());
            for (row, prediction) in predictions.iter().enumerate() {
                let x = batch.x.slice(s![row..row + 1, ..]);
                prop_assert_eq!(alone.predict(x).unwrap()[0], *prediction);
                alone.train(&[Rows { x, y: Some(batch.y.slice(s![row..row + 1])), weight: None }]).unwrap();
            }
            prop_assert_eq!(flat(&together), flat(&alone));
        }
    }
}

#[test]
fn shapes_are_checked() {
    let (x, y) = (Array2::<f64>::zeros((4, 3)), Array1::<f64>::zeros(4));
    let (wide, short) = (Array2::<f64>::zeros((4, 5)), Array1::<f64>::zeros(2));
    for spec in specs() {
        let kind = spec.kind();
        let mut model = Model::new(spec.clone()).unwrap();
        model.train(&[Rows { x: x.view(), y: Some(y.view()), weight: None }]).unwrap();
        let before = model.clone();
        let dimension = ModelError::Dimension { expected: 3, found: 5 };
        assert_eq!(model.predict(wide.view()), Err(dimension.clone()));
        assert_eq!(model.train(&[Rows { x: wide.view(), y: Some(y.view()), weight: None }]), Err(dimension));
        let weights = Rows { x: x.view(), y: Some(y.view()), weight: Some(short.view()) };
        assert_eq!(model.train(&[weights]), Err(ModelError::Weights { rows: 4, weights: 2 }));
        if spec.supervised() {
            let labels = Rows { x: x.view(), y: Some(short.view()), weight: None };
            assert_eq!(model.train(&[labels]), Err(ModelError::Labels { rows: 4, labels: 2 }));
            let none = Rows { x: x.view(), y: None, weight: None };
            assert_eq!(model.train(&[none]), Err(ModelError::NoLabels { kind }));
        }
        assert_eq!(model, before);
    }
}

#[test]
fn what_is_learnt_has_the_shape_that_is_promised() {
    for spec in specs() {
        let mut model = Model::new(spec.clone()).unwrap();
        let x = Array2::from_shape_fn((4, 3), |(i, j)| (i * j) as f64);
        let y = Array1::from_vec(vec![0.0, 1.0, 0.0, 1.0]);
        for _ in 0..2 {
            let kinds: Vec<_> = model.learned().iter().map(|(name, learned)| (*name, kind_of(learned))).collect();
            assert_eq!(kinds, Model::learned_shape(&spec));
            model.train(&[Rows { x: x.view(), y: Some(y.view()), weight: None }]).unwrap();
        }
    }
}

fn kind_of(learned: &Learned) -> LearnedKind {
    match learned {
        Learned::Number(_) => LearnedKind::Number,
        Learned::Count(_) => LearnedKind::Count,
        Learned::List(_) => LearnedKind::List,
        Learned::Lists(_) => LearnedKind::Lists,
        Learned::Text(_) => LearnedKind::Text,
        Learned::Texts(_) => LearnedKind::Texts,
    }
}

#[test]
fn a_kind_alone_is_a_definition() {
    for kind in [
        "linear_regression",
        "logistic_regression",
        "kmeans",
        "passive_aggressive_regressor",
        "passive_aggressive_classifier",
        "recursive_least_squares",
        "softmax",
        "gaussian_naive_bayes",
        "multinomial_naive_bayes",
        "hoeffding_tree",
        "standard_scaler",
        "min_max_scaler",
        "imputer",
        "one_hot",
    ] {
        let spec: ModelSpec = serde_json::from_value(serde_json::json!({ "kind": kind })).unwrap();
        assert_eq!(spec.kind(), kind);
        assert_eq!(serde_json::to_value(&spec).unwrap()["kind"], kind);
        let model = Model::new(spec.clone()).unwrap();
        let alone = serde_json::json!({ "format": "tidemill-model", "version": 1, "spec": { "kind": kind } });
        assert_eq!(Model::from_json(&alone).unwrap(), model);
        let wrong = serde_json::json!({ "kind": kind, "no_such_parameter": 1 });
        assert!(serde_json::from_value::<ModelSpec>(wrong).is_err());
    }
}
