//! Reading `[source.NAME]`.

use super::draft::Draft;
use super::foreign;
use super::keys::{self, ConnectorKind, FormatKind, Key};
use super::rate::read_max_rate;
use super::reader::{Reader, Table, Value};
use super::{
    ColumnDef, ColumnType, Connector, FileContent, FilesSource, Format, MaxBadRecords, Name, OnBadRecord, SourceDef,
    Span,
};
use crate::diag::Diagnostic;
use std::collections::HashSet;
use std::time::Duration;
use toml::de::DeValue;

/// Reads what is behind a connector.
type Read<'t> = fn(&mut Reader<'t>, &Table<'t>, &Name) -> Option<SourceDef>;

/// Reads a source; its keys depend on its connector.
pub(super) fn read<'t>(r: &mut Reader<'t>, table: &Table<'t>, name: &Name) -> Draft<SourceDef> {
    let known = [keys::SOURCE, keys::SOCKET, keys::GENERATE, keys::FILES, keys::QUEUE, keys::RECEIVER];
    r.check_known(table, &known, foreign::SOURCE);
    r.check_required(table, &[keys::SOURCE]);
    let connector = table.get("connector").and_then(|v| r.choice_or(v, keys::CONNECTORS, foreign::CONNECTORS));
    let def = connector.and_then(|connector| {
        let (ours, read): (_, Read<'t>) = match connector {
            ConnectorKind::Socket => (keys::SOCKET, read_socket),
            ConnectorKind::Generate => (keys::GENERATE, read_generate),
            ConnectorKind::Files => (keys::FILES, read_files),
            ConnectorKind::Queue => (keys::QUEUE, read_queue),
            ConnectorKind::Receiver => (keys::RECEIVER, read_receiver),
        };
        refuse_keys_of_others(r, table, ours);
        r.check_required(table, &[ours]);
        read(r, table, name)
    });
    Draft { name: Some(name.clone()), from: Vec::new(), def }
}

/// Notes the keys that only other connectors have.
fn refuse_keys_of_others(r: &mut Reader<'_>, table: &Table<'_>, ours: &[Key]) {
    let has = |keys: &[Key], name: &str| keys.iter().any(|key| key.name == name);
    let theirs = keys::CONNECTOR_KEYS.iter().flat_map(|(_, keys)| table.present(keys));
    let mut seen = HashSet::new();
    for (name, ..) in theirs.filter(|(name, ..)| !has(ours, &name.text)) {
        if !seen.insert(name.text.clone()) {
            continue;
        }
        let owners = keys::CONNECTOR_KEYS.iter().filter(|(_, keys)| has(keys, &name.text));
        let owners: Vec<_> = owners.map(|(word, _)| format!("\"{word}\"")).collect();
        let message = format!("`{}` does not apply to this connector", name.text);
        let wrong = Diagnostic::new(message).at(name.span);
        let wrong = wrong.label(format!("only for connector = {}", owners.join(" or ")));
        r.push(match name.text.as_str() {
            "format" | "columns" => {
                wrong.help("generated rows have the columns seq (bigint), key (string), value (double)")
            }
            _ => wrong,
        });
    }
}

fn read_files<'t>(r: &mut Reader<'t>, table: &Table<'t>, name: &Name) -> Option<SourceDef> {
    let path = table.get("path").and_then(|v| r.location(v, "a directory"));
    let pattern = match table.get("pattern") {
        Some(value) => r.text(value).filter(|pattern| check_pattern(r, pattern)).map(|pattern| pattern.text),
        None => Some("*".to_owned()),
    };
    let new_files_only = read_flag(r, table, "new_files_only");
    let poll_interval = match table.get("poll_interval") {
        Some(value) => r.duration(value),
        None => Some(Duration::from_secs(1)),
    };
    let header = read_flag(r, table, "header");
    let kind = match table.get("format") {
        Some(value) => r.choice(value, keys::FILE_FORMATS),
        None => Some(FormatKind::Text),
    };
    if kind.is_some_and(|kind| kind != FormatKind::Csv) {
        only_for(r, table, "header", "format = \"csv\"");
    }
    let format = kind.and_then(|kind| read_format_of(r, table, kind));
    let multi_line = read_multi_line(r, table, true);
    let on_bad_record = read_on_bad_record(r, table);
    let max_rate = read_max_rate(r, table);
    let content = match kind? {
        FormatKind::Parquet => FileContent::Parquet,
        _ => FileContent::Lines { header: header? },
    };
    let (path, pattern) = (path?.text, pattern?);
    let source = FilesSource { path, pattern, new_files_only: new_files_only?, poll_interval: poll_interval?, content };
    Some(SourceDef {
        name: name.clone(),
        connector: Connector::Files(source),
        format: format?,
        multi_line: multi_line?,
        on_bad_record: on_bad_record?,
        max_rate: max_rate?,
    })
}

fn check_pattern(r: &mut Reader<'_>, pattern: &Name) -> bool {
    let good = !pattern.text.is_empty() && !pattern.text.contains('/');
    if !good {
        let wrong = Diagnostic::new(format!("`{}` is not a pattern of file names", pattern.text));
        r.push(wrong.at(pattern.span.clone()).label("expected a name without `/`, with `*` and `?`"));
    }
    good
}

fn read_flag<'t>(r: &mut Reader<'t>, table: &Table<'t>, key: &str) -> Option<bool> {
    match table.get(key) {
        Some(value) => r.boolean(value),
        None => Some(false),
    }
}

fn read_queue<'t>(r: &mut Reader<'t>, table: &Table<'t>, name: &Name) -> Option<SourceDef> {
    let repeat = read_flag(r, table, "repeat");
    let format = read_format(r, table);
    let lines = !matches!(format, Some(Format::Csv { .. }));
    let batches = table.get("batches").and_then(|v| read_batches(r, v, lines));
    let on_bad_record = read_on_bad_record(r, table);
    Some(SourceDef {
        name: name.clone(),
        connector: Connector::Queue { batches: batches?, repeat: repeat? },
        format: format?,
        multi_line: false,
        on_bad_record: on_bad_record?,
        max_rate: None,
    })
}

/// One batch is one block.
const MAX_QUEUE_BATCH: usize = 8 << 20;

/// With `lines` a record has no line breaks.
fn read_batches<'t>(r: &mut Reader<'t>, value: &'t Value<'t>, lines: bool) -> Option<Vec<Vec<String>>> {
    let items = r.array(value)?;
    let mut batches = Vec::new();
    for item in items {
        let Some(records) = r.array(item) else { continue };
        let texts: Vec<String> = records.iter().filter_map(|record| read_record(r, record, lines)).collect();
        if texts.iter().map(|text| text.len() + 1).sum::<usize>() > MAX_QUEUE_BATCH {
            r.push(Diagnostic::new("a batch of a queue has at most 8 MiB").at(item.span()));
        } else if records.is_empty() {
            r.push(Diagnostic::new("a batch of a queue has at least one record").at(item.span()).label("empty"));
        } else if texts.len() == records.len() {
            batches.push(texts);
        }
    }
    if items.is_empty() {
        r.push(Diagnostic::new("expected at least one batch").at(value.span()));
    }
    (!items.is_empty() && batches.len() == items.len()).then_some(batches)
}

fn read_record<'t>(r: &mut Reader<'t>, value: &'t Value<'t>, line: bool) -> Option<String> {
    let record = r.text(value)?;
    if line && record.text.contains(['\n', '\r']) {
        let wrong = Diagnostic::new("a record is one line").at(record.span).label("expected no line break");
        r.push(wrong.help("only quoted fields of csv may hold line breaks"));
        return None;
    }
    Some(record.text)
}

fn read_receiver<'t>(r: &mut Reader<'t>, table: &Table<'t>, name: &Name) -> Option<SourceDef> {
    let function = table.get("function").and_then(|v| r.text(v));
    let options = match table.get("options") {
        Some(value) => read_options(r, value),
        None => Some(Vec::new()),
    };
    let receivers = read_receivers(r, table);
    let format = read_format(r, table);
    let on_bad_record = read_on_bad_record(r, table);
    let max_rate = read_max_rate(r, table);
    Some(SourceDef {
        name: name.clone(),
        connector: Connector::Receiver { function: function?, options: options?, receivers: receivers? },
        format: format?,
        multi_line: false,
        on_bad_record: on_bad_record?,
        max_rate: max_rate?,
    })
}

fn read_options<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Vec<(String, String)>> {
    let entries = r.entries(value)?;
    let options: Vec<_> = entries.into_iter().map(|(name, value)| Some((name.text, r.text(value)?.text))).collect();
    options.into_iter().collect()
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

fn read_socket<'t>(r: &mut Reader<'t>, table: &Table<'t>, name: &Name) -> Option<SourceDef> {
    let addresses = read_addresses(r, table);
    let acknowledge = match table.get("acknowledge") {
        Some(value) => r.boolean(value),
        None => Some(false),
    };
    let receivers = read_receivers(r, table);
    if let (Some(2..), Some(value)) = (receivers, table.get("receivers")) {
        let mut refuse = |message: &str| r.push(Diagnostic::new(message).at(value.span()).label("expected 1"));
        if acknowledge == Some(true) {
            refuse("a source with `acknowledge` has one receiver per address");
        } else if addresses.as_ref().is_some_and(|addresses| addresses.len() > 1) {
            refuse("`receivers` is for a single address; several have one receiver each");
        }
    }
    let format = read_format(r, table);
    let multi_line = read_multi_line(r, table, false);
    if acknowledge == Some(true) && multi_line == Some(true) {
        let wrong = Diagnostic::new("`multi_line` does not go with `acknowledge`, whose protocol counts lines");
        r.push(wrong.at(table.key_span("multi_line")));
    }
    let on_bad_record = read_on_bad_record(r, table);
    let max_rate = read_max_rate(r, table);
    Some(SourceDef {
        name: name.clone(),
        connector: Connector::Socket { addresses: addresses?, acknowledge: acknowledge?, receivers: receivers? },
        format: format?,
        multi_line: multi_line?,
        on_bad_record: on_bad_record?,
        max_rate: max_rate?,
    })
}

/// Whether quoted fields may hold line breaks, by default as `csv` says; only csv has quotes.
fn read_multi_line<'t>(r: &mut Reader<'t>, table: &Table<'t>, csv: bool) -> Option<bool> {
    let is_csv = table.get("format").is_some_and(|format| format.get_ref().as_str() == Some("csv"));
    if !is_csv {
        only_for(r, table, "multi_line", "format = \"csv\"");
    }
    match table.get("multi_line") {
        Some(value) => r.boolean(value),
        None => Some(is_csv && csv),
    }
}

fn read_receivers<'t>(r: &mut Reader<'t>, table: &Table<'t>) -> Option<u32> {
    match table.get("receivers") {
        Some(value) => r.small_count(value, keys::RECEIVERS),
        None => Some(1),
    }
}

fn read_addresses<'t>(r: &mut Reader<'t>, table: &Table<'t>) -> Option<Vec<String>> {
    match (table.get("address"), table.get("addresses")) {
        (Some(one), None) => Some(vec![read_address(r, one)?]),
        (None, Some(many)) => read_several(r, many),
        (None, None) => {
            r.missing(table, "`address` (or `addresses`)");
            None
        }
        (Some(_), Some(_)) => {
            let wrong = Diagnostic::new("`address` and `addresses` exclude each other");
            r.push(wrong.at(table.key_span("addresses")).help("list them all in `addresses`"));
            None
        }
    }
}

fn read_several<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Vec<String>> {
    let items = r.array(value)?;
    if items.is_empty() {
        r.push(Diagnostic::new("expected at least one address").at(value.span()));
        return None;
    }
    let mut addresses = Vec::new();
    for item in items {
        let Some(address) = read_address(r, item) else { continue };
        if addresses.contains(&address) {
            let wrong = Diagnostic::new(format!("`{address}` is there twice")).at(item.span());
            r.push(wrong.help("several connections to one address are `receivers`"));
        }
        addresses.push(address);
    }
    (addresses.len() == items.len()).then_some(addresses)
}

/// `host:port`, with an IPv6 address in brackets.
fn read_address<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<String> {
    let Name { text, span } = r.text(value)?;
    let good = text.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host_good = match bracketed {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let odd = |c: char| c.is_whitespace() || c.is_control() || ":/[]".contains(c);
                !host.is_empty() && !host.contains(odd)
            }
        };
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        host_good && digits && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if !good {
        let wrong = Diagnostic::new(format!("`{text}` is not an address")).at(span);
        r.push(wrong.label("expected `host:port`").help("for example \"127.0.0.1:9999\""));
    }
    good.then_some(text)
}

fn read_format<'t>(r: &mut Reader<'t>, table: &Table<'t>) -> Option<Format> {
    let format = match table.get("format") {
        Some(value) => r.choice(value, keys::FORMATS)?,
        None => FormatKind::Text,
    };
    read_format_of(r, table, format)
}

pub(super) fn read_format_of<'t>(r: &mut Reader<'t>, table: &Table<'t>, format: FormatKind) -> Option<Format> {
    if format != FormatKind::Csv {
        for key in ["delimiter", "null"] {
            only_for(r, table, key, "format = \"csv\"");
        }
    }
    if format == FormatKind::Text {
        only_for(r, table, "columns", "formats with several columns, such as \"csv\"");
        return Some(Format::Text);
    }
    let columns = match table.get("columns") {
        Some(value) => read_columns(r, value),
        None => {
            r.missing(table, "`columns`");
            None
        }
    };
    if matches!(format, FormatKind::Json | FormatKind::Parquet) {
        return Some(Format::Json { columns: columns? });
    }
    let delimiter = match table.get("delimiter") {
        Some(value) => read_delimiter(r, value),
        None => Some(b','),
    };
    let null = match table.get("null") {
        Some(value) => Some(r.string(value)?.to_owned()),
        None => None,
    };
    Some(Format::Csv { columns: columns?, delimiter: delimiter?, null })
}

pub(super) fn only_for<'t>(r: &mut Reader<'t>, table: &Table<'t>, key: &str, format: &str) {
    if table.get(key).is_some() {
        let message = format!("`{key}` does not apply to this format");
        let wrong = Diagnostic::new(message).at(table.key_span(key));
        r.push(wrong.label(format!("only for {format}")));
    }
}

/// One ASCII character that can stand between fields.
pub(super) fn read_delimiter<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<u8> {
    let text = r.string(value)?;
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !b"\r\n\"".contains(byte) => Some(*byte),
        _ => {
            let message = "a delimiter is one ASCII character, neither a line break nor a quote";
            r.push(Diagnostic::new(message).at(value.span()));
            None
        }
    }
}

fn read_columns<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Vec<ColumnDef>> {
    let entries = r.entries(value)?;
    if entries.is_empty() {
        r.push(Diagnostic::new("expected at least one column").at(value.span()));
        return None;
    }
    let mut columns = Vec::new();
    let count = entries.len();
    for (name, value) in entries {
        let named = r.check_column(&name);
        match read_type(r, value) {
            Some(data_type) if named => columns.push(ColumnDef { name, data_type }),
            _ => {}
        }
    }
    (columns.len() == count).then_some(columns)
}

/// The name of a column type.
pub(super) fn read_type<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<ColumnType> {
    let Name { text, span } = r.text(value)?;
    let data_type = ColumnType::from_name(&text);
    if data_type.is_none() {
        let wrong = Diagnostic::new(format!("`{text}` is not a type")).at(span);
        let wrong = wrong.label(format!("expected {}", ColumnType::EXPECTED));
        r.push(match ColumnType::suggestion(&text) {
            Some(near) => wrong.help(format!("did you mean `{near}`?")),
            None => wrong,
        });
    }
    data_type
}

fn read_generate<'t>(r: &mut Reader<'t>, table: &Table<'t>, name: &Name) -> Option<SourceDef> {
    let mut count = |key: &str, range, default| match table.get(key) {
        Some(value) => r.count(value, range),
        None => Some(default),
    };
    let rows_per_second = count("rows_per_second", keys::POSITIVE, 0);
    let distinct = count("keys", keys::POSITIVE, 100);
    let seed = count("seed", keys::NOT_NEGATIVE, 1);
    let limit = match table.get("limit") {
        Some(value) => Some(r.count(value, keys::POSITIVE)?),
        None => None,
    };
    let receivers = read_receivers(r, table);
    Some(SourceDef {
        name: name.clone(),
        connector: Connector::Generate {
            rows_per_second: rows_per_second?,
            keys: distinct?,
            seed: seed?,
            limit,
            receivers: receivers?,
        },
        format: Format::generated(table.key_span("connector")),
        multi_line: false,
        on_bad_record: OnBadRecord::Fail,
        max_rate: None,
    })
}

impl Format {
    /// The format of generated rows; `span` is where their columns are taken to be declared.
    fn generated(span: Span) -> Self {
        let column =
            |name: &str, data_type| ColumnDef { name: Name { text: name.to_owned(), span: span.clone() }, data_type };
        Self::Csv {
            columns: vec![
                column("seq", ColumnType::BigInt),
                column("key", ColumnType::String),
                column("value", ColumnType::Double),
            ],
            delimiter: b',',
            null: None,
        }
    }
}
