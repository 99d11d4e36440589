//! How fast a source should be read, by what its last batches took: Spark's `PIDRateEstimator`.

use tidemill_job::Backpressure;

/// What a complete batch says of a source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// When it was complete, in milliseconds; later than the one before.
    pub(crate) at_ms: f64,
    /// Records of the source.
    pub(crate) records: u64,
    /// How long it took, in milliseconds.
    pub(crate) processing_ms: f64,
    /// How long after its tick it began, in milliseconds.
    pub(crate) scheduling_ms: f64,
}

/// Estimates the rate of one source.
#[derive(Debug, Clone)]
pub(crate) struct RateEstimator {
    weights: Backpressure,
    batch_ms: f64,
    last: Option<Last>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    at_ms: f64,
    rate: f64,
    error: f64,
}

impl RateEstimator {
    /// For batches of this length in milliseconds.
    pub(crate) fn new(weights: Backpressure, batch_ms: f64) -> Self {
        Self { weights, batch_ms, last: None }
    }

    /// The new rate in records per second; none after the first batch, and after one without records.
    ///
    /// The error is how much faster records came than they were processed; what gathered while the batch was late stands
    /// in for the sum of all errors.
    pub(crate) fn measure(&mut self, batch: Measured) -> Option<f64> {
        let later = self.last.is_none_or(|last| batch.at_ms > last.at_ms);
        if !later || batch.records == 0 || batch.processing_ms <= 0.0 {
            return None;
        }
        let (at_ms, processed) = (batch.at_ms, batch.records as f64 / batch.processing_ms * 1000.0);
        let Some(last) = self.last else {
            self.last = Some(Last { at_ms, rate: processed, error: 0.0 });
            return None;
        };
        let Backpressure { proportional, integral, derived, min_rate, .. } = self.weights;
        let error = last.rate - processed;
        let gathered = batch.scheduling_ms * processed / self.batch_ms;
        let change = (error - last.error) / ((at_ms - last.at_ms) / 1000.0);
        let rate = last.rate - proportional * error - integral * gathered - derived * change;
        let rate = rate.max(min_rate as f64);
        self.last = Some(Last { at_ms, rate, error });
        Some(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Time, records, processing and scheduling delay of each batch, and the rates that come out: a case of Spark's suite,
    /// and one worked out by its formula.
    const VECTORS: &str = include_str!("rate.vectors.json");

    #[test]
    fn estimates_what_spark_does() {
        let cases: Value = serde_json::from_str(VECTORS).unwrap();
        for case in cases.as_array().unwrap() {
            let param = |name: &str| case["params"][name].as_f64().unwrap();
            let weights = Backpressure {
                proportional: param("p"),
                integral: param("i"),
                derived: param("d"),
                min_rate: param("min_rate") as u64,
                initial_rate: None,
            };
            let mut estimator = RateEstimator::new(weights, param("batch_ms"));
            let batches = case["batches_in"].as_array().unwrap().iter();
            for (batch, expected) in batches.zip(case["batches_out"].as_array().unwrap()) {
                let [at_ms, records, processing_ms, scheduling_ms] = [0, 1, 2, 3].map(|i| batch[i].as_f64().unwrap());
                let measured = Measured { at_ms, records: records as u64, processing_ms, scheduling_ms };
                let rate = estimator.measure(measured);
                let near = rate.zip(expected.as_f64()).is_none_or(|(rate, expected)| (rate - expected).abs() < 1e-6);
                assert!(near && rate.is_some() != expected.is_null(), "{}: {rate:?} for {batch}", case["name"]);
            }
        }
    }

    #[test]
    fn the_rate_has_a_floor_and_follows_the_change_of_the_error() {
        let weights = Backpressure { derived: 0.5, ..Backpressure::default() };
        let mut estimator = RateEstimator::new(weights, 1000.0);
        let mut at =
            |at_ms, records| estimator.measure(Measured { at_ms, records, processing_ms: 1000.0, scheduling_ms: 0.0 });
        assert_eq!(at(1000.0, 1000), None);
        // Half the rate: an error of 500, which was 0 two seconds ago.
        assert_eq!(at(3000.0, 500), Some(500.0 - 0.5 * 250.0));
        assert_eq!(at(4000.0, 1), Some(100.0));
    }
}
