//! Records that do not parse: counted, shown, bounded, and as rows.

use crate::command::Case;

const JOB: &str = r#"
name = "sales"
batch_interval = "1s"

[source.purchases]
connector = "socket"
address = "127.0.0.1:9999"
format = "csv"
columns = { user = "string", price = "double" }

[stream.sales]
from = "purchases"
reduce_by_key = { key = "user", aggregates = { revenue = "sum(price)" } }

[[output]]
from = "sales"
print = true
"#;

const BAD_INPUT: &str =
    r#"{"sources": {"purchases": [["ana,1.5", "bob,\u001b[31mcheap"], ["bob,3"], ["bob,x,y", "ana,z", "ana,2"]]}}"#;

#[test]
fn bad_records_are_counted_and_shown() {
    let run = Case::new(JOB, BAD_INPUT).replay(&[]);
    assert_eq!(run.code, 0, "{run:#?}");
    assert_eq!(run.stdout.lines().count(), 3, "{run:#?}");
    let lines: Vec<_> = run.stderr.lines().collect();
    assert_eq!(lines[0], "source `purchases`: 3 of 6 records are bad", "{run:#?}");
    assert_eq!(lines.len(), 4, "{run:#?}");
    assert!(lines[1].contains("of source `purchases`, record 1: "), "{run:#?}");
    assert!(lines[1].ends_with(r"(bob,\u{1b}[31mcheap)"), "{run:#?}");
}

/// What was complete before the batch that fails is printed.
#[test]
fn too_many_bad_records_fail_the_job() {
    let bounded = |most: &str| JOB.replace("format = \"csv\"", &format!("format = \"csv\"\nmax_bad_records = {most}"));
    let run = Case::new(&bounded("2"), BAD_INPUT).replay(&[]);
    assert_eq!(run.code, 3, "{run:#?}");
    assert_eq!(run.stdout.lines().count(), 2, "{run:#?}");
    let said =
        "batch 3: source `purchases`: 3 of 6 records are bad, and `max_bad_records` is 2; for example record 3: ";
    assert!(run.stderr.contains(said), "{run:#?}");
    assert_eq!(Case::new(&bounded("3"), BAD_INPUT).replay(&[]).code, 0);

    let bad = |every: usize| {
        let record = |i: usize| if i.is_multiple_of(every) { "\"u,x\"" } else { "\"u,1\"" };
        let records: Vec<_> = (0..1000).map(record).collect();
        format!(r#"{{"sources": {{"purchases": [[{}]]}}}}"#, records.join(", "))
    };
    let share = bounded("{ per_mille = 10 }");
    assert_eq!(Case::new(&share, &bad(100)).replay(&[]).code, 0);
    let run = Case::new(&share, &bad(99)).replay(&["--workers", "3"]);
    assert_eq!((run.code, run.stdout.as_str()), (3, ""), "{run:#?}");
    assert!(run.stderr.contains("11 of 1000 records are bad, and `max_bad_records` is 10 per mille"), "{run:#?}");
}

/// Bad records go through exchanges and state as all rows do, and come out once whatever happens.
#[test]
fn bad_records_are_rows() {
    let job = JOB.replace("format = \"csv\"", "format = \"csv\"\non_bad_record = \"dead_letter\"")
        + r#"
[stream.reasons]
from = "purchases_bad"
update_state_by_key = { key = "source", state = { n = "coalesce(state.n, 0) + count(*)", last = "max(\"offset\")" } }

[[output]]
from = "purchases_bad"
name = "bad"
print = true

[[output]]
from = "reasons"
print = true
"#;
    let long = "x".repeat(1000);
    let line = |i: usize| match i % 7 {
        0 => format!("\"u{i},{long}{i}\""),
        3 => format!("\"u{i}\""),
        _ => format!("\"u{i},{i}\""),
    };
    let batch = |from: usize| (from..from + 20).map(line).collect::<Vec<_>>().join(", ");
    let input = format!(r#"{{"sources": {{"purchases": [[{}], [], [{}], [{}]]}}}}"#, batch(0), batch(20), batch(40));
    let case = Case::new(&job, &input);
    let once = case.replay(&[]).ok();
    let lines: Vec<serde_json::Value> = once.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |output: &str| -> Vec<&serde_json::Value> {
        lines.iter().filter(|line| line["output"] == output).map(|line| &line["rows"]).collect()
    };
    let bad: Vec<&serde_json::Value> = of("bad").into_iter().flat_map(|rows| rows.as_array().expect("rows")).collect();
    let expected: Vec<usize> = (0..60).filter(|i| matches!(i % 7, 0 | 3)).collect();
    assert_eq!(bad.len(), expected.len());
    for (row, i) in bad.iter().zip(&expected) {
        let text = if i % 7 == 0 { format!("u{i},{long}{i}") } else { format!("u{i}") };
        assert_eq!((&row["source"], &row["receiver"]), (&"purchases".into(), &0.into()));
        assert_eq!((&row["offset"], &row["text"]), (&(*i as u64).into(), &text.into()));
        assert!(!row["reason"].as_str().expect("a text").is_empty());
    }
    let states = of("reasons");
    let last = states.last().expect("a state");
    assert_eq!(**last, serde_json::json!([{"source": "purchases", "n": expected.len(), "last": expected.last()}]));
    case.prints_the_same(&once, &["1", "3"], &["1", "3"]);
}

#[test]
fn bad_records_have_a_name_of_their_own() {
    let job = JOB.replace("format = \"csv\"", "format = \"csv\"\non_bad_record = \"dead_letter\"");
    for (rest, message) in [
        ("[[output]]\nfrom = \"purchases_bad\"\nname = \"bad\"\nprint = true\n", ""),
        ("[stream.purchases_bad]\nfrom = \"purchases\"\ncount = true\n", "called `purchases_bad`"),
    ] {
        let run = Case::new(&format!("{job}{rest}"), r#"{"sources": {}}"#).replay(&[]);
        assert_eq!(run.code, if message.is_empty() { 0 } else { 2 }, "{run:#?}");
        assert!(run.stderr.contains(message), "{run:#?}");
    }
    let plain = format!("{JOB}[[output]]\nfrom = \"purchases_bad\"\nname = \"bad\"\nprint = true\n");
    let run = Case::new(&plain, r#"{"sources": {}}"#).replay(&[]);
    assert_eq!(run.code, 2, "{run:#?}");
}
