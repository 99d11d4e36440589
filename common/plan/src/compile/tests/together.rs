//! Operators over several streams.

use super::*;
use crate::plan::{BranchTarget, Placement};
use Placement::{KeyGroups, Single, Splits};

fn placements(plan: &JobPlan) -> Vec<Placement> {
    plan.stages.iter().map(|stage| stage.placement).collect()
}

/// The same for every number of tasks.
fn everywhere(plan: &Arc<JobPlan>, blocks: &[&str]) -> Vec<String> {
    let once = run(plan, 1, &[blocks]);
    for tasks in [2, 3, 8] {
        assert_eq!(run(plan, tasks, &[blocks]), once);
    }
    once.into_iter().flatten().collect()
}

const CHEAP_AND_DEAR: &str = r#"
[stream.cheap]
from = "purchases"
filter = "price < 7"
[stream.dear]
from = "purchases"
filter = "price > 8"
"#;

#[test]
fn a_union_is_first_the_one_then_the_other_and_costs_no_exchange() {
    let plan = plan(&format!(
        "{CHEAP_AND_DEAR}\n[stream.both]\nfrom = [\"dear\", \"cheap\", \"dear\"]\nunion = true\n\
         [stream.out]\nfrom = \"both\"\nselect = {{ user = \"user\", cents = \"cast(round(price * 100) as int)\" }}"
    ));
    assert_eq!(placements(&plan), [Splits]);
    let targets: Vec<_> = plan.stages[0].branches.iter().map(|branch| branch.target).collect();
    let output = OutputIdx(0);
    assert_eq!(targets, [0, 1, 2].map(|lane| BranchTarget::Output { output, lane }));
    let dear = [r#"{"user":"ana","cents":999}"#, r#"{"user":"ana","cents":895}"#];
    let cheap = [r#"{"user":"bob","cents":549}"#];
    assert_eq!(rows(&plan, PURCHASES), [&dear[..], &cheap, &dear].concat());
}

#[test]
fn a_union_of_keyed_rows_and_others_is_spread_over_key_groups() {
    let streams = r#"
[stream.totals]
from = "purchases"
reduce_by_key = { key = "user", aggregates = { price = "sum(price)" } }
[stream.records]
from = "purchases"
select = { user = "user", price = "price" }
[stream.both]
from = ["totals", "records"]
union = true
"#;
    let union = plan(&format!("{streams}\n[stream.out]\nfrom = \"both\"\nfilter = \"user <> 'bob'\""));
    assert_eq!(placements(&union), [Splits, KeyGroups]);
    let ana = r#"{"user":"ana","price":"#;
    let cid = r#"{"user":"cid","price":7.49}"#;
    assert_eq!(
        everywhere(&union, PURCHASES),
        [format!("{ana}18.939999999999998}}"), cid.into(), format!("{ana}9.99}}"), format!("{ana}8.95}}"), cid.into()]
    );
    let counted = plan(&format!(
        "{streams}\n[stream.out]\nfrom = \"both\"\nreduce_by_key = {{ key = \"user\", aggregates = {{ n = \"count(*)\" }} }}"
    ));
    assert_eq!(placements(&counted), [Splits, KeyGroups, KeyGroups]);
    let expected = [r#"{"user":"ana","n":3}"#, r#"{"user":"bob","n":3}"#, r#"{"user":"cid","n":2}"#];
    assert_eq!(everywhere(&counted, PURCHASES), expected);
    let whole = plan(&format!("{streams}\n[stream.out]\nfrom = \"both\"\nsql = \"select * from both limit 4\""));
    assert_eq!(placements(&whole), [Splits, KeyGroups, Single]);
    let users: Vec<_> = everywhere(&whole, PURCHASES).iter().map(|row| row[9..12].to_string()).collect();
    assert_eq!(users, ["ana", "bob", "cid", "ana"]);
}

#[test]
fn columns_of_a_union_that_may_be_null_in_one_input_may_be_null() {
    let plan = plan(
        r#"
[stream.known]
from = "purchases"
select = { x = "1" }
[stream.unknown]
from = "purchases"
select = { x = "cast(nullif(user, 'bob') = 'ana' as bigint)" }
[stream.both]
from = ["known", "unknown"]
union = true
[stream.out]
from = "both"
reduce_by_key = { key = "x", aggregates = { n = "count(*)", nulls = "sum(cast(x is null as int))" } }
"#,
    );
    let expected = [r#"{"x":null,"n":2,"nulls":2}"#, r#"{"x":0,"n":1,"nulls":0}"#, r#"{"x":1,"n":7,"nulls":0}"#];
    assert_eq!(everywhere(&plan, PURCHASES), expected);
}

#[test]
fn sql_over_several_streams_is_spread_where_it_can_be() {
    let query = |sql: &str| {
        plan(&format!("{CHEAP_AND_DEAR}\n[stream.out]\nfrom = [\"cheap\", \"purchases\", \"dear\"]\nsql = '''{sql}'''"))
    };
    let joined = query(
        "select p.user, p.price, d.price as dear from purchases as p left join dear as d on p.user = d.user \
         where p.price < 9",
    );
    assert_eq!(placements(&joined), [Splits, KeyGroups]);
    let expected = [
        r#"{"user":"ana","price":8.95,"dear":9.99}"#,
        r#"{"user":"ana","price":8.95,"dear":8.95}"#,
        r#"{"user":"bob","price":5.49,"dear":null}"#,
        r#"{"user":"bob","price":7.49,"dear":null}"#,
        r#"{"user":"cid","price":7.49,"dear":null}"#,
    ];
    assert_eq!(everywhere(&joined, PURCHASES), expected);
    let full = query("select c.price as c, d.price as d from cheap as c full join dear as d on c.user = d.user");
    assert_eq!(placements(&full), [Splits, KeyGroups]);
    assert_eq!(
        everywhere(&full, PURCHASES),
        [r#"{"c":null,"d":9.99}"#, r#"{"c":null,"d":8.95}"#, r#"{"c":5.49,"d":null}"#]
    );
    let summed =
        query("select p.user, sum(d.price) as s from purchases as p join dear as d on p.user = d.user group by p.user");
    assert_eq!(placements(&summed), [Splits, KeyGroups]);
    assert_eq!(everywhere(&summed, PURCHASES), [r#"{"user":"ana","s":37.879999999999995}"#]);
    let ranked = query("select user, rank() over (partition by user order by price desc) as r from purchases");
    assert_eq!(placements(&ranked), [Splits, KeyGroups]);
    assert_eq!(everywhere(&ranked, PURCHASES)[..2], [r#"{"user":"ana","r":1}"#, r#"{"user":"ana","r":2}"#]);
    let crossed = query("select c.user as a, d.user as b from cheap as c, dear as d");
    assert_eq!(placements(&crossed), [Splits, Single]);
    assert_eq!(everywhere(&crossed, PURCHASES), [r#"{"a":"bob","b":"ana"}"#, r#"{"a":"bob","b":"ana"}"#]);
}
