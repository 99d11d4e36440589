//! Queries about what is in a set, and how often: nulls and copies count, and so do totals of nothing.

use super::*;

/// `a` holds 1, 2, null and 4 in the groups 1 to 4, `b` what the case says.
fn answer(sql: &str, b: &str) -> Result<Vec<String>, String> {
    let definition = format!(
        "name = 'sets'\nbatch_interval = '1s'\nkey_groups = 4\n\
         [source.a]\nconnector = 'socket'\naddress = '127.0.0.1:1'\nformat = 'csv'\ncolumns = {{ x = 'bigint', g = 'bigint' }}\n\
         [source.b]\nconnector = 'socket'\naddress = '127.0.0.1:2'\nformat = 'csv'\ncolumns = {{ y = 'bigint', g = 'bigint' }}\n\
         [stream.out]\nfrom = ['a', 'b']\nsql = \"\"\"{sql}\"\"\"\n[[output]]\nfrom = 'out'\nprint = true\n"
    );
    let plan = compile_in(&definition, Path::new(".")).map_err(|wrong| wrong.render("job.toml", &definition, false))?;
    let mut evaluator = Evaluator::new(Arc::new(plan), 2).map_err(|error| error.to_string())?;
    let block = |text: &str| vec![text.replace(' ', "\n").into_bytes()];
    let blocks = HashMap::from([(SourceIdx(0), block("1,1 2,2 ,3 4,4 ")), (SourceIdx(1), block(b))]);
    let rows = block_on(evaluator.batch_json(&context(1), &blocks)).map_err(|error| error.to_string())?.remove(0);
    let mut rows = rows.unwrap_or_default();
    rows.sort();
    Ok(rows.iter().map(|row| row.split_once(':').map_or("", |(_, value)| value.trim_end_matches('}')).into()).collect())
}

fn check(cases: &[(&str, &str, &str)]) {
    let mut wrong = Vec::new();
    for (sql, b, expected) in cases {
        let found = answer(sql, b).map(|rows| rows.join(" "));
        if found.as_deref() != Ok(expected) {
            wrong.push(format!("{sql} over {b:?}: {found:?}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const WITH_NULL: &str = "1,1 ,2 9,4 ";
const WITHOUT: &str = "1,1 9,2 ";

/// As values, of queries that compare the row outside other than for equality.
#[test]
fn in_and_exists_as_values() {
    let among = "select coalesce(cast(x in (select y from b where b.g < a.g) as string), 'null') || a.g as v from a";
    let later = "select exists (select 1 from b where b.g > a.g) as v from a";
    let both = "select (x in (select y from b where b.g < a.g)) is null and not exists (select 1 from b where b.g > a.g) as v from a";
    let case =
        "select case when x not in (select y + 0 from b where b.g <> a.g and b.y > 0) then g else -g end as v from a";
    check(&[
        (among, WITH_NULL, r#""false1" "false2" "null3" "null4""#),
        (among, WITHOUT, r#""false1" "false2" "false4" "null3""#),
        (among, "", r#""false1" "false2" "false3" "false4""#),
        (later, WITH_NULL, "false true true true"),
        (later, "", "false false false false"),
        (both, WITH_NULL, "false false false true"),
        (case, WITH_NULL, "-3 1 2 4"),
        (case, "1,4 ,4 ", "-1 -3 2 4"),
    ]);
}

#[test]
fn not_in_minds_nulls() {
    let correlated = "select x from a where x not in (select y from b where b.g = a.g)";
    let either = "select x from a where x not in (select y from b) or g = 4";
    let twice = "select x from a where not (x in (select y from b) or x in (select g from b))";
    let case = "select x from a where case when x in (select y from b) then false else true end";
    let expression = "select x from a where x + 1 not in (select y from b)";
    check(&[
        ("select x from a where 3 not in (select y from b)", WITH_NULL, ""),
        ("select x from a where 3 not in (select y from b)", WITHOUT, "1 2 4 null"),
        ("select x from a where 3 not in (select y from b)", "", "1 2 4 null"),
        ("select x from a where 1 not in (select y from b)", WITHOUT, ""),
        ("select x from a where null not in (select y from b)", WITHOUT, ""),
        ("select x from a where null not in (select y from b)", "", "1 2 4 null"),
        ("select x from a where x not in (select y from b)", WITH_NULL, ""),
        ("select x from a where x not in (select y from b)", WITHOUT, "2 4"),
        ("select x from a where not x in (select y from b)", WITHOUT, "2 4"),
        (expression, WITHOUT, "1 2 4"),
        (expression, WITH_NULL, ""),
        (correlated, WITH_NULL, "4 null"),
        (correlated, WITHOUT, "2 4 null"),
        (correlated, "", "1 2 4 null"),
        (either, WITH_NULL, "4"),
        (either, WITHOUT, "2 4"),
        (twice, WITHOUT, "4"),
        (twice, WITH_NULL, ""),
        (case, WITH_NULL, "2 4 null"),
        ("select x from a where (x in (select y from b)) is null", WITH_NULL, "2 4 null"),
        ("select x from a where (x in (select y from b)) is null", WITHOUT, "null"),
        ("select x from a where x in (select y from b) or x = 4", WITH_NULL, "1 4"),
        ("select x from a where x <> all (select y from b)", WITH_NULL, ""),
        ("select x from a where x <> all (select y from b)", WITHOUT, "2 4"),
        ("select x from a where not exists (select 1 from b where b.y = a.x)", WITH_NULL, "2 4 null"),
    ]);
}

#[test]
fn in_is_a_value_of_three() {
    let value = "select x in (select y from b) as v from a";
    check(&[
        (value, WITH_NULL, "null null null true"),
        (value, WITHOUT, "false false null true"),
        (value, "", "false false false false"),
        ("select x not in (select y from b) as v from a", WITH_NULL, "false null null null"),
        ("select 3 not in (select y from b) as v from a", WITHOUT, "true true true true"),
        ("select x in (select y from b where b.g = a.g) as v from a", WITH_NULL, "false false null true"),
        ("select exists (select 1 from b where b.y = a.x) as v from a", WITH_NULL, "false false false true"),
    ]);
    let sum = answer("select sum(case when x in (select y from b) then 1 end) as v from a", WITHOUT).unwrap_err();
    assert!(sum.contains("`in (select ..)` and `exists` stand in `where`"), "{sum}");
    let pair = answer("select x from a where x in (select y, g from b)", WITHOUT).unwrap_err();
    assert!(pair.contains("job.toml"), "{pair}");
}

#[test]
fn copies_count() {
    let (except, intersect) =
        ("select g from b except all select g from a", "select g from b intersect all select g from a");
    let b = "1,1 2,1 3,1 4,8 5, 6, ";
    check(&[
        (except, b, "1 1 8 null null"),
        (intersect, b, "1"),
        ("select y, g from b except all select x, g from a", "1,1 1,1 ,3 ,3 ", "1,\"g\":1 null,\"g\":3"),
        ("select y, g from b intersect all select x, g from a", "1,1 1,1 ,3 ,3 ", "1,\"g\":1 null,\"g\":3"),
        ("select g from b except select g from a", b, "8 null"),
        ("select g from b intersect select g from a", b, "1"),
        ("select g from b except all select g from b", b, ""),
        ("select g from b intersect all select g from b", b, "1 1 1 8 null null"),
    ]);
}

#[test]
fn totals_of_nothing() {
    check(&[
        ("select g, count(*) as n from b group by rollup(g)", "", "null,\"n\":0"),
        ("select g, sum(y) as n from b group by cube(g)", "", "null,\"n\":null"),
        ("select g, count(*) as n from b group by grouping sets ((g), ())", "", "null,\"n\":0"),
        ("select g, count(*) as n from b group by grouping sets ((g))", "", ""),
        ("select g, y, count(*) as n from b group by rollup(g, y)", "", "null,\"y\":null,\"n\":0"),
        ("select g, count(*) as n from b where y > 5 group by rollup(g) having count(*) = 0", "", "null,\"n\":0"),
        (
            "select g, y, count(*) as n, grouping(g) as gg, grouping(y) as gy from b group by cube(g, y)",
            "5,7 ",
            "7,\"y\":5,\"n\":1,\"gg\":0,\"gy\":0 7,\"y\":null,\"n\":1,\"gg\":0,\"gy\":1 \
             null,\"y\":5,\"n\":1,\"gg\":1,\"gy\":0 null,\"y\":null,\"n\":1,\"gg\":1,\"gy\":1",
        ),
        ("select b.g, count(*) as n from b group by rollup(b.g)", WITHOUT, "1,\"n\":1 2,\"n\":1 null,\"n\":2"),
        ("select sum(y) as s from b group by grouping sets (())", "", "null"),
    ]);
}

#[test]
fn a_query_over_the_rows_that_are_asked_about() {
    let value = "select x in (select x from a where x > 1) as v from a";
    check(&[
        (value, "", "false null true true"),
        ("select x not in (select x from a where x > 1) as v from a", "", "false false null true"),
        ("select x from a where (x in (select x from a where x > 1)) is true", "", "2 4"),
        ("select x from a where (x in (select x from a where x > 1)) is null", "", "null"),
        ("select x from a where (x in (select x from a where x > 1)) = false", "", "1"),
        ("select x from a where x not in (select x from a where x > 1) or g = 4", "", "1 4"),
        ("select x from a where x not in (select x from a where x > 1)", "", "1"),
        ("select x from a where x in (select x from a where x > 1)", "", "2 4"),
        ("select x from a where x + 0 not in (select x from a where x > 1) or g = 3", "", "1 null"),
        ("select case when x in (select x from a where x > 1) then g end as v from a", "", "2 4 null null"),
        (
            "with c as (select x, g from a where g <> 3) select x in (select x from c where x < 4) as v from c",
            "",
            "false true true",
        ),
        ("select x in (select x from a where x > 1 order by x limit 1) as v from a", "", "false false null true"),
        ("select x in (select y.x from a y where y.g = a.g + 1) as v from a", "", "false false null null"),
        ("select x from a where not (x in (select x from a where x > 1) or g = 1)", "", ""),
        ("select exists (select 1 from a where x > 3) as v from a", "", "true true true true"),
        ("select x from a where x in (select x from a where (x in (select x from a where x > 1)) is true)", "", "2 4"),
        ("select x from a where x <> all (select x from a where x > 1)", "", "1"),
        ("select x from a where x = any (select x from a where x > 1)", "", "2 4"),
        ("select x from a where x < any (select x from a where x > 1)", "", "1 2"),
        ("select x from a where x >= all (select x from a where x is not null)", "", "4"),
        ("select x from a where not (x = any (select x from a where x > 1))", "", "1"),
        ("select x from a where x = any (select y.x from a y where y.g = a.g)", "", "1 2 4"),
    ]);
}

#[test]
fn a_query_as_a_value_has_one_row() {
    let several = "more than one row: make it one with an aggregate, or with `order by` and `limit 1`, in `(select ";
    check(&[
        ("select x, (select y from b) as v from a where g < 2", "7,1 ", "1,\"v\":7"),
        ("select x, (select y from b) as v from a where g < 2", ",1 ", "1,\"v\":null"),
        ("select x, (select y from b) as v from a where g < 2", "", "1,\"v\":null"),
        ("select x from a where x = (select y from b)", "2,1 ", "2"),
        ("select x from a where x = (select y from b)", "", ""),
        ("select x from a where x = (select x from a where g = 4)", "", "4"),
        ("select x + (select y from b order by y limit 1) as v from a where g < 3", "7,1 5,2 ", "6 7"),
        ("select (select max(y) from b where b.g = a.g) as v from a", "7,1 9,1 ", "9 null null null"),
        ("select (select g from b group by g) as v from a where g < 2", "7,1 9,1 ", "1"),
    ]);
    for sql in [
        "select x, (select y from b) as v from a",
        "select x from a where x = (select y from b)",
        "select x from a where x = (select x from a where g < 3)",
        "select x from a where x in (select y from b where y > (select y from b))",
        "select (select g from b group by g) as v from a",
        "select coalesce((select y from b), 1) as v from a",
        "select x from (select x, (select y from b) as y from a) order by x + y",
    ] {
        let wrong = answer(sql, "7,1 7,2 ").unwrap_err();
        assert!(wrong.contains(several), "{sql}: {wrong}");
    }
    for sql in
        ["select sum(x + (select y from b)) as v from a", "select x from a order by x + (select y from b) limit 1"]
    {
        let wrong = answer(sql, "7,1 ").unwrap_err();
        assert!(wrong.contains("a query as a value stands in `where`"), "{wrong}");
    }
    let other = answer("select (select y from b where b.g = a.g) as v from a", "7,1 ").unwrap_err();
    assert!(other.contains("must be aggregated"), "{other}");
}

#[test]
fn grouping_sets_are_counted_before_they_are_written_out() {
    let keys = |count: usize| vec!["g"; count].join(", ");
    for sets in [
        format!("cube({})", keys(40)),
        format!("cube({})", keys(70)),
        format!("cube({}), cube({})", keys(7), keys(6)),
        format!("rollup({}), rollup({})", keys(70), keys(70)),
        format!("cube({}), grouping sets ((g), (y), ())", keys(12)),
    ] {
        let wrong = answer(&format!("select count(*) as n from b group by {sets}"), "").unwrap_err();
        assert!(wrong.contains("more than 4096 grouping sets"), "{sets}: {wrong}");
    }
    let expressions: Vec<_> = (0..64).map(|i| format!("g + {i}")).collect();
    let total = format!(
        "select grouping(g + 0) as first, grouping(g + 63) as last from b group by rollup({}) having count(*) = 0",
        expressions.join(", ")
    );
    check(&[(&total, "", "1,\"last\":1")]);
}

#[test]
fn queries_within_queries_stay_within_bounds() {
    let nested = |levels: usize| {
        (0..levels).fold("select x from a".to_string(), |inner, level| {
            format!("select t{level}.x from a t{level} where (t{level}.x in ({inner})) is true")
        })
    };
    assert_eq!(answer(&nested(2), "").unwrap().join(" "), "1 2 4");
    let wrong = answer(&nested(12), "").unwrap_err();
    assert!(wrong.contains("more than 200 tables and subqueries"), "{wrong}");
}

#[test]
fn one_column_of_two() {
    let joined = |join: &str| answer(&format!("select g, x, y from a {join} order by 1"), "5,1 6,9 ");
    assert_eq!(joined("join b using (g)").unwrap().join(" "), "1,\"x\":1,\"y\":5");
    assert_eq!(joined("left join b using (g)").unwrap().len(), 4);
    assert_eq!(joined("natural left join b").unwrap().len(), 4);
    for (join, what) in [
        ("full join b using (g)", "`using` in a `full join`"),
        ("right join b using (g)", "`using` in a `right join`"),
        ("right outer join b using (g)", "`using` in a `right join`"),
        ("natural full join b", "`natural full join`"),
        ("natural right join b", "`natural right join`"),
        ("join (b full join b c using (g)) using (g)", "`using` in a `full join`"),
    ] {
        let wrong = joined(join).unwrap_err();
        assert!(wrong.contains(&format!("{what} is not supported: join `on a.k = b.k`")), "{wrong}");
    }
    let on = "select coalesce(a.g, b.g) as g, x, y from a full join b on a.g = b.g where coalesce(a.g, b.g) > 3";
    assert_eq!(answer(on, "5,1 6,9 ").unwrap().len(), 2);
}
