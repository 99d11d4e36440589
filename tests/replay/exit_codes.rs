//! What scripts rely on: exit codes, messages, and what the log says of a run.

use crate::command::{Case, Run, tidemill};

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

const INPUT: &str = r#"{"sources": {"purchases": [["ana,1.5", "bob,2"], ["bob,3"]]}}"#;
const OUTPUT: &str = r#"
{"batch": 1, "output": "sales", "rows": [{"user": "bob", "revenue": 2.0}, {"user": "ana", "revenue": 1.5}]}
{"batch": 2, "output": "sales", "rows": [{"user": "bob", "revenue": 3.0}]}
"#;

fn expect(output: &str, options: &[&str]) -> Run {
    let case = Case::new(JOB, INPUT);
    let file = case.file("expect.jsonl", output);
    let file = ["--expect", file.to_str().expect("a plain path")];
    case.replay(&[&file[..], options].concat())
}

fn assert_refused(run: &Run, message: &str) {
    assert_eq!(run.code, 2, "{run:#?}");
    assert!(run.stderr.contains(message), "expected `{message}` in {run:#?}");
    assert_eq!(run.stdout, "");
}

#[test]
fn expected_output() {
    assert_eq!(expect(OUTPUT, &[]).code, 0);
    let other_order = expect(OUTPUT, &["--ordered"]);
    assert_eq!(other_order.code, 1, "{other_order:#?}");
    assert!(other_order.stdout.contains("batch 1, output `sales`, row 1"), "{other_order:#?}");
    let nearly = OUTPUT.replace("3.0", "3.000001");
    let differs = expect(&nearly, &[]);
    assert_eq!(differs.code, 1, "{differs:#?}");
    assert!(differs.stdout.contains("batch 2, output `sales`: missing row"), "{differs:#?}");
    assert_eq!(expect(&nearly, &["--tolerance", "1e-6"]).code, 0);
}

#[test]
fn wrong_definition() {
    let wrong = JOB.replace("sum(price)", "sum(prise)");
    let run = Case::new(&wrong, INPUT).replay(&[]);
    assert_refused(&run, "job.toml:13:");
    assert!(run.stderr.lines().any(|line| line.contains('^')), "{run:#?}");
    assert!(run.stderr.contains("`price`"), "{run:#?}");
    let case = Case::new(&wrong, INPUT);
    assert_refused(&tidemill(["check".as_ref(), case.job().as_os_str()]), "job.toml:13:");
}

#[test]
fn wrong_usage() {
    let case = Case::new(JOB, INPUT);
    assert_refused(&case.replay(&["--workers", "0"]), "--workers must be at least 1");
    assert_refused(&case.replay(&["--kill", "3"]), "--kill must name a batch between 1 and 2");
    assert_refused(&case.replay(&["--tolerance", "1e-9"]), "--expect");
    let stranger = r#"{"sources": {"sales": []}}"#;
    assert_refused(&Case::new(JOB, stranger).replay(&[]), "the job has no source `sales`; it has purchases");
    assert_refused(&Case::new(JOB, "[]").replay(&[]), "input.json");
}

#[test]
fn nothing_to_lose() {
    let stateless = JOB.replace(
        "reduce_by_key = { key = \"user\", aggregates = { revenue = \"sum(price)\" } }",
        "filter = \"price > 1\"",
    );
    let run = Case::new(&stateless, INPUT).replay(&["--kill", "1"]);
    assert_eq!(run.code, 3, "{run:#?}");
    assert!(run.stderr.contains("--kill had nothing to lose"), "{run:#?}");
    assert_eq!(run.stdout, "");
}

#[test]
fn work_is_shared_and_blocks_are_held_twice() {
    let lines: Vec<String> = (0..40).map(|i| format!("\"u{i},1\"")).collect();
    let input = format!(r#"{{"sources": {{"purchases": [[{}]]}}}}"#, lines.join(", "));
    let run = Case::new(JOB, &input).replay(&["--workers", "3", "--log", "tidemill=info"]);
    let done = run.stderr.lines().find(|line| line.contains("replay done")).expect("the run is logged");
    let number = |name: &str| -> u64 {
        let (_, rest) = done.split_once(&format!(" {name}=")).expect("the figure is there");
        rest.split_whitespace().next().and_then(|number| number.parse().ok()).expect("it is a number")
    };
    assert_eq!(number("blocks"), 10, "{done}");
    assert_eq!(number("held_twice"), 10, "{done}");
    assert!(number("workers") >= 2, "{done}");
}

/// Whoever reads may have seen enough: no panic, no word.
#[test]
fn nobody_reads() {
    let case = Case::new(JOB, INPUT);
    let file = |name: &str| case.job().with_file_name(name).to_string_lossy().into_owned();
    let (job, input, expect) =
        (file("job.toml"), file("input.json"), case.file("expect.jsonl", "").display().to_string());
    let commands = [
        (0, vec!["completions", "bash"]),
        (0, vec!["schema"]),
        (0, vec!["check", &job]),
        (0, vec!["replay", &job, "--input", &input]),
        (1, vec!["replay", &job, "--input", &input, "--expect", &expect]),
    ];
    for (code, arguments) in commands {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidemill"));
        let command =
            command.args(&arguments).env_remove("TIDEMILL_LOG").stdout(writer).stderr(std::process::Stdio::piped());
        let output = command.spawn().and_then(std::process::Child::wait_with_output).expect("the program runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), stderr.as_ref()), (Some(code), ""), "{arguments:?}");
    }
}
