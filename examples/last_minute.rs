//! Figures of every user over the last minute, every half of it: the exercise that the chapter leaves to
//! its reader.
//!
//! ```text
//! cargo run --example last_minute -- --batches 7
//! ```
//!
//! The producer of purchases runs inside this program; a "minute" here is 6 s, so that one need not wait. The same as a job
//! definition: `examples/jobs/last_minute.toml`.

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
    let producer = produce::purchases_in_background(20.0)?;
    Ok(run(&producer.to_string(), args.batches)?)
}

fn run(producer: &str, batches: u64) -> Result<(), StreamingError> {
    let ctx = StreamingContext::new("last-minute", Duration::from_secs(1));
    let events = ctx.socket(producer).csv(&[("user", "string"), ("product", "string"), ("price", "double")]);
    let figures = [("purchases", "count(*)"), ("revenue", "sum(price)"), ("dearest", "max(price)")];
    let (length, slide) = (Duration::from_secs(6), Duration::from_secs(3));
    events.reduce_by_key_and_window(&["user"], &figures, length, slide).print(20);
    ctx.stop_after(batches).run_local(2)
}
