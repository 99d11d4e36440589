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
