//! The examples of `docs/job-definition.md` and `docs/learning.md` do what stands beside them, and lists are complete.

use crate::command::{Case, tidemill};
use std::collections::BTreeMap;

const PAGES: [&str; 2] = [include_str!("../../docs/job-definition.md"), include_str!("../../docs/learning.md")];

/// Definition, files beside it, input and output of an example.
#[derive(Debug, Default)]
struct Example {
    definition: String,
    files: Vec<(&'static str, String)>,
    input: Option<String>,
    output: Option<String>,
}

impl Example {
    /// The job with its files in a folder.
    fn case(&self, input: &str) -> Case {
        let case = Case::new(&self.definition, input);
        for (name, text) in &self.files {
            case.file(name, text);
        }
        case
    }
}

/// The text of the first fenced block.
fn block(text: &str) -> &str {
    let (_, rest) = text.split_once("```").expect("a block follows");
    let (_, rest) = rest.split_once('\n').expect("its text follows");
    rest.split_once("```").expect("it ends").0
}

fn examples() -> BTreeMap<&'static str, Example> {
    let mut examples: BTreeMap<&str, Example> = BTreeMap::new();
    for marked in PAGES.iter().flat_map(|page| page.split("<!-- ").skip(1)) {
        let (mark, rest) = marked.split_once(" -->").expect("a comment ends");
        let Some((kind, name)) = mark.split_once(": ") else { continue };
        let text = block(rest).to_string();
        match kind {
            "example" => {
                let known = examples.insert(name, Example { definition: text, ..Example::default() });
                assert!(known.is_none(), "two examples are called `{name}`");
            }
            "input" => examples.get_mut(name).expect("the example is before its input").input = Some(text),
            "output" => examples.get_mut(name).expect("the example is before its output").output = Some(text),
            _ if kind.starts_with("file ") => {
                let example = examples.get_mut(name).expect("the example is before its files");
                example.files.push((&kind["file ".len()..], text));
            }
            other => panic!("what is a comment of kind `{other}`?"),
        }
    }
    examples
}

/// JSON without the spaces between its parts: the page has some, the program writes none within rows.
fn compact(json: &str) -> String {
    let (mut out, mut in_string, mut escaped) = (String::new(), false, false);
    for character in json.chars() {
        match character {
            '"' if !escaped => in_string = !in_string,
            ' ' if !in_string => continue,
            _ => {}
        }
        escaped = character == '\\' && !escaped;
        out.push(character);
    }
    out
}

#[test]
fn every_example_is_a_complete_job() {
    let examples = examples();
    assert!(examples.len() >= 15, "{:?}", examples.keys());
    for (name, example) in examples {
        let case = example.case("");
        let run = tidemill(["check".as_ref(), case.job().as_os_str()]);
        assert_eq!(run.code, 0, "{name}: {run:#?}");
    }
}

#[test]
fn examples_give_the_output_beside_them() {
    let mut replayed = 0;
    for (name, example) in examples() {
        let (Some(input), Some(output)) = (&example.input, &example.output) else {
            assert!(example.input.is_none() && example.output.is_none(), "`{name}` has only one of input and output");
            continue;
        };
        replayed += 1;
        let case = example.case(input);
        let found = case.replay(&[]).ok();
        assert_eq!(compact(&found), compact(output), "{name}");
        for workers in ["1", "3"] {
            assert_eq!(case.replay(&["--workers", workers]).ok(), found, "{name} with {workers} workers");
        }
        let killed = case.replay(&["--workers", "3", "--kill", "1"]);
        match killed.code {
            3 => assert!(killed.stderr.contains("--kill had nothing to lose"), "{name}: {killed:#?}"),
            _ => assert_eq!(killed.ok(), found, "{name} with a worker killed"),
        }
    }
    assert!(replayed >= 15, "only {replayed} examples have input and output");
}

#[test]
fn the_source_in_the_documentation_is_the_example() {
    let page = include_str!("../../docs/adding-a-source.md");
    assert!(page.contains(include_str!("../../examples/own_source.rs")));
    let job = include_str!("../../examples/jobs/own_source.toml");
    let source = page.split_once("```toml\n").and_then(|(_, rest)| rest.split_once("\n```")).map(|(source, _)| source);
    assert!(source.is_some_and(|source| job.contains(source)), "{source:?}");
}

#[test]
fn the_sink_in_the_documentation_is_the_example() {
    let page = include_str!("../../docs/adding-a-sink.md");
    assert!(page.contains(include_str!("../../examples/own_sink.rs")));
    let job = include_str!("../../examples/jobs/own_sink.toml");
    let sink = page.split_once("```toml\n").and_then(|(_, rest)| rest.split_once("\n```")).map(|(sink, _)| sink);
    assert!(sink.is_some_and(|sink| job.contains(sink)), "{sink:?}");
}

/// Name, type and labels, as the table of metrics has them.
type Row = (String, String, Vec<String>);

#[test]
fn the_table_of_metrics_has_all_of_them() {
    // Statics of the program are in this test when something of it is used.
    assert!(!tidemill::connect::Connectors::default().sinks().collect::<Vec<_>>().is_empty());
    let page = include_str!("../../docs/operations.md");
    let table =
        page.split_once("| metric | type | labels | on | what |\n|---|---|---|---|---|\n").expect("the table").1;
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let row = |line: &str| -> (Row, String) {
        let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let labels = cells[3].split(", ").map(|label| label.trim_matches('`').to_string());
        ((cells[1].into(), cells[2].into(), labels.filter(|label| !label.is_empty()).collect()), cells[4].into())
    };
    let documented: BTreeMap<Row, String> = rows.map(row).collect();
    let declared = tidemill_metrics::all().into_iter().map(|entry| {
        let (name, kind) = (entry.metric.name(), entry.metric.kind().name());
        let labels = entry.metric.labels().iter().map(ToString::to_string).collect();
        let on = match entry.module.split("::").next() {
            Some("tidemill_driver") => "driver",
            Some("tidemill_metrics") => "both",
            _ => "worker",
        };
        ((name.to_string(), kind.to_string(), labels), on.to_string())
    });
    let declared: Vec<(Row, String)> = declared.collect();
    let names: std::collections::BTreeSet<&str> = declared.iter().map(|((name, ..), _)| name.as_str()).collect();
    assert_eq!(names.len(), declared.len(), "two metrics have the same name: {declared:#?}");
    assert!(names.iter().all(|name| name.starts_with("tidemill_") || name.starts_with("process_")), "{names:?}");
    assert!(declared.len() >= 40, "{declared:#?}");
    assert_eq!(declared.into_iter().collect::<BTreeMap<_, _>>(), documented);
}
