//! The chapter's `MonitoringStreamingModel`: two models on one stream, told apart by their errors. These are equal in the
//! first batch; then that of the small step falls, and that of the large one explodes.
//!
//! ```text
//! cargo run --example monitoring_streaming_model -- --batches 40
//! ```
//!
//! The producer of points runs inside this program. The same as a job definition: `examples/jobs/monitoring_models.toml`.

use clap::Parser;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidemill::{StreamingContext, StreamingError, produce};

#[derive(Parser)]
struct Args {
    /// End after so many batches.
    #[arg(long, default_value_t = u64::MAX)]
    batches: u64,
}

/// The mean squared errors of both models, by batch time.
type Errors = BTreeMap<i64, [f64; 2]>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    // With fewer rows in a batch than features the gradient points far beyond the goal.
    let producer = produce::points_in_background(100, 250.0)?;
    let errors: Vec<_> = run(&producer.to_string(), args.batches)?.into_values().collect();
    if errors.is_empty() {
        return Ok(());
    }
    let quarter = errors.len().div_ceil(4);
    for model in 0..2 {
        let mean = |batches: &[[f64; 2]]| batches.iter().map(|mse| mse[model]).sum::<f64>() / batches.len() as f64;
        let (from, to) = (mean(&errors[..quarter]), mean(&errors[errors.len() - quarter..]));
        let verdict = if to < from { "it learns" } else { "its step is too large" };
        println!("Model {}: mean MSE {from:.4e} in the first quarter, {to:.4e} in the last: {verdict}.", model + 1);
    }
    Ok(())
}

fn run(producer: &str, batches: u64) -> Result<Errors, StreamingError> {
    let ctx = StreamingContext::new("monitoring-streaming-model", Duration::from_millis(200));
    let points = ctx.socket(producer).delimiter("\t").csv(&[("y", "double"), ("x", "vector(100)")]);
    for (name, step) in [("model1", 0.01), ("model2", 1.0)] {
        let model = ctx.model(name, "linear_regression", &[("step_size", step.into()), ("iterations", 1.into())]);
        points.train(&model, &["x"], "y");
    }
    // Test, then train: every point is predicted by the models as the batch before left them.
    let errors = points.select(&[("err1", "predict('model1', x) - y"), ("err2", "predict('model2', x) - y")]);
    let metrics = errors.reduce(&[("mse1", "avg(err1 * err1)"), ("mse2", "avg(err2 * err2)")]);
    let seen = Arc::new(Mutex::new(Errors::new()));
    let seen_here = seen.clone();
    metrics.for_each_batch(move |batch| {
        for row in batch.rows() {
            let (mse1, mse2) = (row.get::<f64>("mse1")?, row.get::<f64>("mse2")?);
            println!("-------------------------------------------");
            println!("Time: {} ms", batch.time_ms);
            println!("-------------------------------------------");
            println!("MSE current batch: Model 1: {mse1}; Model 2: {mse2:e}");
            println!("RMSE current batch: Model 1: {}; Model 2: {:e}", mse1.sqrt(), mse2.sqrt());
            // A batch may be seen again after a failure, with the same rows.
            seen_here.lock().map_err(|_| "a thread that held the errors panicked")?.insert(batch.time_ms, [mse1, mse2]);
        }
        Ok(())
    });
    ctx.stop_after(batches).run_local(2)?;
    let errors = seen.lock().map(|errors| errors.clone()).unwrap_or_default();
    Ok(errors)
}
