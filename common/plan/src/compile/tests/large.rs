//! Definitions that are deep, wide or huge, and constants that would be.

use super::*;
use crate::planning::{COMPILE_TIME, COMPUTE_STACK_BYTES, CompileError};
use crate::text::{CompiledJob, compile_text};
use proptest::prelude::*;
use tidemill_job::limits::MAX_SQL_DEPTH;

/// As long as a test may take on a busy machine.
const PATIENCE: std::time::Duration = COMPILE_TIME.saturating_mul(20);

fn compile_large(streams: &str) -> Result<CompiledJob, CompileError> {
    compile_text(&definition(streams), &[] as &[Vec<u8>], &Functions::new(), PATIENCE)
}

fn compiles(streams: &str) -> CompiledJob {
    compile_large(streams).unwrap_or_else(|error| panic!("{error}\n{}", &streams[..streams.len().min(300)]))
}

/// The message and the text at its place.
fn refused(streams: &str) -> (String, String) {
    let text = definition(streams);
    match compile_large(streams) {
        Err(CompileError::Wrong(wrong)) => {
            let first = wrong.iter().next().unwrap();
            let place = first.span.clone().map_or("", |span| &text[span]);
            (first.message.clone(), place.to_string())
        }
        Err(other) => panic!("{other}\n{}", &streams[..streams.len().min(300)]),
        Ok(_) => panic!("not refused: {}", &streams[..streams.len().min(300)]),
    }
}

/// Work on a thread with a stack of this size.
fn on_a_stack<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new().stack_size(bytes).spawn(work).unwrap().join().unwrap()
}

/// Runs a job as a worker does, and drops it where the driver does.
fn runs(job: CompiledJob) -> Vec<String> {
    let plan = job.plan.clone();
    let rows = on_a_stack(COMPUTE_STACK_BYTES, move || rows(&plan, PURCHASES));
    // What threads of tokio have.
    on_a_stack(2 << 20, move || drop(job));
    rows
}

fn chain(terms: usize, operator: &str, term: impl Fn(usize) -> String) -> String {
    (0..terms).map(term).collect::<Vec<_>>().join(&format!(" {operator} "))
}

fn select(expression: &str) -> String {
    format!("[stream.out]\nfrom = \"purchases\"\nselect = {{ y = \"{expression}\" }}")
}

#[test]
fn chains_as_deep_as_they_may_be_run() {
    let terms = MAX_SQL_DEPTH / 2;
    for (operator, term) in
        [("+", "price"), ("*", "price"), ("||", "user"), ("and", "user <> 'x'"), ("or", "user = 'x'"), ("-", "price")]
    {
        let job = compiles(&select(&chain(terms, operator, |_| term.to_string())));
        assert_eq!(runs(job).len(), 5, "{operator}");
    }
    let numbered = chain(terms, "or", |i| format!("price = {i}.5"));
    assert_eq!(runs(compiles(&format!("[stream.out]\nfrom = \"purchases\"\nfilter = \"{numbered}\""))).len(), 0);
    let job = compiles(&format!(
        "[stream.out]\nfrom = \"purchases\"\nreduce_by_key = {{ key = \"user\", aggregates = {{ y = \"{}\" }} }}",
        chain(MAX_SQL_DEPTH / 2, "+", |i| format!("sum(price + {i})"))
    ));
    assert_eq!(runs(job).len(), 3);
    let job = compiles(&format!(
        "[stream.out]\nfrom = \"purchases\"\nsql = \"select user, {} as y from purchases where {}\"",
        chain(terms, "+", |i| format!("price * {i}")),
        chain(terms, "and", |i| format!("price <> {i}.25"))
    ));
    assert_eq!(runs(job).len(), 5);
}

#[test]
fn ten_thousand_terms_are_refused_with_the_place() {
    for (operator, term) in [("+", "price"), ("and", "user <> 'x'"), ("or", "user = 'x'"), ("||", "user")] {
        let long = chain(10_000, operator, |_| term.to_string());
        let query = format!("[stream.out]\nfrom = \"purchases\"\nsql = \"select {long} as y from purchases\"");
        for streams in [select(&long), query] {
            let (message, place) = refused(&streams);
            assert!(message.contains("too deep: more than 1000 operators"), "{message}");
            assert!(place == operator || place == "<>" || place == "=", "{place}");
        }
    }
}

#[test]
fn wide_ones_run() {
    let list = chain(5_000, ",", |i| i.to_string());
    let cases = chain(5_000, " ", |i| format!("when price = {i} then {i}"));
    let columns = chain(2_000, ",", |i| format!("c{i} = \"price + {i}\""));
    assert_eq!(runs(compiles(&select(&format!("price in ({list})")))).len(), 5);
    assert_eq!(runs(compiles(&select(&format!("case {cases} else 0 end")))).len(), 5);
    assert_eq!(runs(compiles(&format!("[stream.out]\nfrom = \"purchases\"\nselect = {{ {columns} }}"))).len(), 5);
}

#[test]
fn chains_of_streams_run() {
    let stream = |i: usize| {
        let from = if i == 0 { "purchases".to_string() } else { format!("s{}", i - 1) };
        let operator = ["filter = \"price > 0\"", "select = { user = \"user\", price = \"price + 0\" }"][i % 2];
        format!("[stream.s{i}]\nfrom = \"{from}\"\n{operator}\n")
    };
    let streams: String = (0..998).map(stream).collect();
    let job = compiles(&format!("{streams}[stream.out]\nfrom = \"s997\"\ndistinct = true"));
    assert_eq!(runs(job).len(), 5);
}

#[test]
fn unions_and_joins_of_many() {
    let union = chain(100, "union all", |_| "select user from purchases".to_string());
    let job = compiles(&format!("[stream.out]\nfrom = \"purchases\"\nsql = \"{union}\""));
    assert_eq!(runs(job).len(), 500);
    let many = chain(300, "union all", |_| "select user from purchases".to_string());
    let (message, _) = refused(&format!("[stream.out]\nfrom = \"purchases\"\nsql = \"{many}\""));
    assert_eq!(message, "the query has more than 200 tables and subqueries");
    // Every part doubles the one before it.
    let parts: String = (1..60).map(|i| format!(", a{i} as (select 1 as one from a{} x, a{0} y)", i - 1)).collect();
    let query = format!("with a0 as (select 1 as one from purchases){parts} select one from a59");
    let (message, _) = refused(&format!("[stream.out]\nfrom = \"purchases\"\nsql = \"{query}\""));
    assert_eq!(message, "the query has more than 200 tables and subqueries");
}

#[test]
fn what_is_nested_grows_no_faster_than_it_is_written() {
    let nested = |depth: usize, one: fn(&str) -> String| (0..depth).fold("price".to_string(), |inner, _| one(&inner));
    let doubled: [fn(&str) -> String; 4] = [
        |inner| format!("coalesce({inner}, 1)"),
        |inner| format!("nvl({inner}, 1)"),
        |inner| format!("ifnull({inner}, 1)"),
        |inner| format!("nvl2({inner}, 1, 2)"),
    ];
    for one in doubled {
        compiles(&select(&nested(5, one)));
        let (message, _) = refused(&select(&nested(22, one)));
        assert_eq!(message, "this becomes more than 200000 parts when it is planned");
    }
    let columns = |depth| {
        (0..depth).fold("purchases".to_string(), |from, i| format!("(select price * price as price from {from}) t{i}"))
    };
    let query = |depth| {
        format!("[stream.out]\nfrom = \"purchases\"\nsql = \"select price from {} where price > 1\"", columns(depth))
    };
    compiles(&query(5));
    let (message, _) = refused(&query(22));
    assert_eq!(message, "this becomes more than 200000 parts when it is planned");
}

#[test]
fn constants_that_would_be_huge_are_refused() {
    for (expression, what) in [
        ("length(repeat('a', 1000000000))", "`repeat` would make 1000000000 bytes of one row; it can make 1048576"),
        ("length(repeat(repeat('a', 40000), 60000))", "`repeat` would make 2400000000 bytes"),
        ("length(lpad('a', 2000000000, 'b'))", "`lpad` would make 8000000000 bytes"),
        ("rpad('a', 2000000000)", "`rpad` would make"),
        ("levenshtein(repeat('a', 100000), repeat('b', 100000))", "`levenshtein` would make 10000000000 comparisons"),
        ("array_length(range(0, 3000000000))", "`range` would make 3000000001 elements"),
        ("range(timestamp '1970-01-01', timestamp '2262-01-01', interval '1 microsecond')", "`range` would make"),
        ("array_repeat(1, 10000000000)", "`array_repeat` would make 10000000000 elements"),
        ("array_resize([1], 100000000000)", "`array_resize` would make"),
        ("replace(repeat('a', 1000000), 'a', repeat('b', 1000))", "`replace` would make"),
        ("regexp_replace(repeat('a', 1000000), 'a', repeat('b', 1000), 'g')", "`regexp_replace` would make"),
    ] {
        let (message, place) = refused(&select(expression));
        assert!(message.starts_with(what), "{message}");
        assert_eq!(place, expression);
        let query = format!("[stream.out]\nfrom = \"purchases\"\nsql = \"select {expression} as y from purchases\"");
        let (message, _) = refused(&query);
        assert!(message.starts_with(what), "{message}");
        let reduce = format!("[stream.out]\nfrom = \"purchases\"\nreduce = {{ y = \"max({expression})\" }}");
        let (message, _) = refused(&reduce);
        assert!(message.contains(what), "{message}");
    }
}

#[test]
fn many_constants_are_bounded_together() {
    let sum = chain(100, "+", |_| "length(repeat('a', 1000000))".into());
    let concat = format!("length(concat({}))", chain(100, ",", |_| "repeat('a', 1000000)".into()));
    let column = |i: usize| format!("c{i} = \"repeat('a', 1000000)\"");
    let columns = format!("[stream.out]\nfrom = \"purchases\"\nselect = {{ {} }}", chain(100, ",", column));
    for streams in [select(&sum), select(&concat), columns] {
        let (message, _) = refused(&streams);
        assert_eq!(message, "functions would make more than 67108864 bytes of the constants of this definition");
    }
}

#[test]
fn constants_of_a_size_are_folded() {
    let job = compiles(&select("length(repeat('ab', 1000)) + length(lpad('x', 10, '0')) + length(concat('a', user))"));
    assert_eq!(runs(job)[0], r#"{"y":2014}"#);
    let job = compiles(&select("array_length(range(0, 1000)) + array_length(generate_series(1, 10, 3))"));
    assert_eq!(runs(job)[0], r#"{"y":1004}"#);
}

#[test]
fn a_record_that_would_make_a_huge_value_fails_its_expression() {
    let plan = compiles(&select("length(repeat(user, cast(price * 1000000 as bigint)))")).plan;
    let mut evaluator = Evaluator::new(plan, 2).unwrap();
    let failed = block_on(evaluator.batch_json(&context(1), &blocks(PURCHASES))).unwrap_err();
    assert!(matches!(failed, crate::PlanError::Data(_)), "{failed:?}");
    let failed = failed.to_string();
    assert!(failed.contains("`repeat` would make 29970000 bytes of one row; it can make 1048576"), "{failed}");
}

/// Expressions of numbers, deep and wide, some of them wrong.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("price".to_string()),
        Just("user".to_string()),
        Just("nosuch".to_string()),
        (-5i64..5).prop_map(|i| i.to_string()),
        Just("'text'".to_string()),
        Just("null".to_string()),
    ];
    leaf.prop_recursive(6, 64, 4, |inner| {
        prop_oneof![
            (
                prop::sample::select(vec!["+", "-", "*", "/", "and", "or", "||", "=", "<", "is distinct from"]),
                inner.clone(),
                1usize..1_500
            )
                .prop_map(|(operator, term, times)| chain(times, operator, |_| term.clone())),
            (inner.clone(), 1usize..60).prop_map(|(inner, depth)| format!(
                "{}{inner}{}",
                "(".repeat(depth),
                ")".repeat(depth)
            )),
            (inner.clone(), 1usize..60).prop_map(|(inner, depth)| format!(
                "{}{inner}{}",
                "abs(".repeat(depth),
                ")".repeat(depth)
            )),
            (inner.clone(), 1usize..60).prop_map(|(inner, depth)| format!("{}{inner}", "not ".repeat(depth))),
            (inner.clone(), 1usize..20).prop_map(|(inner, depth)| format!(
                "{}{inner}{}",
                "coalesce(".repeat(depth),
                ", 1)".repeat(depth)
            )),
            (inner.clone(), 1usize..500)
                .prop_map(|(inner, times)| format!("{inner} in ({})", chain(times, ",", |i| i.to_string()))),
            (inner.clone(), inner, 1usize..300).prop_map(|(when, then, times)| {
                format!("case {} end", chain(times, " ", |i| format!("when {when} = {i} then {then}")))
            }),
        ]
    })
    .prop_filter("a text has 1 MiB", |text| text.len() < 1 << 19)
}

fn large_definition() -> impl Strategy<Value = String> {
    let over = |operator: &'static str| {
        expression()
            .prop_map(move |text| format!("[stream.out]\nfrom = \"purchases\"\n{}", operator.replace('@', &text)))
    };
    prop_oneof![
        over("select = { y = \"@\" }"),
        over("filter = \"@\""),
        over("reduce = { y = \"sum(@)\" }"),
        over("reduce_by_key = { key = \"user\", aggregates = { y = \"max(@)\" } }"),
        over("sql = \"select @ as y from purchases where @\""),
        over("update_state_by_key = { key = \"user\", state = { y = \"coalesce(state.y, 0) + @\" } }"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 16, ..ProptestConfig::default() })]

    /// Every definition compiles or is refused, and what compiles runs or fails on its data.
    #[test]
    fn no_definition_ends_the_process(streams in large_definition()) {
        match compile_large(&streams) {
            Ok(job) => {
                let plan = job.plan.clone();
                on_a_stack(COMPUTE_STACK_BYTES, move || {
                    let mut evaluator = Evaluator::new(plan, 2).unwrap();
                    let _ = block_on(evaluator.batch_json(&context(1), &blocks(PURCHASES)));
                });
                on_a_stack(2 << 20, move || drop(job));
            }
            Err(CompileError::Wrong(wrong)) => {
                prop_assert!(!wrong.is_empty());
                prop_assert!(wrong.render("job.toml", &definition(&streams), false).len() < 1 << 20);
            }
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        }
    }
}

#[test]
fn what_doubles_from_stream_to_stream_is_bounded() {
    let doubled = |first: &str, double: &str| {
        let step = |i: usize| format!("[stream.x{}]\nfrom = \"x{i}\"\nselect = {{ s = \"{double}\" }}\n", i + 1);
        let steps: String = (0..23).map(step).collect();
        format!(
            "[stream.x0]\nfrom = \"purchases\"\nselect = {{ s = \"{first}\" }}\n{steps}[stream.out]\nfrom = \"x23\"\nselect = {{ n = \"s is null\" }}"
        )
    };
    for (first, double, what) in [
        ("user || '0123456789'", "s || s", "`||` would make"),
        ("[price, price]", "array_concat(s, s)", "`array_concat` would make"),
        ("[price, price]", "s || s", "`array_concat` would make"),
        ("[price]", "[s[1], s[1]]", ""),
    ] {
        let job = compiles(&doubled(first, double));
        let mut evaluator = Evaluator::new(job.plan, 1).unwrap();
        let outcome = block_on(evaluator.batch_json(&context(1), &blocks(&["ana,p,1\n"])));
        match outcome {
            Err(error) if !what.is_empty() => assert!(error.to_string().contains(what), "{double}: {error}"),
            Ok(_) if what.is_empty() => {}
            other => panic!("{double}: {:?}", other.map(|_| ())),
        }
    }
    let nested = select("array_length(array_repeat(array_repeat(price, 1000), 100000))");
    let job = compiles(&nested);
    let mut evaluator = Evaluator::new(job.plan, 1).unwrap();
    let error = block_on(evaluator.batch_json(&context(1), &blocks(&["ana,p,1\n"]))).unwrap_err().to_string();
    assert!(error.contains("`array_repeat` would make 100100000 elements"), "{error}");
}
