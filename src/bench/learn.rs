//! Rows of 100 features per second through parsing, predicting, learning and evaluating.

use super::{BenchArgs, Load, Rig, Taken};
use crate::exit::Failure;
use crate::produce::{LinearPoints, Lines, Pace};
use std::sync::Arc;

/// Numbers of a row.
const FEATURES: usize = 100;
/// Different rows; they come again and again, so that the sender costs next to nothing.
const DIFFERENT: u64 = 10_000;

/// Lines that were made before.
struct Again {
    text: Vec<u8>,
    /// Where each line begins, and the end of the last one.
    starts: Vec<usize>,
}

impl Again {
    fn new(lines: &dyn Lines) -> Self {
        let mut text = Vec::new();
        lines.write(0, DIFFERENT, &mut text);
        let ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        let starts = std::iter::once(0).chain(ends).collect();
        Self { text, starts }
    }

    fn mean_bytes(&self) -> f64 {
        self.text.len() as f64 / DIFFERENT as f64
    }
}

impl Lines for Again {
    fn write(&self, from: u64, count: u64, out: &mut Vec<u8>) {
        let mut left = count;
        let mut at = from % DIFFERENT;
        while left > 0 {
            let until = (at + left).min(DIFFERENT);
            out.extend_from_slice(&self.text[self.starts[at as usize]..self.starts[until as usize]]);
            left -= until - at;
            at = 0;
        }
    }
}

fn definition(address: &str, batch_ms: u64) -> String {
    format!(
        r#"name = "bench-learn"
batch_interval = "{batch_ms}ms"
[source.points]
connector = "socket"
address = "{address}"
acknowledge = true
format = "csv"
delimiter = "\t"
columns = {{ y = "double", x = "vector({FEATURES})" }}
[model.line]
kind = "linear_regression"
step_size = 0.01
iterations = 1
[stream.trained]
from = "points"
train = {{ model = "line", features = "x", label = "y" }}
[stream.predicted]
from = "points"
select = {{ y = "y", prediction = "predict('line', x)" }}
[stream.errors]
from = "predicted"
evaluate = {{ task = "regression", label = "y", prediction = "prediction" }}
[[output]]
from = "errors"
print = true
"#
    )
}

pub(super) async fn run(args: &BenchArgs) -> Result<(), Failure> {
    let batch_ms = args.batch_ms.unwrap_or(1000);
    let lines = Again::new(&LinearPoints::new(FEATURES, 1, 0.0, 0.0));
    let bytes = lines.mean_bytes();
    let load = Load { lines: Arc::new(lines), pace: Pace::Unlimited, total: args.rows };
    let mut rig = Rig::start(args, load, |address| definition(address, batch_ms)).await?;
    let Taken { seconds, batches, records, cpu_seconds, .. } = rig.take_all(args.rows).await?;
    say!(
        "learning: {records} rows of {FEATURES} features ({bytes:.0} bytes of text each), {batches} batches of {batch_ms} ms: {:.0} rows/s parsed, predicted, learnt and evaluated ({seconds:.2} s from first send to last batch; {cpu_seconds:.1} CPU-s of driver and workers)",
        records as f64 / seconds,
    )?;
    rig.end().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_again() {
        let points = LinearPoints::new(3, 1, 0.0, 0.0);
        let again = Again::new(&points);
        let (mut made, mut expected) = (Vec::new(), Vec::new());
        again.write(DIFFERENT - 2, 2 * DIFFERENT + 3, &mut made);
        points.write(DIFFERENT - 2, 2, &mut expected);
        points.write(0, DIFFERENT, &mut expected);
        points.write(0, DIFFERENT, &mut expected);
        points.write(0, 1, &mut expected);
        assert_eq!(made, expected);
    }
}
