//! Reading `[source.NAME]`: what every source has; the rest its connector reads.

use super::draft::Draft;
use super::keys::{self, Key};
use super::rate::read_max_rate;
use super::{ColumnDef, Format, MaxBadRecords, Name, OnBadRecord, SourceDef, foreign};
use std::collections::HashSet;
use tidemill_common::definition::{
    ColumnType, FILE_FORMATS, FORMATS, FormatKind, Reader, Table, Value, only_for, read_format_of,
};
use tidemill_common::diag::Diagnostic;
use tidemill_connect::{Connectors, Description, Payload, Records};
use tidemill_rows::records::Framing;
use toml::de::DeValue;

/// Reads a source; its keys depend on its connector.
pub(super) fn read<'t>(
    r: &mut Reader<'t>,
    table: &Table<'t>,
    name: &Name,
    connectors: &Connectors,
) -> Draft<SourceDef> {
    let all: Vec<Description> = connectors.sources().collect();
    let known: Vec<_> = std::iter::once(keys::SOURCE).chain(all.iter().flat_map(keys::of_source)).collect();
    r.check_known(table, &known, foreign::SOURCE);
    r.check_required(table, &[keys::SOURCE], &known);
    let words: Vec<&str> = all.iter().map(|connector| connector.name).collect();
    let chosen = table.get("connector").and_then(|value| r.word(value, &words, foreign::CONNECTORS));
    let def = chosen.and_then(|chosen| {
        let connector = all.get(chosen)?;
        refuse_keys_of_others(r, table, &all, connector);
        r.check_required(table, &keys::of_source(connector), &known);
        read_connector(r, table, name, connectors, connector)
    });
    Draft { name: Some(name.clone()), from: Vec::new(), def }
}

/// Notes the keys that only other connectors have.
fn refuse_keys_of_others(r: &mut Reader<'_>, table: &Table<'_>, all: &[Description], ours: &Description) {
    let has = |connector: &Description, name: &str| {
        keys::of_source(connector).into_iter().flatten().any(|key: &Key| key.name == name)
    };
    let theirs = all.iter().flat_map(|source| table.present(&keys::of_source(source)));
    let mut seen = HashSet::new();
    for (name, ..) in theirs.filter(|(name, ..)| !has(ours, &name.text)) {
        if !seen.insert(name.text.clone()) {
            continue;
        }
        let owners = all.iter().filter(|connector| has(connector, &name.text));
        let owners: Vec<_> = owners.map(|owner| format!("\"{}\"", owner.name)).collect();
        let message = format!("`{}` does not apply to this connector", name.text);
        let wrong = Diagnostic::new(message).at(name.span);
        let wrong = wrong.label(format!("only for connector = {}", owners.join(" or ")));
        r.push(match (ours.payload, name.text.as_str()) {
            (Payload::Rows(columns), "format" | "columns") => wrong.help(columns_of(columns)),
            _ => wrong,
        });
    }
}

fn columns_of(columns: &[(&str, ColumnType)]) -> String {
    let columns: Vec<_> = columns.iter().map(|(name, data_type)| format!("{name} ({data_type})")).collect();
    format!("its rows have the columns {}", columns.join(", "))
}

/// Reads everything behind `connector`.
fn read_connector<'t>(
    r: &mut Reader<'t>,
    table: &Table<'t>,
    name: &Name,
    connectors: &Connectors,
    connector: &Description,
) -> Option<SourceDef> {
    if let Payload::Rows(columns) = connector.payload {
        let records = Records { format: Some(FormatKind::Csv), multi_line: false };
        return Some(SourceDef {
            name: name.clone(),
            connector: connectors.read_source(connector.name, r, table, &records)?,
            format: rows_of(columns, table),
            framing: Framing::Block,
            on_bad_record: OnBadRecord::Fail,
            max_rate: None,
        });
    }
    let choices = if connector.payload == Payload::Files { FILE_FORMATS } else { FORMATS };
    let kind = match table.get("format") {
        Some(value) => r.choice(value, choices),
        None => Some(FormatKind::Text),
    };
    let multi_line = read_multi_line(r, table, connector.payload);
    let records = Records { format: kind, multi_line: multi_line == Some(true) };
    let source = connectors.read_source(connector.name, r, table, &records);
    let format = kind.and_then(|kind| read_format_of(r, table, kind));
    let on_bad_record = read_on_bad_record(r, table);
    let max_rate = read_max_rate(r, table);
    let format = format?;
    multi_line?;
    Some(SourceDef {
        name: name.clone(),
        connector: source?,
        framing: framing(connector.payload, &records, &format),
        format,
        on_bad_record: on_bad_record?,
        max_rate: max_rate?,
    })
}

fn framing(payload: Payload, records: &Records, format: &Format) -> Framing {
    match (payload, format) {
        (Payload::Records | Payload::Rows(_), _) => Framing::Block,
        // Its rows come as whole records.
        _ if records.format == Some(FormatKind::Parquet) => Framing::Block,
        (_, Format::Csv { delimiter, .. }) if records.multi_line => Framing::Csv { delimiter: *delimiter },
        _ => Framing::Lines,
    }
}

/// The format of rows that a connector makes; their columns count as declared where the connector is named.
fn rows_of(columns: &[(&str, ColumnType)], table: &Table<'_>) -> Format {
    let span = table.key_span("connector");
    let column = |(name, data_type): &(&str, _)| ColumnDef {
        name: Name { text: (*name).to_owned(), span: span.clone() },
        data_type: *data_type,
    };
    Format::Csv { columns: columns.iter().map(column).collect(), delimiter: b',', null: None }
}

/// Whether quoted fields may hold line breaks; only csv has quotes.
fn read_multi_line<'t>(r: &mut Reader<'t>, table: &Table<'t>, payload: Payload) -> Option<bool> {
    let is_csv = table.get("format").is_some_and(|format| format.get_ref().as_str() == Some("csv"));
    if !matches!(payload, Payload::Lines | Payload::Files) {
        return Some(false);
    }
    if !is_csv {
        only_for(r, table, "multi_line", "format = \"csv\"");
    }
    match table.get("multi_line") {
        Some(value) => r.boolean(value),
        None => Some(is_csv && payload == Payload::Files),
    }
}

fn read_on_bad_record<'t>(r: &mut Reader<'t>, table: &Table<'t>) -> Option<OnBadRecord> {
    let action = match table.get("on_bad_record") {
        Some(value) => r.choice(value, keys::ON_BAD_RECORD)?,
        None => OnBadRecord::SKIP,
    };
    let Some(value) = table.get("max_bad_records") else { return Some(action) };
    let at_most = Some(read_max_bad_records(r, value)?);
    match action {
        OnBadRecord::Skip { .. } => Some(OnBadRecord::Skip { at_most }),
        OnBadRecord::DeadLetter { .. } => Some(OnBadRecord::DeadLetter { at_most }),
        OnBadRecord::Fail => {
            let wrong =
                Diagnostic::new("`max_bad_records` does nothing: with `on_bad_record = \"fail\"` no record may be bad");
            r.push(wrong.at(table.key_span("max_bad_records")).help("leave one of the two out"));
            None
        }
    }
}

fn read_max_bad_records<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<MaxBadRecords> {
    if !matches!(value.get_ref(), DeValue::Table(_)) {
        return r.count(value, keys::NOT_NEGATIVE).map(MaxBadRecords::Count);
    }
    let table = r.table(value, "`max_bad_records`", value.span(), &[keys::BAD_SHARE])?;
    r.count(table.get("per_mille")?, keys::PER_MILLE).map(MaxBadRecords::PerMille)
}
