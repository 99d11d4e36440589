//! The chapter's `StreamingAnalyticsApp`: figures about the purchases of every batch.
//!
//! ```text
//! cargo run --example streaming_analytics_app -- --batches 3
//! ```
//!
//! The producer of purchases runs inside this program. The same as a job definition: `examples/jobs/analytics.toml`.

use clap::Parser;
use std::time::Duration;
use tidemill::{Batch, FunctionError, StreamingContext, produce};

#[derive(Parser)]
struct Args {
    /// End after so many batches.
    #[arg(long, default_value_t = u64::MAX)]
    batches: u64,
}

const FIGURES: &str = r#"
with totals as (
    select count(*) as purchases, count(distinct "user") as users, coalesce(sum(price), 0.0) as revenue from purchases
),
popular as (
    select product, count(*) as times, sum(price) as revenue from purchases
    group by product order by times desc, product limit 1
)
select totals.*, coalesce(product, '-') as product, coalesce(times, 0) as times,
    coalesce(popular.revenue, 0.0) as product_revenue
from totals left join popular on true
"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let producer = produce::purchases_in_background(5.0)?.to_string();
    let ctx = StreamingContext::new("streaming-analytics-app", Duration::from_secs(1));
    let columns = [("user", "string"), ("product", "string"), ("price", "double")];
    let purchases = ctx.socket(&producer).csv(&columns).named("purchases");
    purchases.sql(FIGURES).for_each_batch(show);
    Ok(ctx.stop_after(args.batches).run_local(2)?)
}

fn show(batch: &Batch) -> Result<(), FunctionError> {
    for row in batch.rows() {
        println!("== Batch time: {} ms ==", batch.time_ms);
        println!("Total purchases: {}", row.get::<i64>("purchases")?);
        println!("Unique users: {}", row.get::<i64>("users")?);
        println!("Total revenue: {:.2}", row.get::<f64>("revenue")?);
        let (product, times) = (row.get::<&str>("product")?, row.get::<i64>("times")?);
        let revenue = row.get::<f64>("product_revenue")?;
        println!("Most popular product: {product} with {times} purchases and a revenue of {revenue:.2}");
    }
    Ok(())
}
