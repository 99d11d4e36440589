//! Doubles that survive JSON: shortest round-trip decimals, and the words `"NaN"`, `"Infinity"`, `"-Infinity"` for what JSON lacks.
//! In binary formats they are what they are, and there is one NaN.

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};
use std::fmt;

struct Exact(f64);

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_finite() || !serializer.is_human_readable() {
            // Which of the many NaNs comes out of an operation depends on the processor.
            return serializer.serialize_f64(if self.0.is_nan() { f64::NAN } else { self.0 });
        }
        serializer.serialize_str(if self.0.is_nan() {
            "NaN"
        } else if self.0 > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        })
    }
}

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(NumberOrWord)
        } else {
            f64::deserialize(deserializer).map(Exact)
        }
    }
}

struct NumberOrWord;

impl Visitor<'_> for NumberOrWord {
    type Value = Exact;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, \"NaN\", \"Infinity\" or \"-Infinity\"")
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Exact, E> {
        Ok(Exact(value))
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Exact, E> {
        Ok(Exact(value as f64))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Exact, E> {
        Ok(Exact(value as f64))
    }
    fn visit_str<E: Error>(self, word: &str) -> Result<Exact, E> {
        match word {
            "NaN" => Ok(Exact(f64::NAN)),
            "Infinity" => Ok(Exact(f64::INFINITY)),
            "-Infinity" => Ok(Exact(f64::NEG_INFINITY)),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
        }
    }
}

/// `#[serde(with = "exact::number")]` for an `f64`.
pub(crate) mod number {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        Exact(*value).serialize(serializer)
    }
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Exact::deserialize(deserializer).map(|exact| exact.0)
    }
}

/// `#[serde(with = "exact::list")]` for a `Vec<f64>`.
pub(crate) mod list {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|value| Exact(*value)))
    }
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        let values = Vec::<Exact>::deserialize(deserializer)?;
        Ok(values.into_iter().map(|exact| exact.0).collect())
    }
}

/// `#[serde(with = "exact::lists")]` for a `Vec<Vec<f64>>`.
pub(crate) mod lists {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(values: &[Vec<f64>], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|list| list.iter().map(|value| Exact(*value)).collect::<Vec<_>>()))
    }
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<f64>>, D::Error> {
        let values = Vec::<Vec<Exact>>::deserialize(deserializer)?;
        Ok(values.into_iter().map(|list| list.into_iter().map(|exact| exact.0).collect()).collect())
    }
}
