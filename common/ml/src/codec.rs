//! Models as bytes and as JSON, exact both ways.
//!
//! Bytes: four letters, the format's number, the content (postcard), and a CRC-32 of all before it. JSON: see `docs/learning.md`.

use crate::{
    error::DecodeError,
    family::State,
    model::{Counters, Model},
    spec::ModelSpec,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Counts of what was seen beyond this one are not believed: they are added up for ever.
pub(crate) const HIGHEST_COUNT: u64 = 1 << 48;

/// Whether these can be counts of what was seen.
pub(crate) fn are_counts(counts: &[u64]) -> bool {
    counts.iter().all(|count| *count <= HIGHEST_COUNT)
}

const MODEL: Envelope = Envelope { letters: *b"TMml", what: "model", version: 1 };

/// A framed and checked piece of bytes of a kind.
pub(crate) struct Envelope {
    pub(crate) letters: [u8; 4],
    pub(crate) what: &'static str,
    pub(crate) version: u8,
}

impl Envelope {
    /// `content` as bytes. It must be of plain structs, lists and numbers, which postcard cannot fail on.
    pub(crate) fn seal(&self, content: &impl Serialize) -> Vec<u8> {
        let mut bytes = self.letters.to_vec();
        bytes.push(self.version);
        bytes.extend(postcard::to_stdvec(content).expect("plain data in memory always encodes"));
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// What [`Envelope::seal`] was given.
    pub(crate) fn open<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, DecodeError> {
        let foreign = DecodeError::Foreign { expected: self.what };
        let (checked, crc) = bytes.split_last_chunk::<4>().ok_or(foreign.clone())?;
        let content = checked.strip_prefix(&self.letters[..]).ok_or(foreign.clone())?;
        let (&version, content) = content.split_first().ok_or(foreign)?;
        if version != self.version {
            return Err(DecodeError::Version { expected: self.version.into(), found: version.into() });
        }
        if crc32fast::hash(checked) != u32::from_le_bytes(*crc) {
            return Err(DecodeError::Damaged);
        }
        match postcard::take_from_bytes(content) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(DecodeError::Content(format!("{} bytes too many", rest.len()))),
            Err(e) => Err(DecodeError::Content(e.to_string())),
        }
    }
}

/// The definition as JSON text (its form is tagged, which postcard is not made for).
pub(crate) fn spec_text(spec: &impl Serialize) -> String {
    serde_json::to_string(spec).expect("a definition holds only finite numbers, names and lists")
}

pub(crate) fn read_spec<T: DeserializeOwned>(text: &str) -> Result<T, DecodeError> {
    serde_json::from_str(text).map_err(|e| DecodeError::Content(e.to_string()))
}

#[derive(Serialize, Deserialize)]
struct Stored {
    spec: String,
    state: Option<State>,
    counters: Counters,
}

const FORMAT: &str = "tidemill-model";
const FORMAT_VERSION: u64 = 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exported {
    format: String,
    version: u64,
    spec: ModelSpec,
    #[serde(default)]
    state: Option<State>,
    #[serde(default)]
    counters: Counters,
}

impl Model {
    /// The model, exactly.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (spec, state, counters) = (spec_text(&self.spec), self.state.clone(), self.counters.clone());
        MODEL.seal(&Stored { spec, state, counters })
    }

    /// The model that [`Model::to_bytes`] wrote. Anything else is refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<Model, DecodeError> {
        let stored: Stored = MODEL.open(bytes)?;
        checked(read_spec(&stored.spec)?, stored.state, stored.counters)
    }

    /// The model as documented JSON: `format`, `version`, `spec`, `state`, `counters`. Doubles come back exactly (text has to be read by
    /// a reader that rounds correctly); what is not finite is the word `"NaN"`, `"Infinity"` or `"-Infinity"`.
    pub fn to_json(&self) -> Value {
        json!({
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "spec": self.spec,
            "state": self.state,
            "counters": self.counters,
        })
    }

    /// A model from its JSON. `state` and `counters` may be missing (a model before any data), and any parameter of `spec` but `kind`.
    pub fn from_json(value: &Value) -> Result<Model, DecodeError> {
        check_format(value)?;
        exported(Exported::deserialize(value))
    }

    /// As [`Model::from_json`], from text: what is wrong is said with its line and column.
    pub fn from_json_text(text: &str) -> Result<Model, DecodeError> {
        check_format(&serde_json::from_str(text).map_err(|e| DecodeError::Content(e.to_string()))?)?;
        exported(serde_json::from_str(text))
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

fn exported(read: Result<Exported, serde_json::Error>) -> Result<Model, DecodeError> {
    let exported = read.map_err(|e| DecodeError::Content(e.to_string()))?;
    debug_assert!(exported.format == FORMAT && exported.version == FORMAT_VERSION);
    checked(exported.spec, exported.state, exported.counters)
}

fn checked(spec: ModelSpec, state: Option<State>, counters: Counters) -> Result<Model, DecodeError> {
    let mut model = Model::new(spec)?;
    if !are_counts(&[counters.batches, counters.rows, counters.skipped]) {
        return Err(DecodeError::Content("the counters are higher than any can be".to_owned()));
    }
    if let Some(state) = state {
        state.check(&model.spec).map_err(DecodeError::Content)?;
        model.state = Some(state);
    }
    model.counters = counters;
    Ok(model)
}
