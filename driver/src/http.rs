//! The driver's HTTP face: published models, predictions by them, and metrics.
//!
//! | request | answer |
//! |---|---|
//! | `GET /models` | a summary of the newest version of every model |
//! | `GET /models/NAME` | the model as JSON, as `tidemill model export` writes it |
//! | `PUT /models/NAME` | takes the place of the model of a running job, as `tidemill model import` |
//! | `POST /models/NAME/predict` | what the model [says](predict) of `{"features": [..]}`, or `{"id": ..}` for a bandit |
//! | `GET /metrics` | the metrics of this process, for Prometheus |
//!
//! `?job=` tells models of the same name apart, `?version=` asks for an older version, by batch or name.

pub(crate) mod predict;

use crate::ask::{Loop, Stopping};
use crate::core::{NewModel, RequestError};
use crate::gauges;
use crate::models::{Found, NoModel, Published};
use crate::shell::Input;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
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
        .route("/metrics", get(metrics))
        .route("/models", get(list))
        .route("/models/{name}", get(show).put(import))
        .route("/models/{name}/predict", post(ask))
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES))
        .with_state(face);
    if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await {
        tracing::error!(%error, "the HTTP server failed");
    }
}

async fn metrics(State(face): State<Face>) -> Result<impl IntoResponse, Wrong> {
    gauges::set(&face.driver.ask(|answer| Input::Status { job: String::new(), answer }).await?);
    // Counters of workers are in the same program, and stand still here.
    let page = tidemill_metrics::page(|module| !module.starts_with("tidemill_worker"));
    Ok(([(header::CONTENT_TYPE, tidemill_metrics::CONTENT_TYPE)], page))
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

async fn ask(
    State(face): State<Face>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    body: axum::body::Bytes,
) -> Result<Json<Value>, Wrong> {
    let which = Which::read(query.as_deref())?;
    let found = which.find(&face.published, &name)?;
    let model = found.version.model()?;
    let answer = predict::answer(&model, &body).map_err(Wrong::Request)?;
    let mut reply = json!({ "job": found.job, "model": found.name, "batch": found.version.batch.0 });
    for (name, values) in answer {
        reply[name] = values;
    }
    Ok(Json(reply))
}
