//! Whatever comes in (no numbers, infinities, numbers whose squares are infinite), in features, labels, weights, rewards and losses: nothing
//! panics, nothing hangs, and what became of it is said.

use ndarray::{Array1, Array2, ArrayView1, s};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use tidemill_ml::champion::{Champion, ChampionSpec};
use tidemill_ml::drift::{Detector, DetectorSpec};
use tidemill_ml::metrics::{Evaluator, EvaluatorSpec, Metric, Observed, Task};
use tidemill_ml::stats::{Samples, StreamingTest, StreamingTestSpec, TestMethod};
use tidemill_ml::{DriftAction, Health, Model, ModelSpec, Rows, Watched};

/// Every family in every mode, with every optimizer and policy.
fn definitions() -> Vec<Value> {
    let mut all = Vec::new();
    for kind in ["linear_regression", "logistic_regression"] {
        for more in [
            json!({ "iterations": 1 }),
            json!({ "iterations": 4 }),
            json!({ "iterations": 4, "mini_batch_fraction": 0.5 }),
            json!({ "mode": "per_record" }),
            json!({ "iterations": 3, "regularization": "l1", "reg_param": 0.1 }),
            json!({ "iterations": 3, "regularization": "l2", "reg_param": 0.1, "intercept_step_size": 0.5 }),
            json!({ "iterations": 2, "step_size": 1e300 }),
        ] {
            all.push(with(json!({ "kind": kind, "fit_intercept": true }), more));
        }
        for optimizer in ["momentum", "adagrad", "rmsprop", "adam", "ftrl"] {
            for mode in ["batch", "per_record"] {
                let optimizer = json!({ "name": optimizer });
                all.push(json!({ "kind": kind, "optimizer": optimizer, "mode": mode, "iterations": 1, "fit_intercept": true }));
            }
        }
    }
    for variant in ["pa", "pa1", "pa2"] {
        all.push(json!({ "kind": "passive_aggressive_regressor", "variant": variant }));
        all.push(json!({ "kind": "passive_aggressive_classifier", "variant": variant }));
    }
    for mode in ["batch", "per_record"] {
        all.push(json!({ "kind": "softmax", "classes": 3, "mode": mode, "iterations": 1 }));
        all.push(json!({ "kind": "gaussian_naive_bayes", "classes": 3, "mode": mode }));
        all.push(json!({ "kind": "multinomial_naive_bayes", "classes": 3, "mode": mode }));
    }
    for leaf in ["majority", "naive_bayes", "naive_bayes_adaptive"] {
        let tree =
            json!({ "kind": "hoeffding_tree", "classes": 3, "grace_period": 5, "tau": 2.0, "leaf_prediction": leaf });
        all.push(with(tree, json!({ "adaptive": leaf != "majority" })));
    }
    for unit in ["batches", "points"] {
        all.push(json!({ "kind": "kmeans", "k": 3, "decay_factor": 0.5, "time_unit": unit }));
    }
    let arms = json!(["a", "b", "c"]);
    all.extend([
        json!({ "kind": "softmax", "classes": 3, "iterations": 4, "l2": 0.1 }),
        json!({ "kind": "recursive_least_squares" }),
        json!({ "kind": "recursive_least_squares", "forgetting": 0.9, "fit_intercept": false }),
        json!({ "kind": "standard_scaler", "decay": 0.5 }),
        json!({ "kind": "min_max_scaler" }),
        json!({ "kind": "imputer" }),
        json!({ "kind": "epsilon_greedy", "arms": arms }),
        json!({ "kind": "ucb1", "arms": arms }),
        json!({ "kind": "thompson_sampling", "arms": arms }),
        json!({ "kind": "thompson_sampling", "arms": arms, "rewards": "normal" }),
        json!({ "kind": "lin_ucb", "arms": arms, "decay": 0.9 }),
    ]);
    all
}

fn with(mut definition: Value, more: Value) -> Value {
    definition.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    definition
}

fn specs() -> Vec<ModelSpec> {
    definitions().into_iter().map(|definition| serde_json::from_value(definition).unwrap()).collect()
}

#[derive(Debug, Clone)]
struct Batch {
    x: Array2<f64>,
    y: Array1<f64>,
    weight: Option<Array1<f64>>,
}

impl Batch {
    /// As many features as the model takes; of a bandit the first is an arm, mostly.
    fn for_model(&self, model: &Model) -> Batch {
        let mut x = self.x.slice(s![.., ..model.dimension().unwrap_or(3)]).to_owned();
        if model.spec().arms().is_some() {
            x.column_mut(0)
                .iter_mut()
                .enumerate()
                .filter(|(i, _)| i % 4 != 3)
                .for_each(|(i, arm)| *arm = (i % 3) as f64);
        }
        Batch { x, ..self.clone() }
    }

    fn splits(&self) -> [Rows<'_>; 2] {
        let (rows, cut) = (self.y.len(), self.y.len().min(5));
        [(0, cut), (cut, rows)].map(|(from, to)| Rows {
            x: self.x.slice(s![from..to, ..]),
            y: Some(self.y.slice(s![from..to])),
            weight: self.weight.as_ref().map(|weight| weight.slice(s![from..to])),
        })
    }
}

fn wild() -> impl Strategy<Value = f64> + Clone {
    prop_oneof![
        12 => -10.0..10.0f64,
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(f64::NEG_INFINITY),
        1 => Just(f64::MAX),
        1 => Just(-1e300),
        1 => Just(1e160),
        1 => Just(f64::MIN_POSITIVE),
        1 => Just(-0.0),
    ]
}

fn batch() -> impl Strategy<Value = Batch> {
    (0usize..24).prop_flat_map(|n| {
        let label = prop_oneof![4 => Just(0.0), 4 => Just(1.0), 2 => Just(2.0), 1 => wild()];
        let weight = prop_oneof![6 => Just(1.0), 2 => 0.1..3.0f64, 1 => wild()];
        (vec(wild(), n * 3), vec(label, n), proptest::option::of(vec(weight, n))).prop_map(move |(x, y, weight)| {
            Batch {
                x: Array2::from_shape_vec((n, 3), x).unwrap(),
                y: Array1::from_vec(y),
                weight: weight.map(Array1::from_vec),
            }
        })
    })
}

/// Asks all that a model may be asked.
fn ask(model: &Model, batch: &Batch) {
    let (spec, x) = (model.spec(), batch.x.view());
    assert_eq!(model.predict(x).is_ok(), spec.predicts());
    assert_eq!(model.predict_proba(x).is_ok(), spec.classes().is_some());
    assert_eq!(model.transform(x).is_ok(), spec.transforms() || x.nrows() == 0);
    assert_eq!(model.distance(x).is_ok(), spec.clusters());
    if let Some(arms) = spec.arms() {
        let ids: Vec<u64> = (0..x.nrows() as u64).collect();
        let context = if spec.contextual() { x.slice(s![.., 1..]) } else { x.slice(s![.., 1..1]) };
        assert!(model.choose(&ids, context).unwrap().iter().all(|arm| *arm < arms.len()));
    }
}

/// Whether some number of what was learnt is none, or infinite.
fn not_finite(model: &Model) -> bool {
    let state = model.to_json()["state"].to_string();
    state.contains("\"NaN\"") || state.contains("Infinity\"")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn models_follow_it_and_say_so(batches in vec(batch(), 1..4)) {
        for spec in specs() {
            let (mut model, mut diverged, mut number) = (Model::new(spec.clone()).unwrap(), None, 0);
            for batch in &batches {
                let batch = batch.for_model(&model);
                ask(&model, &batch);
                let mut again = model.clone();
                let trained = model.train(&batch.splits()).unwrap();
                prop_assert_eq!((trained.rows + trained.skipped) as usize, batch.y.len(), "{:?}", spec);
                number += u64::from(trained.rows > 0);
                prop_assert_eq!(model.seen().0, number);
                diverged = not_finite(&model).then(|| diverged.unwrap_or(number));
                let health = diverged.map_or(Health::Healthy, |since_batch| Health::Diverged { since_batch });
                prop_assert_eq!(model.health(), health, "{:?}: {:?}", spec, model);
                // What is learnt from sums made elsewhere is the same.
                if spec.one_pass(model.dimension().unwrap_or(3)) {
                    let partials = batch.splits().map(|split| again.partial(&split).unwrap());
                    again.apply(&partials).unwrap();
                    prop_assert_eq!(again.to_bytes(), model.to_bytes());
                }
            }
            let bytes = model.to_bytes();
            prop_assert_eq!(&Model::from_bytes(&bytes).unwrap().to_bytes(), &bytes);
            let text = model.to_json().to_string();
            let back = Model::from_json_text(&text).unwrap();
            prop_assert_eq!(back.to_json().to_string(), text.clone());
            prop_assert_eq!(Model::in_place_of(&text, &spec, None).is_ok(), diverged.is_none());
        }
    }

    #[test]
    fn models_that_watch_themselves_do_too(batches in vec(batch(), 1..4)) {
        for spec in specs().into_iter().filter(|spec| spec.predicts()) {
            for action in [DriftAction::Warn, DriftAction::Reset, DriftAction::Replace] {
                let detector = if spec.classes().is_some() { "ddm" } else { "page_hinkley" };
                let detector: DetectorSpec = serde_json::from_value(json!({ "kind": detector })).unwrap();
                let mut watched = Watched::new(Model::new(spec.clone()).unwrap(), detector, action).unwrap();
                for batch in &batches {
                    let done = watched.train(&batch.splits()).unwrap();
                    prop_assert_eq!(done.rows.len(), batch.y.len());
                    prop_assert_eq!(Watched::from_bytes(&watched.to_bytes()).unwrap().to_bytes(), watched.to_bytes());
                }
            }
        }
    }

    #[test]
    fn detectors_go_on(numbers in vec(wild(), 0..200)) {
        for kind in ["adwin", "ddm", "eddm", "page_hinkley", "kswin"] {
            let spec: DetectorSpec = serde_json::from_value(json!({ "kind": kind })).unwrap();
            let mut detector = Detector::new(spec).unwrap();
            numbers.iter().for_each(|number| _ = detector.update(*number));
            prop_assert_eq!(detector.seen() as usize, numbers.iter().filter(|number| number.is_finite()).count());
            // A change that it finds when nothing came before is found still: no sum of its own is infinite for ever.
            let before = detector.detections();
            (0..4000).for_each(|i| _ = detector.update(if i % 2000 < 1000 { f64::from(u8::from(i % 20 == 0)) } else { 1.0 }));
            prop_assert!(detector.detections() > before, "{}", kind);
            prop_assert_eq!(Detector::from_bytes(&detector.to_bytes()).unwrap(), detector);
        }
    }

    #[test]
    fn evaluations_count_what_they_leave_out(rows in vec((wild(), wild(), wild(), wild()), 0..40)) {
        let column = |of: fn(&(f64, f64, f64, f64)) -> f64| rows.iter().map(of).collect::<Array1<f64>>();
        let (prediction, label, score, weight) =
            (column(|row| row.0), column(|row| row.1), column(|row| row.2), column(|row| row.3));
        for task in [Task::Regression, Task::Binary, Task::Multiclass, Task::Clustering] {
            let metrics = if task == Task::Regression { vec![Metric::Skipped] } else { vec![Metric::Skipped, Metric::Unscored] };
            for spec in [EvaluatorSpec::new(task), EvaluatorSpec { metrics, ..EvaluatorSpec::new(task) }] {
                let mut evaluator = Evaluator::new(spec).unwrap();
                let label = (task != Task::Clustering).then(|| label.view());
                let observed =
                    Observed { prediction: prediction.view(), label, score: Some(score.view()), weight: Some(weight.view()) };
                let (counted, skipped) = evaluator.update(&[observed]).unwrap();
                prop_assert_eq!((counted + skipped) as usize, rows.len());
                let said = evaluator.report().into_iter().find(|(name, _)| *name == "skipped");
                prop_assert!(said.is_none_or(|(_, said)| said == skipped as f64));
                prop_assert_eq!(Evaluator::from_bytes(&evaluator.to_bytes()).unwrap().to_bytes(), evaluator.to_bytes());
            }
        }
    }

    #[test]
    fn tests_and_champions_take_it(losses in vec((wild(), wild()), 0..40)) {
        for method in [TestMethod::Welch, TestMethod::Student, TestMethod::Sequential] {
            let mut test = StreamingTest::new(StreamingTestSpec { method, ..StreamingTestSpec::default() }).unwrap();
            let experiment: Array1<bool> = losses.iter().map(|(a, b)| a < b).collect();
            let value: Array1<f64> = losses.iter().map(|(a, _)| *a).collect();
            for _ in 0..3 {
                let result = test.update(&[Samples { experiment: experiment.view(), value: value.view() }]).unwrap();
                prop_assert!(result.is_none_or(|r| r.p_value.is_nan() || (0.0..=1.0).contains(&r.p_value)));
            }
            prop_assert_eq!(StreamingTest::from_bytes(&test.to_bytes()).unwrap().to_bytes(), test.to_bytes());
        }
        let mut champion = Champion::new(ChampionSpec { window: 2, ..ChampionSpec::new(2) }).unwrap();
        let rows = Array2::from_shape_fn((losses.len(), 2), |(row, model)| if model == 0 { losses[row].0 } else { losses[row].1 });
        for _ in 0..3 {
            champion.update(&[rows.view()]).unwrap();
        }
        // A model that failed is no champion while there is another; of two that did not, the second becomes it only by smaller losses.
        let failed = |model: usize| !rows.column(model).iter().all(|loss| loss.is_finite());
        let gain = rows.rows().into_iter().map(|losses| losses[0] - losses[1]).sum::<f64>();
        match (failed(0), failed(1)) {
            (true, false) => prop_assert_eq!(champion.champion(), 1),
            (_, true) => prop_assert_eq!(champion.champion(), 0),
            (false, false) => prop_assert!(champion.champion() == 0 || gain.is_nan() || gain > 0.0, "{}", gain),
        }
        prop_assert_eq!(Champion::from_bytes(&champion.to_bytes()).unwrap().to_bytes(), champion.to_bytes());
    }
}

/// The smallest case: a weight that is no number, in the mode that sums where the rows are.
#[test]
fn a_weight_that_is_no_number_is_said_and_not_more() {
    for iterations in [1, 5] {
        let spec = json!({ "kind": "linear_regression", "iterations": iterations });
        let mut model = Model::new(serde_json::from_value(spec).unwrap()).unwrap();
        for (y, x) in [(2.0, f64::NAN), (1.0, 1.0), (1.0, 2.0)] {
            let (x, y) = ([x], [y]);
            let x = ArrayView1::from(&x[..]).into_shape_with_order((1, 1)).unwrap();
            let trained = model.train(&[Rows { x, y: Some(ArrayView1::from(&y[..])), weight: None }]).unwrap();
            assert_eq!((trained.rows, trained.updates), (1, if trained.losses.len() == 1 { 1 } else { iterations }));
        }
        assert_eq!(model.health(), Health::Diverged { since_batch: 1 });
        assert!(model.predict(ndarray::array![[1.0]].view()).unwrap()[0].is_nan());
    }
}
