//! `POST /models/NAME/predict`: the rows of a request, and what a model says of them.
//!
//! | kind of model | takes | gives |
//! |---|---|---|
//! | what predicts | `features`: numbers | `prediction`; `probabilities` or `distance` where it has them |
//! | a transformer of numbers | `features`: numbers, null for what is missing | `transformed` |
//! | `one_hot` | `features`: texts or whole numbers, or null | `transformed` |
//! | a bandit | `id`: text or a whole number; `features` for a context | `arm` |
//!
//! Every one of these for a single row (`[1.0, 2.0]`, `17`), or as a list for several (`[[1.0], [2.0]]`, `[17, 18]`).

use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tidemill_ml::ndarray::{Array2, ArrayView1, ArrayView2};
use tidemill_ml::{Model, ModelError, ModelSpec};
use tidemill_plan::arrow::array::{ArrayRef, Int64Array, StringArray};
use tidemill_plan::row_ids;

/// The body of a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    features: Option<Value>,
    id: Option<Value>,
}

/// Answers by name, one value per row; and whether there was a single row.
type Said = (Vec<(&'static str, Vec<Value>)>, bool);

/// What a model says of the rows of a request; an error says what is wrong with them.
pub(crate) fn answer(model: &Model, body: &[u8]) -> Result<Map<String, Value>, String> {
    let expected = |what: String| format!("{what}; expected {}", expected(model.spec()));
    let question =
        serde_json::from_slice(body).map_err(|error| expected(format!("the body does not read: {error}")))?;
    let (answers, single) = say(model, &question).map_err(expected)?;
    let one = |mut values: Vec<Value>| if single { values.pop().unwrap_or(Value::Null) } else { Value::Array(values) };
    Ok(answers.into_iter().map(|(name, values)| (name.to_string(), one(values))).collect())
}

/// A body that fits.
fn expected(spec: &ModelSpec) -> &'static str {
    match spec.arms() {
        Some(_) if spec.contextual() => "{\"id\": 17, \"features\": [1.0, 2.0]}, or lists of both",
        Some(_) => "{\"id\": 17} or {\"id\": [\"a\", \"b\"]}",
        None if spec.takes_text() => "{\"features\": [\"red\", \"large\"]} or {\"features\": [[\"red\"], [\"blue\"]]}",
        None => "{\"features\": [1.0, 2.0]} or {\"features\": [[1.0, 2.0], [3.0, 4.0]]}",
    }
}

fn say(model: &Model, question: &Question) -> Result<Said, String> {
    let spec = model.spec();
    if let Some(arms) = spec.arms() {
        return choose(model, arms, question);
    }
    if question.id.is_some() {
        return Err(format!("a model of kind {} looks at no id", spec.kind()));
    }
    let rows = Rows::of(question.features.as_ref())?;
    let wrong = |error: ModelError| error.to_string();
    let answers = if spec.takes_text() {
        let texts = rows.each(text)?;
        let texts = texts.iter().map(|row| row.iter().map(Option::as_deref).collect());
        vectors(model.transform_text(texts).map_err(wrong)?.view())
    } else if spec.transforms() {
        vectors(model.transform(rows.numbers()?.view()).map_err(wrong)?.view())
    } else {
        predict(model, rows.no_gaps()?.view()).map_err(wrong)?
    };
    Ok((answers, rows.single))
}

fn vectors(rows: ArrayView2<'_, f64>) -> Vec<(&'static str, Vec<Value>)> {
    let value = |value: &f64| if value.is_nan() { Value::Null } else { number(value) };
    let list = |row: ArrayView1<'_, f64>| row.iter().map(value).collect();
    vec![("transformed", rows.rows().into_iter().map(list).collect())]
}

fn predict(model: &Model, x: ArrayView2<'_, f64>) -> Result<Vec<(&'static str, Vec<Value>)>, ModelError> {
    let predictions = model.predict(x)?.iter().map(number).collect();
    let mut answers = vec![("prediction", predictions)];
    if model.spec().classes().is_some() {
        let rows = model.predict_proba(x)?;
        answers.push(("probabilities", rows.rows().into_iter().map(|row| row.iter().map(number).collect()).collect()));
    }
    if model.spec().clusters() {
        answers.push(("distance", model.distance(x)?.iter().map(number).collect()));
    }
    Ok(answers)
}

/// The arms for these ids: the ones that `choose_arm` gives for the same text or `bigint`.
fn choose(model: &Model, arms: &[String], question: &Question) -> Result<Said, String> {
    let (spec, kind) = (model.spec(), model.spec().kind());
    let (ids, single) = match &question.id {
        None => return Err(format!("a model of kind {kind} chooses for a row's id")),
        Some(Value::Array(ids)) => (ids.iter().collect(), false),
        Some(id) => (vec![id], true),
    };
    let context = match &question.features {
        None if !spec.contextual() => Array2::zeros((ids.len(), 0)),
        features if spec.contextual() => {
            let rows = Rows::of(features.as_ref())?;
            if rows.single != single {
                return Err("`id` and `features` have to be of one row, or lists for several".into());
            }
            rows.no_gaps()?
        }
        _ => return Err(format!("a model of kind {kind} looks at no features")),
    };
    let ids = row_ids(&id_column(&ids)?).map_err(|error| error.to_string())?;
    let chosen = model.choose(&ids, context.view()).map_err(|error| error.to_string())?;
    Ok((vec![("arm", chosen.into_iter().map(|arm| json!(arms.get(arm))).collect())], single))
}

/// The ids as a column, as a job has them.
fn id_column(ids: &[&Value]) -> Result<ArrayRef, String> {
    let numbers: Option<Vec<i64>> = ids.iter().map(|id| id.as_i64()).collect();
    let texts: Option<Vec<&str>> = ids.iter().map(|id| id.as_str()).collect();
    match (numbers, texts) {
        (Some(numbers), _) => Ok(Arc::new(Int64Array::from(numbers))),
        (_, Some(texts)) => Ok(Arc::new(StringArray::from(texts))),
        _ => Err("ids are whole numbers, or texts, for all rows alike".into()),
    }
}

/// A number as JSON; what is not finite is a word.
fn number(value: &f64) -> Value {
    if value.is_finite() { json!(value) } else { json!(value.to_string()) }
}

/// The rows of a request, all of one width.
struct Rows<'a> {
    rows: Vec<&'a [Value]>,
    width: usize,
    /// It was a single row, not a list of one.
    single: bool,
}

impl<'a> Rows<'a> {
    fn of(features: Option<&'a Value>) -> Result<Self, String> {
        let Some(Value::Array(list)) = features else { return Err("`features` is missing, or no list".into()) };
        let single = !list.iter().any(Value::is_array);
        let row = |(row, value): (usize, &'a Value)| match value {
            Value::Array(values) => Ok(&values[..]),
            other => Err(format!("row {row} is {other}, not a list")),
        };
        let rows =
            if single { vec![&list[..]] } else { list.iter().enumerate().map(row).collect::<Result<Vec<_>, _>>()? };
        let width = rows.first().map_or(0, |row| row.len());
        match rows.iter().position(|row| row.len() != width) {
            Some(other) => Err(format!("row {other} has {} features, row 0 has {width}", rows[other].len())),
            None => Ok(Self { rows, width, single }),
        }
    }

    /// Every feature of every row, read.
    fn each<T>(&self, read: impl Fn(&'a Value) -> Result<T, String>) -> Result<Vec<Vec<T>>, String> {
        let of_row = |(row, values): (usize, &&'a [Value])| {
            let one = |(place, value): (usize, &'a Value)| {
                read(value).map_err(|wrong| format!("feature {place} of row {row} is {value}, {wrong}"))
            };
            values.iter().enumerate().map(one).collect()
        };
        self.rows.iter().enumerate().map(of_row).collect()
    }

    fn table(&self, read: impl Fn(&'a Value) -> Result<f64, String>) -> Result<Array2<f64>, String> {
        let values = self.each(read)?.into_iter().flatten().collect();
        Array2::from_shape_vec((self.rows.len(), self.width), values).map_err(|error| error.to_string())
    }

    /// Numbers; what is missing is not a number.
    fn numbers(&self) -> Result<Array2<f64>, String> {
        self.table(|value| if value.is_null() { Ok(f64::NAN) } else { finite(value) })
    }

    /// Numbers, of which none is missing.
    fn no_gaps(&self) -> Result<Array2<f64>, String> {
        self.table(finite)
    }
}

fn finite(value: &Value) -> Result<f64, String> {
    match value.as_f64() {
        Some(number) => Ok(number),
        None if value.is_null() => Err("which only transformers take".into()),
        None => Err("not a number".into()),
    }
}

/// A category; none where it is missing.
fn text(value: &Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Bool(flag) => Ok(Some(flag.to_string())),
        Value::Number(number) if !number.is_f64() => Ok(Some(number.to_string())),
        _ => Err("which is no category: use text or whole numbers".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model of this definition, with this state.
    fn model(spec: Value, state: Value) -> Model {
        let document = json!({
            "format": "tidemill-model", "version": 1, "spec": spec, "state": state,
            "counters": { "batches": 2, "rows": 8 },
        });
        Model::from_json(&document).unwrap()
    }

    fn says(model: &Model, body: Value) -> Value {
        Value::Object(answer(model, body.to_string().as_bytes()).unwrap())
    }

    fn refuses(model: &Model, body: Value) -> String {
        answer(model, body.to_string().as_bytes()).unwrap_err()
    }

    fn line() -> Model {
        let state = json!({ "linear_regression": { "weights": [2.0, 1.0], "intercept": 0.5, "updates": 1 } });
        model(json!({ "kind": "linear_regression", "fit_intercept": true }), state)
    }

    fn scaler(kind: &str) -> Model {
        let seen = json!({ "counts": [4.0], "means": [2.0], "squares": [16.0], "least": [0.0], "most": [4.0] });
        model(json!({ "kind": kind }), json!({ kind: seen }))
    }

    fn colours() -> Model {
        let categories = json!({ "one_hot": { "categories": [["red", "7"], ["large"]] } });
        model(json!({ "kind": "one_hot", "max_categories": 2 }), categories)
    }

    fn bandit(kind: &str, context: usize, arms: Value) -> Model {
        model(json!({ "kind": kind, "arms": ["short", "long"] }), json!({ kind: { "context": context, "arms": arms } }))
    }

    #[test]
    fn predictions() {
        assert_eq!(says(&line(), json!({ "features": [1, 2] })), json!({ "prediction": 4.5 }));
        let two = says(&line(), json!({ "features": [[1, 2], [0, 0]] }));
        assert_eq!(two, json!({ "prediction": [4.5, 0.5] }));
        assert_eq!(says(&line(), json!({ "features": [[1, 2]] })), json!({ "prediction": [4.5] }));
        let spec = json!({ "kind": "logistic_regression" });
        let state = json!({ "logistic_regression": { "weights": [0.0], "intercept": 0.0, "updates": 1 } });
        let said = says(&model(spec, state), json!({ "features": [3] }));
        assert_eq!(said, json!({ "prediction": 0.0, "probabilities": [0.5, 0.5] }));
        let spec = json!({ "kind": "kmeans", "k": 2 });
        let state = json!({ "kmeans": { "centers": [[0.0], [10.0]], "weights": [1.0, 1.0] } });
        let said = says(&model(spec, state), json!({ "features": [[1], [9.5]] }));
        assert_eq!(said, json!({ "prediction": [0.0, 1.0], "distance": [1.0, 0.5] }));
    }

    #[test]
    fn prepared_features() {
        let of = |kind| says(&scaler(kind), json!({ "features": [[4.0], [null]] }));
        assert_eq!(of("standard_scaler"), json!({ "transformed": [[1.0], [null]] }));
        assert_eq!(of("min_max_scaler"), json!({ "transformed": [[1.0], [null]] }));
        assert_eq!(of("imputer"), json!({ "transformed": [[4.0], [2.0]] }));
        let said = says(&colours(), json!({ "features": [["red", "large"], [7, null], ["blue", "large"]] }));
        let expected = json!([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]);
        assert_eq!(said, json!({ "transformed": expected }));
        let said = says(&colours(), json!({ "features": ["red", "small"] }));
        assert_eq!(said, json!({ "transformed": [1.0, 0.0, 0.0, 0.0] }));
    }

    #[test]
    fn arms_by_id_and_context() {
        let paid = json!([[4.0, 0.1, 0.0], [4.0, 0.9, 0.0]]);
        for kind in ["epsilon_greedy", "ucb1", "thompson_sampling"] {
            let bandit = bandit(kind, 0, paid.clone());
            let ids: Vec<i64> = (0..50).collect();
            let all = says(&bandit, json!({ "id": ids }));
            let arms = all["arm"].as_array().unwrap();
            assert!(arms.iter().filter(|arm| *arm == "long").count() > 25, "{kind}: {all}");
            let one = |id: i64| says(&bandit, json!({ "id": id }))["arm"].clone();
            assert!((0..50).all(|id| one(id) == arms[id as usize]), "{kind}");
            assert_eq!(says(&bandit, json!({ "id": "a" })), says(&bandit, json!({ "id": "a" })));
        }
        // The first arm pays where the second feature is 1, the second one where it is 0.
        let arms =
            json!([[4.0, 0.5, 0.0, 2.0, 2.0, 4.0, 2.0, 2.0, 2.0], [4.0, 0.5, 0.0, 2.0, 0.0, 4.0, 2.0, 2.0, 2.0]]);
        let linear = bandit("lin_ucb", 2, arms);
        let said = says(&linear, json!({ "id": [1, 2], "features": [[1, 1], [1, 0]] }));
        assert_eq!(said, json!({ "arm": ["short", "long"] }));
        assert_eq!(says(&linear, json!({ "id": 1, "features": [1, 0] })), json!({ "arm": "long" }));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let shapes = "expected {\"features\": [1.0, 2.0]} or {\"features\": [[1.0, 2.0], [3.0, 4.0]]}";
        let said = refuses(&line(), json!({ "features": [[1, 2], [3]] }));
        assert_eq!(said, format!("row 1 has 1 features, row 0 has 2; {shapes}"));
        let said = refuses(&line(), json!({ "features": [1] }));
        assert_eq!(said, format!("the model has 2 features, the rows have 1; {shapes}"));
        let of_line = |features| refuses(&line(), json!({ "features": features }));
        assert!(of_line(json!([1, "red"])).starts_with("feature 1 of row 0 is \"red\", not a number;"));
        assert!(of_line(json!([[1, 2], [1, null]])).starts_with("feature 1 of row 1 is null, which only transformers"));
        assert!(of_line(json!([[1, 2], 3])).starts_with("row 1 is 3, not a list;"));
        assert!(refuses(&line(), json!({ "id": 1, "features": [1, 2] })).contains("looks at no id"));
        assert!(refuses(&line(), json!({ "feature": [1, 2] })).starts_with("the body does not read: unknown field"));
        assert!(refuses(&scaler("imputer"), json!({ "features": [1, 2] })).contains("the model has 1 features"));
        assert!(refuses(&colours(), json!({ "features": ["red"] })).contains("the rows have 1"));
        assert!(refuses(&colours(), json!({ "features": ["red", 1.5] })).contains("which is no category"));
        let bandit = bandit("ucb1", 0, json!([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]));
        let said = refuses(&bandit, json!({ "features": [1] }));
        assert!(said.ends_with("chooses for a row's id; expected {\"id\": 17} or {\"id\": [\"a\", \"b\"]}"), "{said}");
        assert!(refuses(&bandit, json!({ "id": 1, "features": [1] })).contains("looks at no features"));
        assert!(refuses(&bandit, json!({ "id": [1, "a"] })).contains("ids are whole numbers, or texts"));
    }
}
