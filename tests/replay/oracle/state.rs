//! Operators with state.

use super::job::{Map, Update};
use super::rows::{Row, Rows, by_k};
use super::totals::{Aggregate, Totals, totals};
use std::collections::{BTreeMap, BTreeSet};

/// The state of one stream.
#[derive(Default)]
pub(super) struct State {
    pub(super) of_key: BTreeMap<Vec<u8>, Row>,
    /// The batch of each key's last record.
    updated: BTreeMap<Vec<u8>, i64>,
}

impl State {
    /// The keys that come out, in order.
    pub(super) fn update(&mut self, update: &Update, input: &Rows) -> Vec<(Vec<u8>, Row)> {
        let state = &mut self.of_key;
        let touched = totals(input, by_k, Totals { n: None, x: Aggregate::Sum });
        let mut updated: BTreeSet<Vec<u8>> = touched.keys().cloned().collect();
        if update.every_key {
            updated.extend(state.keys().cloned());
        }
        for key in updated {
            let (records, sum) = touched.get(&key).map_or((0, None), |row| (row.n.unwrap_or(0), row.x));
            let known =
                state.entry(key.clone()).or_insert_with(|| Row { k: touched[&key].k.clone(), ..Row::default() });
            known.n = Some(known.n.unwrap_or(0) + if update.count_calls { 1 } else { records });
            known.x = Some(known.x.unwrap_or(0.0) + sum.unwrap_or(0.0));
            if update.drop_over.is_some_and(|most| known.n > Some(most)) {
                state.remove(&key);
            }
        }
        let comes_out = |key: &Vec<u8>| update.emit_all || touched.contains_key(key);
        state.iter().filter(|(key, _)| comes_out(key)).map(|(key, row)| (key.clone(), row.clone())).collect()
    }

    /// Visits the keys in order, each with its records.
    pub(super) fn map(&mut self, now: i64, map: &Map, input: &Rows) -> Vec<(Vec<u8>, Row)> {
        let Self { of_key: state, updated } = self;
        let mut visits: BTreeMap<Vec<u8>, Vec<Row>> = BTreeMap::new();
        if let Some(timeout) = map.timeout {
            let quiet = updated.iter().filter(|(_, last)| now - **last > timeout as i64);
            visits.extend(quiet.map(|(key, _)| (key.clone(), Vec::new())));
        }
        if map.per_record {
            for row in input.units().flatten() {
                visits.entry(by_k(row)).or_default().push(row.clone());
            }
        } else {
            let touched = totals(input, by_k, Totals { n: None, x: Aggregate::Sum });
            visits.extend(touched.into_iter().map(|(key, row)| (key, vec![row])));
        }
        let mut out = Vec::new();
        for (key, records) in visits {
            if records.is_empty() {
                out.extend(state.remove(&key).map(|row| (key.clone(), row)));
                updated.remove(&key);
                continue;
            }
            for record in records {
                let mut row = state.remove(&key).unwrap_or(Row { k: record.k.clone(), ..Row::default() });
                let records = if map.per_record { Some(1) } else { record.n };
                row.n = Some(row.n.unwrap_or(0) + records.unwrap_or(0));
                row.x = Some(row.x.unwrap_or(0.0) + record.x.unwrap_or(0.0));
                let n = if map.per_record { record.n } else { row.n };
                if map.emit_over.is_none_or(|over| n.is_some_and(|n| n > over)) {
                    out.push((key.clone(), row.clone()));
                }
                updated.insert(key.clone(), now);
                if map.remove_over.is_some_and(|over| row.n > Some(over)) {
                    updated.remove(&key);
                } else {
                    state.insert(key.clone(), row);
                }
            }
        }
        out
    }
}
