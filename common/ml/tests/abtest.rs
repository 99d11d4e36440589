//! The peace period, the window and the sign of a test on a stream.

use ndarray::Array1;
use tidemill_ml::stats::{Samples, StreamingTest, StreamingTestSpec, TestMethod, TestResult};

fn update(test: &mut StreamingTest, rows: &[(bool, f64)]) -> Option<TestResult> {
    let experiment: Array1<bool> = rows.iter().map(|r| r.0).collect();
    let value: Array1<f64> = rows.iter().map(|r| r.1).collect();
    test.update(&[Samples { experiment: experiment.view(), value: value.view() }]).unwrap()
}

fn test(peace_period: u32, window: u32, method: TestMethod) -> StreamingTest {
    StreamingTest::new(StreamingTestSpec { peace_period, window, method, ..StreamingTestSpec::default() }).unwrap()
}

/// The experiment is 1 better, both vary.
fn batch(i: u32) -> Vec<(bool, f64)> {
    (0..20).map(|n| (n % 3 == 0, f64::from((n * 7 + i * 3) % 11) / 10.0 + if n % 3 == 0 { 1.0 } else { 0.0 })).collect()
}

#[test]
fn the_sign_is_experiment_minus_control_whichever_comes_first() {
    for method in [TestMethod::Welch, TestMethod::Student, TestMethod::Sequential] {
        let mut rows = batch(1);
        let found = update(&mut test(0, 0, method), &rows).unwrap();
        assert!(found.statistic > 3.0 && found.p_value < 0.01, "{found:?}");
        rows.reverse();
        assert!(update(&mut test(0, 0, method), &rows).unwrap().statistic > 3.0);
    }
}

#[test]
fn one_group_alone_gives_nothing() {
    let mut test = test(0, 0, TestMethod::Welch);
    let control: Vec<_> = batch(1).into_iter().filter(|row| !row.0).collect();
    assert_eq!(update(&mut test, &control), None);
    assert_eq!(update(&mut test, &[(true, 1.0), (true, f64::NAN)]), None);
    assert!(update(&mut test, &[(true, 2.0)]).is_some());
}

#[test]
fn batches_of_the_peace_period_and_before_the_window_do_not_count() {
    let far: Vec<_> = batch(0).into_iter().map(|(group, value)| (group, value * 100.0)).collect();
    let mut peaceful = test(2, 0, TestMethod::Welch);
    assert_eq!((update(&mut peaceful, &far), update(&mut peaceful, &[])), (None, None));
    let mut windowed = test(0, 2, TestMethod::Welch);
    update(&mut windowed, &far);
    let mut scratch = test(0, 0, TestMethod::Welch);
    for i in 1..3 {
        let expected = update(&mut scratch, &batch(i));
        assert_eq!(update(&mut peaceful, &batch(i)), expected);
        let found = update(&mut windowed, &batch(i));
        assert_eq!(found == expected, i == 2);
    }
    let mut back = StreamingTest::from_bytes(&windowed.to_bytes()).unwrap();
    assert_eq!(update(&mut back, &batch(9)), update(&mut windowed, &batch(9)));
}

#[test]
fn a_sequential_p_value_never_rises_and_rarely_lies() {
    // 200 streams of equal means, looked at after each of 50 batches.
    let mut lies = 0;
    for seed in 0..200u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut draw = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let mut test = test(0, 0, TestMethod::Sequential);
        let mut least = 1.0;
        for _ in 0..50 {
            let rows: Vec<_> = (0..40).map(|n| (n % 2 == 0, draw())).collect();
            let found = update(&mut test, &rows).unwrap().p_value;
            assert!(found <= least);
            least = found;
        }
        lies += u32::from(least < 0.05);
    }
    assert!(lies <= 10, "{lies} of 200 at 5 %");
}
