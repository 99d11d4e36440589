//! A model that watches its own errors, and what it does when they rise.
//!
//! Every row is predicted before it is learnt; its error goes to a detector, row after row. When a batch is learnt it is decided what to
//! do, so a batch is one step as of any model, and everything is one value: model, detector, and a model in the background.
//!
//! The background model is that of adaptive random forests (Gomes et al., Adaptive random forests for evolving data stream
//! classification, 2017), for one model in place of many trees: it begins at the warning and takes the place of the model at the drift.
//! Where a detector knows no warning the detection is the warning, and the drift is confirmed once the background model is the better
//! one, by a paired test on the rows that both were asked about.

use crate::{
    classes::class_of,
    drift::{Detector, DetectorSpec, Drift},
    envelope::Envelope,
    error::{DecodeError, ModelError, SpecError},
    model::Model,
    report::{Health, Trained},
    rows::{Rows, Table},
    spec::ModelSpec,
    stats::{Moments, paired_p_value},
};
use serde::{Deserialize, Serialize};

/// What a model does when its errors rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftAction {
    /// It says so.
    Warn,
    /// It begins anew, with the batch in which they rose.
    Reset,
    /// Another one begins in the background, and takes its place when the rise is confirmed.
    Replace,
}

/// What was done after a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acted {
    /// The model has begun anew.
    Reset,
    /// A model in the background has begun.
    Background,
    /// The model in the background has taken the model's place.
    Replaced,
    /// The model in the background was given up: it is worse, or the warning has passed.
    Kept,
}

impl Acted {
    /// As in a report.
    pub fn name(self) -> &'static str {
        match self {
            Acted::Reset => "reset",
            Acted::Background => "background",
            Acted::Replaced => "replaced",
            Acted::Kept => "kept",
        }
    }
}

/// What a batch has done, and what was seen.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchedBatch {
    /// What it has done to the model, before the action.
    pub trained: Trained,
    /// Of every row in order: what was predicted before it was learnt (distance to the nearest centre, of a clustering), and what the
    /// detector said of its error.
    pub rows: Vec<(f64, Drift)>,
    /// What was done.
    pub acted: Option<Acted>,
}

impl WatchedBatch {
    /// The worst that the detector said.
    pub fn drift(&self) -> Drift {
        self.rows.iter().map(|(_, drift)| *drift).max().unwrap_or(Drift::None)
    }
}

/// A model with its detector.
#[derive(Debug, Clone, PartialEq)]
pub struct Watched {
    action: DriftAction,
    model: Model,
    detector: Detector,
    background: Option<Background>,
}

/// A model that may take the place of another.
#[derive(Debug, Clone, PartialEq)]
struct Background {
    model: Model,
    /// By how much its errors were smaller, on rows that both had not learnt yet.
    gains: Moments,
}

/// Chance of a confirmed drift, at every look, if both models are equally good; and of giving up likewise.
const LEVEL: f64 = 0.05;
/// Rows that both models have to be asked about before they are compared.
const ENOUGH: f64 = 30.0;

const WATCHED: Envelope = Envelope { letters: *b"TMwm", what: "watched model", version: 1 };

#[derive(Serialize, Deserialize)]
struct Stored {
    action: DriftAction,
    model: Vec<u8>,
    detector: Vec<u8>,
    background: Option<(Vec<u8>, Moments)>,
}

impl DetectorSpec {
    /// Whether it can watch the errors of a model: those of a classifier are 0 or 1, which some need.
    pub fn watches(&self, model: &ModelSpec) -> Result<(), SpecError> {
        if model.classes().is_some() || !self.warns() {
            return Ok(());
        }
        let problem = format!("is {}, which looks at errors of 0 or 1; a {} has others", self.kind(), model.kind());
        Err(SpecError::new("detector", problem, "use adwin, page_hinkley or kswin"))
    }
}

impl Watched {
    /// A model whose errors are watched from now on.
    pub fn new(model: Model, detector: DetectorSpec, action: DriftAction) -> Result<Watched, SpecError> {
        detector.watches(model.spec())?;
        Ok(Watched { action, model, detector: Detector::new(detector)?, background: None })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Learns one batch, looks at the errors it had before, and acts.
    pub fn train(&mut self, splits: &[Rows<'_>]) -> Result<WatchedBatch, ModelError> {
        // What has not learnt anything yet is wrong, but not because something has changed.
        let watch = self.model.dimension().is_some();
        let (predictions, trained) = predicted_and_learnt(&mut self.model, splits)?;
        let errors = errors(self.model.spec(), splits, &predictions);
        let drift = errors.iter().map(|error| if watch { rises(&mut self.detector, *error) } else { Drift::None });
        let rows: Vec<(f64, Drift)> = predictions.into_iter().zip(drift).collect();
        if let Some(background) = &mut self.background {
            background.follow(splits, &errors)?;
        }
        let mut batch = WatchedBatch { trained, rows, acted: None };
        // Nothing was seen in a batch without rows: no warning, and no passing of one.
        if !batch.rows.is_empty() || self.model.health() != Health::Healthy {
            batch.acted = self.act(splits, batch.drift())?;
        }
        Ok(batch)
    }

    fn act(&mut self, splits: &[Rows<'_>], drift: Drift) -> Result<Option<Acted>, ModelError> {
        let failed = self.model.health() != Health::Healthy;
        let acted = match (self.action, &self.background) {
            (DriftAction::Warn, _) => None,
            (DriftAction::Reset, _) => (failed || drift == Drift::Detected).then_some(Acted::Reset),
            (DriftAction::Replace, Some(background)) => self.judged(background, drift, failed),
            (DriftAction::Replace, None) => match drift {
                _ if failed => Some(Acted::Reset),
                Drift::Detected if self.detector.spec().warns() => Some(Acted::Reset),
                Drift::None => None,
                _ => Some(Acted::Background),
            },
        };
        match acted {
            Some(Acted::Background) => self.background = Some(Background::begin(&self.model, splits)?),
            Some(Acted::Kept) => self.background = None,
            Some(Acted::Reset) => {
                let begun = Background::begin(&self.model, splits)?;
                self.put(begun.model);
            }
            Some(Acted::Replaced) => {
                if let Some(background) = self.background.take() {
                    self.put(background.model);
                }
            }
            None => {}
        }
        Ok(acted)
    }

    /// What becomes of a model in the background.
    fn judged(&self, background: &Background, drift: Drift, failed: bool) -> Option<Acted> {
        if background.model.health() != Health::Healthy {
            return Some(if failed { Acted::Reset } else { Acted::Kept });
        }
        if failed {
            return Some(Acted::Replaced);
        }
        if self.detector.spec().warns() {
            return match drift {
                // A false alarm.
                Drift::None => Some(Acted::Kept),
                Drift::Warning => None,
                Drift::Detected => Some(Acted::Replaced),
            };
        }
        let better = paired_p_value(&background.gains).filter(|_| background.gains.n >= ENOUGH)?;
        if better < LEVEL {
            return Some(Acted::Replaced);
        }
        (better > 1.0 - LEVEL).then_some(Acted::Kept)
    }

    /// Another model in place of this one, with errors of its own.
    fn put(&mut self, model: Model) {
        self.model = model;
        self.detector = self.detector.anew();
        self.background = None;
    }

    /// Everything, exactly.
    pub fn to_bytes(&self) -> Vec<u8> {
        WATCHED.seal(&Stored {
            action: self.action,
            model: self.model.to_bytes(),
            detector: self.detector.to_bytes(),
            background: self.background.as_ref().map(|it| (it.model.to_bytes(), it.gains)),
        })
    }

    /// What [`Watched::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Watched, DecodeError> {
        let stored: Stored = WATCHED.open(bytes)?;
        let background = match stored.background {
            Some((model, gains)) => Some(Background { model: Model::from_bytes(&model)?, gains }),
            None => None,
        };
        Ok(Watched {
            action: stored.action,
            model: Model::from_bytes(&stored.model)?,
            detector: Detector::from_bytes(&stored.detector)?,
            background,
        })
    }

    /// The bytes of the model alone ([`Model::to_bytes`]), of what [`Watched::to_bytes`] wrote.
    pub fn model_bytes(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let stored: Stored = WATCHED.open(bytes)?;
        Ok(stored.model)
    }
}

impl Background {
    /// A model of the same definition that has learnt this batch and nothing else.
    fn begin(of: &Model, splits: &[Rows<'_>]) -> Result<Background, ModelError> {
        let mut model = of.anew();
        model.train(splits)?;
        Ok(Background { model, gains: Moments::default() })
    }

    /// Learns a batch; `errors` are those of the model in front.
    fn follow(&mut self, splits: &[Rows<'_>], errors: &[f64]) -> Result<(), ModelError> {
        let (predictions, _) = predicted_and_learnt(&mut self.model, splits)?;
        for (front, own) in errors.iter().zip(self::errors(self.model.spec(), splits, &predictions)) {
            let gain = front - own;
            if gain.is_finite() {
                self.gains.add(gain, 1.0);
            }
        }
        Ok(())
    }
}

/// Predicts all rows, each before it is learnt, and learns them.
fn predicted_and_learnt(model: &mut Model, splits: &[Rows<'_>]) -> Result<(Vec<f64>, Trained), ModelError> {
    if model.spec().per_record() {
        return model.train_records(splits);
    }
    let mut predictions = Vec::new();
    for split in splits {
        predictions.extend(match model.spec() {
            spec if spec.clusters() => model.distance(split.x)?,
            spec if !spec.predicts() => vec![f64::NAN; split.x.nrows()].into(),
            _ => model.predict(split.x)?,
        });
    }
    Ok((predictions, model.train(splits)?))
}

/// Of every row: 0 or 1 for a classifier, the distance between prediction and label else (of a clustering: to the nearest centre). Not a
/// number for rows that are not learnt, which detectors pass over.
fn errors(spec: &ModelSpec, splits: &[Rows<'_>], predictions: &[f64]) -> Vec<f64> {
    let tables: Vec<Table<'_>> = splits.iter().map(Table::new).collect();
    let rows = tables.iter().flat_map(Table::rows).zip(predictions);
    rows.map(|(row, prediction)| match spec.classes() {
        _ if !row.counts() => f64::NAN,
        Some(classes) if class_of(row.y, classes).is_none() => f64::NAN,
        Some(_) => f64::from(u8::from(*prediction != row.y)),
        None if spec.supervised() => (prediction - row.y).abs(),
        None => *prediction,
    })
    .collect()
}

/// What the detector says of an error: detectors also find errors that fall, which is no reason to act.
fn rises(detector: &mut Detector, error: f64) -> Drift {
    let before = detector.estimate();
    let drift = detector.update(error);
    let now = detector.estimate().unwrap_or(error);
    if drift == Drift::Detected && before.is_some_and(|before| now <= before) { Drift::None } else { drift }
}
