//! Definitions that are too large.

use super::super::limits::*;
use super::*;

/// One mistake, and what is at its place.
fn the_mistake(text: &str) -> (String, String) {
    let wrong = parse(text).expect_err("this is too large");
    let wrong: Vec<_> = wrong.iter().collect();
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    let place = wrong[0].span.clone().map_or("nowhere".into(), |span| text[span].to_string());
    (wrong[0].message.clone(), place)
}

#[test]
fn as_many_as_there_can_be() {
    let streams: String =
        (0..MAX_STREAMS).map(|i| format!("[stream.s{i}]\nfrom = \"rows\"\ndistinct = true\n")).collect();
    assert_eq!(good(&job_with(&streams)).streams.len(), MAX_STREAMS);
    let one_more = format!("{streams}[stream.last]\nfrom = \"rows\"\ndistinct = true\n");
    let (message, place) = the_mistake(&job_with(&one_more));
    assert_eq!((message.as_str(), place.as_str()), ("there are 1001 streams; there can be 1000", "last"));
    let outputs: String =
        (0..MAX_OUTPUTS).map(|i| format!("[[output]]\nname = \"o{i}\"\nfrom = \"rows\"\nprint = true\n")).collect();
    assert_eq!(the_mistake(&job_with(&outputs)).0, "there are 1001 outputs; there can be 1000");
    for kind in ["source", "model", "table"] {
        let many: String = (0..200).map(|i| format!("[{kind}.n{i}]\n")).collect();
        let (message, _) = the_mistake(&job_with(&many));
        assert!(message.contains(&format!("{kind}s; there can be 100")), "{message}");
    }
}

#[test]
fn names_texts_lists_and_tables() {
    let key = "k".repeat(MAX_KEY_BYTES + 1);
    let (message, place) =
        the_mistake(&job_with(&format!("[stream.s]\nfrom = \"rows\"\nselect = {{ {key} = \"user\" }}")));
    assert_eq!((message.as_str(), &place), ("this name has 256 bytes; it can have 255", &key));
    let text = "x".repeat(MAX_TEXT_BYTES + 1);
    let (message, place) = the_mistake(&job_with(&format!("[stream.s]\nfrom = \"rows\"\nfilter = \"{text}\"")));
    assert_eq!((message.as_str(), place.len()), ("this text has 1048577 bytes; it can have 1048576", text.len() + 2));
    let list = "\"user\", ".repeat(MAX_ELEMENTS + 1);
    let (message, _) = the_mistake(&job_with(&format!("[stream.s]\nfrom = [{list}]\nunion = true")));
    assert_eq!(message, "there are 100001 elements in one list; there can be 100000");
    let columns: String = (0..=MAX_COLUMNS).map(|i| format!("c{i} = \"user\", ")).collect();
    let (message, _) = the_mistake(&job_with(&format!("[stream.s]\nfrom = \"rows\"\nselect = {{ {columns} }}")));
    assert_eq!(message, "there are 10001 entries in one table; there can be 10000");
    let (message, place) = the_mistake(&format!("# {}", "x".repeat(MAX_DEFINITION_BYTES)));
    assert_eq!((message.as_str(), place.as_str()), ("the definition is longer than 16777216 bytes", "nowhere"));
}

#[test]
fn records_of_a_queue_are_bounded_by_their_batch() {
    let record = "r".repeat(MAX_TEXT_BYTES + 1);
    let queue = format!("[source.q]\nconnector = \"queue\"\nbatches = [[\"{record}\"]]\n");
    assert_eq!(good(&job_with(&queue)).sources.len(), 3);
}

/// Every one of these was, or may be, more than a thread's stack can take.
#[test]
fn nested_without_an_end() {
    for (before, inside, after) in [("x = ", "[", "]"), ("x = ", "{a=", "}"), ("", "a.", "b = 1"), ("[", "a.", "b]")] {
        for depth in [1_000, 100_000] {
            let text = match after {
                "]" | "}" => format!("{before}{}1{}", inside.repeat(depth), after.repeat(depth)),
                _ => format!("{before}{}{after}", inside.repeat(depth)),
            };
            let wrong = parse(&job_with("").replacen("[source", &format!("{text}\n[source"), 1)).unwrap_err();
            assert!(!wrong.is_empty() && wrong.to_string().len() < 100_000);
        }
    }
}

#[test]
fn a_long_name_is_not_repeated() {
    let name = "n".repeat(1_000_000);
    for text in [
        job_with("").replace("name = \"test\"", &format!("name = \"{name}\"")),
        job_with("").replace("from = \"lines\"", &format!("from = \"{name}\"")),
        job_with(&format!("[stream.{name}]\nfrom = \"rows\"\ndistinct = true")),
        job_with(&format!(
            "[stream.s]\nfrom = \"rows\"\nreduce_by_key = {{ key = \"{name}\", aggregates = {{ a = \"{name}\" }} }}"
        )),
        job_with(&format!("[stream.s]\nfrom = \"{name}\"\n\"{name}\" = 3\ndistinct = true")),
    ] {
        let wrong = parse(&text).unwrap_err();
        let rendered = wrong.render("job.toml", &text, false);
        assert!(rendered.len() < 20_000, "{} bytes", rendered.len());
        assert!(wrong.to_string().len() < 20_000);
    }
}

#[test]
fn many_mistakes_take_no_time() {
    let streams: String =
        (0..MAX_STREAMS).map(|i| format!("[stream.s{i}]\nfrom = \"nosuch{i}\"\nfilterr = \"x\"\n")).collect();
    assert_eq!(parse(&job_with(&streams)).unwrap_err().len(), 100);
}
