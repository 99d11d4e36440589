//! Choosing among arms (models, actions) while learning which is best.
//!
//! The choices of a batch are made with what was learnt before it, so a choice is a function of the state, the seed, the batch and the
//! row's place in it: rows may be spread over any number of machines.

use crate::{
    cholesky::Cholesky,
    codec::{self, Envelope},
    error::{DecodeError, ModelError, SpecError, at_least_one, number},
    kernel,
    random::{self, Stream},
    stats::Moments,
};
use ndarray::{ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

/// Parameters of a choice among arms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BanditSpec {
    /// Number of arms.
    pub arms: u32,
    /// How to choose.
    pub policy: Policy,
    /// Key of all random choices. Default 0.
    #[serde(default)]
    pub seed: u64,
    /// What earlier rewards count for after a batch, above 0 and at most 1. Default 1: nothing is forgotten.
    #[serde(default = "one")]
    pub decay: f64,
}

fn one() -> f64 {
    1.0
}
fn tenth() -> f64 {
    0.1
}
fn root_two() -> f64 {
    std::f64::consts::SQRT_2
}

/// How to choose.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Policy {
    /// The best mean, but with chance `epsilon` any arm (Sutton and Barto, Reinforcement learning, 2018, 2.2).
    EpsilonGreedy {
        /// Default 0.1.
        #[serde(default = "tenth")]
        epsilon: f64,
    },
    /// The best `mean + exploration * sqrt(ln N / n)` (Auer, Cesa-Bianchi, Fischer, Finite-time analysis of the multiarmed bandit problem,
    /// 2002, for rewards from 0 to 1).
    Ucb1 {
        /// Default sqrt(2), as in the paper.
        #[serde(default = "root_two")]
        exploration: f64,
    },
    /// The best of draws from the posterior Beta(alpha + rewards, beta + n - rewards), for rewards from 0 to 1 (Thompson, On the
    /// likelihood that one unknown probability exceeds another, 1933).
    ThompsonBeta {
        /// Default 1.
        #[serde(default = "one")]
        alpha: f64,
        /// Default 1.
        #[serde(default = "one")]
        beta: f64,
    },
    /// The best of draws from the posterior of the mean of normal rewards of unknown variance (normal-gamma prior: mean 0 worth one
    /// reward, shape and rate 1).
    ThompsonGaussian,
    /// The best `theta . x + alpha sqrt(x' A^-1 x)`, one ridge regression per arm on the context `x` (Li et al., A contextual-bandit
    /// approach to personalized news article recommendation, 2010, disjoint arms).
    LinUcb {
        /// How much uncertainty attracts. Default 1.
        #[serde(default = "one")]
        alpha: f64,
        /// Weight of the ridge. Default 1, as in the paper.
        #[serde(default = "one")]
        ridge: f64,
        /// Number of numbers in a context.
        context: u32,
    },
}

impl BanditSpec {
    /// Whether the parameters can be.
    pub fn validate(&self) -> Result<(), SpecError> {
        at_least_one("arms", self.arms.into())?;
        number("decay", self.decay, |d| 0.0 < d && d <= 1.0, "use a number above 0 and at most 1")?;
        match self.policy {
            Policy::EpsilonGreedy { epsilon } => {
                number("epsilon", epsilon, |e| (0.0..=1.0).contains(&e), "use a chance from 0 to 1")
            }
            Policy::Ucb1 { exploration } => number("exploration", exploration, |c| c >= 0.0, "use 0 or more"),
            Policy::ThompsonBeta { alpha, beta } => {
                number("alpha", alpha, |a| a > 0.0, "use a positive number")?;
                number("beta", beta, |b| b > 0.0, "use a positive number")
            }
            Policy::ThompsonGaussian => Ok(()),
            Policy::LinUcb { alpha, ridge, context } => {
                number("alpha", alpha, |a| a >= 0.0, "use 0 or more")?;
                number("ridge", ridge, |r| r > 0.0, "use a positive number")?;
                at_least_one("context", context.into())
            }
        }
    }

    fn context(&self) -> usize {
        match self.policy {
            Policy::LinUcb { context, .. } => context as usize,
            _ => 0,
        }
    }

    /// Whether a reward is one the policy is made for.
    fn takes(&self, reward: f64) -> bool {
        match self.policy {
            Policy::ThompsonBeta { .. } => (0.0..=1.0).contains(&reward),
            _ => reward.is_finite(),
        }
    }
}

/// One split of a batch of rewards.
#[derive(Debug, Clone, Copy)]
pub struct Rewards<'a> {
    /// Which arm was chosen. What is no arm is skipped.
    pub arm: ArrayView1<'a, f64>,
    /// What it gave. What is not finite, or for Thompson's Beta not from 0 to 1, is skipped.
    pub reward: ArrayView1<'a, f64>,
    /// The context it was chosen in (rows x context), for LinUCB.
    pub context: Option<ArrayView2<'a, f64>>,
}

/// What is known of an arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Arm {
    rewards: Moments,
    /// Sum of `x x'`, by rows; LinUCB only.
    a: Vec<Vec<f64>>,
    /// Sum of `reward * x`.
    b: Vec<f64>,
}

impl Arm {
    fn new(context: usize) -> Arm {
        Arm { rewards: Moments::default(), a: vec![vec![0.0; context]; context], b: vec![0.0; context] }
    }

    fn add(&mut self, reward: f64, x: &[f64]) {
        self.rewards.add(reward, 1.0);
        kernel::add_scaled(&mut self.b, reward, x);
        for (row, factor) in self.a.iter_mut().zip(x) {
            kernel::add_scaled(row, *factor, x);
        }
    }

    fn merge(&mut self, other: &Arm) {
        self.rewards.merge(&other.rewards);
        kernel::add_scaled(&mut self.b, 1.0, &other.b);
        for (row, other) in self.a.iter_mut().zip(&other.a) {
            kernel::add_scaled(row, 1.0, other);
        }
    }

    fn fade(&mut self, factor: f64) {
        self.rewards.fade(factor);
        self.b.iter_mut().chain(self.a.iter_mut().flatten()).for_each(|value| *value *= factor);
    }

    /// What LinUCB needs of it: the factor of `A` and the coefficients.
    fn ridge(&self, ridge: f64) -> (Cholesky, Vec<f64>) {
        let mut a = self.a.clone();
        for (i, row) in a.iter_mut().enumerate() {
            row[i] += ridge;
        }
        let factor = Cholesky::of(&a);
        let theta = factor.solve(&self.b);
        (factor, theta)
    }
}

/// A choice among arms, as of some batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Bandit {
    spec: BanditSpec,
    arms: Vec<Arm>,
}

const BANDIT: Envelope = Envelope { letters: *b"TMba", what: "bandit", version: 1 };

impl Bandit {
    /// Before any reward.
    pub fn new(spec: BanditSpec) -> Result<Bandit, SpecError> {
        spec.validate()?;
        let arms = vec![Arm::new(spec.context()); spec.arms as usize];
        Ok(Bandit { spec, arms })
    }

    /// The arms of `rows` rows of a batch, the first of which has place `first` in it. LinUCB needs the rows' contexts (rows x context).
    ///
    /// An arm without a reward comes before all others (but for Thompson, whose prior sees to it); several take turns by place.
    pub fn choose(
        &self,
        batch: u64,
        first: u64,
        rows: usize,
        context: Option<ArrayView2<'_, f64>>,
    ) -> Result<Vec<usize>, ModelError> {
        self.check(rows, context)?;
        let untried: Vec<usize> = (0..self.arms.len()).filter(|arm| self.arms[*arm].rewards.n == 0.0).collect();
        let ridges: Vec<_> = match self.spec.policy {
            Policy::LinUcb { ridge, .. } => self.arms.iter().map(|arm| arm.ridge(ridge)).collect(),
            _ => Vec::new(),
        };
        let choose = |row: usize| {
            let place = first + row as u64;
            let mut numbers = Stream::new(random::keyed(random::keyed(self.spec.seed, batch), place));
            let turn = |arms: &[usize]| arms[(place % arms.len() as u64) as usize];
            match self.spec.policy {
                Policy::EpsilonGreedy { epsilon } if numbers.unit() < epsilon => {
                    ((numbers.unit() * self.arms.len() as f64) as usize).min(self.arms.len() - 1)
                }
                Policy::EpsilonGreedy { .. } | Policy::Ucb1 { .. } if !untried.is_empty() => turn(&untried),
                Policy::EpsilonGreedy { .. } => best(self.arms.iter().map(|arm| arm.rewards.mean)),
                Policy::Ucb1 { exploration } => best(self.upper_bounds(exploration)),
                Policy::ThompsonBeta { alpha, beta } => best(self.arms.iter().map(|arm| {
                    let won = arm.rewards.n * arm.rewards.mean;
                    numbers.beta(alpha + won.max(0.0), beta + (arm.rewards.n - won).max(0.0))
                })),
                Policy::ThompsonGaussian => best(self.arms.iter().map(|arm| draw_mean(&arm.rewards, &mut numbers))),
                Policy::LinUcb { alpha, .. } => {
                    let x = context.map_or_else(Vec::new, |context| context.row(row).to_vec());
                    best(ridges.iter().map(|(factor, theta)| {
                        let z = factor.half_solve(&x);
                        kernel::dot(theta, &x) + alpha * libm::sqrt(kernel::dot(&z, &z))
                    }))
                }
            }
        };
        Ok((0..rows).map(choose).collect())
    }

    fn upper_bounds(&self, exploration: f64) -> impl Iterator<Item = f64> {
        let total = self.arms.iter().fold(0.0, |sum, arm| sum + arm.rewards.n);
        // Below one reward (all is forgotten) the logarithm would be negative.
        let log = libm::log(total.max(1.0));
        self.arms.iter().map(move |arm| arm.rewards.mean + exploration * libm::sqrt(log / arm.rewards.n))
    }

    /// Learns the rewards of a batch, its splits in order. Gives the rewards learnt and the rewards skipped.
    pub fn learn(&mut self, splits: &[Rewards<'_>]) -> Result<(u64, u64), ModelError> {
        for split in splits {
            let (rows, labels) = (split.reward.len(), split.arm.len());
            if rows != labels {
                return Err(ModelError::Labels { rows, labels });
            }
            self.check(rows, split.context)?;
        }
        let nothing = vec![Arm::new(self.spec.context()); self.arms.len()];
        let (mut batch, mut learnt, mut skipped) = (nothing.clone(), 0, 0);
        for split in splits {
            let mut sums = nothing.clone();
            for (row, (&arm, &reward)) in split.arm.iter().zip(&split.reward).enumerate() {
                let x = split.context.map_or_else(Vec::new, |context| context.row(row).to_vec());
                let is_arm = arm >= 0.0 && libm::trunc(arm) == arm && arm < self.arms.len() as f64;
                if is_arm && self.spec.takes(reward) && kernel::all_finite(&x) {
                    sums[arm as usize].add(reward, &x);
                    learnt += 1;
                } else {
                    skipped += 1;
                }
            }
            batch.iter_mut().zip(&sums).for_each(|(batch, sums)| batch.merge(sums));
        }
        for (arm, batch) in self.arms.iter_mut().zip(&batch) {
            arm.fade(self.spec.decay);
            arm.merge(batch);
        }
        Ok((learnt, skipped))
    }

    fn check(&self, rows: usize, context: Option<ArrayView2<'_, f64>>) -> Result<(), ModelError> {
        let (expected, found) = (self.spec.context(), context.map_or(0, |context| context.ncols()));
        if expected != found && rows > 0 {
            return Err(ModelError::Dimension { expected, found });
        }
        match context.map(|context| context.nrows()).filter(|contexts| *contexts != rows) {
            Some(contexts) => Err(ModelError::Contexts { rows, contexts }),
            None => Ok(()),
        }
    }

    /// Rewards (weight after forgetting, mean, spread) of every arm.
    pub fn rewards(&self) -> Vec<Moments> {
        self.arms.iter().map(|arm| arm.rewards).collect()
    }

    /// The state, exactly.
    pub fn to_bytes(&self) -> Vec<u8> {
        BANDIT.seal(&(codec::spec_text(&self.spec), &self.arms))
    }

    /// The state that [`Bandit::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Bandit, DecodeError> {
        let (spec, arms): (String, Vec<Arm>) = BANDIT.open(bytes)?;
        let spec: BanditSpec = codec::read_spec(&spec)?;
        spec.validate()?;
        let width = spec.context();
        let fits =
            |arm: &Arm| arm.b.len() == width && arm.a.len() == width && arm.a.iter().all(|row| row.len() == width);
        if arms.len() != spec.arms as usize || !arms.iter().all(fits) {
            return Err(DecodeError::Content("the arms do not fit the definition".to_owned()));
        }
        Ok(Bandit { spec, arms })
    }
}

/// The first of the largest; what is not a number is never best.
fn best(values: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (index, value) in values.enumerate() {
        if value > best.1 {
            best = (index, value);
        }
    }
    best.0
}

/// A draw from the posterior of the mean (Murphy, Conjugate Bayesian analysis of the Gaussian distribution, 2007, section 3).
fn draw_mean(rewards: &Moments, numbers: &mut Stream) -> f64 {
    let (n, mean) = (rewards.n, rewards.mean);
    let worth = 1.0 + n;
    let rate = 1.0 + rewards.m2 / 2.0 + n * mean * mean / (2.0 * worth);
    let precision = numbers.gamma(1.0 + n / 2.0) / rate;
    n * mean / worth + numbers.normal() / libm::sqrt(precision * worth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, Array2};

    fn policies() -> Vec<Policy> {
        vec![
            Policy::EpsilonGreedy { epsilon: 0.1 },
            Policy::Ucb1 { exploration: root_two() },
            Policy::ThompsonBeta { alpha: 1.0, beta: 1.0 },
            Policy::ThompsonGaussian,
            Policy::LinUcb { alpha: 1.0, ridge: 1.0, context: 2 },
        ]
    }

    fn bandit(policy: Policy) -> Bandit {
        Bandit::new(BanditSpec { arms: 3, policy, seed: 5, decay: 1.0 }).unwrap()
    }

    /// Plays `batches` of 20 rows: arm 1 wins in 8 of 10 cases, the others in 3. Gives the share of arm 1 in the last half.
    fn play(bandit: &mut Bandit, batches: u64) -> f64 {
        let (mut good, mut all) = (0.0, 0.0);
        let linear = bandit.spec.context() > 0;
        for batch in 0..batches {
            let contexts = Array2::from_shape_fn((20, 2), |(_, j)| if j == 0 { 1.0 } else { 0.5 });
            let context = linear.then(|| contexts.view());
            let arms = bandit.choose(batch, 0, 20, context).unwrap();
            let mut luck = Stream::new(1000 + batch);
            let won = |arm: &usize| f64::from(u8::from(luck.unit() < if *arm == 1 { 0.8 } else { 0.3 }));
            let reward: Array1<f64> = arms.iter().map(won).collect();
            let arm: Array1<f64> = arms.iter().map(|arm| *arm as f64).collect();
            bandit.learn(&[Rewards { arm: arm.view(), reward: reward.view(), context }]).unwrap();
            if batch >= batches / 2 {
                good += arms.iter().filter(|arm| **arm == 1).count() as f64;
                all += 20.0;
            }
        }
        good / all
    }

    #[test]
    fn every_policy_finds_the_best_arm() {
        for policy in policies() {
            let share = play(&mut bandit(policy), 60);
            assert!(share > 0.85, "{policy:?}: {share}");
        }
    }

    #[test]
    fn a_choice_depends_on_the_place_and_not_on_how_the_rows_are_cut() {
        for policy in policies() {
            let mut bandit = bandit(policy);
            play(&mut bandit, 3);
            let contexts = Array2::from_elem((30, 2), 1.0);
            let part = |from: usize, to: usize| {
                let context = contexts.slice(ndarray::s![from..to, ..]);
                bandit.choose(7, from as u64, to - from, (bandit.spec.context() > 0).then_some(context)).unwrap()
            };
            assert_eq!(part(0, 30), [part(0, 11), part(11, 30)].concat());
            assert_eq!(Bandit::from_bytes(&bandit.to_bytes()).unwrap(), bandit);
        }
    }

    #[test]
    fn contexts_decide_for_linucb() {
        let mut bandit = bandit(Policy::LinUcb { alpha: 0.1, ridge: 1.0, context: 2 });
        let context = Array2::from_shape_fn((60, 2), |(i, j)| f64::from(u8::from(i % 2 == j)));
        let arm = Array1::from_shape_fn(60, |i| (i / 20) as f64);
        // Arm 0 pays in the first context, arm 2 in the second.
        let pays = |i: usize| if i.is_multiple_of(2) { i < 20 } else { i >= 40 };
        let reward = Array1::from_shape_fn(60, |i| f64::from(u8::from(pays(i))));
        let learnt = bandit.learn(&[Rewards { arm: arm.view(), reward: reward.view(), context: Some(context.view()) }]);
        assert_eq!(learnt, Ok((60, 0)));
        let chosen = bandit.choose(1, 0, 2, Some(context.slice(ndarray::s![..2, ..]))).unwrap();
        assert_eq!(chosen, [0, 2]);
    }

    #[test]
    fn what_is_no_reward_is_skipped_and_a_definition_that_cannot_be_is_named() {
        let mut bandit = bandit(Policy::ThompsonBeta { alpha: 1.0, beta: 1.0 });
        let arm = Array1::from_vec(vec![0.0, 3.0, -1.0, 0.5, 1.0, 1.0]);
        let reward = Array1::from_vec(vec![1.0, 1.0, 1.0, 1.0, 2.0, f64::NAN]);
        let rewards = Rewards { arm: arm.view(), reward: reward.view(), context: None };
        assert_eq!(bandit.learn(&[rewards]), Ok((1, 5)));
        let spec = |arms, policy, decay| BanditSpec { arms, policy, seed: 0, decay };
        for (name, spec) in [
            ("arms", spec(0, Policy::ThompsonGaussian, 1.0)),
            ("decay", spec(2, Policy::ThompsonGaussian, 0.0)),
            ("epsilon", spec(2, Policy::EpsilonGreedy { epsilon: 2.0 }, 1.0)),
            ("ridge", spec(2, Policy::LinUcb { alpha: 1.0, ridge: 0.0, context: 1 }, 1.0)),
        ] {
            assert_eq!(spec.validate().unwrap_err().parameter, name);
        }
        let text = r#"{"arms": 2, "policy": {"name": "ucb1"}}"#;
        let read: BanditSpec = serde_json::from_str(text).unwrap();
        assert_eq!(read.policy, Policy::Ucb1 { exploration: root_two() });
    }

    #[test]
    fn forgetting_follows_an_arm_that_turns_bad() {
        let rewards = |bandit: &mut Bandit, paid: [f64; 3]| {
            let arm = Array1::from_vec(vec![0.0, 1.0, 2.0]);
            let reward = Array1::from_vec(paid.to_vec());
            bandit.learn(&[Rewards { arm: arm.view(), reward: reward.view(), context: None }]).unwrap();
        };
        for (decay, expected) in [(1.0, 0), (0.5, 2)] {
            let policy = Policy::EpsilonGreedy { epsilon: 0.0 };
            let mut bandit = Bandit::new(BanditSpec { arms: 3, policy, seed: 0, decay }).unwrap();
            (0..10).for_each(|_| rewards(&mut bandit, [1.0, 0.0, 0.2]));
            (0..5).for_each(|_| rewards(&mut bandit, [0.0, 0.0, 1.0]));
            assert_eq!(bandit.choose(0, 0, 1, None).unwrap(), [expected], "decay {decay}");
        }
    }
}
