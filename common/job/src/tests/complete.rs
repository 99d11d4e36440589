//! Parser, list of keys, documentation and example jobs agree.

use super::{good, mistakes};
use crate::keys::{self, Key, Shape};
use crate::parse;
use tidemill_connect::Connectors;

/// A date is wrong behind every key; so the parser reads a key if it objects to one there.
#[test]
fn the_parser_reads_every_key_it_lists() {
    let object = |before: &str, key: &Key, after: &str| {
        let text = format!("{before}{} = 2000-01-01{after}", key.name);
        let found = mistakes(&text);
        assert!(found.iter().any(|m| m.ends_with("@ 2000-01-01")), "{}: {found:?}", key.name);
    };
    keys::JOB.iter().for_each(|key| object("", key, ""));
    keys::BACKPRESSURE.iter().for_each(|key| object("backpressure = { ", key, " }"));
    keys::SOURCE.iter().for_each(|key| object("[source.s]\n", key, ""));
    let unless_format = |key: &Key| if key.name == "format" { "" } else { "format = \"csv\"\n" };
    for connector in Connectors::default().sources() {
        for key in keys::of_source(&connector).into_iter().flatten() {
            object(&format!("[source.s]\nconnector = \"{}\"\n{}", connector.name, unless_format(key)), key, "");
        }
    }
    let share = "[source.s]\nconnector = \"queue\"\nmax_bad_records = { ";
    keys::BAD_SHARE.iter().for_each(|key| object(share, key, " }"));
    for key in keys::TABLE {
        let columns = if key.name == "columns" { "" } else { "columns = { a = \"int\" }\n" };
        object(&format!("[table.t]\n{}{columns}", unless_format(key)), key, "");
    }
    keys::STREAM.iter().for_each(|key| object("[stream.s]\n", key, ""));
    keys::OPERATORS.iter().for_each(|key| object("[stream.s]\n", key, ""));
    for key in keys::FLAT_MAP {
        let split = if key.name == "by" { "split = \"a\", " } else { "" };
        object(&format!("[stream.s]\nflat_map = {{ {split}"), key, " }");
    }
    let reduce = "[stream.s]\nreduce_by_key = { ";
    keys::REDUCE_BY_KEY.iter().for_each(|key| object(reduce, key, " }"));
    for (operator, keys) in [
        ("join", keys::JOIN),
        ("cogroup", keys::COGROUP),
        ("group_by_key", keys::GROUP_BY_KEY),
        ("sort", keys::SORT),
        ("top_k", keys::TOP_K),
        ("repartition", keys::REPARTITION),
    ] {
        keys.iter().for_each(|key| object(&format!("[stream.s]\n{operator} = {{ "), key, " }"));
    }
    keys::ON.iter().for_each(|key| object("[stream.s]\njoin = { on = { ", key, " } }"));
    let update = "[stream.s]\nupdate_state_by_key = { ";
    keys::UPDATE_STATE.iter().for_each(|key| object(update, key, " }"));
    keys::BATCH_MAP.iter().for_each(|key| object("[stream.s]\nbatch_map = { ", key, " }"));
    let map = "[stream.s]\nmap_with_state = { ";
    keys::MAP_WITH_STATE.iter().for_each(|key| object(map, key, " }"));
    let tables = [
        ("window", keys::WINDOW),
        ("count_by_window", keys::WINDOW),
        ("count_by_value_and_window", keys::WINDOW),
        ("reduce_by_key_and_window", keys::REDUCE_BY_KEY_AND_WINDOW),
        ("reduce_by_window", keys::REDUCE_BY_WINDOW),
        ("group_by_key_and_window", keys::GROUP_BY_KEY_AND_WINDOW),
        ("slice", keys::SLICE),
    ];
    for (operator, keys) in tables {
        keys.iter().for_each(|key| object(&format!("[stream.s]\n{operator} = {{ "), key, " }"));
    }
    let column = format!("{update}state = {{ a = {{ ");
    keys::STATE_COLUMN.iter().for_each(|key| object(&column, key, " } } }"));
    keys::MODEL.iter().for_each(|key| object("[model.m]\n", key, ""));
    keys::SAVE.iter().for_each(|key| object("[model.m]\nsave = { ", key, " }"));
    for (operator, keys) in [
        ("train", keys::TRAIN),
        ("evaluate", keys::EVALUATE),
        ("ab_test", keys::AB_TEST),
        ("choose", keys::CHOOSE),
        ("detect_drift", keys::DETECT_DRIFT),
    ] {
        keys.iter().for_each(|key| object(&format!("[stream.s]\n{operator} = {{ "), key, " }"));
    }
    keys::ON_DRIFT.iter().for_each(|key| object("[stream.s]\ntrain = { drift = { ", key, " } }"));
    keys::OUTPUT.iter().for_each(|key| object("[[output]]\n", key, ""));
    let connectors = Connectors::default();
    keys::sinks(&connectors).into_iter().flatten().for_each(|key| object("[[output]]\n", key, ""));
    keys::PRINT.iter().for_each(|key| object("[[output]]\nprint = { ", key, " }"));
    for sink in connectors.sinks().flatten() {
        let keys = of_table(&sink.shape);
        assert!(!keys.is_empty(), "{}", sink.name);
        for key in keys {
            let prefix = if key.name == "suffix" { "prefix = \"a\", " } else { "" };
            object(&format!("[[output]]\n{} = {{ {prefix}", sink.name), key, " }");
            let below = format!("[[output]]\n{} = {{ {} = {{ ", sink.name, key.name);
            of_table(&key.shape).iter().for_each(|key| object(&below, key, " } }"));
        }
    }
}

/// Keys of the table that may stand behind a key.
fn of_table(shape: &Shape) -> &'static [Key] {
    match shape {
        Shape::Table(keys) | Shape::TrueOrTable(keys) | Shape::TableWithOneOf(keys, _) => keys,
        _ => &[],
    }
}

const DOCUMENTATION: &str = include_str!("../../../../docs/job-definition.md");

/// The definitions in the documentation that follow `<!-- example: NAME -->`.
fn examples() -> Vec<(&'static str, &'static str)> {
    DOCUMENTATION
        .split("<!-- example: ")
        .skip(1)
        .map(|part| {
            let (name, rest) = part.split_once(" -->\n```toml\n").expect("a toml block follows");
            (name, rest.split_once("\n```").expect("the block ends").0)
        })
        .collect()
}

#[test]
fn the_documentation_names_every_key_and_its_examples_are_good() {
    let all = [
        keys::JOB,
        keys::BACKPRESSURE,
        keys::SOURCE,
        keys::BAD_SHARE,
        keys::TABLE,
        keys::STREAM,
        keys::OPERATORS,
        keys::FLAT_MAP,
        keys::REDUCE_BY_KEY,
        keys::UPDATE_STATE,
        keys::MAP_WITH_STATE,
        keys::JOIN,
        keys::COGROUP,
        keys::ON,
        keys::GROUP_BY_KEY,
        keys::SORT,
        keys::TOP_K,
        keys::REPARTITION,
        keys::STATE_COLUMN,
        keys::BATCH_MAP,
        keys::WINDOW,
        keys::REDUCE_BY_KEY_AND_WINDOW,
        keys::REDUCE_BY_WINDOW,
        keys::GROUP_BY_KEY_AND_WINDOW,
        keys::SLICE,
        keys::MODEL,
        keys::SAVE,
        keys::TRAIN,
        keys::ON_DRIFT,
        keys::EVALUATE,
        keys::AB_TEST,
        keys::CHOOSE,
        keys::DETECT_DRIFT,
        keys::OUTPUT,
        keys::PRINT,
    ];
    let connectors = Connectors::default();
    let sources = connectors.sources().flat_map(|connector| keys::of_source(&connector));
    let sinks = keys::sinks(&connectors).into_iter().chain(connectors.sinks().map(|sink| of_table(&sink[0].shape)));
    let sinks: Vec<&[Key]> = sinks.collect();
    let below = sinks.iter().copied().flatten().map(|key| of_table(&key.shape));
    for key in all.into_iter().chain(sources).chain(sinks.iter().copied()).chain(below).flatten() {
        assert!(DOCUMENTATION.contains(&format!("| `{}` |", key.name)), "{} has no row", key.name);
    }
    let examples = examples();
    assert!(examples.len() >= 9, "at least one for every operator");
    for (name, text) in examples {
        assert!(parse(text).is_ok(), "{name}: {}", parse(text).unwrap_err());
    }
}

#[test]
fn the_example_jobs_are_good() {
    for text in [
        include_str!("../../../../examples/jobs/revenue_per_user.toml"),
        include_str!("../../../../examples/jobs/simple_print.toml"),
        include_str!("../../../../examples/jobs/analytics.toml"),
        include_str!("../../../../examples/jobs/word_count.toml"),
        include_str!("../../../../examples/jobs/generate.toml"),
        include_str!("../../../../examples/jobs/own_functions.toml"),
        include_str!("../../../../examples/jobs/last_minute.toml"),
        include_str!("../../../../examples/jobs/simple_model.toml"),
        include_str!("../../../../examples/jobs/monitoring_models.toml"),
        include_str!("../../../../examples/jobs/clusters.toml"),
        include_str!("../../../../examples/jobs/flight_delays.toml"),
        include_str!("../../../../examples/jobs/choose_model.toml"),
        include_str!("../../../../examples/jobs/bandit.toml"),
    ] {
        good(text);
    }
}
