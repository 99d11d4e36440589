//! What is counted of a job's complete batches.

use serde::{Deserialize, Serialize};

/// Records of one stretch of a source over which the share of bad records is taken.
pub const STRETCH_RECORDS: u64 = 1000;

/// Counts that grow with every complete batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Records decoded.
    pub records: u64,
    /// Records that did not parse.
    pub bad_records: u64,
    /// Rows committed per output.
    pub output_rows: Vec<u64>,
    /// Records per source.
    pub sources: Vec<SourceTotals>,
}

/// Counts of one source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceTotals {
    /// Records decoded, bad ones included.
    pub records: u64,
    /// Records that did not parse.
    pub bad: u64,
    /// Records of the stretch that has begun, bad ones included.
    pub stretch_records: u64,
    /// Records of that stretch that did not parse.
    pub stretch_bad: u64,
}

impl Totals {
    /// Adds those of a batch.
    pub(crate) fn add(&mut self, other: &Totals) {
        self.records = self.records.saturating_add(other.records);
        self.bad_records = self.bad_records.saturating_add(other.bad_records);
        if self.output_rows.len() < other.output_rows.len() {
            self.output_rows.resize(other.output_rows.len(), 0);
        }
        for (sum, more) in self.output_rows.iter_mut().zip(&other.output_rows) {
            *sum = sum.saturating_add(*more);
        }
        if self.sources.len() < other.sources.len() {
            self.sources.resize(other.sources.len(), SourceTotals::default());
        }
        for (sum, more) in self.sources.iter_mut().zip(&other.sources) {
            *sum = sum.with(more.records, more.bad);
            if sum.stretch_is_over() {
                (sum.stretch_records, sum.stretch_bad) = (0, 0);
            }
        }
    }
}

impl SourceTotals {
    /// These with the records of one more batch; a stretch that is over with it is not ended yet.
    #[must_use]
    pub fn with(self, records: u64, bad: u64) -> Self {
        Self {
            records: self.records.saturating_add(records),
            bad: self.bad.saturating_add(bad),
            stretch_records: self.stretch_records.saturating_add(records),
            stretch_bad: self.stretch_bad.saturating_add(bad),
        }
    }

    /// Whether enough records have come for a share to mean something. A stretch ends with a batch.
    pub fn stretch_is_over(&self) -> bool {
        self.stretch_records >= STRETCH_RECORDS
    }
}
