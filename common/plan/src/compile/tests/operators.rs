//! Each stateless operator.

use super::*;
use crate::plan::{ExchangeKind, Placement};

#[test]
fn select_and_filter_fuse_into_the_source() {
    let plan = plan(
        r#"
[stream.dear]
from = "purchases"
filter = "price > 6"
[stream.out]
from = "dear"
select = { who = "upper(user)", cents = "cast(round(price * 100) as int)", at = "now()", day = "current_date" }
"#,
    );
    assert_eq!(plan.stages.len(), 1);
    let time = r#""at":"1970-01-01T00:00:01Z","day":"1970-01-01""#;
    assert_eq!(
        rows(&plan, PURCHASES),
        [
            format!(r#"{{"who":"ANA","cents":999,{time}}}"#),
            format!(r#"{{"who":"ANA","cents":895,{time}}}"#),
            format!(r#"{{"who":"CID","cents":749,{time}}}"#),
            format!(r#"{{"who":"BOB","cents":749,{time}}}"#),
        ]
    );
}

#[test]
fn flat_map_splits_and_unnests() {
    let plan = plan(
        r#"
[stream.words]
from = "purchases"
flat_map = { split = "product", by = " ", as = "word", keep = ["user"] }
[stream.out]
from = "words"
flat_map = { unnest = "make_array(word, upper(word))", as = "item", keep = ["user"] }
"#,
    );
    assert_eq!(
        rows(&plan, &["ana,a  b ,1\n", "bob,,1\n"]),
        [
            r#"{"user":"ana","item":"a"}"#,
            r#"{"user":"ana","item":"A"}"#,
            r#"{"user":"ana","item":""}"#,
            r#"{"user":"ana","item":""}"#,
            r#"{"user":"ana","item":"b"}"#,
            r#"{"user":"ana","item":"B"}"#,
            r#"{"user":"bob","item":""}"#,
            r#"{"user":"bob","item":""}"#,
        ]
    );
}

#[test]
fn word_count() {
    let plan = plan(
        r#"
[stream.words]
from = "purchases"
flat_map = { split = "product", by = " ", as = "word" }
[stream.out]
from = "words"
reduce_by_key = { key = "word", aggregates = { count = "count(*)" } }
"#,
    );
    assert_eq!(plan.stages.len(), 2);
    assert_eq!(
        rows(&plan, PURCHASES),
        [
            r#"{"word":"cover","count":4}"#,
            r#"{"word":"headphones","count":1}"#,
            r#"{"word":"ipad","count":2}"#,
            r#"{"word":"iphone","count":1}"#,
            r#"{"word":"samsung","count":1}"#,
        ]
    );
}

#[test]
fn reduce_by_key_is_one_exchange() {
    let plan = plan(
        r#"
[stream.sums]
from = "purchases"
reduce_by_key = { key = "user", aggregates = { n = "count(*)", mean = "sum(price) / count(*)", best = "max(price)" } }
[stream.out]
from = "sums"
select = { user = "upper(user)", n = "n", best = "best" }
"#,
    );
    let placements: Vec<_> = plan.stages.iter().map(|stage| stage.placement).collect();
    assert_eq!(placements, [Placement::Splits, Placement::KeyGroups]);
    assert_eq!(plan.exchanges[0].kind, ExchangeKind::Hash { keys: vec![0] });
    assert_eq!(plan.stages[1].row_keys, [0]);
    let names: Vec<_> = plan.outputs[0].schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names, ["user", "n", "best"]);
    // In the order of the keys, although users see something else in their place.
    assert_eq!(
        rows(&plan, PURCHASES),
        [
            r#"{"user":"ANA","n":2,"best":9.99}"#,
            r#"{"user":"BOB","n":2,"best":7.49}"#,
            r#"{"user":"CID","n":1,"best":7.49}"#,
        ]
    );
    assert_eq!(rows(&plan, &[]), Vec::<String>::new());
}

#[test]
fn zeros_and_nans_are_one_key_each() {
    let plan = plan(
        r#"
[stream.floats]
from = "purchases"
select = { f = "case when user = 'n' then -(price / price) else price end" }
[stream.out]
from = "floats"
reduce_by_key = { key = "f", aggregates = { n = "count(*)" } }
"#,
    );
    assert_eq!(
        rows(&plan, &["n,x,0\na,x,NaN\na,x,-0.0\na,x,0.0\na,x,\n"]),
        [r#"{"f":null,"n":1}"#, r#"{"f":0.0,"n":2}"#, r#"{"f":"NaN","n":2}"#]
    );
}

#[test]
fn count_and_reduce_of_an_empty_batch() {
    let count = plan("[stream.out]\nfrom = \"purchases\"\ncount = true");
    assert_eq!(rows(&count, PURCHASES), [r#"{"count":5}"#]);
    assert_eq!(rows(&count, &[]), [r#"{"count":0}"#]);
    assert_eq!(rows(&count, &["", ""]), [r#"{"count":0}"#]);
    let reduce = plan(
        "[stream.out]\nfrom = \"purchases\"\nreduce = { total = \"sum(price)\", users = \"count(distinct user)\" }",
    );
    assert_eq!(rows(&reduce, PURCHASES), [r#"{"total":39.41,"users":3}"#]);
    assert_eq!(rows(&reduce, &[""]), Vec::<String>::new());
}

#[test]
fn distinct_rows_by_key() {
    let plan = plan(
        r#"
[stream.pairs]
from = "purchases"
select = { user = "user", cover = "product like '%cover'" }
[stream.out]
from = "pairs"
distinct = true
"#,
    );
    assert_eq!(
        rows(&plan, PURCHASES),
        [
            r#"{"user":"ana","cover":true}"#,
            r#"{"user":"bob","cover":false}"#,
            r#"{"user":"bob","cover":true}"#,
            r#"{"user":"cid","cover":true}"#,
        ]
    );
}

#[test]
fn a_stream_read_twice_is_one_stage_and_unread_ones_none() {
    let definition = definition(
        r#"
[stream.sums]
from = "purchases"
reduce_by_key = { key = "user", aggregates = { total = "sum(price)" } }
[stream.out]
from = "sums"
filter = "total > 10"
[stream.number]
from = "sums"
count = true
[stream.unread]
from = "purchases"
distinct = true
"#,
    ) + "\n[[output]]\nfrom = \"number\"\nprint = true\n";
    let plan = Arc::new(compile_in(&definition, Path::new(".")).unwrap());
    let names: Vec<_> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["purchases", "sums", "number"]);
    let mut evaluator = Evaluator::new(plan, 1).unwrap();
    let outputs = block_on(evaluator.batch_json(&context(1), &blocks(PURCHASES))).unwrap();
    assert_eq!(outputs[1].as_deref(), Some(&[r#"{"count":3}"#.to_string()][..]));
    assert_eq!(outputs[0].as_ref().map(Vec::len), Some(2));
}
