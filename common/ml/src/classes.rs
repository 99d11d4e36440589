//! What classifiers have in common: classes, labels and probabilities.

use crate::error::SpecError;

/// More classes than this are a mistake (labels that are ids, say) and would take memory without bound.
const MOST_CLASSES: u32 = 10_000;

/// A number of classes that can be.
pub(crate) fn check_classes(classes: u32) -> Result<(), SpecError> {
    if (2..=MOST_CLASSES).contains(&classes) {
        return Ok(());
    }
    Err(SpecError::new("classes", format!("is {classes}"), format!("use 2 to {MOST_CLASSES}")))
}

/// The class a label means.
pub(crate) fn class_of(y: f64, classes: usize) -> Option<usize> {
    (y >= 0.0 && y < classes as f64 && libm::trunc(y) == y).then_some(y as usize)
}

/// The first of the most probable.
pub(crate) fn likeliest(values: &[f64]) -> f64 {
    let best = values.iter().enumerate().fold(0, |best, (i, value)| if *value > values[best] { i } else { best });
    best as f64
}

/// `exp(m) / sum exp(m)`, that does not overflow.
pub(crate) fn normalised(mut logs: Vec<f64>) -> Vec<f64> {
    normalise(&mut logs);
    logs
}

pub(crate) fn normalise(logs: &mut [f64]) {
    let most = logs.iter().fold(f64::NEG_INFINITY, |most, m| most.max(*m));
    logs.iter_mut().for_each(|m| *m = libm::exp(*m - most));
    let sum = logs.iter().fold(0.0, |sum, p| sum + p);
    logs.iter_mut().for_each(|p| *p /= sum);
}
