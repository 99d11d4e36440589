//! What several read is computed once.

use super::{PURCHASES, definition, run};
use crate::registry::Functions;
use crate::{JobPlan, Reads, compile};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tidemill_job::parse;

/// A job in which `seen(price)` is the price, and how often it was asked for.
fn counted(streams: &str) -> (Arc<JobPlan>, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let (mut functions, count) = (Functions::new(), calls.clone());
    let seen = move |price: f64| {
        count.fetch_add(1, Ordering::Relaxed);
        price
    };
    functions.scalar("seen", 1, seen).unwrap();
    let definition = definition(streams);
    match compile(Arc::new(parse(&definition).unwrap()), Path::new("."), &functions) {
        Ok(plan) => (Arc::new(plan), calls),
        Err(mistakes) => panic!("{}", mistakes.render("job.toml", &definition, false)),
    }
}

/// The first output over some batches, and how often `seen` was called for all of them.
fn calls(streams: &str, batches: &[&[&str]]) -> (Vec<Vec<String>>, usize) {
    let (plan, calls) = counted(streams);
    let one = run(&plan, 1, batches);
    let first = calls.swap(0, Ordering::Relaxed);
    for tasks in [2, 3, 8] {
        assert_eq!(run(&plan, tasks, batches), one);
        assert_eq!(calls.swap(0, Ordering::Relaxed), first);
    }
    (one, first)
}

fn shared(plan: &JobPlan) -> usize {
    plan.stages.iter().map(|stage| stage.shared.len()).sum()
}

const SEEN: &str = "[stream.p]\nfrom = 'purchases'\nselect = { user = \"\\\"user\\\"\", price = 'seen(price)' }\n";
const CONSUMERS: &str = "[stream.out]\nfrom = 'p'\nreduce_by_key = { key = 'user', aggregates = { s = 'sum(price)' } }\n\
    [stream.all]\nfrom = 'p'\ncount = true\n\
    [stream.dear]\nfrom = 'p'\nfilter = 'price > 6'\n";
const OTHER_OUTPUTS: &str = "[[output]]\nfrom = 'all'\nprint = true\n[[output]]\nfrom = 'dear'\nprint = true\n[[output]]\nfrom = 'p'\nprint = true\n";

#[test]
fn a_stream_with_several_consumers() {
    let (out, calls) = calls(&format!("{SEEN}{CONSUMERS}{OTHER_OUTPUTS}"), &[PURCHASES, PURCHASES]);
    assert_eq!(calls, 10);
    assert_eq!(out, [[r#"{"count":5}"#], [r#"{"count":5}"#]]);
}

#[test]
fn streams_on_streams() {
    let chain = "[stream.q]\nfrom = 'p'\nselect = { user = \"\\\"user\\\"\", price = 'seen(price) + 1' }\n\
        [stream.unread]\nfrom = 'q'\nfilter = 'price < 0'\n";
    let consumers = CONSUMERS.replace("'p'", "'q'");
    let streams = format!("{SEEN}{chain}{consumers}{OTHER_OUTPUTS}");
    assert_eq!(calls(&streams, &[PURCHASES]).1, 10);
    let (plan, _) = counted(&streams);
    let reads: Vec<Reads> = plan.stages[0].shared.iter().map(|shared| shared.reads).collect();
    assert_eq!(reads, [Reads::Rows, Reads::Shared(0)]);
}

#[test]
fn rows_of_key_groups_and_of_their_state() {
    let sums =
        "[stream.k]\nfrom = 'purchases'\nreduce_by_key = { key = 'user', aggregates = { price = 'sum(price)' } }\n";
    let consumed = format!("{}{CONSUMERS}{OTHER_OUTPUTS}", SEEN.replace("purchases", "k"));
    assert_eq!(calls(&format!("{sums}{consumed}"), &[PURCHASES, PURCHASES]).1, 6);
    let state = "[stream.s]\nfrom = 'purchases'\nupdate_state_by_key = { key = 'user', update = 'touched', emit = 'changed', \
        state = { price = 'coalesce(state.price, 0.0) + sum(price)' } }\n[stream.k]\nfrom = 's'\nstate_snapshots = true\n";
    let (out, calls) = calls(&format!("{state}{consumed}"), &[PURCHASES, &["dan,phone,1.5\n"]]);
    assert_eq!(out, [[r#"{"count":3}"#], [r#"{"count":4}"#]]);
    assert_eq!(calls, 3 + 4);
}

#[test]
fn a_query_that_reads_a_stream_twice() {
    let query = "[stream.out]\nfrom = 'p'\nsql = \"select a.price from p a join p b on a.user = b.user where a.price < b.price\"";
    let (out, calls) = calls(&format!("{SEEN}{query}"), &[PURCHASES]);
    assert_eq!((out[0].len(), calls), (2, 5));
}

#[test]
fn operators_over_one_window() {
    let window = "[stream.w]\nfrom = 'p'\nwindow = { length = '2s' }\n";
    let consumers = CONSUMERS.replace("'p'", "'w'");
    let outputs = OTHER_OUTPUTS.replace("'p'", "'w'");
    let (out, calls) = calls(&format!("{SEEN}{window}{consumers}{outputs}"), &[PURCHASES, PURCHASES, &[]]);
    assert_eq!(out, [[r#"{"count":5}"#], [r#"{"count":10}"#], [r#"{"count":5}"#]]);
    assert_eq!(calls, 10);
}

#[test]
fn what_has_one_reader_is_not_kept() {
    let one = "[stream.q]\nfrom = 'p'\nfilter = 'price > 1'\n[stream.out]\nfrom = 'q'\ncount = true\n\
        [stream.unread]\nfrom = 'p'\ncount = true";
    let (plan, _) = counted(&format!("{SEEN}{one}"));
    assert_eq!(shared(&plan), 0);
    let sealed = "[stream.k]\nfrom = 'purchases'\nreduce_by_key = { key = 'user', aggregates = { price = 'sum(price)' } }\n\
        [stream.out]\nfrom = 'k'\ncount = true\n[[output]]\nfrom = 'k'\nprint = true\n";
    // The rows of a stage are there for all its branches.
    assert_eq!(shared(&counted(sealed).0), 0);
}
