//! Streaming k-means on points around three centres: the centres after every batch, and the points of each cluster.
//!
//! ```text
//! cargo run --example streaming_k_means -- --batches 5
//! ```
//!
//! The producer of points runs inside this program. The same as a job definition: `examples/jobs/clusters.toml`.

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
    let producer = produce::clusters_in_background(3, 2, 1000.0)?;
    Ok(run(&producer.to_string(), args.batches)?)
}

fn run(producer: &str, batches: u64) -> Result<(), StreamingError> {
    let ctx = StreamingContext::new("streaming-k-means", Duration::from_secs(1));
    let points = ctx.socket(producer).delimiter("\t").csv(&[("truth", "bigint"), ("x", "vector(2)")]);
    let clusters =
        ctx.model("clusters", "kmeans", &[("k", 3.into()), ("decay_factor", 0.9.into()), ("seed", 1.into())]);
    points.train_unlabelled(&clusters, &["x"]);
    clusters.print();
    // Each point goes to a cluster before it is learnt.
    let assigned = points.select(&[("cluster", "cluster('clusters', x)"), ("distance", "distance('clusters', x)")]);
    assigned.reduce_by_key(&["cluster"], &[("points", "count(*)"), ("mean_distance", "avg(distance)")]).print(5);
    ctx.stop_after(batches).run_local(2)
}
