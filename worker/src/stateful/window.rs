//! Windows on a worker: the batch's rows become a pane of each key group, panes that no firing needs are dropped, and
//! in batches in which the window fires, what it covers comes out.
//!
//! What is known of a group beside its state (which panes there are, what runs of them add up to) is kept from batch
//! to batch, and made anew from the state where that has come from elsewhere.

use super::{Attempt, StateRows, binary};
use crate::keyed::KeyedRows;
use crate::node::lock;
use crate::state::{PartitionHandle, StateError, StatePartition};
use crate::tasks::TaskError;
use datafusion::arrow::array::{Array, BinaryArray, BooleanArray, RecordBatch};
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use tidemill_common::ids::{BatchId, StageId};
use tidemill_plan::{BatchContext, Contents, Firing, GroupWindow, WindowOp, key_group};

/// What is known of the windows of a job's key groups that this worker owns, at the version after a batch.
#[derive(Default)]
pub(crate) struct Windows {
    known: Mutex<HashMap<(StageId, u32), (BatchId, GroupWindow)>>,
}

impl Windows {
    /// Takes what is known at a version.
    fn take(&self, stage: StageId, group: u32, version: BatchId) -> Option<GroupWindow> {
        let known = lock(&self.known).remove(&(stage, group));
        known.filter(|(at, _)| *at == version).map(|(_, window)| window)
    }

    fn put(&self, stage: StageId, group: u32, version: BatchId, window: GroupWindow) {
        lock(&self.known).insert((stage, group), (version, window));
    }

    /// Forgets groups that others own.
    fn retain(&self, owned: impl Fn(u32) -> bool) {
        lock(&self.known).retain(|(_, group), _| owned(*group));
    }
}

/// A key group of the task.
struct Share {
    group: u32,
    handle: PartitionHandle,
    window: GroupWindow,
    /// The panes to be read for a firing, the new one included.
    panes: BTreeMap<i64, RecordBatch>,
}

/// Applies a batch to the windows of some groups. `rows` are what came over the exchange.
pub(super) async fn update(
    attempt: &Attempt<'_>,
    op: &WindowOp,
    rows: &KeyedRows,
    time_ms: i64,
) -> Result<StateRows, TaskError> {
    let context = &attempt.context;
    let firing = op.firing(context);
    let new = new_panes(attempt, op, rows).await?;
    let mut shares = Vec::with_capacity(new.len());
    for (group, pane) in &new {
        shares.push(share(attempt, op, *group, pane.as_ref(), time_ms, firing)?);
    }
    let groups: Vec<u32> = rows.groups.iter().map(|(group, _)| *group).collect();
    let rows = match firing {
        Some(time_ms) => fire(attempt, op, &mut shares, time_ms).await?,
        None => Vec::new(),
    };
    let rows = keyed(attempt, op, &rows, &groups)?;
    let mut keys = 0;
    for (share, (_, pane)) in shares.into_iter().zip(&new) {
        keys += write(attempt, op, share, pane.as_ref(), time_ms, context)?;
    }
    let (me, places) = (attempt.node.worker(), attempt.job.places());
    attempt.job.windows.retain(|group| places.owner(group) == Some(me));
    Ok(StateRows { rows, keys, learnt: false })
}

/// What each group has to remember of the batch.
async fn new_panes(
    attempt: &Attempt<'_>,
    op: &WindowOp,
    rows: &KeyedRows,
) -> Result<Vec<(u32, Option<RecordBatch>)>, TaskError> {
    let of = |rows: &RecordBatch, groups: &[(u32, std::ops::Range<usize>)]| {
        let pane = |range: &std::ops::Range<usize>| (!range.is_empty()).then(|| rows.slice(range.start, range.len()));
        groups.iter().map(|(group, range)| (*group, pane(range))).collect()
    };
    match op.contents() {
        Contents::Rows => Ok(of(&rows.with_keys()?, &rows.groups)),
        Contents::Folds(folds) => {
            let folded = folds.fold_batch(&attempt.job.runner, &attempt.context, rows.batch.clone()).await?;
            let groups: Vec<u32> = rows.groups.iter().map(|(group, _)| *group).collect();
            let keys: Vec<usize> = (0..folds.keys()).collect();
            let folded = KeyedRows::sort(op.pane(), &folded, &keys, &groups, attempt.key_groups())?;
            Ok(of(&folded.batch, &folded.groups))
        }
    }
}

/// Reads what a group needs for the batch.
fn share(
    attempt: &Attempt<'_>,
    op: &WindowOp,
    group: u32,
    new: Option<&RecordBatch>,
    time_ms: i64,
    firing: Option<i64>,
) -> Result<Share, TaskError> {
    let known = attempt.job.windows.take(attempt.stage, group, attempt.context.batch.prev());
    let (handle, (mut window, times, stored)) = attempt.read(group, |partition| {
        let window = match known {
            Some(window) => window,
            None => of_state(partition)?,
        };
        let times = firing.map_or_else(Vec::new, |time_ms| op.wanted(&window, time_ms));
        let stored = partition.gather(&WindowOp::pane_keys(times.iter().copied()))?;
        Ok((window, times, stored))
    })?;
    let mut panes = BTreeMap::new();
    let column = stored.columns.first().ok_or_else(|| TaskError::Internal("a window without a column".into()))?;
    for (time, pane) in times.into_iter().zip(&binary(column)?) {
        let pane = pane.ok_or_else(|| TaskError::Internal(format!("the pane of {time} ms is not in the state")))?;
        panes.insert(time, op.decode(pane)?);
    }
    if let Some(pane) = new {
        window.add(time_ms);
        panes.insert(time_ms, pane.clone());
    }
    Ok(Share { group, handle, window, panes })
}

fn of_state(partition: &StatePartition) -> Result<GroupWindow, StateError> {
    let none = BinaryArray::from_iter_values(std::iter::empty::<&[u8]>());
    GroupWindow::new(&partition.untouched(&none)).map_err(|error| StateError::Decode(error.to_string()))
}

/// What comes out for a time.
async fn fire(
    attempt: &Attempt<'_>,
    op: &WindowOp,
    shares: &mut [Share],
    time_ms: i64,
) -> Result<Vec<RecordBatch>, TaskError> {
    let home = match op.contents() {
        Contents::Folds(folds) if folds.keys() == 0 => Some(key_group(&[], attempt.key_groups())),
        _ => None,
    };
    let firings = shares.iter_mut().filter(|share| home.is_none_or(|home| share.group == home));
    let mut firings: Vec<_> =
        firings.map(|share| Firing { window: &mut share.window, panes: std::mem::take(&mut share.panes) }).collect();
    if firings.is_empty() {
        return Ok(Vec::new());
    }
    Ok(op.fire(&attempt.job.runner, &attempt.context, time_ms, &mut firings).await?)
}

/// Rows that come out, by group and key.
fn keyed(attempt: &Attempt<'_>, op: &WindowOp, rows: &[RecordBatch], groups: &[u32]) -> Result<KeyedRows, TaskError> {
    let (schema, keys) = match op.contents() {
        Contents::Rows => (op.pane().clone(), vec![op.pane().fields().len() - 1]),
        Contents::Folds(folds) => (folds.schema(), (0..folds.keys()).collect()),
    };
    KeyedRows::sort(&schema, rows, &keys, groups, attempt.key_groups())
}

/// Remembers the batch, forgets what no firing needs any more; gives how much is remembered.
fn write(
    attempt: &Attempt<'_>,
    op: &WindowOp,
    mut share: Share,
    pane: Option<&RecordBatch>,
    time_ms: i64,
    context: &BatchContext,
) -> Result<u64, TaskError> {
    let horizon = op.horizon(context);
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    if let Some(pane) = pane {
        if let Contents::Folds(folds) = op.contents()
            && folds.keeps_keys()
        {
            let positions: Vec<usize> = (0..folds.keys()).collect();
            let encoded = tidemill_plan::encode_rows(pane, &positions)?;
            let new: Vec<&[u8]> = encoded.iter().flatten().filter(|key| share.window.see(key)).collect();
            values.extend(new.iter().map(|_| None));
            keys.push(WindowOp::seen_keys(new));
        }
        if time_ms > horizon {
            keys.push(WindowOp::pane_keys([time_ms]));
            values.push(Some(op.encode(pane)?));
        }
    }
    let kept = values.len();
    let gone = share.window.forget_until(horizon);
    values.extend(gone.iter().map(|_| None));
    keys.push(WindowOp::pane_keys(gone));
    let dropped: BooleanArray = (0..values.len()).map(|place| Some(place >= kept)).collect();
    let keys: Vec<&dyn Array> = keys.iter().map(|keys| keys as &dyn Array).collect();
    let keys = binary(&datafusion::arrow::compute::concat(&keys)?)?;
    let state = WindowOp::state(values);
    let known = attempt
        .write(share.group, &share.handle, &keys, &state, Some(&dropped), |partition| Ok(partition.len() as u64))?;
    attempt.job.windows.put(attempt.stage, share.group, context.batch, share.window);
    Ok(known)
}
