//! Reading `[source.NAME]`.

use super::check::Draft;
use super::keys::{self, ConnectorKind, FormatKind, Key};
use super::reader::{Reader, Table, Value};
use super::{ColumnDef, ColumnType, Connector, Format, Name, OnBadRecord, SourceDef, Span};
use crate::diag::Diagnostic;

/// Reads a source; its keys depend on its connector.
pub(super) fn read<'t>(r: &mut Reader<'t>, table: &Table<'t>, name: &Name) -> Draft<SourceDef> {
    r.check_known(table, &[keys::SOURCE, keys::SOCKET, keys::GENERATE]);
    r.check_required(table, &[keys::SOURCE]);
    let connector = table.get("connector").and_then(|v| r.choice(v, keys::CONNECTORS));
    let def = connector.and_then(|connector| match connector {
        ConnectorKind::Socket => {
            refuse_keys_of(r, table, keys::GENERATE, keys::SOCKET, "generate");
            read_socket(r, table, name)
        }
        ConnectorKind::Generate => {
            refuse_keys_of(r, table, keys::SOCKET, keys::GENERATE, "socket");
            read_generate(r, table, name)
        }
    });
    Draft { name: Some(name.clone()), from: Vec::new(), def }
}

/// Notes the keys that only the `other` connector has.
fn refuse_keys_of<'t>(r: &mut Reader<'t>, table: &Table<'t>, theirs: &'static [Key], ours: &[Key], other: &str) {
    for (name, key, _) in table.present(theirs) {
        if ours.iter().any(|our| our.name == key.name) {
            continue;
        }
        let message = format!("`{}` does not apply to this connector", name.text);
        let wrong = Diagnostic::new(message).at(name.span);
        let wrong = wrong.label(format!("only for connector = \"{other}\""));
        r.push(match key.name {
            "format" | "columns" => {
                wrong.help("generated rows have the columns seq (bigint), key (string), value (double)")
            }
            _ => wrong,
        });
    }
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
    let on_bad_record = match table.get("on_bad_record") {
        Some(value) => r.choice(value, keys::ON_BAD_RECORD),
        None => Some(OnBadRecord::Skip),
    };
    Some(SourceDef {
        name: name.clone(),
        connector: Connector::Socket { addresses: addresses?, acknowledge: acknowledge?, receivers: receivers? },
        format: format?,
        on_bad_record: on_bad_record?,
    })
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
    if format != FormatKind::Csv {
        for key in ["delimiter", "null"] {
            only_for(r, table, key, "format = \"csv\"");
        }
    }
    if format == FormatKind::Text {
        only_for(r, table, "columns", "format = \"csv\" or \"json\"");
        return Some(Format::Text);
    }
    let columns = match table.get("columns") {
        Some(value) => read_columns(r, value),
        None => {
            r.missing(table, "`columns`");
            None
        }
    };
    if format == FormatKind::Json {
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

fn only_for<'t>(r: &mut Reader<'t>, table: &Table<'t>, key: &str, format: &str) {
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
    r.check_required(table, &[keys::GENERATE]);
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
        on_bad_record: OnBadRecord::Fail,
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
