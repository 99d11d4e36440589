//! Whole jobs, compiled and evaluated.

mod beside;
mod blame;
mod conditions;
mod dates;
mod exact;
mod functions;
mod large;
mod map_state;
mod mistakes;
mod numbers;
mod operators;
mod order;
mod pairs;
mod queries;
mod sets;
mod shared;
mod state;
mod tables;
mod together;
mod values;
mod window;

use crate::plan::{BatchContext, JobPlan};
use crate::registry::Functions;
use crate::testkit::Evaluator;
use futures::executor::block_on;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use tidemill_common::diag::Diagnostics;
use tidemill_common::ids::{BatchId, OutputIdx, SourceIdx};
use tidemill_job::parse;

/// A job over purchases (user, product, price); the result is the stream `out`.
fn definition(streams: &str) -> String {
    format!(
        r#"
name = "test"
batch_interval = "1s"
key_groups = 8

[source.purchases]
connector = "socket"
address = "127.0.0.1:9999"
format = "csv"
columns = {{ user = "string", product = "string", price = "double" }}

{streams}

[[output]]
from = "out"
print = true
"#
    )
}

fn compile_in(definition: &str, folder: &Path) -> Result<JobPlan, Diagnostics> {
    super::compile(Arc::new(parse(definition).unwrap()), folder, &Functions::new())
}

fn plan(streams: &str) -> Arc<JobPlan> {
    let definition = definition(streams);
    match compile_in(&definition, Path::new(".")) {
        Ok(plan) => Arc::new(plan),
        Err(mistakes) => panic!("{}", mistakes.render("job.toml", &definition, false)),
    }
}

fn context(batch: u64) -> BatchContext {
    BatchContext { batch: BatchId(batch), time_ms: batch as i64 * 1000, previous_ms: (batch as i64 - 1) * 1000 }
}

fn blocks(blocks: &[&str]) -> HashMap<SourceIdx, Vec<Vec<u8>>> {
    HashMap::from([(SourceIdx(0), blocks.iter().map(|block| block.as_bytes().to_vec()).collect())])
}

/// What batches of blocks give at the first output.
fn run(plan: &Arc<JobPlan>, tasks: u32, batches: &[&[&str]]) -> Vec<Vec<String>> {
    let mut evaluator = Evaluator::new(plan.clone(), tasks).unwrap();
    let mut results = Vec::new();
    for (i, batch) in batches.iter().enumerate() {
        let mut outputs = block_on(evaluator.batch_json(&context(i as u64 + 1), &blocks(batch))).unwrap();
        results.push(outputs.remove(0).expect("this stream fires in every batch"));
    }
    results
}

/// The same for one batch.
fn rows(plan: &Arc<JobPlan>, blocks: &[&str]) -> Vec<String> {
    run(plan, 2, &[blocks]).remove(0)
}

const PURCHASES: &[&str] = &[
    "ana,iphone cover,9.99\nbob,headphones,5.49\nana,samsung cover,8.95\n",
    "cid,ipad cover,7.49\nbob,ipad cover,7.49\n",
];
