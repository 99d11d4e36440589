//! Choosing among arms (models, prices, pages) while learning which is best.
//!
//! The choices of a batch are made with what was learnt before it, and a choice is a function of the model, its seed, the numbers of
//! batches and rows that it has learnt from, and the row's id: rows may be spread over any number of machines.
//!
//! As a model: the first feature of a row is the place of the arm that was chosen, the others are the context it was chosen in; the
//! label is its reward.

mod policy;
#[cfg(test)]
mod tests;

use crate::{
    cholesky::Cholesky,
    error::SpecError,
    exact,
    family::{Answers, Family, Fixed, Learns, OnePass, Sums},
    kernel,
    partial::Partial,
    random::{Stream, keyed},
    report::{Counters, Learned, LearnedKind, Shape, Trained},
    rows::{Row, Table},
    stats::Moments,
};
use ndarray::ArrayView2;
pub use policy::Policy;
use policy::Shared;
pub use policy::{EpsilonGreedySpec, LinUcbSpec, Rewards, ThompsonSamplingSpec, Ucb1Spec};
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;

/// The best arm so far, sometimes any.
pub type EpsilonGreedy = Arms<EpsilonGreedySpec>;

/// The arm that may be best.
pub type Ucb1 = Arms<Ucb1Spec>;

/// Every arm as often as it is likely to be best.
pub type ThompsonSampling = Arms<ThompsonSamplingSpec>;

/// The arm that may be best in the row's context.
pub type LinUcb = Arms<LinUcbSpec>;

/// What is known of every arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "", deny_unknown_fields)]
pub struct Arms<P> {
    /// Numbers in a context; 0 without.
    context: usize,
    /// Per arm: weight, mean and sum of squared deviations of its rewards; then, with a context `x`, the sum of `reward x` and, by rows,
    /// that of `x x'`.
    #[serde(with = "exact::lists")]
    arms: Vec<Vec<f64>>,
    #[serde(skip)]
    policy: PhantomData<P>,
}

/// Numbers of an arm's rewards.
const MOMENTS: usize = 3;

fn rewards(arm: &[f64]) -> Moments {
    Moments { n: arm[0], mean: arm[1], m2: arm[2] }
}

fn set_rewards(arm: &mut [f64], Moments { n, mean, m2 }: Moments) {
    arm[..MOMENTS].copy_from_slice(&[n, mean, m2]);
}

/// Adds a reward.
fn add(arm: &mut [f64], reward: f64, weight: f64, x: &[f64]) {
    let mut moments = rewards(arm);
    moments.add(reward, weight);
    set_rewards(arm, moments);
    let (b, a) = arm[MOMENTS..].split_at_mut(x.len());
    kernel::add_scaled(b, weight * reward, x);
    for (row, factor) in a.chunks_mut(x.len().max(1)).zip(x) {
        kernel::add_scaled(row, weight * factor, x);
    }
}

/// Adds the rewards of another.
fn merge(arm: &mut [f64], other: &[f64]) {
    let mut moments = rewards(arm);
    moments.merge(&rewards(other));
    set_rewards(arm, moments);
    kernel::add_scaled(&mut arm[MOMENTS..], 1.0, &other[MOMENTS..]);
}

fn fade(arm: &mut [f64], factor: f64) {
    let mut moments = rewards(arm);
    moments.fade(factor);
    set_rewards(arm, moments);
    arm[MOMENTS..].iter_mut().for_each(|value| *value *= factor);
}

/// What a policy looks at of an arm.
pub struct Known {
    pub(crate) rewards: Moments,
    /// The factor of `A = ridge I + sum x x'`, and `A^-1 sum reward x`.
    pub(crate) line: Option<(Cholesky, Vec<f64>)>,
}

impl<P: Policy> Arms<P> {
    fn known(&self, policy: &P) -> Vec<Known> {
        let line = |arm: &[f64], ridge: f64| {
            let (b, sums) = arm[MOMENTS..].split_at(self.context);
            let mut a: Vec<Vec<f64>> = sums.chunks(self.context.max(1)).map(<[f64]>::to_vec).collect();
            a.iter_mut().enumerate().for_each(|(i, row)| row[i] += ridge);
            let factor = Cholesky::of(&a);
            let theta = factor.solve(b);
            (factor, theta)
        };
        let of_arm =
            |arm: &Vec<f64>| Known { rewards: rewards(arm), line: policy.ridge().map(|ridge| line(arm, ridge)) };
        self.arms.iter().map(of_arm).collect()
    }

    /// The arm that a row is about, if it is one to learn.
    fn takes(&self, policy: &P, row: &Row<'_>) -> Option<usize> {
        let (&arm, x) = row.x.split_first()?;
        let is_arm = arm >= 0.0 && libm::trunc(arm) == arm && arm < self.arms.len() as f64;
        (is_arm && row.counts() && policy.takes(row.y) && kernel::all_finite(x)).then_some(arm as usize)
    }
}

impl<P: Policy> Family for Arms<P> {
    type Spec = P;
    const NAME: &'static str = P::NAME;
    const SHAPE: Shape = &[
        ("counts", LearnedKind::List),
        ("shares", LearnedKind::List),
        ("means", LearnedKind::List),
        ("regret", LearnedKind::Number),
    ];

    const SUMS: Option<Sums<Self>> = Some(Sums::of());

    fn validate(policy: &P) -> Result<(), SpecError> {
        policy.validate()
    }

    fn answers(policy: &P) -> Answers<'_> {
        Answers::Arm { arms: policy.shared().arms, contextual: policy.ridge().is_some() }
    }

    fn learns(_: &P, _: usize) -> Learns {
        Learns::FromSums
    }

    fn new(policy: &P, dimension: usize) -> Self {
        let context = if policy.ridge().is_some() { dimension.saturating_sub(1) } else { 0 };
        let arm = vec![0.0; MOMENTS + context + context * context];
        Arms { context, arms: vec![arm; policy.shared().arms.len()], policy: PhantomData }
    }

    /// Without a context a row is about its arm and nothing else.
    fn fixed(policy: &P) -> Option<Fixed> {
        policy.ridge().is_none().then_some(Fixed { parameter: "arms", features: 1 })
    }

    fn features(&self) -> usize {
        self.context.saturating_add(1)
    }

    fn finite(&self) -> bool {
        self.arms.iter().all(|arm| kernel::all_finite(arm))
    }

    fn consistent(&self, policy: &P) -> bool {
        // A context is as wide as its arms say; any number may stand there.
        let numbers = MOMENTS.saturating_add(self.context).saturating_add(self.context.saturating_mul(self.context));
        self.arms.len() == policy.shared().arms.len() && self.arms.iter().all(|arm| arm.len() == numbers)
    }

    fn choose(&self, policy: &P, seen: &Counters, ids: &[u64], context: &ArrayView2<'_, f64>) -> Option<Vec<usize>> {
        let known = self.known(policy);
        let turns = policy.turns(&known, seen.rows as f64 / seen.batches.max(1) as f64);
        let key = keyed(policy.shared().seed, seen.batches);
        let choose = |(row, id): (usize, &u64)| {
            let mut numbers = Stream::new(keyed(key, *id));
            match turns.len() {
                0 => policy.choose(&known, &context.row(row).to_vec(), &mut numbers),
                count => turns[policy::any(count, &mut numbers)],
            }
        };
        Some(ids.iter().enumerate().map(choose).collect())
    }

    /// Shares are those of the rewards' weight; the regret is what the arms have given less than the one of the best mean would have.
    fn learned(&self) -> Vec<Learned> {
        let all: Vec<Moments> = self.arms.iter().map(|arm| rewards(arm)).collect();
        let total = all.iter().fold(0.0, |sum, arm| sum + arm.n);
        let tried = || all.iter().filter(|arm| arm.n > 0.0);
        let most = tried().fold(f64::NEG_INFINITY, |most, arm| most.max(arm.mean));
        let regret = tried().fold(0.0, |sum, arm| sum + arm.n * (most - arm.mean));
        let list = |part: &dyn Fn(&Moments) -> f64| Learned::List(all.iter().map(part).collect());
        vec![
            list(&|arm| arm.n),
            list(&|arm| if total > 0.0 { arm.n / total } else { 0.0 }),
            list(&|arm| arm.mean),
            Learned::Number(regret),
        ]
    }

    #[cfg(test)]
    fn definitions() -> Vec<serde_json::Value> {
        let with_arms = |mut more: serde_json::Value| {
            more["arms"] = serde_json::json!(["a", "b", "c"]);
            more
        };
        P::definitions().into_iter().map(with_arms).collect()
    }
}

/// Sums are what the rows alone say of the arms. The loss of a row is its reward, negated.
impl<P: Policy> OnePass for Arms<P> {
    fn nothing(&self, policy: &P) -> Partial {
        let dimension = self.features();
        Partial { lists: Arms::new(policy, dimension).arms, ..Partial::zeros(dimension, []) }
    }

    fn gather(&self, policy: &P, split: &Table<'_>, sums: &mut Partial) {
        for row in split.rows() {
            let Some(arm) = self.takes(policy, &row) else {
                sums.skipped += 1;
                continue;
            };
            add(&mut sums.lists[arm], row.y, row.weight, &row.x[1..]);
            sums.rows += 1;
            sums.weight += row.weight;
            sums.loss -= row.weight * row.y;
        }
    }

    fn merge(sums: &mut Partial, next: &Partial) {
        sums.add_counts(next);
        sums.lists.iter_mut().zip(&next.lists).for_each(|(arm, next)| merge(arm, next));
    }

    fn learn(&mut self, policy: &P, sums: &Partial) -> Trained {
        let Shared { decay, .. } = policy.shared();
        for (arm, batch) in self.arms.iter_mut().zip(&sums.lists) {
            fade(arm, decay);
            merge(arm, batch);
        }
        sums.trained_once(0.0)
    }
}
