//! Windows: what is remembered of each batch, which batches a firing covers, and what comes out.
//!
//! The state of a key group is its **panes**: per batch (by its time) the group's rows, as Arrow IPC. A pane holds the
//! rows themselves, or what the batch's rows of each key add up to. Everything else follows from the panes: see
//! [`GroupWindow`].

mod fold;
mod group;
mod runs;

pub use fold::Folds;
pub(crate) use fold::Zero;
pub use group::GroupWindow;

use crate::error::PlanError;
use crate::fragment::Fragment;
use crate::ipc::{from_ipc, to_ipc};
use crate::plan::BatchContext;
use crate::rhythm::Rhythm;
use datafusion::arrow::array::{ArrayRef, BinaryArray, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Field, Fields, SchemaRef};
use std::sync::Arc;

/// First byte of a state key: a pane, followed by its time.
const PANE: u8 = 0;
/// First byte of a state key: a key that was seen, followed by the encoded key.
const SEEN: u8 = 1;

/// A prepared window.
#[derive(Debug)]
pub struct WindowOp {
    /// When its input fires: every time it does makes a pane.
    pub(crate) input: Rhythm,
    /// When it fires.
    pub(crate) fires: Rhythm,
    /// A firing for time T covers the panes of `(T - length, T]`. In ms.
    pub(crate) length_ms: i64,
    /// The columns of a pane.
    pub(crate) pane: SchemaRef,
    /// What panes hold.
    pub(crate) contents: Contents,
    /// The state: one column.
    pub(crate) state_fields: Fields,
}

/// What panes hold.
#[derive(Debug)]
pub enum Contents {
    /// The rows, the last column of which is [`KEY_COLUMN`](crate::KEY_COLUMN).
    Rows,
    /// Partial aggregates per key.
    Folds(Box<Folds>),
}

/// Panes of one key group and what is known of them, for a firing.
#[derive(Debug)]
pub struct Firing<'a> {
    /// The group.
    pub window: &'a mut GroupWindow,
    /// The panes that [`WindowOp::wanted`] asked for, by time.
    pub panes: std::collections::BTreeMap<i64, RecordBatch>,
}

impl WindowOp {
    pub(crate) fn new(input: Rhythm, fires: Rhythm, length_ms: i64, pane: SchemaRef, contents: Contents) -> Self {
        let state_fields = vec![Field::new("pane", DataType::Binary, true)].into();
        Self { input, fires, length_ms, pane, contents, state_fields }
    }

    /// The columns of a partition.
    pub fn state_fields(&self) -> &Fields {
        &self.state_fields
    }

    /// The columns of a pane.
    pub fn pane(&self) -> &SchemaRef {
        &self.pane
    }

    /// What panes hold.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// What makes results of panes.
    pub(crate) fn fragments(&self) -> Vec<&Fragment> {
        match &self.contents {
            Contents::Rows => Vec::new(),
            Contents::Folds(folds) => folds.fragments(),
        }
    }

    /// The time of the pane that a batch makes; none if it makes none.
    pub fn pane_time(&self, ctx: &BatchContext) -> Option<i64> {
        self.input.fires(ctx)
    }

    /// The time for which it fires in a batch; none if it does not.
    pub fn firing(&self, ctx: &BatchContext) -> Option<i64> {
        self.fires.fires(ctx)
    }

    /// After a batch no firing covers the panes of this time or before.
    pub fn horizon(&self, ctx: &BatchContext) -> i64 {
        match self.fires {
            Rhythm::EveryBatch => ctx.time_ms + 1 - self.length_ms,
            Rhythm::Every { slide_ms } => (ctx.time_ms.div_euclid(slide_ms) + 1) * slide_ms - self.length_ms,
            Rhythm::Once { at_ms } if ctx.time_ms < at_ms => at_ms - self.length_ms,
            Rhythm::Once { .. } => i64::MAX,
        }
    }

    /// The times of the panes that a firing for a time has to read, ascending.
    pub fn wanted(&self, window: &GroupWindow, time_ms: i64) -> Vec<i64> {
        let covered = time_ms - self.length_ms + 1..=time_ms;
        match &self.contents {
            Contents::Rows => window.times().range(covered).copied().collect(),
            Contents::Folds(folds) => folds.wanted(window, covered),
        }
    }

    /// What comes out for a time: of [`Contents::Rows`] the rows of each group, pane by pane; of [`Contents::Folds`]
    /// the results of all groups in any order, a row per key. Firings are key groups that no other run has a part of.
    ///
    /// # Errors
    /// When an expression fails on the data, or memory does not suffice.
    pub async fn fire(
        &self,
        runner: &crate::Runner,
        ctx: &BatchContext,
        time_ms: i64,
        firings: &mut [Firing<'_>],
    ) -> Result<Vec<RecordBatch>, PlanError> {
        let covered = time_ms - self.length_ms + 1..=time_ms;
        match &self.contents {
            Contents::Rows => {
                let panes = firings.iter().flat_map(|firing| firing.panes.range(covered.clone()));
                Ok(panes.map(|(_, rows)| rows.clone()).collect())
            }
            Contents::Folds(folds) => folds.fire(runner, ctx, covered, firings).await,
        }
    }

    /// Rows as the bytes of a pane.
    ///
    /// # Errors
    /// When the rows are not a pane's.
    pub fn encode(&self, rows: &RecordBatch) -> Result<Vec<u8>, PlanError> {
        to_ipc(std::slice::from_ref(rows), &self.pane)
    }

    /// A pane from its bytes.
    ///
    /// # Errors
    /// [`PlanError::Malformed`] for any other bytes.
    pub fn decode(&self, bytes: &[u8]) -> Result<RecordBatch, PlanError> {
        let batches = from_ipc(bytes)?;
        // What puts batches together believes that they have its columns.
        let types =
            |schema: &SchemaRef| schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
        if batches.iter().any(|batch| types(&batch.schema()) != types(&self.pane)) {
            return Err(PlanError::Malformed("a pane of other columns".into()));
        }
        match batches.as_slice() {
            [one] if one.schema() == self.pane => Ok(one.clone()),
            many => Ok(concat_batches(&self.pane, many)?),
        }
    }

    /// The state keys of panes.
    pub fn pane_keys(times: impl IntoIterator<Item = i64>) -> BinaryArray {
        let key = |time: i64| [&[PANE][..], &((time as u64) ^ (1 << 63)).to_be_bytes()].concat();
        let keys: Vec<_> = times.into_iter().map(key).collect();
        BinaryArray::from_iter_values(keys)
    }

    /// The state keys of keys that were seen.
    pub fn seen_keys<'a>(keys: impl IntoIterator<Item = &'a [u8]>) -> BinaryArray {
        let keys: Vec<_> = keys.into_iter().map(|key| [&[SEEN], key].concat()).collect();
        BinaryArray::from_iter_values(keys)
    }

    /// Values for state keys: a pane each.
    pub fn state(panes: Vec<Option<Vec<u8>>>) -> Vec<ArrayRef> {
        vec![Arc::new(BinaryArray::from_iter(panes))]
    }
}
