//! A/B tests on a stream: what Spark's `StreamingTest` promises.

use super::{
    Moments, TestResult, student_t_test,
    ttest::{EQUAL_MEANS, two_or_more},
    welch_t_test,
};
use crate::{
    envelope::{self, Envelope},
    error::{DecodeError, ModelError, SpecError, number},
};
use ndarray::ArrayView1;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Parameters of a test of two groups on a stream; the defaults are Spark's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamingTestSpec {
    /// How many batches from the first are not looked at. Default 0.
    pub peace_period: u32,
    /// How many batches back the numbers count; 0 (default): all since the peace period.
    pub window: u32,
    /// Which test. Default `welch`.
    pub method: TestMethod,
    /// `sequential` only: the difference of means one expects if there is one, in the unit of the numbers. Default 1.
    pub expected_difference: f64,
}

/// Which test of equal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestMethod {
    /// [`welch_t_test`]
    #[default]
    Welch,
    /// [`student_t_test`]
    Student,
    /// A p-value that may be looked at after every batch: the chance that it is *ever* below p, if the means are equal, is at most p
    /// (mixture sequential probability ratio test; Johari, Pekelis, Walsh, Always valid inference, 2015). The other two are only valid
    /// at one time that was fixed beforehand. With estimated variances it holds for large groups.
    Sequential,
}

impl Default for StreamingTestSpec {
    fn default() -> Self {
        StreamingTestSpec { peace_period: 0, window: 0, method: TestMethod::Welch, expected_difference: 1.0 }
    }
}

impl StreamingTestSpec {
    /// Whether the parameters can be.
    pub fn validate(&self) -> Result<(), SpecError> {
        number("expected_difference", self.expected_difference, |d| d > 0.0, "use a positive number")?;
        if self.method == TestMethod::Sequential && self.window > 0 {
            let mend = "leave `window` out: a sequential test is valid over all that was seen";
            return Err(SpecError::new("window", "is given for a sequential test", mend));
        }
        Ok(())
    }
}

/// One split of a batch of numbers of two groups.
#[derive(Debug, Clone, Copy)]
pub struct Samples<'a> {
    /// Whether a number belongs to the experiment; else to the control.
    pub experiment: ArrayView1<'a, bool>,
    /// The numbers; what is not a number is left out.
    pub value: ArrayView1<'a, f64>,
}

/// Control and experiment.
type Groups = [Moments; 2];

/// A test of two groups on a stream, batch by batch.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamingTest {
    spec: StreamingTestSpec,
    state: TestState,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct TestState {
    batches: u64,
    /// One entry without a window, else one per batch of it, oldest first.
    groups: VecDeque<Groups>,
    /// Of a sequential test: the least p-value so far.
    least: f64,
}

const TEST: Envelope = Envelope { letters: *b"TMab", what: "streaming test", version: 1 };

impl StreamingTest {
    /// Before any data.
    pub fn new(spec: StreamingTestSpec) -> Result<StreamingTest, SpecError> {
        spec.validate()?;
        Ok(StreamingTest { spec, state: TestState { batches: 0, groups: VecDeque::new(), least: 1.0 } })
    }

    /// One batch, its splits in order; gives the test over what counts now.
    ///
    /// The statistic is experiment minus control. None in the peace period and as long as a group has fewer than two numbers.
    pub fn update(&mut self, splits: &[Samples<'_>]) -> Result<Option<TestResult>, ModelError> {
        for split in splits {
            let (rows, labels) = (split.value.len(), split.experiment.len());
            if rows != labels {
                return Err(ModelError::Labels { rows, labels });
            }
        }
        self.state.batches += 1;
        if self.state.batches <= u64::from(self.spec.peace_period) {
            return Ok(None);
        }
        let mut batch = Groups::default();
        for split in splits {
            merge(&mut batch, &gather(split));
        }
        match self.state.groups.back_mut() {
            Some(all) if self.spec.window == 0 => merge(all, &batch),
            _ => self.state.groups.push_back(batch),
        }
        while self.state.groups.len() > self.spec.window.max(1) as usize {
            self.state.groups.pop_front();
        }
        Ok(self.result())
    }

    fn result(&mut self) -> Option<TestResult> {
        let mut total = Groups::default();
        self.state.groups.iter().for_each(|groups| merge(&mut total, groups));
        let [control, experiment] = &total;
        match self.spec.method {
            TestMethod::Welch => welch_t_test(experiment, control),
            TestMethod::Student => student_t_test(experiment, control),
            TestMethod::Sequential => {
                let result = sequential(experiment, control, self.spec.expected_difference, self.state.least)?;
                self.state.least = result.p_value;
                Some(result)
            }
        }
    }

    /// The test, exactly.
    pub fn to_bytes(&self) -> Vec<u8> {
        TEST.seal(&(envelope::spec_text(&self.spec), &self.state))
    }

    /// The test that [`StreamingTest::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<StreamingTest, DecodeError> {
        let (spec, state): (String, TestState) = TEST.open(bytes)?;
        let spec: StreamingTestSpec = envelope::read_spec(&spec)?;
        spec.validate()?;
        Ok(StreamingTest { spec, state })
    }
}

fn gather(split: &Samples<'_>) -> Groups {
    let mut groups = Groups::default();
    for (&experiment, &value) in split.experiment.iter().zip(&split.value) {
        if !value.is_nan() {
            groups[usize::from(experiment)].add(value, 1.0);
        }
    }
    groups
}

fn merge(into: &mut Groups, other: &Groups) {
    into.iter_mut().zip(other).for_each(|(into, other)| into.merge(other));
}

/// With `d` the difference of means, `v` its variance and `s` the expected difference as the mixing deviation:
/// `ratio = sqrt(v / (v + s^2)) exp(s^2 d^2 / (2 v (v + s^2)))`, `p = min(p before, 1 / ratio)`.
fn sequential(a: &Moments, b: &Moments, expected: f64, before: f64) -> Option<TestResult> {
    let [va, vb] = two_or_more(a, b)?;
    let (difference, v, s2) = (a.mean - b.mean, va / a.n + vb / b.n, expected * expected);
    let log_ratio = 0.5 * libm::log(v / (v + s2)) + s2 * difference * difference / (2.0 * v * (v + s2));
    Some(TestResult {
        // `min` passes over what is not a number, as it comes from groups without any variance.
        p_value: libm::exp(-log_ratio).min(before),
        degrees_of_freedom: f64::INFINITY,
        statistic: difference / libm::sqrt(v),
        method: "Mixture sequential probability ratio test",
        null_hypothesis: EQUAL_MEANS,
    })
}
