//! Aggregates, added up as the engine does.

use super::rows::{Row, Rows};
use std::collections::BTreeMap;

/// An aggregate over a column.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    pub(super) fn fold<T: Copy + PartialOrd + std::ops::Add<Output = T>>(
        self,
        a: Option<T>,
        b: Option<T>,
    ) -> Option<T> {
        let (Some(a), Some(b)) = (a, b) else { return a.or(b) };
        Some(match self {
            Self::Sum => a + b,
            Self::Min => {
                if b < a {
                    b
                } else {
                    a
                }
            }
            Self::Max => {
                if b > a {
                    b
                } else {
                    a
                }
            }
        })
    }
}

/// Aggregates of `n` (a count without one) and `x`.
#[derive(Clone, Copy)]
pub(super) struct Totals {
    pub(super) n: Option<Aggregate>,
    pub(super) x: Aggregate,
}

/// Adds up per unit, then over the units in their order; other columns are those of the first row.
pub(super) fn totals(input: &Rows, key: impl Fn(&Row) -> Vec<u8>, of: Totals) -> BTreeMap<Vec<u8>, Row> {
    let mut merged = BTreeMap::new();
    for unit in input.units() {
        let mut partial = BTreeMap::new();
        for row in unit {
            let n = if of.n.is_some() { row.n } else { Some(1) };
            add(&mut partial, key(row), Row { n, ..row.clone() }, of);
        }
        for (key, row) in partial {
            add(&mut merged, key, row, of);
        }
    }
    merged
}

pub(super) fn add(into: &mut BTreeMap<Vec<u8>, Row>, key: Vec<u8>, row: Row, of: Totals) {
    let Some(total) = into.get_mut(&key) else {
        into.insert(key, row);
        return;
    };
    total.n = of.n.unwrap_or(Aggregate::Sum).fold(total.n, row.n);
    total.x = of.x.fold(total.x, row.x);
}
