//! Cost of a batch of a window that slides with every batch, against the window's length (10 to 10,000 batches), for sums
//! of whole numbers and of doubles, maxima and distinct rows. It must not grow faster than the logarithm of the length,
//! and what goes to followers must not grow at all.

use criterion::{Criterion, criterion_group, criterion_main};
use datafusion::arrow::array::{ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::concat;
use datafusion::arrow::datatypes::Schema;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use tidemill_common::ids::{BatchId, ExchangeId};
use tidemill_plan::{
    BatchContext, BranchTarget, Contents, Firing, Functions, GroupWindow, Runner, StageState, WindowOp,
};
use tidemill_worker::state::StatePartition;

const INTERVAL_MS: i64 = 1000;
/// Keys, all of them in every batch.
const KEYS: usize = 20;

/// What is computed over a window: a name, and the operator that is read by `out`.
const OPERATORS: [(&str, &str); 4] = [
    ("integer sums", "reduce_by_key = { key = \"key\", aggregates = { s = \"sum(n)\" } }"),
    ("double sums", "reduce_by_key = { key = \"key\", aggregates = { s = \"sum(value)\" } }"),
    ("max", "reduce_by_key = { key = \"key\", aggregates = { m = \"max(value)\" } }"),
    ("distinct", "distinct = true"),
];

fn runner(operator: &str, length: i64) -> Runner {
    let job = format!(
        r#"
name = "windows"
batch_interval = "1s"
key_groups = 1

[source.rows]
connector = "socket"
address = "127.0.0.1:9999"
format = "csv"
columns = {{ key = "string", n = "bigint", value = "double" }}

[stream.window]
from = "rows"
window = {{ length = "{length}s" }}

[stream.out]
from = "window"
{operator}

[[output]]
from = "out"
print = true
"#
    );
    let none: [&[u8]; 0] = [];
    let compiled = tidemill_plan::compile_text(&job, &none, &Functions::default(), tidemill_plan::COMPILE_TIME)
        .expect("the job is good");
    Runner::new(compiled.plan, 256 << 20)
}

/// One key group of the window, as its owner has it.
struct Group {
    runner: Runner,
    state: StatePartition,
    window: GroupWindow,
    /// Partial aggregates that every batch brings.
    rows: RecordBatch,
    time_ms: i64,
    /// Bytes of the last delta.
    delta: usize,
}

impl Group {
    /// With a window full of panes.
    async fn new(operator: &str, length: i64) -> Self {
        let runner = runner(operator, length);
        let plan = runner.plan().clone();
        let text: String = (0..KEYS).map(|n| format!("key_{n},{n},{n}.5\n")).collect();
        let decoded = plan.sources[0].decode(text.as_bytes()).expect("lines of the source").batches;
        let branch = &plan.stages[0].branches[0];
        assert_eq!(branch.target, BranchTarget::Exchange(ExchangeId(0)));
        let ctx = BatchContext { batch: BatchId(1), time_ms: INTERVAL_MS, previous_ms: 0 };
        let fragment = branch.fragment.as_ref().expect("a partial aggregation");
        let partial = runner.run(fragment, vec![decoded], &ctx).await.expect("it runs");
        let rows = plan.partition(ExchangeId(0), &partial).expect("it has keys").batch;
        let op = op(&runner);
        let pane = op.encode(&rows).expect("a pane");
        let times = || (1..=length).map(|slot| slot * INTERVAL_MS);
        let keys = WindowOp::pane_keys(times());
        let mut state = StatePartition::new(Arc::new(Schema::new(op.state_fields().clone())));
        let panes = WindowOp::state(vec![Some(pane); length as usize]);
        state.load_initial(&keys, &panes).expect("an empty partition takes initial rows");
        let window = GroupWindow::new(&keys).expect("keys of a window");
        Self { runner, state, window, rows, time_ms: length * INTERVAL_MS, delta: 0 }
    }

    /// What the owner does in a batch.
    async fn batch(&mut self) -> usize {
        let (batch, previous_ms) = (self.state.version().next(), self.time_ms);
        self.time_ms += INTERVAL_MS;
        let ctx = BatchContext { batch, time_ms: self.time_ms, previous_ms };
        let op = op(&self.runner);
        let Contents::Folds(folds) = op.contents() else { panic!("aggregates are folded") };
        let new = folds.fold_batch(&self.runner, &ctx, self.rows.clone()).await.expect("it adds up").remove(0);
        let times = op.wanted(&self.window, self.time_ms);
        let stored = self.state.gather(&WindowOp::pane_keys(times.iter().copied())).expect("panes");
        let stored: &BinaryArray = stored.columns[0].as_binary();
        let decode = |(time, pane): (i64, Option<&[u8]>)| (time, op.decode(pane.expect("there")).expect("a pane"));
        let mut panes: BTreeMap<i64, RecordBatch> = times.into_iter().zip(stored).map(decode).collect();
        self.window.add(self.time_ms);
        panes.insert(self.time_ms, new.clone());
        let mut firings = [Firing { window: &mut self.window, panes }];
        let fired = op.fire(&self.runner, &ctx, self.time_ms, &mut firings).await.expect("it fires");
        let gone = self.window.forget_until(op.horizon(&ctx));
        let mut values = vec![Some(op.encode(&new).expect("a pane"))];
        values.extend(gone.iter().map(|_| None));
        let dropped: BooleanArray = (0..values.len()).map(|place| Some(place > 0)).collect();
        let keys: [ArrayRef; 2] = [Arc::new(WindowOp::pane_keys([self.time_ms])), Arc::new(WindowOp::pane_keys(gone))];
        let keys = concat(&[keys[0].as_ref(), keys[1].as_ref()]).expect("two of a kind");
        let delta = self.state.apply(batch, keys.as_binary(), &WindowOp::state(values), Some(&dropped));
        self.delta = delta.expect("the next batch").encode().expect("a delta").len();
        fired.iter().map(RecordBatch::num_rows).sum()
    }
}

fn op(runner: &Runner) -> &WindowOp {
    match &runner.plan().stages[1].state {
        Some(StageState::Window(op)) => op,
        other => panic!("a window and not {other:?}"),
    }
}

fn bench(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for (name, operator) in OPERATORS {
        let mut group = c.benchmark_group(format!("batch of a window: {name}"));
        let mut deltas = Vec::new();
        for length in [10, 100, 1_000, 10_000] {
            let mut window = runtime.block_on(Group::new(operator, length));
            // The first firing folds all there is, and drops one more pane than those after it.
            for _ in 0..2 {
                assert_eq!(runtime.block_on(window.batch()), KEYS);
            }
            group.bench_function(format!("of {length} batches"), |b| {
                b.iter(|| black_box(runtime.block_on(window.batch())));
            });
            deltas.push(window.delta);
        }
        group.finish();
        assert!(deltas.iter().all(|delta| *delta == deltas[0]), "{name}: deltas of different sizes: {deltas:?}");
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
