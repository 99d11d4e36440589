//! Models that are asked as the batch itself has left them: who asks waits for their training, and so for all that leads to it.
//!
//! The stage that decodes a source cannot wait for what is learnt from its rows. What asks over a source therefore decodes it once more, in
//! a stage for each set of models that is waited for.

use super::stages::{Lane, Stages};
use crate::learn::predict::asked_by_plan;
use crate::plan::StageInput;
use datafusion::physical_plan::ExecutionPlan;
use std::collections::BTreeSet;
use std::sync::Arc;
use tidemill_common::ids::StageId;
use tidemill_job::Span;

/// Who waits for the training of which models (by position).
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// The operator at hand.
    pub(super) place: Span,
    /// Stages that decode a source once more.
    again: Vec<Again>,
    /// Where each question stands.
    asked: Vec<(StageId, usize, Span)>,
}

#[derive(Debug)]
struct Again {
    input: StageInput,
    models: BTreeSet<usize>,
    stage: StageId,
}

impl Waits {
    /// The operator in a stage that asks a model after its training.
    pub(super) fn place(&self, stage: StageId, model: usize) -> Option<Span> {
        let of_both = |(asks, asked, _): &&(StageId, usize, Span)| (*asks, *asked) == (stage, model);
        self.asked.iter().find(of_both).map(|(_, _, place)| place.clone())
    }

    /// Stages have other numbers now.
    pub(super) fn renumber(&mut self, stage: impl Fn(StageId) -> StageId) {
        self.asked.iter_mut().for_each(|(asks, _, _)| *asks = stage(*asks));
        self.again.iter_mut().for_each(|again| again.stage = stage(again.stage));
    }

    fn note(&mut self, stage: StageId, models: &BTreeSet<usize>) {
        self.asked.extend(models.iter().map(|model| (stage, *model, self.place.clone())));
    }
}

impl Stages {
    /// Notes what a plan of a stage asks where it is.
    pub(super) fn asks(&mut self, stage: StageId, plan: &Arc<dyn ExecutionPlan>) {
        self.waits.note(stage, &after_training(plan));
    }

    /// The lane in a stage that may wait for the models that the plan, over the lane's rows, asks after their training.
    pub(super) fn waiting(&mut self, lane: Lane, plan: &Arc<dyn ExecutionPlan>) -> Lane {
        let asked = after_training(plan);
        if asked.is_empty() {
            return lane;
        }
        let lane = match self.stages[lane.stage.0 as usize].input.clone() {
            StageInput::Exchanges(_) => lane,
            input => self.decoding_again(lane, input, &asked),
        };
        self.waits.note(lane.stage, &asked);
        lane
    }

    fn decoding_again(&mut self, lane: Lane, input: StageInput, asked: &BTreeSet<usize>) -> Lane {
        let known = self.waits.again.iter().find(|again| again.stage == lane.stage);
        let mut models = known.map(|again| again.models.clone()).unwrap_or_default();
        models.extend(asked);
        let fits = self.waits.again.iter().find(|again| again.input == input && again.models == models);
        let stage = match fits.map(|again| again.stage) {
            Some(stage) => stage,
            None => {
                let Some(stage) = self.again(lane.stage) else { return lane };
                self.waits.again.push(Again { input, models, stage });
                stage
            }
        };
        if stage == lane.stage { lane } else { self.moved(lane, stage) }
    }
}

/// The models that a plan asks as the batch itself has left them.
fn after_training(plan: &Arc<dyn ExecutionPlan>) -> BTreeSet<usize> {
    let mut asked = BTreeSet::new();
    asked_by_plan(plan, &mut asked);
    asked.into_iter().filter(|asked| asked.after_training).map(|asked| asked.model).collect()
}
