//! Joins within a time, from all rows that ever were.

use super::job::JoinKind;
use super::operators::paired;
use super::rows::{Row, Rows, by_k};
use std::collections::BTreeSet;

/// All rows of both sides, each with its batch.
#[derive(Default)]
pub(super) struct Late {
    sides: [Vec<(i64, Row)>; 2],
    /// The batch in which it fired before.
    before: i64,
}

impl Late {
    /// What comes out of a batch. A pair does when the later of its rows comes; a row without a partner in the first
    /// batch that is more than `within` later. By key; in each in the order of the left side, then of the right one.
    pub(super) fn join(&mut self, batch: i64, kind: JoinKind, within: i64, inputs: [&Rows; 2]) -> Vec<Row> {
        for (side, input) in self.sides.iter_mut().zip(inputs) {
            side.extend(input.units().flatten().map(|row| (batch, row.clone())));
        }
        let [left, right] = &self.sides;
        let keys: BTreeSet<Vec<u8>> = left.iter().chain(right).map(|(_, row)| by_k(row)).collect();
        let meet = |(then, one): &(i64, Row), (when, other): &(i64, Row)| {
            one.k.is_some() && one.k == other.k && (then - when).abs() <= within
        };
        let ends = |(then, _): &(i64, Row)| batch - then > within && self.before - then <= within;
        let mut rows = Vec::new();
        for key in keys {
            let (left, right) = (of_key(left, &key), of_key(right, &key));
            for one in &left {
                let partners: Vec<_> = right.iter().filter(|other| meet(one, other)).collect();
                let now: Vec<_> = partners.iter().filter(|other| one.0.max(other.0) == batch).collect();
                match kind {
                    JoinKind::LeftOuter | JoinKind::FullOuter if ends(one) && partners.is_empty() => {
                        rows.push(paired(Some(&one.1), None));
                    }
                    JoinKind::Anti if ends(one) && partners.is_empty() => rows.push(whole(&one.1)),
                    JoinKind::Semi if !now.is_empty() && now.len() == partners.len() => rows.push(whole(&one.1)),
                    JoinKind::Semi | JoinKind::Anti => {}
                    _ => rows.extend(now.iter().map(|other| paired(Some(&one.1), Some(&other.1)))),
                }
            }
            if matches!(kind, JoinKind::RightOuter | JoinKind::FullOuter) {
                let alone = right.iter().filter(|other| ends(other) && !left.iter().any(|one| meet(one, other)));
                rows.extend(alone.map(|other| paired(None, Some(&other.1))));
            }
        }
        self.before = batch;
        rows
    }
}

fn of_key<'a>(side: &'a [(i64, Row)], key: &[u8]) -> Vec<&'a (i64, Row)> {
    side.iter().filter(|(_, row)| by_k(row) == key).collect()
}

fn whole(row: &Row) -> Row {
    Row { key: by_k(row), ..row.clone() }
}
