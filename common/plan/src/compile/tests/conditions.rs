//! Conditions that can fail: what they decide about a row depends on that row only.

use super::*;

fn compiled(stream: &str) -> Arc<JobPlan> {
    let definition = format!(
        "name = 'conditions'\nbatch_interval = '1s'\nkey_groups = 4\n\
         [source.a]\nconnector = 'socket'\naddress = '127.0.0.1:1'\nformat = 'csv'\ncolumns = {{ id = 'bigint', i = 'bigint', s = 'string' }}\n\
         [source.b]\nconnector = 'socket'\naddress = '127.0.0.1:2'\nformat = 'csv'\ncolumns = {{ id = 'bigint', y = 'bigint' }}\n\
         [stream.out]\n{stream}\n[[output]]\nfrom = 'out'\nprint = true\n"
    );
    match compile_in(&definition, Path::new(".")) {
        Ok(plan) => Arc::new(plan),
        Err(wrong) => panic!("{}", wrong.render("job.toml", &definition, false)),
    }
}

fn sql(text: &str) -> String {
    format!("from = ['a', 'b']\nsql = \"\"\"{text}\"\"\"")
}

/// The values of the first column; rows are in blocks of so many.
fn answer(plan: &Arc<JobPlan>, a: &[&str], b: &[&str], in_a_block: usize) -> Result<String, String> {
    let blocks = |rows: &[&str]| rows.chunks(in_a_block).map(|rows| rows.join("\n").into_bytes()).collect::<Vec<_>>();
    let all = HashMap::from([(SourceIdx(0), blocks(a)), (SourceIdx(1), blocks(b))]);
    let mut evaluator = Evaluator::new(plan.clone(), 2).map_err(|error| error.to_string())?;
    let rows = block_on(evaluator.batch_json(&context(1), &all)).map_err(|error| error.to_string())?.remove(0);
    let value = |row: &String| row.split([':', ',', '}']).nth(1).unwrap_or("").to_string();
    let mut values: Vec<_> = rows.unwrap_or_default().iter().map(value).collect();
    values.sort();
    Ok(values.join(" "))
}

const A: &[&str] = &["1,0,x", "2,1,7", "3,5,8", "4,0,y", "5,2,9", "6,,5"];
const B: &[&str] = &["1,0", "2,5", "9,0"];

fn gives(stream: &str, expected: &str) {
    let plan = compiled(stream);
    for in_a_block in [1, 2, 3, 6] {
        let found = answer(&plan, A, B, in_a_block);
        assert_eq!(found.as_deref(), Ok(expected), "{stream} in blocks of {in_a_block}");
        let turned: Vec<_> = A.iter().rev().copied().collect();
        assert_eq!(answer(&plan, &turned, B, in_a_block).as_deref(), Ok(expected), "{stream}, the other way round");
    }
}

fn fails(stream: &str, with: &str) {
    let plan = compiled(stream);
    for in_a_block in [1, 2, 6] {
        let wrong = answer(&plan, A, B, in_a_block).unwrap_err();
        assert!(wrong.contains(with), "{stream} in blocks of {in_a_block}: {wrong}");
    }
}

fn filter(condition: &str) -> String {
    format!("from = 'a'\nfilter = \"{condition}\"")
}

#[test]
fn the_left_side_decides() {
    for (condition, expected) in [
        ("i <> 0 and 10 / i > 1", "2 3 5"),
        ("i = 0 or 10 / i > 4", "1 2 4 5"),
        ("not (i = 0 or 10 / i > 4)", "3"),
        ("i <> 0 and (i = 1 or 10 / (i - 1) > 2)", "2 5"),
        ("i <> 0 and i <> 1 and 10 / (i - 1) > 2 and s <= '9'", "5"),
        ("s not in ('x', 'y') and cast(s as bigint) > 7", "3 5"),
        ("(i <> 0 and 10 / i > 4) is null", "6"),
        ("(i <> 0 and 10 / i > 4) is false", "1 3 4"),
        ("(s in ('x', 'y') or cast(s as int) = 5 or 10 / i > 4) is true", "1 2 4 5 6"),
        ("case when i <> 0 and 10 / i > 4 then s else '0' end > '6'", "2 5"),
        ("i <> 0 and true and 10 / i > 1 and id < 3", "2"),
    ] {
        gives(&filter(condition), expected);
        gives(&sql(&format!("select id from a where {condition}")), expected);
    }
    for condition in ["i < 5 and 10 / i > 1", "id > 0 and 10 / i > 1", "id = 0 or 10 / i > 1"] {
        fails(&filter(condition), "divides by zero");
        fails(&sql(&format!("select id from a where {condition}")), "divides by zero");
    }
    // Null decides nothing.
    fails(&filter("i is null or (nullif(i, 0) > 0) or 10 / i > 1"), "divides by zero");
    fails(&filter("(nullif(i, 0) > 0) and 10 / i > 1"), "divides by zero");
    fails(&filter("10 / i > 1 and i <> 0"), "divides by zero");
}

#[test]
fn as_a_value() {
    gives("from = 'a'\nselect = { v = \"i <> 0 and 10 / i > 4\" }", "false false false null true true");
    gives("from = 'a'\nselect = { v = \"i = 0 or 10 / i > 4\" }", "false null true true true true");
    gives(&sql("select i <> 0 and 10 / i > 4 as v from a"), "false false false null true true");
    gives(&sql("select count(*) as n from a group by i <> 0 and 10 / i > 4"), "1 2 3");
    gives(&sql("select sum(10 / i) filter (where i <> 0) as v from a"), "17");
    gives(&sql("select sum(10 / i) filter (where i <> 0) as v from a group by s > '6'"), "17 null");
    gives(&sql("select max(10 / i) filter (where i <> 0) over () as v from a"), "10 10 10 10 10 10");
    gives("from = 'a'\nreduce = { v = \"sum(10 / i) filter (where i <> 0)\" }", "17");
}

#[test]
fn conditions_that_were_asked_before_come_before() {
    gives(&sql("select id, n from (select id, cast(s as bigint) as n from a where i <> 0) q where n > 7"), "3 5");
    gives(
        &sql("select id from (select id, s from a where i <> 0 and 10 / i > 1) q where cast(s as bigint) > 7"),
        "3 5",
    );
    gives(&sql("select id from (select id, i from a where s > 'a' or s < 'A') q where i <> 0 and 10 / i > 1"), "2 3 5");
    gives(&sql("select id from (select * from a where s < 'a') q where id < 3 and cast(s as int) > 5"), "2");
    gives(&sql("select id from a where 10 / i > 1 and i <> 0"), "2 3 5");
    gives(&sql("select a.id from a join b on a.id = b.id where cast(s as text) > '' and 10 / i > 1 and b.y <> 0"), "2");
    gives(&sql("select a.id from a, b where 10 / (y - a.i) > 0 and y <> a.i and a.id = b.id"), "2");
    gives(&sql("select a.id from a join b on a.id = b.id and y > 1 and cast(s as int) > 5"), "2");
    gives(&sql("select a.id from a join b on a.i <> y where y = 5 and 10 / (a.i - 5) < -2"), "5");
    gives(
        &sql("select id from (select a.id, cast(s as int) as n from a join b on a.id = b.id and y > 0) q where n > 5"),
        "2",
    );
    gives(&sql("select a.id from a left join b on a.id = b.id and y <> 0 and 10 / y > 1 where a.id < 3"), "1 2");
    gives(&sql("select i from a where i <> 0 group by i having 10 / i > 4"), "1 2");
    gives(&sql("select id from a where id in (select id from b where y <> 0 and 10 / y > 1)"), "2");
    gives(&sql("select id from a where exists (select 1 from b where b.id = a.id and y <> 0 and 10 / y > 1)"), "2");
    gives(&sql("select id from a where s < 'a' and cast(s as int) > (select max(y) from b)"), "2 3 5");
}
