//! A program that is the engine, with functions, a source and an output of its own. It has the whole command line:
//!
//! ```text
//! cargo run --example own_functions -- local examples/jobs/own_functions.toml --batches 3
//! cargo run --example own_functions -- driver   # and `worker`, `submit`, `replay`, `check` ..
//! ```

use std::time::Duration;
use tidemill::{Aggregate, Batch, FunctionError, Receiver, ReceiverOptions, Restart, Store};

/// The mean of all values but the smallest and the largest; none of fewer than three.
struct TrimmedMean;

impl Aggregate for TrimmedMean {
    type Arguments = (f64,);
    type State = Vec<f64>;
    type Output = Option<f64>;

    fn update(&self, values: &mut Vec<f64>, (value,): (f64,)) {
        values.push(value);
    }

    fn merge(&self, values: &mut Vec<f64>, later: Vec<f64>) {
        values.extend(later);
    }

    fn finish(&self, values: &Vec<f64>) -> Option<f64> {
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let kept = sorted.get(1..sorted.len().checked_sub(1)?)?;
        (!kept.is_empty()).then(|| kept.iter().sum::<f64>() / kept.len() as f64)
    }
}

/// A thermometer per room, read ten times a second. It goes on where the last record that is held was.
struct Thermometers(u64);

impl Receiver for Thermometers {
    async fn on_start(&mut self, store: Store) -> Result<(), Restart> {
        for number in store.offset().. {
            let (room, tenths) = (number % self.0, 180 + number * 7 % 40);
            store.store(format!("room-{room},{}.{}", tenths / 10, tenths % 10)).await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

fn thermometers(options: &ReceiverOptions) -> Result<Thermometers, FunctionError> {
    Ok(Thermometers(options.get("rooms")?.parse().map_err(FunctionError::new)?))
}

/// A line per row on the worker's console; the number of the attempt tells a batch that comes again from the first time.
fn console(batch: &Batch) -> Result<(), FunctionError> {
    for row in batch.rows() {
        let (room, mean) = (row.get::<&str>("room")?, row.get::<Option<f64>>("mean")?);
        println!("batch {} attempt {}: {room} {mean:.1?}", batch.batch, batch.attempt);
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    tidemill::app()
        .scalar("fahrenheit", 1, |celsius: f64| celsius * 1.8 + 32.0)
        .aggregate("trimmed_mean", 1, TrimmedMean)
        .receiver("thermometers", thermometers)
        .for_each_batch("console", console)
        .run()
}
