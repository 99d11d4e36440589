//! Operators that remember nothing.

use super::job::{Condition, JoinKind};
use super::rows::{Column, Row, Rows, by_k};

/// Rows of two streams by `k`, which is never null in a pair: in the order of the left side, then of the right one;
/// right rows without a partner at the end.
pub(super) fn join(kind: JoinKind, left: &Rows, right: &Rows) -> Vec<Row> {
    let right: Vec<&Row> = right.units().flatten().collect();
    let (mut joined, mut met) = (Vec::new(), vec![false; right.len()]);
    for row in left.units().flatten() {
        let partners: Vec<_> = (0..right.len()).filter(|&at| row.k.is_some() && right[at].k == row.k).collect();
        match kind {
            JoinKind::Semi if partners.is_empty() => {}
            JoinKind::Anti if !partners.is_empty() => {}
            JoinKind::Semi | JoinKind::Anti => joined.push(Row { key: by_k(row), ..row.clone() }),
            JoinKind::LeftOuter | JoinKind::FullOuter if partners.is_empty() => joined.push(paired(Some(row), None)),
            _ => joined.extend(partners.iter().map(|&at| paired(Some(row), Some(right[at])))),
        }
        partners.into_iter().for_each(|at| met[at] = true);
    }
    if matches!(kind, JoinKind::RightOuter | JoinKind::FullOuter) {
        let alone = right.into_iter().zip(met).filter(|(_, met)| !met);
        joined.extend(alone.map(|(row, _)| paired(None, Some(row))));
    }
    joined
}

/// `k`, ten times the left `n` (0 without one) and the right one, the left `x`.
pub(super) fn paired(left: Option<&Row>, right: Option<&Row>) -> Row {
    let n = |row: Option<&Row>| row.and_then(|row| row.n).unwrap_or(0);
    let k = left.or(right).and_then(|row| row.k.clone());
    let row = Row { k, n: Some(10 * n(left) + n(right)), x: left.and_then(|row| row.x), t: None, key: Vec::new() };
    Row { key: by_k(&row), ..row }
}

pub(super) fn select(mut input: Rows, add: i64) -> Rows {
    for row in input.units_mut().flatten() {
        row.n = row.n.map(|n| n + add);
        row.x = row.x.map(|x| x * 0.5);
    }
    input
}

pub(super) fn filter(mut input: Rows, condition: Condition) -> Rows {
    for unit in input.units_mut() {
        unit.retain(|row| match condition {
            Condition::NAbove(than) => row.n.is_some_and(|n| n > than),
            Condition::XBelow(than) => row.x.is_some_and(|x| x < than),
            Condition::NotA => row.k.as_ref().is_some_and(|k| k != "a"),
        });
    }
    input
}

/// Empty pieces at the end are left out, but a text without a space is a piece even if it is empty.
pub(super) fn flat_map(input: &Rows) -> Rows {
    let words = |text: &str| {
        let mut words: Vec<String> = text.split(' ').map(str::to_string).collect();
        while text.contains(' ') && words.last().is_some_and(String::is_empty) {
            words.pop();
        }
        words
    };
    let rows = |row: &Row| {
        let words = row.t.as_deref().map_or(Vec::new(), words);
        let row = row.clone();
        words.into_iter().map(move |word| Row { k: Some(word), t: None, ..row.clone() })
    };
    let unit = |unit: &Vec<Row>| unit.iter().flat_map(rows).collect();
    let lanes = input.lanes.iter().map(|lane| lane.iter().map(unit).collect());
    Rows { columns: vec![Column::N, Column::X, Column::K], lanes: lanes.collect() }
}
