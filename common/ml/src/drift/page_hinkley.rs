//! Page, Continuous inspection schemes, 1954; with forgetting as in River and MOA.

use super::Drift;
use crate::{
    error::{SpecError, number},
    stats::Moments,
};
use serde::{Deserialize, Serialize};

/// Parameters of Page and Hinkley's test; the defaults are River's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PageHinkleySpec {
    /// Nothing is said before so many numbers. Default 30.
    pub min_instances: u32,
    /// Deviations from the mean below this do not count. Default 0.005.
    pub delta: f64,
    /// How far the sum of deviations may leave its extreme, in the unit of the numbers. Default 50.
    pub threshold: f64,
    /// What the sum of deviations is multiplied with at every number. Default 0.9999.
    pub alpha: f64,
    /// Which change is looked for. Default `both`.
    pub direction: Direction,
}

/// Which change is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The mean rises.
    Up,
    /// The mean falls.
    Down,
    /// Either.
    #[default]
    Both,
}

impl Default for PageHinkleySpec {
    fn default() -> Self {
        let direction = Direction::Both;
        PageHinkleySpec { min_instances: 30, delta: 0.005, threshold: 50.0, alpha: 0.9999, direction }
    }
}

impl PageHinkleySpec {
    pub(super) fn validate(&self) -> Result<(), SpecError> {
        number("delta", self.delta, |d| d >= 0.0, "use 0 or more")?;
        number("threshold", self.threshold, |t| t > 0.0, "use a positive number")?;
        number("alpha", self.alpha, |a| 0.0 < a && a <= 1.0, "use a number above 0 and at most 1")
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct PageHinkley {
    seen: Moments,
    rise: f64,
    fall: f64,
    /// The least `rise` so far.
    lowest: Option<f64>,
    /// The largest `fall` so far.
    highest: Option<f64>,
}

impl PageHinkley {
    pub(super) fn estimate(&self) -> Option<f64> {
        (self.seen.n > 0.0).then_some(self.seen.mean)
    }

    pub(super) fn finite(&self) -> bool {
        self.seen.mean.is_finite() && self.rise.is_finite() && self.fall.is_finite()
    }

    pub(super) fn update(&mut self, spec: &PageHinkleySpec, value: f64) -> Drift {
        self.seen.add(value, 1.0);
        let deviation = value - self.seen.mean;
        self.rise = spec.alpha * self.rise + deviation - spec.delta;
        self.fall = spec.alpha * self.fall + deviation + spec.delta;
        let lowest = self.lowest.map_or(self.rise, |lowest| lowest.min(self.rise));
        let highest = self.highest.map_or(self.fall, |highest| highest.max(self.fall));
        (self.lowest, self.highest) = (Some(lowest), Some(highest));
        let up = spec.direction != Direction::Down && self.rise - lowest > spec.threshold;
        let down = spec.direction != Direction::Up && highest - self.fall > spec.threshold;
        if self.seen.n >= f64::from(spec.min_instances) && (up || down) {
            *self = PageHinkley::default();
            return Drift::Detected;
        }
        Drift::None
    }
}
