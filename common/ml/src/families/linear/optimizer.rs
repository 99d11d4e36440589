//! How a gradient moves a weight.

use crate::{
    error::{SpecError, number},
    exact, kernel,
    parameters::Type,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// How a gradient moves a weight. `g` is the gradient, `r` the step after its schedule, `t` the update's number.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum Optimizer {
    /// `w -= r g`
    #[default]
    Sgd,
    /// `s = rho s + r g`, `w -= s` (Polyak, Some methods of speeding up the convergence of iteration methods, 1964).
    Momentum {
        /// Default 0.9.
        #[serde(default = "nine_tenths")]
        rho: f64,
    },
    /// `n += g^2`, `w -= r g / sqrt(n + epsilon)` (Duchi, Hazan, Singer, Adaptive subgradient methods, 2011).
    Adagrad {
        /// Default 1e-8.
        #[serde(default = "tiny")]
        epsilon: f64,
    },
    /// `n = rho n + (1 - rho) g^2`, `w -= r g / sqrt(n + epsilon)` (Tieleman, Hinton, lecture 6.5, 2012).
    Rmsprop {
        /// Default 0.9.
        #[serde(default = "nine_tenths")]
        rho: f64,
        /// Default 1e-8.
        #[serde(default = "tiny")]
        epsilon: f64,
    },
    /// `m = beta_1 m + (1 - beta_1) g`, `n = beta_2 n + (1 - beta_2) g^2`,
    /// `w -= r sqrt(1 - beta_2^t) / (1 - beta_1^t) m / (sqrt(n) + epsilon)` (Kingma, Ba, Adam, 2015).
    Adam {
        /// Default 0.9.
        #[serde(default = "nine_tenths")]
        beta_1: f64,
        /// Default 0.999.
        #[serde(default = "nearly_one")]
        beta_2: f64,
        /// Default 1e-8.
        #[serde(default = "tiny")]
        epsilon: f64,
    },
    /// Follow the regularised leader (McMahan et al., Ad click prediction, 2013, algorithm 1); `r` without a schedule:
    /// `s = (sqrt(n + g^2) - sqrt(n)) / r`, `z += g - s w`, `n += g^2`,
    /// `w = 0` if `|z| <= l1`, else `-(z - sign(z) l1) / ((beta + sqrt(n)) / r + l2)`.
    Ftrl {
        /// Default 1.
        #[serde(default = "one")]
        beta: f64,
        /// Default 0.
        #[serde(default)]
        l1: f64,
        /// Default 0.
        #[serde(default)]
        l2: f64,
    },
}

/// A table for each: its parameters are known from one that has the defaults.
impl Type for Optimizer {
    fn schema() -> Value {
        let table = |name: &str| {
            let with_defaults: Optimizer = serde_json::from_value(json!({ "name": name })).unwrap_or_default();
            let written = serde_json::to_value(with_defaults).unwrap_or_default();
            let parameters = written.as_object().into_iter().flatten().filter(|(parameter, _)| *parameter != "name");
            let mut properties: Map<String, Value> = parameters
                .map(|(parameter, default)| {
                    let about = format!("Default {default}.");
                    (parameter.clone(), json!({ "type": "number", "description": about, "default": default }))
                })
                .collect();
            properties.insert("name".to_owned(), json!({ "description": "The optimizer.", "enum": [name] }));
            json!({ "type": "object", "properties": properties, "required": ["name"], "additionalProperties": false })
        };
        json!({ "oneOf": NAMES.map(table) })
    }
}

/// As a definition names them.
const NAMES: [&str; 6] = ["sgd", "momentum", "adagrad", "rmsprop", "adam", "ftrl"];

fn nine_tenths() -> f64 {
    0.9
}
fn nearly_one() -> f64 {
    0.999
}
fn tiny() -> f64 {
    1e-8
}
fn one() -> f64 {
    1.0
}

impl Optimizer {
    pub(super) fn validate(&self) -> Result<(), SpecError> {
        let share = |name, value| number(name, value, |v| (0.0..1.0).contains(&v), "use a number from 0 to below 1");
        let small = |value| number("epsilon", value, |v| v > 0.0, "use a small positive number");
        match *self {
            Optimizer::Sgd => Ok(()),
            Optimizer::Momentum { rho } => share("rho", rho),
            Optimizer::Adagrad { epsilon } => small(epsilon),
            Optimizer::Rmsprop { rho, epsilon } => share("rho", rho).and(small(epsilon)),
            Optimizer::Adam { beta_1, beta_2, epsilon } => {
                share("beta_1", beta_1).and(share("beta_2", beta_2)).and(small(epsilon))
            }
            Optimizer::Ftrl { beta, l1, l2 } => {
                let positive = |name, value| number(name, value, |v| v >= 0.0, "use 0 or more");
                number("beta", beta, |v| v > 0.0, "use a positive number")
                    .and(positive("l1", l1))
                    .and(positive("l2", l2))
            }
        }
    }

    /// How many numbers it keeps per weight.
    fn slots(&self) -> usize {
        match self {
            Optimizer::Sgd => 0,
            Optimizer::Momentum { .. } | Optimizer::Adagrad { .. } | Optimizer::Rmsprop { .. } => 1,
            Optimizer::Adam { .. } | Optimizer::Ftrl { .. } => 2,
        }
    }
}

/// What an optimizer keeps of past gradients: one or two numbers per weight.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Memory(#[serde(with = "exact::lists")] Vec<Vec<f64>>);

impl Memory {
    pub(super) fn new(optimizer: &Optimizer, weights: usize) -> Memory {
        Memory(vec![vec![0.0; weights]; optimizer.slots()])
    }

    pub(super) fn fits(&self, optimizer: &Optimizer, weights: usize) -> bool {
        self.0.len() == optimizer.slots() && self.0.iter().all(|slot| slot.len() == weights)
    }

    /// Whether all is finite: what is not moves no weight any more, or makes it no number.
    pub(super) fn finite(&self) -> bool {
        self.0.iter().all(|slot| kernel::all_finite(slot))
    }

    /// Weight `i` after gradient `g` with step `rate`, in update `t` of the model.
    pub(super) fn moved(&mut self, optimizer: &Optimizer, i: usize, w: f64, g: f64, rate: f64, t: u64) -> f64 {
        match (*optimizer, &mut self.0[..]) {
            (Optimizer::Momentum { rho }, [speed]) => {
                speed[i] = rho * speed[i] + rate * g;
                w - speed[i]
            }
            (Optimizer::Adagrad { epsilon }, [squares]) => {
                squares[i] += g * g;
                w - rate / libm::sqrt(squares[i] + epsilon) * g
            }
            (Optimizer::Rmsprop { rho, epsilon }, [squares]) => {
                squares[i] = rho * squares[i] + (1.0 - rho) * (g * g);
                w - rate / libm::sqrt(squares[i] + epsilon) * g
            }
            (Optimizer::Adam { beta_1, beta_2, epsilon }, [means, squares]) => {
                means[i] = beta_1 * means[i] + (1.0 - beta_1) * g;
                squares[i] = beta_2 * squares[i] + (1.0 - beta_2) * (g * g);
                let unbiased = libm::sqrt(1.0 - libm::pow(beta_2, t as f64)) / (1.0 - libm::pow(beta_1, t as f64));
                w - rate * unbiased * means[i] / (libm::sqrt(squares[i]) + epsilon)
            }
            (Optimizer::Ftrl { beta, l1, l2 }, [z, squares]) => {
                let root = libm::sqrt(squares[i] + g * g);
                z[i] += g - (root - libm::sqrt(squares[i])) / rate * w;
                squares[i] += g * g;
                if z[i].abs() <= l1 { 0.0 } else { -(z[i] - l1 * z[i].signum()) / ((beta + root) / rate + l2) }
            }
            // Plain descent; the others have the slots they were made with.
            _ => w - rate * g,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_named() {
        let wrong = serde_json::from_value::<Optimizer>(json!({ "name": "" })).unwrap_err().to_string();
        let names: Vec<String> = NAMES.iter().map(|name| format!("`{name}`")).collect();
        assert!(wrong.ends_with(&format!("expected one of {}", names.join(", "))), "{wrong}");
    }
}
