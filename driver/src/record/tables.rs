//! Tables whose files have changed: what they have from which batch on, and for how long that has to be known.
//!
//! A new content takes effect with the next batch that is frozen, and is part of that batch from then on: if the batch runs
//! again, it sees the same rows. When the batch is never run again, its content is needed for as long as no later one is in
//! its place.

use super::{DurableJob, FrozenBatch};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidemill_common::ids::BatchId;

/// What is in the file of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableContent {
    /// Tells it from others.
    pub hash: u64,
    /// The file.
    pub bytes: Bytes,
}

impl DurableJob {
    /// The contents that some batch may still need: table, first batch, content; ascending by batch for each table. Without
    /// those that were submitted.
    pub fn reloaded(&self) -> impl Iterator<Item = (u32, BatchId, &TableContent)> {
        let released = self.last_reloaded.iter().map(|(table, (batch, content))| (*table, *batch, content));
        let of_batch = |(batch, frozen)| {
            let (batch, frozen): (&BatchId, &FrozenBatch) = (batch, frozen);
            frozen.reloaded.iter().map(|(table, content)| (*table, *batch, content))
        };
        released.chain(self.frozen.iter().flat_map(of_batch))
    }

    /// Since when a table has the content that a batch sees; none for the one it was submitted with.
    pub fn reloaded_at(&self, table: u32, batch: BatchId) -> Option<BatchId> {
        let of_table = self.reloaded().filter(|(other, at, _)| *other == table && *at <= batch);
        of_table.map(|(_, at, _)| at).last()
    }

    /// The newest content of a table, if it has got one since it was submitted. It may wait for a batch.
    pub fn newest_content(&self, table: u32) -> Option<&TableContent> {
        let of_table = self.reloaded().filter(|(other, _, _)| *other == table);
        self.reloads.get(&table).or(of_table.map(|(_, _, content)| content).last())
    }

    /// Bytes of all these contents, those that wait for a batch included.
    pub fn reloaded_bytes(&self) -> usize {
        let waiting = self.reloads.values().map(|content| content.bytes.len());
        waiting.chain(self.reloaded().map(|(_, _, content)| content.bytes.len())).sum()
    }

    /// A batch never runs again: keeps of its contents what later ones need.
    pub(super) fn release_tables(&mut self, batch: BatchId, frozen: &FrozenBatch) {
        let reloaded = frozen.reloaded.iter().map(|(table, content)| (*table, (batch, content.clone())));
        self.last_reloaded.extend(reloaded);
    }
}
