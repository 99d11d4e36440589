//! The chapter's `StreamingStateApp`: purchases and revenue of every user so far, updated with every batch.
//!
//! ```text
//! cargo run --example streaming_state_app -- --batches 3
//! ```
//!
//! The producer of purchases runs inside this program. The same as a job definition, with a sender that loses nothing:
//! `examples/jobs/revenue_per_user.toml`.

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
    let ctx = StreamingContext::new("streaming-state-app", Duration::from_secs(1));
    let events = ctx.socket(producer).csv(&[("user", "string"), ("product", "string"), ("price", "double")]);

    // What was there before the user's first purchase is null.
    let revenue_per_user = events.update_state_by_key(
        &["user"],
        [
            ("purchases", "coalesce(state.purchases, 0) + count(*)"),
            ("revenue", "coalesce(state.revenue, 0.0) + coalesce(sum(price), 0.0)"),
        ],
    );
    revenue_per_user.print(10);
    ctx.stop_after(batches).run_local(2)
}
