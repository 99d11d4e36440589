//! Time of one batch with 1,000 touched keys against the number of keys in the state: what a task does with a partition,
//! without the exchange before it. Without a time-out it must not grow beyond what the processor's caches explain; with
//! one it grows by a scan of one number per key.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use datafusion::arrow::array::{ArrayRef, BinaryArray, Float64Array, Int64Array, StringArray};
use datafusion::arrow::datatypes::Schema;
use std::hint::black_box;
use std::sync::Arc;
use tidemill_common::ids::BatchId;
use tidemill_plan::{
    BatchContext, COMPILE_TIME, Functions, KeyVisits, MapOp, StageState, StateOp, Visit, compile_text, encode_keys,
};
use tidemill_worker::state::StatePartition;

const TOUCHED: u64 = 1_000;
const TOTALS: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];

/// The state of a job with this operator.
fn state(operator: &str) -> StageState {
    let text = format!(
        r#"
name = "bench"
batch_interval = "1s"
[source.records]
connector = "socket"
address = "127.0.0.1:9999"
format = "csv"
columns = {{ k = "string", x = "double" }}
[stream.out]
from = "records"
{operator}
[[output]]
from = "out"
print = true
"#
    );
    let job = compile_text(&text, &[] as &[Vec<u8>], &Functions::default(), COMPILE_TIME).expect("a good job");
    let plan = Arc::into_inner(job.plan).expect("nobody else has it");
    plan.stages.into_iter().find_map(|stage| stage.state).expect("a stage with state")
}

fn keys(numbers: impl Iterator<Item = u64>) -> (ArrayRef, BinaryArray) {
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values(numbers.map(|n| format!("key_{n:09}"))));
    let encoded = encode_keys(std::slice::from_ref(&keys)).expect("text is a key");
    (keys, encoded)
}

fn doubles(rows: u64) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values((0..rows).map(|n| n as f64)))
}

fn partition(state: &StageState, total: u64) -> StatePartition {
    let mut columns = vec![doubles(total)];
    if state.fields().len() > 1 {
        columns.push(Arc::new(Int64Array::from(vec![0; total as usize])));
    }
    let mut partition = StatePartition::new(Arc::new(Schema::new(state.fields().clone())));
    partition.load_initial(&keys(0..total).1, &columns).expect("an empty partition takes rows");
    partition
}

fn update(op: &StateOp, state: &mut StatePartition, keys: &(ArrayRef, BinaryArray), ctx: &BatchContext) {
    let known = state.gather(&keys.1).expect("state");
    let key = std::slice::from_ref(&keys.0);
    let new = op.update(key, &known.columns, &[doubles(TOUCHED)], ctx).expect("good expressions");
    black_box(state.apply(ctx.batch, &keys.1, &new.state, None).expect("the next batch"));
}

fn map(op: &MapOp, state: &mut StatePartition, keys: &(ArrayRef, BinaryArray), ctx: &BatchContext) {
    if let Some(before) = op.due_before(ctx) {
        black_box(state.untouched_below(op.state_fields.len(), before, &keys.1));
    }
    let known = state.gather(&keys.1).expect("state");
    let visit = Visit {
        keys: vec![keys.0.clone()],
        stored: known.columns,
        known: known.present,
        records: vec![doubles(TOUCHED)],
        counts: vec![1; TOUCHED as usize],
    };
    let mapped = op.visit(&visit, ctx).expect("good expressions");
    black_box(state.apply(ctx.batch, &keys.1, &mapped.stored, Some(&mapped.removed)).expect("the next batch"));
}

fn bench(c: &mut Criterion) {
    let map_text = "map_with_state = { key = \"k\", state = { x = \"coalesce(state.x, 0) + x\" }";
    for (name, operator) in [
        (
            "update_state_by_key touched",
            "update_state_by_key = { key = \"k\", update = \"touched\", emit = \"changed\", state = { x = \"coalesce(state.x, 0) + sum(x)\" } }".into(),
        ),
        ("map_with_state", format!("{map_text} }}")),
        ("map_with_state timeout", format!("{map_text}, timeout = \"1h\" }}")),
    ] {
        let op = state(&operator);
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(TOUCHED));
        for total in TOTALS {
            let mut partition = partition(&op, total);
            let mut batch = 0;
            group.bench_function(BenchmarkId::from_parameter(total), |b| {
                b.iter_batched(
                    || {
                        batch += 1;
                        let step = total / TOUCHED;
                        let time_ms = batch as i64;
                        let ctx = BatchContext { batch: BatchId(batch), time_ms, previous_ms: time_ms - 1 };
                        (ctx, keys((0..TOUCHED).map(|n| n * step + batch % step)))
                    },
                    |(ctx, keys)| match &op {
                        StageState::ByKey(op) => update(op, &mut partition, &keys, &ctx),
                        StageState::Map(op) => map(op, &mut partition, &keys, &ctx),
                        other => panic!("no state by key: {other:?}"),
                    },
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
