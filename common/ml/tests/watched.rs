//! Models that act when their errors rise.

use ndarray::{Array1, Array2};
use tidemill_ml::drift::{DetectorSpec, Drift};
use tidemill_ml::families::{
    bayes::{GaussianNaiveBayes, GaussianNaiveBayesSpec},
    kmeans::{KMeans, KMeansSpec},
    tree::{HoeffdingTree, HoeffdingTreeSpec},
};
use tidemill_ml::{Acted, DriftAction, Model, ModelSpec, Rows, Watched, WatchedBatch};

const CHANGE: u64 = 20;

/// 50 rows; from batch [`CHANGE`] on the classes are the other way round.
fn batch(number: u64) -> (Array2<f64>, Array1<f64>) {
    let at = |i: u64, j: u64| {
        let mixed = ((number * 50 + i) * 3 + j).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    let x = Array2::from_shape_fn((50, 2), |(i, j)| at(i as u64, j as u64));
    let y = Array1::from_shape_fn(50, |i| {
        let side = x[(i, 0)] + 0.3 * at(i as u64, 2) > 0.0;
        f64::from(u8::from(side != (number >= CHANGE)))
    });
    (x, y)
}

fn detector(kind: &str) -> DetectorSpec {
    serde_json::from_value(serde_json::json!({ "kind": kind })).unwrap()
}

fn train(watched: &mut Watched, number: u64) -> WatchedBatch {
    let (x, y) = batch(number);
    let (head, tail) = (0..20, 20..50);
    let split = |rows: std::ops::Range<usize>| Rows {
        x: x.slice(ndarray::s![rows.clone(), ..]),
        y: Some(y.slice(ndarray::s![rows])),
        weight: None,
    };
    watched.train(&[split(head), split(tail)]).unwrap()
}

/// Error rate after the change, and what was done in which batch. The state goes through its bytes after every batch.
fn run(model: &ModelSpec, kind: &str, action: DriftAction) -> (f64, Vec<(u64, Acted)>) {
    let mut watched = Watched::new(Model::new(model.clone()).unwrap(), detector(kind), action).unwrap();
    let (mut wrong, mut acted, mut alarms) = (0, Vec::new(), Vec::new());
    for number in 0..2 * CHANGE {
        let (_, y) = batch(number);
        let done = train(&mut watched, number);
        wrong += done.rows.iter().zip(&y).filter(|((p, _), y)| number >= CHANGE && p != *y).count();
        acted.extend(done.acted.map(|acted| (number, acted)));
        alarms.extend((done.drift() == Drift::Detected).then_some(number));
        let bytes = watched.to_bytes();
        assert_eq!(Watched::model_bytes(&bytes).unwrap(), watched.model().to_bytes());
        watched = Watched::from_bytes(&bytes).unwrap();
    }
    assert!(alarms.iter().all(|batch| *batch >= CHANGE) && !alarms.is_empty(), "{kind}: {alarms:?}");
    (wrong as f64 / (CHANGE * 50) as f64, acted)
}

#[test]
fn a_model_that_acts_is_better_after_a_change() {
    let bayes = ModelSpec::of::<GaussianNaiveBayes>(GaussianNaiveBayesSpec::default());
    let tree = ModelSpec::of::<HoeffdingTree>(HoeffdingTreeSpec { grace_period: 50.0, ..HoeffdingTreeSpec::default() });
    for (model, kind) in
        [(&bayes, "adwin"), (&bayes, "ddm"), (&bayes, "page_hinkley"), (&tree, "adwin"), (&tree, "ddm")]
    {
        let [(told, nothing), (reset, resets), (replaced, replacements)] =
            [DriftAction::Warn, DriftAction::Reset, DriftAction::Replace].map(|action| run(model, kind, action));
        assert!(nothing.is_empty());
        assert!(reset < told - 0.05 && replaced < told - 0.05, "{kind}: {told} {reset} {replaced}");
        assert!(resets.iter().all(|(batch, acted)| *batch >= CHANGE && *acted == Acted::Reset), "{resets:?}");
        let last = replacements.iter().rev().find(|(_, acted)| *acted != Acted::Background && *acted != Acted::Kept);
        assert!(last.is_some_and(|(batch, _)| *batch >= CHANGE), "{kind}: {replacements:?}");
    }
}

#[test]
fn a_background_model_that_is_no_better_is_given_up() {
    // The change lasts for one batch: what begins with it is wrong ever after.
    let bayes = ModelSpec::of::<GaussianNaiveBayes>(GaussianNaiveBayesSpec::default());
    let mut watched = Watched::new(Model::new(bayes).unwrap(), detector("adwin"), DriftAction::Replace).unwrap();
    let batches = (0..12).chain([CHANGE]).chain(12..CHANGE);
    let acted: Vec<Acted> = batches.filter_map(|number| train(&mut watched, number).acted).collect();
    assert_eq!(acted, [Acted::Background, Acted::Kept]);
}

#[test]
fn detectors_of_wrong_and_right_go_with_classifiers_only() {
    let clusters = Model::new(ModelSpec::of::<KMeans>(KMeansSpec::default())).unwrap();
    let wrong = Watched::new(clusters.clone(), detector("ddm"), DriftAction::Warn).unwrap_err();
    assert_eq!(wrong.parameter, "detector");
    let mut watched = Watched::new(clusters, detector("kswin"), DriftAction::Reset).unwrap();
    assert!(train(&mut watched, 0).rows.iter().all(|(distance, _)| *distance > 0.0));
}

#[test]
fn a_model_that_diverges_begins_anew() {
    let wild = serde_json::json!({ "kind": "linear_regression", "step_size": 1e300, "iterations": 3 });
    let wild = Model::new(serde_json::from_value(wild).unwrap()).unwrap();
    let told = Watched::new(wild.clone(), detector("adwin"), DriftAction::Warn).unwrap();
    let reset = Watched::new(wild, detector("adwin"), DriftAction::Reset).unwrap();
    for (mut watched, acted) in [(told, None), (reset, Some(Acted::Reset))] {
        assert_eq!(train(&mut watched, 0).acted, acted);
    }
}
