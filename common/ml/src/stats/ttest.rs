//! Tests of equal means.

use super::{Moments, distributions::student_two_sided};

/// What a test found.
#[derive(Debug, Clone, PartialEq)]
pub struct TestResult {
    /// Chance of a difference at least as large if the means are equal (two-sided).
    pub p_value: f64,
    /// Degrees of freedom.
    pub degrees_of_freedom: f64,
    /// Difference of the means (first minus second) in units of its standard error.
    pub statistic: f64,
    /// Name of the test.
    pub method: &'static str,
    /// What the test assumes in order to refute it.
    pub null_hypothesis: &'static str,
}

pub(super) const EQUAL_MEANS: &str = "Both groups have same mean";

/// Welch, The generalization of "Student's" problem when several different population variances are involved, 1947: variances may differ.
/// None if a group has fewer than two numbers.
pub fn welch_t_test(a: &Moments, b: &Moments) -> Option<TestResult> {
    let [va, vb] = two_or_more(a, b)?;
    let (sa, sb) = (va / a.n, vb / b.n);
    let both = sa + sb;
    let df = both * both / (sa * sa / (a.n - 1.0) + sb * sb / (b.n - 1.0));
    // Two constant groups: it does not matter which number it is (as scipy).
    let df = if df.is_nan() { 1.0 } else { df };
    Some(result(a, b, libm::sqrt(both), df, "Welch's two-sample t-test"))
}

/// Student, The probable error of a mean, 1908: one variance for both groups. None if a group has fewer than two numbers.
pub fn student_t_test(a: &Moments, b: &Moments) -> Option<TestResult> {
    two_or_more(a, b)?;
    let df = a.n + b.n - 2.0;
    let pooled = (a.m2 + b.m2) / df;
    Some(result(a, b, libm::sqrt(pooled * (1.0 / a.n + 1.0 / b.n)), df, "Student's two-sample t-test"))
}

/// One-sided p-value that the mean of differences is above 0 (paired t-test). None below two numbers.
pub(crate) fn paired_p_value(differences: &Moments) -> Option<f64> {
    if differences.n < 2.0 {
        return None;
    }
    let error = libm::sqrt(differences.sample_variance() / differences.n);
    let half = student_two_sided(differences.mean / error, differences.n - 1.0) / 2.0;
    Some(if differences.mean > 0.0 { half } else { 1.0 - half })
}

/// Sample variances of two groups that have some.
pub(super) fn two_or_more(a: &Moments, b: &Moments) -> Option<[f64; 2]> {
    (a.n >= 2.0 && b.n >= 2.0).then(|| [a.sample_variance(), b.sample_variance()])
}

fn result(a: &Moments, b: &Moments, error: f64, df: f64, method: &'static str) -> TestResult {
    let statistic = (a.mean - b.mean) / error;
    let p_value = student_two_sided(statistic, df);
    TestResult { p_value, degrees_of_freedom: df, statistic, method, null_hypothesis: EQUAL_MEANS }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn moments(value: &Value) -> Moments {
        let mut moments = Moments::default();
        value.as_array().unwrap().iter().for_each(|x| moments.add(x.as_f64().unwrap(), 1.0));
        moments
    }

    fn close(found: f64, expected: &Value) {
        let expected = expected.as_f64().unwrap();
        assert!((found - expected).abs() <= 1e-10 * expected.abs(), "{found}, scipy has {expected}");
    }

    #[test]
    fn as_scipy() {
        let cases: Value = serde_json::from_str(include_str!("../../tests/vectors/ttests.json")).unwrap();
        for pair in cases["pairs"].as_array().unwrap() {
            let (a, b) = (moments(&pair["a"]), moments(&pair["b"]));
            close(a.sample_variance(), &pair["sample_variance"][0]);
            for (name, test) in [("welch", welch_t_test(&a, &b)), ("student", student_t_test(&a, &b))] {
                let test = test.unwrap();
                close(test.statistic, &pair[name]["statistic"]);
                close(test.degrees_of_freedom, &pair[name]["df"]);
                close(test.p_value, &pair[name]["p"]);
            }
        }
    }

    /// The values of `scipy.stats.ttest_ind` 1.17.
    #[test]
    fn constant_groups() {
        let constant = |value: f64, n: u32| {
            let mut moments = Moments::default();
            (0..n).for_each(|_| moments.add(value, 1.0));
            moments
        };
        for (test, df) in [(welch_t_test as fn(&_, &_) -> _, [1.0, 1.0]), (student_t_test, [2.0, 3.0])] {
            for (lower, higher, df) in
                [(constant(0.1, 2), constant(0.3, 2), df[0]), (constant(1.0, 2), constant(2.0, 3), df[1])]
            {
                let found: TestResult = test(&lower, &higher).unwrap();
                assert_eq!((found.p_value, found.degrees_of_freedom, found.statistic), (0.0, df, f64::NEG_INFINITY));
                assert_eq!(test(&higher, &lower).unwrap().statistic, f64::INFINITY);
                let same = test(&lower, &lower).unwrap();
                assert!(same.p_value.is_nan() && same.statistic.is_nan(), "{same:?}");
            }
        }
        // One constant group beside another that is not.
        let mut other = constant(1.0, 1);
        other.add(3.0, 1.0);
        let found = welch_t_test(&constant(1.0, 3), &other).unwrap();
        assert!((found.statistic + 1.0).abs() < 1e-15 && (found.p_value - 0.5).abs() < 1e-15, "{found:?}");
        assert_eq!(found.degrees_of_freedom, 1.0);
    }

    #[test]
    fn groups_that_cannot_be_compared() {
        let mut one = Moments::default();
        one.add(1.0, 1.0);
        assert_eq!(welch_t_test(&one, &Moments::default()), None);
        assert_eq!(student_t_test(&one, &one), None);
    }
}
