//! Definitions and states of whatever family: [`Family`] with its type forgotten. A state is always beside the definition that it is of.

use crate::{
    envelope,
    error::{DecodeError, ModelError, SpecError},
    family::{Answers, Family, Fixed, Learns},
    parameters,
    partial::Partial,
    report::{Counters, Learned, Shape, Trained},
    rows::Table,
};
use ndarray::ArrayView2;
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value, json};
use std::{any::Any, fmt, marker::PhantomData, sync::Arc};

/// Reads parameters, without `kind`.
type ReadParameters = fn(Map<String, Value>) -> serde_json::Result<Arc<dyn AnySpec>>;

/// A family in the list of all.
pub(crate) struct Entry {
    /// [`Family::NAME`]
    pub(crate) name: &'static str,
    pub(crate) read: ReadParameters,
    /// The JSON Schema of a table of its parameters.
    pub(crate) schema: fn() -> Value,
    /// [`Family::definitions`]
    #[cfg(test)]
    pub(crate) definitions: fn() -> Vec<Value>,
}

impl Entry {
    pub(crate) const fn of<F: Family>() -> Entry {
        Entry {
            name: F::NAME,
            read: |parameters| {
                let spec: F::Spec = serde_json::from_value(Value::Object(parameters))?;
                Ok(Arc::new(Defined::<F>(Arc::new(spec))))
            },
            schema: parameters::schema::<F>,
            #[cfg(test)]
            definitions: F::definitions,
        }
    }
}

/// A definition of some family; the functions are those of [`Family`].
pub(crate) trait AnySpec: fmt::Debug + Send + Sync {
    fn name(&self) -> &'static str;
    fn shape(&self) -> Shape;
    fn validate(&self) -> Result<(), SpecError>;
    fn answers(&self) -> Answers<'_>;
    fn learns(&self, features: usize) -> Learns;
    fn fixed(&self) -> Option<Fixed>;
    fn width(&self, columns: usize) -> Option<usize>;

    /// What a model of it has learnt before any data.
    fn begin(&self, features: usize) -> Box<State>;

    /// The state at the beginning of stored bytes, and what comes behind it.
    fn take<'a>(&self, bytes: &'a [u8]) -> Result<(Box<State>, &'a [u8]), DecodeError>;

    /// The state in the text of a [`Document`].
    fn read(&self, text: &str) -> serde_json::Result<Option<Box<State>>>;

    /// The parameters as JSON, without `kind`.
    fn parameters(&self) -> serde_json::Result<Value>;

    fn equals(&self, other: &dyn AnySpec) -> bool;
    fn as_any(&self) -> &dyn Any;
}

/// A definition of a known family.
pub(crate) struct Defined<F: Family>(pub(crate) Arc<F::Spec>);

impl<F: Family> fmt::Debug for Defined<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple(F::NAME).field(&*self.0).finish()
    }
}

impl<F: Family> AnySpec for Defined<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }
    fn shape(&self) -> Shape {
        F::SHAPE
    }
    fn validate(&self) -> Result<(), SpecError> {
        F::validate(&self.0)
    }
    fn answers(&self) -> Answers<'_> {
        F::answers(&self.0)
    }
    fn learns(&self, features: usize) -> Learns {
        F::learns(&self.0, features)
    }
    fn fixed(&self) -> Option<Fixed> {
        F::fixed(&self.0)
    }
    fn width(&self, columns: usize) -> Option<usize> {
        F::width(&self.0, columns)
    }
    fn begin(&self, features: usize) -> Box<State> {
        Box::new(Fitted { state: F::new(&self.0, features), spec: self.0.clone() })
    }
    fn take<'a>(&self, bytes: &'a [u8]) -> Result<(Box<State>, &'a [u8]), DecodeError> {
        let (state, rest) = envelope::take::<F>(bytes)?;
        Ok((Box::new(Fitted { state, spec: self.0.clone() }), rest))
    }
    fn read(&self, text: &str) -> serde_json::Result<Option<Box<State>>> {
        let document: Document<IgnoredAny, Named<F>> = serde_json::from_str(text)?;
        Ok(document.state.map(|Named(state)| Box::new(Fitted { state, spec: self.0.clone() }) as Box<State>))
    }
    fn parameters(&self) -> serde_json::Result<Value> {
        serde_json::to_value(&*self.0)
    }
    fn equals(&self, other: &dyn AnySpec) -> bool {
        other.as_any().downcast_ref::<Self>().is_some_and(|other| self.0 == other.0)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What a model of some family has learnt; the functions are those of [`Family`], for all rows of a table.
pub(crate) trait AnyState: fmt::Debug + Send + Sync {
    fn features(&self) -> usize;
    fn finite(&self) -> bool;
    fn consistent(&self) -> bool;
    fn predict(&self, rows: &Table<'_>) -> Vec<f64>;
    fn probabilities(&self, rows: &Table<'_>) -> Option<Vec<f64>>;
    fn distances(&self, rows: &Table<'_>) -> Option<Vec<[f64; 2]>>;
    fn transform(&self, rows: &Table<'_>) -> Option<Vec<f64>>;
    fn transform_text(&self, texts: &[Option<&str>]) -> Option<Vec<f64>>;
    fn gather_text(&self, rows: &mut dyn Iterator<Item = Vec<Option<&str>>>) -> Option<Partial>;
    fn choose(&self, seen: &Counters, ids: &[u64], context: &ArrayView2<'_, f64>) -> Option<Vec<usize>>;

    /// Learns a batch. An error only for sums that are not of this model.
    fn train(&mut self, splits: &[Table<'_>]) -> Result<Trained, ModelError>;

    /// Predicts each row, then learns it.
    fn train_records(&mut self, splits: &[Table<'_>]) -> (Vec<f64>, Trained);

    /// What a split adds to a batch; None if the family never learns from sums.
    fn partial(&self, split: &Table<'_>) -> Option<Partial>;

    /// Learns a batch from what its splits add to it, in their order.
    fn apply(&mut self, partials: &[Partial]) -> Result<Trained, ModelError>;

    fn learned(&self) -> Vec<Learned>;

    /// The state as JSON, under the name of the family.
    fn to_json(&self) -> Value;

    /// The state as bytes, for [`AnySpec::take`].
    fn to_bytes(&self) -> Vec<u8>;

    fn boxed(&self) -> Box<State>;
    fn equals(&self, other: &State) -> bool;
    fn as_any(&self) -> &dyn Any;
}

/// What a model of some family has learnt.
pub(crate) type State = dyn AnyState;

/// What a model of a known family has learnt.
#[derive(Debug, Clone, PartialEq)]
struct Fitted<F: Family> {
    spec: Arc<F::Spec>,
    state: F,
}

impl<F: Family> AnyState for Fitted<F> {
    fn features(&self) -> usize {
        self.state.features()
    }
    fn finite(&self) -> bool {
        self.state.finite()
    }
    fn consistent(&self) -> bool {
        self.state.consistent(&self.spec)
    }
    fn predict(&self, rows: &Table<'_>) -> Vec<f64> {
        rows.rows().map(|row| self.state.predict(&self.spec, row.x)).collect()
    }
    fn probabilities(&self, rows: &Table<'_>) -> Option<Vec<f64>> {
        joined(rows, |x| self.state.probabilities(&self.spec, x))
    }
    fn distances(&self, rows: &Table<'_>) -> Option<Vec<[f64; 2]>> {
        rows.rows().map(|row| self.state.distances(&self.spec, row.x)).collect()
    }
    fn transform(&self, rows: &Table<'_>) -> Option<Vec<f64>> {
        joined(rows, |x| self.state.transform(&self.spec, x))
    }
    fn transform_text(&self, texts: &[Option<&str>]) -> Option<Vec<f64>> {
        self.state.transform_text(&self.spec, texts)
    }
    fn gather_text(&self, rows: &mut dyn Iterator<Item = Vec<Option<&str>>>) -> Option<Partial> {
        self.state.gather_text(&self.spec, rows)
    }
    fn choose(&self, seen: &Counters, ids: &[u64], context: &ArrayView2<'_, f64>) -> Option<Vec<usize>> {
        self.state.choose(&self.spec, seen, ids, context)
    }
    fn train(&mut self, splits: &[Table<'_>]) -> Result<Trained, ModelError> {
        match F::learns(&self.spec, self.state.features()) {
            Learns::ByRecord => {
                let rows = splits.iter().flat_map(Table::rows);
                Ok(Trained::of_records(rows, |row| self.state.record(&self.spec, row)))
            }
            Learns::FromSums => {
                let partials: Option<Vec<_>> = splits.iter().map(|split| self.partial(split)).collect();
                self.apply(&partials.unwrap_or_default())
            }
            Learns::FromRows => Ok(self.state.batch(&self.spec, splits)),
        }
    }
    fn train_records(&mut self, splits: &[Table<'_>]) -> (Vec<f64>, Trained) {
        let mut predictions = Vec::new();
        let trained = Trained::of_records(splits.iter().flat_map(Table::rows), |row| {
            predictions.push(self.state.predict(&self.spec, row.x));
            self.state.record(&self.spec, row)
        });
        (predictions, trained)
    }
    fn partial(&self, split: &Table<'_>) -> Option<Partial> {
        F::SUMS.map(|sums| (sums.partial)(&self.state, &self.spec, split))
    }
    fn apply(&mut self, partials: &[Partial]) -> Result<Trained, ModelError> {
        F::SUMS.map_or(Err(ModelError::Partial), |sums| (sums.apply)(&mut self.state, &self.spec, partials))
    }
    fn learned(&self) -> Vec<Learned> {
        self.state.learned()
    }
    fn to_json(&self) -> Value {
        json!({ (F::NAME): self.state })
    }
    fn to_bytes(&self) -> Vec<u8> {
        envelope::encode(&self.state)
    }
    fn boxed(&self) -> Box<State> {
        Box::new(self.clone())
    }
    fn equals(&self, other: &State) -> bool {
        other.as_any().downcast_ref::<Self>() == Some(self)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What each row becomes, one behind the other; None if a row becomes nothing.
fn joined(rows: &Table<'_>, of: impl Fn(&[f64]) -> Option<Vec<f64>>) -> Option<Vec<f64>> {
    let mut all = Vec::with_capacity(rows.len());
    for row in rows.rows() {
        all.extend(of(row.x)?);
    }
    Some(all)
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.equals(other)
    }
}

impl Clone for Box<State> {
    fn clone(&self) -> Self {
        self.boxed()
    }
}

/// So that a state may be borrowed or new: `Cow<'_, State>`.
impl ToOwned for State {
    type Owned = Box<State>;

    fn to_owned(&self) -> Box<State> {
        self.boxed()
    }
}

/// An exported model; see `docs/learning.md`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document<P, S> {
    #[serde(rename = "format")]
    _format: IgnoredAny,
    #[serde(rename = "version")]
    _version: u64,
    pub(crate) spec: P,
    state: Option<S>,
    #[serde(default)]
    pub(crate) counters: Counters,
}

/// A state in a document: an object whose only key is the name of the family.
struct Named<F>(F);

impl<'de, F: Family> Deserialize<'de> for Named<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamedVisitor(PhantomData))
    }
}

struct NamedVisitor<F>(PhantomData<F>);

impl<'de, F: Family> Visitor<'de> for NamedVisitor<F> {
    type Value = Named<F>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{\"{}\": ..}}", F::NAME)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<F>, A::Error> {
        match map.next_key::<String>()? {
            Some(name) if name == F::NAME => {}
            _ => return Err(A::Error::custom(format!("the state is not one of a model of kind {}", F::NAME))),
        }
        let state = map.next_value()?;
        match map.next_key::<IgnoredAny>()? {
            None => Ok(Named(state)),
            Some(_) => Err(A::Error::custom("there is more than one state")),
        }
    }
}
