//! Whether a model from elsewhere can take the place of one that is there.

use crate::{error::DecodeError, model::Model, spec::ModelSpec};
use serde_json::{Map, Value};
use thiserror::Error;

/// Why an exported model cannot take the place of another one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReplaceError {
    /// It is no exported model.
    #[error(transparent)]
    Unreadable(#[from] DecodeError),
    /// Another family.
    #[error("`spec.kind` is {found}, the model is of kind {expected}")]
    Kind {
        /// Family of the model that is there.
        expected: &'static str,
        /// Family of the other one.
        found: &'static str,
    },
    /// Another value of a parameter.
    #[error("`spec.{parameter}` is {found}{}, the model is defined with {expected}", left_out(*.written))]
    Parameter {
        /// Its name.
        parameter: String,
        /// Its value in the model that is there, as JSON.
        expected: String,
        /// Its value in the other one, as JSON.
        found: String,
        /// Whether it stands in the document, or is the default.
        written: bool,
    },
    /// Another number of features.
    #[error("`state` is of a model with {found} features, the rows have {expected}")]
    Features {
        /// Features of the rows.
        expected: usize,
        /// Features of the other model.
        found: usize,
    },
    /// A number that is not finite: what it says would mean nothing.
    #[error("`state` has a number that is not finite; such a model predicts nothing and never learns again")]
    NotFinite,
}

fn left_out(written: bool) -> &'static str {
    if written { "" } else { " (it is left out, this is the default)" }
}

impl Model {
    /// The model of an exported document, if it can go on in place of one that is defined by `spec` and whose rows have
    /// `features` features (none: any number). One that has seen no data fits, too, and begins anew.
    ///
    /// # Errors
    /// See [`ReplaceError`].
    pub fn in_place_of(text: &str, spec: &ModelSpec, features: Option<usize>) -> Result<Model, ReplaceError> {
        let model = Model::from_json_text(text)?;
        let (expected, found) = (spec.kind(), model.spec.kind());
        if expected != found {
            return Err(ReplaceError::Kind { expected, found });
        }
        if let Some((parameter, expected, found)) = spec.difference(&model.spec) {
            let document: Value = serde_json::from_str(text).unwrap_or_default();
            let written = document["spec"].get(&parameter).is_some();
            return Err(ReplaceError::Parameter { parameter, expected, found, written });
        }
        match (features, model.dimension()) {
            (Some(expected), Some(found)) if expected != found => Err(ReplaceError::Features { expected, found }),
            _ if !model.state.as_ref().is_none_or(|state| state.finite()) => Err(ReplaceError::NotFinite),
            _ => Ok(model),
        }
    }
}

impl ModelSpec {
    /// The first parameter in which two definitions of a family differ: its name, its value here and there, as JSON.
    fn difference(&self, other: &ModelSpec) -> Option<(String, String, String)> {
        let parameters = |spec: &ModelSpec| match serde_json::to_value(spec) {
            Ok(Value::Object(parameters)) => parameters,
            _ => Map::new(),
        };
        let (here, there) = (parameters(self), parameters(other));
        let differs = here.keys().chain(there.keys()).find(|name| here.get(*name) != there.get(*name))?;
        let shown = |parameters: &Map<String, Value>| parameters.get(differs).map_or("none".into(), Value::to_string);
        Some((differs.clone(), shown(&here), shown(&there)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(json: Value) -> ModelSpec {
        serde_json::from_value(json).unwrap()
    }

    fn document(spec: Value, state: Value) -> String {
        json!({ "format": "tidemill-model", "version": 1, "spec": spec, "state": state }).to_string()
    }

    fn weights(weights: Value) -> Value {
        json!({ "linear_regression": { "weights": weights, "intercept": 0.5, "updates": 3 } })
    }

    #[test]
    fn what_fits_takes_the_place() {
        let line = json!({ "kind": "linear_regression", "step_size": 0.2 });
        let model =
            Model::in_place_of(&document(line.clone(), weights(json!([1.0, 2.0]))), &spec(line.clone()), Some(2));
        assert_eq!(model.unwrap().dimension(), Some(2));
        let fresh = Model::in_place_of(&document(line.clone(), Value::Null), &spec(line), Some(7));
        assert_eq!(fresh.unwrap().dimension(), None);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_its_place() {
        let line = || spec(json!({ "kind": "linear_regression", "step_size": 0.2 }));
        let wrong = |text: &str, features| Model::in_place_of(text, &line(), features).unwrap_err().to_string();
        let good = json!({ "kind": "linear_regression", "step_size": 0.2 });
        let other = document(json!({ "kind": "kmeans" }), Value::Null);
        assert_eq!(wrong(&other, None), "`spec.kind` is kmeans, the model is of kind linear_regression");
        let other = document(json!({ "kind": "linear_regression", "step_size": 0.3 }), Value::Null);
        assert_eq!(wrong(&other, None), "`spec.step_size` is 0.3, the model is defined with 0.2");
        let other = document(json!({ "kind": "linear_regression" }), Value::Null);
        assert!(wrong(&other, None).contains("0.1 (it is left out, this is the default)"));
        let other = document(good.clone(), weights(json!([1.0, 2.0])));
        assert!(wrong(&other, Some(3)).contains("2 features, the rows have 3"));
        let other = document(good.clone(), weights(json!([1.0, "NaN"])));
        assert!(wrong(&other, Some(2)).contains("not finite"));
        let other = document(good, weights(json!([1.0, "x"])));
        assert!(wrong(&other, None).contains("line 1 column"), "{}", wrong(&other, None));
        assert!(wrong("{", None).contains("line 1 column"));
        assert!(wrong("{}", None).contains("not a stored model"));
    }
}
