//! `[model.NAME]` and the operators that learn, evaluate, test and watch: what they are, and reading them.

use super::draft::Draft;
use super::keys::{self, Key};
use super::stream::read_columns;
use super::{Name, NamedSql, Operator, Span, Sql};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tidemill_common::definition::{Reader, Table, Value, optional};
use tidemill_common::diag::Diagnostic;
use tidemill_common::location::Location;
use toml::de::DeValue;

/// A parameter of a model, a detector and the like, as written. What it may be depends on the kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Param {
    /// Its name.
    pub name: Name,
    /// Its value.
    pub value: serde_json::Value,
    /// Where the value stands.
    pub span: Span,
}

/// Published versions of a model that are kept, unless it says otherwise.
pub const DEFAULT_KEEP: u32 = 10;

/// A model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelDef {
    /// Its name.
    pub name: Name,
    /// Its family.
    pub kind: Name,
    /// Everything else: parameters of the family.
    pub params: Vec<Param>,
    /// An exported model to begin with: a JSON file, relative to the job file.
    pub initial: Option<Name>,
    /// Published versions that the driver keeps. Default 10.
    pub keep: u32,
    /// Where it is saved, if it is.
    pub save: Option<SaveModel>,
}

/// Files that a model is saved in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SaveModel {
    /// The directory, relative to the job file.
    pub path: Name,
    /// Whenever the model has learnt so many batches more. Default 1.
    pub every: u64,
}

impl SaveModel {
    /// The directory that the files are in, which nothing else may have.
    pub fn root(&self, base_dir: &Path) -> Location {
        Location::resolve(base_dir, &self.path.text)
    }
}

/// `trainOn`.
#[derive(Debug, Clone, PartialEq)]
pub struct Train {
    /// The model that learns.
    pub model: Name,
    /// Feature columns: numbers, or one vector; text for categories. None for a bandit that looks at nothing.
    pub features: Vec<Name>,
    /// The arm that was chosen, for bandits.
    pub arm: Option<Sql>,
    /// The label, for models that learn from labels; the reward, for bandits.
    pub label: Option<Sql>,
    /// How much a row counts. Default 1.
    pub weight: Option<Sql>,
    /// What watches the model's errors, and what happens when they rise.
    pub drift: Option<OnDrift>,
}

/// A detector of the errors of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct OnDrift {
    /// Which detector.
    pub detector: Name,
    /// What happens. Default: it is reported.
    pub action: DriftAction,
    /// Parameters of the detector.
    pub params: Vec<Param>,
}

/// What happens to a model when its errors rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DriftAction {
    /// It is reported.
    #[default]
    Warn,
    /// The model begins anew.
    Reset,
    /// A model that has begun in the background takes its place.
    Replace,
}

/// Prequential evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluate {
    /// The prediction.
    pub prediction: Sql,
    /// What was true; clusters have no label.
    pub label: Option<Sql>,
    /// Probability of the class, for log loss and AUC; for clusters the distance to the second nearest centre.
    pub score: Option<Sql>,
    /// How much a row counts. Default 1.
    pub weight: Option<Sql>,
    /// One evaluation for each value of these columns. Default: one for all.
    pub key: Vec<Name>,
    /// Parameters of the evaluation: task, metrics, window, fading.
    pub params: Vec<Param>,
}

/// `StreamingTest`.
#[derive(Debug, Clone, PartialEq)]
pub struct AbTest {
    /// True for rows of the experiment, false for those of the control.
    pub experiment: Sql,
    /// What is compared.
    pub value: Sql,
    /// One test for each value of these columns. Default: one for all.
    pub key: Vec<Name>,
    /// Parameters of the test: method, peace period, window.
    pub params: Vec<Param>,
}

/// A champion, replaced only by a model that a test finds better.
#[derive(Debug, Clone, PartialEq)]
pub struct Choose {
    /// The loss of each model; the first model is the champion at the beginning.
    pub losses: Vec<NamedSql>,
    /// One champion for each value of these columns. Default: one for all.
    pub key: Vec<Name>,
    /// A model's name under which the champion answers and is published; the losses then have the names of models.
    pub publish: Option<Name>,
    /// Parameters of the test: window, patience, significance, margin.
    pub params: Vec<Param>,
}

/// Change detection.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectDrift {
    /// What is watched.
    pub value: Sql,
    /// Which detector.
    pub detector: Name,
    /// One detector for each value of these columns. Default: one for all.
    pub key: Vec<Name>,
    /// Parameters of the detector.
    pub params: Vec<Param>,
}

/// Reads a model: its family, and parameters that are checked against it when the job is compiled.
pub(super) fn read_model<'t>(r: &mut Reader<'t>, table: &Table<'t>, name: &Name) -> Draft<ModelDef> {
    r.check_open(table, keys::MODEL);
    let kind = table.get("kind").and_then(|v| r.text(v));
    let initial = table.get("initial").map(|v| r.text(v));
    let keep = match table.get("keep") {
        Some(value) => r.small_count(value, keys::KEEP),
        None => Some(DEFAULT_KEEP),
    };
    let save = table.get("save").map(|v| read_save(r, v));
    let params = read_params(r, table, keys::MODEL);
    let read = || {
        let (kind, initial, keep, save, params) = (kind?, optional(initial)?, keep?, optional(save)?, params?);
        Some(ModelDef { name: name.clone(), kind, params, initial, keep, save })
    };
    Draft { name: Some(name.clone()), from: Vec::new(), def: read() }
}

fn read_save<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<SaveModel> {
    let table = r.table(value, "`save`", value.span(), &[keys::SAVE])?;
    let path = table.get("path").and_then(|v| r.location(v, "a directory"));
    let every = match table.get("every") {
        Some(value) => r.count(value, keys::POSITIVE),
        None => Some(1),
    };
    Some(SaveModel { path: path?, every: every? })
}

/// `train`
pub(super) fn read_train<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Operator> {
    let table = r.table(value, "`train`", value.span(), &[keys::TRAIN])?;
    let model = table.get("model").and_then(|v| r.name(v));
    let features = table.get("features").map(|v| r.columns(v));
    let arm = table.get("arm").map(|v| r.sql(v));
    let label = table.get("label").map(|v| r.sql(v));
    let weight = table.get("weight").map(|v| r.sql(v));
    let drift = table.get("drift").map(|v| read_on_drift(r, v));
    let train = Train {
        model: model?,
        features: optional(features)?.unwrap_or_default(),
        arm: optional(arm)?,
        label: optional(label)?,
        weight: optional(weight)?,
        drift: optional(drift)?,
    };
    Some(Operator::Train(Box::new(train)))
}

/// `drift` of `train`
fn read_on_drift<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<OnDrift> {
    let table = open_table(r, value, "`drift`", keys::ON_DRIFT)?;
    let detector = table.get("detector").and_then(|v| r.text(v));
    let action = table.get("action").map(|v| r.choice(v, keys::DRIFT_ACTION));
    let params = read_params(r, &table, keys::ON_DRIFT);
    Some(OnDrift { detector: detector?, action: optional(action)?.unwrap_or_default(), params: params? })
}

/// `evaluate`
pub(super) fn read_evaluate<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Operator> {
    let table = open_table(r, value, "`evaluate`", keys::EVALUATE)?;
    let prediction = table.get("prediction").and_then(|v| r.sql(v));
    let label = table.get("label").map(|v| r.sql(v));
    let score = table.get("score").map(|v| r.sql(v));
    let weight = table.get("weight").map(|v| r.sql(v));
    let key = read_key(r, &table);
    let params = read_params(r, &table, keys::EVALUATE);
    let evaluate = Evaluate {
        prediction: prediction?,
        label: optional(label)?,
        score: optional(score)?,
        weight: optional(weight)?,
        key: key?,
        params: params?,
    };
    Some(Operator::Evaluate(Box::new(evaluate)))
}

/// `ab_test`
pub(super) fn read_ab_test<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Operator> {
    let table = open_table(r, value, "`ab_test`", keys::AB_TEST)?;
    let experiment = table.get("experiment").and_then(|v| r.sql(v));
    let compared = table.get("value").and_then(|v| r.sql(v));
    let key = read_key(r, &table);
    let params = read_params(r, &table, keys::AB_TEST);
    let test = AbTest { experiment: experiment?, value: compared?, key: key?, params: params? };
    Some(Operator::AbTest(Box::new(test)))
}

/// `choose`
pub(super) fn read_choose<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Operator> {
    let table = open_table(r, value, "`choose`", keys::CHOOSE)?;
    let losses = table.get("losses").and_then(|v| read_columns(r, v));
    let key = read_key(r, &table);
    let publish = table.get("publish").map(|v| r.name(v));
    let params = read_params(r, &table, keys::CHOOSE);
    let choose = Choose { losses: losses?, key: key?, publish: optional(publish)?, params: params? };
    if let Some(name) = choose.publish.as_ref().filter(|_| !choose.key.is_empty()) {
        let wrong = Diagnostic::new("`publish` goes without `key`: one champion is published");
        r.push(wrong.at(name.span.clone()));
        return None;
    }
    Some(Operator::Choose(Box::new(choose)))
}

/// `detect_drift`
pub(super) fn read_detect_drift<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Operator> {
    let table = open_table(r, value, "`detect_drift`", keys::DETECT_DRIFT)?;
    let watched = table.get("value").and_then(|v| r.sql(v));
    let detector = table.get("detector").and_then(|v| r.text(v));
    let key = read_key(r, &table);
    let params = read_params(r, &table, keys::DETECT_DRIFT);
    let detect = DetectDrift { value: watched?, detector: detector?, key: key?, params: params? };
    Some(Operator::DetectDrift(Box::new(detect)))
}

/// A table of `own` keys, and of others that are checked against a kind later.
fn open_table<'t>(r: &mut Reader<'t>, value: &'t Value<'t>, title: &str, own: &'static [Key]) -> Option<Table<'t>> {
    let table = r.any_table(value, title, value.span())?;
    r.check_open(&table, own);
    Some(table)
}

fn read_key<'t>(r: &mut Reader<'t>, table: &Table<'t>) -> Option<Vec<Name>> {
    match table.get("key") {
        Some(value) => r.columns(value),
        None => Some(Vec::new()),
    }
}

/// The entries of a table beside its `own` keys.
fn read_params<'t>(r: &mut Reader<'t>, table: &Table<'t>, own: &'static [Key]) -> Option<Vec<Param>> {
    let others = table.others(own);
    let params: Vec<_> = others
        .into_iter()
        .map(|(name, value)| Some(Param { name, value: json(r, value)?, span: value.span() }))
        .collect();
    params.into_iter().collect()
}

/// The value as JSON, which has no dates.
fn json(r: &mut Reader<'_>, value: &Value<'_>) -> Option<serde_json::Value> {
    use serde_json::Value as Json;
    let wrong = |r: &mut Reader<'_>, what: &str| {
        r.push(Diagnostic::new(what).at(value.span()));
        None
    };
    match value.get_ref() {
        DeValue::String(text) => Some(Json::String(text.to_string())),
        DeValue::Boolean(flag) => Some(Json::Bool(*flag)),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Some(Json::from(number)),
            Err(_) => wrong(r, "this number is too large"),
        },
        DeValue::Float(float) => match float.as_str().parse::<f64>().ok().and_then(serde_json::Number::from_f64) {
            Some(number) => Some(Json::Number(number)),
            None => wrong(r, "a parameter is a finite number"),
        },
        DeValue::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| json(r, item)).collect();
            Some(Json::Array(items.into_iter().collect::<Option<_>>()?))
        }
        DeValue::Table(entries) => {
            let entries: Vec<_> =
                entries.iter().map(|(name, value)| Some((name.get_ref().to_string(), json(r, value)?))).collect();
            Some(Json::Object(entries.into_iter().collect::<Option<_>>()?))
        }
        DeValue::Datetime(_) => wrong(r, "expected a parameter, found a date or time"),
    }
}
