//! Detectors of change in a stream of numbers: a model's errors, or any other.
//!
//! A detector looks at one number after another, so it is a function of their order. What is not finite is passed over.

mod adwin;
mod errors;
mod kswin;
mod page_hinkley;

use crate::{
    envelope::{self, Envelope},
    error::{DecodeError, SpecError},
};
pub(crate) use adwin::Adwin;
pub use adwin::AdwinSpec;
use errors::{Ddm, Eddm};
pub use errors::{DdmSpec, EddmSpec};
use kswin::Kswin;
pub use kswin::KswinSpec;
use page_hinkley::PageHinkley;
pub use page_hinkley::{Direction, PageHinkleySpec};
use serde::{Deserialize, Serialize};

/// Which detector, with its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DetectorSpec {
    /// Any numbers: a window that shrinks when its older part has another mean.
    Adwin(AdwinSpec),
    /// Errors (0 or 1): the error rate rises above its best.
    Ddm(DdmSpec),
    /// Errors (0 or 1): the distance between errors falls below its best.
    Eddm(EddmSpec),
    /// Any numbers: the sum of deviations from the mean leaves its extreme.
    PageHinkley(PageHinkleySpec),
    /// Any numbers: the newest have another distribution than those before.
    Kswin(KswinSpec),
}

impl DetectorSpec {
    /// Whether the parameters can be.
    pub fn validate(&self) -> Result<(), SpecError> {
        match self {
            DetectorSpec::Adwin(spec) => spec.validate(),
            DetectorSpec::Ddm(spec) => spec.validate(),
            DetectorSpec::Eddm(spec) => spec.validate(),
            DetectorSpec::PageHinkley(spec) => spec.validate(),
            DetectorSpec::Kswin(spec) => spec.validate(),
        }
    }

    /// Whether it knows a warning before a detection.
    pub fn warns(&self) -> bool {
        matches!(self, DetectorSpec::Ddm(_) | DetectorSpec::Eddm(_))
    }

    /// Name of the detector, as in a definition.
    pub fn kind(&self) -> &'static str {
        match self {
            DetectorSpec::Adwin(_) => "adwin",
            DetectorSpec::Ddm(_) => "ddm",
            DetectorSpec::Eddm(_) => "eddm",
            DetectorSpec::PageHinkley(_) => "page_hinkley",
            DetectorSpec::Kswin(_) => "kswin",
        }
    }
}

/// What a detector says after a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drift {
    /// Nothing.
    None,
    /// Something may be changing (DDM, EDDM).
    Warning,
    /// Something has changed.
    Detected,
}

/// A detector as of some number.
#[derive(Debug, Clone, PartialEq)]
pub struct Detector {
    spec: DetectorSpec,
    state: State,
    seen: u64,
    detections: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum State {
    Adwin(Adwin),
    Ddm(Ddm),
    Eddm(Eddm),
    PageHinkley(PageHinkley),
    Kswin(Kswin),
}

impl State {
    fn new(spec: &DetectorSpec) -> State {
        match spec {
            DetectorSpec::Adwin(_) => State::Adwin(Adwin::default()),
            DetectorSpec::Ddm(_) => State::Ddm(Ddm::default()),
            DetectorSpec::Eddm(_) => State::Eddm(Eddm::default()),
            DetectorSpec::PageHinkley(_) => State::PageHinkley(PageHinkley::default()),
            DetectorSpec::Kswin(_) => State::Kswin(Kswin::default()),
        }
    }

    /// Whether it can be the state of such a detector.
    fn consistent(&self, spec: &DetectorSpec) -> bool {
        match (self, spec) {
            (State::Adwin(state), DetectorSpec::Adwin(spec)) => state.consistent(spec),
            (State::Eddm(state), DetectorSpec::Eddm(_)) => state.consistent(),
            (State::Kswin(state), DetectorSpec::Kswin(spec)) => state.consistent(spec),
            (State::Ddm(_), DetectorSpec::Ddm(_)) | (State::PageHinkley(_), DetectorSpec::PageHinkley(_)) => true,
            _ => false,
        }
    }

    fn finite(&self) -> bool {
        match self {
            State::Adwin(state) => state.finite(),
            State::PageHinkley(state) => state.finite(),
            // These count errors, and this one adds nothing up.
            State::Ddm(_) | State::Eddm(_) | State::Kswin(_) => true,
        }
    }
}

const DETECTOR: Envelope = Envelope { letters: *b"TMdr", what: "detector", version: 1 };

impl Detector {
    /// Before any number.
    pub fn new(spec: DetectorSpec) -> Result<Detector, SpecError> {
        spec.validate()?;
        Ok(Detector { state: State::new(&spec), spec, seen: 0, detections: 0 })
    }

    /// The same detector before any number.
    pub(crate) fn anew(&self) -> Detector {
        Detector { state: State::new(&self.spec), spec: self.spec.clone(), seen: 0, detections: 0 }
    }

    /// Looks at the next number. What is not finite is passed over; after numbers whose sums are not finite it begins anew.
    pub fn update(&mut self, value: f64) -> Drift {
        if !value.is_finite() {
            return Drift::None;
        }
        self.seen += 1;
        let drift = match (&mut self.state, &self.spec) {
            (State::Adwin(state), DetectorSpec::Adwin(spec)) => state.update(spec, value),
            (State::Ddm(state), DetectorSpec::Ddm(spec)) => state.update(spec, value != 0.0),
            (State::Eddm(state), DetectorSpec::Eddm(spec)) => state.update(spec, value != 0.0),
            (State::PageHinkley(state), DetectorSpec::PageHinkley(spec)) => state.update(spec, value),
            (State::Kswin(state), DetectorSpec::Kswin(spec)) => state.update(spec, value, self.seen),
            // The state is made of, and decoded against, the definition.
            _ => Drift::None,
        };
        self.detections += u64::from(drift == Drift::Detected);
        if !self.state.finite() {
            // Numbers too large to be added up: with such sums it would be silent for ever.
            self.state = State::new(&self.spec);
        }
        drift
    }

    /// What it is.
    pub fn spec(&self) -> &DetectorSpec {
        &self.spec
    }

    /// Numbers looked at.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Changes detected.
    pub fn detections(&self) -> u64 {
        self.detections
    }

    /// Mean of what the detector holds to be the present: the window (ADWIN, KSWIN), or all since the last change. None without numbers.
    pub fn estimate(&self) -> Option<f64> {
        match &self.state {
            State::Adwin(state) => state.estimate(),
            State::Ddm(state) => state.estimate(),
            State::Eddm(state) => state.estimate(),
            State::PageHinkley(state) => state.estimate(),
            State::Kswin(state) => state.estimate(),
        }
    }

    /// The detector, exactly.
    pub fn to_bytes(&self) -> Vec<u8> {
        DETECTOR.seal(&(envelope::spec_text(&self.spec), &self.state, self.seen, self.detections))
    }

    /// The detector that [`Detector::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Detector, DecodeError> {
        let (spec, state, seen, detections): (String, State, u64, u64) = DETECTOR.open(bytes)?;
        let spec: DetectorSpec = envelope::read_spec(&spec)?;
        spec.validate()?;
        if !state.consistent(&spec) || !envelope::are_counts(&[seen, detections]) {
            return Err(DecodeError::Content("the state is not one of this detector".to_owned()));
        }
        Ok(Detector { spec, state, seen, detections })
    }
}

#[cfg(test)]
mod tests;
