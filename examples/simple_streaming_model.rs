//! The chapter's `SimpleStreamingModel`: a linear model learns from points of 100 features, and predicts them.
//!
//! ```text
//! cargo run --example simple_streaming_model -- --batches 5
//! ```
//!
//! The producer of points runs inside this program. The predictions are those of the model after it has learnt from the
//! batch, as Spark prints them. The same as a job definition: `examples/jobs/simple_model.toml`.

use clap::Parser;
use std::time::Duration;
use tidemill::{StreamingContext, StreamingError, produce};

#[derive(Parser)]
struct Args {
    /// End after so many batches.
    #[arg(long, default_value_t = u64::MAX)]
    batches: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let producer = produce::points_in_background(100, 300.0)?;
    Ok(run(&producer.to_string(), args.batches)?)
}

fn run(producer: &str, batches: u64) -> Result<(), StreamingError> {
    let ctx = StreamingContext::new("simple-streaming-model", Duration::from_secs(1));
    let points = ctx.socket(producer).delimiter("\t").csv(&[("y", "double"), ("x", "vector(100)")]);
    let model = ctx.model("points", "linear_regression", &[("step_size", 0.01.into()), ("iterations", 1.into())]);
    let trained = points.train(&model, &["x"], "y");
    points.select(&[("label", "y"), ("prediction", "predict_after_training('points', x)")]).print(10);
    trained.stream().print(1);
    ctx.stop_after(batches).run_local(2)
}
