//! Windows from scratch: all panes ever made, folded anew for every firing.

use crate::error::PlanError;
use crate::fragment::Runner;
use crate::keys::{encode_rows, key_group};
use crate::plan::BatchContext;
use crate::window::{Contents, Firing, GroupWindow, WindowOp};
use datafusion::arrow::array::{RecordBatch, UInt32Array};
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use std::collections::{BTreeMap, BTreeSet};

/// Panes and keys seen of every key group of a stage.
#[derive(Default)]
pub(super) struct Panes {
    groups: BTreeMap<u32, BTreeMap<i64, RecordBatch>>,
    seen: BTreeMap<u32, BTreeSet<Vec<u8>>>,
}

impl Panes {
    /// Remembers rows (of a pane's columns, or partial aggregates); gives the rows that come out of these groups, the
    /// last column the key where panes have it.
    pub(super) async fn batch(
        &mut self,
        op: &WindowOp,
        runner: &Runner,
        ctx: &BatchContext,
        rows: RecordBatch,
        groups: &[u32],
    ) -> Result<RecordBatch, PlanError> {
        let key_groups = runner.plan().def.settings.key_groups;
        let (schema, rows, keys) = match op.contents() {
            Contents::Rows => (op.pane().clone(), vec![rows], vec![op.pane().fields().len() - 1]),
            Contents::Folds(folds) => {
                (folds.schema(), folds.fold_batch(runner, ctx, rows).await?, (0..folds.keys()).collect())
            }
        };
        let empty = RecordBatch::new_empty(schema.clone());
        let Some(time_ms) = op.pane_time(ctx) else { return Ok(empty) };
        for batch in &rows {
            let encoded = encode_rows(batch, &keys)?;
            for row in 0..batch.num_rows() {
                let group = key_group(encoded.value(row), key_groups);
                self.seen.entry(group).or_default().insert(encoded.value(row).to_vec());
                let row = take_record_batch(batch, &UInt32Array::from(vec![row as u32]))?;
                let panes = self.groups.entry(group).or_default();
                let pane = panes.entry(time_ms).or_insert_with(|| row.slice(0, 0));
                *pane = concat_batches(op.pane(), [&*pane, &row])?;
            }
        }
        let Some(time_ms) = op.firing(ctx) else { return Ok(empty) };
        let home = matches!(op.contents(), Contents::Folds(folds) if folds.keys() == 0);
        let mut windows = Vec::new();
        for &group in groups.iter().filter(|group| !home || **group == key_group(&[], key_groups)) {
            let mut window = GroupWindow::default();
            let panes = self.groups.get(&group).cloned().unwrap_or_default();
            panes.keys().for_each(|time| window.add(*time));
            for key in self.seen.get(&group).into_iter().flatten() {
                window.see(key);
            }
            windows.push((window, panes));
        }
        let firings = windows.iter_mut().map(|(window, panes)| Firing { window, panes: panes.clone() });
        let mut firings: Vec<_> = firings.collect();
        if firings.is_empty() {
            return Ok(empty);
        }
        let fired = op.fire(runner, ctx, time_ms, &mut firings).await?;
        Ok(concat_batches(&schema, &fired)?)
    }
}
