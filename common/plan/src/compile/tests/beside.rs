//! Aggregates that stand beside each other.

use super::*;

/// `first_value` and the like see the rows as they come, whatever order another aggregate asks for.
#[test]
fn an_order_is_of_one_aggregate_alone() {
    let alone = [
        ("a", "first_value(price)", "9.99"),
        ("b", "last_value(price)", "7.49"),
        ("c", "array_agg(price order by price desc)", "[9.99,8.95,7.49,7.49,5.49]"),
        ("d", "array_agg(user order by product)", r#"["bob","cid","bob","ana","ana"]"#),
        ("e", "first_value(user order by price)", r#""bob""#),
        ("f", "last_value(user order by product desc)", r#""bob""#),
        ("g", "string_agg(user, '+' order by product, user desc)", r#""bob+cid+bob+ana+ana""#),
        ("h", "nth_value(user, 2 order by price)", r#""cid""#),
        ("i", "array_agg(user)", r#"["ana","bob","ana","cid","bob"]"#),
        ("j", "count(distinct user)", "3"),
        ("k", "array_agg(distinct user order by user desc)", r#"["cid","bob","ana"]"#),
        ("l", "array_agg(price order by user) filter (where price < 8)", "[5.49,7.49,7.49]"),
        ("m", "first_value(product)", r#""iphone cover""#),
        ("n", "count(price order by price)", "5"),
    ];
    for (name, call, expected) in alone {
        let plan = plan(&format!("[stream.out]\nfrom = 'purchases'\nreduce = {{ {name} = \"\"\"{call}\"\"\" }}"));
        assert_eq!(rows(&plan, PURCHASES), [format!("{{\"{name}\":{expected}}}")], "{call}");
    }
    let all: Vec<_> = alone.iter().map(|(name, call, _)| format!("{name} = \"\"\"{call}\"\"\"")).collect();
    let expected: Vec<_> = alone.iter().map(|(name, _, value)| format!("\"{name}\":{value}")).collect();
    let expected = format!("{{{}}}", expected.join(","));
    let together = plan(&format!("[stream.out]\nfrom = 'purchases'\nreduce = {{ {} }}", all.join(", ")));
    assert_eq!(rows(&together, PURCHASES), [expected.as_str()]);
    let selected: Vec<_> = alone.iter().map(|(name, call, _)| format!("{call} as {name}")).collect();
    let sql =
        format!("[stream.out]\nfrom = 'purchases'\nsql = \"\"\"select {} from purchases\"\"\"", selected.join(", "));
    assert_eq!(rows(&plan(&sql), PURCHASES), [expected.as_str()]);
}

/// Ties of an order stay as they came, over blocks and batches.
#[test]
fn ties_stay_in_the_order_of_the_rows() {
    let window = "[stream.out]\nfrom = 'purchases'\nreduce_by_key_and_window = { key = 'user', length = '60s', \
        aggregates = { p = 'array_agg(product order by price)', f = 'first_value(product)' } }";
    let batches: &[&[&str]] = &[&["a,one,2\na,two,1\n", "a,three,1\n"], &["a,four,1\na,five,2\n"]];
    for tasks in [1, 3] {
        let out = run(&plan(window), tasks, batches);
        assert_eq!(out[0], [r#"{"user":"a","p":["two","three","one"],"f":"one"}"#]);
        assert_eq!(out[1], [r#"{"user":"a","p":["two","three","four","one","five"],"f":"one"}"#]);
    }
}
