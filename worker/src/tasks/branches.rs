//! The branches of a stage over the rows of a task's units: pieces for the next stages, rows for outputs.

use super::{TaskError, Unit};
use crate::keyed::KeyedRows;
use crate::outputs::OutputRecords;
use datafusion::arrow::array::RecordBatch;
use std::sync::Arc;
use tidemill_common::ids::{BatchId, ExchangeId};
use tidemill_plan::{Branch, BranchTarget, Reads, UnitRows};

impl Unit {
    /// Runs the branches over the rows of one unit that is no key group.
    pub(super) async fn run_branches(
        &self,
        order: u64,
        rows: Vec<RecordBatch>,
    ) -> Result<Vec<OutputRecords>, TaskError> {
        let unit = self.unit_rows(rows, Vec::new()).await?;
        let mut records = Vec::new();
        for branch in &self.stage().branches {
            let rows = self.run_branch(branch, unit.of(branch.reads).to_vec()).await?;
            match branch.target {
                BranchTarget::Exchange(exchange) => self.leave(exchange, order, &rows)?,
                BranchTarget::Output { output, lane } => records.push(OutputRecords { output, lane, order, rows }),
            }
        }
        Ok(records)
    }

    /// Runs the branches over the rows of key groups, and over all their state where that is read. Partial aggregates
    /// must not depend on which groups lie together: what goes to an exchange, or is shared, each group has for itself.
    pub(super) async fn run_branches_by_group(
        &self,
        rows: &KeyedRows,
        snapshots: Option<&KeyedRows>,
    ) -> Result<Vec<OutputRecords>, TaskError> {
        let branches = &self.stage().branches;
        let all_rows = rows.with_keys()?;
        let all_snapshots = snapshots.map(KeyedRows::with_keys).transpose()?;
        let mut wanted: Vec<Vec<RecordBatch>> = branches
            .iter()
            .map(|branch| match branch.reads {
                Reads::Rows => vec![all_rows.clone()],
                Reads::Snapshots => all_snapshots.iter().cloned().collect(),
                Reads::Shared(_) => Vec::new(),
            })
            .collect();
        for (place, (group, range)) in rows.groups.iter().enumerate() {
            let of_group = all_rows.slice(range.start, range.len());
            let range = snapshots.and_then(|snapshots| snapshots.groups.get(place)).map(|(_, range)| range);
            let state = all_snapshots.iter().zip(range).map(|(all, range)| all.slice(range.start, range.len()));
            let unit = self.unit_rows(vec![of_group], state.collect()).await?;
            for (branch, wanted) in branches.iter().zip(&mut wanted) {
                match (branch.target, branch.reads) {
                    (BranchTarget::Exchange(exchange), reads) => {
                        let rows = self.run_branch(branch, unit.of(reads).to_vec()).await?;
                        self.leave(exchange, u64::from(*group), &rows)?;
                    }
                    (BranchTarget::Output { .. }, Reads::Shared(_)) => wanted.extend_from_slice(unit.of(branch.reads)),
                    (BranchTarget::Output { .. }, _) => {}
                }
            }
        }
        let order = self.task.groups.first().copied().map_or(0, u64::from);
        let mut records = Vec::new();
        for (branch, wanted) in branches.iter().zip(wanted) {
            if let BranchTarget::Output { output, lane } = branch.target {
                let rows = self.run_branch(branch, wanted).await?;
                records.push(OutputRecords { output, lane, order, rows });
            }
        }
        Ok(records)
    }

    async fn unit_rows(&self, rows: Vec<RecordBatch>, snapshots: Vec<RecordBatch>) -> Result<UnitRows, TaskError> {
        Ok(UnitRows::new(&self.job.runner, self.stage(), rows, snapshots, &self.context()).await?)
    }

    async fn run_branch(&self, branch: &Branch, rows: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, TaskError> {
        match &branch.fragment {
            Some(fragment) => Ok(self.job.runner.run(fragment, vec![rows], &self.context()).await?),
            None => Ok(rows),
        }
    }

    /// Leaves a piece for the next stage.
    fn leave(&self, exchange: ExchangeId, order: u64, rows: &[RecordBatch]) -> Result<(), TaskError> {
        let piece = self.job.plan.partition(exchange, rows)?;
        let key = (self.job.id, BatchId(self.task.batch), exchange, order);
        self.node.shuffle.put(key, Arc::new(piece))?;
        Ok(())
    }
}
