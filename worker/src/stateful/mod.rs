//! State operators on a worker: what a stage remembers, and the rows of the batch, to new state and rows out.
//!
//! A file per kind of state. Here is what they share: a partition is only touched at the version it should be at, and
//! only by an attempt that still counts.

mod by_key;
mod fold;
mod visit;
pub(crate) mod window;

use crate::jobs::Job;
use crate::keyed::KeyedRows;
use crate::node::Node;
use crate::state::{PartitionHandle, PartitionKey, StateError, StatePartition};
use crate::tasks::TaskError;
use bytes::Bytes;
use datafusion::arrow::array::{Array, ArrayRef, BinaryArray, BooleanArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Schema};
use std::ops::Range;
use std::sync::Arc;
use tidemill_common::ids::{KeyGroup, StageId};
use tidemill_plan::{BatchContext, StageState};
use tokio_util::sync::CancellationToken;

/// What a stateful stage brought.
pub(crate) struct StateRows {
    pub(crate) rows: KeyedRows,
    /// Keys in the state afterwards.
    pub(crate) keys: u64,
    /// Whether a model has learnt, has begun anew or was imported.
    pub(crate) learnt: bool,
}

/// A stage's state, as one attempt at one batch sees it.
pub(crate) struct Attempt<'a> {
    pub(crate) node: &'a Node,
    pub(crate) job: &'a Job,
    pub(crate) stage: StageId,
    pub(crate) context: BatchContext,
    pub(crate) cancelled: &'a CancellationToken,
    /// The model that begins anew with this batch from what was imported, by number.
    pub(crate) imported: Option<(u32, Bytes)>,
}

impl Attempt<'_> {
    /// Applies a batch to the state of some groups; `rows` are what the stage's head gives, `time_ms` the time for which
    /// its input fires.
    pub(crate) async fn run(&self, state: &StageState, rows: &KeyedRows, time_ms: i64) -> Result<StateRows, TaskError> {
        match state {
            StageState::ByKey(op) => by_key::update(self, op, rows),
            StageState::Map(op) => visit::visit(self, op, rows),
            StageState::Join(op) => visit::visit(self, op, rows),
            StageState::Fold(op) => fold::fold(self, op, rows),
            StageState::Window(op) => window::update(self, op, rows, time_ms).await,
        }
    }

    /// Takes the state of some groups past a batch in which the input does not fire; gives the keys in it.
    pub(crate) fn pass(&self, state: &StageState, groups: &[u32]) -> Result<u64, TaskError> {
        let nothing = RecordBatch::new_empty(Arc::new(Schema::new(state.fields().clone())));
        let no_keys = BinaryArray::from_iter_values(std::iter::empty::<&[u8]>());
        let mut keys = 0;
        for &group in groups {
            keys += match self.imported.as_ref().filter(|(model, _)| self.lives_in(*model, group)) {
                Some((model, bytes)) => fold::replace(self, group, *model, bytes)?,
                None => {
                    let (handle, ()) = self.read(group, |_| Ok(()))?;
                    self.write(group, &handle, &no_keys, nothing.columns(), None, |state| Ok(state.len() as u64))?
                }
            };
        }
        Ok(keys)
    }

    fn lives_in(&self, model: u32, group: u32) -> bool {
        let home = self.job.plan.models.get(model as usize).and_then(|model| model.home);
        home == Some((self.stage, group))
    }

    /// Shares of the key space.
    fn key_groups(&self) -> u32 {
        self.job.plan.def.settings.key_groups
    }

    /// All keys of some groups with their state, after this attempt has written it.
    pub(crate) fn snapshots(&self, state: &StageState, groups: &[(u32, Range<usize>)]) -> Result<KeyedRows, TaskError> {
        let no_keys = || TaskError::Internal("this state is not by key".into());
        let (key_fields, state_fields) = state.snapshot_fields().ok_or_else(no_keys)?;
        let mut parts = Vec::with_capacity(groups.len());
        for (group, _) in groups {
            let handle = self.handle(*group)?;
            let held = handle.lock()?;
            if held.partition().version() != self.context.batch {
                return Err(self.wrong_version(*group, held.partition()));
            }
            let all = held.partition().all()?;
            let seen = match state {
                StageState::Fold(op) => fold::shown(op, &all)?,
                _ => all.columns()[1..=state_fields.len()].to_vec(),
            };
            parts.push((*group, binary(all.column(0))?, seen));
        }
        KeyedRows::of_state(key_fields, state_fields, parts)
    }

    fn handle(&self, group: u32) -> Result<PartitionHandle, TaskError> {
        let key = PartitionKey { job: self.job.id, stage: self.stage, group: KeyGroup(group) };
        let not_here = || TaskError::StateVersion(format!("key group {group} is not here"));
        self.node.states.get(&key).ok_or_else(not_here)
    }

    fn wrong_version(&self, group: u32, partition: &StatePartition) -> TaskError {
        TaskError::StateVersion(format!("key group {group} is at version {}", partition.version()))
    }

    /// Reads a group's partition as the batch before left it.
    fn read<T>(
        &self,
        group: u32,
        read: impl FnOnce(&StatePartition) -> Result<T, StateError>,
    ) -> Result<(PartitionHandle, T), TaskError> {
        let handle = self.handle(group)?;
        let result = {
            let mut held = handle.lock()?;
            let before = self.context.batch.prev();
            if held.partition().version() >= self.context.batch {
                // A first attempt at this batch came this far and was given up.
                held.roll_back_to(before)?;
            }
            if held.partition().version() != before {
                return Err(self.wrong_version(group, held.partition()));
            }
            read(held.partition())?
        };
        Ok((handle, result))
    }

    /// Writes what the batch makes of a group, sends it to the followers, and reads what came of it.
    fn write<T>(
        &self,
        group: u32,
        handle: &PartitionHandle,
        keys: &BinaryArray,
        state: &[ArrayRef],
        dropped: Option<&BooleanArray>,
        read: impl FnOnce(&StatePartition) -> Result<T, StateError>,
    ) -> Result<T, TaskError> {
        let mut held = handle.lock()?;
        // Asked under the lock: after a cancel and a restore nothing of an old attempt is written.
        if self.cancelled.is_cancelled() {
            return Err(TaskError::Cancelled);
        }
        let delta = held.apply(self.context.batch, keys, state, dropped)?;
        self.job.links.delta(self.stage, group, &delta);
        Ok(read(held.partition())?)
    }
}

pub(crate) fn binary(array: &ArrayRef) -> Result<BinaryArray, TaskError> {
    let found = array.as_any().downcast_ref::<BinaryArray>().cloned();
    found.ok_or_else(|| {
        StateError::Shape(format!("keys are {} instead of {}", array.data_type(), DataType::Binary)).into()
    })
}
