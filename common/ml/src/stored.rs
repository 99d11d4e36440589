//! Models as bytes and as JSON, exact both ways.
//!
//! Bytes, format 2: an [`Envelope`] around, as postcard and one behind the other, the definition as JSON text, whether there is a state,
//! the state as the family lays it out, and the counters. Which family it is, is said by name (`kind` in the definition). Format 1 has
//! the place of the family in [`KINDS_OF_FORMAT_1`] before the state. JSON: see `docs/learning.md`.

use crate::{
    envelope::{self, Envelope, are_counts},
    erased::{Document, State},
    error::DecodeError,
    model::Model,
    report::Counters,
    spec::ModelSpec,
};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

const MODEL: Envelope = Envelope { letters: *b"TMml", what: "model", version: 2 };

/// Models of format 1 name their family by a place in this list. No family is added to it.
const KINDS_OF_FORMAT_1: [&str; 18] = [
    "linear_regression",
    "logistic_regression",
    "kmeans",
    "passive_aggressive_regressor",
    "passive_aggressive_classifier",
    "recursive_least_squares",
    "softmax",
    "gaussian_naive_bayes",
    "multinomial_naive_bayes",
    "hoeffding_tree",
    "standard_scaler",
    "min_max_scaler",
    "imputer",
    "one_hot",
    "epsilon_greedy",
    "ucb1",
    "thompson_sampling",
    "lin_ucb",
];

const FORMAT: &str = "tidemill-model";
const FORMAT_VERSION: u64 = 1;

impl Model {
    /// The model, exactly.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut content = envelope::encode(&(envelope::spec_text(&self.spec), self.state.is_some()));
        content.extend(self.state.iter().flat_map(|state| state.to_bytes()));
        content.extend(envelope::encode(&self.counters));
        MODEL.frame(&content)
    }

    /// The model that [`Model::to_bytes`] wrote, of this version or an earlier one. Anything else is refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<Model, DecodeError> {
        let (format, content) = MODEL.content(bytes, 1)?;
        let (text, rest) = envelope::take::<String>(content)?;
        let spec: ModelSpec = envelope::read_spec(&text)?;
        let (has_state, rest) = match format {
            1 => {
                let (place, rest) = envelope::take::<Option<u32>>(rest)?;
                let kind = |place: u32| KINDS_OF_FORMAT_1.get(place as usize).copied();
                if place.is_some_and(|place| kind(place) != Some(spec.kind())) {
                    return Err(not_of(&spec));
                }
                (place.is_some(), rest)
            }
            _ => envelope::take(rest)?,
        };
        let (state, rest) = match has_state {
            true => spec.0.take(rest).map(|(state, rest)| (Some(state), rest))?,
            false => (None, rest),
        };
        checked(spec, state, envelope::decode(rest)?)
    }

    /// The model as documented JSON: `format`, `version`, `spec`, `state`, `counters`. Doubles come back exactly (text has to be read by
    /// a reader that rounds correctly); what is not finite is the word `"NaN"`, `"Infinity"` or `"-Infinity"`.
    pub fn to_json(&self) -> Value {
        json!({
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "spec": self.spec,
            "state": self.state.as_ref().map(|state| state.to_json()),
            "counters": self.counters,
        })
    }

    /// A model from its JSON. `state` and `counters` may be missing (a model before any data), and any parameter of `spec` but `kind`.
    pub fn from_json(value: &Value) -> Result<Model, DecodeError> {
        Model::from_json_text(&value.to_string())
    }

    /// As [`Model::from_json`], from text: what is wrong is said with its line and column.
    pub fn from_json_text(text: &str) -> Result<Model, DecodeError> {
        let wrong = |error: serde_json::Error| DecodeError::Content(error.to_string());
        check_format(&serde_json::from_str(text).map_err(wrong)?)?;
        let Document { spec, counters, .. }: Document<ModelSpec, IgnoredAny> =
            serde_json::from_str(text).map_err(wrong)?;
        let state = spec.0.read(text).map_err(wrong)?;
        checked(spec, state, counters)
    }
}

fn check_format(value: &Value) -> Result<(), DecodeError> {
    if value["format"] != FORMAT {
        return Err(DecodeError::Foreign { expected: "model" });
    }
    match value["version"].as_u64().filter(|found| *found != FORMAT_VERSION) {
        Some(found) => Err(DecodeError::Version { expected: FORMAT_VERSION, found }),
        None => Ok(()),
    }
}

fn not_of(spec: &ModelSpec) -> DecodeError {
    DecodeError::Content(format!("the state is not one of a model of kind {}", spec.kind()))
}

/// A model, if it is one that can be.
fn checked(spec: ModelSpec, state: Option<Box<State>>, counters: Counters) -> Result<Model, DecodeError> {
    let mut model = Model::new(spec)?;
    if !are_counts(&[counters.batches, counters.rows, counters.skipped]) {
        return Err(DecodeError::Content("the counters are higher than any can be".to_owned()));
    }
    if let Some(state) = state {
        let (features, fixed) = (state.features(), model.spec.fixed());
        if features == 0 || !state.consistent() {
            return Err(DecodeError::Content("the lists of the state have wrong lengths".to_owned()));
        }
        if let Some(fixed) = fixed.filter(|fixed| fixed.features != features) {
            let wrong = format!("the state has {features} features, the definition fixes {}", fixed.features);
            return Err(DecodeError::Content(wrong));
        }
        model.state = Some(state);
    }
    model.counters = counters;
    Ok(model)
}
