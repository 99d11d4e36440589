//! Rows of 100 features per second through predicting, learning, and the part of learning that is done where the rows are.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ndarray::{Array1, Array2};
use std::hint::black_box;
use tidemill_ml::families::{
    kmeans::{KMeans, KMeansSpec},
    linear::{LinearRegression, LinearSpec, LogisticRegression, Mode},
};
use tidemill_ml::{Model, ModelSpec, Rows};

const ROWS: usize = 10_000;
const FEATURES: usize = 100;

fn models(c: &mut Criterion) {
    let x = Array2::from_shape_fn((ROWS, FEATURES), |(i, j)| ((i * 31 + j * 17) % 101) as f64 / 50.0 - 1.0);
    let y = Array1::from_shape_fn(ROWS, |i| f64::from(u8::from(x[(i, 0)] > x[(i, 1)])));
    let rows = [Rows { x: x.view(), y: Some(y.view()), weight: None }];
    let once = LinearSpec { iterations: 1, ..LinearSpec::default() };
    let per_record = LinearSpec { mode: Mode::PerRecord, step_size: 0.001, ..LinearSpec::default() };
    let specs = [
        ("linear_regression", ModelSpec::of::<LinearRegression>(once.clone())),
        ("linear_regression_50_updates", ModelSpec::of::<LinearRegression>(LinearSpec::default())),
        ("linear_regression_per_record", ModelSpec::of::<LinearRegression>(per_record)),
        ("logistic_regression", ModelSpec::of::<LogisticRegression>(once)),
        ("kmeans_10", ModelSpec::of::<KMeans>(KMeansSpec { k: 10, ..KMeansSpec::default() })),
    ];
    for (name, spec) in specs {
        let mut model = Model::new(spec).expect("the parameters can be");
        model.train(&rows).expect("the shapes fit");
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(ROWS as u64));
        group.bench_function("predict", |b| b.iter(|| black_box(model.predict(x.view()))));
        group.bench_function("train", |b| b.iter(|| black_box(model.train(&rows))));
        if model.spec().one_pass(FEATURES) {
            group.bench_function("partial", |b| b.iter(|| black_box(model.partial(&rows[0]))));
        }
        group.finish();
    }
}

criterion_group!(benches, models);
criterion_main!(benches);
