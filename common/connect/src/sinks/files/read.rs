//! Reading what a definition says of files.

use super::keys;
use super::{FileFormat, FilePlace, FileSink, Roll};
use std::time::Duration;
use tidemill_common::definition::{Key, Name, Reader, Table, Value, optional, read_delimiter};
use tidemill_common::diag::Diagnostic;
use tidemill_common::location::Location;
use tidemill_rows::Compression;

/// `path`, and `roll` where the format has it.
pub(super) fn plain<'t>(
    r: &mut Reader<'t>,
    value: &'t Value<'t>,
    title: &str,
    known: &'static [Key],
    format: FileFormat,
) -> Option<FileSink> {
    let table = r.table(value, title, value.span(), &[known])?;
    let path = table.get("path").and_then(|v| r.location(v, "a directory"));
    let place = path.map(|path| FilePlace::Directory(path.text));
    let roll = read_roll(r, &table, place.as_ref());
    let compression = read_compression(r, &table);
    Some(FileSink { place: place?, format, compression: compression?, roll: roll? })
}

/// How files are compressed. Nothing can be appended to a file of Brotli.
fn read_compression<'t>(r: &mut Reader<'t>, table: &Table<'t>) -> Option<Option<Compression>> {
    let Some(value) = table.get("compression") else { return Some(None) };
    let compression = r.choice(value, keys::COMPRESSIONS)?;
    if compression == Compression::Brotli && table.get("roll").is_some() {
        let wrong = Diagnostic::new("nothing can be appended to a file of Brotli, so it does not go with `roll`");
        r.push(wrong.at(value.span()).help("`zstd` and the others do"));
        return None;
    }
    Some(Some(compression))
}

/// The text for null: any that needs no quotes.
fn read_null<'t>(r: &mut Reader<'t>, table: &Table<'t>, delimiter: u8) -> Option<String> {
    let Some(value) = table.get("null") else { return Some(String::new()) };
    let text = r.string(value)?;
    if text.contains([char::from(delimiter), '"', '\n', '\r']) || text.starts_with('\u{feff}') {
        let message = "the text for null has neither quotes, line breaks nor the delimiter";
        r.push(Diagnostic::new(message).at(value.span()));
        return None;
    }
    Some(text.to_owned())
}

pub(super) fn csv<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<FileSink> {
    let table = r.table(value, "`csv`", value.span(), &[keys::CSV])?;
    let path = table.get("path").and_then(|v| r.location(v, "a directory"));
    let header = match table.get("header") {
        Some(value) => r.boolean(value),
        None => Some(true),
    };
    let delimiter = match table.get("delimiter") {
        Some(value) => read_delimiter(r, value),
        None => Some(b','),
    };
    let place = path.map(|path| FilePlace::Directory(path.text));
    let roll = read_roll(r, &table, place.as_ref());
    let compression = read_compression(r, &table);
    let null = read_null(r, &table, delimiter?);
    let format = FileFormat::Csv { header: header?, delimiter: delimiter?, null: null? };
    Some(FileSink { place: place?, format, compression: compression?, roll: roll? })
}

pub(super) fn text<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<FileSink> {
    let table = r.table(value, "`text`", value.span(), &[keys::TEXT])?;
    let place = read_place(r, &table);
    let column = table.get("column").map(|v| r.column(v));
    let roll = read_roll(r, &table, place.as_ref());
    let compression = read_compression(r, &table);
    let format = FileFormat::Text { column: optional(column)? };
    Some(FileSink { place: place?, format, compression: compression?, roll: roll? })
}

fn read_place<'t>(r: &mut Reader<'t>, table: &Table<'t>) -> Option<FilePlace> {
    let suffix = table.get("suffix").map(|v| r.text(v));
    match (table.get("path"), table.get("prefix")) {
        (Some(path), None) => {
            let path = r.location(path, "a directory");
            if table.get("suffix").is_some() {
                let wrong = Diagnostic::new("`suffix` goes with `prefix`, not with `path`");
                r.push(wrong.at(table.key_span("suffix")));
                return None;
            }
            Some(FilePlace::Directory(path?.text))
        }
        (None, Some(prefix)) => {
            let prefix = r.location(prefix, "a path whose last part begins the names of directories")?;
            let suffix: Option<Name> = optional(suffix)?;
            if let Some(bad) =
                suffix.as_ref().filter(|suffix| suffix.text.contains(['/', '\\']) || suffix.text.is_empty())
            {
                let wrong = Diagnostic::new(format!("`{}` cannot end the name of a directory", bad.text));
                r.push(wrong.at(bad.span.clone()).label("expected text without `/`"));
                return None;
            }
            let nameless = matches!(Location::parse(&prefix.text), Ok(Location::Object(url)) if url.key().is_empty());
            if nameless || prefix.text.ends_with('/') {
                let wrong = Diagnostic::new("this prefix has no name").at(prefix.span);
                let label = if nameless { "only a bucket" } else { "ends in `/`" };
                r.push(wrong.label(label).help("directories in a folder are `path`"));
                return None;
            }
            Some(FilePlace::Prefix { prefix: prefix.text, suffix: suffix.map(|suffix| suffix.text) })
        }
        (None, None) => {
            r.missing(table, "`path` (or `prefix`)");
            None
        }
        (Some(_), Some(_)) => {
            r.push(Diagnostic::new("`path` and `prefix` exclude each other").at(table.key_span("prefix")));
            None
        }
    }
}

/// `roll`, if the output has it and its place can have it.
fn read_roll<'t>(r: &mut Reader<'t>, table: &Table<'t>, place: Option<&FilePlace>) -> Option<Option<Roll>> {
    let Some(value) = table.get("roll") else { return Some(None) };
    let roll = read_limits(r, value)?;
    let wrong = match place? {
        FilePlace::Prefix { .. } => Diagnostic::new("`roll` goes with `path`, not with `prefix`")
            .help("a prefix has a directory for every batch"),
        FilePlace::Directory(path) if matches!(Location::parse(path), Ok(Location::Object(_))) => {
            Diagnostic::new("nothing can be appended to an object, so `roll` goes with directories only")
                .help("leave `roll` out, for objects of every batch, or write to a directory")
        }
        FilePlace::Directory(_) => return Some(Some(roll)),
    };
    r.push(wrong.at(table.key_span("roll")));
    None
}

fn read_limits<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Roll> {
    let mut roll = Roll { bytes: 64 << 20, age: Duration::from_secs(600) };
    if value.get_ref().is_bool() {
        r.only_true(value)?;
        return Some(roll);
    }
    let table = r.table(value, "`roll`", value.span(), &[keys::ROLL])?;
    let bytes = table.get("bytes").map(|v| r.size(v));
    let age = table.get("age").map(|v| r.duration(v));
    if let Some(bytes) = optional(bytes)? {
        roll.bytes = bytes;
    }
    if let Some(age) = optional(age)? {
        roll.age = age;
    }
    Some(roll)
}
