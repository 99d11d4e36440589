//! The driver's HTTP face: published models, and predictions by them.
//!
//! | request | answer |
//! |---|---|
//! | `GET /models` | a summary of the newest version of every model |
//! | `GET /models/NAME` | the model as JSON, as `tidemill model export` writes it |
//! | `PUT /models/NAME` | takes the place of the model of a running job, as `tidemill model import` |
//! | `POST /models/NAME/predict` | `{"features": [..]}` or `{"features": [[..], ..]}` to predictions, or to what a transformer makes of them |
//!
//! `?job=` tells models of the same name apart, `?version=` asks for an older version, by batch or name.

use crate::ask::{Loop, Stopping};
use crate::core::{NewModel, RequestError};
use crate::models::{Found, NoModel, Published};
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tidemill_ml::Model;
use tidemill_ml::ndarray::{Array2, ArrayView1, ArrayView2};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Longest request body, in bytes.
const BODY_BYTES: usize = 16 << 20;

/// Which model is meant.
#[derive(Debug, Default, PartialEq, Eq)]
struct Which {
    job: Option<String>,
    version: Option<String>,
}

impl Which {
    /// Names of jobs and versions need no decoding.
    fn read(query: Option<&str>) -> Result<Self, Wrong> {
        let mut which = Self::default();
        for part in query.unwrap_or("").split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("job", job)) => which.job = Some(job.to_string()),
                Some(("version", version)) => which.version = Some(version.to_string()),
                _ => {
                    let wrong = format!("`{part}` is unknown here; expected job=NAME or version=BATCH|LABEL");
                    return Err(Wrong::Request(wrong));
                }
            }
        }
        Ok(which)
    }

    fn find(&self, published: &Published, name: &str) -> Result<Found, NoModel> {
        published.find(self.job.as_deref(), name, self.version.as_deref())
    }
}

/// What requests are answered from.
#[derive(Debug, Clone)]
pub(crate) struct Face {
    pub(crate) published: Published,
    pub(crate) driver: Loop,
}

/// What can be wrong with a request.
#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error(transparent)]
    NoModel(#[from] NoModel),
    #[error("{0}")]
    Request(String),
    #[error(transparent)]
    Refused(#[from] RequestError),
    #[error(transparent)]
    Stopping(#[from] Stopping),
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        let code = match &self {
            Self::NoModel(NoModel::Ambiguous { .. }) | Self::Refused(RequestError::ModelOfSeveral { .. }) => {
                StatusCode::CONFLICT
            }
            Self::Refused(RequestError::NoSuchJob(_) | RequestError::NoSuchModel { .. }) => StatusCode::NOT_FOUND,
            Self::Refused(_) => StatusCode::BAD_REQUEST,
            Self::Stopping(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoModel(NoModel::Unreadable(_)) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NoModel(_) => StatusCode::NOT_FOUND,
            Self::Request(_) => StatusCode::BAD_REQUEST,
        };
        (code, Json(json!({ "error": self.to_string() }))).into_response()
    }
}

/// Serves until `stop`.
pub(crate) async fn serve(listener: TcpListener, face: Face, stop: CancellationToken) {
    let routes = Router::new()
        .route("/models", get(list))
        .route("/models/{name}", get(show).put(import))
        .route("/models/{name}/predict", post(predict))
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES))
        .with_state(face);
    if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await {
        tracing::error!(%error, "the HTTP server failed");
    }
}

async fn list(State(face): State<Face>, RawQuery(query): RawQuery) -> Result<Json<Value>, Wrong> {
    let which = Which::read(query.as_deref())?;
    let models: Vec<Value> = face.published.list(which.job.as_deref()).iter().map(Found::summary).collect();
    Ok(Json(json!({ "models": models })))
}

async fn show(
    State(face): State<Face>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Wrong> {
    let which = Which::read(query.as_deref())?;
    Ok(Json(which.find(&face.published, &name)?.version.model()?.to_json()))
}

async fn import(
    State(face): State<Face>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    document: String,
) -> Result<Json<Value>, Wrong> {
    let Which { job, version } = Which::read(query.as_deref())?;
    if version.is_some() {
        return Err(Wrong::Request("an imported model is the newest: leave `version` out".into()));
    }
    let new = NewModel { job: job.unwrap_or_default(), model: name.clone(), document };
    let imported = face.driver.import(new).await??;
    Ok(Json(json!({ "job": imported.name, "model": name, "batch": imported.frozen + 1 })))
}

async fn predict(
    State(face): State<Face>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    body: axum::body::Bytes,
) -> Result<Json<Value>, Wrong> {
    let which = Which::read(query.as_deref())?;
    let found = which.find(&face.published, &name)?;
    let (x, single) = features(&body)?;
    let model = found.version.model()?;
    if x.iter().any(|value| value.is_nan()) && !model.spec().transforms() {
        return Err(Wrong::Request("a feature is null, which only transformers take".into()));
    }
    let answer = answer(&model, x.view()).map_err(|error| Wrong::Request(error.to_string()))?;
    let mut reply = json!({ "job": found.job, "model": found.name, "batch": found.version.batch.0 });
    for (name, mut values) in answer {
        reply[name] = if single { values.pop().unwrap_or(Value::Null) } else { Value::Array(values) };
    }
    Ok(Json(reply))
}

/// What a model says of rows: predictions, and probabilities or distances where it has them.
fn answer(model: &Model, x: ArrayView2<'_, f64>) -> Result<Vec<(&'static str, Vec<Value>)>, tidemill_ml::ModelError> {
    let number = |value: &f64| match value.is_finite() {
        true => json!(value),
        false => json!(value.to_string()),
    };
    if model.spec().transforms() {
        let rows = model.transform(x)?;
        let list = |row: ArrayView1<'_, f64>| {
            row.iter().map(|value| if value.is_nan() { Value::Null } else { number(value) }).collect()
        };
        return Ok(vec![("transformed", rows.rows().into_iter().map(list).collect())]);
    }
    let predictions = model.predict(x)?.iter().map(number).collect();
    let mut answer = vec![("prediction", predictions)];
    if model.spec().classes().is_some() {
        let rows = model.predict_proba(x)?;
        answer.push(("probabilities", rows.rows().into_iter().map(|row| row.iter().map(number).collect()).collect()));
    }
    if model.spec().clusters() {
        answer.push(("distance", model.distance(x)?.iter().map(number).collect()));
    }
    Ok(answer)
}

/// The rows of a request, and whether it was a single one.
fn features(body: &[u8]) -> Result<(Array2<f64>, bool), Wrong> {
    const EXPECTED: &str = "expected {\"features\": [1.0, 2.0]} or {\"features\": [[1.0, 2.0], [3.0, 4.0]]}";
    let wrong = |what: String| Wrong::Request(format!("{what}; {EXPECTED}"));
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Features {
        One(Vec<Option<f64>>),
        Many(Vec<Vec<Option<f64>>>),
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        features: Features,
    }
    let body: Body = serde_json::from_slice(body).map_err(|error| wrong(format!("the body does not read: {error}")))?;
    let (rows, single) = match body.features {
        Features::One(row) => (vec![row], true),
        Features::Many(rows) => (rows, false),
    };
    let width = rows.first().map_or(0, Vec::len);
    if let Some(other) = rows.iter().position(|row| row.len() != width) {
        let found = rows[other].len();
        return Err(wrong(format!("row {other} has {found} features, row 0 has {width}")));
    }
    let count = rows.len();
    let x = Array2::from_shape_vec(
        (count, width),
        rows.into_iter().flatten().map(|value| value.unwrap_or(f64::NAN)).collect(),
    );
    Ok((x.map_err(|error| wrong(error.to_string()))?, single))
}
