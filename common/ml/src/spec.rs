//! What a model is: its family and its parameters, as in a job definition.

use crate::{
    erased::{AnySpec, Defined},
    error::SpecError,
    families::{FAMILIES, kinds},
    family::{Answers, Family, Fixed, Learns},
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, MapAccess, Visitor},
    ser::{self, SerializeMap},
};
use serde_json::{Map, Value};
use std::{fmt, sync::Arc};

/// Family and parameters of a model. Every parameter has a default; where Spark has the model, it is Spark's.
///
/// As JSON or TOML it is a table of the parameters with, under `kind`, the name of the family.
#[derive(Clone)]
pub struct ModelSpec(pub(crate) Arc<dyn AnySpec>);

impl ModelSpec {
    /// The definition of a model of a family. Its parameters are not checked yet ([`ModelSpec::validate`]).
    pub fn of<F: Family>(parameters: F::Spec) -> ModelSpec {
        ModelSpec(Arc::new(Defined::<F>(Arc::new(parameters))))
    }

    /// Whether the parameters can be. The error names the first that cannot and what to do.
    pub fn validate(&self) -> Result<(), SpecError> {
        self.0.validate()
    }

    /// Name of the family, as in a definition.
    pub fn kind(&self) -> &'static str {
        self.0.name()
    }

    /// What a model of it answers.
    pub fn answers(&self) -> Answers<'_> {
        self.0.answers()
    }

    /// Whether it learns from labels; those of a bandit are rewards.
    pub fn supervised(&self) -> bool {
        matches!(self.answers(), Answers::Number | Answers::Class { .. } | Answers::Arm { .. })
    }

    /// Whether it finds clusters.
    pub fn clusters(&self) -> bool {
        self.answers() == Answers::Cluster
    }

    /// Whether it is there to make features fit for other models ([`Model::transform`](crate::Model::transform)).
    pub fn transforms(&self) -> bool {
        matches!(self.answers(), Answers::Features | Answers::FeaturesOfText)
    }

    /// Whether its columns are text and not numbers ([`Model::transform_text`](crate::Model::transform_text)).
    pub fn takes_text(&self) -> bool {
        self.answers() == Answers::FeaturesOfText
    }

    /// Names of what a bandit chooses from ([`Model::choose`](crate::Model::choose)).
    pub fn arms(&self) -> Option<&[String]> {
        match self.answers() {
            Answers::Arm { arms, .. } => Some(arms),
            _ => None,
        }
    }

    /// Whether its choices depend on a context.
    pub fn contextual(&self) -> bool {
        matches!(self.answers(), Answers::Arm { contextual: true, .. })
    }

    /// Whether it predicts: values, classes or clusters.
    pub fn predicts(&self) -> bool {
        matches!(self.answers(), Answers::Number | Answers::Class { .. } | Answers::Cluster)
    }

    /// Number of classes of a classifier.
    pub fn classes(&self) -> Option<usize> {
        match self.answers() {
            Answers::Class { classes } => Some(classes),
            _ => None,
        }
    }

    /// Whether it learns record by record, each predicted before it is learnt, instead of a batch at a time.
    pub fn per_record(&self) -> bool {
        self.0.learns(0) == Learns::ByRecord
    }

    /// Whether a batch of rows with so many features is learnt from one pass over them, so that the sums may be made where the rows are
    /// ([`Model::partial`](crate::Model::partial)). Otherwise the rows have to be in one place.
    pub fn one_pass(&self, features: usize) -> bool {
        self.0.learns(features) == Learns::FromSums
    }

    /// The number of features, if a parameter fixes it.
    pub fn fixed(&self) -> Option<Fixed> {
        self.0.fixed()
    }

    /// Of a transformer: how many numbers so many columns become; None if it is made for another number of columns.
    pub fn width(&self, columns: usize) -> Option<usize> {
        self.0.width(columns)
    }
}

impl fmt::Debug for ModelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PartialEq for ModelSpec {
    fn eq(&self, other: &Self) -> bool {
        self.0.equals(&*other.0)
    }
}

impl Serialize for ModelSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Value::Object(parameters) = self.0.parameters().map_err(ser::Error::custom)? else {
            return Err(ser::Error::custom("the parameters of a model are a table"));
        };
        let mut map = serializer.serialize_map(Some(1 + parameters.len()))?;
        map.serialize_entry("kind", self.kind())?;
        for (name, value) in &parameters {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for ModelSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SpecVisitor)
    }
}

struct SpecVisitor;

impl<'de> Visitor<'de> for SpecVisitor {
    type Value = ModelSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the parameters of a model, with its `kind`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ModelSpec, A::Error> {
        let mut parameters = Map::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if parameters.contains_key(&name) {
                return Err(A::Error::custom(format!("duplicate field `{name}`")));
            }
            parameters.insert(name, value);
        }
        let kind = parameters.remove("kind").ok_or_else(|| A::Error::missing_field("kind"))?;
        let kind = String::deserialize(kind).map_err(A::Error::custom)?;
        let family = FAMILIES.iter().find(|family| family.name == kind);
        let family = family.ok_or_else(|| A::Error::unknown_variant(&kind, kinds()))?;
        (family.read)(parameters).map(ModelSpec).map_err(A::Error::custom)
    }
}
