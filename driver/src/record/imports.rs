//! Models from outside: which take the place of a job's own, from which batch on, and for how long that has to be known.
//!
//! An import takes effect with the next batch that is frozen, and is part of that batch from then on: if the batch runs again, it
//! begins with the same model. When the batch is never run again, what a stage has trained since is in its state; a model
//! that nothing trains is the last import for ever.

use super::{DurableJob, FrozenBatch};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidemill_common::ids::BatchId;

/// A model from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// Whether a stage trains the model: then it is in the state once its batch is complete.
    pub trained: bool,
    /// The model, as `tidemill-ml` writes it.
    pub bytes: Bytes,
}

impl DurableJob {
    /// The imports that some batch may still need: model, batch, content; ascending by batch for each model.
    pub fn imported(&self) -> impl Iterator<Item = (u32, BatchId, &Import)> {
        let released = self.last_imported.iter().map(|(model, (batch, import))| (*model, *batch, import));
        let of_batch = |(batch, frozen)| {
            let (batch, frozen): (&BatchId, &FrozenBatch) = (batch, frozen);
            frozen.imported.iter().map(|(model, import)| (*model, *batch, import))
        };
        released.chain(self.frozen.iter().flat_map(of_batch))
    }

    /// A model's last import up to a batch, with its batch.
    pub fn last_import(&self, model: u32, batch: BatchId) -> Option<(BatchId, &Import)> {
        let of_model = self.imported().filter(|(other, at, _)| *other == model && *at <= batch);
        of_model.map(|(_, at, import)| (at, import)).last()
    }

    /// Bytes of all imports, those that wait for a batch included.
    pub fn imported_bytes(&self) -> usize {
        let waiting = self.imports.values().map(|import| import.bytes.len());
        waiting.chain(self.imported().map(|(_, _, import)| import.bytes.len())).sum()
    }

    /// A batch never runs again: keeps of its imports what later ones need.
    pub(super) fn release_imports(&mut self, batch: BatchId, frozen: &FrozenBatch) {
        let untrained = frozen.imported.iter().filter(|(_, import)| !import.trained);
        self.last_imported.extend(untrained.map(|(model, import)| (*model, (batch, import.clone()))));
    }
}
