//! Time to apply 10,000 touched keys to partitions of different sizes. It must not grow with the size beyond
//! what the processor's caches explain.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use datafusion::arrow::array::{ArrayRef, BinaryArray, Float64Array, Int64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use std::hint::black_box;
use std::sync::Arc;
use tidemill_common::ids::BatchId;
use tidemill_worker::state::StatePartition;

const TOUCHED: u64 = 10_000;

fn keys(numbers: impl Iterator<Item = u64>) -> BinaryArray {
    BinaryArray::from_iter_values(numbers.map(|n| format!("key_{n:012}")))
}

fn columns(rows: u64, value: u64) -> Vec<ArrayRef> {
    let count = Int64Array::from_iter_values((0..rows).map(|n| (n + value) as i64));
    let sum = Float64Array::from_iter_values((0..rows).map(|n| (n + value) as f64));
    vec![Arc::new(count), Arc::new(sum)]
}

fn partition(total: u64) -> StatePartition {
    let schema = Arc::new(Schema::new(vec![
        Field::new("count", DataType::Int64, true),
        Field::new("sum", DataType::Float64, true),
    ]));
    let mut state = StatePartition::new(schema);
    let loaded = state.load_initial(&keys(0..total), &columns(total, 0));
    loaded.expect("an empty partition takes initial rows");
    state
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("apply 10k");
    group.throughput(Throughput::Elements(TOUCHED));
    for total in [10_000, 100_000, 1_000_000u64] {
        let mut state = partition(total);
        let mut batch = 0;
        group.bench_function(format!("of {total}"), |b| {
            b.iter_batched(
                || {
                    batch += 1;
                    let step = total / TOUCHED;
                    let touched = (0..TOUCHED).map(|n| n * step + batch % step);
                    (BatchId(batch), keys(touched), columns(TOUCHED, batch))
                },
                |(batch, keys, new)| black_box(state.apply(batch, &keys, &new, None).is_ok()),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();

    let mut group = c.benchmark_group("read 1M");
    let state = partition(1_000_000);
    let touched = keys((0..TOUCHED).map(|n| n * 100));
    group.bench_function("gather 10k", |b| b.iter(|| state.gather(black_box(&touched)).is_ok()));
    group.bench_function("untouched", |b| b.iter(|| state.untouched(black_box(&touched))));
    group.bench_function("all", |b| b.iter(|| state.all().is_ok()));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
