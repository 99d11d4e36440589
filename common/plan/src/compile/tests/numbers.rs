//! Numbers at their ends: against plain oracles, however rows are split.

use super::{blocks, compile_in, context};
use crate::PlanError;
use crate::plan::JobPlan;
use crate::testkit::Evaluator;
use futures::executor::block_on;
use proptest::prelude::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

fn definition(streams: &str) -> String {
    format!(
        r#"
name = "test"
batch_interval = "1s"
key_groups = 4

[source.in]
connector = "socket"
address = "127.0.0.1:9999"
format = "csv"
columns = {{ k = "string", n = "int", i = "bigint", d = "decimal(38, 2)", x = "double" }}

{streams}

[[output]]
from = "out"
print = true
"#
    )
}

fn compiled(streams: &str) -> Result<Arc<JobPlan>, String> {
    compile_in(&definition(streams), Path::new(".")).map(Arc::new).map_err(|mistakes| mistakes.to_string())
}

fn plan(streams: &str) -> Arc<JobPlan> {
    compiled(streams).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// What batches of blocks of csv lines give.
fn try_run(plan: &Arc<JobPlan>, batches: &[Vec<String>]) -> Result<Vec<Vec<Value>>, PlanError> {
    let mut evaluator = Evaluator::new(plan.clone(), 2).unwrap();
    let mut results = Vec::new();
    for (number, batch) in batches.iter().enumerate() {
        let batch: Vec<&str> = batch.iter().map(String::as_str).collect();
        let mut outputs = block_on(evaluator.batch_json(&context(number as u64 + 1), &blocks(&batch)))?;
        let rows = outputs.remove(0).unwrap_or_default();
        results.push(rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect());
    }
    Ok(results)
}

fn rows(streams: &str, lines: &str) -> Vec<Value> {
    try_run(&plan(streams), &[vec![lines.to_string()]]).unwrap().remove(0)
}

fn failure(streams: &str, lines: &str) -> String {
    match try_run(&plan(streams), &[vec![lines.to_string()]]) {
        Err(PlanError::Data(text)) => text,
        other => panic!("{other:?}"),
    }
}

fn select(expr: &str) -> String {
    format!("[stream.out]\nfrom = 'in'\nselect = {{ v = \"{expr}\" }}")
}

/// The one value of a row that is given as `v`.
fn value(streams: &str, lines: &str) -> Value {
    rows(streams, lines).remove(0)["v"].clone()
}

#[test]
fn arithmetic_does_not_wrap() {
    const LEAST: &str = "a,-2147483648,-9223372036854775808,-999999999999999999999999999999999999.99,0\n";
    const MOST: &str = "a,2147483647,9223372036854775807,999999999999999999999999999999999999.99,0\n";
    for (expr, line, data_type) in [
        ("i + 1", MOST, "bigint"),
        ("i - 1", LEAST, "bigint"),
        ("i * 2", MOST, "bigint"),
        ("-i", LEAST, "bigint"),
        ("abs(i)", LEAST, "bigint"),
        ("i / -1", LEAST, "bigint"),
        ("n + n", MOST, "int"),
        ("n * n", MOST, "int"),
        ("n - n - n", MOST, ""),
        ("-n", LEAST, "int"),
        ("d + d", MOST, "decimal(38, 2)"),
        ("d * d", MOST, "decimal(38, 4)"),
        ("d - d - d - d", LEAST, "decimal(38, 2)"),
        ("case when n > 0 then i + 1 else 0 end", MOST, "bigint"),
    ] {
        if data_type.is_empty() {
            assert!(try_run(&plan(&select(expr)), &[vec![line.to_string()]]).is_ok(), "{expr}");
            continue;
        }
        let text = failure(&select(expr), line);
        assert!(text.starts_with(&format!("stream `out`: `{expr}` overflows {data_type}")), "{expr}: {text}");
    }
    assert_eq!(value(&select("n * cast(n as bigint)"), MOST), Value::from(4_611_686_014_132_420_609_i64));
    assert!(failure(&select("i / n"), "a,0,1,0,0\n").contains("`i / n` divides by zero"));
}

#[test]
fn constants_that_overflow_are_mistakes() {
    for expr in ["9223372036854775807 + 1", "i + 9223372036854775807 * 2", "-(-9223372036854775807 - 1)"] {
        let mistakes = compiled(&select(expr)).unwrap_err();
        assert!(mistakes.contains("overflows bigint"), "{expr}: {mistakes}");
    }
    let sql =
        compiled("[stream.out]\nfrom = 'in'\nsql = 'select 9223372036854775807 + 1 as v from \"in\"'").unwrap_err();
    assert!(sql.contains("`9223372036854775807 + 1` overflows bigint"), "{sql}");
    assert_eq!(value(&select("1 + 2 * 3"), "a,0,0,0,0\n"), 7);
}

#[test]
fn it_is_so_in_every_operator() {
    let line = "a,1,9223372036854775807,0,0\n";
    let twice = format!("{line}{line}");
    for streams in [
        "reduce = { v = 'sum(i)' }",
        "reduce_by_key = { key = 'k', aggregates = { v = 'sum(i)' } }",
        "reduce_by_key = { key = 'k', aggregates = { v = 'max(i) + count(*)' } }",
        "reduce_by_key = { key = 'k', aggregates = { v = 'sum(i * 2)' } }",
        "reduce_by_window = { length = '2s', aggregates = { v = 'sum(i)' } }",
        "reduce_by_key_and_window = { key = 'k', length = '2s', aggregates = { v = 'sum(i)' } }",
        "update_state_by_key = { key = 'k', state = { v = 'coalesce(state.v, 0) + max(i) + count(*)' } }",
        "map_with_state = { key = 'k', state = { v = 'coalesce(state.v, 0) + i' }, emit = { v = 'state.v' } }",
        "sql = 'select k, sum(i) as v from \"in\" group by k'",
        "sql = 'select i + n as v from \"in\"'",
        "sql = 'select sum(i) over (order by n, i rows between 1 preceding and current row) as v from \"in\"'",
        "filter = 'i + n > 0'",
    ] {
        let text = failure(&format!("[stream.out]\nfrom = 'in'\n{streams}"), &twice);
        assert!(text.starts_with("stream `out`: ") && text.contains("overflows bigint"), "{streams}: {text}");
    }
}

#[test]
fn a_sum_that_fits_may_pass_through_some_that_do_not() {
    let up = "a,0,9223372036854775807,999999999999999999999999999999999999.99,0\n";
    let down = "a,0,-9223372036854775807,-999999999999999999999999999999999999.99,0\n";
    let streams = "[stream.out]\nfrom = 'in'\n\
        reduce_by_key_and_window = { key = 'k', length = '9s', aggregates = { s = 'sum(i)', t = 'sum(d)', a = 'avg(d)' } }";
    let batches: Vec<Vec<String>> = [vec![up, up, down], vec![down], vec![up, up], vec![down, down, down, up]]
        .map(|batch| batch.into_iter().map(str::to_string).collect())
        .into();
    // The window of three batches does not fit, that of four does: only what comes out has to.
    assert!(matches!(try_run(&plan(streams), &batches), Err(PlanError::Data(_))));
    let streams = streams.replace("length = '9s'", "length = '8s', slide = '4s'");
    let found = try_run(&plan(&streams), &batches).unwrap().pop().unwrap();
    assert_eq!((found[0]["s"].clone(), found[0]["t"].clone()), (Value::from(0), Value::from("0.00")));
}

/// Zeros of both signs, NaNs of both signs (that of `0 / 0` has one), and numbers.
const DOUBLES: &str = "a,1,0,0,0.0\na,2,0,0,-0.0\nb,3,0,0,NaN\nb,4,0,0,1.5\nc,5,0,0,-Infinity\nc,6,0,0,Infinity\n";

fn sql(query: &str) -> Vec<Value> {
    rows(&format!("[stream.out]\nfrom = 'in'\nsql = '''{query}'''"), DOUBLES)
}

fn column(rows: &[Value]) -> String {
    rows.iter().map(|row| row["v"].to_string()).collect::<Vec<_>>().join(" ")
}

#[test]
fn doubles_have_one_order_in_expressions() {
    let line = |x: &str| format!("a,0,0,0,{x}\n");
    for (expr, x, expected) in [
        ("x = 0.0", "-0.0", "true"),
        ("x < 0.0", "-0.0", "false"),
        ("x * -1 < 0.0", "0.0", "false"),
        ("x * -1 = -x", "0.0", "true"),
        ("nullif(x, 0.0) is null", "-0.0", "true"),
        ("nullif(-x, 0.0) is null", "0.0", "true"),
        ("case x when 0.0 then 'zero' else 'other' end", "-0.0", "\"zero\""),
        ("case -x when 0.0 then 'zero' else 'other' end", "0.0", "\"zero\""),
        ("x in (7.0, 8.0, 9.0, 10.0, 0.0)", "-0.0", "true"),
        ("-x in (7.0, 8.0, 9.0, 10.0, 0.0)", "0.0", "true"),
        ("x between 0.0 and 1.0", "-0.0", "true"),
        ("x is distinct from 0.0", "-0.0", "false"),
        ("x = x", "NaN", "true"),
        ("x = 0.0 / 0.0", "NaN", "true"),
        ("(x - x) = cast('NaN' as double)", "Infinity", "true"),
        ("(x - x) > x", "Infinity", "true"),
        ("x > 1e308", "NaN", "true"),
        ("x in (1.0, 2.0, 3.0, 4.0, cast('NaN' as double))", "NaN", "true"),
        ("case -x when 0.0 / 0.0 then 'nan' else 'other' end", "NaN", "\"nan\""),
        ("greatest(x, 1.0) = x", "NaN", "true"),
        ("greatest(x / x, 1.0) = 0.0 / 0.0", "0.0", "true"),
        ("least(x / x, 1.0)", "0.0", "1.0"),
        ("array_length(array_distinct(make_array(x, -x, 0.0 * x)))", "0.0", "1"),
        ("array_has(make_array(1.0, -x), 0.0)", "0.0", "true"),
        ("array_max(make_array(1.0, x / x)) = 0.0 / 0.0", "0.0", "true"),
    ] {
        assert_eq!(value(&select(expr), &line(x)).to_string(), expected, "{expr} of {x}");
    }
}

#[test]
fn doubles_have_one_order_in_queries() {
    let made = "(select k, n, case when n = 4 then 0.0 / 0.0 when n = 1 then x * -1 else x end as y from \"in\") as t";
    let of = |query: &str| column(&sql(&query.replace("made", made)));
    assert_eq!(of("select n as v from made order by y, n"), "5 1 2 6 3 4");
    assert_eq!(of("select n as v from made order by y desc, n"), "3 4 6 1 2 5");
    assert_eq!(of("select rank() over (order by y) as v from made order by n"), "2 2 5 5 1 4");
    assert_eq!(of("select count(*) over (partition by y) as v from made order by n"), "2 2 2 2 1 1");
    assert_eq!(of("select count(distinct y) as v from made"), "4");
    assert_eq!(of("select count(*) as v from (select distinct y from made) as u"), "4");
    assert_eq!(of("select count(*) as v from made group by y order by y"), "1 2 1 2");
    assert_eq!(of("select max(y) as v from made group by k order by k"), "0.0 \"NaN\" \"Infinity\"");
    assert_eq!(of("select min(y) as v from made where n in (3, 4)"), "\"NaN\"");
    assert_eq!(of("select min(y) as v from made group by k order by k"), "0.0 \"NaN\" \"-Infinity\"");
    assert_eq!(
        of("select min(y) over (order by n rows between 1 preceding and current row) as v from made order by n"),
        "0.0 0.0 0.0 \"NaN\" \"-Infinity\" \"-Infinity\""
    );
    assert_eq!(
        of("select max(y) over (order by n rows between 1 preceding and current row) as v from made order by n"),
        "0.0 0.0 \"NaN\" \"NaN\" \"NaN\" \"Infinity\""
    );
    assert_eq!(of("select count(*) as v from made join (select y as z from made) as u on t.y = u.z"), "10");
}

#[test]
fn what_is_rewritten_keeps_its_name() {
    let of = |query: &str| sql(query).iter().map(Value::to_string).collect::<Vec<_>>().join(" ");
    assert_eq!(
        of("select n + 1, -n, x * 2 from \"in\" where n = 5"),
        r#"{"(- in.n)":-5,"in.n + Int64(1)":6,"in.x * Int64(2)":"-Infinity"}"#
    );
    assert_eq!(
        of("select n + 1 as m, count(*) as c from \"in\" where n < 3 group by rollup(n + 1) order by m"),
        r#"{"c":1,"m":2} {"c":1,"m":3} {"c":2,"m":null}"#
    );
    assert_eq!(
        of("select k, sum(n * 2) as s from \"in\" group by k having sum(n * 2) > 6 order by sum(n * 2) desc"),
        r#"{"k":"c","s":22} {"k":"b","s":14}"#
    );
    assert_eq!(
        of("select t.n from \"in\" as t join (select n from \"in\") as u on t.n + 1 = u.n * 2 order by t.n"),
        r#"{"n":1} {"n":3} {"n":5}"#
    );
}

#[test]
fn what_leaves_a_frame_leaves_nothing_behind() {
    let lines = "a,1,0,0,1e300\na,2,0,0,NaN\na,3,0,0,1\na,4,0,0,2\na,5,0,0,\n";
    let frame = "over (order by n rows between 1 preceding and current row)";
    for (call, expected) in [
        ("sum(x)", "1e+300 \"NaN\" \"NaN\" 3.0 2.0"),
        ("avg(x)", "1e+300 \"NaN\" \"NaN\" 1.5 2.0"),
        ("var_pop(x)", "0.0 \"NaN\" \"NaN\" 0.25 0.0"),
        ("regr_sxx(n, x)", "0.0 \"NaN\" \"NaN\" 0.5 0.0"),
    ] {
        let query = format!("[stream.out]\nfrom = 'in'\nsql = 'select {call} {frame} as v from \"in\" order by n'");
        assert_eq!(column(&rows(&query, lines)), expected, "{call}");
    }
}

#[test]
fn means_of_decimals_are_rounded() {
    let mean = "[stream.out]\nfrom = 'in'\nreduce = { v = 'avg(cast(d as decimal(10, 2)))' }";
    let lines = |values: &[&str]| values.iter().map(|d| format!("a,0,0,{d},0\n")).collect::<String>();
    for (values, expected) in [
        (&["0.01", "0.01", "0.00"][..], "0.006667"),
        (&["-0.01", "-0.01", "0.00"], "-0.006667"),
        (&["0.01", "0.00", "0.00"], "0.003333"),
        (&["0.01", "0.00"], "0.005000"),
    ] {
        assert_eq!(value(mean, &lines(values)), *expected, "{values:?}");
    }
}

#[test]
fn further_digits_of_decimals_are_rounded_in_json() {
    let job = definition("[stream.out]\nfrom = 'in'\nselect = { v = 'd' }").replace("\"csv\"", "\"json\"");
    let plan = Arc::new(compile_in(&job, Path::new(".")).unwrap());
    let lines = "{\"d\": 1.995}\n{\"d\": \"-1.994\"}\n{\"d\": 1e-1}\n{\"d\": -0.004}\n{}\n".to_string();
    assert_eq!(column(&try_run(&plan, &[vec![lines]]).unwrap().remove(0)), "\"2.00\" \"-1.99\" \"0.10\" \"0.00\" null");
}

/// A line of csv: key, `bigint`, decimal (in hundredths), double; some are null.
#[derive(Debug, Clone)]
struct Line {
    key: u8,
    i: Option<i64>,
    d: Option<i128>,
    x: Option<f64>,
}

fn line() -> impl Strategy<Value = Line> {
    let i = prop_oneof![Just(i64::MAX), Just(i64::MIN), Just(-1), any::<i64>(), -5_i64..5];
    let most = 10_i128.pow(38) - 1;
    let d = prop_oneof![Just(most), Just(-most), -1_000_i128..1_000];
    let special = [0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, 1e-320];
    let x = prop_oneof![proptest::sample::select(special.to_vec()), -9.0..9.0, Just(1.5)];
    let some = |value| proptest::option::weighted(0.8, value);
    (0_u8..3, proptest::option::weighted(0.8, i), proptest::option::weighted(0.8, d), some(x))
        .prop_map(|(key, i, d, x)| Line { key, i, d, x })
}

fn text(lines: &[Line]) -> String {
    let mut text = String::new();
    for Line { key, i, d, x } in lines {
        let shown = |value: Option<String>| value.unwrap_or_default();
        let d = d.map(|d| format!("{}{}.{:02}", if d < 0 { "-" } else { "" }, d.abs() / 100, d.abs() % 100));
        let x = x.map(|x| if x.is_nan() { "NaN".to_string() } else { format!("{x:?}") });
        let _ = writeln!(text, "k{key},0,{},{},{}", shown(i.map(|i| i.to_string())), shown(d), shown(x));
    }
    text
}

/// Batches of blocks of these lines, cut where `cuts` says.
fn split(lines: &[Line], cuts: &[(usize, bool)]) -> Vec<Vec<String>> {
    let mut batches = vec![Vec::new()];
    let mut rest = lines;
    for (length, next_batch) in cuts {
        let (block, others) = rest.split_at((*length).min(rest.len()));
        rest = others;
        batches.last_mut().unwrap().push(text(block));
        if *next_batch {
            batches.push(Vec::new());
        }
    }
    batches.last_mut().unwrap().push(text(rest));
    batches
}

/// The order that SQL has: NaN is the greatest, zeros are equal.
fn less(a: f64, b: f64) -> bool {
    !a.is_nan() && (b.is_nan() || a < b)
}

fn shown(value: Option<f64>) -> Value {
    match value {
        None => Value::Null,
        Some(value) if value.is_nan() => "NaN".into(),
        Some(value) if value.is_infinite() => (if value > 0.0 { "Infinity" } else { "-Infinity" }).into(),
        Some(value) => value.into(),
    }
}

/// Least, greatest, and how many distinct doubles, per key.
fn expected_doubles(lines: &[Line]) -> BTreeMap<String, [Value; 3]> {
    let mut by_key: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for line in lines {
        by_key.entry(format!("k{}", line.key)).or_default().extend(line.x);
    }
    let of = |values: Vec<f64>| {
        let least = values.iter().copied().reduce(|a, b| if less(b, a) { b } else { a });
        let most = values.iter().copied().reduce(|a, b| if less(a, b) { b } else { a });
        let bits = |x: &f64| if x.is_nan() { f64::NAN } else { x + 0.0 }.to_bits();
        let distinct = values.iter().map(bits).collect::<BTreeSet<_>>().len();
        [shown(least), shown(most), distinct.into()]
    };
    by_key.into_iter().map(|(key, values)| (key, of(values))).collect()
}

const OVER_ALL: &str = "[stream.out]\nfrom = 'in'\n\
    reduce_by_key_and_window = { key = 'k', length = '99s', aggregates = {";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn extremes_do_not_depend_on_the_split(
        lines in proptest::collection::vec(line(), 0..24),
        cuts in proptest::collection::vec((0_usize..6, any::<bool>()), 0..6),
    ) {
        let plan = plan(&format!(
            "{OVER_ALL} least = 'min(x)', most = 'max(x)', n = 'count(distinct x)' }} }}"
        ));
        let found = try_run(&plan, &split(&lines, &cuts)).unwrap().pop().unwrap();
        let found: BTreeMap<String, [Value; 3]> = found
            .into_iter()
            .map(|row| (row["k"].as_str().unwrap().to_string(), ["least", "most", "n"].map(|name| row[name].clone())))
            .collect();
        let same = |a: &Value, b: &Value| a == b || a.as_f64().is_some_and(|a| Some(a) == b.as_f64());
        let expected = expected_doubles(&lines);
        prop_assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (key, expected) in expected {
            prop_assert!(found[&key].iter().zip(&expected).all(|(a, b)| same(a, b)), "{}: {:?} {:?}", key, found[&key], expected);
        }
    }

    #[test]
    fn sums_are_exact_or_fail(
        lines in proptest::collection::vec(line(), 0..8),
        cuts in proptest::collection::vec((0_usize..4, any::<bool>()), 0..4),
    ) {
        // Only the last firing counts here: earlier ones may fail for sums that do not fit yet.
        let batches = split(&lines, &cuts);
        let slide = batches.len();
        let plan = plan(&format!("{OVER_ALL} s = 'sum(i)', t = 'sum(d)' }} }}")
            .replace("length = '99s'", &format!("length = '{}s', slide = '{slide}s'", slide * 3)));
        let mut sums: BTreeMap<String, (Option<i128>, Option<i128>)> = BTreeMap::new();
        // Decimals of 38 digits fit in eight at most, so 128 bits hold an eighth of each.
        let mut tenths: BTreeMap<String, (i128, i128)> = BTreeMap::new();
        for line in &lines {
            let key = format!("k{}", line.key);
            let (s, t) = sums.entry(key.clone()).or_default();
            *s = line.i.map(|i| s.unwrap_or(0) + i128::from(i)).or(*s);
            let (high, low) = tenths.entry(key).or_default();
            if let Some(d) = line.d {
                *high += d / 1000;
                *low += d % 1000;
                *t = Some(0);
            }
        }
        let decimal = |(high, low): (i128, i128)| {
            let (high, low) = (high + low.div_euclid(1000), low.rem_euclid(1000));
            high.checked_mul(1000).and_then(|high| high.checked_add(low)).filter(|d| d.abs() < 10_i128.pow(38))
        };
        let fits = sums.iter().all(|(key, (s, _))| s.is_none_or(|s| i64::try_from(s).is_ok()) && decimal(tenths[key]).is_some());
        match try_run(&plan, &batches) {
            Err(PlanError::Data(text)) => {
                prop_assert!(!fits && text.contains("overflows"), "{}", text);
            }
            Err(other) => prop_assert!(false, "{other:?}"),
            Ok(mut found) => {
                prop_assert!(fits);
                for row in found.pop().unwrap() {
                    let key = row["k"].as_str().unwrap();
                    let (s, t) = sums[key];
                    prop_assert_eq!(&row["s"], &s.map_or(Value::Null, |s| Value::from(s as i64)));
                    let d = decimal(tenths[key]).unwrap();
                    let d = format!("{}{}.{:02}", if d < 0 { "-" } else { "" }, d.abs() / 100, d.abs() % 100);
                    prop_assert_eq!(&row["t"], &t.map_or(Value::Null, |_| Value::from(d)));
                }
            }
        }
    }

    #[test]
    fn moments_keep_their_digits(
        centre in proptest::sample::select(vec![0_i64, 1_000_000, 2_000_000_000, -4_000_000_000_000, 1 << 50]),
        steps in proptest::collection::vec((-4_i64..5, -4_i64..5), 2..24),
        cuts in proptest::collection::vec((0_usize..6, any::<bool>()), 0..6),
    ) {
        let lines: Vec<_> = steps
            .iter()
            .map(|(x, y)| Line { key: 0, i: Some(centre + y), d: None, x: Some((centre + x) as f64) })
            .collect();
        let plan = plan(&format!(
            "{OVER_ALL} pop = 'var_pop(x)', samp = 'var_samp(x)', co = 'covar_pop(x, i)', r = 'corr(x, i)', \
             slope = 'regr_slope(i, x)', dev = 'stddev(x)' }} }}"
        ));
        let row = try_run(&plan, &split(&lines, &cuts)).unwrap().pop().unwrap().remove(0);
        // Exact: n times the sums of products, of integers.
        let n = steps.len() as i64;
        let (sx, sy) = steps.iter().fold((0, 0), |(sx, sy), (x, y)| (sx + x, sy + y));
        let products = |f: fn(&(i64, i64)) -> i64| n * steps.iter().map(f).sum::<i64>();
        let (xx, xy, yy) = (products(|(x, _)| x * x) - sx * sx, products(|(x, y)| x * y) - sx * sy, products(|(_, y)| y * y) - sy * sy);
        let (xx, xy, yy, n) = (xx as f64, xy as f64, yy as f64, n as f64);
        let some = |exact: bool, value: f64| exact.then_some(value);
        for (name, expected) in [
            ("pop", Some(xx / n / n)),
            ("samp", Some(xx / n / (n - 1.0))),
            ("dev", Some((xx / n / (n - 1.0)).sqrt())),
            ("co", Some(xy / n / n)),
            ("r", some(xx > 0.0 && yy > 0.0, xy / (xx * yy).sqrt())),
            ("slope", some(xx > 0.0, xy / xx)),
        ] {
            let near = match (row[name].as_f64(), expected) {
                (Some(found), Some(expected)) => (found - expected).abs() <= 1e-12 * expected.abs().max(1.0),
                (found, expected) => found.is_none() && expected.is_none(),
            };
            prop_assert!(near, "{}: {} in place of {:?}", name, row[name], expected);
        }
    }
}
