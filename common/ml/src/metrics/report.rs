//! From sums to metrics.

use super::{
    Metric,
    sums::{Classes, NO_CLASS, OfTask, Sums},
};

impl Metric {
    /// Name in definitions and reports.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Count => "count",
            Metric::Mse => "mse",
            Metric::Rmse => "rmse",
            Metric::Mae => "mae",
            Metric::R2 => "r2",
            Metric::Accuracy => "accuracy",
            Metric::BalancedAccuracy => "balanced_accuracy",
            Metric::Precision => "precision",
            Metric::Recall => "recall",
            Metric::F1 => "f1",
            Metric::Kappa => "kappa",
            Metric::LogLoss => "log_loss",
            Metric::Auc => "auc",
            Metric::AucError => "auc_error",
            Metric::TruePositives => "true_positives",
            Metric::FalsePositives => "false_positives",
            Metric::TrueNegatives => "true_negatives",
            Metric::FalseNegatives => "false_negatives",
            Metric::MeanSquaredDistance => "mean_squared_distance",
            Metric::Silhouette => "silhouette",
            Metric::Skipped => "skipped",
            Metric::Unscored => "unscored",
        }
    }
}

impl Sums {
    /// A metric; NaN if there is nothing to measure, or the task has it not.
    pub(super) fn metric(&self, metric: Metric) -> f64 {
        if metric == Metric::Skipped {
            return self.skipped;
        }
        match &self.of {
            OfTask::Values(values) => {
                let n = values.labels.n;
                match metric {
                    Metric::Count => n,
                    Metric::Mse => values.squared / n,
                    Metric::Rmse => libm::sqrt(values.squared / n),
                    Metric::Mae => values.absolute / n,
                    Metric::R2 => 1.0 - values.squared / values.labels.m2,
                    _ => f64::NAN,
                }
            }
            OfTask::Classes(classes) => classes.metric(metric),
            OfTask::Clusters(clusters) => match metric {
                Metric::Count => clusters.weight,
                Metric::MeanSquaredDistance => clusters.squared / clusters.weight,
                Metric::Silhouette => clusters.silhouette / clusters.scored,
                Metric::Unscored => clusters.unscored,
                _ => f64::NAN,
            },
        }
    }
}

/// Right, said and true rows of a class.
#[derive(Clone, Copy, Default)]
struct Tally {
    right: f64,
    predicted: f64,
    actual: f64,
}

/// `a / b`, 0 where there is nothing to divide by (as scikit-learn).
fn share(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

impl Tally {
    fn precision(&self) -> f64 {
        share(self.right, self.predicted)
    }
    fn recall(&self) -> f64 {
        share(self.right, self.actual)
    }
    fn f1(&self) -> f64 {
        share(2.0 * self.right, self.predicted + self.actual)
    }
}

impl Classes {
    fn metric(&self, metric: Metric) -> f64 {
        let count = self.confusion.values().fold(0.0, |sum, weight| sum + weight);
        if count == 0.0 && !matches!(metric, Metric::Count | Metric::Unscored) {
            return f64::NAN;
        }
        let cell = |label, prediction| self.confusion.get(&(label, prediction)).copied().unwrap_or(0.0);
        match metric {
            Metric::Count => count,
            Metric::Unscored => self.unscored,
            Metric::Accuracy => self.right() / count,
            Metric::BalancedAccuracy => mean(self.tallies().iter().filter(|t| t.actual > 0.0).map(Tally::recall)),
            Metric::Precision => self.averaged(Tally::precision),
            Metric::Recall => self.averaged(Tally::recall),
            Metric::F1 => self.averaged(Tally::f1),
            Metric::Kappa => self.kappa(count),
            Metric::LogLoss => self.log_loss / self.scored,
            Metric::Auc => self.auc().0,
            Metric::AucError => self.auc().1,
            Metric::TruePositives => cell(1, 1),
            Metric::FalsePositives => cell(0, 1),
            Metric::TrueNegatives => cell(0, 0),
            Metric::FalseNegatives => cell(1, 0) + cell(1, NO_CLASS),
            _ => f64::NAN,
        }
    }

    fn right(&self) -> f64 {
        self.confusion.iter().filter(|((label, said), _)| label == said).fold(0.0, |sum, (_, weight)| sum + weight)
    }

    fn tally(&self, class: i64) -> Tally {
        let mut tally = Tally::default();
        for ((label, prediction), weight) in &self.confusion {
            tally.actual += if *label == class { *weight } else { 0.0 };
            tally.predicted += if *prediction == class { *weight } else { 0.0 };
            tally.right += if *label == class && *prediction == class { *weight } else { 0.0 };
        }
        tally
    }

    fn tallies(&self) -> Vec<Tally> {
        self.classes().into_iter().filter(|class| *class != NO_CLASS).map(|class| self.tally(class)).collect()
    }

    /// Of class 1, or the mean over all classes.
    fn averaged(&self, of: impl Fn(&Tally) -> f64) -> f64 {
        if self.is_binary() { of(&self.tally(1)) } else { mean(self.tallies().iter().map(of)) }
    }

    /// Cohen, A coefficient of agreement for nominal scales, 1960.
    fn kappa(&self, count: f64) -> f64 {
        let chance = self.tallies().iter().fold(0.0, |sum, t| sum + (t.actual / count) * (t.predicted / count));
        let right = self.right() / count;
        // All of one class, and said so: agreement is complete, though chance would do as well.
        if chance == 1.0 { 1.0 } else { (right - chance) / (1.0 - chance) }
    }

    /// The chance that a row of class 1 has the higher probability than one of class 0, pairs of the same bin counted half, and by how
    /// much the bins can be wrong: half the share of such pairs.
    fn auc(&self) -> (f64, f64) {
        let (mut below, mut positives, mut won, mut tied) = (0.0, 0.0, 0.0, 0.0);
        for [zeros, ones] in self.bins.values() {
            won += ones * (below + zeros / 2.0);
            tied += ones * zeros;
            below += zeros;
            positives += ones;
        }
        let pairs = positives * below;
        if pairs > 0.0 { (won / pairs, tied / 2.0 / pairs) } else { (f64::NAN, f64::NAN) }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), value| (sum + value, n + 1.0));
    sum / n
}
