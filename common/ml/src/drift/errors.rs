//! Detectors on the errors of a classifier.

use super::Drift;
use crate::{
    envelope::are_counts,
    error::{SpecError, number},
    stats::Moments,
};
use serde::{Deserialize, Serialize};

/// Parameters of DDM (Gama, Medas, Castillo, Rodrigues, Learning with drift detection, 2004). Every number but 0 is an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DdmSpec {
    /// Nothing is said before so many numbers. Default 30.
    pub warm_start: u32,
    /// Warning when rate plus deviation is so many deviations above the best. Default 2.
    pub warning_threshold: f64,
    /// Detected likewise. Default 3.
    pub drift_threshold: f64,
}

impl Default for DdmSpec {
    fn default() -> Self {
        DdmSpec { warm_start: 30, warning_threshold: 2.0, drift_threshold: 3.0 }
    }
}

impl DdmSpec {
    pub(super) fn validate(&self) -> Result<(), SpecError> {
        number("warning_threshold", self.warning_threshold, |t| t > 0.0, "use a positive number")?;
        let mend = "use a number that is not below `warning_threshold`";
        number("drift_threshold", self.drift_threshold, |t| t >= self.warning_threshold, mend)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Ddm {
    errors: Moments,
    /// Rate and deviation where their sum was least.
    best: Option<(f64, f64)>,
}

impl Ddm {
    pub(super) fn estimate(&self) -> Option<f64> {
        (self.errors.n > 0.0).then_some(self.errors.mean)
    }

    pub(super) fn update(&mut self, spec: &DdmSpec, error: bool) -> Drift {
        self.errors.add(f64::from(u8::from(error)), 1.0);
        let (n, rate) = (self.errors.n, self.errors.mean);
        if n <= f64::from(spec.warm_start) {
            return Drift::None;
        }
        let deviation = libm::sqrt((rate * (1.0 - rate)).max(0.0) / n);
        let now = rate + deviation;
        let best = match self.best {
            Some((rate, deviation)) if now > rate + deviation => (rate, deviation),
            _ => (rate, deviation),
        };
        self.best = Some(best);
        if now > best.0 + spec.drift_threshold * best.1 {
            *self = Ddm::default();
            Drift::Detected
        } else if now > best.0 + spec.warning_threshold * best.1 {
            Drift::Warning
        } else {
            Drift::None
        }
    }
}

/// Parameters of EDDM (Baena-García et al., Early drift detection method, 2006). Every number but 0 is an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EddmSpec {
    /// Nothing is said before so many errors. Default 30.
    pub warm_start: u32,
    /// Warning when the distance of errors is below this share of the best. Default 0.95.
    pub alpha: f64,
    /// Detected likewise. Default 0.9.
    pub beta: f64,
}

impl Default for EddmSpec {
    fn default() -> Self {
        EddmSpec { warm_start: 30, alpha: 0.95, beta: 0.9 }
    }
}

impl EddmSpec {
    pub(super) fn validate(&self) -> Result<(), SpecError> {
        number("alpha", self.alpha, |a| 0.0 < a && a <= 1.0, "use a share above 0 and at most 1")?;
        number("beta", self.beta, |b| 0.0 < b && b <= self.alpha, "use a share above 0 and at most `alpha`")
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Eddm {
    distances: Moments,
    seen: u64,
    last_error: u64,
    /// The largest `mean + 2 deviations` of the distances.
    best: Option<f64>,
    warned: bool,
}

impl Eddm {
    /// Whether the last error is one of those seen.
    pub(super) fn consistent(&self) -> bool {
        self.last_error <= self.seen && are_counts(&[self.seen])
    }

    /// Share of errors, from the mean distance between them.
    pub(super) fn estimate(&self) -> Option<f64> {
        (self.distances.n > 0.0).then(|| 1.0 / self.distances.mean)
    }

    pub(super) fn update(&mut self, spec: &EddmSpec, error: bool) -> Drift {
        self.seen += 1;
        if error {
            self.distances.add((self.seen - self.last_error) as f64, 1.0);
            self.last_error = self.seen;
            if self.seen > u64::from(spec.warm_start) && self.judge(spec) {
                *self = Eddm::default();
                return Drift::Detected;
            }
        }
        if self.warned { Drift::Warning } else { Drift::None }
    }

    fn judge(&mut self, spec: &EddmSpec) -> bool {
        let variance = if self.distances.n > 1.0 { self.distances.sample_variance() } else { 0.0 };
        let now = self.distances.mean + 2.0 * libm::sqrt(variance);
        match self.best {
            Some(best) if now <= best => {
                if self.distances.n <= f64::from(spec.warm_start) {
                    return false;
                }
                self.warned = now / best < spec.alpha;
                now / best < spec.beta
            }
            _ => {
                self.best = Some(now);
                false
            }
        }
    }
}
