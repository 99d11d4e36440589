//! Labels that come later than features, on real events: the example of flights, on their first day.

use crate::command::Case;
use flate2::read::GzDecoder;
use serde_json::Value;
use std::io::Read;

const JOB: &str = include_str!("../../examples/jobs/flight_delays.toml");
const EVENTS: &[u8] = include_bytes!("../../examples/data/flights-2013-01-events.csv.gz");

#[test]
fn flights_are_predicted_at_departure_and_learnt_at_arrival() {
    let mut events = String::new();
    GzDecoder::new(EVENTS).read_to_string(&mut events).unwrap();
    let events: Vec<&str> = events.lines().skip(1).take(1000).collect();
    let batches: Vec<&[&str]> = events.chunks(250).collect();
    let case = Case::new(JOB, &serde_json::json!({ "sources": { "events": batches } }).to_string());
    let once = case.replay(&["--workers", "1"]).ok();
    let last: Value = serde_json::from_str(once.lines().last().unwrap()).unwrap();
    let arrived = events.iter().filter(|event| event.contains(",arrival,")).count() as f64;
    let models: Vec<&str> = last["rows"].as_array().unwrap().iter().map(|row| row["model"].as_str().unwrap()).collect();
    assert_eq!(models, ["departure delay", "gradient", "least squares", "mean so far", "passive-aggressive"]);
    for row in last["rows"].as_array().unwrap() {
        assert_eq!(row["count"], arrived, "every arrival finds its departure");
    }
    // As plainly as can be: what was known at departure, against what turned out.
    let delay = |event: &str, column: usize| event.split(',').nth(column).unwrap().parse::<f64>().unwrap();
    let id = |event: &str| event.split(',').nth(2).unwrap().to_string();
    let departures = events.iter().filter(|event| event.contains(",departure,"));
    let departures: std::collections::HashMap<_, _> = departures.map(|event| (id(event), delay(event, 7))).collect();
    let arrivals = events.iter().filter(|event| event.contains(",arrival,"));
    let errors: f64 = arrivals.map(|event| (departures[&id(event)] - delay(event, 8)).abs()).sum();
    assert!((last["rows"][0]["mae"].as_f64().unwrap() - errors / arrived).abs() < 1e-9);
    assert_eq!(case.replay(&["--workers", "3", "--kill", "3"]).ok(), once);
}
