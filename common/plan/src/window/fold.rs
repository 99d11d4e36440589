//! Folding: a window's aggregates out of partial aggregates of aligned runs of batches.
//!
//! A run of four slots (see [`runs`](super::runs)) is folded once, out of its four parts, in order of time; a window is
//! finished out of the few runs that cover it, in order of time. So what is added to what depends on the batches covered
//! and on nothing else: not on other windows, nor on who computed what, and nothing is ever subtracted.
//!
//! Key groups are folded together, and so are all the runs of a level: a hidden number in front of the rows keeps them
//! apart. A firing takes one run of a fragment per level at most.

use super::runs::{Run, cover};
use super::{Firing, GroupWindow};
use crate::error::PlanError;
use crate::fragment::{Fragment, Runner};
use crate::keys::{decode_keys, encode_keys};
use crate::plan::BatchContext;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{concat_batches, take, take_record_batch};
use datafusion::arrow::datatypes::{Field, Int64Type, SchemaRef};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// How partial aggregates become others, and results.
#[derive(Debug)]
pub struct Folds {
    /// Length of a slot, in ms.
    pub(crate) step_ms: i64,
    /// Over a number and the columns of a pane; gives the same, one row per number and key.
    pub(crate) fold: Fragment,
    /// Over the columns of a pane; gives a row per key, key columns first.
    pub(crate) finish: Fragment,
    /// The key columns, as they are in panes.
    pub(crate) keys: Vec<Arc<Field>>,
    /// Where keys stay for ever: what the others get.
    pub(crate) zero: Option<Zero>,
}

/// Results for keys that have no rows.
#[derive(Debug)]
pub(crate) struct Zero {
    /// The aggregates over no rows: columns of one row.
    pub(crate) aggregates: Vec<ArrayRef>,
    /// Over key columns and aggregates, which is what [`Folds::finish`] gives then; gives the results.
    pub(crate) select: Fragment,
}

/// A run of a group that has to be folded.
type Missing = (usize, Run);

impl Folds {
    /// How many columns of panes and of results are keys. Without any there is one result, over no panes, too.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Whether keys stay for ever.
    pub fn keeps_keys(&self) -> bool {
        self.zero.is_some()
    }

    /// The columns of results.
    pub fn schema(&self) -> SchemaRef {
        self.zero.as_ref().map_or_else(|| self.finish.schema(), |zero| zero.select.schema())
    }

    /// All that runs.
    pub(super) fn fragments(&self) -> Vec<&Fragment> {
        [&self.fold, &self.finish].into_iter().chain(self.zero.as_ref().map(|zero| &zero.select)).collect()
    }

    /// Folds the partial aggregates of one batch, in order, to one row per key.
    ///
    /// # Errors
    /// When the data cannot be added up, or memory does not suffice.
    pub async fn fold_batch(
        &self,
        runner: &Runner,
        ctx: &BatchContext,
        rows: RecordBatch,
    ) -> Result<Vec<RecordBatch>, PlanError> {
        if rows.num_rows() == 0 {
            return Ok(Vec::new());
        }
        self.fold(runner, ctx, vec![vec![rows]]).await
    }

    /// See [`WindowOp::wanted`](super::WindowOp::wanted).
    pub(super) fn wanted(&self, window: &GroupWindow, covered: RangeInclusive<i64>) -> Vec<i64> {
        let mut panes = Vec::new();
        for run in cover(self.slots(&covered)) {
            self.look(window, run, &mut panes, &mut |_| {});
        }
        panes
    }

    /// See [`WindowOp::fire`](super::WindowOp::fire).
    pub(super) async fn fire(
        &self,
        runner: &Runner,
        ctx: &BatchContext,
        covered: RangeInclusive<i64>,
        firings: &mut [Firing<'_>],
    ) -> Result<Vec<RecordBatch>, PlanError> {
        let slots = self.slots(&covered);
        let runs = cover(slots.clone());
        self.fold_missing(runner, ctx, &runs, firings).await?;
        let mut rows = Vec::new();
        for firing in firings.iter() {
            rows.extend(runs.iter().flat_map(|run| self.rows_of(firing, *run)));
        }
        for firing in firings.iter_mut() {
            firing.window.forget_runs_before(slots.start);
        }
        let mut rows = runner.run(&self.finish, vec![rows], ctx).await?;
        let Some(zero) = &self.zero else {
            return Ok(rows);
        };
        rows.push(self.zeros(zero, &rows, firings)?);
        runner.run(&zero.select, vec![rows], ctx).await
    }

    /// Folds what the runs need and nobody has folded yet, level by level.
    async fn fold_missing(
        &self,
        runner: &Runner,
        ctx: &BatchContext,
        runs: &[Run],
        firings: &mut [Firing<'_>],
    ) -> Result<(), PlanError> {
        let mut missing: BTreeSet<(u32, Missing)> = BTreeSet::new();
        for (number, firing) in firings.iter().enumerate() {
            let mut note = |run: Run| {
                missing.insert((run.level, (number, run)));
            };
            for run in runs {
                self.look(firing.window, *run, &mut Vec::new(), &mut note);
            }
        }
        while let Some(&(level, _)) = missing.first() {
            let higher = missing.iter().find(|(other, _)| *other > level).copied();
            let rest = higher.map(|first| missing.split_off(&first)).unwrap_or_default();
            let now: Vec<Missing> = std::mem::replace(&mut missing, rest).into_iter().map(|(_, run)| run).collect();
            let inputs = now.iter().map(|&(number, run)| {
                let children = run.children().flat_map(|child| self.rows_of(&firings[number], child));
                children.collect()
            });
            let folded = self.fold(runner, ctx, inputs.collect()).await?;
            for ((number, run), rows) in now.into_iter().zip(folded) {
                firings[number].window.folded.insert(run, rows);
            }
        }
        Ok(())
    }

    /// The slots of these times.
    fn slots(&self, times: &RangeInclusive<i64>) -> std::ops::Range<i64> {
        self.slot(*times.start())..self.slot(*times.end()) + 1
    }

    fn slot(&self, time_ms: i64) -> i64 {
        -(-time_ms).div_euclid(self.step_ms)
    }

    /// The times of the panes in a run.
    fn times<'w>(&self, window: &'w GroupWindow, run: Run) -> impl Iterator<Item = i64> + use<'w> {
        let slots = run.slots();
        let times = (slots.start - 1) * self.step_ms + 1..=(slots.end - 1) * self.step_ms;
        window.times().range(times).copied()
    }

    /// Finds the panes that a run needs read, and notes the runs to be folded for it. What has no panes is nothing.
    fn look(&self, window: &GroupWindow, run: Run, panes: &mut Vec<i64>, missing: &mut impl FnMut(Run)) {
        if run.level == 0 {
            panes.extend(self.times(window, run));
        } else if !window.folded.contains_key(&run) && self.times(window, run).next().is_some() {
            missing(run);
            for child in run.children() {
                self.look(window, child, panes, missing);
            }
        }
    }

    /// The rows of a slot, or of a run that is folded.
    fn rows_of(&self, firing: &Firing<'_>, run: Run) -> Vec<RecordBatch> {
        if run.level > 0 {
            return firing.window.folded.get(&run).cloned().into_iter().collect();
        }
        let panes = self.times(firing.window, run);
        panes.filter_map(|time| firing.panes.get(&time).cloned()).collect()
    }

    /// Folds each input for itself.
    async fn fold(
        &self,
        runner: &Runner,
        ctx: &BatchContext,
        inputs: Vec<Vec<RecordBatch>>,
    ) -> Result<Vec<RecordBatch>, PlanError> {
        let schema = self.fold.schema();
        let mut rows = Vec::new();
        for (number, batches) in inputs.iter().enumerate() {
            for batch in batches {
                let numbers: ArrayRef = Arc::new(Int64Array::from_value(number as i64, batch.num_rows()));
                let columns = std::iter::once(numbers).chain(batch.columns().iter().cloned()).collect();
                rows.push(RecordBatch::try_new(schema.clone(), columns)?);
            }
        }
        let folded = runner.run(&self.fold, vec![rows], ctx).await?;
        divide(&concat_batches(&schema, &folded)?, inputs.len())
    }

    /// Keys that were seen and have no rows in the window, with the aggregates over no rows.
    fn zeros(&self, zero: &Zero, rows: &[RecordBatch], firings: &[Firing<'_>]) -> Result<RecordBatch, PlanError> {
        let mut present = HashSet::new();
        for batch in rows {
            let keys = encode_keys(&batch.columns()[..self.keys()])?;
            present.extend(keys.iter().flatten().map(<[u8]>::to_vec));
        }
        let seen = firings.iter().flat_map(|firing| firing.window.seen());
        let absent: Vec<&Vec<u8>> = seen.filter(|key| !present.contains(*key)).collect();
        let keys = BinaryArray::from_iter_values(absent);
        let mut columns = decode_keys(&keys, &self.keys)?;
        let first = UInt32Array::from_value(0, keys.len());
        for column in &zero.aggregates {
            columns.push(take(column, &first, None)?);
        }
        Ok(RecordBatch::try_new(self.finish.schema(), columns)?)
    }
}

/// The rows of each number, without it.
fn divide(rows: &RecordBatch, count: usize) -> Result<Vec<RecordBatch>, PlanError> {
    let columns: Vec<_> = (1..rows.num_columns()).collect();
    let visible = rows.project(&columns)?;
    if count == 1 {
        return Ok(vec![visible]);
    }
    let mut places: HashMap<i64, Vec<u32>> = HashMap::new();
    for (place, number) in rows.column(0).as_primitive::<Int64Type>().values().iter().enumerate() {
        places.entry(*number).or_default().push(place as u32);
    }
    let of = |number: usize| {
        let places = places.remove(&(number as i64)).unwrap_or_default();
        Ok(take_record_batch(&visible, &UInt32Array::from(places))?)
    };
    (0..count).map(of).collect()
}
