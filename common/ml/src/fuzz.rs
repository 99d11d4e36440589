//! Decoders of this crate, for tests that give them any bytes: each function panics when its decoder does not do as it should.

use crate::champion::Champion;
use crate::drift::Detector;
use crate::metrics::{Evaluator, Observed};
use crate::stats::{Samples, StreamingTest};
use crate::{Model, Partial, Rows, Watched};
use ndarray::{Array1, Array2, s};

/// Widest rows that models are asked about.
const WIDTH: usize = 16;

/// Reads a model, a partial sum, an evaluator, a detector, a champion, a test: whatever it is, also with a checksum that is right,
/// and goes on with it.
pub fn learned(bytes: &[u8]) {
    let mut sealed = bytes.to_vec();
    if let Some((content, crc)) = sealed.split_last_chunk_mut::<4>() {
        *crc = crc32fast::hash(content).to_le_bytes();
    }
    for bytes in [bytes, &sealed] {
        if let Ok(model) = Model::from_bytes(bytes) {
            assert_eq!(Model::from_bytes(&model.to_bytes()).map(|again| again.to_bytes()), Ok(model.to_bytes()));
            go_on(model);
        }
        if let Ok(partial) = Partial::from_bytes(bytes) {
            assert_eq!(Partial::from_bytes(&partial.to_bytes()).map(|again| again.to_bytes()), Ok(partial.to_bytes()));
        }
        if let Ok(evaluator) = Evaluator::from_bytes(bytes) {
            evaluate(evaluator);
        }
        if let Ok(detector) = Detector::from_bytes(bytes) {
            detect(detector);
        }
        if let Ok(champion) = Champion::from_bytes(bytes) {
            choose(champion);
        }
        if let Ok(test) = StreamingTest::from_bytes(bytes) {
            compare(test);
        }
        if let Ok(mut watched) = Watched::from_bytes(bytes) {
            let (x, y) = rows(watched.model());
            let _ = watched.train(&[Rows { x: x.view(), y: Some(y.view()), weight: None }]);
        }
    }
}

/// Reads a model that somebody wrote as JSON, and goes on with it.
pub fn model(bytes: &[u8]) {
    let Ok(model) = Model::from_json_text(&String::from_utf8_lossy(bytes)) else { return };
    let text = model.to_json().to_string();
    let again = Model::from_json_text(&text).expect("a model that is written reads");
    assert_eq!(again.to_json().to_string(), text);
    go_on(model);
}

/// Two rows that a model may be asked about.
fn rows(model: &Model) -> (Array2<f64>, Array1<f64>) {
    let width = model.dimension().unwrap_or(2).min(WIDTH);
    (Array2::from_shape_fn((2, width), |(row, column)| (row + column) as f64), Array1::from_vec(vec![0.0, 1.0]))
}

fn go_on(mut model: Model) {
    let (x, y) = rows(&model);
    let _ =
        (model.predict(x.view()), model.predict_proba(x.view()), model.transform(x.view()), model.distance(x.view()));
    let context = if model.spec().contextual() { x.slice(s![.., 1..]) } else { x.slice(s![.., ..0]) };
    let _ = model.choose(&[1, 2], context);
    let _ = (model.health(), model.to_json());
    let split = Rows { x: x.view(), y: Some(y.view()), weight: None };
    let _ = model.partial(&split).map(|partial| model.clone().apply(&[partial]));
    let _ = model.train(&[split]);
}

fn evaluate(mut evaluator: Evaluator) {
    assert_eq!(Evaluator::from_bytes(&evaluator.to_bytes()).map(|again| again.to_bytes()), Ok(evaluator.to_bytes()));
    let (prediction, label) = (Array1::from_vec(vec![0.0, 1.0]), Array1::from_vec(vec![1.0, 1.0]));
    let observed =
        Observed { prediction: prediction.view(), label: Some(label.view()), score: Some(label.view()), weight: None };
    let _ = evaluator.update(&[observed]);
    let _ = (evaluator.report(), evaluator.confusion());
}

fn detect(mut detector: Detector) {
    assert_eq!(Detector::from_bytes(&detector.to_bytes()).map(|again| again.to_bytes()), Ok(detector.to_bytes()));
    (0..40).for_each(|number| _ = detector.update(f64::from(number % 2)));
    let _ = detector.estimate();
}

fn choose(mut champion: Champion) {
    assert_eq!(Champion::from_bytes(&champion.to_bytes()).map(|again| again.to_bytes()), Ok(champion.to_bytes()));
    for models in 2..4 {
        let losses = Array2::from_shape_fn((3, models), |(row, model)| (row * model) as f64);
        let _ = champion.update(&[losses.view()]);
    }
}

fn compare(mut test: StreamingTest) {
    assert_eq!(StreamingTest::from_bytes(&test.to_bytes()).map(|again| again.to_bytes()), Ok(test.to_bytes()));
    let (experiment, value) = (Array1::from_vec(vec![true, false]), Array1::from_vec(vec![1.0, 2.0]));
    let _ = test.update(&[Samples { experiment: experiment.view(), value: value.view() }]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::champion::ChampionSpec;
    use crate::families::checks::specs;
    use crate::metrics::{EvaluatorSpec, Task};
    use crate::stats::StreamingTestSpec;
    use crate::{DriftAction, ModelSpec};
    use serde_json::{Value, json};
    use tidemill_common::testkit::{Decoder, has_target};

    fn run(name: &str, decode: fn(&[u8]), seeds: Vec<Vec<u8>>) {
        let peak = |run: &mut dyn FnMut()| allocation_counter::measure(run).bytes_max;
        assert!(has_target("tidemill_ml", name));
        Decoder { name, decode, seeds, most_bytes: 4 << 20, one_in: 1, peak }.run();
    }

    fn read<T: serde::de::DeserializeOwned>(spec: Value) -> T {
        serde_json::from_value(spec).unwrap()
    }

    /// Every kind of model, after some batches and before any.
    fn models() -> Vec<Model> {
        let mut all = Vec::new();
        for spec in specs() {
            let mut model = Model::new(spec).unwrap();
            all.push(model.clone());
            for _ in 0..4 {
                let (mut x, y) = rows(&model);
                if model.spec().arms().is_some() {
                    x.column_mut(0).assign(&y);
                }
                let _ = model.train(&[Rows { x: x.view(), y: Some(y.view()), weight: None }]);
            }
            all.push(model);
        }
        all
    }

    #[test]
    fn model() {
        run("model", super::model, models().iter().map(|model| model.to_json().to_string().into_bytes()).collect());
    }

    #[test]
    fn learned() {
        let mut seeds: Vec<Vec<u8>> = models().iter().map(Model::to_bytes).collect();
        let linear: ModelSpec = read(json!({ "kind": "linear_regression", "iterations": 1, "fit_intercept": true }));
        let linear = Model::new(linear).unwrap();
        let (x, y) = rows(&linear);
        let split = [Rows { x: x.view(), y: Some(y.view()), weight: None }];
        seeds.push(linear.partial(&split[0]).unwrap().to_bytes());
        for kind in ["adwin", "ddm", "eddm", "page_hinkley", "kswin"] {
            let mut detector = Detector::new(read(json!({ "kind": kind }))).unwrap();
            (0..40).for_each(|number| _ = detector.update(f64::from(number % 3 / 2)));
            seeds.push(detector.to_bytes());
        }
        for task in [Task::Regression, Task::Binary, Task::Multiclass, Task::Clustering] {
            let mut evaluator = Evaluator::new(EvaluatorSpec::new(task)).unwrap();
            let label = (task != Task::Clustering).then(|| y.view());
            let observed = Observed { prediction: y.view(), label, score: Some(y.view()), weight: None };
            evaluator.update(&[observed]).unwrap();
            seeds.push(evaluator.to_bytes());
        }
        let mut champion = Champion::new(ChampionSpec { window: 2, ..ChampionSpec::new(2) }).unwrap();
        champion.update(&[x.view()]).unwrap();
        seeds.push(champion.to_bytes());
        let mut test = StreamingTest::new(StreamingTestSpec::default()).unwrap();
        let experiment = Array1::from_vec(vec![true, false]);
        test.update(&[Samples { experiment: experiment.view(), value: y.view() }]).unwrap();
        seeds.push(test.to_bytes());
        for action in [DriftAction::Reset, DriftAction::Replace] {
            let spec = read(json!({ "kind": "page_hinkley" }));
            let mut watched = Watched::new(linear.clone(), spec, action).unwrap();
            watched.train(&split).unwrap();
            seeds.push(watched.to_bytes());
        }
        run("learned", super::learned, seeds);
    }
}
