//! Names under which the champion of several models answers.
//!
//! A stage chooses; its task says who the champion is. When the batch is complete that is in the log, and the next batch is frozen
//! with it: whenever that batch runs, the same model answers.

use super::Cx;
use super::job::Job;
use super::run::BatchRun;
use crate::models::PublishedModel;
use crate::record::JobRecord;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use tidemill_common::ids::BatchId;
use tidemill_proto::control as pb;

/// A job's first batch.
pub(super) const FIRST: BatchId = BatchId(1);

impl Job {
    /// The model that answers when a model is asked in a batch: itself, or the champion.
    pub(crate) fn answering(&self, run: &BatchRun, model: usize) -> usize {
        let frozen = self.durable.frozen.get(&run.batch).map(|frozen| &frozen.champions);
        frozen.map_or(model, |champions| self.champion(champions, model))
    }

    fn champion(&self, champions: &BTreeMap<u32, u32>, model: usize) -> usize {
        let candidates = self.topology.models.get(model).map_or(&[][..], |shape| &shape.candidates);
        let chosen = champions.get(&(model as u32)).map(|champion| *champion as usize);
        // Numbers come from workers and from the log: who is no candidate is not asked.
        let chosen = chosen.filter(|champion| candidates.contains(champion));
        chosen.or(candidates.first().copied()).unwrap_or(model)
    }

    /// Notes who the champions are after a batch. One that is no candidate is left out.
    pub(crate) fn note_champions(&mut self, cx: &mut Cx<'_>, told: Vec<pb::Champion>) {
        for pb::Champion { model, champion } in told {
            // What is in the log is believed for ever.
            if !self.topology.is_candidate(model, champion) {
                tracing::warn!(job = self.durable.id.0, model, champion, "a worker chose what is no candidate");
                self.count_fenced();
                continue;
            }
            if self.durable.champions.get(&model) != Some(&champion) {
                self.record(cx, JobRecord::Chosen { model, champion });
            }
        }
    }

    /// What is published under the names of choices: champions that a batch has changed, and all with the batch from which on they
    /// answer.
    pub(crate) fn published_champions(
        &self,
        batch: BatchId,
        trained: &[pb::TrainedModel],
        idle: &BTreeSet<u32>,
    ) -> Vec<PublishedModel> {
        let choices = self.topology.models.iter().enumerate().filter(|(_, shape)| !shape.candidates.is_empty());
        let published = choices.filter_map(|(number, shape)| {
            let champion = self.champion(&self.durable.champions, number);
            let new = self.answers_since(batch, number, champion);
            let trained = trained.iter().find(|trained| trained.model as usize == champion);
            let bytes = match trained {
                Some(trained) if new || !idle.contains(&trained.model) => trained.bytes.clone(),
                Some(_) => return None,
                None => self.untrained(batch, champion, new)?,
            };
            Some(PublishedModel { name: shape.name.clone(), bytes, keep: shape.keep })
        });
        published.collect()
    }

    /// Whether a champion answers only since this batch.
    fn answers_since(&self, batch: BatchId, choice: usize, champion: usize) -> bool {
        let frozen = self.durable.frozen.get(&batch);
        batch == FIRST || frozen.is_some_and(|frozen| self.champion(&frozen.champions, choice) != champion)
    }

    /// A champion that nothing trains, if it answers (`new`) or is what it is only since this batch.
    fn untrained(&self, batch: BatchId, champion: usize, new: bool) -> Option<Bytes> {
        let shape = self.topology.models.get(champion).filter(|shape| shape.home.is_none())?;
        let (frozen, number) = (self.durable.frozen.get(&batch)?, champion as u32);
        let new = new || frozen.imported.contains_key(&number);
        let import = || self.durable.last_import(number, batch).map(|(_, import)| import.bytes.clone());
        new.then(|| import().unwrap_or_else(|| shape.initial.to_bytes().into()))
    }
}
