//! Counters, gauges and histograms. What is wrong with a declaration does not compile, because statics are evaluated by the
//! compiler.

use crate::family::Family;
use crate::text::Samples;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bounds of a histogram at most.
pub const MAX_BOUNDS: usize = 16;

/// Bounds for times, in seconds: from a millisecond to a minute.
pub const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// What Prometheus calls the type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Grows, until the process ends.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations by size.
    Histogram,
}

impl Kind {
    /// As on the page.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric on the page.
pub trait Metric: Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// What it says, in a sentence.
    fn help(&self) -> &'static str;
    /// Its type.
    fn kind(&self) -> Kind;
    /// The names of its labels.
    fn labels(&self) -> &[&'static str];
    /// Writes its values.
    #[doc(hidden)]
    fn write(&self, samples: &mut Samples<'_>);
}

/// A metric without labels, of which a [`Family`] has one for each set of label values.
pub trait Cell: Send + Sync {
    /// Its type.
    const KIND: Kind;
    #[doc(hidden)]
    fn about(&self) -> About;
    /// The same with nothing in it.
    #[doc(hidden)]
    fn fresh(&self) -> Self;
    #[doc(hidden)]
    fn write(&self, labels: &[(&str, &str)], samples: &mut Samples<'_>);
}

/// Name and help.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct About {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
}

impl About {
    const fn new(name: &'static str, help: &'static str) -> Self {
        assert!(is_name(name), "a name is lower-case letters, digits and `_`, and begins with a letter");
        assert!(!help.is_empty(), "a metric needs a help text");
        Self { name, help }
    }
}

/// Narrower than what Prometheus allows, as its conventions ask.
pub(crate) const fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let letter = bytes[at].is_ascii_lowercase();
        if !letter && (at == 0 || !(bytes[at].is_ascii_digit() || bytes[at] == b'_')) {
            return false;
        }
        at += 1;
    }
    at > 0
}

const fn ends_with(text: &str, end: &str) -> bool {
    let (text, end) = (text.as_bytes(), end.as_bytes());
    let mut at = 0;
    while at < end.len() {
        if text.len() < end.len() || text[text.len() - end.len() + at] != end[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Counts what has happened.
#[derive(Debug)]
pub struct Counter {
    about: About,
    value: AtomicU64,
}

impl Counter {
    /// A counter at 0. Its name ends in `_total`.
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        assert!(ends_with(name, "_total"), "the name of a counter ends in `_total`");
        Self { about: About::new(name, help), value: AtomicU64::new(0) }
    }

    /// One for each set of values of these labels.
    pub const fn by<const N: usize>(self, labels: [&'static str; N]) -> Family<Self, N> {
        Family::new(self, labels)
    }

    /// Adds to it.
    pub fn add(&self, more: u64) {
        self.value.fetch_add(more, Relaxed);
    }

    /// What was counted.
    pub fn value(&self) -> u64 {
        self.value.load(Relaxed)
    }
}

impl Cell for Counter {
    const KIND: Kind = Kind::Counter;

    fn about(&self) -> About {
        self.about
    }

    fn fresh(&self) -> Self {
        Self { about: self.about, value: AtomicU64::new(0) }
    }

    fn write(&self, labels: &[(&str, &str)], samples: &mut Samples<'_>) {
        samples.add("", labels, self.value());
    }
}

/// How much there is of something.
#[derive(Debug)]
pub struct Gauge {
    about: About,
    bits: AtomicU64,
}

impl Gauge {
    /// A gauge at 0.
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        assert!(!ends_with(name, "_total"), "`_total` is for counters");
        Self { about: About::new(name, help), bits: AtomicU64::new(0) }
    }

    /// One for each set of values of these labels.
    pub const fn by<const N: usize>(self, labels: [&'static str; N]) -> Family<Self, N> {
        Family::new(self, labels)
    }

    /// Sets it.
    pub fn set(&self, value: f64) {
        self.bits.store(value.to_bits(), Relaxed);
    }

    /// What it stands at.
    pub fn value(&self) -> f64 {
        f64::from_bits(self.bits.load(Relaxed))
    }
}

impl Cell for Gauge {
    const KIND: Kind = Kind::Gauge;

    fn about(&self) -> About {
        self.about
    }

    fn fresh(&self) -> Self {
        Self { about: self.about, bits: AtomicU64::new(0) }
    }

    fn write(&self, labels: &[(&str, &str)], samples: &mut Samples<'_>) {
        samples.add("", labels, self.value());
    }
}

/// Observations, counted by size.
#[derive(Debug)]
pub struct Histogram {
    about: About,
    bounds: &'static [f64],
    /// By bound; behind them what is larger than all.
    counts: [AtomicU64; MAX_BOUNDS + 1],
    sum_bits: AtomicU64,
}

const fn nothing() -> [AtomicU64; MAX_BOUNDS + 1] {
    [const { AtomicU64::new(0) }; MAX_BOUNDS + 1]
}

impl Histogram {
    /// A histogram with nothing in it. `bounds` ascend and are finite; there are 1 to [`MAX_BOUNDS`].
    pub const fn new(name: &'static str, help: &'static str, bounds: &'static [f64]) -> Self {
        assert!(!ends_with(name, "_total"), "`_total` is for counters");
        assert!(!bounds.is_empty() && bounds.len() <= MAX_BOUNDS, "a histogram has 1 to 16 bounds");
        let mut at = 0;
        while at < bounds.len() {
            assert!(bounds[at].is_finite() && (at == 0 || bounds[at - 1] < bounds[at]), "bounds ascend and are finite");
            at += 1;
        }
        Self { about: About::new(name, help), bounds, counts: nothing(), sum_bits: AtomicU64::new(0) }
    }

    /// One for each set of values of these labels.
    pub const fn by<const N: usize>(self, labels: [&'static str; N]) -> Family<Self, N> {
        Family::new(self, labels)
    }

    /// Counts an observation.
    pub fn observe(&self, value: f64) {
        // One that is no number is in no bucket but the last.
        let bucket = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        self.counts[bucket].fetch_add(1, Relaxed);
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        // It always adds.
        let _ = self.sum_bits.fetch_update(Relaxed, Relaxed, add);
    }

    /// How many were observed.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Relaxed)).sum()
    }
}

impl Cell for Histogram {
    const KIND: Kind = Kind::Histogram;

    fn about(&self) -> About {
        self.about
    }

    fn fresh(&self) -> Self {
        Self { about: self.about, bounds: self.bounds, counts: nothing(), sum_bits: AtomicU64::new(0) }
    }

    fn write(&self, labels: &[(&str, &str)], samples: &mut Samples<'_>) {
        let mut count = 0;
        let bounds = self.bounds.iter().map(ToString::to_string).chain(["+Inf".to_string()]);
        for (bound, here) in bounds.zip(&self.counts) {
            count += here.load(Relaxed);
            samples.add("_bucket", &[labels, &[("le", bound.as_str())]].concat(), count);
        }
        samples.add("_sum", labels, f64::from_bits(self.sum_bits.load(Relaxed)));
        samples.add("_count", labels, count);
    }
}

impl<C: Cell> Metric for C {
    fn name(&self) -> &'static str {
        self.about().name
    }

    fn help(&self) -> &'static str {
        self.about().help
    }

    fn kind(&self) -> Kind {
        C::KIND
    }

    fn labels(&self) -> &[&'static str] {
        &[]
    }

    fn write(&self, samples: &mut Samples<'_>) {
        Cell::write(self, &[], samples);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case() {
        assert!(is_name("tidemill_http2_requests_total"));
        for name in ["", "2nd", "_hidden", "Upper", "with-dash", "with:colon", "ümlaut"] {
            assert!(!is_name(name), "{name}");
        }
        assert!(ends_with("a_total", "_total") && !ends_with("total", "_total") && !ends_with("a_totals", "_total"));
    }

    #[test]
    fn an_observation_is_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new("h", "H.", &[1.0, 2.0]);
        [0.5, 1.0, 1.5, 2.0, 2.5, f64::INFINITY].iter().for_each(|value| histogram.observe(*value));
        let counts: Vec<u64> = histogram.counts.iter().map(|count| count.load(Relaxed)).collect();
        assert_eq!(counts[..4], [2, 2, 2, 0]);
        assert_eq!(histogram.count(), 6);
    }

    #[test]
    #[should_panic(expected = "ascend")]
    fn bounds_ascend() {
        let _ = Histogram::new("h", "H.", &[1.0, 1.0]);
    }

    #[test]
    #[should_panic(expected = "_total")]
    fn a_counter_says_that_it_is_one() {
        let _ = Counter::new("blocks", "Blocks.");
    }
}
