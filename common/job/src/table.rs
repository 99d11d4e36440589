//! `[table.NAME]`: rows from a file, which are there for every batch, and are read again when the file changes.

use super::draft::Draft;
use super::keys::{self, FormatKind};
use super::{FileContent, Format, Name, Operator, SourceDef, StreamDef};
use std::collections::HashSet;
use std::time::Duration;
use tidemill_common::definition::{Reader, Table};
use tidemill_common::definition::{only_for, read_format_of};
use tidemill_common::diag::Diagnostic;

/// A table from a file.
#[derive(Debug, Clone, PartialEq)]
pub struct TableDef {
    /// Its name, by which streams read it.
    pub name: Name,
    /// The file, relative to the job file.
    pub path: Name,
    /// What is in it.
    pub content: FileContent,
    /// How its rows are read.
    pub format: Format,
    /// How it follows its file; none for one that stays as it was submitted.
    pub reload: Option<Reload>,
}

/// How a table follows its file.
#[derive(Debug, Clone, PartialEq)]
pub struct Reload {
    /// The file, relative to the job file, wherever the content that was submitted is.
    pub path: String,
    /// How often it is looked at.
    pub interval: Duration,
}

/// How often the file of a table is looked at, unless the table says otherwise.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);

/// Reads a table.
pub(super) fn read<'t>(r: &mut Reader<'t>, table: &Table<'t>, name: &Name) -> Draft<TableDef> {
    r.check_known(table, &[keys::TABLE], &[]);
    r.check_required(table, &[keys::TABLE], &[keys::TABLE]);
    let path = table.get("path").and_then(|v| r.location(v, "a file"));
    let kind = table.get("format").and_then(|v| r.choice(v, keys::TABLE_FORMATS));
    let header = match table.get("header") {
        Some(value) => r.boolean(value),
        None => Some(true),
    };
    let reload = read_reload(r, table);
    // That columns are missing is noted already.
    let format = kind.filter(|_| table.get("columns").is_some()).and_then(|kind| {
        if kind != FormatKind::Csv {
            only_for(r, table, "header", "format = \"csv\"");
        }
        read_format_of(r, table, kind)
    });
    let def = || {
        let content = match kind? {
            FormatKind::Parquet => FileContent::Parquet,
            FormatKind::Csv => FileContent::Lines { header: header? },
            FormatKind::Text | FormatKind::Json => FileContent::Lines { header: false },
        };
        let path = path?;
        let reload = reload?.map(|interval| Reload { path: path.text.clone(), interval });
        Some(TableDef { name: name.clone(), path, content, format: format?, reload })
    };
    Draft { name: Some(name.clone()), from: Vec::new(), def: def() }
}

/// How often the file is looked at, if at all.
fn read_reload<'t>(r: &mut Reader<'t>, table: &Table<'t>) -> Option<Option<Duration>> {
    let wanted = match table.get("reload") {
        Some(value) => r.boolean(value),
        None => Some(true),
    };
    let interval = match table.get("reload_interval") {
        Some(value) => r.duration(value),
        None => Some(RELOAD_INTERVAL),
    };
    if wanted == Some(false) && table.get("reload_interval").is_some() {
        let wrong = Diagnostic::new("`reload_interval` has no meaning with `reload = false`");
        r.push(wrong.at(table.key_span("reload_interval")).label("the file is never looked at"));
    }
    Some(wanted?.then_some(interval?))
}

/// Checks names of tables, which streams use beside those of sources and streams, and who reads them.
pub(super) fn check(
    r: &mut Reader<'_>,
    tables: &[Draft<TableDef>],
    sources: &[Draft<SourceDef>],
    streams: &[Draft<StreamDef>],
) {
    let taken = sources.iter().flat_map(|draft| &draft.name).chain(streams.iter().flat_map(|draft| &draft.name));
    let taken: HashSet<&str> = taken.map(|name| name.text.as_str()).collect();
    for name in tables.iter().flat_map(|draft| &draft.name).filter(|name| taken.contains(name.text.as_str())) {
        let message = format!("`{}` is a source or a stream already", name.text);
        let wrong = Diagnostic::new(message).at(name.span.clone()).label("second time");
        r.push(wrong.help("give the table another name"));
    }
    let names: HashSet<&str> = tables.iter().flat_map(|draft| &draft.name).map(|name| name.text.as_str()).collect();
    for stream in streams.iter().flat_map(|draft| &draft.def) {
        check_reader(r, stream, &names);
    }
}

/// Only a query and a join have a use for the same rows in every batch, and only beside others.
fn check_reader(r: &mut Reader<'_>, stream: &StreamDef, tables: &HashSet<&str>) {
    let is_table = |from: &&Name| tables.contains(from.text.as_str());
    let Some(first) = stream.from.iter().find(is_table) else { return };
    let wrong = if !matches!(stream.operator, Operator::Sql(_) | Operator::Join { .. }) {
        let wrong = Diagnostic::new(format!("`{}` is a table, which this operator cannot read", first.text));
        wrong.label("a table").help("tables are read by `sql` and by joins")
    } else if stream.from.iter().all(|from| is_table(&from)) {
        let wrong = Diagnostic::new(format!("`{}` reads no stream", stream.name.text));
        wrong.label("a table").help("name a source or a stream beside it")
    } else {
        return;
    };
    r.push(wrong.at(first.span.clone()));
}
