//! Jobs that use functions in Rust.

use super::{definition, run};
use crate::arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch};
use crate::arrow::datatypes::Float64Type;
use crate::registry::{Aggregate, FunctionError, Functions};
use crate::{BranchTarget, JobPlan, Placement, Stage, compile};
use std::path::Path;
use std::sync::Arc;
use tidemill_common::diag::Diagnostics;
use tidemill_job::parse;

/// The middle of all values.
struct Median;

impl Aggregate for Median {
    type Arguments = (f64,);
    type State = Vec<f64>;
    type Output = Option<f64>;

    fn update(&self, state: &mut Vec<f64>, (value,): (f64,)) {
        state.push(value);
    }

    fn merge(&self, state: &mut Vec<f64>, later: Vec<f64>) {
        state.extend(later);
    }

    fn finish(&self, state: &Vec<f64>) -> Option<f64> {
        let mut sorted = state.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }

    fn heap_bytes(&self, state: &Vec<f64>) -> usize {
        8 * state.capacity()
    }
}

/// One row for all: how many, and the sum of the last column.
fn summary(rows: &RecordBatch) -> Result<RecordBatch, FunctionError> {
    let last = rows.columns().last().ok_or("no columns")?;
    let sum: f64 = last.as_primitive_opt::<Float64Type>().ok_or("not a double")?.iter().flatten().sum();
    let column = |value: f64| -> ArrayRef { Arc::new(Float64Array::from(vec![value])) };
    Ok(RecordBatch::try_from_iter([("rows", column(rows.num_rows() as f64)), ("sum", column(sum))])?)
}

fn functions(version: u32) -> Functions {
    let mut functions = Functions::new();
    functions.scalar("initial", version, |name: &str| name.chars().next().map(String::from)).unwrap();
    functions.scalar("refuse", 1, |name: &str| Err::<i64, _>(format!("not {name}"))).unwrap();
    functions.aggregate("middle", 1, Median).unwrap();
    functions.for_each_batch("see", |_| Ok(())).unwrap();
    functions.batch_map("summary", 1, &[("rows", "double"), ("sum", "double")], summary).unwrap();
    functions
}

fn compiled(streams: &str, version: u32) -> Result<JobPlan, Diagnostics> {
    compile(Arc::new(parse(&definition(streams)).unwrap()), Path::new("."), &functions(version))
}

fn plan(streams: &str) -> Arc<JobPlan> {
    Arc::new(compiled(streams, 1).unwrap())
}

fn same(streams: &str, batches: &[&[&str]]) -> Vec<Vec<String>> {
    let plan = plan(streams);
    let one = run(&plan, 1, batches);
    for tasks in [2, 3, 8] {
        assert_eq!(run(&plan, tasks, batches), one);
    }
    one
}

const BATCHES: &[&[&str]] = &[
    &["ana,cover,9.5\nbob,phone,5.5\nana,cover,8.5\n", "cid,cover,7.5\nana,phone,1.5\n,phone,1.0\n"],
    &[],
    &["bob,cover,2.5\n"],
];

#[test]
fn scalars_stand_in_any_expression() {
    let streams = "[stream.out]\nfrom = 'purchases'\nselect = { i = \"initial(user)\" }";
    let out = same(streams, BATCHES);
    assert_eq!(out[0][..2], [r#"{"i":"a"}"#, r#"{"i":"b"}"#]);
    assert_eq!(out[2], [r#"{"i":"b"}"#]);
    let streams = "[stream.out]\nfrom = 'purchases'\nsql = \"select initial(user) as i, count(*) as n from purchases group by 1 order by 1\"";
    assert_eq!(same(streams, BATCHES)[0][2], r#"{"i":"c","n":1}"#);
}

#[test]
fn aggregates_merge() {
    let streams =
        "[stream.out]\nfrom = 'purchases'\nreduce_by_key = { key = 'user', aggregates = { m = 'middle(price)' } }";
    let out = same(streams, BATCHES);
    assert!(out[0].contains(&r#"{"user":"ana","m":8.5}"#.to_string()), "{out:?}");
    let streams = "[stream.out]\nfrom = 'purchases'\nreduce = { m = 'middle(price) + 1' }";
    assert_eq!(same(streams, BATCHES), [vec![r#"{"m":8.5}"#], vec![], vec![r#"{"m":3.5}"#]]);
}

#[test]
fn aggregates_in_state() {
    let streams =
        "[stream.out]\nfrom = 'purchases'\nupdate_state_by_key = { key = 'user', state = { m = 'middle(price)' } }";
    let out = same(streams, BATCHES);
    assert!(out[1].contains(&r#"{"user":"ana","m":null}"#.to_string()), "{out:?}");
}

#[test]
fn batch_maps_see_a_unit() {
    let streams = "[stream.out]\nfrom = 'purchases'\nbatch_map = { function = 'summary' }";
    let out = same(streams, BATCHES);
    let blocks = [r#"{"rows":3.0,"sum":23.5}"#, r#"{"rows":3.0,"sum":10.0}"#];
    assert_eq!(out, [blocks.to_vec(), vec![], vec![r#"{"rows":1.0,"sum":2.5}"#]]);
}

#[test]
fn batch_maps_of_key_groups_and_after_them() {
    let keyed = "[stream.k]\nfrom = 'purchases'\nreduce_by_key = { key = 'user', aggregates = { s = 'sum(price)' } }\n";
    let streams = format!("{keyed}[stream.out]\nfrom = 'k'\nbatch_map = {{ function = 'summary' }}");
    let out = same(&streams, BATCHES);
    let rows: usize = out[0].iter().filter_map(|row| row.split(&[':', '.'][..]).nth(1)?.parse::<usize>().ok()).sum();
    assert_eq!(rows, 4);
    let streams = format!(
        "{keyed}[stream.b]\nfrom = 'k'\nbatch_map = {{ function = 'summary' }}\n[stream.out]\nfrom = 'b'\nreduce = {{ n = 'sum(rows)' }}"
    );
    assert_eq!(same(&streams, BATCHES)[0], [r#"{"n":4.0}"#]);
}

#[test]
fn for_each_batch_has_all_rows_in_one_place() {
    let keyed = "[stream.out]\nfrom = 'purchases'\nreduce_by_key = { key = 'user', aggregates = { s = 'sum(price)' } }";
    for stream in [
        keyed,
        "[stream.out]\nfrom = 'purchases'\nfilter = 'price > 2'",
        "[stream.out]\nfrom = 'purchases'\ncount = true",
    ] {
        let printed = definition(stream);
        let seen = printed.replace("print = true", "for_each_batch = 'see'");
        let compiled =
            |text: &str| Arc::new(compile(Arc::new(parse(text).unwrap()), Path::new("."), &functions(1)).unwrap());
        let (printed, seen) = (compiled(&printed), compiled(&seen));
        let ends = |stage: &&Stage| stage.branches.iter().any(|b| matches!(b.target, BranchTarget::Output { .. }));
        assert_eq!(seen.stages.iter().find(ends).unwrap().placement, Placement::Single);
        assert_eq!(seen.functions[0].to_string(), "for_each_batch `see`");
        assert_eq!(run(&seen, 3, BATCHES), run(&printed, 1, BATCHES));
    }
}

#[test]
fn functions_over_a_union() {
    let union = "[stream.k]\nfrom = 'purchases'\nreduce_by_key = { key = 'user', aggregates = { s = 'sum(price)' } }\n\
        [stream.p]\nfrom = 'purchases'\nselect = { user = \"\\\"user\\\"\", s = 'price' }\n\
        [stream.u]\nfrom = ['p', 'k']\nunion = true\n";
    let streams = format!("{union}[stream.out]\nfrom = 'u'\nbatch_map = {{ function = 'summary' }}");
    let out = same(&streams, BATCHES);
    assert_eq!(out[0][..2], [r#"{"rows":3.0,"sum":23.5}"#, r#"{"rows":3.0,"sum":10.0}"#]);
    assert_eq!(out[1], Vec::<String>::new());
    let stream = format!("{union}[stream.out]\nfrom = 'u'\nfilter = 's > 1'");
    let seen = definition(&stream).replace("print = true", "for_each_batch = 'see'");
    let seen = Arc::new(compile(Arc::new(parse(&seen).unwrap()), Path::new("."), &functions(1)).unwrap());
    assert_eq!(run(&seen, 3, BATCHES), run(&plan(&stream), 1, BATCHES));
}

#[test]
fn used_functions_are_part_of_the_fingerprint() {
    let uses = "[stream.out]\nfrom = 'purchases'\nselect = { i = 'initial(user)' }";
    let plan = compiled(uses, 1).unwrap();
    assert_eq!(plan.functions.iter().map(ToString::to_string).collect::<Vec<_>>(), ["scalar `initial` version 1"]);
    assert_ne!(plan.fingerprint, compiled(uses, 2).unwrap().fingerprint);
    let other = "[stream.out]\nfrom = 'purchases'\nreduce = { m = 'middle(price)' }";
    assert_eq!(compiled(other, 1).unwrap().fingerprint, compiled(other, 2).unwrap().fingerprint);
    let sql = "[stream.out]\nfrom = 'purchases'\nsql = 'select middle(price) as m from purchases'";
    assert_eq!(compiled(sql, 1).unwrap().functions[0].name, "middle");
}

#[test]
fn unknown_functions_are_mistakes() {
    let wrong = |streams: &str| compiled(streams, 1).unwrap_err().to_string();
    let select = wrong("[stream.out]\nfrom = 'purchases'\nselect = { i = 'initail(user)' }");
    assert!(select.contains("initail"), "{select}");
    let map = wrong("[stream.out]\nfrom = 'purchases'\nbatch_map = { function = 'sumary' }");
    assert_eq!(map.trim(), "there is no batch_map function called `sumary`");
}

#[test]
fn a_refusal_is_a_failure_on_the_data() {
    let plan = plan("[stream.out]\nfrom = 'purchases'\nselect = { i = 'refuse(user)' }");
    let mut evaluator = crate::testkit::Evaluator::new(plan, 1).unwrap();
    let (context, blocks) = (super::context(1), super::blocks(BATCHES[2]));
    let batch = evaluator.batch_json(&context, &blocks);
    let error = futures::executor::block_on(batch).unwrap_err();
    let expected = "stream `out`: `refuse`: not bob, in `i = refuse(user)`, for {\"user\":\"bob\"}";
    assert!(matches!(&error, crate::PlanError::Data(text) if text == expected), "{error:?}");
}
