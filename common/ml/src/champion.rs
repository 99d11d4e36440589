//! The best of several models, replaced only by one that a test finds better.
//!
//! All models are judged on the same rows, so the test is a paired one: on the difference of two models' losses of a row. That sees far
//! smaller differences than a test of two independent groups.

use crate::{
    envelope::{self, Envelope},
    error::{DecodeError, ModelError, SpecError, at_least_one, number},
    stats::{Moments, paired_p_value},
};
use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Parameters of the choice of a champion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChampionSpec {
    /// Number of models. The first is the champion at the beginning.
    pub models: u32,
    /// How many batches back the losses count. Default 10.
    #[serde(default = "ten")]
    pub window: u32,
    /// No change before so many batches since the last one (or the start). Default: the window.
    #[serde(default)]
    pub patience: Option<u32>,
    /// A challenger has to be better with a p-value (one-sided, paired t-test) below this, divided by the number of challengers, at a
    /// look. Default 0.05.
    #[serde(default = "five_percent")]
    pub significance: f64,
    /// And its mean loss has to be lower by this share of the champion's. Default 0.
    #[serde(default)]
    pub margin: f64,
}

fn ten() -> u32 {
    10
}
fn five_percent() -> f64 {
    0.05
}

impl ChampionSpec {
    /// The defaults, for so many models.
    pub fn new(models: u32) -> ChampionSpec {
        ChampionSpec { models, window: ten(), patience: None, significance: five_percent(), margin: 0.0 }
    }

    /// Whether the parameters can be.
    pub fn validate(&self) -> Result<(), SpecError> {
        at_least_one("models", self.models.into())?;
        if self.models > 64 {
            let problem = format!("is {}", self.models);
            return Err(SpecError::new("models", problem, "use at most 64: each is compared with each"));
        }
        at_least_one("window", self.window.into())?;
        number("significance", self.significance, |p| 0.0 < p && p < 1.0, "use a chance between 0 and 1")?;
        number("margin", self.margin, |m| (0.0..1.0).contains(&m), "use a share from 0 to below 1")
    }
}

/// A batch's losses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Losses {
    /// Of every model, the rows on which it is finite.
    models: Vec<Moments>,
    /// Rows on which it is not.
    lost: Vec<u64>,
    /// `loss of i - loss of j` for `j < i`, in the order (1, 0), (2, 0), (2, 1), ...
    pairs: Vec<Moments>,
}

impl Losses {
    fn new(models: usize) -> Losses {
        let pairs = vec![Moments::default(); models * models.saturating_sub(1) / 2];
        Losses { models: vec![Moments::default(); models], lost: vec![0; models], pairs }
    }

    fn add(&mut self, losses: ndarray::ArrayView1<'_, f64>) {
        let mut pair = 0;
        for (i, &loss) in losses.iter().enumerate() {
            if loss.is_finite() {
                self.models[i].add(loss, 1.0)
            } else {
                self.lost[i] += 1
            }
            for &other in losses.iter().take(i) {
                let difference = loss - other;
                if difference.is_finite() {
                    self.pairs[pair].add(difference, 1.0);
                }
                pair += 1;
            }
        }
    }

    fn merge(&mut self, other: &Losses) {
        self.models.iter_mut().zip(&other.models).for_each(|(a, b)| a.merge(b));
        self.pairs.iter_mut().zip(&other.pairs).for_each(|(a, b)| a.merge(b));
        self.lost.iter_mut().zip(&other.lost).for_each(|(a, b)| *a += b);
    }

    /// `loss of a - loss of b`.
    fn difference(&self, a: usize, b: usize) -> Moments {
        let (high, low) = (a.max(b), a.min(b));
        let pair = self.pairs[high * (high - 1) / 2 + low];
        if a > b { pair } else { Moments { mean: -pair.mean, ..pair } }
    }

    /// A model that gave a loss on every row it was asked about.
    fn sound(&self, model: usize) -> bool {
        self.lost[model] == 0 && self.models[model].n > 0.0
    }
}

/// The champion as of some batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Champion {
    spec: ChampionSpec,
    state: ChampionState,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ChampionState {
    champion: usize,
    /// Batches since the last change.
    reign: u64,
    /// Of the batches in the window, oldest first.
    batches: VecDeque<Losses>,
}

/// A change of champion.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Who it was.
    pub from: usize,
    /// Who it is.
    pub to: usize,
    /// One-sided p-value of the paired test; None if the old champion had losses that are not finite.
    pub p_value: Option<f64>,
}

const CHAMPION: Envelope = Envelope { letters: *b"TMch", what: "champion", version: 1 };

impl Champion {
    /// Model 0 is the champion.
    pub fn new(spec: ChampionSpec) -> Result<Champion, SpecError> {
        spec.validate()?;
        Ok(Champion { spec, state: ChampionState { champion: 0, reign: 0, batches: VecDeque::new() } })
    }

    /// Number of the champion.
    pub fn champion(&self) -> usize {
        self.state.champion
    }

    /// Mean loss of every model over the window: not a number if one of its losses is not finite, None if it has none.
    pub fn losses(&self) -> Vec<Option<f64>> {
        let losses = self.window();
        let mean = |(of_model, lost): (&Moments, &u64)| match lost {
            0 => (of_model.n > 0.0).then_some(of_model.mean),
            _ => Some(f64::NAN),
        };
        losses.models.iter().zip(&losses.lost).map(mean).collect()
    }

    fn window(&self) -> Losses {
        let mut losses = Losses::new(self.spec.models as usize);
        self.state.batches.iter().for_each(|batch| losses.merge(batch));
        losses
    }

    /// One batch: the losses of every row (rows x models), its splits in order. Gives the change it leads to.
    ///
    /// A champion with a loss that is not finite is replaced at once by the best that has none; such a challenger never wins.
    pub fn update(&mut self, splits: &[ArrayView2<'_, f64>]) -> Result<Option<Change>, ModelError> {
        let expected = self.spec.models as usize;
        if let Some(found) = splits.iter().map(|split| split.ncols()).find(|found| *found != expected) {
            return Err(ModelError::Dimension { expected, found });
        }
        let mut batch = Losses::new(expected);
        for split in splits {
            let mut losses = Losses::new(expected);
            split.rows().into_iter().for_each(|row| losses.add(row));
            batch.merge(&losses);
        }
        self.state.batches.push_back(batch);
        while self.state.batches.len() > self.spec.window as usize {
            self.state.batches.pop_front();
        }
        self.state.reign += 1;
        let change = self.decide();
        if let Some(change) = &change {
            self.state.champion = change.to;
            self.state.reign = 0;
        }
        Ok(change)
    }

    fn decide(&self) -> Option<Change> {
        let (losses, from) = (self.window(), self.state.champion);
        let failed = losses.lost[from] > 0;
        let patience = self.spec.patience.unwrap_or(self.spec.window);
        if !failed && self.state.reign < u64::from(patience) {
            return None;
        }
        let level = self.spec.significance / f64::from(self.spec.models.saturating_sub(1).max(1));
        let challengers = (0..losses.models.len()).filter(|model| *model != from && losses.sound(*model));
        let better = challengers.filter_map(|to| {
            if failed {
                return Some(Change { from, to, p_value: None });
            }
            let gain = losses.difference(from, to);
            let p = paired_p_value(&gain)?;
            let enough = gain.mean > self.spec.margin * losses.models[from].mean.abs();
            (enough && p < level).then_some(Change { from, to, p_value: Some(p) })
        });
        better.min_by(|a, b| losses.models[a.to].mean.total_cmp(&losses.models[b.to].mean))
    }

    /// The state, exactly.
    pub fn to_bytes(&self) -> Vec<u8> {
        CHAMPION.seal(&(envelope::spec_text(&self.spec), &self.state))
    }

    /// The state that [`Champion::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Champion, DecodeError> {
        let (spec, state): (String, ChampionState) = CHAMPION.open(bytes)?;
        let spec: ChampionSpec = envelope::read_spec(&spec)?;
        spec.validate()?;
        let models = spec.models as usize;
        let empty = Losses::new(models);
        let fits = |batch: &Losses| {
            [batch.models.len(), batch.lost.len(), batch.pairs.len()] == [models, models, empty.pairs.len()]
        };
        if state.champion >= models || !state.batches.iter().all(fits) {
            return Err(DecodeError::Content("the losses do not fit the definition".to_owned()));
        }
        Ok(Champion { spec, state })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;
    use ndarray::Array2;

    /// 30 rows; the models' losses are the same noise (the row is hard or easy) plus their own level and a little of their own.
    fn batch(seed: u64, levels: [f64; 3]) -> Array2<f64> {
        let mut numbers = Stream::new(seed);
        let hard: Vec<f64> = (0..30).map(|_| 5.0 + numbers.normal()).collect();
        Array2::from_shape_fn((30, 3), |(i, j)| hard[i] + levels[j] + 0.2 * numbers.normal())
    }

    fn changes(levels: [f64; 3], batches: u64) -> (Champion, Vec<(u64, Change)>) {
        let mut champion = Champion::new(ChampionSpec { window: 5, ..ChampionSpec::new(3) }).unwrap();
        let mut changes = Vec::new();
        for i in 0..batches {
            let losses = batch(i, levels);
            let split = [losses.slice(ndarray::s![..10, ..]), losses.slice(ndarray::s![10.., ..])];
            changes.extend(champion.update(&split).unwrap().map(|change| (i, change)));
        }
        (champion, changes)
    }

    #[test]
    fn a_better_model_wins_once_the_window_is_full_though_the_rows_differ_more_than_the_models() {
        let (champion, changes) = changes([0.1, 0.2, 0.0], 30);
        assert_eq!((champion.champion(), changes.len(), changes[0].0, changes[0].1.to), (2, 1, 4, 2));
        assert!(champion.losses()[2] < champion.losses()[0]);
        assert_eq!(Champion::from_bytes(&champion.to_bytes()).unwrap(), champion);
    }

    #[test]
    fn equal_models_hardly_ever_change_places() {
        let (_, changes) = changes([0.0; 3], 100);
        assert!(changes.len() <= 6, "{changes:?}");
    }

    #[test]
    fn a_margin_asks_for_more_than_significance() {
        let spec = ChampionSpec { window: 5, margin: 0.1, ..ChampionSpec::new(3) };
        let mut champion = Champion::new(spec).unwrap();
        for i in 0..20 {
            assert_eq!(champion.update(&[batch(i, [0.1, 0.2, 0.0]).view()]).unwrap(), None);
        }
    }

    #[test]
    fn a_champion_that_diverges_goes_at_once_and_a_diverged_challenger_never_wins() {
        let mut champion = Champion::new(ChampionSpec::new(3)).unwrap();
        let mut losses = batch(1, [1.0, 0.5, 0.0]);
        losses[(3, 2)] = f64::INFINITY;
        assert_eq!(champion.update(&[losses.view()]).unwrap(), None);
        losses[(7, 0)] = f64::NAN;
        let change = champion.update(&[losses.view()]).unwrap();
        assert_eq!(change, Some(Change { from: 0, to: 1, p_value: None }));
        let losses_shown = champion.losses().into_iter().map(|loss| loss.is_some_and(f64::is_finite));
        assert!(losses_shown.eq([false, true, false]), "{:?}", champion.losses());
        assert_eq!(
            champion.update(&[losses.slice(ndarray::s![.., ..2])]),
            Err(ModelError::Dimension { expected: 3, found: 2 })
        );
    }
}
