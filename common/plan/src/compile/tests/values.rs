//! Values that are right whatever type they stand beside, and casts that keep them.

use super::*;
use crate::PlanError;

const LINES: &str = "1,0.00,1e-17,10,2024-01-31T10:00:00Z\n2,1.25,1.25,0.5,1969-12-31T23:59:59.5Z\n3,2.50,1e300,0.1,0001-01-01T00:00:00Z\n";

fn compiled(streams: &str) -> Result<Arc<JobPlan>, String> {
    let columns =
        "columns = { id = \"bigint\", m = \"decimal(10, 2)\", d = \"double\", f = \"float\", t = \"timestamp\" }";
    let plain = "columns = { user = \"string\", product = \"string\", price = \"double\" }";
    let definition = definition(streams).replace(plain, columns);
    compile_in(&definition, Path::new(".")).map(Arc::new).map_err(|wrong| wrong.render("job.toml", &definition, false))
}

fn outcome(streams: &str, lines: &str) -> Result<Vec<String>, String> {
    let mut evaluator = Evaluator::new(compiled(streams)?, 2).map_err(|error| error.to_string())?;
    let outputs = block_on(evaluator.batch_json(&context(1), &blocks(&[lines])));
    let rows = outputs.map_err(|error: PlanError| error.to_string())?.remove(0).unwrap_or_default();
    let value = |row: &String| row.trim_start_matches("{\"x\":").trim_end_matches('}').trim_matches('"').to_string();
    Ok(rows.iter().map(value).collect())
}

fn selected(expr: &str) -> Result<Vec<String>, String> {
    outcome(&format!("[stream.out]\nfrom = 'purchases'\nselect = {{ x = \"\"\"{expr}\"\"\" }}"), LINES)
}

fn queried(sql: &str) -> Result<Vec<String>, String> {
    outcome(&format!("[stream.out]\nfrom = 'purchases'\nsql = \"\"\"{sql}\"\"\""), LINES)
}

/// An expression, and its values for the three rows.
const VALUES: &[(&str, &str)] = &[
    // A decimal beside a double is a double.
    ("m = d", "false true false"),
    ("m < d", "true false true"),
    ("m is not distinct from d", "false true false"),
    ("d between m and m + 1", "true true false"),
    ("m between d and 2.0", "false true false"),
    ("m in (d, 7)", "false true false"),
    ("case when id = 1 then m else d end", "0.0 1.25 1e300"),
    ("case m when d then 'same' else 'other' end", "other same other"),
    ("coalesce(nullif(m, d), d)", "0.0 1.25 2.5"),
    ("greatest(m, d)", "1e-17 1.25 1e300"),
    ("least(m, f)", "0.0 0.5 0.10000000149011612"),
    // A number that is written beside a decimal is a decimal.
    ("m + 99999999.99", "99999999.99 100000001.24 100000002.49"),
    ("m * 1.1", "0.000 1.375 2.750"),
    ("m > 1.2499999999999999999", "false true true"),
    ("m - 0.00000000000000000001", "-0.00000000000000000001 1.24999999999999999999 2.49999999999999999999"),
    ("m = 1.25", "false true false"),
    ("m in (1.25, 2.5)", "false true true"),
    ("coalesce(m, 0.5)", "0.00 1.25 2.50"),
    ("-0.25 * m", "0.0000 -0.3125 -0.6250"),
    // All others are doubles, as ever.
    ("id * 1.1", "1.1 2.2 3.3000000000000003"),
    ("id * 1.10000000000000008882", "1.1 2.2 3.3000000000000003"),
    ("d * 0.1", "1e-18 0.125 1e299"),
    ("1.005 + id * 0", "1.005 1.005 1.005"),
    ("cast(1.005 as decimal(10,2))", "1.01 1.01 1.01"),
    (
        "cast(99999999999999999999999999999999999998 as decimal(38,0)) + 1",
        "99999999999999999999999999999999999999 99999999999999999999999999999999999999 99999999999999999999999999999999999999",
    ),
    // Rounded, a half away from zero.
    ("m / 3", "0.000000 0.416667 0.833333"),
    ("cast(2.00 as decimal(10,2)) / 3", "0.666667 0.666667 0.666667"),
    ("(0 - m) / 3", "0.000000 -0.416667 -0.833333"),
    ("cast(m as bigint)", "0 1 3"),
    ("cast(-m as int)", "0 -1 -3"),
    ("cast(m as bigint) = 3", "false false true"),
    ("cast(99.99 as integer)", "100 100 100"),
    ("cast(f as bigint)", "10 1 0"),
    ("cast('1.005' as decimal(10,2))", "1.01 1.01 1.01"),
    // Seconds since 1970.
    ("cast(cast(1706695200 as bigint) as timestamp) = t", "true false false"),
    (
        "cast(1706695200.123456 as timestamp)",
        "2024-01-31T10:00:00.123456Z 2024-01-31T10:00:00.123456Z 2024-01-31T10:00:00.123456Z",
    ),
    ("cast(f as timestamp)", "1970-01-01T00:00:10Z 1970-01-01T00:00:00.500Z 1970-01-01T00:00:00.100Z"),
    ("cast(m as timestamp)", "1970-01-01T00:00:00Z 1970-01-01T00:00:01.250Z 1970-01-01T00:00:02.500Z"),
    ("cast(id as timestamp)", "1970-01-01T00:00:01Z 1970-01-01T00:00:02Z 1970-01-01T00:00:03Z"),
    ("cast(t as bigint)", "1706695200 -1 -62135596800"),
    ("cast(t as double)", "1706695200.0 -0.5 -62135596800.0"),
    ("try_cast(id * 100000000000 as timestamp) is null", "false false true"),
    ("try_cast('0000-01-01' as date)", "null null null"),
    ("try_cast('1e400' as double)", "null null null"),
    ("cast('-inf' as double) < d", "true true true"),
];

#[test]
fn values_beside_each_other_and_cast() {
    let mut wrong = Vec::new();
    for (expr, expected) in VALUES {
        let expected: Vec<_> = expected.split(' ').map(str::to_string).collect();
        for (way, found) in
            [("select", selected(expr)), ("sql", queried(&format!("select {expr} as x from purchases")))]
        {
            if found.as_ref() != Ok(&expected) {
                wrong.push(format!("{way} {expr}: {found:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn decimals_and_doubles_in_queries() {
    for (sql, expected) in [
        ("select a.id as x from purchases a join purchases b on a.m = b.d", "2"),
        ("select id as x from purchases where m in (select d from purchases)", "2"),
        ("select id as x from purchases where d in (select m from purchases)", "2"),
        ("select m as x from purchases union all select d from purchases order by x", "0.0 1e-17 1.25 1.25 2.5 1e300"),
        ("select m as x from purchases intersect select d from purchases", "1.25"),
        ("select sum(m) * 1.1 as x from purchases", "4.125"),
        ("select sum(m * 1.1) as x from purchases", "4.125"),
        ("select median(m) as x from (select * from purchases where id < 3)", "0.63"),
        ("select median(m) as x from purchases group by id < 3 order by x", "0.63 2.50"),
        (
            "select avg(case when id = 1 then 9007199254740993 else -9007199254740992 end) as x from purchases where id < 3",
            "0.5",
        ),
        ("select avg(id) as x from purchases group by id > 1 order by x", "1.0 2.5"),
        ("select avg(distinct id) as x from purchases", "2.0"),
        (
            "select avg(id) over (order by id rows between 1 preceding and current row) as x from purchases",
            "1.0 1.5 2.5",
        ),
    ] {
        let found = queried(sql).map(|rows| rows.join(" "));
        assert_eq!(found.as_deref(), Ok(expected), "{sql}");
    }
}

#[test]
fn what_does_not_fit_fails_by_name() {
    for (expr, reason) in [
        ("cast('1e400' as double)", "'1e400' does not fit double"),
        ("cast(d * 10 as float)", "does not fit float, in "),
        ("cast(d as bigint)", "does not fit bigint, in "),
        ("cast('0000-01-01' as date)", "'0000-01-01' gives a date outside of the years 1 to 9999"),
        ("cast(id * 100000000000 as timestamp)", "300000000000 gives a timestamp outside of the years 1 to 9999"),
        ("make_date(10000, 1, cast(id as int))", "outside of the years 1 to 9999"),
        ("t at time zone 'Europe/Berlin'", "outside of the years 1 to 9999"),
        ("cast('x' || id as bigint)", "'x1' does not fit bigint"),
        ("cast(m * 1000000 as decimal(4,2))", "does not fit decimal(4, 2)"),
    ] {
        for found in [selected(expr), queried(&format!("select {expr} as x from purchases"))] {
            let error = found.unwrap_err();
            assert!(error.contains(reason), "{expr}: {error}");
            assert!(error.contains("stream `out`") || error.contains("job.toml"), "{expr}: {error}");
        }
    }
}

#[test]
fn what_could_never_run_is_refused() {
    for (expr, reason) in [
        ("to_timestamp(id > 1)", "`to_timestamp` does not take (boolean)"),
        ("to_date(id > 1)", "`to_date` does not take (boolean)"),
        ("encode('x' || id, 'nosuch')", "There is no built-in encoding named 'nosuch'"),
        ("to_unixtime(m)", "`to_unixtime` does not take (decimal(10, 2))"),
    ] {
        for found in [selected(expr), queried(&format!("select {expr} as x from purchases"))] {
            let error = found.unwrap_err();
            assert!(error.contains(reason) && error.contains("job.toml"), "{expr}: {error}");
        }
    }
    for (sql, reason) in [
        ("select approx_distinct(d) as x from purchases", "`approx_distinct` does not take (double)"),
        (
            "select bool_and(id > 1) over (order by id rows between 1 preceding and current row) as x from purchases",
            "`bool_and` cannot follow a frame",
        ),
        (
            "select bit_and(id) over (order by id rows between 1 preceding and current row) as x from purchases",
            "`bit_and` cannot follow a frame",
        ),
    ] {
        let error = queried(sql).unwrap_err();
        assert!(error.contains(reason) && error.contains("job.toml"), "{sql}: {error}");
    }
    let reduced =
        outcome("[stream.out]\nfrom = 'purchases'\nreduce = { x = 'approx_distinct(d)' }", LINES).unwrap_err();
    assert!(reduced.contains("`approx_distinct` does not take (double)"), "{reduced}");
}
