//! Losses of linear models and their derivatives.

/// What stands between `w.x + b` and the label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// `(m - y)^2 / 2` of the value `m`.
    Squared,
    /// `ln(1 + exp(-m))` for label 1, `ln(1 + exp(m))` for label 0.
    Logistic,
}

impl Loss {
    /// Whether the loss is defined for the label. A squared error is, for any: what is not a number makes the model diverge visibly.
    pub(crate) fn takes(self, y: f64) -> bool {
        match self {
            Loss::Squared => true,
            Loss::Logistic => y == 0.0 || y == 1.0,
        }
    }

    /// Loss of the margin `m` and its derivative by `m`.
    pub(crate) fn at(self, m: f64, y: f64) -> (f64, f64) {
        match self {
            Loss::Squared => ((m - y) * (m - y) / 2.0, m - y),
            Loss::Logistic => (log1p_exp(-m) + if y > 0.0 { 0.0 } else { m }, sigmoid(m) - y),
        }
    }
}

/// `1 / (1 + exp(-m))`
pub(crate) fn sigmoid(m: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-m))
}

/// `ln(1 + exp(x))` that does not overflow.
fn log1p_exp(x: f64) -> f64 {
    if x > 0.0 { x + libm::log1p(libm::exp(-x)) } else { libm::log1p(libm::exp(x)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logistic_loss_far_out() {
        assert_eq!(Loss::Logistic.at(1000.0, 1.0), (0.0, 0.0));
        assert_eq!(Loss::Logistic.at(-1000.0, 0.0), (0.0, 0.0));
        assert_eq!(Loss::Logistic.at(-1000.0, 1.0), (1000.0, -1.0));
        assert_eq!(Loss::Logistic.at(1000.0, 0.0), (1000.0, 1.0));
    }
}
