//! Joins within a time: the rows of both sides go to the key groups of their keys, where they wait for each other.

use super::Compiler;
use super::map_state::millis;
use super::stages::{Rows, column};
use super::together::Named;
use crate::join_within::{JoinOp, whole_rows};
use crate::state::StageState;
use crate::visit::KeyVisits;
use datafusion::arrow::datatypes::Schema;
use std::time::Duration;
use tidemill_common::diag::Diagnostic;
use tidemill_job::{JoinKind, Name, On, Period};

impl Compiler<'_> {
    /// `join` and its kin with `within`: the columns of the join without. Within a key in the order of the left side,
    /// and for each of its rows in the order of the right one; unmatched right rows behind.
    pub(super) fn join_within(
        &mut self,
        inputs: Vec<Rows>,
        from: &[Name],
        (kind, on, within): (JoinKind, &On, Duration),
        name: &Name,
    ) -> Option<Rows> {
        let pair = self.pair(inputs, from, on)?;
        let left = pair.left.schema();
        let named = match whole_rows(kind) {
            true => left_alone(&left, &pair.left_keys),
            false => self.names_of(&pair, from)?,
        };
        let (keys, width) = (named.keys.len(), named.left.len());
        let both = self.both_sides(&pair, &named)?;
        let hashed = self.stages.hash(both, (0..keys).collect(), &name.text);
        let hashed = self.checked(hashed)?;
        let schema = hashed.plan.schema();
        let (key_fields, others) = schema.fields().split_at(keys);
        let (left_fields, right_fields) = others[..others.len() - 1].split_at(width);
        let op = JoinOp::new(kind, millis(within), key_fields, left_fields, right_fields);
        let gives = op.emitted().clone();
        let joined = self.stages.seal_with_state(hashed, StageState::Join(op), &gives);
        if !whole_rows(kind) {
            return Some(joined);
        }
        // Back from keys first to the order of the left side.
        let place = |index: usize| match pair.left_keys.iter().position(|&key| key == index) {
            Some(key) => key,
            None => keys + named.left.iter().position(|(other, _)| *other == index).unwrap_or_default(),
        };
        let exprs: Vec<_> = (0..left.fields().len()).map(|index| column(&gives, place(index))).collect();
        let rows = joined.each(|lane| lane.projected(exprs.clone()));
        self.checked(rows)
    }

    /// A table is there before every row, so nothing waits for it.
    pub(super) fn refuse_within(&mut self, within: &Period) -> Option<Rows> {
        let wrong = Diagnostic::new("a table does not come later: `within` is for two streams");
        self.report([wrong.at(within.span.clone()).help("leave it out")]);
        None
    }
}

/// The names of the left side, of which whole rows come out.
fn left_alone(left: &Schema, keys: &[usize]) -> Named {
    let name = |index: usize| left.field(index).name().clone();
    let others = (0..left.fields().len()).filter(|index| !keys.contains(index));
    Named {
        keys: keys.iter().map(|&key| name(key)).collect(),
        left: others.map(|index| (index, name(index))).collect(),
        right: Vec::new(),
    }
}
