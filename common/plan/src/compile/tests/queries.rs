//! `sql`.

use super::*;
use crate::plan::Placement;

fn query(sql: &str) -> Arc<JobPlan> {
    plan(&format!("[stream.out]\nfrom = \"purchases\"\nsql = '''{sql}'''"))
}

fn placements(plan: &JobPlan) -> Vec<Placement> {
    plan.stages.iter().map(|stage| stage.placement).collect()
}

use Placement::{KeyGroups, Single, Splits};

#[test]
fn stateless_queries_keep_input_order() {
    let plan = query("select user, price + 1 as more from purchases where price < 9");
    assert_eq!(placements(&plan), [Splits]);
    assert_eq!(rows(&plan, PURCHASES).len(), 4);
    assert_eq!(rows(&plan, PURCHASES)[0], r#"{"user":"bob","more":6.49}"#);
}

#[test]
fn grouped_queries_come_by_key_without_showing_it() {
    let plan = query("select count(*) as n from purchases group by user having count(*) > 1");
    assert_eq!(placements(&plan), [Splits, KeyGroups]);
    assert_eq!(rows(&plan, PURCHASES), [r#"{"n":2}"#, r#"{"n":2}"#]);
    let star = query("select * from (select user, max(price) as best from purchases group by user)");
    assert_eq!(rows(&star, PURCHASES)[2], r#"{"user":"cid","best":7.49}"#);
}

#[test]
fn ties_of_order_by_come_in_input_order() {
    let plan = query("select user, product, price from purchases order by price desc");
    assert_eq!(placements(&plan), [Splits, Single]);
    let users: Vec<_> = rows(&plan, PURCHASES).iter().map(|row| row[9..12].to_string()).collect();
    assert_eq!(users, ["ana", "ana", "cid", "bob", "bob"]);
    let top = query("select user from purchases order by price desc limit 3");
    assert_eq!(rows(&top, PURCHASES), [r#"{"user":"ana"}"#, r#"{"user":"ana"}"#, r#"{"user":"cid"}"#]);
}

#[test]
fn top_keys_are_cut_per_key_group() {
    let plan = query("select user, count(*) as n from purchases group by user order by n desc limit 2");
    assert_eq!(placements(&plan), [Splits, KeyGroups, Single]);
    // Ties (bob and ana have two each) by key.
    assert_eq!(rows(&plan, PURCHASES), [r#"{"user":"ana","n":2}"#, r#"{"user":"bob","n":2}"#]);
}

#[test]
fn rollups_and_constant_queries() {
    let plan = query("select user, count(*) as n from purchases group by rollup(user) order by n desc limit 1");
    assert_eq!(rows(&plan, PURCHASES), [r#"{"user":null,"n":5}"#]);
    assert_eq!(rows(&query("select 1 as x"), PURCHASES), [r#"{"x":1}"#]);
    assert_eq!(rows(&query("select user from purchases where false"), PURCHASES), Vec::<String>::new());
    let zero = query("select count(*) as n, sum(price) as s from purchases where price > 100");
    assert_eq!(rows(&zero, PURCHASES), [r#"{"n":0,"s":null}"#]);
}

#[test]
fn limit_takes_the_first() {
    let plan = query("select user from purchases limit 4 offset 1");
    let users: Vec<_> = rows(&plan, PURCHASES).iter().map(|row| row[9..12].to_string()).collect();
    assert_eq!(users, ["bob", "ana", "cid", "bob"]);
}

#[test]
fn aggregates_of_aggregates() {
    let plan = query(
        "select n, count(*) as users from (select user, count(*) as n from purchases group by user) as t group by n order by n",
    );
    assert_eq!(placements(&plan), [Splits, KeyGroups, KeyGroups, Single]);
    assert_eq!(rows(&plan, PURCHASES), [r#"{"n":1,"users":1}"#, r#"{"n":2,"users":2}"#]);
}

#[test]
fn joins_windows_and_unions_are_spread() {
    let joined = query(
        "select a.user, b.price from purchases as a join purchases as b on a.user = b.user and a.price < b.price",
    );
    assert_eq!(placements(&joined), [Splits, KeyGroups]);
    assert_eq!(rows(&joined, PURCHASES), [r#"{"user":"ana","price":9.99}"#, r#"{"user":"bob","price":7.49}"#]);
    let window =
        query("select user, row_number() over (partition by user order by price) as r from purchases where user < 'b'");
    assert_eq!(placements(&window), [Splits, KeyGroups]);
    assert_eq!(rows(&window, PURCHASES), [r#"{"user":"ana","r":1}"#, r#"{"user":"ana","r":2}"#]);
    let union =
        query("select user from purchases where price > 9 union all select product from purchases where price > 9");
    assert_eq!(placements(&union), [Splits]);
    assert_eq!(rows(&union, PURCHASES), [r#"{"user":"ana"}"#, r#"{"user":"iphone cover"}"#]);
}

#[test]
fn what_cannot_be_spread_runs_in_one_piece() {
    let unequal = query("select a.user, b.price from purchases as a join purchases as b on a.price + 4 < b.price");
    assert_eq!(placements(&unequal), [Splits, Single]);
    assert_eq!(rows(&unequal, PURCHASES), [r#"{"user":"bob","price":9.99}"#]);
    // The planner knows that there is one user, and leaves him out of the order.
    let window = query(
        "select user, row_number() over (partition by user order by price) as r from purchases where user = 'ana'",
    );
    assert_eq!(placements(&window), [Splits, Single]);
    assert_eq!(rows(&window, PURCHASES), [r#"{"user":"ana","r":1}"#, r#"{"user":"ana","r":2}"#]);
    let share =
        query("select user, price / (select sum(price) from purchases) as share from purchases where user = 'cid'");
    assert_eq!(placements(&share), [Splits, Single]);
    assert_eq!(rows(&share, PURCHASES).len(), 1);
}

#[test]
fn a_query_over_a_keyed_stream() {
    let plan = plan(
        r#"
[stream.sums]
from = "purchases"
reduce_by_key = { key = "user", aggregates = { n = "count(*)" } }
[stream.out]
from = "sums"
sql = "select user, n, rank() over (order by n desc) as place from sums"
"#,
    );
    assert_eq!(
        rows(&plan, PURCHASES),
        [r#"{"user":"ana","n":2,"place":1}"#, r#"{"user":"bob","n":2,"place":1}"#, r#"{"user":"cid","n":1,"place":3}"#,]
    );
}
