//! A replay in this process, with a function that counts how often it is called.

use super::{ReplayArgs, run};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tidemill_plan::Functions;

const JOB: &str = r#"
name = "once"
batch_interval = "1s"
key_groups = 4

[source.lines]
connector = "socket"
address = "127.0.0.1:9999"
format = "csv"
columns = { user = "string", x = "bigint" }

[stream.seen]
from = "lines"
select = { user = "\"user\"", x = "seen(x)" }

[stream.sums]
from = "seen"
reduce_by_key = { key = "user", aggregates = { x = "sum(x)" } }

[stream.again]
from = "sums"
select = { user = "\"user\"", x = "seen(x)" }

[stream.count]
from = "again"
count = true

[[output]]
from = "seen"
print = true

[[output]]
from = "again"
print = true

[[output]]
from = "count"
print = true
"#;
const INPUT: &str = r#"{"sources": {"lines": [["a,1", "b,2", "a,3"], [], ["c,4"]]}}"#;
const EXPECTED: &str = r#"
{"batch": 1, "output": "seen", "rows": [{"user":"a","x":1}, {"user":"b","x":2}, {"user":"a","x":3}]}
{"batch": 1, "output": "again", "rows": [{"user":"a","x":4}, {"user":"b","x":2}]}
{"batch": 1, "output": "count", "rows": [{"count":2}]}
{"batch": 2, "output": "seen", "rows": []}
{"batch": 2, "output": "again", "rows": []}
{"batch": 2, "output": "count", "rows": [{"count":0}]}
{"batch": 3, "output": "seen", "rows": [{"user":"c","x":4}]}
{"batch": 3, "output": "again", "rows": [{"user":"c","x":4}]}
{"batch": 3, "output": "count", "rows": [{"count":1}]}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_several_readers_is_computed_once_by_workers() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (job, input) = (file("job.toml", JOB), file("input.json", INPUT));
    let expect = file("expected.json", EXPECTED.trim_start());
    for workers in [1, 3, 5] {
        let calls = Arc::new(AtomicUsize::new(0));
        let (mut functions, count) = (Functions::new(), calls.clone());
        let seen = move |x: i64| {
            count.fetch_add(1, Ordering::Relaxed);
            x
        };
        functions.scalar("seen", 1, seen).unwrap();
        let args = ReplayArgs {
            job: job.clone(),
            input: input.clone(),
            batches: None,
            workers,
            kill: None,
            expect: Some(expect.clone()),
            ordered: false,
            tolerance: 0.0,
        };
        let outcome = run(args, functions).await;
        assert!(matches!(outcome, Ok(crate::exit::Outcome::Fine)), "{workers} workers: {outcome:?}");
        // Four rows of the source, and three of their sums.
        assert_eq!(calls.load(Ordering::Relaxed), 7, "{workers} workers");
    }
}
