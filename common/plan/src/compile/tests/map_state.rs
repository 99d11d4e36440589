//! `map_with_state` and `state_snapshots`.

use super::*;

/// A job that remembers the sum of a user's prices.
fn totals(more: &str) -> Arc<JobPlan> {
    plan(&format!(
        r#"
[stream.out]
from = "purchases"
[stream.out.map_with_state]
key = "user"
state.total = "coalesce(state.total, 0) + price"
{more}
"#
    ))
}

fn with_snapshots(plan_text: &str) -> Arc<JobPlan> {
    let text = plan_text.replace("stream.out", "stream.mapped");
    plan(&format!("{text}\n[stream.out]\nfrom = \"mapped\"\nstate_snapshots = true\n"))
}

/// The same results for every number of tasks.
fn results(plan: &Arc<JobPlan>, batches: &[&[&str]]) -> Vec<Vec<String>> {
    let found = run(plan, 1, batches);
    assert_eq!(run(plan, 3, batches), found);
    found
}

#[test]
fn records_are_visited_one_by_one() {
    let plan = totals("");
    let state = plan.stages[1].state.as_ref().unwrap();
    assert_eq!(state.fields().len(), 1);
    // The product is not needed, and does not travel.
    assert_eq!(plan.exchanges[0].schema.fields().len(), 2);
    let results = results(&plan, &[&["b,x,1\na,x,2\nb,x,3\n", "b,x,4\n"], &[], &["a,x,1\n"]]);
    assert_eq!(
        results[0],
        [
            r#"{"user":"a","total":2.0}"#,
            r#"{"user":"b","total":1.0}"#,
            r#"{"user":"b","total":4.0}"#,
            r#"{"user":"b","total":8.0}"#,
        ]
    );
    assert!(results[1].is_empty());
    assert_eq!(results[2], [r#"{"user":"a","total":3.0}"#]);
}

#[test]
fn rows_see_the_state_before_and_after() {
    let plan = totals(
        "emit = { key = \"user\", product = \"product\", before = \"old.total\", after = \"total\", new = \"not state_exists\" }\nemit_when = \"price <> 2\"",
    );
    let results = results(&plan, &[&["a,x,1\na,y,2\na,z,3\n"]]);
    assert_eq!(
        results[0],
        [
            r#"{"key":"a","product":"x","before":null,"after":1.0,"new":true}"#,
            r#"{"key":"a","product":"z","before":3.0,"after":6.0,"new":false}"#,
        ]
    );
}

#[test]
fn a_removed_key_starts_afresh_with_the_next_record() {
    let map = r#"
[stream.out]
from = "purchases"
[stream.out.map_with_state]
key = "user"
state.total = "coalesce(state.total, 0) + price"
remove_when = "state.total >= 3"
"#;
    let batches: &[&[&str]] = &[&["a,x,1\na,x,2\na,x,1\nb,x,4\n"], &["a,x,2\n"]];
    let total = |user: &str, total: &str| format!("{{\"user\":\"{user}\",\"total\":{total}}}");
    assert_eq!(
        results(&plan(map), batches)[0],
        [total("a", "1.0"), total("a", "3.0"), total("a", "1.0"), total("b", "4.0")]
    );
    let snapshots = results(&with_snapshots(map), batches);
    assert_eq!(snapshots, [vec![total("a", "1.0")], vec![]]);
}

#[test]
fn once_per_key_with_aggregates() {
    let plan = plan(
        r#"
[stream.out]
from = "purchases"
[stream.out.map_with_state]
key = "user"
per = "key"
state.total = "coalesce(state.total, 0) + sum(price)"
emit = { user = "user", total = "total", records = "count(*)", gone = "timing_out" }
timeout = "1s"
"#,
    );
    let results = results(&plan, &[&["a,x,1\na,x,2\n", "a,x,4\nb,x,1\n"], &[], &[]]);
    assert_eq!(results[0][0], r#"{"user":"a","total":7.0,"records":3,"gone":false}"#);
    assert!(results[1].is_empty());
    assert_eq!(
        results[2],
        [r#"{"user":"a","total":7.0,"records":0,"gone":true}"#, r#"{"user":"b","total":1.0,"records":0,"gone":true}"#]
    );
}

#[test]
fn a_key_times_out_once_it_is_older_than_the_time_out() {
    let more = "timeout = \"2s\"\nemit = { user = \"user\", total = \"state.total\", price = \"price\", out = \"timing_out\" }";
    let row = |user: &str, total: &str, price: &str, out: bool| {
        format!("{{\"user\":\"{user}\",\"total\":{total},\"price\":{price},\"out\":{out}}}")
    };
    // At 4000 ms the state of `a` is 3 s old, and would go; but there is a record, and it lives on.
    let found = results(&totals(more), &[&["a,x,1\nb,x,1\n"], &[], &[], &["a,x,1\n"], &["b,x,1\n"], &[], &[], &[]]);
    assert_eq!(found[3], [row("a", "2.0", "1.0", false), row("b", "1.0", "null", true)]);
    assert_eq!(found[4], [row("b", "1.0", "1.0", false)]);
    assert_eq!(found[6], [row("a", "2.0", "null", true)]);
    assert_eq!(found[7], [row("b", "1.0", "null", true)]);
    assert!([1, 2, 5].iter().all(|batch| found[*batch].is_empty()));
    let silent = results(&totals(&format!("{more}\nemit_when = \"not timing_out\"")), &[&["a,x,1\n"], &[], &[], &[]]);
    assert!(silent[3].is_empty());
}

#[test]
fn initial_state_is_dated_from_before_the_first_batch() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("s.csv"), "user,total\na,5\nb,6\n").unwrap();
    let definition = definition(
        r#"
[stream.out]
from = "purchases"
[stream.out.map_with_state]
key = "user"
timeout = "1s"
initial = "s.csv"
state.total = "coalesce(state.total, 0) + price"
"#,
    );
    let plan = Arc::new(compile_in(&definition, folder.path()).unwrap());
    let found = results(&plan, &[&[], &["b,x,1\n"], &[], &[]]);
    assert_eq!(found[0], Vec::<String>::new());
    assert_eq!(found[1], [r#"{"user":"a","total":5.0}"#, r#"{"user":"b","total":7.0}"#]);
    assert!(found[2].is_empty());
    assert_eq!(found[3], [r#"{"user":"b","total":7.0}"#]);
}

#[test]
fn names_that_records_and_state_share() {
    let plan = plan(
        r#"
[stream.out]
from = "purchases"
[stream.out.map_with_state]
key = "user"
state.price = "coalesce(state.price, 0) + price"
emit = { record = "price", before = "old.price", after = "state.price" }
"#,
    );
    assert_eq!(results(&plan, &[&["a,x,1\na,x,2\n"]])[0][1], r#"{"record":2.0,"before":1.0,"after":3.0}"#);
}

#[test]
fn snapshots_are_a_keyed_stream() {
    let plan = plan(
        r#"
[stream.running]
from = "purchases"
[stream.running.update_state_by_key]
key = ["user"]
update = "touched"
emit = "changed"
state.calls = "coalesce(state.calls, 0) + 1"
[stream.all]
from = "running"
state_snapshots = true
[stream.often]
from = "all"
filter = "calls > 1"
[stream.out]
from = "often"
reduce_by_key = { key = "calls", aggregates = { users = "count(*)" } }
"#,
    );
    let results = results(&plan, &[&["a,x,1\n"], &["a,x,1\nb,x,1\n"], &["b,x,1\n"], &[]]);
    let users = |users: u32| vec![format!("{{\"calls\":2,\"users\":{users}}}")];
    assert_eq!(results, [vec![], users(1), users(2), users(2)]);
}
