//! Models of the simulated jobs, and imports that take their place. A model here is a number: the intercept of a line.
//!
//! Every job has two. With an import of the first, the state of the first key group of the first stage with state begins anew. The
//! second is asked by the first stage: once something was imported, it is added to every value. Some stages ask the first one
//! too, before or after it is trained, which is the sum of that key group's state, and add it to every value of theirs.

use crate::compute::{Op, Rows, Shape, State};
use crate::world::World;
use std::sync::Arc;
use tidemill_driver::core::topology::{AskedShape, ModelShape};
use tidemill_driver::core::{Event, NewModel, RequestId};
use tidemill_ml::ndarray::Array2;
use tidemill_ml::{Model, ModelSpec};

/// Position of the model that stands for the state of a key group.
pub(crate) const TRAINED: u32 = 0;
/// Position of the model that nothing trains.
pub(crate) const ASKED: u32 = 1;

fn spec() -> ModelSpec {
    let spec = serde_json::json!({ "kind": "linear_regression", "fit_intercept": true });
    serde_json::from_value(spec).expect("a line")
}

/// The models of a job; `home` is where the first one lives, if some stage has state.
pub(crate) fn shapes(home: Option<(usize, usize)>) -> Vec<ModelShape> {
    let shape = |name: &str, home| ModelShape {
        name: name.into(),
        spec: spec(),
        initial: Arc::new(Model::new(spec()).expect("a line")),
        features: Some(1),
        home,
        candidates: Vec::new(),
        keep: 1,
        save: None,
    };
    vec![shape("trained", home), shape("asked", None)]
}

/// What the first stage asks.
pub(crate) fn asked() -> Vec<AskedShape> {
    vec![AskedShape { model: ASKED as usize, after_training: false }]
}

/// Which state of a model is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// As the batch before has left it.
    Before,
    /// As the batch itself has left it.
    After,
}

/// That a stage asks the first model.
pub(crate) fn asking_trained(when: When) -> AskedShape {
    AskedShape { model: TRAINED as usize, after_training: when == When::After }
}

/// The first model, as state is one.
pub(crate) fn of_state(state: &State) -> f64 {
    state.values().sum()
}

/// The first model, as it was imported.
pub(crate) fn of_import(shape: &Shape, value: f64) -> f64 {
    of_state(&state(shape, value))
}

/// What several models say together.
pub(crate) fn together(said: impl Iterator<Item = f64>) -> Option<f64> {
    said.reduce(|sum, value| sum + value)
}

/// The number that an import brings.
pub(crate) fn value(bytes: &[u8]) -> f64 {
    let model = Model::from_bytes(bytes).expect("a model");
    model.predict(Array2::zeros((1, 1)).view()).expect("a number")[0]
}

/// What a key group begins with when this number is imported.
pub(crate) fn state(shape: &Shape, value: f64) -> State {
    (0..).take(100).find(|key| shape.group(*key) == 0).map(|key| (key, value)).into_iter().collect()
}

/// Rows of a stage, as they are with the number that it asks.
pub(crate) fn added(rows: Rows, asked: Option<f64>) -> Rows {
    rows.into_iter().map(|(key, value)| (key, asked.map_or(value, |asked| value + asked))).collect()
}

/// Where the first model lives.
pub(crate) fn home(ops: impl Iterator<Item = Op>) -> Option<(usize, usize)> {
    ops.enumerate().find(|(_, op)| *op == Op::Running).map(|(stage, _)| (stage, 0))
}

impl World {
    /// A client imports a model.
    pub(crate) fn import(&mut self) {
        let job = self.net.pick(0..self.scenario.specs.len() as u64);
        let model = ["trained", "asked"][self.net.pick(0..2) as usize];
        let intercept = self.net.pick(1..1000) as f64 / 7.0;
        let state = serde_json::json!({ "weights": [0.0], "intercept": intercept, "updates": 1 });
        let document = serde_json::json!({
            "format": "tidemill-model", "version": 1, "spec": spec(), "state": { "linear_regression": state },
        });
        let (job, model, document) = (format!("job-{job}"), model.to_string(), document.to_string());
        let request = RequestId(self.number());
        self.feed(Event::Import { request, new: Box::new(NewModel { job, model, document }) });
    }
}
