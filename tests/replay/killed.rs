//! Kills while copies are still being made: short batches, so that the kill comes soon after the start.

use crate::command::Case;
use std::thread;

const JOB: &str = r#"
name = "killed"
batch_interval = "1s"

[source.lines]
connector = "socket"
address = "127.0.0.1:9999"
format = "csv"
columns = { user = "string", x = "bigint" }

[stream.totals]
from = "lines"
update_state_by_key = { key = "user", state = { x = "coalesce(state.x, 0) + coalesce(sum(x), 0)" } }

[[output]]
from = "totals"
print = { rows = 100 }
"#;

const INPUT: &str = r#"{"sources": {"lines": [["a,1"], ["b,2"], ["a,3"], ["c,4"], ["b,5"], ["a,6"]]}}"#;

/// Before its first checkpoint, and after, what one worker has another one has too, however far filling has come.
#[test]
fn one_of_two_workers_can_be_lost_at_any_time() {
    let case = Case::new(JOB, INPUT);
    let once = case.replay(&[]).ok();
    let kills = |batches: &'static [&str]| {
        let (case, once) = (&case, &once);
        move || {
            for batch in batches.iter().cycle().take(10) {
                let killed = case.replay(&["--workers", "2", "--kill", batch]);
                assert_eq!(killed.ok(), *once, "killed in batch {batch}");
            }
        }
    };
    thread::scope(|scope| {
        // Two at a time: the one delays the other, each time otherwise.
        let other = scope.spawn(kills(&["2", "3", "4"]));
        kills(&["3", "1", "6"])();
        other.join().expect("all are right");
    });
}
