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
fn clauses_that_would_do_nothing_are_refused() {
    for (clause, query) in [
        ("tablesample", "select user from purchases tablesample bernoulli (1)"),
        ("tablesample", "select p.user from (select user from purchases) p tablesample system (50)"),
        ("tablesample", "with p as (select user from purchases tablesample (10 rows)) select user from p"),
        ("for update", "select user from purchases for update"),
        ("with ordinality", "select user from purchases with ordinality"),
    ] {
        let (place, message) = mistake(&stream(&format!("sql = \"{query}\"")));
        assert_eq!(message, format!("`{clause}` is not supported in a stream's query"), "{query}");
        assert_eq!(place, query);
    }
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

#[test]
fn map_with_state() {
    let map = |lines: &str| {
        format!("[stream.out]\nfrom = \"purchases\"\n[stream.out.map_with_state]\nkey = \"user\"\n{lines}")
    };
    for (lines, expected) in [
        ("state.a = \"state.a\"", ("state.a", "the type of `state.a` does not follow from its update")),
        ("state.a = \"old.b\"", ("old.b", "there is no column `old.b`")),
        ("state.a = \"sum(price)\"", ("sum(price)", "`sum` goes over many rows, this expression over one")),
        ("state.a = \"price\"\nemit_when = \"a\"", ("a", "`emit_when` is true or false, not a double")),
        ("state.a = \"price\"\nremove_when = \"state.a\"", ("state.a", "`remove_when` is true or false, not a double")),
        ("state.a = \"price\"\nemit = { x = \"usr\" }", ("usr", "there is no column `usr`")),
        ("state.a = \"price\"\nper = \"key\"", ("price", "`price` has many values here, not one")),
        (
            "state.a = \"sum(price)\"\nper = \"key\"\nemit = { x = \"max(state.a)\" }",
            ("max(state.a)", "`max` goes over records, which do not have the state"),
        ),
    ] {
        let (place, message) = mistake(&map(lines));
        assert_eq!((place.as_str(), message.as_str()), expected);
    }
    let renamed = "[stream.a]\nfrom = \"purchases\"\nselect = { user = \"user\", timing_out = \"price\" }\n";
    let map = map("state.a = \"1\"").replace("purchases", "a");
    let found = mistakes(&format!("{renamed}{map}"));
    assert_eq!(found[0].1, "a column of the input is called `timing_out`, which says something else here");
    let snapshots = stream("state_snapshots = true");
    let (place, message) = mistake(&snapshots);
    assert_eq!((place.as_str(), message.as_str()), ("purchases", "`purchases` keeps no state"));
}

#[test]
fn joins_of_what_does_not_fit() {
    let join = |operator: &str| {
        let streams = format!(
            "[stream.other]\nfrom = \"purchases\"\nselect = {{ user = \"user\", cents = \"1\", xs = \"[1]\", \
             other_price = \"2\", price = \"3\" }}\n[stream.out]\nfrom = [\"purchases\", \"other\"]\n{operator}"
        );
        mistake(&streams)
    };
    let at = |place: &str, message: &str| (place.to_string(), message.to_string());
    assert_eq!(join("join = { on = \"product\" }"), at("product", "there is no column `product` in `other`"));
    assert_eq!(
        join("anti = { on = { left = \"product\", right = \"cents\" } }"),
        at("cents", "`product` is a string in `purchases`, `cents` a bigint in `other`")
    );
    let list = join("cogroup = { on = { left = \"product\", right = \"xs\" } }");
    assert!(list.1.ends_with("in `other`, which cannot be a key"), "{list:?}");
    let twice = at("join", "there are two columns called `other_price`");
    assert_eq!(join("join = { on = \"user\" }"), twice);
}

#[test]
fn inputs_that_do_not_fire_together() {
    let over = |operator: &str| {
        mistake(&format!(
            "[stream.last]\nfrom = \"purchases\"\nwindow = {{ length = \"4s\", slide = \"2s\" }}\n\
             [stream.each]\nfrom = \"purchases\"\nwindow = {{ length = \"4s\", slide = \"1s\" }}\n\
             [stream.once]\nfrom = \"purchases\"\nslice = {{ from = \"1s\", to = \"2s\" }}\n[stream.out]\n{operator}"
        ))
    };
    let at = |place: &str, message: &str| (place.to_string(), message.to_string());
    let windows = at("each", "`last` fires every 2s, `each` in every batch");
    assert_eq!(over("from = [\"last\", \"each\"]\nunion = true"), windows);
    assert_eq!(over("from = [\"last\", \"each\"]\nsql = \"select 1 as one from last, each\""), windows);
    let source = at("last", "`purchases` fires in every batch, `last` every 2s");
    assert_eq!(over("from = [\"purchases\", \"last\"]\njoin = { on = \"user\" }"), source);
    let slice = at("once", "`last` fires every 2s, `once` once, 2000 ms after 1970");
    assert_eq!(over("from = [\"last\", \"once\"]\ncogroup = { on = \"user\" }"), slice);
}

#[test]
fn grouping_and_sorting_what_cannot_be() {
    let over = |operator: &str| {
        mistake(&format!(
            "[stream.lists]\nfrom = \"purchases\"\nselect = {{ user = \"user\", count = \"1\", xs = \"[1]\" }}\n\
             [stream.some]\nfrom = \"lists\"\nselect = {{ count = \"count\" }}\n\
             [stream.only]\nfrom = \"lists\"\nselect = {{ xs = \"xs\" }}\n[stream.out]\n{operator}"
        ))
    };
    let at = |place: &str, message: &str| (place.to_string(), message.to_string());
    let nothing = "there is no column beside the key to make lists of";
    assert_eq!(over("from = \"some\"\ngroup_by_key = { key = \"count\" }"), at("group_by_key", nothing));
    let unknown = at("usr", "there is no column `usr`");
    assert_eq!(over("from = \"lists\"\ngroup_by_key = { key = \"user\", values = \"usr\" }"), unknown);
    assert_eq!(over("from = \"lists\"\nsort = { by = [\"-usr\", \"user\"] }"), unknown);
    assert_eq!(over("from = \"lists\"\ntop_k = { k = 1, by = \"count\", per = \"usr\" }"), unknown);
    assert!(over("from = \"lists\"\nsort = { by = \"xs\" }").1.ends_with("has no order"));
    let value = over("from = \"only\"\ncount_by_value = true");
    assert!(value.0 == "count_by_value" && value.1.ends_with("which cannot be counted by value"), "{value:?}");
    let twice = at("count_by_value", "there are two columns called `count`");
    assert_eq!(over("from = \"some\"\ncount_by_value = true"), twice);
    let none = at("repartition", "there is no column that can be a key");
    assert_eq!(over("from = \"only\"\nrepartition = true"), none);
}

#[test]
fn models_and_who_asks_them() {
    let found = mistakes(&format!(
        "{}\n[model.a]\nkind = \"linear_regresion\"\n[model.b]\nkind = \"linear_regression\"\nstepsize = 0.5\n\
         [model.c]\nkind = \"kmeans\"\nk = 0\n[model.d]\nkind = \"kmeans\"\nk = \"three\"",
        stream("count = true")
    ));
    let found: Vec<_> = found.iter().map(|(place, message, _)| (place.as_str(), message.as_str())).collect();
    let expected = [
        ("linear_regresion", "`linear_regresion` is not among the choices"),
        ("stepsize", "unknown parameter `stepsize`"),
        ("0", "`k` is 0"),
        ("\"three\"", "invalid type: string \"three\", expected u32"),
    ];
    assert_eq!(found, expected);
    let over = |operator: &str| mistake(&format!("[model.m]\nkind = \"linear_regression\"\n{}", stream(operator)));
    let at = |place: &str, message: &str| (place.to_string(), message.to_string());
    assert_eq!(
        over("train = { model = \"m\", features = \"price\" }"),
        at("m", "a model of kind linear_regression learns from labels")
    );
    assert_eq!(
        over("train = { model = \"m\", features = \"user\", label = \"price\" }"),
        at("user", "a string is no feature")
    );
    let drift = "train = { model = \"m\", features = \"price\", label = \"price\", drift = { ";
    assert_eq!(
        over(&format!("{drift}detector = \"ddm\" }} }}")).1,
        "`detector` is ddm, which looks at errors of 0 or 1; a linear_regression has others"
    );
    assert_eq!(
        over(&format!("{drift}detector = \"adwin\", dleta = 0.1 }} }}")),
        at("dleta", "unknown parameter `dleta`")
    );
    let twice = mistake(&format!(
        "[model.m]\nkind = \"recursive_least_squares\"\n[stream.first]\nfrom = \"purchases\"\nselect = {{ price = \"price\", \
         drift = \"1\" }}\n[stream.out]\nfrom = \"first\"\n{drift}detector = \"adwin\" }} }}"
    ));
    assert_eq!(twice.1, "there are two columns called `drift`");
    assert_eq!(over("select = { a = \"predict('n', price)\" }").1, "there is no model called `n`; the job's models: m");
    assert_eq!(
        over("select = { a = \"cluster('m', price)\" }").1,
        "`cluster` does not go with a model of kind linear_regression"
    );
    assert_eq!(over("select = { a = \"predict('m')\" }").1, "`predict` needs features: predict('name', features)");
    let choice = "choose = { losses = { m = \"1\", k = \"2\" }, publish = \"best\" }";
    let published = |kind: &str, asked: &str| {
        let models = format!("[model.m]\nkind = \"linear_regression\"\n[model.k]\nkind = \"{kind}\"\n");
        let choice = format!("[stream.choice]\nfrom = \"purchases\"\n{choice}\n");
        mistake(&format!("{models}{choice}{}", stream(&format!("select = {{ a = \"{asked}('best', price)\" }}")))).1
    };
    assert_eq!(published("softmax", "predict"), "`k` does not answer as `m` does");
    let wrong = published("passive_aggressive_regressor", "predict_after_training");
    assert!(wrong.starts_with("a champion is asked as the batch before has left it"), "{wrong}");
}

#[test]
fn mistakes_do_not_hide_each_other() {
    let text = definition(
        r#"
[stream.misspelt]
from = "purchases"
filtr = "pricee > 1"

[stream.extra]
from = "purchases"
select = { x = "usr" }
cach = true

[stream.after]
from = "broken"
filter = "never > 1"

[stream.broken]
from = "purchases"
sort = { by = "price", limit = 0 }

[stream.out]
from = "purchases"
filter = "produkt = 'a'"
"#,
    );
    let files: [Vec<u8>; 0] = [];
    let found = crate::compile_text(&text, &files, &Functions::new(), crate::COMPILE_TIME).unwrap_err();
    let crate::CompileError::Wrong(found) = found else { panic!("{found}") };
    let mut places: Vec<_> = found.iter().map(|mistake| mistake.span.clone().map_or("", |span| &text[span])).collect();
    places.sort_unstable();
    assert_eq!(places, ["0", "cach", "filtr", "pricee", "produkt", "usr"], "{found}");
}
