//! Windows, from all that was ever in them.
//!
//! What the engine promises of sums: four aligned slots make a run, four runs a longer one; a run adds up its parts in
//! order of time, and so does a window the longest runs that cover it.

use super::rows::{Row, Rows};
use super::totals::{Totals, add, totals};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Parts of a run.
const WIDTH: i64 = 4;

/// Length and slide, in batches; so is the slide of the input.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub(super) length: i64,
    pub(super) slide: i64,
    pub(super) step: i64,
}

impl Frame {
    pub(super) fn fires(self, batch: i64) -> bool {
        batch % self.slide == 0
    }
}

/// What a stream remembers of its input: rows, or totals by key.
#[derive(Default)]
pub(super) struct Panes {
    rows: BTreeMap<i64, Rows>,
    totals: BTreeMap<i64, BTreeMap<Vec<u8>, Row>>,
    seen: BTreeMap<Vec<u8>, Row>,
}

impl Panes {
    /// The rows of a window in order of time. Where they do not all have a key, none has one any more.
    pub(super) fn window(&mut self, batch: i64, frame: Frame, input: Rows, keyed: bool) -> Option<Vec<Row>> {
        self.rows.insert(batch, input);
        if !frame.fires(batch) {
            return None;
        }
        let covered = self.rows.range(batch - frame.length + 1..=batch);
        let rows = covered.flat_map(|(_, rows)| rows.units()).flatten().cloned();
        Some(rows.map(|row| if keyed { row } else { Row { key: Vec::new(), ..row } }).collect())
    }

    /// Totals by key over a window.
    pub(super) fn totals(
        &mut self,
        batch: i64,
        frame: Frame,
        input: &Rows,
        key: impl Fn(&Row) -> Vec<u8>,
        of: Totals,
    ) -> Option<BTreeMap<Vec<u8>, Row>> {
        let pane = totals(input, key, of);
        for (key, row) in &pane {
            self.seen.entry(key.clone()).or_insert_with(|| row.clone());
        }
        self.totals.insert(batch / frame.step, pane);
        if !frame.fires(batch) {
            return None;
        }
        let last = batch / frame.step;
        let mut merged = BTreeMap::new();
        let mut at = last - frame.length / frame.step + 1;
        while at <= last {
            let mut length = 1;
            while at % (length * WIDTH) == 0 && at + length * WIDTH - 1 <= last {
                length *= WIDTH;
            }
            merge(&mut merged, self.run(at..at + length, of), of);
            at += length;
        }
        Some(merged)
    }

    fn run(&self, slots: Range<i64>, of: Totals) -> BTreeMap<Vec<u8>, Row> {
        if slots.end - slots.start == 1 {
            return self.totals.get(&slots.start).cloned().unwrap_or_default();
        }
        let part = (slots.end - slots.start) / WIDTH;
        let mut merged = BTreeMap::new();
        for start in (slots.start..slots.end).step_by(part as usize) {
            merge(&mut merged, self.run(start..start + part, of), of);
        }
        merged
    }

    /// Adds the keys that were ever there, with nothing.
    pub(super) fn keep(&self, rows: &mut BTreeMap<Vec<u8>, Row>, counted: bool) {
        let present: BTreeSet<_> = rows.keys().cloned().collect();
        for (key, row) in self.seen.iter().filter(|(key, _)| !present.contains(*key)) {
            rows.insert(key.clone(), Row { k: row.k.clone(), n: counted.then_some(0), ..Row::default() });
        }
    }
}

fn merge(into: &mut BTreeMap<Vec<u8>, Row>, rows: BTreeMap<Vec<u8>, Row>, of: Totals) {
    for (key, row) in rows {
        add(into, key, row, of);
    }
}
