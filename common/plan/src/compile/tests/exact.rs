//! INV-1: results do not depend on when, how often, beside what or in which company something runs.

use super::*;
use crate::error::PlanError;
use crate::fragment::Runner;
use crate::ipc::to_ipc;
use crate::plan::StageInput;
use proptest::prelude::*;

const SUMS: &str = r#"
[stream.out]
from = "purchases"
reduce_by_key = { key = "user", aggregates = { total = "sum(price)", mean = "avg(price)", dev = "stddev(price)", n = "count(distinct product)" } }
"#;

fn block(seed: usize) -> String {
    let price = |i: usize| [1e16, 1.0, -1e16, 0.1, 3.7][(i * 7 + seed) % 5];
    (0..50).map(|i| format!("u{},p{},{:?}\n", (i * i + seed) % 7, i % 3, price(i))).collect()
}

#[test]
fn one_plan_run_again_and_again_beside_itself() {
    let plan = plan(
        "[stream.out]\nfrom = \"purchases\"\nreduce_by_key = { key = \"user\", aggregates = { total = \"sum(price)\", dev = \"stddev(price)\" } }",
    );
    let runner = Arc::new(Runner::new(plan.clone(), 64 << 20));
    let stage = &plan.stages[0];
    assert!(matches!(stage.input, StageInput::Source(_)));
    let partial = stage.branches[0].fragment.clone().unwrap();
    let last = plan.stages[1].head.clone().unwrap();
    let once = |seed: usize| {
        let (runner, plan) = (runner.clone(), plan.clone());
        let (partial, last) = (partial.clone(), last.clone());
        async move {
            let ctx = context(1);
            let mut pieces = Vec::new();
            for part in 0..3 {
                let rows = plan.sources[0].decode(block(seed + part).as_bytes()).unwrap().batches;
                pieces.extend(runner.run(&partial, vec![rows], &ctx).await.unwrap());
            }
            let rows = runner.run(&last, vec![pieces], &ctx).await.unwrap();
            to_ipc(&rows, &last.schema()).unwrap()
        }
    };
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    threads.block_on(async {
        let mut expected = Vec::new();
        for seed in 0..5 {
            expected.push(once(seed).await);
        }
        for round in 0..250 {
            let four: Vec<_> = (0..4).map(|i| tokio::spawn(once((round + i) % 5))).collect();
            for (i, result) in four.into_iter().enumerate() {
                assert_eq!(result.await.unwrap(), expected[(round + i) % 5]);
            }
        }
    });
}

#[test]
fn floats_are_added_in_the_order_of_blocks() {
    let plan = plan(
        "[stream.out]\nfrom = \"purchases\"\nreduce_by_key = { key = \"user\", aggregates = { total = \"sum(price)\" } }",
    );
    let total = |blocks: &[&str]| rows(&plan, blocks);
    assert_eq!(total(&["a,p,1e16\n", "a,p,1\n", "a,p,-1e16\n"]), [r#"{"user":"a","total":0.0}"#]);
    assert_eq!(total(&["a,p,1e16\n", "a,p,-1e16\n", "a,p,1\n"]), [r#"{"user":"a","total":1.0}"#]);
}

#[test]
fn any_number_of_tasks_gives_the_same() {
    let distributed = [
        SUMS.to_string(),
        "[stream.out]\nfrom = \"purchases\"\nreduce = { total = \"sum(price)\", mean = \"avg(price)\" }".into(),
        "[stream.sums]\nfrom = \"purchases\"\nreduce_by_key = { key = \"user\", aggregates = { total = \"sum(price)\" } }\n[stream.out]\nfrom = \"sums\"\nreduce = { total = \"sum(total)\", dev = \"stddev(total)\" }".into(),
        "[stream.out]\nfrom = \"purchases\"\nsql = \"select user, sum(price) as total, first_value(product) as f from purchases group by user order by total\"".into(),
    ];
    let texts: Vec<_> = (0..9).map(block).collect();
    let batch: Vec<&str> = texts.iter().map(String::as_str).collect();
    for streams in distributed {
        let plan = plan(&streams);
        let expected = run(&plan, 1, &[&batch]);
        assert!(!expected[0].is_empty());
        for tasks in 2..9 {
            assert_eq!(run(&plan, tasks, &[&batch]), expected);
        }
    }
}

#[test]
fn a_run_has_its_own_memory() {
    let plan = plan("[stream.out]\nfrom = \"purchases\"\nsql = \"select * from purchases order by price\"");
    let rows = plan.sources[0].decode(block(1).as_bytes()).unwrap().batches;
    let head = plan.stages[1].head.as_ref().unwrap();
    let run = |memory| block_on(Runner::new(plan.clone(), memory).run(head, vec![rows.clone()], &context(1)));
    assert!(matches!(run(1000), Err(PlanError::Memory(_))));
    assert_eq!(run(1 << 20).unwrap()[0].num_rows(), 50);
}

#[test]
fn the_fingerprint_is_of_the_definition() {
    assert_eq!(plan(SUMS).fingerprint, plan(SUMS).fingerprint);
    assert_ne!(plan(SUMS).fingerprint, plan(&SUMS.replace("sum(price)", "sum(price + 1)")).fingerprint);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn sums_by_any_cut_of_key_groups(values in prop::collection::vec((0u8..5, -1e12f64..1e12), 1..60), tasks in 1u32..9) {
        let plan = plan(SUMS);
        let lines: Vec<_> = values.iter().map(|(user, price)| format!("u{user},p,{price:?}\n")).collect();
        let batch: Vec<&str> = lines.iter().map(String::as_str).collect();
        prop_assert_eq!(run(&plan, tasks, &[&batch]), run(&plan, 1, &[&batch]));
    }
}
