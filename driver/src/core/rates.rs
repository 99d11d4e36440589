//! Rates of receivers: `max_rate`, and what backpressure makes of complete batches.
//!
//! They decide how much is read when, and nothing else: a batch is what was frozen, however fast it came in. They are not in
//! the log: a driver that starts again estimates anew.

use super::Cx;
use super::job::Job;
use super::rate::{Measured, RateEstimator};
use super::run::BatchRun;
use super::topology::{SourceShape, Topology};
use super::wire::receiver_ref;
use crate::record::ReceiverKey;
use tidemill_job::Settings;
use tidemill_proto::control::{self as pb, driver_message};

/// The rate of a source.
#[derive(Debug)]
pub(crate) struct SourceRate {
    receivers: f64,
    max_rate: Option<f64>,
    estimator: Option<RateEstimator>,
    /// Records per second and receiver, as estimated.
    estimate: Option<f64>,
}

impl SourceRate {
    fn new(source: &SourceShape, settings: &Settings) -> Self {
        // Of a queue every batch takes one entry.
        let backpressure = settings.backpressure.filter(|_| !source.one_block_per_batch);
        let batch_ms = settings.batch_interval.as_secs_f64() * 1e3;
        Self {
            receivers: f64::from(source.receivers),
            max_rate: source.max_rate.map(|rate| rate as f64),
            estimator: backpressure.map(|weights| RateEstimator::new(weights, batch_ms)),
            estimate: backpressure.and_then(|weights| weights.initial_rate).map(|rate| rate as f64),
        }
    }

    /// Of all sources; without any bound when batches are given (replay).
    pub(crate) fn of_job(topology: &Topology, settings: &Settings, capture: bool) -> Vec<Self> {
        let bound = Settings { backpressure: settings.backpressure.filter(|_| !capture), ..settings.clone() };
        topology.sources.iter().map(|source| Self::new(source, &bound)).collect()
    }

    /// Records per second that each of its receivers may read; 0 for no bound.
    fn of_receiver(&self) -> f64 {
        let bounds = self.estimate.into_iter().chain(self.max_rate);
        bounds.reduce(f64::min).unwrap_or(0.0)
    }
}

impl Job {
    /// Records per second that a receiver may read; 0 for no bound.
    pub(crate) fn rate_of(&self, key: ReceiverKey) -> f64 {
        self.rates.get(key.source.0 as usize).map_or(0.0, SourceRate::of_receiver)
    }

    /// Learns from a batch that is complete, and tells the receivers.
    pub(crate) fn estimate_rates(&mut self, cx: &mut Cx<'_>, run: &BatchRun) {
        // One that was frozen by an earlier driver waited for the driver.
        let Some(late_ms) = run.late_ms else { return };
        let at_ms = cx.now.mono_us as f64 / 1e3;
        let processing_ms = cx.now.mono_us.saturating_sub(run.started_us) as f64 / 1e3;
        for (rate, records) in self.rates.iter_mut().zip(&run.source_records) {
            let measured = Measured { at_ms, records: *records, processing_ms, scheduling_ms: late_ms as f64 };
            if let Some(total) = rate.estimator.as_mut().and_then(|estimator| estimator.measure(measured)) {
                rate.estimate = Some(total / rate.receivers);
            }
        }
        self.tell_rates(cx);
    }

    /// Tells running receivers what they do not know.
    pub(crate) fn tell_rates(&mut self, cx: &mut Cx<'_>) {
        for (key, receiver) in &mut self.receivers {
            let rate = self.rates.get(key.source.0 as usize).map_or(0.0, SourceRate::of_receiver);
            let Some(worker) = receiver.worker.filter(|_| rate > 0.0 && receiver.rate != rate) else { continue };
            receiver.rate = rate;
            let receiver = Some(receiver_ref(self.durable.id, *key));
            cx.send(worker, driver_message::Kind::SetRate(pb::SetRate { receiver, rate }));
        }
    }
}
