//! Dates and timestamps of the years 1 to 9999, through every function, comparison, join, literal and cast.

use super::*;
use crate::PlanError;

const ROWS: &[&str] = &[
    "1,0001-01-01,0001-01-01T00:00:00Z\n2,1500-02-28,1500-02-28T12:30:00Z\n",
    "3,2262-04-12,2262-04-12T00:00:00Z\n4,9999-12-31,9999-12-31T23:59:59.999999Z\n5,,\n",
];

fn compiled(streams: &str) -> Result<Arc<JobPlan>, String> {
    let columns = "columns = { id = \"bigint\", d = \"date\", t = \"timestamp\" }";
    let plain = "columns = { user = \"string\", product = \"string\", price = \"double\" }";
    let definition = definition(streams).replace(plain, columns);
    compile_in(&definition, Path::new(".")).map(Arc::new).map_err(|wrong| wrong.render("job.toml", &definition, false))
}

/// The column `x` of the stream `out`, as JSON.
fn column(streams: &str) -> Result<Vec<String>, String> {
    let plan = compiled(streams)?;
    let mut evaluator = Evaluator::new(plan, 2).map_err(|error| error.to_string())?;
    let outputs = block_on(evaluator.batch_json(&context(1), &blocks(ROWS)));
    let rows = outputs.map_err(|error: PlanError| error.to_string())?.remove(0).unwrap_or_default();
    let value = |row: &String| row.trim_start_matches("{\"x\":").trim_end_matches('}').trim_matches('"').to_string();
    Ok(rows.iter().map(value).collect())
}

fn selected(expr: &str) -> Result<Vec<String>, String> {
    column(&format!("[stream.out]\nfrom = 'purchases'\nselect = {{ x = \"\"\"{expr}\"\"\" }}"))
}

fn queried(expr: &str) -> Result<Vec<String>, String> {
    column(&format!("[stream.out]\nfrom = 'purchases'\nsql = \"\"\"select {expr} as x from purchases\"\"\""))
}

/// An expression, and its values for the four dates and for null, parted by spaces.
const VALUES: &[(&str, &str)] = &[
    ("t < timestamp '9999-12-31'", "true true true false null"),
    ("t >= timestamp '1600-01-01'", "false false true true null"),
    ("t < '9999-12-31'", "true true true false null"),
    ("d = t", "true false true false null"),
    ("t >= d", "true true true true null"),
    ("t between '0001-01-01' and '9999-12-31T23:59:59.999999'", "true true true true null"),
    ("d between timestamp '1500-02-28' and timestamp '2262-04-12'", "false true true false null"),
    ("t in (timestamp '0001-01-01', timestamp '2262-04-12')", "true false true false null"),
    (
        "cast(d as timestamp)",
        "0001-01-01T00:00:00Z 1500-02-28T00:00:00Z 2262-04-12T00:00:00Z 9999-12-31T00:00:00Z null",
    ),
    ("cast(t as date)", "0001-01-01 1500-02-28 2262-04-12 9999-12-31 null"),
    ("cast(cast(t as string) as timestamp) = t", "true true true true null"),
    ("try_cast(cast(t as string) as timestamp) = t", "true true true true null"),
    ("to_timestamp(cast(t as string)) = t", "true true true true null"),
    ("to_timestamp_seconds(cast(t as string)) = date_trunc('second', t)", "true true true true null"),
    ("to_timestamp('31.12.9999', '%d.%m.%Y') > t", "true true true false null"),
    ("to_timestamp(d) = t", "true false true false null"),
    ("to_timestamp(to_unixtime(t)) = date_trunc('second', t)", "true true true true null"),
    ("to_timestamp_millis(253402300799999) >= t", "true true true false null"),
    ("extract(year from to_timestamp(cast(t as string))) < 9999", "true true true false null"),
    ("extract(year from cast(t as timestamp)) > 1500", "false false true true null"),
    ("extract(year from t)", "1 1500 2262 9999 null"),
    ("date_part('year', d)", "1 1500 2262 9999 null"),
    ("date_part('microsecond', t)", "0 0 0 59999999 null"),
    ("date_part('doy', t)", "1 59 102 365 null"),
    ("date_part('isodow', t)", "1 3 6 5 null"),
    ("date_part('epoch', t) = to_unixtime(t)", "true true true false null"),
    ("to_unixtime(t)", "-62135596800 -14826713400 9223372800 253402300799 null"),
    ("from_unixtime(to_unixtime(d)) = d", "true true true true null"),
    (
        "date_trunc('quarter', t)",
        "0001-01-01T00:00:00Z 1500-01-01T00:00:00Z 2262-04-01T00:00:00Z 9999-10-01T00:00:00Z null",
    ),
    (
        "date_trunc('week', d)",
        "0001-01-01T00:00:00Z 1500-02-26T00:00:00Z 2262-04-07T00:00:00Z 9999-12-27T00:00:00Z null",
    ),
    (
        "date_bin(interval '1 day', t)",
        "0001-01-01T00:00:00Z 1500-02-28T00:00:00Z 2262-04-12T00:00:00Z 9999-12-31T00:00:00Z null",
    ),
    (
        "date_bin(interval '1 month', t, timestamp '9999-01-01')",
        "0001-01-01T00:00:00Z 1500-02-01T00:00:00Z 2262-04-01T00:00:00Z 9999-12-01T00:00:00Z null",
    ),
    ("date_bin(interval '7 days', d, '1500-02-26') <= d", "true true true true null"),
    ("to_char(t, '%Y/%m/%d')", "0001/01/01 1500/02/28 2262/04/12 9999/12/31 null"),
    ("to_date(cast(d as string)) = d", "true true true true null"),
    ("make_date(cast(date_part('year', d) as int), 1, 1) <= d", "true true true true null"),
    (
        "case when id < 3 then d else t end",
        "0001-01-01T00:00:00Z 1500-02-28T00:00:00Z 2262-04-12T00:00:00Z 9999-12-31T23:59:59.999999Z null",
    ),
    ("coalesce(d, t) = cast(d as timestamp)", "true true true true null"),
    (
        "coalesce(t, timestamp '9999-12-31')",
        "0001-01-01T00:00:00Z 1500-02-28T12:30:00Z 2262-04-12T00:00:00Z 9999-12-31T23:59:59.999999Z 9999-12-31T00:00:00Z",
    ),
    ("nullif(t, timestamp '2262-04-12') is null", "false false true false true"),
    ("greatest(d, t) = t", "true true true true null"),
    ("t - timestamp '0001-01-01' < interval '1 day'", "true false false false null"),
    ("t - timestamp '0001-01-01' > interval '25 hours'", "false true true true null"),
    ("interval '36 hours' >= t - timestamp '1500-02-27'", "true false false false null"),
    ("d - date '0001-01-01' <= 1", "true false false false null"),
    // What the others would give is outside of the calendar.
    ("case when id < 4 then t + interval '1 day' > d end", "true true true null null"),
    ("case when id > 1 then d + interval '-1 day' < d end", "null true true true null"),
    ("now() < t", "false false true true null"),
    // A day has 24 hours, and a month 30 days.
    ("interval '1 day' = interval '24 hours'", "true true true true true"),
    ("interval '1 month' > interval '719 hours'", "true true true true true"),
    ("interval '1 day' is distinct from interval '24 hours'", "false false false false false"),
    ("interval '1 day' in (interval '24 hours', interval '1 month')", "true true true true true"),
    ("interval '1 day' not in (interval '25 hours', interval '30 days')", "true true true true true"),
    ("interval '1 day' between interval '23 hours' and interval '24 hours'", "true true true true true"),
    ("case interval '1 day' when interval '24 hours' then id end", "1 2 3 4 5"),
    (
        "case when id > 2 then interval '1 day' else interval '25 hours' end <= interval '24 hours'",
        "false false true true true",
    ),
    ("t - timestamp '9999-12-30' in (interval '47 hours 59 minutes 59.999999 seconds')", "false false false true null"),
];

#[test]
fn every_function_holds_every_year() {
    let mut wrong = Vec::new();
    for (expr, expected) in VALUES {
        let expected: Vec<_> = expected.split(' ').map(str::to_string).collect();
        for (way, found) in [("select", selected(expr)), ("sql", queried(expr))] {
            if found.as_ref() != Ok(&expected) {
                wrong.push(format!("{way} {expr}: {found:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn intervals_are_no_keys() {
    let made = "case when id > 2 then interval '1 day' else interval '24 hours' end";
    for expr in ["greatest(X, X)", "nullif(X, X)", "array_has([X], X)", "[X] = [interval '1 day']"] {
        for found in [selected, queried].map(|way| way(&expr.replace('X', made))) {
            let error = found.unwrap_err();
            assert!(error.contains("cannot compare intervals") && error.contains("extract(epoch from ..)"), "{error}");
        }
    }
    for (query, by) in [
        ("select X as x, count(*) as n from purchases group by 1", "`group by`"),
        ("select count(*) as x from purchases group by rollup(X)", "`group by`"),
        ("select distinct X as x from purchases", "`distinct`"),
        ("select X as x from purchases union select X from purchases", "`distinct`"),
        ("select X as x from purchases intersect select X from purchases", "a join"),
        ("select count(distinct X) as x from purchases", "`count`"),
        ("select min(X) as x from purchases", "`min`"),
        ("select approx_distinct(X) as x from purchases", "`approx_distinct`"),
        ("select max(X) over (order by id) as x from purchases", "`max`"),
        ("select first_value(id order by X) as x from purchases", "`first_value`"),
        ("select row_number() over (partition by X) as x from purchases", "`row_number`"),
        ("select id as x from purchases order by X", "`order by`"),
        ("select id as x from purchases where X in (select X from purchases)", "`in (select ..)`"),
    ] {
        let error =
            column(&format!("[stream.out]\nfrom = 'purchases'\nsql = \"{}\"", query.replace('X', made))).unwrap_err();
        assert!(error.contains(&format!("{by} cannot compare intervals")) && error.contains("job.toml"), "{error}");
    }
    let sorted = format!(
        "[stream.a]\nfrom = 'purchases'\nselect = {{ x = \"{made}\" }}\n[stream.out]\nfrom = 'a'\nsort = {{ by = 'x' }}"
    );
    assert!(column(&sorted).unwrap_err().contains("interval has no order"));
    let least = format!("[stream.out]\nfrom = 'purchases'\nreduce = {{ x = \"min({made})\" }}");
    assert!(column(&least).unwrap_err().starts_with("error: `min` cannot compare intervals"));
}

#[test]
fn queries_over_far_dates() {
    let column = |sql: &str| column(&format!("[stream.out]\nfrom = 'purchases'\nsql = \"\"\"{sql}\"\"\"")).unwrap();
    let max = "select max(x) as x from (select d as x from purchases union all select t from purchases)";
    assert_eq!(column(max), ["9999-12-31T23:59:59.999999Z"]);
    let joined = "select a.id as x from purchases a join purchases b on a.d = b.t order by x";
    assert_eq!(column(joined), ["1", "3"]);
    let within = "select a.id as x from purchases a where a.d in (select t from purchases) order by x";
    assert_eq!(column(within), ["1", "3"]);
    let grouped = "select count(*) as x from purchases group by date_trunc('year', d) order by date_trunc('year', d)";
    assert_eq!(column(grouped), ["1"; 5]);
    let values = "select max(column1) as x from (values (timestamp '9999-12-31'), (timestamp '0001-01-01'))";
    assert_eq!(column(values), ["9999-12-31T00:00:00Z"]);
    let states = "[stream.out]\nfrom = 'purchases'\nreduce = { x = \"max(case when id < 5 then d else t end)\" }";
    assert_eq!(super::dates::column(states).unwrap(), ["9999-12-31T00:00:00Z"]);
}

#[test]
fn what_a_function_cannot_take_fails_by_name() {
    for (expr, reason) in [
        ("to_timestamp(id * 1000000000000)", "`to_timestamp` gives a timestamp outside of the years 1 to 9999"),
        ("to_timestamp('x' || id)", "x1"),
        ("to_timestamp('x' || id, '%Y')", "'x1' does not have the format '%Y'"),
        ("date_bin(interval '1 day', t, timestamp '9999-12-31') || date_trunc('era', t)", "'era'"),
        ("cast('x' || id as timestamp)", "x1"),
        ("make_date(2024, 13, cast(id as int))", "13"),
        ("t + interval '1 year'", "a date outside of the years 1 to 9999"),
        ("d - interval '1 year'", "a date outside of the years 1 to 9999"),
        ("interval '1 day' + d", "a date outside of the years 1 to 9999"),
        ("d - cast(id as int)", "a date outside of the years 1 to 9999"),
        ("from_unixtime(id * 1000000000000)", "`from_unixtime` gives a timestamp outside"),
    ] {
        for found in [selected(expr), queried(expr)] {
            let error = found.unwrap_err();
            assert!(
                error.contains(reason) && (error.contains("stream `out`") || error.contains("job.toml")),
                "{error}"
            );
        }
    }
}
