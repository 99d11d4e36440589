//! Metrics by labels.

use crate::metric::{Cell, Gauge, Kind, Metric, is_name};
use crate::text::Samples;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Sets of label values of one metric at most; whatever comes beyond them is counted together, as [`OTHER`].
pub const MAX_SETS: usize = 200;

/// The label value of all that is beyond [`MAX_SETS`].
pub const OTHER: &str = "other";

/// A metric for each set of values of `N` labels. Only what takes few values is a label: a job, a source, an output, a kind;
/// never a key, a batch or a text of somebody else.
#[derive(Debug)]
pub struct Family<C, const N: usize> {
    prototype: C,
    labels: [&'static str; N],
    sets: Mutex<Sets<C, N>>,
}

#[derive(Debug)]
struct Sets<C, const N: usize> {
    cells: BTreeMap<[String; N], Arc<C>>,
    /// It was said that there are too many.
    told: bool,
}

impl<C, const N: usize> Family<C, N> {
    pub(crate) const fn new(prototype: C, labels: [&'static str; N]) -> Self {
        let mut at = 0;
        while at < N {
            assert!(is_name(labels[at]), "a label is lower-case letters, digits and `_`, and begins with a letter");
            // Histograms have it already.
            assert!(!matches!(labels[at].as_bytes(), b"le"), "the label `le` is taken");
            at += 1;
        }
        Self { prototype, labels, sets: Mutex::new(Sets { cells: BTreeMap::new(), told: false }) }
    }

    fn lock(&self) -> MutexGuard<'_, Sets<C, N>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Cell, const N: usize> Family<C, N> {
    /// The metric of these values, in the order of the labels.
    pub fn of(&self, values: [&str; N]) -> Arc<C> {
        let mut sets = self.lock();
        let values = values.map(str::to_string);
        let values = if sets.cells.contains_key(&values) { values } else { self.admit(&mut sets, values) };
        sets.cells.entry(values).or_insert_with(|| Arc::new(self.prototype.fresh())).clone()
    }

    /// The values under which a new set is kept.
    fn admit(&self, sets: &mut Sets<C, N>, values: [String; N]) -> [String; N] {
        if sets.cells.len() < MAX_SETS {
            return values;
        }
        if !std::mem::replace(&mut sets.told, true) {
            let (metric, labels) = (self.name(), self.labels.join(", "));
            tracing::warn!(
                metric,
                labels,
                "more than {MAX_SETS} sets of label values; those that come from now on are counted together, as `{OTHER}`"
            );
        }
        std::array::from_fn(|_| OTHER.to_string())
    }
}

impl<const N: usize> Family<Gauge, N> {
    /// Sets the gauges of all that there is now. Those of what is not among it are gone.
    pub fn replace(&self, now: impl IntoIterator<Item = ([String; N], f64)>) {
        let mut sets = self.lock();
        sets.cells.clear();
        for (values, value) in now {
            let values = if sets.cells.contains_key(&values) { values } else { self.admit(&mut sets, values) };
            let gauge = sets.cells.entry(values).or_insert_with(|| Arc::new(self.prototype.fresh()));
            gauge.set(gauge.value() + value);
        }
    }
}

impl<C: Cell, const N: usize> Metric for Family<C, N> {
    fn name(&self) -> &'static str {
        self.prototype.about().name
    }

    fn help(&self) -> &'static str {
        self.prototype.about().help
    }

    fn kind(&self) -> Kind {
        C::KIND
    }

    fn labels(&self) -> &[&'static str] {
        &self.labels
    }

    fn write(&self, samples: &mut Samples<'_>) {
        for (values, cell) in &self.lock().cells {
            let labels: Vec<(&str, &str)> =
                self.labels.iter().copied().zip(values.iter().map(String::as_str)).collect();
            cell.write(&labels, samples);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Counter, Histogram};

    #[test]
    fn a_set_has_one_metric() {
        let family = Counter::new("f_total", "F.").by(["job", "source"]);
        family.of(["a", "s"]).add(2);
        family.of(["a", "s"]).add(3);
        family.of(["b", "s"]).add(1);
        assert_eq!((family.of(["a", "s"]).value(), family.of(["b", "s"]).value()), (5, 1));
    }

    #[test]
    fn sets_are_bounded_and_nothing_is_lost() {
        let family = Counter::new("f_total", "F.").by(["job"]);
        let names: Vec<String> = (0..3 * MAX_SETS).map(|number| format!("job-{number}")).collect();
        for _ in 0..2 {
            names.iter().for_each(|name| family.of([name]).add(1));
        }
        let sets = family.lock();
        assert_eq!(sets.cells.len(), MAX_SETS + 1);
        assert!(sets.told);
        assert_eq!(sets.cells.values().map(|cell| cell.value()).sum::<u64>(), 6 * MAX_SETS as u64);
        assert_eq!(sets.cells[&[OTHER.to_string()]].value(), 4 * MAX_SETS as u64);
        assert_eq!(sets.cells[&[names[0].clone()]].value(), 2);
    }

    #[test]
    fn gauges_are_those_of_now() {
        let family = Gauge::new("g", "G.").by(["job"]);
        let set = |name: &str, value: f64| ([name.to_string()], value);
        family.replace([set("a", 1.0), set("b", 2.0)]);
        family.replace([set("b", 3.0), set("c", 4.0), set("c", 1.0)]);
        let values: Vec<(String, f64)> =
            family.lock().cells.iter().map(|(values, gauge)| (values[0].clone(), gauge.value())).collect();
        assert_eq!(values, [("b".to_string(), 3.0), ("c".to_string(), 5.0)]);
        family.replace((0..MAX_SETS + 5).map(|number| ([number.to_string()], 1.0)));
        assert_eq!(family.of([OTHER]).value(), 5.0);
    }

    #[test]
    #[should_panic(expected = "`le` is taken")]
    fn a_label_of_histograms_is_theirs() {
        let _ = Histogram::new("h", "H.", &[1.0]).by(["le"]);
    }
}
