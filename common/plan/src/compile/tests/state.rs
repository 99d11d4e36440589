//! `update_state_by_key`.

use super::*;
use crate::arrow::datatypes::DataType;

const RUNNING: &str = r#"
[stream.out]
from = "purchases"
[stream.out.update_state_by_key]
key = "user"
state.purchases = "coalesce(state.purchases, 0) + count(*)"
state.revenue = "coalesce(state.revenue, 0) + coalesce(sum(price), 0)"
"#;

const BATCHES: &[&[&str]] = &[&["ana,a,9.99\nbob,b,5.49\nana,c,8.95\n"], &[], &["bob,d,7.49\n", "dee,e,1\n"]];

#[test]
fn running_totals() {
    let plan = plan(RUNNING);
    let state = plan.stages[1].state.as_ref().unwrap();
    let types: Vec<_> = state.fields().iter().map(|field| field.data_type()).collect();
    assert_eq!(types, [&DataType::Int64, &DataType::Float64]);
    let first = [
        r#"{"user":"ana","purchases":2,"revenue":18.939999999999998}"#,
        r#"{"user":"bob","purchases":1,"revenue":5.49}"#,
    ];
    let results = run(&plan, 3, BATCHES);
    assert_eq!(results[0], first);
    assert_eq!(results[1], first);
    assert_eq!(
        results[2],
        [first[0], r#"{"user":"bob","purchases":2,"revenue":12.98}"#, r#"{"user":"dee","purchases":1,"revenue":1.0}"#]
    );
}

#[test]
fn keys_are_dropped_by_their_new_state() {
    let plan = plan(&format!("{RUNNING}drop_when = \"state.purchases > 1 and user <> 'x'\"\n"));
    let results = run(&plan, 1, BATCHES);
    assert_eq!(results[0], [r#"{"user":"bob","purchases":1,"revenue":5.49}"#]);
    assert_eq!(results[2], [r#"{"user":"dee","purchases":1,"revenue":1.0}"#]);
}

#[test]
fn touched_and_changed() {
    let plan = plan(
        r#"
[stream.calls]
from = "purchases"
[stream.calls.update_state_by_key]
key = ["user"]
update = "touched"
emit = "changed"
state.calls = "coalesce(state.calls, 0) + 1"
state.last = "now()"
[stream.out]
from = "calls"
filter = "calls > 0"
"#,
    );
    let results = run(&plan, 2, BATCHES);
    assert_eq!(results[1], Vec::<String>::new());
    assert_eq!(
        results[2],
        [
            r#"{"user":"bob","calls":2,"last":"1970-01-01T00:00:03Z"}"#,
            r#"{"user":"dee","calls":1,"last":"1970-01-01T00:00:03Z"}"#,
        ]
    );
}

#[test]
fn a_bare_name_that_records_and_state_share() {
    let plan = plan(
        r#"
[stream.out]
from = "purchases"
[stream.out.update_state_by_key]
key = "user"
drop_when = "price > 5 and max(price) > 1"
state.price = "coalesce(state.price, 0) + sum(price)"
"#,
    );
    assert_eq!(
        run(
            &plan,
            2,
            &[&["a,x,3
a,x,3
b,x,4
"]]
        )[0],
        [r#"{"user":"b","price":4.0}"#]
    );
}

#[test]
fn every_key_is_updated_in_every_batch() {
    let streams = RUNNING.replace("coalesce(sum(price), 0)", "1.5");
    let results = run(&plan(&streams), 2, BATCHES);
    assert_eq!(results[1][1], r#"{"user":"bob","purchases":1,"revenue":3.0}"#);
}

#[test]
fn initial_state_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let with = |file: &str| definition(&format!("{RUNNING}initial = \"{file}\"\n"));
    std::fs::write(folder.path().join("s.csv"), "revenue,user,purchases\n30,ana,3\n1.25,zoe,1\n").unwrap();
    std::fs::write(folder.path().join("s.json"), "{\"user\":\"zoe\",\"revenue\":1}\n").unwrap();
    std::fs::write(folder.path().join("bad.csv"), "user,purchases\nana,1\nbob,x\n").unwrap();
    std::fs::write(folder.path().join("twice.csv"), "user,purchases\nana,1\nana,2\n").unwrap();
    let ana = "{\"user\":\"ana\",\"revenue\":1}\n";
    for (file, text) in [
        ("name.json", format!("{ana}{{\"user\":\"bob\",\"revenu\":1}}\n")),
        ("key.json", format!("{ana}\n{{\"purchases\":1}}\n")),
        ("type.json", "{\"user\":\"ana\",\"purchases\":1.5}".to_string()),
        ("no.json", "[1]\n".to_string()),
    ] {
        std::fs::write(folder.path().join(file), text).unwrap();
    }
    let plan = Arc::new(compile_in(&with("s.csv"), folder.path()).unwrap());
    assert_eq!(
        run(&plan, 2, &BATCHES[..1])[0],
        [
            r#"{"user":"ana","purchases":5,"revenue":48.94}"#,
            r#"{"user":"bob","purchases":1,"revenue":5.49}"#,
            r#"{"user":"zoe","purchases":1,"revenue":1.25}"#,
        ]
    );
    let plan = Arc::new(compile_in(&with("s.json"), folder.path()).unwrap());
    assert_eq!(run(&plan, 2, &[&[]])[0], [r#"{"user":"zoe","purchases":0,"revenue":1.0}"#]);
    for (file, message) in [
        ("bad.csv", "line 3 of `bad.csv`: "),
        ("twice.csv", "`twice.csv` has the key of row 2 twice"),
        ("none.csv", "cannot read `none.csv`"),
        ("name.json", "line 2 of `name.json`: `revenu` is neither a key nor a state column; did you mean `revenue`?"),
        ("key.json", "line 3 of `key.json`: the key column `user` is missing"),
        ("type.json", "line 1 of `type.json`: "),
        ("no.json", "line 1 of `no.json`: "),
    ] {
        let mistakes = compile_in(&with(file), folder.path()).unwrap_err().to_string();
        assert!(mistakes.starts_with(message), "{mistakes}");
    }
}

#[test]
fn state_without_aggregates_and_with_null_keys() {
    let plan = plan(
        r#"
[stream.keys]
from = "purchases"
select = { product = "nullif(product, '')", price = "price" }
[stream.out]
from = "keys"
[stream.out.update_state_by_key]
key = "product"
state.seen = "coalesce(state.seen, 0) + 1"
"#,
    );
    let results = run(&plan, 2, &[&["a,x,1\nb,,1\n"], &["b,,1\n"]]);
    assert_eq!(results[1], [r#"{"product":null,"seen":2}"#, r#"{"product":"x","seen":2}"#]);
}

#[test]
fn state_that_stays_null_is_warned_of() {
    let warned = |state: &str| -> Vec<String> {
        let streams = format!(
            "[stream.out]\nfrom = \"purchases\"\n[stream.out.update_state_by_key]\nkey = \"user\"\nstate = {{ {state} }}\n"
        );
        plan(&streams).warnings.iter().map(|warning| warning.message.clone()).collect()
    };
    let null =
        |name: &str| format!("`state.{name}` is null for ever: it begins as null, and null and anything is null");
    assert_eq!(warned(r#"n = "state.n + count(*)""#), [null("n")]);
    assert_eq!(warned(r#"n = "cast(-n as bigint) * 2 + count(*)""#), [null("n")]);
    assert_eq!(
        warned(r#"a = "state.b + 1", b = "state.a + 1", c = "coalesce(state.a, 0) + 1""#),
        [null("a"), null("b")]
    );
    for fine in [
        r#"n = "coalesce(state.n, 0) + count(*)""#,
        r#"n = "coalesce(state.n + count(*), count(*))""#,
        r#"n = "greatest(state.n, max(price))""#,
        r#"n = "case when state.n > 1 then state.n + 1 else 1 end""#,
        r#"a = "coalesce(state.b, 1)", b = "state.a + 1""#,
    ] {
        assert_eq!(warned(fine), [""; 0], "{fine}");
    }
}

#[test]
fn a_declared_type_takes_what_stays_what_it_is() {
    let with = |state: &str| {
        format!(
            "[stream.out]\nfrom = \"purchases\"\n[stream.out.update_state_by_key]\nkey = \"user\"\nstate.x = {{ {state} }}\n"
        )
    };
    for (state, expected) in [
        ("type = 'int', update = 'count(*)'", "3"),
        ("type = 'double', update = 'count(*)'", "3.0"),
        ("type = 'float', update = 'sum(price)'", "4.5"),
        ("type = 'decimal(4, 1)', update = 'max(price) / 8'", r#""0.3""#),
        ("type = 'bigint', update = 'cast(sum(price) / 3.2 as bigint)'", "1"),
        ("type = 'timestamp', update = 'cast(now() as date)'", r#""1970-01-01T00:00:00Z""#),
        ("type = 'vector(3)', update = 'array_agg(price)'", "[1.0,1.5,2.0]"),
        ("type = 'string', update = 'null'", "null"),
    ] {
        let found = run(&plan(&with(state)), 1, &[&["ana,x,1\nana,x,1.5\nana,x,2\n"]]);
        assert_eq!(found[0], [format!(r#"{{"user":"ana","x":{expected}}}"#)], "{state}");
    }
    for (state, wrong) in [
        ("type = 'bigint', update = 'sum(price) / 2'", "the column is declared as bigint, and its update gives double"),
        ("type = 'int', update = '1.5'", "the column is declared as int, and its update gives double"),
        ("type = 'boolean', update = 'count(*)'", "the column is declared as boolean, and its update gives bigint"),
        ("type = 'string', update = 'count(*)'", "the column is declared as string, and its update gives bigint"),
        ("type = 'bigint', update = 'max(product)'", "the column is declared as bigint, and its update gives string"),
        (
            "type = 'timestamp', update = 'max(price)'",
            "the column is declared as timestamp, and its update gives double",
        ),
        ("type = 'date', update = 'now()'", "the column is declared as date, and its update gives timestamp"),
        ("type = 'double', update = 'now()'", "the column is declared as double, and its update gives timestamp"),
        (
            "type = 'vector(1)', update = 'array_agg(product)'",
            "the column is declared as vector(1), and its update gives list of string",
        ),
    ] {
        let mistakes = compile_in(&definition(&with(state)), Path::new(".")).unwrap_err().to_string();
        assert!(mistakes.starts_with(wrong), "{mistakes}");
    }
    for (state, wrong) in [
        ("type = 'int', update = 'count(*) * 2147483648'", "does not fit int, in `x = count(*) * 2147483648`"),
        ("type = 'decimal(4, 2)', update = 'sum(price) * 100'", "450.0 does not fit decimal(4, 2)"),
        ("type = 'float', update = 'sum(price) * 1e300'", "does not fit float"),
        ("type = 'vector(2)', update = 'array_agg(price)'", ""),
    ] {
        let mut evaluator = Evaluator::new(plan(&with(state)), 2).unwrap();
        let batch = block_on(evaluator.batch_json(&context(1), &blocks(&["ana,x,1\nana,x,1.5\nana,x,2\n"])));
        let error = batch.unwrap_err().to_string();
        assert!(error.contains(wrong), "{error}");
    }
}
