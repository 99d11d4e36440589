//! The rows of one unit of a stage, as its branches read them.

use crate::error::PlanError;
use crate::fragment::Runner;
use crate::plan::{BatchContext, Reads, Stage};
use datafusion::arrow::array::RecordBatch;

/// What the branches of a stage read of one unit. Holds it in memory until it is dropped, when the unit is done.
#[derive(Debug)]
pub struct UnitRows {
    rows: Vec<RecordBatch>,
    snapshots: Vec<RecordBatch>,
    shared: Vec<Vec<RecordBatch>>,
}

impl UnitRows {
    /// Of the rows of a unit, and of its state after the batch where the stage [has](Stage::has_snapshots) that read:
    /// makes the shared rows, each once.
    ///
    /// # Errors
    /// When an expression fails on the data, or memory does not suffice.
    pub async fn new(
        runner: &Runner,
        stage: &Stage,
        rows: Vec<RecordBatch>,
        snapshots: Vec<RecordBatch>,
        ctx: &BatchContext,
    ) -> Result<Self, PlanError> {
        let mut unit = Self { rows, snapshots, shared: Vec::with_capacity(stage.shared.len()) };
        for shared in &stage.shared {
            let made = runner.run(&shared.fragment, vec![unit.of(shared.reads).to_vec()], ctx).await?;
            unit.shared.push(made);
        }
        Ok(unit)
    }

    /// These rows.
    pub fn of(&self, reads: Reads) -> &[RecordBatch] {
        match reads {
            Reads::Rows => &self.rows,
            Reads::Snapshots => &self.snapshots,
            Reads::Shared(number) => self.shared.get(number).map_or(&[], Vec::as_slice),
        }
    }
}
