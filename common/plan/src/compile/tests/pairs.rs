//! Joins and cogroup.

use super::*;
use crate::plan::Placement;
use Placement::{KeyGroups, Splits};

/// Left: user and number of letters; right: user and price. Some users are null.
fn joined(operator: &str) -> Arc<JobPlan> {
    plan(&format!(
        r#"
[stream.products]
from = "purchases"
select = {{ who = "nullif(user, '-')", product = "product" }}
[stream.prices]
from = "purchases"
filter = "price > 0"
[stream.known]
from = "prices"
select = {{ who = "nullif(user, '-')", price = "price", product = "upper(product)" }}
[stream.out]
from = ["products", "known"]
{operator}
"#
    ))
}

const ROWS: &[&str] = &["ana,a,1\n-,b,2\n", "bob,c,0\nana,d,4\n-,e,0\n"];

fn everywhere(plan: &Arc<JobPlan>, blocks: &[&str]) -> Vec<String> {
    let once = run(plan, 1, &[blocks]);
    for tasks in [2, 3, 8] {
        assert_eq!(run(plan, tasks, &[blocks]), once);
    }
    once.into_iter().flatten().collect()
}

/// Users, products of the left and prices.
fn short(plan: &Arc<JobPlan>) -> Vec<String> {
    let fields = |row: &String| {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        ["who", "products_product", "price"].map(|name| row[name].to_string().replace('"', "")).join(" ")
    };
    everywhere(plan, ROWS).iter().map(fields).collect()
}

#[test]
fn joins_by_key() {
    let inner = joined("join = { on = \"who\" }");
    assert_eq!(inner.stages.iter().map(|stage| stage.placement).collect::<Vec<_>>(), [Splits, KeyGroups]);
    assert_eq!(everywhere(&inner, ROWS)[0], r#"{"who":"ana","products_product":"a","price":1.0,"known_product":"A"}"#);
    let pairs = ["ana a 1.0", "ana a 4.0", "ana d 1.0", "ana d 4.0"];
    assert_eq!(short(&inner), pairs);
    let left = ["null b null", "null e null"];
    assert_eq!(short(&joined("left_outer_join = { on = \"who\" }")), [&left[..], &pairs, &["bob c null"]].concat());
    let right = ["null null 2.0"];
    assert_eq!(short(&joined("right_outer_join = { on = \"who\" }")), [&right[..], &pairs].concat());
    let full = [&left[..], &right, &pairs, &["bob c null"]].concat();
    assert_eq!(short(&joined("full_outer_join = { on = \"who\" }")), full);
    let ana = [r#"{"who":"ana","product":"a"}"#, r#"{"who":"ana","product":"d"}"#];
    assert_eq!(everywhere(&joined("semi = { on = \"who\" }"), ROWS), ana);
    let others = [r#"{"who":null,"product":"b"}"#, r#"{"who":null,"product":"e"}"#, r#"{"who":"bob","product":"c"}"#];
    assert_eq!(everywhere(&joined("anti = { on = \"who\" }"), ROWS), others);
}

#[test]
fn joins_within_a_time() {
    let batches: &[&[&str]] =
        &[&["ana,a,0\nbob,b,0\n-,c,0\n", "ana,d,0\n"], &["ana,e,2\n"], &[], &["bob,f,1\n"], &[], &[]];
    let late = |key: &str| {
        let plan = joined(&format!("{key} = {{ on = \"who\", within = \"2s\" }}"));
        let once = run(&plan, 1, batches);
        [2, 3, 8].iter().for_each(|tasks| assert_eq!(run(&plan, *tasks, batches), once));
        let fields = |row: &String| {
            let row: serde_json::Value = serde_json::from_str(row).unwrap();
            let product = row.get("products_product").unwrap_or(&row["product"]);
            [&row["who"], product, &row["price"]].map(|value| value.to_string().replace('"', "")).join(" ")
        };
        once.iter().map(|rows| rows.iter().map(fields).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let pairs = vec!["ana a 2.0", "ana d 2.0", "ana e 2.0"];
    // In the fourth batch the rows of the first one are over, among them those of bob.
    assert_eq!(late("join"), [vec![], pairs.clone(), vec![], vec!["bob f 1.0"], vec![], vec![]]);
    let over = vec!["null c null", "bob b null", "bob f 1.0"];
    assert_eq!(late("left_outer_join"), [vec![], pairs.clone(), vec![], over, vec![], vec![]]);
    assert_eq!(late("right_outer_join"), late("join"));
    let whole = vec!["ana a null", "ana d null", "ana e null"];
    assert_eq!(late("semi"), [vec![], whole, vec![], vec!["bob f null"], vec![], vec![]]);
    assert_eq!(late("anti"), [vec![], vec![], vec![], vec!["null c null", "bob b null"], vec![], vec![]]);
}

#[test]
fn keys_of_several_columns_and_types() {
    let plan = plan(
        r#"
[stream.left]
from = "purchases"
select = { a = "user", n = "cast(price as int)", product = "product" }
[stream.right]
from = "purchases"
select = { m = "-price * 0", x = "price", b = "user", n = "1" }
[stream.out]
from = ["left", "right"]
full_outer_join = { on = { left = ["n", "a"], right = ["m", "b"] } }
"#,
    );
    assert_eq!(
        everywhere(&plan, &["ana,p,0\nbob,q,3\n"]),
        [
            r#"{"n":0.0,"a":"ana","product":"p","x":0.0,"right_n":1}"#,
            r#"{"n":0.0,"a":"bob","product":null,"x":3.0,"right_n":1}"#,
            r#"{"n":3.0,"a":"bob","product":"q","x":null,"right_n":null}"#,
        ]
    );
}

#[test]
fn cogroup_has_lists_of_both() {
    assert_eq!(
        everywhere(&joined("cogroup = { on = \"who\" }"), ROWS),
        [
            r#"{"who":null,"products_product":["b","e"],"price":[2.0],"known_product":["B"]}"#,
            r#"{"who":"ana","products_product":["a","d"],"price":[1.0,4.0],"known_product":["A","D"]}"#,
            r#"{"who":"bob","products_product":["c"],"price":[],"known_product":[]}"#,
        ]
    );
    assert_eq!(everywhere(&joined("cogroup = { on = \"who\" }"), &[]), Vec::<String>::new());
}

#[test]
fn many_rows_of_one_key_keep_their_order() {
    // More rows than a batch has, so that batches end within a key.
    let block: String = (0..9000).map(|i| format!("{},p{i},1\n", ["-", "ana"][i % 2])).collect();
    let full = joined("right_outer_join = { on = { left = \"product\", right = \"who\" } }");
    let rows = everywhere(&full, &[&block, &block]);
    assert_eq!(rows.len(), 18000);
    let ordered: Vec<_> = (0..9000).map(|i| i % 2).collect();
    let nulls = rows.iter().take_while(|row| row.starts_with(r#"{"product":null"#)).count();
    assert_eq!(nulls, ordered.iter().filter(|of| **of == 0).count() * 2);
    assert!(rows[0].contains("\"P0\"") && rows[1].contains("\"P2\""), "{} {}", rows[0], rows[1]);
    assert!(rows[4500].contains("\"P0\"") && rows[17999].contains("\"P8999\""));
}
