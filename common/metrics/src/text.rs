//! The text format of Prometheus, version 0.0.4.
//!
//! ```text
//! # HELP tidemill_batches_total Complete batches.
//! # TYPE tidemill_batches_total counter
//! tidemill_batches_total{job="revenue"} 42
//! ```
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use crate::metric::Metric;
use std::fmt::{Display, Write};

/// The content type of a page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes the values of one metric.
#[doc(hidden)]
#[derive(Debug)]
pub struct Samples<'p> {
    name: &'static str,
    page: &'p mut String,
}

/// A value of a sample.
pub(crate) trait Value {
    fn write(&self, page: &mut String);
}

impl Value for u64 {
    fn write(&self, page: &mut String) {
        push(page, self);
    }
}

impl Value for f64 {
    fn write(&self, page: &mut String) {
        match self {
            value if value.is_nan() => page.push_str("NaN"),
            value if value.is_infinite() => page.push_str(if *value > 0.0 { "+Inf" } else { "-Inf" }),
            value => push(page, value),
        }
    }
}

fn push(page: &mut String, value: impl Display) {
    // A text takes everything.
    let _ = write!(page, "{value}");
}

impl Samples<'_> {
    /// A sample of `name + suffix` with these labels.
    pub(crate) fn add(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Value) {
        self.page.push_str(self.name);
        self.page.push_str(suffix);
        for (number, (label, text)) in labels.iter().enumerate() {
            self.page.push(if number == 0 { '{' } else { ',' });
            self.page.push_str(label);
            self.page.push_str("=\"");
            escape(self.page, text, true);
            self.page.push('"');
        }
        if !labels.is_empty() {
            self.page.push('}');
        }
        self.page.push(' ');
        value.write(self.page);
        self.page.push('\n');
    }
}

/// Backslashes and line feeds, and quotes within label values.
fn escape(page: &mut String, text: &str, quotes: bool) {
    for character in text.chars() {
        match character {
            '\\' => page.push_str("\\\\"),
            '\n' => page.push_str("\\n"),
            '"' if quotes => page.push_str("\\\""),
            other => page.push(other),
        }
    }
}

/// The page of all metrics that were declared in modules that are `shown`, by name.
pub fn page(shown: impl Fn(&str) -> bool) -> String {
    crate::process::look();
    let mut page = String::new();
    for entry in crate::all().into_iter().filter(|entry| shown(entry.module)) {
        write_metric(&mut page, entry.metric);
    }
    page
}

fn write_metric(page: &mut String, metric: &dyn Metric) {
    let name = metric.name();
    page.push_str("# HELP ");
    page.push_str(name);
    page.push(' ');
    escape(page, metric.help(), false);
    page.push_str("\n# TYPE ");
    page.push_str(name);
    page.push(' ');
    page.push_str(metric.kind().name());
    page.push('\n');
    metric.write(&mut Samples { name, page });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Counter, Family, Gauge, Histogram, metric};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    metric! {
        static TOUCHED: Counter = Counter::new("test_touched_total", "A counter.");
        static UNTOUCHED: Histogram = Histogram::new("test_untouched_seconds", "Nothing \\ is\nin it.", &[0.5, 1.0]);
        static NOBODY: Family<Gauge, 1> = Gauge::new("test_nobody", "No set.").by(["job"]);
    }

    fn text(metric: &dyn Metric) -> String {
        let mut page = String::new();
        write_metric(&mut page, metric);
        page
    }

    #[test]
    fn what_was_never_touched_is_there() {
        let mine = |module: &str| module.starts_with("tidemill_metrics::text");
        let want = "# HELP test_nobody No set.\n# TYPE test_nobody gauge\n\
            # HELP test_touched_total A counter.\n# TYPE test_touched_total counter\ntest_touched_total 0\n\
            # HELP test_untouched_seconds Nothing \\\\ is\\nin it.\n# TYPE test_untouched_seconds histogram\n\
            test_untouched_seconds_bucket{le=\"0.5\"} 0\ntest_untouched_seconds_bucket{le=\"1\"} 0\n\
            test_untouched_seconds_bucket{le=\"+Inf\"} 0\ntest_untouched_seconds_sum 0\ntest_untouched_seconds_count 0\n";
        assert_eq!(page(mine), want);
        assert!(page(|_| true).contains("\nprocess_resident_memory_bytes "));
        assert!(!page(|module| !mine(module)).contains("test_"));
        assert!([TOUCHED.name(), UNTOUCHED.name(), NOBODY.name()].iter().all(|name| name.starts_with("test_")));
    }

    #[test]
    fn labels_are_escaped() {
        let family = Counter::new("f_total", "F.").by(["job", "source"]);
        family.of(["a \"b\"", "c\\d\ne\u{e9}"]).add(7);
        let last = text(&family).lines().last().map(str::to_string);
        assert_eq!(last.as_deref(), Some("f_total{job=\"a \\\"b\\\"\",source=\"c\\\\d\\ne\u{e9}\"} 7"));
    }

    #[test]
    fn buckets_hold_those_below() {
        let family = Histogram::new("h_seconds", "H.", &[0.5, 2.0]).by(["job"]);
        [0.25, 1.0, 1.0, 4.0].iter().for_each(|value| family.of(["j"]).observe(*value));
        let page = text(&family);
        for line in [
            "h_seconds_bucket{job=\"j\",le=\"0.5\"} 1",
            "h_seconds_bucket{job=\"j\",le=\"2\"} 3",
            "h_seconds_bucket{job=\"j\",le=\"+Inf\"} 4",
            "h_seconds_sum{job=\"j\"} 6.25",
            "h_seconds_count{job=\"j\"} 4",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
    }

    #[test]
    fn values_that_are_no_numbers_have_words() {
        let gauge = Gauge::new("g", "G.");
        for (value, word) in
            [(f64::NAN, "NaN"), (f64::INFINITY, "+Inf"), (f64::NEG_INFINITY, "-Inf"), (1e21, "1000000000000000000000")]
        {
            gauge.set(value);
            assert!(text(&gauge).ends_with(&format!("\ng {word}\n")), "{value}");
        }
    }

    /// A reader of the format, by its grammar: labels and value of each sample.
    fn read(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
        let end = line.find(['{', ' '])?;
        let (name, mut rest) = line.split_at(end);
        let mut labels = BTreeMap::new();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            loop {
                let (label, behind) = rest.split_once("=\"")?;
                let mut text = String::new();
                let mut characters = behind.char_indices();
                let end = loop {
                    match characters.next()? {
                        (at, '"') => break at,
                        (_, '\\') => text.push(match characters.next()?.1 {
                            'n' => '\n',
                            same @ ('\\' | '"') => same,
                            _ => return None,
                        }),
                        (_, other) => text.push(other),
                    }
                };
                labels.insert(label.to_string(), text);
                rest = &behind[end + 1..];
                match rest.chars().next()? {
                    ',' => rest = &rest[1..],
                    '}' => break,
                    _ => return None,
                }
            }
            rest = &rest[1..];
        }
        let value = rest.strip_prefix(' ')?;
        Some((name.to_string(), labels, value.replace("Inf", "inf").parse().ok()?))
    }

    proptest! {
        /// Whatever is in labels and values comes back from the page.
        #[test]
        fn what_is_written_is_read(
            sets in prop::collection::btree_map(any::<[String; 2]>(), any::<f64>(), 0..8),
        ) {
            let family = Gauge::new("g", "G.").by(["one", "two"]);
            family.replace(sets.iter().map(|(values, value)| (values.clone(), *value)));
            let page = text(&family);
            let found: Vec<_> = page.split('\n').skip(2).filter(|line| !line.is_empty()).map(read).collect();
            prop_assert_eq!(found.len(), sets.len());
            for ((values, value), found) in sets.iter().zip(found) {
                let (name, labels, read) = found.expect("it is of the grammar");
                prop_assert_eq!(name, "g");
                prop_assert_eq!(labels, BTreeMap::from([("one".into(), values[0].clone()), ("two".into(), values[1].clone())]));
                // A gauge is summed from 0, so a negative zero is none any more.
                prop_assert!(read == *value || read.is_nan() && value.is_nan(), "{} {}", read, value);
            }
        }
    }
}
