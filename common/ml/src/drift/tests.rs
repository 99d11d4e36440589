//! Against River 0.26.1 on its own sequences, and on sequences without drift.

use super::*;
use crate::random::Stream;
use serde_json::Value;

fn river() -> (Value, Vec<(String, Vec<f64>)>) {
    let results = serde_json::from_str(include_str!("../../tests/vectors/drift_results.json")).unwrap();
    let mut lines = include_str!("../../tests/vectors/drift_sequences.csv").lines();
    let names: Vec<String> = lines.next().unwrap().split(',').map(str::to_owned).collect();
    let rows: Vec<Vec<f64>> =
        lines.map(|line| line.split(',').map(|cell| cell.parse().unwrap_or(f64::NAN)).collect()).collect();
    let column = |i: usize| rows.iter().map(|row| row[i]).filter(|x| x.is_finite()).collect();
    let columns = names.iter().enumerate().map(|(i, name)| (name.clone(), column(i))).collect();
    (results, columns)
}

fn spec(name: &str, params: &Value) -> Option<DetectorSpec> {
    let mut params = params.clone();
    let kind = ["adwin", "page_hinkley", "ddm", "eddm"].into_iter().find(|kind| name.starts_with(kind))?;
    let table = params.as_object_mut().unwrap();
    if let Some(mode) = table.remove("mode") {
        table.insert("direction".to_owned(), mode);
    }
    table.insert("kind".to_owned(), kind.into());
    Some(serde_json::from_value(params).unwrap())
}

fn window(detector: &Detector) -> [f64; 3] {
    let State::Adwin(adwin) = &detector.state else { return [0.0; 3] };
    let (width, m2) = adwin.window();
    [width as f64, adwin.estimate().unwrap(), m2]
}

/// As the bytes say it; none of these is what a detector wrote.
#[test]
fn states_that_cannot_be_are_refused() {
    let bytes =
        |spec: &DetectorSpec, state: &State, seen: u64| DETECTOR.seal(&(envelope::spec_text(spec), state, seen, 0_u64));
    for kind in ["adwin", "ddm", "eddm", "page_hinkley", "kswin"] {
        let spec: DetectorSpec = serde_json::from_value(serde_json::json!({ "kind": kind })).unwrap();
        let good = State::new(&spec);
        assert!(Detector::from_bytes(&bytes(&spec, &good, 7)).is_ok(), "{kind}");
        assert!(Detector::from_bytes(&bytes(&spec, &good, u64::MAX)).is_err(), "{kind}");
    }
    let eddm: State = serde_json::from_value(serde_json::json!({
        "Eddm": { "distances": { "n": 1.0, "mean": 1.0, "m2": 0.0 }, "seen": 3, "last_error": 4, "best": null, "warned": false }
    }))
    .unwrap();
    assert!(Detector::from_bytes(&bytes(&DetectorSpec::Eddm(EddmSpec::default()), &eddm, 7)).is_err());
    let adwin: State = serde_json::from_value(serde_json::json!({
        "Adwin": { "sizes": [[{ "sum": 1.0, "m2": 0.0 }]], "width": 2, "all": { "sum": 1.0, "m2": 0.0 }, "ticks": 1 }
    }))
    .unwrap();
    assert!(Detector::from_bytes(&bytes(&DetectorSpec::Adwin(AdwinSpec::default()), &adwin, 7)).is_err());
    let kswin: State = serde_json::from_value(serde_json::json!({ "Kswin": { "window": vec![0.0; 101] } })).unwrap();
    assert!(Detector::from_bytes(&bytes(&DetectorSpec::Kswin(KswinSpec::default()), &kswin, 7)).is_err());
}

#[test]
fn fires_where_river_fires() {
    let (results, columns) = river();
    let mut compared = 0;
    for (sequence, values) in &columns {
        let Some(detectors) = results["sequences"][sequence]["detectors"].as_object() else { continue };
        for (name, expected) in detectors {
            let Some(spec) = spec(name, &expected["params"]) else { continue };
            let mut detector = Detector::new(spec.clone()).unwrap();
            let (mut fired, mut windows) = (Vec::new(), Vec::new());
            for (i, value) in values.iter().enumerate() {
                if detector.update(*value) == Drift::Detected {
                    fired.push(i);
                    windows.push(window(&detector));
                    // River throws ADWIN's window away after a detection; ours goes on with the newer part, as the paper.
                    detector = Detector::new(spec.clone()).unwrap();
                }
            }
            assert_eq!(serde_json::json!(fired), expected["drift_at"], "{sequence} {name}");
            for (found, expected) in windows.iter().zip(expected["at_detection"].as_array().unwrap_or(&vec![])) {
                for (found, key) in found.iter().zip(["width", "estimation", "variance"]) {
                    let expected = expected[key].as_f64().unwrap();
                    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{name}: {found} {expected}");
                }
            }
            compared += 1;
        }
    }
    assert!(compared >= 14, "{compared}");
}

#[test]
fn adwin_keeps_the_newer_part_after_a_detection() {
    let (_, columns) = river();
    let mut detector = Detector::new(DetectorSpec::Adwin(AdwinSpec::default())).unwrap();
    let mut fired = Vec::new();
    for (i, value) in columns.iter().find(|(name, _)| name == "bits_5000").unwrap().1.iter().enumerate() {
        if detector.update(*value) == Drift::Detected {
            fired.push(i);
        }
    }
    // Change points at 1000, 2000 and 4000 (the one at 3000 is from 0.1 to 0.12).
    for change in [1000, 2000, 4000] {
        assert!(fired.iter().any(|i| (change..change + 200).contains(i)), "{fired:?}");
    }
    assert!((detector.estimate().unwrap() - 0.4).abs() < 0.05);
}

fn all() -> Vec<DetectorSpec> {
    vec![
        DetectorSpec::Adwin(AdwinSpec::default()),
        DetectorSpec::Ddm(DdmSpec::default()),
        DetectorSpec::Eddm(EddmSpec::default()),
        DetectorSpec::PageHinkley(PageHinkleySpec::default()),
        DetectorSpec::Kswin(KswinSpec::default()),
    ]
}

/// Errors at a rate.
fn errors(numbers: &mut Stream, rate: f64) -> f64 {
    f64::from(u8::from(numbers.unit() < rate))
}

#[test]
fn every_detector_sees_a_change_and_comes_back_from_its_bytes() {
    for spec in all() {
        let mut detector = Detector::new(spec.clone()).unwrap();
        let mut numbers = Stream::new(11);
        for _ in 0..1000 {
            detector.update(errors(&mut numbers, 0.1));
        }
        let before = detector.detections();
        let mut back = Detector::from_bytes(&detector.to_bytes()).unwrap();
        assert_eq!(back, detector);
        for _ in 0..1000 {
            let value = errors(&mut numbers, 0.7);
            assert_eq!(detector.update(value), back.update(value));
        }
        assert_eq!(detector.update(f64::NAN), Drift::None);
        assert!(detector.detections() > before, "{spec:?}");
        assert_eq!(detector.seen(), 2000);
    }
}

#[test]
fn false_alarms_on_stationary_numbers_stay_below_the_stated_rates() {
    // Alarms per 1000 numbers, as `docs/learning.md` states them: DDM and EDDM have no bound and are known for alarms.
    for (spec, stated) in all().into_iter().zip([0.1, 2.0, 8.0, 0.3, 5.0]) {
        let mut alarms = 0;
        for seed in 0..10 {
            let mut detector = Detector::new(spec.clone()).unwrap();
            let mut numbers = Stream::new(seed);
            (0..5000).for_each(|_| {
                detector.update(errors(&mut numbers, 0.2));
            });
            alarms += detector.detections();
        }
        let rate = alarms as f64 / 50.0;
        assert!(rate <= stated, "{}: {rate} per 1000, stated {stated}", spec.kind());
    }
}

#[test]
fn a_definition_that_cannot_be_names_the_parameter() {
    for (name, spec) in [
        ("delta", DetectorSpec::Adwin(AdwinSpec { delta: 0.0, ..AdwinSpec::default() })),
        ("drift_threshold", DetectorSpec::Ddm(DdmSpec { drift_threshold: 1.0, ..DdmSpec::default() })),
        ("beta", DetectorSpec::Eddm(EddmSpec { beta: 0.99, ..EddmSpec::default() })),
        ("threshold", DetectorSpec::PageHinkley(PageHinkleySpec { threshold: -1.0, ..PageHinkleySpec::default() })),
        ("window_size", DetectorSpec::Kswin(KswinSpec { window_size: 40, ..KswinSpec::default() })),
    ] {
        assert_eq!(spec.validate().unwrap_err().parameter, name);
    }
}
