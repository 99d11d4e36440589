//! What is said about wrong definitions.

use super::*;

/// Text at the place, message, help.
fn mistakes(streams: &str) -> Vec<(String, String, Option<String>)> {
    let definition = definition(streams);
    let found = compile_in(&definition, Path::new(".")).unwrap_err();
    found
        .iter()
        .map(|d| {
            let place = d.span.clone().map_or("", |span| &definition[span]);
            (place.to_string(), d.message.clone(), d.help.clone())
        })
        .collect()
}

fn mistake(streams: &str) -> (String, String) {
    let mut found = mistakes(streams);
    assert_eq!(found.len(), 1, "{found:?}");
    let (place, message, _) = found.remove(0);
    (place, message)
}

fn stream(operator: &str) -> String {
    format!("[stream.out]\nfrom = \"purchases\"\n{operator}")
}

#[test]
fn all_mistakes_of_all_expressions_at_once() {
    let found = mistakes(
        r#"
[stream.a]
from = "purchases"
select = { x = "usr", y = "price + true", z = "price +", f = "uper(user)" }
[stream.b]
from = "a"
filter = "anything"
[stream.out]
from = "purchases"
reduce_by_key = { key = "usr", aggregates = { total = "sum(prize)", p = "product" } }
"#,
    );
    let short: Vec<_> = found.iter().map(|(place, message, _)| (place.as_str(), message.as_str())).collect();
    assert_eq!(short[0], ("usr", "there is no column `usr`"));
    assert_eq!(found[0].2.as_deref(), Some("did you mean `user`?"));
    assert_eq!(short[1].0, "price + true");
    assert_eq!(short[2].0, "price +");
    assert_eq!(short[3].0, "uper");
    assert_eq!(found[3].2.as_deref(), Some("did you mean 'upper'?"));
    assert_eq!(short[4], ("usr", "there is no column `usr`"));
    assert_eq!(short[5], ("prize", "there is no column `prize`"));
    assert_eq!(found[5].2.as_deref(), Some("did you mean `price`?"));
}

#[test]
fn what_does_not_repeat_is_refused() {
    for call in ["random()", "uuid()", "current_time"] {
        let (_, message) = mistake(&stream(&format!("select = {{ r = \"{call}\" }}")));
        assert!(message.ends_with("would not give the same when a batch is computed again"), "{message}");
    }
    let (_, message) = mistake(&stream("sql = \"select random() as r from purchases\""));
    assert!(message.starts_with("`random`"), "{message}");
}

#[test]
fn things_in_wrong_places() {
    let (_, message) = mistake(&stream("filter = \"sum(price) > 1\""));
    assert_eq!(message, "`sum` goes over many rows, this expression over one");
    let (place, message) = mistake(&stream("filter = \"price\""));
    assert_eq!((place.as_str(), message.as_str()), ("price", "a filter is true or false, not a double"));
    let (_, message) = mistake(&stream("reduce = { x = \"sum(price) + price\" }"));
    assert_eq!(message, "`price` has many values here, not one");
    let (_, message) = mistake(&stream("flat_map = { unnest = \"price\", as = \"x\" }"));
    assert_eq!(message, "there is nothing to unnest in a double");
    let (_, message) = mistake(&stream("flat_map = { split = \"price\", by = \" \", as = \"x\" }"));
    assert_eq!(message, "only text can be split, not a double");
    let (_, message) = mistake(&stream("select = { x = \"(select 1)\" }"));
    assert_eq!(message, "there is nothing to query here");
}

#[test]
fn queries() {
    let (place, message) = mistake(&stream("sql = \"select usr from purchases\""));
    assert_eq!((place.as_str(), message.as_str()), ("usr", "there is no column `usr`"));
    let found = mistakes(&stream("sql = \"select * from other\""));
    assert_eq!(found[0].2.as_deref(), Some("the query reads what `from` names: `purchases`"));
    assert!(!mistakes(&stream("sql = \"create table x (a int)\"")).is_empty());
    assert!(!mistakes(&stream("sql = \"explain select * from purchases\"")).is_empty());
    let (_, message) = mistake(&stream("sql = \"select a.user, b.user from purchases a cross join purchases b\""));
    assert_eq!(message, "there are two columns called `user`");
    assert!(!mistakes(&stream("sql = \"select * from generate_series(1, 3)\"")).is_empty());
}

#[test]
fn state() {
    let state = |lines: &str| {
        format!("[stream.out]\nfrom = \"purchases\"\n[stream.out.update_state_by_key]\nkey = \"user\"\n{lines}")
    };
    let (_, message) = mistake(&state("state.a = \"state.a\""));
    assert_eq!(message, "the type of `state.a` does not follow from its update");
    let (place, message) = mistake(&state("state.a = \"coalesce(state.b, 0) + count(*)\""));
    assert_eq!((place.as_str(), message.as_str()), ("state.b", "there is no column `state.b`"));
    let (_, message) = mistake(&state("state.a = \"coalesce(state.a, 0) + price\""));
    assert_eq!(message, "`price` has many values here, not one");
    let (_, message) = mistake(&state("state.a = \"sum(price + state.a)\""));
    assert_eq!(message, "`sum` goes over records, which do not have the state");
    let (_, message) = mistake(&state("state.a = \"count(*)\"\ndrop_when = \"state.a\""));
    assert_eq!(message, "`drop_when` is true or false, not a bigint");
}

#[test]
fn outputs_that_cannot_hold_their_columns() {
    let output = |sink: &str| {
        let more = format!("[[output]]\nfrom = \"purchases\"\nname = \"more\"\n{sink}");
        mistake(&format!("{}\n{more}\n", stream("distinct = true")))
    };
    let (place, message) = output("text = { path = \"a\" }");
    assert_eq!(place, "purchases");
    assert!(message.starts_with("a line of text is one column, and there are "), "{message}");
    let (place, message) = output("text = { path = \"a\", column = \"prize\" }");
    assert_eq!((place.as_str(), message.as_str()), ("prize", "there is no column `prize`"));
}

#[test]
fn unions_of_different_columns() {
    let union = |select: &str| {
        let streams = format!(
            "[stream.other]\nfrom = \"purchases\"\nselect = {{ {select} }}\n\
             [stream.out]\nfrom = [\"purchases\", \"other\"]\nunion = true"
        );
        mistake(&streams)
    };
    let at = |message: &str| ("other".to_string(), message.to_string());
    assert_eq!(
        union("user = \"user\", price = \"price\", product = \"product\""),
        at("column 2 is called `product` in `purchases` and `price` in `other`")
    );
    assert_eq!(
        union("user = \"user\", product = \"product\", price = \"1\""),
        at("`price` is a double in `purchases` and a bigint in `other`")
    );
    assert_eq!(union("user = \"user\""), at("`purchases` has 3 columns and `other` has 1"));
}

#[test]
fn what_is_wrong_in_a_union_is_said_once() {
    let found = mistakes(
        "[stream.both]\nfrom = [\"purchases\", \"purchases\"]\nunion = true\n\
         [stream.out]\nfrom = \"both\"\nselect = { a = \"usr\", b = \"prise\" }",
    );
    assert_eq!(found.len(), 2, "{found:?}");
}
