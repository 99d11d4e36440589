//! Names under which the champion of several models answers.
//!
//! A stage chooses; its task says who the champion is. When the batch is complete that is in the log, and the next batch is frozen
//! with it: whenever that batch runs, the same model answers.

use super::Cx;
use super::job::Job;
use super::run::BatchRun;
use crate::models::PublishedModel;
use crate::record::JobRecord;
use std::collections::BTreeMap;
use tidemill_proto::control as pb;

impl Job {
    /// The model that answers when a model is asked in a batch: itself, or the champion.
    pub(crate) fn answering(&self, run: &BatchRun, model: usize) -> usize {
        let frozen = self.durable.frozen.get(&run.batch).map(|frozen| &frozen.champions);
        frozen.map_or(model, |champions| self.champion(champions, model))
    }

    fn champion(&self, champions: &BTreeMap<u32, u32>, model: usize) -> usize {
        let first = self.topology.models.get(model).and_then(|shape| shape.candidates.first());
        champions.get(&(model as u32)).map(|champion| *champion as usize).or(first.copied()).unwrap_or(model)
    }

    /// Notes who the champions are after a batch.
    pub(crate) fn note_champions(&mut self, cx: &mut Cx<'_>, told: Vec<pb::Champion>) {
        for pb::Champion { model, champion } in told {
            if self.durable.champions.get(&model) != Some(&champion) {
                self.record(cx, JobRecord::Chosen { model, champion });
            }
        }
    }

    /// What is published under the names of choices, of the models that a batch has trained.
    pub(crate) fn published_champions(&self, trained: &[pb::TrainedModel]) -> Vec<PublishedModel> {
        let choices = self.topology.models.iter().enumerate().filter(|(_, shape)| !shape.candidates.is_empty());
        let published = choices.filter_map(|(number, shape)| {
            let champion = self.champion(&self.durable.champions, number);
            let trained = trained.iter().find(|trained| trained.model as usize == champion)?;
            Some(PublishedModel { name: shape.name.clone(), bytes: trained.bytes.clone(), keep: shape.keep })
        });
        published.collect()
    }
}
