//! Whatever comes in (no numbers, infinities, numbers whose squares are infinite), in features, labels, weights, rewards and losses: nothing
//! panics, nothing hangs, and what became of it is said.

use crate::champion::{Champion, ChampionSpec};
use crate::drift::{Detector, DetectorSpec};
use crate::metrics::{Evaluator, EvaluatorSpec, Metric, Observed, Task};
use crate::stats::{Samples, StreamingTest, StreamingTestSpec, TestMethod};
use crate::{Health, Model, Rows};
use ndarray::{Array1, Array2, ArrayView1};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

/// Any numbers, some of them none, infinite, or with infinite squares.
pub(crate) fn wild() -> impl Strategy<Value = f64> + Clone {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

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
