//! How to choose: the parameters of every policy, and its rule.

use super::Known;
use crate::{
    error::{SpecError, number},
    kernel,
    parameters::{Parameters, parameters, words},
    random::Stream,
    stats::Moments,
};
use serde::{Deserialize, Serialize};

parameters! {
    /// The best mean, but with chance `epsilon` any arm (Sutton and Barto, Reinforcement learning, 2018, 2.2).
    pub struct EpsilonGreedySpec {
        /// Names of the arms.
        pub arms: Vec<String> = Vec::new(),
        /// Chance of any arm instead of the best. Default 0.1.
        pub epsilon: f64 = 0.1,
        /// Key of all random choices. Default 0.
        pub seed: u64 = 0,
        /// What earlier rewards count for after a batch, above 0 and at most 1. Default 1: nothing is forgotten.
        pub decay: f64 = 1.0,
    }
}

parameters! {
    /// The best `mean + exploration * sqrt(ln N / n)` (Auer, Cesa-Bianchi, Fischer, Finite-time analysis of the multiarmed bandit problem,
    /// 2002, for rewards from 0 to 1).
    pub struct Ucb1Spec {
        /// Names of the arms.
        pub arms: Vec<String> = Vec::new(),
        /// How much uncertainty attracts. Default sqrt(2), as in the paper.
        pub exploration: f64 = std::f64::consts::SQRT_2,
        /// Key of the choices among arms that have no reward yet. Default 0.
        pub seed: u64 = 0,
        /// What earlier rewards count for after a batch, above 0 and at most 1. Default 1: nothing is forgotten.
        pub decay: f64 = 1.0,
    }
}

parameters! {
    /// The best of draws from the posterior of every arm's mean (Thompson, On the likelihood that one unknown probability exceeds another,
    /// 1933; Chapelle and Li, An empirical evaluation of Thompson sampling, 2011).
    pub struct ThompsonSamplingSpec {
        /// Names of the arms.
        pub arms: Vec<String> = Vec::new(),
        /// What rewards are like. Default `unit`.
        pub rewards: Rewards = Rewards::Unit,
        /// For `unit`: wins of an arm before any reward. Default 1.
        pub alpha: f64 = 1.0,
        /// For `unit`: losses of an arm before any reward. Default 1.
        pub beta: f64 = 1.0,
        /// Key of all random choices. Default 0.
        pub seed: u64 = 0,
        /// What earlier rewards count for after a batch, above 0 and at most 1. Default 1: nothing is forgotten.
        pub decay: f64 = 1.0,
    }
}

/// What rewards are like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rewards {
    /// From 0 to 1; the posterior is Beta(alpha + rewards, beta + n - rewards).
    #[default]
    Unit,
    /// Any number, normal of unknown variance (normal-gamma prior: mean 0 worth one reward, shape and rate 1).
    Normal,
}

words!(Rewards: Unit, Normal);

parameters! {
    /// The best `theta . x + alpha sqrt(x' A^-1 x)`, one ridge regression per arm on the context `x` (Li et al., A contextual-bandit
    /// approach to personalized news article recommendation, 2010, disjoint arms).
    pub struct LinUcbSpec {
        /// Names of the arms.
        pub arms: Vec<String> = Vec::new(),
        /// How much uncertainty attracts. Default 1.
        pub alpha: f64 = 1.0,
        /// Weight of the ridge. Default 1, as in the paper.
        pub ridge: f64 = 1.0,
        /// What earlier rewards count for after a batch, above 0 and at most 1. Default 1: nothing is forgotten.
        pub decay: f64 = 1.0,
    }
}

/// The parameters that all policies have.
pub struct Shared<'a> {
    /// Names of the arms.
    pub(crate) arms: &'a [String],
    /// Key of all random choices.
    pub(crate) seed: u64,
    /// What earlier rewards count for after a batch.
    pub(crate) decay: f64,
}

/// How to choose among arms.
pub trait Policy: Parameters {
    /// `kind` in definitions.
    const NAME: &'static str;

    /// What it has in common with the others.
    fn shared(&self) -> Shared<'_>;

    /// Whether the policy's own parameters can be.
    ///
    /// # Errors
    /// See [`SpecError`].
    fn validate_own(&self) -> Result<(), SpecError>;

    /// Weight of the ridge of a policy that looks at the row's context.
    fn ridge(&self) -> Option<f64> {
        None
    }

    /// Whether a reward is one that the policy is made for.
    fn takes(&self, reward: f64) -> bool {
        reward.is_finite()
    }

    /// The arms that about so many rows of a batch share, if the policy would give them all the same one; else none.
    fn turns(&self, _arms: &[Known], _rows: f64) -> Vec<usize> {
        Vec::new()
    }

    /// The arm of a row of context `x`.
    fn choose(&self, arms: &[Known], x: &[f64], numbers: &mut Stream) -> usize;

    /// As [`Family::definitions`](crate::family::Family::definitions), without arms.
    #[cfg(test)]
    fn definitions() -> Vec<serde_json::Value> {
        vec![serde_json::json!({})]
    }

    /// Whether the parameters can be.
    ///
    /// # Errors
    /// See [`SpecError`].
    fn validate(&self) -> Result<(), SpecError> {
        let Shared { arms, decay, .. } = self.shared();
        if arms.is_empty() {
            return Err(SpecError::new("arms", "has none", "name what to choose from: arms = [\"a\", \"b\"]"));
        }
        if let Some(twice) = (1..arms.len()).find(|i| arms[..*i].contains(&arms[*i])) {
            return Err(SpecError::new("arms", format!("has `{}` twice", arms[twice]), "give each arm its own name"));
        }
        number("decay", decay, |d| 0.0 < d && d <= 1.0, "use a number above 0 and at most 1")?;
        self.validate_own()
    }
}

impl Policy for EpsilonGreedySpec {
    const NAME: &'static str = "epsilon_greedy";

    fn shared(&self) -> Shared<'_> {
        Shared { arms: &self.arms, seed: self.seed, decay: self.decay }
    }

    fn validate_own(&self) -> Result<(), SpecError> {
        number("epsilon", self.epsilon, |e| (0.0..=1.0).contains(&e), "use a chance from 0 to 1")
    }

    fn choose(&self, arms: &[Known], _: &[f64], numbers: &mut Stream) -> usize {
        if numbers.unit() < self.epsilon {
            return any(arms.len(), numbers);
        }
        untried(arms, numbers).unwrap_or_else(|| best(arms.iter().map(|arm| arm.rewards.mean)))
    }
}

impl Policy for Ucb1Spec {
    const NAME: &'static str = "ucb1";

    fn shared(&self) -> Shared<'_> {
        Shared { arms: &self.arms, seed: self.seed, decay: self.decay }
    }

    fn validate_own(&self) -> Result<(), SpecError> {
        number("exploration", self.exploration, |c| c >= 0.0, "use 0 or more")
    }

    /// Rewards come after the batch: of each turn the pull is counted at once, and the means stay (Desautels, Krause, Burdick,
    /// Parallelizing exploration-exploitation tradeoffs in Gaussian process bandit optimization, 2014).
    fn turns(&self, arms: &[Known], rows: f64) -> Vec<usize> {
        let mut pulls = pulls(arms);
        if pulls.contains(&0.0) {
            return Vec::new();
        }
        let turns = libm::ceil(rows).clamp(1.0, MOST_TURNS);
        let each = rows.max(1.0) / turns;
        let turn = |_| {
            let arm = self.best(arms, &pulls);
            pulls[arm] += each;
            arm
        };
        (0..turns as usize).map(turn).collect()
    }

    fn choose(&self, arms: &[Known], _: &[f64], numbers: &mut Stream) -> usize {
        untried(arms, numbers).unwrap_or_else(|| self.best(arms, &pulls(arms)))
    }
}

/// Turns that the rows of a batch are given at most; each then stands for several.
const MOST_TURNS: f64 = 1000.0;

/// The weight of each arm's rewards.
fn pulls(arms: &[Known]) -> Vec<f64> {
    arms.iter().map(|arm| arm.rewards.n).collect()
}

impl Ucb1Spec {
    /// The arm of the greatest bound, if each was pulled so often.
    fn best(&self, arms: &[Known], pulls: &[f64]) -> usize {
        let total = pulls.iter().fold(0.0, |sum, pulls| sum + pulls);
        // Below one reward (all is forgotten) the logarithm would be negative.
        let log = libm::log(total.max(1.0));
        best(arms.iter().zip(pulls).map(|(arm, pulls)| arm.rewards.mean + self.exploration * libm::sqrt(log / pulls)))
    }
}

impl Policy for ThompsonSamplingSpec {
    const NAME: &'static str = "thompson_sampling";

    fn shared(&self) -> Shared<'_> {
        Shared { arms: &self.arms, seed: self.seed, decay: self.decay }
    }

    fn validate_own(&self) -> Result<(), SpecError> {
        number("alpha", self.alpha, |a| a > 0.0, "use a positive number")?;
        number("beta", self.beta, |b| b > 0.0, "use a positive number")
    }

    fn takes(&self, reward: f64) -> bool {
        match self.rewards {
            Rewards::Unit => (0.0..=1.0).contains(&reward),
            Rewards::Normal => reward.is_finite(),
        }
    }

    #[cfg(test)]
    fn definitions() -> Vec<serde_json::Value> {
        vec![serde_json::json!({}), serde_json::json!({ "rewards": "normal" })]
    }

    fn choose(&self, arms: &[Known], _: &[f64], numbers: &mut Stream) -> usize {
        best(arms.iter().map(|arm| match self.rewards {
            Rewards::Unit => {
                let won = arm.rewards.n * arm.rewards.mean;
                numbers.beta(self.alpha + won.max(0.0), self.beta + (arm.rewards.n - won).max(0.0))
            }
            Rewards::Normal => draw_mean(&arm.rewards, numbers),
        }))
    }
}

impl Policy for LinUcbSpec {
    const NAME: &'static str = "lin_ucb";

    /// It draws nothing.
    fn shared(&self) -> Shared<'_> {
        Shared { arms: &self.arms, seed: 0, decay: self.decay }
    }

    fn validate_own(&self) -> Result<(), SpecError> {
        number("alpha", self.alpha, |a| a >= 0.0, "use 0 or more")?;
        number("ridge", self.ridge, |r| r > 0.0, "use a positive number")
    }

    fn ridge(&self) -> Option<f64> {
        Some(self.ridge)
    }

    #[cfg(test)]
    fn definitions() -> Vec<serde_json::Value> {
        vec![serde_json::json!({ "decay": 0.9 })]
    }

    fn choose(&self, arms: &[Known], x: &[f64], _: &mut Stream) -> usize {
        best(arms.iter().map(|arm| match &arm.line {
            Some((factor, theta)) => {
                let z = factor.half_solve(x);
                kernel::dot(theta, x) + self.alpha * libm::sqrt(kernel::dot(&z, &z))
            }
            None => f64::NAN,
        }))
    }
}

/// Any of so many.
pub(super) fn any(count: usize, numbers: &mut Stream) -> usize {
    ((numbers.unit() * count as f64) as usize).min(count.saturating_sub(1))
}

/// One of the arms without a reward, if there is one.
fn untried(arms: &[Known], numbers: &mut Stream) -> Option<usize> {
    let untried: Vec<usize> = (0..arms.len()).filter(|arm| arms[*arm].rewards.n == 0.0).collect();
    if untried.is_empty() { None } else { Some(untried[any(untried.len(), numbers)]) }
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
