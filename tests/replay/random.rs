//! Random jobs on random batches, with any number of workers, one of them killed or not: to the byte what the plain
//! evaluator says.

use crate::command::Case;
use crate::oracle::{
    Aggregate, Column, Condition, JoinKind, Map, Operator, Oracle, Record, Row, Sliding, Stream, Update, slides,
};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::FileFailurePersistence;

/// A replay takes a good part of a second; `PROPTEST_CASES` asks for more.
const CASES: u32 = 40;

/// A job, its batches, and how they are run.
#[derive(Debug, Clone)]
struct Plan {
    key_groups: u64,
    streams: Vec<Stream>,
    /// The streams that have an output.
    outputs: Vec<usize>,
    batches: Vec<Vec<Record>>,
    workers: usize,
    kill: Option<usize>,
}

fn aggregate() -> impl Strategy<Value = Aggregate> {
    select(vec![Aggregate::Sum, Aggregate::Min, Aggregate::Max])
}

fn operator() -> impl Strategy<Value = Operator> {
    let update = (any::<bool>(), any::<bool>(), any::<bool>(), prop::option::of(1..9i64));
    let update = update.prop_map(|(every_key, emit_all, count_calls, drop_over)| Update {
        every_key,
        emit_all,
        count_calls,
        drop_over,
    });
    let map = (any::<bool>(), prop::option::of(1..5i64), prop::option::of(1..3u64), prop::option::of(-1..3i64));
    let map = map.prop_map(|(per_record, remove_over, timeout, emit_over)| Map {
        per_record,
        remove_over,
        timeout,
        emit_over,
    });
    // The whole batch adds up within a block in no order that is easily told: `whole_sums_are_the_same_everywhere`.
    let extreme = select(vec![Aggregate::Min, Aggregate::Max]);
    let sliding = || (1..7i64, 1..4i64).prop_map(|(length, slide)| Sliding { length, slide });
    let windowed = (prop::option::of(aggregate()), aggregate(), sliding(), any::<bool>());
    prop_oneof![
        3 => sliding().prop_map(Operator::Window),
        3 => windowed.prop_map(|(n, x, sliding, keep)| Operator::ReduceByKeyAndWindow { n, x, sliding, keep }),
        2 => (-2..3i64).prop_map(|add| Operator::Select { add }),
        1 => (0..4i64).prop_map(|n| Operator::Filter(Condition::NAbove(n))),
        1 => select(vec![Condition::XBelow(0.5), Condition::NotA]).prop_map(Operator::Filter),
        2 => Just(Operator::FlatMap),
        3 => (prop::option::of(aggregate()), aggregate()).prop_map(|(n, x)| Operator::ReduceByKey { n, x }),
        1 => Just(Operator::Distinct),
        1 => Just(Operator::CountByValue),
        1 => Just(Operator::GroupByKey),
        1 => Just(Operator::Count),
        1 => (aggregate(), extreme).prop_map(|(n, x)| Operator::Reduce { n, x }),
        5 => update.prop_map(Operator::Update),
        5 => map.prop_map(Operator::Map),
        2 => Just(Operator::Snapshots),
        3 => Just(Operator::Union),
        4 => (select(JOINS.map(|(kind, _)| kind).to_vec()), prop::option::of(1..4i64))
            .prop_map(|(kind, within)| Operator::Join(kind, within)),
        1 => (any::<bool>(), prop::option::of(1..6usize)).prop_map(|(descending, limit)| {
            Operator::Sort { descending, limit }
        }),
        1 => (1..4usize).prop_map(Operator::TopK),
    ]
}

const JOINS: [(JoinKind, &str); 6] = [
    (JoinKind::Inner, "join"),
    (JoinKind::LeftOuter, "left_outer_join"),
    (JoinKind::RightOuter, "right_outer_join"),
    (JoinKind::FullOuter, "full_outer_join"),
    (JoinKind::Semi, "semi"),
    (JoinKind::Anti, "anti"),
];

/// The columns of the source and of streams.
fn columns(streams: &[Stream], of: Option<usize>) -> Vec<Column> {
    let Some(stream) = of.map(|of| &streams[of]) else {
        return vec![Column::K, Column::N, Column::X, Column::T];
    };
    match stream.operator {
        Operator::FlatMap => vec![Column::N, Column::X, Column::K],
        Operator::Select { .. }
        | Operator::Filter(_)
        | Operator::Distinct
        | Operator::Union
        | Operator::Join(JoinKind::Semi | JoinKind::Anti, _)
        | Operator::Window(_)
        | Operator::Sort { .. }
        | Operator::TopK(_) => columns(streams, stream.from[0]),
        _ => vec![Column::K, Column::N, Column::X],
    }
}

/// Rows of a key in a join.
const MOST_PAIRS: u64 = 50_000;

/// About how many rows a key has in a batch, at most.
fn most(streams: &[Stream], of: Option<usize>) -> u64 {
    let Some(stream) = of.map(|of| &streams[of]) else {
        return 20;
    };
    let mut inputs = stream.from.iter().map(|from| most(streams, *from));
    match stream.operator {
        Operator::Join(_, within) => inputs.product::<u64>() * (2 * within.unwrap_or(0).unsigned_abs() + 1),
        Operator::Union => inputs.sum(),
        Operator::Window(sliding) => inputs.sum::<u64>() * sliding.length.unsigned_abs(),
        Operator::ReduceByKey { .. } | Operator::ReduceByKeyAndWindow { .. } | Operator::Update(_) => 1,
        _ => inputs.next().unwrap_or(1),
    }
}

/// Makes each operator fit what it reads: the newest stream that can be read, or any other; beside it, if it reads two,
/// any that fits.
fn connect(operators: Vec<(Operator, bool, Index)>) -> Vec<Stream> {
    let mut streams: Vec<Stream> = Vec::new();
    let mut readable = vec![None];
    let mut joins = 0;
    for (number, (operator, newest, any)) in operators.into_iter().enumerate() {
        let from = if newest { readable[readable.len() - 1] } else { *any.get(&readable) };
        let input = columns(&streams, from);
        let slides = slides(&streams);
        let slide = |of: Option<usize>| of.map_or(1, |of| slides[of]);
        let together = |other: Option<usize>| most(&streams, from).saturating_mul(most(&streams, other));
        let fits = |other: &&Option<usize>| match operator {
            _ if slide(**other) != slide(from) => false,
            Operator::Union => columns(&streams, **other) == input,
            _ => **other != from && together(**other) <= MOST_PAIRS,
        };
        let others: Vec<Option<usize>> = readable.iter().filter(fits).copied().collect();
        let (operator, also) = match operator {
            Operator::FlatMap if !input.contains(&Column::T) => (Operator::Select { add: 1 }, None),
            Operator::Snapshots if !from.is_some_and(|from| has_state(&streams[from])) => {
                (Operator::Select { add: 2 }, None)
            }
            // Joins of joins of joins have too many rows.
            Operator::Join(..) if others.is_empty() || joins == 2 => (Operator::Select { add: 1 }, None),
            operator @ (Operator::Join(..) | Operator::Union) => (operator, Some(*any.get(&others))),
            operator => (operator, None),
        };
        joins += usize::from(matches!(operator, Operator::Join(..)));
        if !matches!(operator, Operator::Count | Operator::Reduce { .. }) {
            readable.push(Some(number));
        }
        streams.push(Stream { from: [from].into_iter().chain(also).collect(), operator });
    }
    streams
}

fn has_state(stream: &Stream) -> bool {
    matches!(stream.operator, Operator::Update(_) | Operator::Map(_))
}

fn record() -> impl Strategy<Value = Record> {
    let key = select(vec![Some("a"), Some("a"), Some("a"), Some("a"), Some("b"), Some("c"), Some("d"), Some(""), None]);
    let x = select(vec![Some(1e16), Some(1.0), Some(-1e16), Some(0.1), Some(2.5), Some(-3.7), None]);
    let text = select(vec![Some("a"), Some("to be or not to be"), Some("b  c "), Some(""), Some(" "), None]);
    let row = (key, prop::option::weighted(0.9, -3..7i64), x, text).prop_map(|(k, n, x, t)| Row::new(k, n, x, t));
    prop::option::weighted(0.95, row)
}

fn plan() -> impl Strategy<Value = Plan> {
    let operators = prop::collection::vec((operator(), prop::bool::weighted(0.6), any::<Index>()), 1..6);
    let batches = prop::collection::vec(prop::collection::vec(record(), 0..40), 1..12);
    let outputs = prop::collection::vec(any::<bool>(), 6);
    let kill = prop::option::of(any::<Index>());
    (select(vec![1, 3, 64]), operators, outputs, batches, 1..6usize, kill).prop_map(
        |(key_groups, operators, with_output, batches, workers, kill)| {
            let streams = connect(operators);
            let last = streams.len() - 1;
            let outputs: Vec<_> = (0..=last).filter(|&stream| stream == last || with_output[stream]).collect();
            let killable = workers > 1 && has_key_groups(&streams, &outputs);
            // In an empty batch there is nothing to lose between map and reduce, which `replay` says.
            let kill = kill.filter(|_| killable).map(|batch| batch.index(batches.len()) + 1);
            let kill = kill.filter(|batch| !batches[batch - 1].is_empty());
            Plan { key_groups, streams, outputs, batches, workers, kill }
        },
    )
}

/// Whether some stream that an output needs has owners, who may be killed.
fn has_key_groups(streams: &[Stream], outputs: &[usize]) -> bool {
    let keyed = |stream: &Stream| {
        matches!(
            stream.operator,
            Operator::ReduceByKey { .. }
                | Operator::Distinct
                | Operator::CountByValue
                | Operator::GroupByKey
                | Operator::Join(..)
                | Operator::TopK(_)
                | Operator::Window(_)
                | Operator::ReduceByKeyAndWindow { .. }
        ) || has_state(stream)
    };
    outputs.iter().any(|&output| {
        let stream = &streams[output];
        let inputs: Vec<usize> = stream.from.iter().flatten().copied().collect();
        keyed(stream) || has_key_groups(streams, &inputs)
    })
}

fn definition(plan: &Plan) -> String {
    let mut text = format!(
        r#"
name = "random"
batch_interval = "1s"
key_groups = {}

[source.records]
connector = "socket"
address = "127.0.0.1:9999"
format = "csv"
columns = {{ k = "string", n = "bigint", x = "double", t = "string" }}
null = "-"
"#,
        plan.key_groups
    );
    let slides = slides(&plan.streams);
    for (number, stream) in plan.streams.iter().enumerate() {
        let names: Vec<_> =
            stream.from.iter().map(|from| from.map_or("records".into(), |from| format!("s{from}"))).collect();
        let name = format!("s{number}");
        text += &match stream.operator {
            Operator::Join(kind, within) => join_text(&name, &names, kind, within),
            Operator::CountByValue => selected(&name, &names, "count_by_value = true", "count", "x"),
            Operator::GroupByKey => {
                let lists = "group_by_key = { key = \"k\", values = [\"n\", \"x\"] }";
                selected(&name, &names, lists, "array_element(n, 1)", "array_element(x, -1)")
            }
            _ => {
                let input = columns(&plan.streams, stream.from[0]);
                let step = stream.from[0].map_or(1, |from| slides[from]);
                format!("\n[stream.{name}]\nfrom = {names:?}\n{}\n", operator_text(&stream.operator, &input, step))
            }
        };
    }
    for output in &plan.outputs {
        text += &format!("\n[[output]]\nfrom = \"s{output}\"\nprint = true\n");
    }
    text
}

/// Of an operator whose input has these columns and fires every `step` batches.
fn operator_text(operator: &Operator, input: &[Column], step: i64) -> String {
    let call = |aggregate: &Aggregate, column: &str| format!("{aggregate:?}({column})").to_lowercase();
    let frame = |of: &Sliding| format!("length = \"{}s\", slide = \"{}s\"", of.length * step, of.slide * step);
    match operator {
        Operator::Select { add } => {
            let expression = |column: &Column| match column {
                Column::N => format!("n = \"n + {add}\""),
                Column::X => "x = \"x * 0.5\"".to_string(),
                other => format!("{0} = \"{0}\"", other.name()),
            };
            format!("select = {{ {} }}", input.iter().map(expression).collect::<Vec<_>>().join(", "))
        }
        Operator::Filter(Condition::NAbove(n)) => format!("filter = \"n > {n}\""),
        Operator::Filter(Condition::XBelow(x)) => format!("filter = \"x < {x:?}\""),
        Operator::Filter(Condition::NotA) => "filter = \"k <> 'a'\"".into(),
        Operator::FlatMap => "flat_map = { split = \"t\", by = \" \", as = \"k\", keep = [\"n\", \"x\"] }".into(),
        Operator::ReduceByKey { n, x } => {
            let n = n.as_ref().map_or("count(*)".into(), |n| call(n, "n"));
            format!("reduce_by_key = {{ key = \"k\", aggregates = {{ n = \"{n}\", x = \"{}\" }} }}", call(x, "x"))
        }
        Operator::Window(sliding) => format!("window = {{ {} }}", frame(sliding)),
        Operator::ReduceByKeyAndWindow { n, x, sliding, keep } => {
            let n = n.as_ref().map_or("count(*)".into(), |n| call(n, "n"));
            let aggregates = format!("aggregates = {{ n = \"{n}\", x = \"{}\" }}", call(x, "x"));
            let frame = frame(sliding);
            format!("reduce_by_key_and_window = {{ key = \"k\", {aggregates}, {frame}, keep_zero_keys = {keep} }}")
        }
        Operator::Distinct => "distinct = true".into(),
        Operator::Count => "count = true".into(),
        Operator::Reduce { n, x } => format!("reduce = {{ n = \"{}\", x = \"{}\" }}", call(n, "n"), call(x, "x")),
        Operator::Update(update) => update_text(update),
        Operator::Map(map) => map_text(map),
        Operator::Snapshots => "state_snapshots = true".into(),
        Operator::Union | Operator::Join(..) | Operator::CountByValue | Operator::GroupByKey => "union = true".into(),
        Operator::Sort { descending, limit } => {
            let n = if *descending { "-n" } else { "n" };
            let limit = limit.map_or(String::new(), |limit| format!(", limit = {limit}"));
            format!("sort = {{ by = [\"{n}\", \"x\"]{limit} }}")
        }
        Operator::TopK(k) => format!("top_k = {{ k = {k}, by = \"n\", per = \"k\" }}"),
    }
}

/// An operator with `k` in what it gives, and a stream of its own with what becomes `n` and `x`.
fn selected(name: &str, from: &[String], operator: &str, n: &str, x: &str) -> String {
    format!(
        "\n[stream.{name}_all]\nfrom = {from:?}\n{operator}\n\n[stream.{name}]\nfrom = \"{name}_all\"\n\
         select = {{ k = \"k\", n = \"{n}\", x = \"{x}\" }}\n"
    )
}

/// A join, and what becomes of a pair in a stream of its own.
fn join_text(name: &str, from: &[String], kind: JoinKind, within: Option<i64>) -> String {
    let key = JOINS.iter().find(|(known, _)| *known == kind).map_or("join", |(_, key)| *key);
    let within = within.map_or(String::new(), |seconds| format!(", within = \"{seconds}s\""));
    if matches!(kind, JoinKind::Semi | JoinKind::Anti) {
        return format!("\n[stream.{name}]\nfrom = {from:?}\n{key} = {{ on = \"k\"{within} }}\n");
    }
    let (left, right) = (&from[0], &from[1]);
    format!(
        "\n[stream.{name}_pairs]\nfrom = {from:?}\n{key} = {{ on = \"k\"{within} }}\n\n[stream.{name}]\nfrom = \"{name}_pairs\"\n\
         select = {{ k = \"k\", n = \"10 * coalesce({left}_n, 0) + coalesce({right}_n, 0)\", x = \"{left}_x\" }}\n"
    )
}

fn update_text(update: &Update) -> String {
    let keys = if update.every_key { "every_key" } else { "touched" };
    let emit = if update.emit_all { "all" } else { "changed" };
    let n = if update.count_calls { "1" } else { "count(*)" };
    let drop_when = update.drop_over.map_or(String::new(), |most| format!(", drop_when = \"state.n > {most}\""));
    format!(
        "update_state_by_key = {{ key = \"k\", update = \"{keys}\", emit = \"{emit}\"{drop_when}, state = {{ \
         n = \"coalesce(state.n, 0) + {n}\", x = \"coalesce(state.x, 0.0) + coalesce(sum(x), 0.0)\" }} }}"
    )
}

fn map_text(map: &Map) -> String {
    let (per, n, x) = if map.per_record { ("record", "1", "x") } else { ("key", "count(*)", "sum(x)") };
    let mut text = format!(
        "map_with_state = {{ key = \"k\", per = \"{per}\", state = {{ \
         n = \"coalesce(state.n, 0) + {n}\", x = \"coalesce(state.x, 0.0) + coalesce({x}, 0.0)\" }}"
    );
    text += &map.remove_over.map_or(String::new(), |over| format!(", remove_when = \"state.n > {over}\""));
    text += &map.timeout.map_or(String::new(), |batches| format!(", timeout = \"{batches}s\""));
    text += &map.emit_over.map_or(String::new(), |over| format!(", emit_when = \"timing_out or n > {over}\""));
    text + " }"
}

fn line(record: &Record) -> String {
    let Some(row) = record else { return "a,no number,1,b".into() };
    let text = |text: &Option<String>| text.clone().unwrap_or("-".into());
    let n = row.n.map_or("-".into(), |n| n.to_string());
    let x = row.x.map_or("-".into(), |x| format!("{x:?}"));
    format!("{},{n},{x},{}", text(&row.k), text(&row.t))
}

/// What the plain evaluator says, and which of the streams counts.
fn expected(plan: &Plan) -> String {
    let mut oracle = Oracle::new(plan.key_groups, &plan.streams);
    let mut text = String::new();
    for (number, records) in plan.batches.iter().enumerate() {
        let rows = oracle.batch(records);
        for &output in &plan.outputs {
            let batch = number + 1;
            // A count has one column, whose name is fixed.
            let Some(rows) = &rows[output] else { continue };
            let rows = match plan.streams[output].operator {
                Operator::Count => rows.join(", ").replace("\"n\"", "\"count\""),
                _ => rows.join(", "),
            };
            let time_ms = batch * 1000;
            text += &format!(
                "{{\"batch\": {batch}, \"time_ms\": {time_ms}, \"output\": \"s{output}\", \"rows\": [{rows}]}}\n"
            );
        }
    }
    text
}

fn input(batches: &[Vec<Record>]) -> String {
    let lines: Vec<Vec<String>> = batches.iter().map(|records| records.iter().map(line).collect()).collect();
    serde_json::json!({"sources": {"records": lines}}).to_string()
}

fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let asked_for = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig {
        cases: if asked_for { default.cases } else { CASES },
        max_shrink_iters: 200,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..default
    }
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn random_jobs(plan in plan()) {
        let definition = definition(&plan);
        let case = Case::new(&definition, &input(&plan.batches));
        let workers = plan.workers.to_string();
        let kill = plan.kill.map(|batch| batch.to_string());
        let mut options = vec!["--workers", &workers];
        options.extend(kill.iter().flat_map(|batch| ["--kill", batch]));
        let run = case.replay(&options);
        prop_assert_eq!(run.code, 0, "{}\n{}\n{:?}", run.stderr, definition, options);
        let expected = expected(&plan);
        prop_assert!(run.stdout == expected, "expected\n{expected}\nfound\n{}\nby\n{definition}\n{options:?}", run.stdout);
        prop_assert!(!run.stderr.contains("WARN") && !run.stderr.contains("ERROR"), "{}", run.stderr);
    }
}

#[test]
fn whole_sums_are_the_same_everywhere() {
    let job = r#"
name = "sums"
batch_interval = "1s"

[source.records]
connector = "socket"
address = "127.0.0.1:9999"
format = "csv"
columns = { k = "string", x = "double" }

[stream.totals]
from = "records"
reduce = { x = "sum(x)", mean = "avg(x)", deviation = "stddev(x)" }

[stream.by_key]
from = "records"
reduce_by_key = { key = "k", aggregates = { x = "sum(x)", mean = "avg(x)", deviation = "stddev(x)" } }

[stream.of_keys]
from = "by_key"
reduce = { x = "sum(x)", deviation = "sum(deviation)" }

[[output]]
from = "totals"
print = true

[[output]]
from = "of_keys"
print = true
"#;
    let xs = [1e16, 1.0, -1e16, 0.1, 1e-7, 3.7];
    let lines =
        |batch: usize| (0..50).map(|i| format!("k{},{:?}", i * i % 13, xs[(i * 7 + batch) % xs.len()])).collect();
    let batches: Vec<Vec<String>> = (0..3).map(lines).collect();
    let case = Case::new(job, &serde_json::json!({"sources": {"records": batches}}).to_string());
    let once = case.replay(&["--workers", "1"]).ok();
    assert_eq!(once.lines().count(), 6);
    for workers in ["2", "5"] {
        assert_eq!(case.replay(&["--workers", workers]).ok(), once);
        assert_eq!(case.replay(&["--workers", workers, "--kill", "2"]).ok(), once);
    }
}
