//! The chapter's `SimpleStreamingApp`: prints the first ten events of every batch.
//!
//! ```text
//! cargo run --example simple_streaming_app                  # Ctrl-C ends it
//! cargo run --example simple_streaming_app -- --batches 3   # so do three batches
//! ```
//!
//! The producer of purchases runs inside this program. The same as a job definition: `examples/jobs/simple_print.toml`.

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
    let producer = produce::purchases_in_background(5.0)?;
    Ok(run(&producer.to_string(), args.batches)?)
}

fn run(producer: &str, batches: u64) -> Result<(), StreamingError> {
    let ctx = StreamingContext::new("simple-streaming-app", Duration::from_secs(1));
    let lines = ctx.socket(producer).text();

    // Here we simply print the first few elements of each batch.
    lines.print(10);
    ctx.stop_after(batches).run_local(2)
}
