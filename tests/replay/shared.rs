//! Streams that several read: computed once, they give what each reader would get by computing them for itself, with any
//! number of workers and with one lost.

use crate::command::Case;

const SOURCE: &str = r#"
name = "shared"
batch_interval = "1s"
block_bytes = "1KiB"
key_groups = 8

[source.lines]
connector = "socket"
address = "127.0.0.1:9999"
format = "csv"
columns = { user = "string", words = "string", x = "double" }
"#;

/// A stream of one row per word, read by `{reader}`; one of its sums per user; and one over what the sums are kept as.
fn made(reader: &str) -> String {
    format!(
        r#"
[stream.words_{reader}]
from = "lines"
flat_map = {{ split = "words", by = " ", as = "word", keep = ["user", "x"] }}

[stream.scaled_{reader}]
from = "words_{reader}"
select = {{ user = "\"user\"", word = "word", x = "x * 0.1" }}

[stream.sums_{reader}]
from = "scaled_{reader}"
update_state_by_key = {{ key = "user", state = {{ x = "coalesce(state.x, 0.0) + coalesce(sum(x), 0.0)" }} }}

[stream.snapshots_{reader}]
from = "sums_{reader}"
state_snapshots = true

[stream.large_{reader}]
from = "snapshots_{reader}"
filter = "abs(x) > 0.2"
"#
    )
}

/// Readers of what `of` says for each of them.
fn readers(of: impl Fn(&str) -> String) -> String {
    let mut text = String::new();
    for (reader, stream, operator) in [
        ("a", "scaled", "reduce_by_key = { key = \"word\", aggregates = { x = \"sum(x)\", n = \"count(*)\" } }"),
        ("b", "scaled", "count = true"),
        ("c", "scaled", "filter = \"x > 0.3\""),
        ("d", "scaled", "top_k = { k = 2, by = \"x\", per = \"user\" }"),
        ("e", "scaled", "window = { length = \"2s\" }"),
        ("f", "large", "reduce = { x = \"sum(x)\", users = \"count(*)\" }"),
        ("g", "large", "select = { user = \"\\\"user\\\"\", x = \"x + 1\" }"),
        ("h", "large", "sort = { by = \"-x\" }"),
    ] {
        let from = format!("{stream}_{}", of(reader));
        text += &format!("\n[stream.{reader}]\nfrom = \"{from}\"\n{operator}\n");
        text += &format!("\n[[output]]\nfrom = \"{reader}\"\nprint = true\n");
    }
    text
}

fn input() -> String {
    let words = ["to be or", "not", "to be", "or not to"];
    let xs = [1e16, 1.0, -1e16, 0.7, 3.1];
    let line =
        |batch: usize, i: usize| format!("u{},{},{:?}", i * i % 7, words[(i + batch) % 4], xs[(i * 3 + batch) % 5]);
    let batches: Vec<Vec<String>> = (0..4).map(|batch| (0..80).map(|i| line(batch, i)).collect()).collect();
    serde_json::json!({"sources": {"lines": batches}}).to_string()
}

#[test]
fn shared_and_each_for_itself_are_the_same() {
    let shared = format!("{SOURCE}{}{}", made("all"), readers(|_| "all".into()));
    let all: String = ["a", "b", "c", "d", "e", "f", "g", "h"].map(made).concat();
    let apart = format!("{SOURCE}{all}{}", readers(str::to_string));
    let expected = Case::new(&apart, &input()).replay(&["--workers", "1"]).ok();
    assert_eq!(expected.lines().count(), 4 * 8);
    let case = Case::new(&shared, &input());
    for workers in ["1", "3", "5"] {
        assert_eq!(case.replay(&["--workers", workers]).ok(), expected);
    }
    for workers in ["3", "5"] {
        assert_eq!(case.replay(&["--workers", workers, "--kill", "3"]).ok(), expected);
    }
}

/// `predict_after_training` has a stage of its own, which cannot wait for the one that the model is trained from.
#[test]
fn rows_that_a_model_learns_from_and_is_asked_for() {
    let job = |of: [&str; 4]| {
        let mut text = SOURCE.replace("words = \"string\"", "y = \"double\"");
        let mut made: Vec<&str> = of.to_vec();
        made.dedup();
        for name in made {
            text += &format!("\n[stream.{name}]\nfrom = \"lines\"\nselect = {{ x = \"x\", y = \"y - 1\" }}\n");
        }
        let [learned, before, after, again] = of;
        text += &format!(
            r#"
[model.line]
kind = "passive_aggressive_regressor"

[stream.trained]
from = "{learned}"
train = {{ model = "line", features = "x", label = "y" }}

[stream.before]
from = "{before}"
select = {{ p = "predict('line', x)" }}

[stream.after]
from = "{after}"
select = {{ p = "predict_after_training('line', x)" }}

[stream.error]
from = "{again}"
select = {{ e = "predict_after_training('line', x) - y" }}
"#
        );
        for output in ["trained", "before", "after", "error"] {
            text += &format!("\n[[output]]\nfrom = \"{output}\"\nprint = true\n");
        }
        text
    };
    let line = |i: usize| format!("u{},{:?},{:?}", i % 3, (i * i % 5) as f64, i as f64 * 0.25);
    let batches: Vec<Vec<String>> = (0..3).map(|batch| (0..20).map(|i| line(batch + i)).collect()).collect();
    let input = serde_json::json!({"sources": {"lines": batches}}).to_string();
    let expected = Case::new(&job(["a", "b", "c", "d"]), &input).replay(&["--workers", "1"]).ok();
    assert_eq!(expected.lines().count(), 3 * 4);
    let case = Case::new(&job(["all"; 4]), &input);
    assert_eq!(case.replay(&["--workers", "1"]).ok(), expected);
    assert_eq!(case.replay(&["--workers", "3", "--kill", "2"]).ok(), expected);
}
