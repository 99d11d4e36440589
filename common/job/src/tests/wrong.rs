//! Wrong definitions with what is said about them, and mutated ones.

use super::{FULL, job_with, mistakes};
use crate::keys::OPERATORS;
use crate::parse;
use proptest::prelude::*;

/// The help given for the only mistake.
fn help(text: &str) -> String {
    let wrong = parse(text).expect_err("this definition is wrong");
    assert_eq!(wrong.len(), 1, "{wrong}");
    wrong.iter().find_map(|diagnostic| diagnostic.help.clone()).unwrap_or_default()
}

fn stream_mistakes(stream: &str) -> Vec<String> {
    mistakes(&job_with(&format!("[stream.s]\nfrom = \"rows\"\n{stream}")))
}

#[test]
fn all_mistakes_at_once() {
    let text = r#"
name = "bad name"
batch_intervall = "10s"
replication = 9
durability = "replicate"

[source.purchases]
connector = "socket"
address = "localhost"
format = "csv"
columns = { user = "strin", __x = "int" }

[stream.totals]
from = "purchase"
filter = 3

[[output]]
from = "total"
print = 5
"#;
    assert_eq!(
        mistakes(text),
        [
            "`bad name` cannot be a name @ bad name",
            "unknown key `batch_intervall` in the job @ batch_intervall",
            "`9` is out of range @ 9",
            "`replicate` is not among the choices @ replicate",
            "`localhost` is not an address @ localhost",
            "`strin` is not a type @ strin",
            "`__x` cannot name a column @ __x",
            "there is no source or stream called `purchase` @ purchase",
            "expected a string, found an integer @ 3",
            "there is no source or stream called `total` @ total",
            "expected a table, found an integer @ 5",
        ]
    );
    let rendered = parse(text).unwrap_err().render("job.toml", text, false);
    for help in ["batch_interval", "replicated", "string", "purchases", "totals"] {
        assert!(rendered.contains(&format!("did you mean `{help}`?")), "{rendered}");
    }
    assert!(rendered.contains("--> job.toml:3:1"), "{rendered}");
}

#[test]
fn an_empty_definition() {
    assert_eq!(
        mistakes(""),
        [
            "the job has no `name` @ ",
            "the job has no `batch_interval` @ ",
            "nothing to execute: the job has no output @ nowhere",
        ]
    );
}

#[test]
fn syntax_errors_come_with_the_mistakes_of_other_lines() {
    let text = "name = \nbatch_interval = 10\nsorce = 1\n[[output]\nfrom = \"a\"\n";
    let found = mistakes(text);
    assert_eq!(found.iter().filter(|m| m.starts_with("this is not TOML")).count(), 2, "{found:?}");
    assert!(found.iter().any(|m| m.ends_with("@ sorce")), "{found:?}");
    assert!(found.iter().any(|m| m.contains("expected a duration")), "{found:?}");
    assert!(!found.iter().any(|m| m.contains("has no")), "{found:?}");
    let twice = job_with("[source.lines]\nconnector = \"socket\"\n");
    assert!(mistakes(&twice)[0].contains("duplicate key"), "{:?}", mistakes(&twice));
}

#[test]
fn settings_out_of_range() {
    let with = |settings: &str| job_with("").replacen("batch_interval = \"1s\"", settings, 1);
    for (settings, expected) in [
        ("batch_interval = \"1.5ms\"", "a batch interval is a whole number of milliseconds @ 1.5ms"),
        ("batch_interval = \"10us\"", "a batch interval is a whole number of milliseconds @ 10us"),
        ("batch_interval = \"1s\"\nblock_interval = \"2s\"", "`block_interval` is longer than `batch_interval` @ 2s"),
        ("batch_interval = \"1s\"\nblock_interval = \"10us\"", "a block interval is at least 500us @ 10us"),
        (
            "batch_interval = \"1s\"\ncheckpoint_interval = \"20ms\"",
            "`checkpoint_interval` is shorter than `batch_interval` @ 20ms",
        ),
        ("batch_interval = \"1s\"\nblock_bytes = \"9MiB\"", "a block has between 1KiB and 8MiB @ 9MiB"),
        (
            "batch_interval = \"1s\"\nmax_batch_bytes = \"1MiB\"",
            "`max_batch_bytes` is less than one block (`block_bytes`) @ 1MiB",
        ),
        ("batch_interval = \"1s\"\nkey_groups = 0", "`0` is out of range @ 0"),
        ("batch_interval = \"1s\"\ncut_at_records = -5", "`-5` is out of range @ -5"),
        ("batch_interval = 10", "expected a duration such as \"10s\" in quotes, found an integer @ 10"),
    ] {
        assert_eq!(mistakes(&with(settings)), [expected]);
    }
    let parsed = parse(&with("batch_interval = \"10\"")).unwrap_err();
    assert_eq!(parsed.len(), 1, "only the interval itself: {parsed}");
}

#[test]
fn sources() {
    let source = |body: &str| {
        format!("name = \"t\"\nbatch_interval = \"1s\"\n[[output]]\nfrom = \"s\"\nprint = true\n[source.s]\n{body}")
    };
    let socket = "connector = \"socket\"\naddress = \"h:1\"\n";
    for (body, expected) in [
        ("", vec!["[source.s] has no `connector` @ s"]),
        ("connector = \"kafka\"", vec!["`kafka` is not among the choices @ kafka"]),
        ("connector = \"socket\"", vec!["[source.s] has no `address` (or `addresses`) @ s"]),
        (
            "connector = \"socket\"\naddress = \"h:1\"\naddresses = [\"h:2\"]",
            vec!["`address` and `addresses` exclude each other @ addresses"],
        ),
        (
            "connector = \"socket\"\naddresses = [\"h:1\", \"h:1\", 3]",
            vec!["`h:1` is there twice @ \"h:1\"", "expected a string, found an integer @ 3"],
        ),
        ("connector = \"socket\"\naddresses = []", vec!["expected at least one address @ []"]),
        (
            "connector = \"generate\"\nformat = \"csv\"\nlimit = 0",
            vec![
                "[source.s] has no `rows_per_second` @ s",
                "`format` does not apply to this connector @ format",
                "`0` is out of range @ 0",
            ],
        ),
    ] {
        assert_eq!(mistakes(&source(body)), expected, "{body}");
    }
    for (body, expected) in [
        ("acknowledge = true\nreceivers = 2", "a source with `acknowledge` has one receiver per address @ 2"),
        ("rows_per_second = 2", "`rows_per_second` does not apply to this connector @ rows_per_second"),
        ("columns = { a = \"int\" }", "`columns` does not apply to this format @ columns"),
        ("format = \"csv\"", "[source.s] has no `columns` @ s"),
        ("format = \"json\"\ncolumns = {}", "expected at least one column @ {}"),
        ("format = \"json\"\ncolumns = { a = \"int\" }\nnull = \"-\"", "`null` does not apply to this format @ null"),
        (
            "format = \"csv\"\ncolumns = { a = \"int\" }\ndelimiter = \"||\"",
            "a delimiter is one ASCII character, neither a line break nor a quote @ \"||\"",
        ),
        ("on_bad_record = \"ignore\"", "`ignore` is not among the choices @ ignore"),
        (
            "on_bad_record = \"fail\"\nmax_bad_records = 3",
            "`max_bad_records` does nothing: with `on_bad_record = \"fail\"` no record may be bad @ max_bad_records",
        ),
    ] {
        assert_eq!(mistakes(&source(&format!("{socket}{body}"))), [expected], "{body}");
    }
    let several = source("connector = \"socket\"\naddresses = [\"h:1\", \"h:2\"]\nreceivers = 2");
    assert_eq!(mistakes(&several), ["`receivers` is for a single address; several have one receiver each @ 2"]);
    for address in ["h", "h:", ":1", "h:0", "h:65536", "h:+1", "::1:9", "[x]:9", "a b:1", ""] {
        let text = source(&format!("connector = \"socket\"\naddress = \"{address}\""));
        assert_eq!(mistakes(&text), [format!("`{address}` is not an address @ {address}")]);
    }
    assert!(help(&source("connector = \"socket\"\naddres = \"h:1\"\naddress = \"h:1\"")).contains("`address`"));
    assert!(help(&source(&format!("{socket}format = \"csv\"\ncolumns = {{ a = \"long\" }}"))).contains("`bigint`"));
}

#[test]
fn keys_from_spark() {
    for (key, instead) in [
        ("cache", "computed once per batch"),
        ("persist", "computed once per batch"),
        ("storage_level", "`replication`"),
        ("remember", "`window`"),
        ("checkpoint", "`checkpoint_interval`"),
    ] {
        let text = job_with(&format!("[stream.s]\nfrom = \"rows\"\ncount = true\n{key} = \"MEMORY_ONLY\""));
        assert_eq!(mistakes(&text), [format!("unknown key `{key}` in [stream.s] @ {key}")]);
        assert!(help(&text).contains(instead), "{}", help(&text));
    }
}

/// Parameters are checked against a kind later, but that is not to be had without these.
#[test]
fn a_misspelt_key_beside_parameters_is_told() {
    let model = "[model.a]\njind = \"kmeans\"\nk = 2\n";
    assert_eq!(mistakes(&job_with(model)), ["unknown key `jind` in [model.a] @ jind"]);
    assert_eq!(help(&job_with(model)), "did you mean `kind`?");
    for (stream, expected) in [
        ("train = { modle = \"m\" }", "modle"),
        ("evaluate = { predictoin = \"a\" }", "predictoin"),
        ("ab_test = { experiment = \"true\", vale = \"a\" }", "vale"),
        ("detect_drift = { value = \"a\", detectr = \"adwin\" }", "detectr"),
    ] {
        let told = stream_mistakes(stream);
        assert!(told.iter().any(|told| told.ends_with(&format!("@ {expected}"))), "{stream}: {told:?}");
    }
}

#[test]
fn streams() {
    let operators: Vec<_> = OPERATORS.iter().map(|key| format!("`{}`", key.name)).collect();
    let none = format!("[stream.s] has no operator (one of {}) @ s", operators.join(", "));
    for (stream, expected) in [
        ("", vec![none.as_str()]),
        ("filter = \"a\"\nsql = \"b\"", vec!["[stream.s] has a second operator, `sql` @ sql"]),
        ("filtr = \"a\"\ncount = true", vec!["unknown key `filtr` in [stream.s] @ filtr"]),
        // A misspelt operator is one mistake, and what is in it is read.
        ("filtr = \"a\"", vec!["unknown key `filtr` in [stream.s] @ filtr"]),
        ("map = {}", vec!["unknown key `map` in [stream.s] @ map", "expected at least one column @ {}"]),
        (
            "reduce_by_key_and_window = { key = \"a\", aggregates = { n = \"count(*)\" }, window = \"5s\" }",
            vec!["unknown key `window` in `reduce_by_key_and_window` @ window"],
        ),
        ("filter = \" \"", vec!["this expression is empty @  "]),
        ("select = {}", vec!["expected at least one column @ {}"]),
        (
            "select = { \"\" = \"a\", b = 1 }",
            vec!["`` cannot name a column @ \"\"", "expected a string, found an integer @ 1"],
        ),
        ("count = false", vec!["only `true` makes sense here @ false"]),
        ("distinct = \"yes\"", vec!["expected a boolean, found a string @ \"yes\""]),
        ("flat_map = { as = \"w\" }", vec!["`flat_map` has no `split` (or `unnest`) @ { as = \"w\" }"]),
        (
            "flat_map = { split = \"a\", by = \"\", as = \"w\", keep = [\"w\", 1] }",
            vec!["`by` is empty @ ", "expected a string, found an integer @ 1"],
        ),
        ("flat_map = { split = \"a\", by = \" \", as = \"w\", keep = \"w\" }", vec!["column `w` is there twice @ w"]),
        (
            "flat_map = { unnest = \"a\", by = \" \", as = \"w\" }",
            vec!["`by` goes with `split`, not with `unnest` @ by"],
        ),
        (
            "flat_map = { unnest = \"a\", split = \"b\", by = \" \", as = \"w\" }",
            vec!["`split` and `unnest` exclude each other @ unnest"],
        ),
        ("reduce_by_key = { key = [], aggregates = { n = \"count(*)\" } }", vec!["expected at least one column @ []"]),
        (
            "reduce_by_key = { key = [\"a\", \"a\"], aggregate = {} }",
            vec!["column `a` is there twice @ a", "unknown key `aggregate` in `reduce_by_key` @ aggregate"],
        ),
        ("reduce_by_key = { key = \"a\", aggregates = { a = \"count(*)\" } }", vec!["column `a` is there twice @ a"]),
        ("join = {}", vec!["`join` has no `on` @ {}"]),
        ("join = { on = { left = \"a\" } }", vec!["`on` has no `right` @ { left = \"a\" }"]),
        (
            "full_outer_join = { on = { left = [\"a\", \"b\"], right = \"c\" } }",
            vec!["`left` has 2 columns and `right` has one column @ right"],
        ),
        ("group_by_key = { key = \"a\", values = [\"b\", \"a\"] }", vec!["column `a` is there twice @ a"]),
        ("combine_by_key = { key = \"a\" }", vec!["`combine_by_key` has no `aggregates` @ { key = \"a\" }"]),
        ("count_by_value = false", vec!["only `true` makes sense here @ false"]),
        (
            "sort = { by = [\"-a\", \"a\"], limit = 0 }",
            vec!["column `a` is there twice @ a", "`0` is out of range @ 0"],
        ),
        (
            "sort = { by = \"-\", descending = 1 }",
            vec!["`` cannot name a column @ ", "expected a boolean, found an integer @ 1"],
        ),
        (
            "top_k = { by = \"a\", per = [] }",
            vec!["`top_k` has no `k` @ { by = \"a\", per = [] }", "expected at least one column @ []"],
        ),
        ("repartition = { by = 1 }", vec!["expected a column name or an array of them, found an integer @ 1"]),
        ("repartition = false", vec!["only `true` makes sense here @ false"]),
        (
            "update_state_by_key = { key = 1, state = { a = { type = \"in\", updat = \"b\" } }, emit = \"none\" }",
            vec![
                "expected a column name or an array of them, found an integer @ 1",
                "`in` is not a type @ in",
                "unknown key `updat` in state column `a` @ updat",
                "`none` is not among the choices @ none",
            ],
        ),
        (
            "map_with_state = { key = \"a\", per = \"batch\", state = { a = \"1\" }, emit = {}, timeout = \"3\" }",
            vec![
                "`batch` is not among the choices @ batch",
                "column `a` is there twice @ a",
                "expected at least one column @ {}",
                "`3` is not a duration; write for example \"250ms\", \"10s\" or \"5min\" @ 3",
            ],
        ),
        ("state_snapshots = false", vec!["only `true` makes sense here @ false"]),
        (
            "window = { slide = \"1 day\" }",
            vec![
                "`window` has no `length` @ { slide = \"1 day\" }",
                "`1 day` is not a duration; write for example \"250ms\", \"10s\" or \"5min\" @ 1 day",
            ],
        ),
        ("count_by_window = \"2s\"", vec!["expected a table, found a string @ \"2s\""]),
        (
            "group_by_key_and_window = { key = \"a\", values = [\"b\", \"a\"], length = \"2s\" }",
            vec!["column `a` is there twice @ a"],
        ),
        (
            "reduce_by_key_and_window = { key = \"a\", length = \"2s\", keep_zero_keys = 1, inverse = true }",
            vec![
                "`reduce_by_key_and_window` has no `aggregates` @ { key = \"a\", length = \"2s\", keep_zero_keys = 1, inverse = true }",
                "expected a boolean, found an integer @ 1",
                "unknown key `inverse` in `reduce_by_key_and_window` @ inverse",
            ],
        ),
        ("slice = { from = \"3s\", to = \"2s\" }", vec!["this slice ends before it begins @ to"]),
        (
            "slice = { from = \"noon\", to = \"2026-01-31\" }",
            vec![
                "`noon` is not a duration; write for example \"250ms\", \"10s\" or \"5min\" @ noon",
                "`2026-01-31` is not a time; write for example \"2026-01-31T12:00:00Z\" or \"1500s\" @ 2026-01-31",
            ],
        ),
    ] {
        assert_eq!(stream_mistakes(stream), expected, "{stream}");
    }
}

#[test]
fn names_and_references() {
    for (more, expected) in [
        (
            "[stream.lines]\nfrom = \"rows\"\ncount = true",
            vec!["there is a source and a stream called `lines` @ lines"],
        ),
        (
            "[stream.a]\nfrom = \"c\"\ncount = true\n[stream.b]\nfrom = \"a\"\ncount = true\n[stream.c]\nfrom = \"b\"\ncount = true\n[stream.d]\nfrom = \"a\"\ncount = true",
            vec!["streams read each other in a circle: a from c from b from a @ a"],
        ),
        ("[stream.a]\nfrom = \"a\"\ncount = true", vec!["streams read each other in a circle: a from a @ a"]),
        (
            "[stream.a]\nfrom = [\"rows\", \"b\"]\nunion = true\n[stream.b]\nfrom = [\"c\", \"d\"]\nunion = true\n\
             [stream.c]\nfrom = \"rows\"\ndistinct = true\n[stream.d]\nfrom = [\"c\", \"a\", \"d\"]\nunion = true",
            vec![
                "streams read each other in a circle: a from b from d from a @ a",
                "streams read each other in a circle: d from d @ d",
            ],
        ),
        (
            "[stream.a]\nfrom = [\"rows\", \"row\"]\nunion = true",
            vec!["there is no source or stream called `row` @ row"],
        ),
        ("[stream.a]\nfrom = []\nunion = true", vec!["expected at least one name @ []"]),
        ("[stream.a]\nfrom = 1\nunion = true", vec!["expected a name or an array of names, found an integer @ 1"]),
        ("[stream.a]\nfrom = \"rows\"\nunion = true", vec!["`union` reads two streams or more, not one @ rows"]),
        ("[stream.a]\nfrom = [\"rows\", \"lines\"]\ncount = true", vec!["`count` reads one stream, not 2 @ lines"]),
        ("[stream.a]\nfrom = [\"rows\", \"rows\"]\nsql = \"select 1\"", vec!["`sql` reads `rows` twice @ rows"]),
        ("[stream.a]\nfrom = \"rows\"\njoin = { on = \"user\" }", vec!["`join` reads two streams, not one @ rows"]),
        (
            "[stream.a]\nfrom = [\"rows\", \"lines\", \"rows\"]\nsemi = { on = \"user\" }",
            vec!["`semi` reads two streams, not 3 @ rows"],
        ),
        (
            "[stream.a]\nfrom = [\"rows\", \"rows\"]\ncogroup = { on = \"user\" }",
            vec!["`cogroup` reads `rows` twice @ rows"],
        ),
        ("[[output]]\nfrom = \"lines\"\nprint = true", vec!["there are two outputs called `lines` @ lines"]),
        ("[[output]]\nfrom = \"rows\"\nprnt = true", vec!["unknown key `prnt` in [[output]] @ prnt"]),
        ("[[output]]\nfrom = \"rows\"\njson = { path = \"\" }", vec!["this path is empty @ "]),
        (
            "[[output]]\nfrom = \"rows\"\nprint = true\njson = { path = \"x\" }",
            vec!["[[output]] has a second sink, `json` @ json"],
        ),
        ("[stream.\"a b\"]\nfrom = \"rows\"\ncount = true", vec!["`a b` cannot be a name @ \"a b\""]),
        ("[stream.\"a.b\"]\nfrom = \"rows\"\ncount = true", vec!["`a.b` cannot be a name @ \"a.b\""]),
        ("[stream]\na = 1", vec!["expected a table, found an integer @ 1"]),
    ] {
        assert_eq!(mistakes(&job_with(more)), expected, "{more}");
    }
    let output = "name = \"t\"\nbatch_interval = \"1s\"\n[output]\nfrom = \"a\"\n";
    assert!(mistakes(output).contains(&"`output` is a list of tables @ output".to_owned()));
}

proptest! {
    /// Whatever is cut out of a definition or put into it: it parses, or there is something to say.
    #[test]
    fn mutated_definitions(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, ".{0,6}|[\\[\\]{}\"'=.,#\n]{0,3}"), 1..6)
    ) {
        let mut text = FULL.to_owned();
        for (at, length, insert) in edits {
            let places: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
            let start = at.index(places.len());
            let end = places.get(start + length).copied().unwrap_or(text.len());
            text.replace_range(places[start]..end, &insert);
            if text.is_empty() {
                text.push('\n');
            }
        }
        if let Err(wrong) = parse(&text) {
            prop_assert!(!wrong.is_empty());
            prop_assert!(wrong.render("job.toml", &text, false).contains("error: "));
            for span in wrong.iter().flat_map(|diagnostic| diagnostic.span.clone()) {
                prop_assert!(text.get(span.clone()).is_some(), "{:?} of {}", span, text.len());
            }
        }
    }
}

#[test]
fn sinks() {
    let output = |sink: &str| mistakes(&job_with(&format!("[[output]]\nfrom = \"rows\"\nname = \"more\"\n{sink}")));
    let cases = [
        ("json = { path = \"memory:///x\" }", "`memory://` URLs cannot be used here @ memory:///x"),
        ("json = { path = \"s3://\" }", "this URL names no bucket @ s3://"),
        ("json = { path = \"s3://a/../b\" }", "`..` cannot be part of an object's name @ s3://a/../b"),
        (
            "json = { path = \"s3://a/b\", roll = true }",
            "nothing can be appended to an object, so `roll` goes with directories only @ roll",
        ),
        ("text = { prefix = \"gs://a\" }", "this prefix has no name @ gs://a"),
        ("csv = { path = \"\" }", "this path is empty @ "),
        ("text = { path = \"a\", prefix = \"b\" }", "`path` and `prefix` exclude each other @ prefix"),
        ("text = { path = \"a\", suffix = \"b\" }", "`suffix` goes with `prefix`, not with `path` @ suffix"),
        ("text = { prefix = \"a/\" }", "this prefix has no name @ a/"),
        ("text = { prefix = \"a\", roll = true }", "`roll` goes with `path`, not with `prefix` @ roll"),
        (
            "json = { path = \"a\", roll = true, compression = \"brotli\" }",
            "nothing can be appended to a file of Brotli, so it does not go with `roll` @ \"brotli\"",
        ),
        ("text = { path = \"a\", compression = \"zip\" }", "`zip` is not among the choices @ zip"),
        ("object = { path = \"a\", compression = \"lz4\" }", "unknown key `compression` in `object` @ compression"),
        (
            "csv = { path = \"a\", null = \"a,b\" }",
            "the text for null has neither quotes, line breaks nor the delimiter @ \"a,b\"",
        ),
        ("parquet = { path = \"a\", roll = true }", "unknown key `roll` in `parquet` @ roll"),
        ("http = { url = \"ftp://x\" }", "`ftp://x` is not a URL @ ftp://x"),
        ("http = { url = \"http://x\", retries = 101 }", "`101` is out of range @ 101"),
        (
            "http = { url = \"http://x\", headers = { Idempotency-Key = \"a\" } }",
            "header `Idempotency-Key` is set by the output itself @ Idempotency-Key",
        ),
    ];
    for (sink, expected) in cases {
        assert_eq!(output(sink), [expected], "{sink}");
    }
    let twice = "[[output]]\nfrom = \"rows\"\nname = \"a\"\njson = { path = \"x/../out\" }\n\
        [[output]]\nfrom = \"rows\"\nname = \"b\"\ntext = { prefix = \"./out\" }";
    assert_eq!(mistakes(&job_with(twice)), ["two outputs write to `./out` @ b"]);
    let twice = "[[output]]\nfrom = \"rows\"\nname = \"a\"\njson = { path = \"s3a://b/out/\" }\n\
        [[output]]\nfrom = \"rows\"\nname = \"b\"\ntext = { prefix = \"s3://b/out\" }";
    assert_eq!(mistakes(&job_with(twice)), ["two outputs write to `s3://b/out` @ b"]);
    let saved = "[model.a]\nkind = \"kmeans\"\nsave = { path = \"out\" }\n\
        [[output]]\nfrom = \"rows\"\nname = \"b\"\ntext = { prefix = \"./out\" }";
    let expected = ["no stream trains the model `a` @ out", "two outputs write to `./out` @ b"];
    assert_eq!(mistakes(&job_with(saved)), expected);
    let choice = |more: &str| {
        let choose = format!("choose = {{ losses = {{ a = \"1\", b = \"2\" }}, publish = \"a\"{more} }}");
        mistakes(&job_with(&format!("[model.a]\nkind = \"kmeans\"\n[stream.c]\nfrom = \"rows\"\n{choose}")))
    };
    assert_eq!(choice(""), ["there is no model called `b` @ b", "there is another model called `a` @ a"]);
    assert_eq!(choice(", key = \"x\""), ["`publish` goes without `key`: one champion is published @ a"]);
}

#[test]
fn sources_of_files_and_queues() {
    let source = |text: &str| mistakes(&job_with(&format!("[source.more]\n{text}")));
    let files = |text: &str| source(&format!("connector = \"files\"\n{text}"));
    let queue = |text: &str| source(&format!("connector = \"queue\"\n{text}"));
    assert_eq!(files(""), ["[source.more] has no `path` @ more"]);
    assert_eq!(files("path = \"ftp://x\""), ["`ftp://` URLs cannot be used here @ ftp://x"]);
    assert_eq!(files("path = \"in\"\npattern = \"a/*\""), ["`a/*` is not a pattern of file names @ a/*"]);
    assert_eq!(files("path = \"in\"\nformat = \"parquet\""), ["[source.more] has no `columns` @ more"]);
    assert_eq!(files("path = \"in\"\nheader = true"), ["`header` does not apply to this format @ header"]);
    assert_eq!(files("path = \"in\"\naddress = \"a:1\""), ["`address` does not apply to this connector @ address"]);
    assert_eq!(queue("batches = []"), ["expected at least one batch @ []"]);
    assert_eq!(queue("batches = [[\"a\"], []]"), ["a batch of a queue has at least one record @ []"]);
    assert_eq!(queue("batches = [[\"a\\nb\"]]"), ["a record is one line @ a\\nb"]);
    let csv = "format = \"csv\"\ncolumns = { a = \"int\" }\n";
    assert_eq!(files("path = \"in\"\nmulti_line = true"), ["`multi_line` does not apply to this format @ multi_line"]);
    let socket = |text: &str| source(&format!("connector = \"socket\"\naddress = \"a:1\"\n{csv}{text}"));
    assert_eq!(
        socket("multi_line = true\nacknowledge = true"),
        ["`multi_line` does not go with `acknowledge`, whose protocol counts lines @ multi_line"]
    );
}

#[test]
fn tables() {
    let table = |text: &str| mistakes(&job_with(&format!("[table.{text}")));
    assert_eq!(
        table("lines]\npath = \"a\"\nformat = \"csv\"\ncolumns = { a = \"int\" }"),
        ["`lines` is a source or a stream already @ lines"]
    );
    assert_eq!(
        table("t]\npath = \"http://a\"\nformat = \"text\""),
        [
            "[table.t] has no `columns` @ t",
            "`http://` URLs cannot be used here @ http://a",
            "`text` is not among the choices @ text",
        ]
    );
    let read = |stream: &str| {
        table(&format!("t]\npath = \"a\"\nformat = \"json\"\ncolumns = {{ a = \"int\" }}\n[stream.s]\n{stream}"))
    };
    assert_eq!(
        read("from = [\"lines\", \"t\"]\nunion = true"),
        ["`t` is a table, which this operator cannot read @ t"]
    );
    assert_eq!(read("from = \"t\"\nsql = \"select a from t\""), ["`s` reads no stream @ t"]);
}
