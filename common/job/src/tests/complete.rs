//! Parser, list of keys, documentation and example jobs agree.

use super::{good, mistakes};
use crate::keys::{self, Key, Shape};
use crate::parse;
use std::path::PathBuf;
use tidemill_connect::Connectors;

/// A date is wrong behind every key; so the parser reads a key if it objects to one there.
#[test]
fn the_parser_reads_every_key_it_lists() {
    every_key(&mut |before, key, after| {
        let text = format!("{before}{} = 2000-01-01{after}", key.name);
        let found = mistakes(&text);
        assert!(found.iter().any(|m| m.ends_with("@ 2000-01-01")), "{text}: {found:?}");
    });
}

/// Sees every key of a definition, with what has to stand before and behind it.
fn every_key(see: &mut dyn FnMut(&str, &'static Key, &str)) {
    keys_of("", keys::JOB, "", see);
    let connectors = Connectors::default();
    keys_of("[source.s]\n", keys::SOURCE, "", see);
    for connector in connectors.sources() {
        let of_connector = format!("[source.s]\nconnector = \"{}\"\n", connector.name);
        keys::of_source(&connector).into_iter().for_each(|keys| keys_of(&of_connector, keys, "", see));
    }
    keys_of("[table.t]\n", keys::TABLE, "", see);
    keys_of("[stream.s]\n", keys::STREAM, "", see);
    keys_of("[stream.s]\n", keys::OPERATORS, "", see);
    keys_of("[model.m]\n", keys::MODEL, "", see);
    keys::output(&connectors).into_iter().for_each(|keys| keys_of("[[output]]\n", keys, "", see));
}

/// The same of some keys and those of the tables that may stand behind them.
fn keys_of(before: &str, keys: &'static [Key], after: &str, see: &mut dyn FnMut(&str, &'static Key, &str)) {
    for key in keys {
        let others: String = COMPANIONS
            .iter()
            .filter(|(of, keys, _)| before.ends_with(of) && keys.contains(&key.name))
            .map(|(_, _, text)| *text)
            .collect();
        see(&format!("{before}{others}"), key, after);
        let (open, close) =
            if matches!(key.shape, Shape::StateByColumn(_)) { ("{ a = { ", " } }") } else { ("{ ", " }") };
        keys_of(&format!("{before}{} = {open}", key.name), of_table(&key.shape), &format!("{close}{after}"), see);
    }
}

/// What has to stand beside some keys, for them to be read.
const COMPANIONS: &[(&str, &[&str], &str)] = &[
    ("\nconnector = \"socket\"\n", CSV_KEYS, "format = \"csv\"\n"),
    ("\nconnector = \"files\"\n", CSV_KEYS, "format = \"csv\"\n"),
    ("\nconnector = \"queue\"\n", CSV_KEYS, "format = \"csv\"\n"),
    ("\nconnector = \"receiver\"\n", CSV_KEYS, "format = \"csv\"\n"),
    (
        "[table.t]\n",
        &["columns", "header", "delimiter", "null", "reload", "reload_interval", "path"],
        "format = \"csv\"\n",
    ),
    (
        "[table.t]\n",
        &["format", "header", "delimiter", "null", "reload", "reload_interval", "path"],
        "columns = { a = \"int\" }\n",
    ),
    ("flat_map = { ", &["by"], "split = \"a\", "),
    ("text = { ", &["suffix"], "prefix = \"a\", "),
];
const CSV_KEYS: &[&str] = &["columns", "delimiter", "null", "multi_line", "header"];

/// Keys of the table that may stand behind a key.
fn of_table(shape: &Shape) -> &'static [Key] {
    match shape {
        Shape::FlatMap => keys::FLAT_MAP,
        Shape::Table(keys)
        | Shape::OpenTable(keys)
        | Shape::TrueOrTable(keys)
        | Shape::TableWithOneOf(keys, _)
        | Shape::CountOrTable(_, keys)
        | Shape::ColumnsOrTable(keys)
        | Shape::StateByColumn(keys) => keys,
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
    every_key(&mut |_, key, _| {
        assert!(DOCUMENTATION.contains(&format!("| `{}` |", key.name)), "{} has no row", key.name);
    });
    let examples = examples();
    assert!(examples.len() >= 9, "at least one for every operator");
    for (name, text) in examples {
        assert!(parse(text).is_ok(), "{name}: {}", parse(text).unwrap_err());
    }
}

#[test]
fn the_example_jobs_are_good() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/jobs");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    // Those that begin with `own_` may need what a program registers.
    let known = |file: &PathBuf| {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        name.ends_with(".toml") && !(name.starts_with("own_") && name != "own_functions.toml")
    };
    let files: Vec<PathBuf> = files.filter(known).collect();
    assert!(files.len() >= 13, "{files:?}");
    for file in files {
        good(&std::fs::read_to_string(file).unwrap());
    }
}
