//! Operators that group, order or spread rows.

use super::*;
use crate::plan::Placement;
use Placement::{KeyGroups, Single, Splits};

fn everywhere(operator: &str, blocks: &[&str]) -> Vec<String> {
    let plan = plan(&format!("[stream.out]\nfrom = \"purchases\"\n{operator}"));
    let once = run(&plan, 1, &[blocks]);
    for tasks in [2, 3, 8] {
        assert_eq!(run(&plan, tasks, &[blocks]), once);
    }
    assert_eq!(run(&plan, 2, &[&[]]), [Vec::<String>::new()]);
    once.into_iter().flatten().collect()
}

fn placements(operator: &str) -> Vec<Placement> {
    let plan = plan(&format!("[stream.out]\nfrom = \"purchases\"\n{operator}"));
    plan.stages.iter().map(|stage| stage.placement).collect()
}

/// Users and products.
fn short(operator: &str, blocks: &[&str]) -> Vec<String> {
    let fields = |row: &String| {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        ["user", "product"].map(|name| row[name].as_str().unwrap_or_default().to_string()).join(" ")
    };
    everywhere(operator, blocks).iter().map(fields).collect()
}

const ROWS: &[&str] = &["bob,a,1\nana,b,3\nbob,c,3\n", "ana,d,\nana,e,3\ncid,f,2\n"];

#[test]
fn lists_per_key_are_aligned_and_in_order() {
    assert_eq!(
        everywhere("group_by_key = { key = \"user\" }", ROWS),
        [
            r#"{"user":"ana","product":["b","d","e"],"price":[3.0,null,3.0]}"#,
            r#"{"user":"bob","product":["a","c"],"price":[1.0,3.0]}"#,
            r#"{"user":"cid","product":["f"],"price":[2.0]}"#,
        ]
    );
    let chosen = everywhere("group_by_key = { key = [\"price\", \"user\"], values = [\"product\"] }", ROWS);
    assert_eq!(chosen[3], r#"{"price":3.0,"user":"ana","product":["b","e"]}"#);
}

#[test]
fn values_are_counted() {
    let plan = plan(
        "[stream.users]\nfrom = \"purchases\"\nselect = { user = \"user\" }\n\
         [stream.out]\nfrom = \"users\"\ncount_by_value = true",
    );
    let expected = [r#"{"user":"ana","count":3}"#, r#"{"user":"bob","count":2}"#, r#"{"user":"cid","count":1}"#];
    assert_eq!(rows(&plan, ROWS), expected);
    assert_eq!(rows(&plan, &[]), Vec::<String>::new());
}

#[test]
fn sorted_in_mixed_directions_with_ties_in_order() {
    let by = |by: &str| short(&format!("sort = {{ by = {by} }}"), ROWS);
    assert_eq!(placements("sort = { by = \"price\" }"), [Splits, Single]);
    assert_eq!(by("\"price\""), ["ana d", "bob a", "cid f", "ana b", "bob c", "ana e"]);
    assert_eq!(by("\"-price\""), ["ana b", "bob c", "ana e", "cid f", "bob a", "ana d"]);
    assert_eq!(by("[\"-price\", \"user\"]"), ["ana b", "ana e", "bob c", "cid f", "bob a", "ana d"]);
    assert_eq!(by("[\"price\", \"-user\"], descending = true, limit = 2"), ["ana b", "ana e"]);
}

#[test]
fn the_greatest_of_the_batch_and_of_each_key() {
    assert_eq!(short("top_k = { k = 2, by = \"price\" }", ROWS), ["ana b", "bob c"]);
    assert_eq!(short("top_k = { k = 1, by = \"-price\" }", ROWS), ["ana d"]);
    let per_user = "top_k = { k = 2, by = \"price\", per = \"user\" }";
    assert_eq!(placements(per_user), [Splits, KeyGroups]);
    assert_eq!(short(per_user, ROWS), ["ana b", "ana e", "bob c", "bob a", "cid f"]);
    let by_text = "top_k = { k = 1, by = [\"price\", \"product\"], per = \"user\" }";
    assert_eq!(short(by_text, ROWS), ["ana e", "bob c", "cid f"]);
}

#[test]
fn spread_over_key_groups() {
    assert_eq!(placements("repartition = true"), [Splits, KeyGroups]);
    let by_user = short("repartition = { by = \"user\" }", ROWS);
    assert_eq!(by_user, ["ana b", "ana d", "ana e", "bob a", "bob c", "cid f"]);
    assert_eq!(short("repartition = true", ROWS), by_user);
    let after = plan(
        "[stream.spread]\nfrom = \"purchases\"\nrepartition = { by = \"product\" }\n\
         [stream.out]\nfrom = \"spread\"\nreduce_by_key = { key = \"user\", aggregates = { n = \"count(*)\" } }",
    );
    assert_eq!(rows(&after, ROWS)[0], r#"{"user":"ana","n":3}"#);
}
