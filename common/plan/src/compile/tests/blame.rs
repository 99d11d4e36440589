//! What failures on the data say.

use super::*;

fn failure(streams: &str) -> String {
    let plan = plan(streams);
    let mut evaluator = Evaluator::new(plan, 2).unwrap();
    let batch = block_on(evaluator.batch_json(&context(1), &blocks(PURCHASES)));
    match batch.unwrap_err() {
        crate::PlanError::Data(text) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn stream_expression_and_row_are_named() {
    let first = "[stream.one]\nfrom = 'purchases'\nfilter = 'price > 6'\n";
    let cases = [
        (
            "[stream.out]\nfrom = 'one'\nselect = { n = 'cast(product as int)' }",
            "stream `out`: 'iphone cover' does not fit int, \
             in `n = cast(product as int)`, for {\"product\":\"iphone cover\"}",
        ),
        (
            "[stream.two]\nfrom = 'one'\nfilter = \"cast(substr(product, 1, 1) || '1' as int) > 0\"\n\
             [stream.out]\nfrom = 'two'\nselect = { user = '\"user\"' }",
            "stream `two`: 'i1' does not fit int, \
             in `cast(substr(product, 1, 1) || '1' as int) > 0`, for {\"product\":\"iphone cover\"}",
        ),
        (
            "[stream.out]\nfrom = 'one'\nreduce_by_key = { key = 'user', aggregates = { n = 'sum(cast(product as int))' } }",
            "stream `out`: 'iphone cover' does not fit int",
        ),
        (
            "[stream.out]\nfrom = 'one'\nsql = \"select user, 1 / cast(price - 9.99 as int) as q from one where user = 'ana'\"",
            "stream `out`: `1 / (price - 9.99)` divides by zero, in `q = 1 / (price - 9.99)`, for",
        ),
        (
            "[stream.out.update_state_by_key]\nkey = 'user'\nstate.n = { type = 'int', update = \"cast(max(product) as int)\" }\n\
             [stream.out]\nfrom = 'one'",
            "does not fit int, in `n = cast(max(product) as int)`",
        ),
        (
            "[stream.out]\nfrom = 'one'\nmap_with_state = { key = 'user', state.n = { type = 'int', update = 'cast(product as int)' } }",
            "in `n = cast(product as int)`",
        ),
    ];
    for (streams, expected) in cases {
        let said = failure(&format!("{first}{streams}"));
        assert!(said.contains(expected), "{said}\nexpected {expected}");
    }
}

/// What the planner has put in, and the names of what it has taken apart, are not shown.
#[test]
fn expressions_are_shown_as_they_are_meant() {
    let big = "9223372036854775807";
    for (query, expected) in [
        (format!("select sum({big} + character_length(product) * 0) as x from purchases"), format!("the sum overflows bigint, in `sum({big} + character_length(product) * 0)`")),
        (
            format!("select sum({big} + character_length(product) * 0) over (order by price rows between 1 preceding and current row) as x from purchases"),
            format!("the sum overflows bigint, in `sum({big} + character_length(product) * 0) over (..)`"),
        ),
        (
            "select cast('1970-01-01' as date) + interval '9000 years' + cast(price as int) as x from purchases".into(),
            "a date outside of the years 1 to 9999".into(),
        ),
        (
            "select product similar to user || '(' as x from purchases".into(),
            "in `x = product similar to user || (`".into(),
        ),
        (
            "select cast(product as int) as x, cast(product as int) + 1 as y from purchases".into(),
            "does not fit int, in `product`".into(),
        ),
        (
            "select coalesce(nullif(price, 5.49), 1 / (character_length(user) - 3)) as x from purchases".into(),
            "in `x = CASE WHEN nullif(price, 5.49) IS NOT NULL THEN nullif(price, 5.49) ELSE CAST(1 / (character_length(user) - 3) AS double) END`".into(),
        ),
        ("select sum(1) filter (where cast(product as boolean)) as x from purchases".into(), "does not fit boolean".into()),
    ] {
        let said = failure(&format!("[stream.out]\nfrom = 'purchases'\nsql = \"{query}\""));
        assert!(said.contains(&expected), "{said}\nexpected {expected}");
        for hidden in ["canonical", "convert", "checked", "in_calendar", "similar_pattern", "__common", "Int64", "Utf8", "Boolean"] {
            assert!(!said.contains(hidden), "{said}");
        }
    }
}
