//! Reading a whole definition: the top level, the settings, the outputs.

use super::check;
use super::draft::{Draft, Drafts};
use super::keys::{self, Key};
use super::{JobDef, OutputDef, Settings, Span, learn, limits, output, rate, source, stream, table};
use std::time::Duration;
use tidemill_common::definition::{JOB_NAME_MARKS, NAME_MARKS, Reader, Table, Value};
use tidemill_common::diag::{Diagnostic, Diagnostics};
use tidemill_connect::Connectors;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The shortest block interval: half the shortest batch interval.
const MIN_BLOCK_INTERVAL: Duration = Duration::from_micros(500);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Reads a definition whose sources and sinks are of the kinds that come with Tidemill.
///
/// # Errors
/// Everything that is wrong with it, as far as that can be told without knowing the types of expressions.
pub fn parse(text: &str) -> Result<JobDef, Diagnostics> {
    parse_with(text, &Connectors::default())
}

/// Reads a definition whose sources and sinks are of these kinds.
///
/// # Errors
/// The same.
pub fn parse_with(text: &str, connectors: &Connectors) -> Result<JobDef, Diagnostics> {
    let (drafts, diagnostics) = read(text, connectors);
    let whole = drafts.and_then(Drafts::whole).filter(|_| diagnostics.is_empty());
    whole.ok_or(diagnostics)
}

/// What is good of a definition that is wrong somewhere: the streams that do not depend on what is wrong, to be looked
/// through for mistakes of their own. Without files that it refers to.
pub fn good_part(text: &str, connectors: &Connectors) -> Option<JobDef> {
    read(text, connectors).0.and_then(Drafts::good_part)
}

/// None after a syntax error, which may have taken anything away.
fn read(text: &str, connectors: &Connectors) -> (Option<Drafts>, Diagnostics) {
    if let Err(wrong) = limits::length(text) {
        return (None, wrong.into());
    }
    let (document, syntax_errors) = DeTable::parse_recoverable(text);
    let span = document.span();
    let document = Spanned::new(span, DeValue::Table(document.into_inner()));
    let mut reader = Reader::new(text, syntax_errors);
    limits::check(&mut reader, &document);
    if reader.complete() && !reader.diagnostics.is_empty() {
        return (None, reader.diagnostics);
    }
    let drafts = read_drafts(&mut reader, &document, connectors).filter(|_| reader.complete());
    (drafts, reader.diagnostics)
}

fn read_drafts<'t>(r: &mut Reader<'t>, document: &'t Value<'t>, connectors: &Connectors) -> Option<Drafts> {
    let table = r.table(document, "the job", 0..0, &[keys::JOB])?;
    let name = table.get("name").and_then(|v| r.text(v)).filter(|n| r.check_name(n, JOB_NAME_MARKS));
    let settings = read_settings(r, &table);
    let sources = read_named(r, &table, "source", |r, table, name| source::read(r, table, name, connectors));
    let models = read_named(r, &table, "model", learn::read_model);
    let streams = read_named(r, &table, "stream", stream::read);
    let outputs = read_outputs(r, &table, connectors);
    let tables = read_named(r, &table, "table", table::read);
    if r.complete() {
        check::references(r, &sources, &streams, &tables, &models, &outputs);
        table::check(r, &tables, &sources, &streams);
        check::models(r, &models, &streams, &outputs);
    }
    Some(Drafts { name, settings, sources, models, streams, outputs, tables })
}

/// The tables `[kind.NAME]`.
fn read_named<'t, T>(
    r: &mut Reader<'t>,
    job: &Table<'t>,
    kind: &str,
    read: impl Fn(&mut Reader<'t>, &Table<'t>, &super::Name) -> Draft<T>,
) -> Vec<Draft<T>> {
    let Some(entries) = job.get(kind).and_then(|value| r.entries(value)) else { return Vec::new() };
    let mut drafts = Vec::new();
    for (name, value) in entries {
        r.check_name(&name, NAME_MARKS);
        let title = format!("[{kind}.{}]", name.text);
        drafts.push(match r.any_table(value, &title, name.span.clone()) {
            Some(table) => read(r, &table, &name),
            None => Draft { name: Some(name), from: Vec::new(), def: None },
        });
    }
    drafts
}

fn read_settings<'t>(r: &mut Reader<'t>, job: &Table<'t>) -> Option<Settings> {
    let batch_interval = job.get("batch_interval").and_then(|v| batch_interval(r, v));
    // Without a batch interval the rest is read all the same, for its mistakes.
    let mut settings = Settings::with_batch_interval(batch_interval.unwrap_or(Duration::MAX));
    let s = &mut settings;
    set(&mut s.block_interval, job.get("block_interval").and_then(|v| r.duration(v)));
    set(&mut s.block_bytes, job.get("block_bytes").and_then(|v| block_bytes(r, v)));
    let replication = job.get("replication");
    set(&mut s.replication, replication.and_then(|v| r.small_count(v, keys::REPLICATION)));
    set(&mut s.durability, job.get("durability").and_then(|v| r.choice(v, keys::DURABILITY)));
    let under = job.get("on_under_replicated");
    set(&mut s.on_under_replicated, under.and_then(|v| r.choice(v, keys::ON_UNDER_REPLICATED)));
    let groups = job.get("key_groups");
    set(&mut s.key_groups, groups.and_then(|v| r.small_count(v, keys::KEY_GROUPS)));
    set(&mut s.checkpoint_interval, job.get("checkpoint_interval").and_then(|v| r.duration(v)));
    s.cut_at_records = job.get("cut_at_records").and_then(|v| r.count(v, keys::POSITIVE));
    s.cut_at_bytes = job.get("cut_at_bytes").and_then(|v| r.size(v));
    set(&mut s.max_batch_bytes, job.get("max_batch_bytes").and_then(|v| r.size(v)));
    let failures = job.get("max_task_failures");
    set(&mut s.max_task_failures, failures.and_then(|v| r.small_count(v, keys::TASK_FAILURES)));
    s.backpressure = job.get("backpressure").and_then(|v| rate::read_backpressure(r, v));
    check_settings(r, job, &settings, batch_interval).then_some(settings).filter(|_| batch_interval.is_some())
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn batch_interval<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Duration> {
    let interval = r.duration(value)?;
    let whole = interval.as_micros().is_multiple_of(MILLISECOND.as_micros());
    if !whole {
        let wrong = Diagnostic::new("a batch interval is a whole number of milliseconds");
        r.push(wrong.at(r.inside(value)).label("expected 1ms or more, in whole milliseconds"));
    }
    whole.then_some(interval)
}

fn block_bytes<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<u64> {
    let size = r.size(value)?;
    let good = keys::BLOCK_BYTES.contains(&size);
    if !good {
        let wrong = Diagnostic::new("a block has between 1KiB and 8MiB").at(r.inside(value));
        r.push(wrong.label("out of range"));
    }
    good.then_some(size)
}

/// Compares settings that were written with each other.
fn check_settings<'t>(r: &mut Reader<'t>, job: &Table<'t>, s: &Settings, batch_interval: Option<Duration>) -> bool {
    let before = r.diagnostics.len();
    let mut wrong = |key: &str, message: &str| {
        if let Some(value) = job.get(key) {
            r.push(Diagnostic::new(message).at(r.inside(value)));
        }
    };
    if s.block_interval < MIN_BLOCK_INTERVAL {
        wrong("block_interval", "a block interval is at least 500us");
    }
    if let Some(batch_interval) = batch_interval {
        if s.block_interval > batch_interval {
            wrong("block_interval", "`block_interval` is longer than `batch_interval`");
        }
        if s.checkpoint_interval < batch_interval {
            wrong("checkpoint_interval", "`checkpoint_interval` is shorter than `batch_interval`");
        }
    }
    if s.max_batch_bytes < s.block_bytes {
        wrong("max_batch_bytes", "`max_batch_bytes` is less than one block (`block_bytes`)");
    }
    r.diagnostics.len() == before
}

fn read_outputs<'t>(r: &mut Reader<'t>, job: &Table<'t>, connectors: &Connectors) -> Vec<Draft<OutputDef>> {
    let Some(value) = job.get("output") else { return Vec::new() };
    if value.get_ref().is_table() {
        // After a syntax error it may well have been written as a list.
        if r.complete() {
            let wrong = Diagnostic::new("`output` is a list of tables").at(job.key_span("output"));
            r.push(wrong.label("expected `[[output]]`").help("write `[[output]]`, once per output"));
        }
        return Vec::new();
    }
    let Some(items) = r.array(value) else { return Vec::new() };
    items.iter().map(|item| read_output(r, item, connectors)).collect()
}

fn read_output<'t>(r: &mut Reader<'t>, value: &'t Value<'t>, connectors: &Connectors) -> Draft<OutputDef> {
    let (known, sinks) = (keys::output(connectors), keys::sinks(connectors));
    let Some(table) = r.table(value, "[[output]]", value.span(), &known) else {
        return Draft { name: None, from: Vec::new(), def: None };
    };
    let (from, of_model) = read_output_from(r, &table);
    let name = match table.get("name") {
        Some(value) => r.name(value),
        None => from.clone(),
    };
    let target = exactly_one(r, &table, &sinks, "sink", &known);
    let target = target.and_then(|(key, _, value)| output::read_target(r, key, value, connectors));
    let def = match (name.clone(), from.clone(), target) {
        (Some(name), Some(from), Some(target)) => Some(OutputDef { name, from, of_model, target }),
        _ => None,
    };
    Draft { name, from: from.filter(|_| !of_model).into_iter().collect(), def }
}

/// What an output shows, and whether that is a model.
fn read_output_from<'t>(r: &mut Reader<'t>, table: &Table<'t>) -> (Option<super::Name>, bool) {
    match (table.get("from"), table.get("from_model")) {
        (Some(from), None) => (r.name(from), false),
        (None, Some(model)) => (r.name(model), true),
        (None, None) => {
            r.missing(table, "`from` (or `from_model`)");
            (None, false)
        }
        (Some(_), Some(model)) => {
            let wrong = Diagnostic::new("`from` and `from_model` exclude each other").at(table.key_span("from_model"));
            r.push(wrong.help("write one output for the stream and one for the model"));
            (r.name(model), true)
        }
    }
}

/// The one of `alternatives` that the table has; more or fewer than one is a mistake.
pub(super) fn exactly_one<'t>(
    r: &mut Reader<'t>,
    table: &Table<'t>,
    alternatives: &[&'static [Key]],
    what: &str,
    known: &[&'static [Key]],
) -> Option<(&'static str, Span, &'t Value<'t>)> {
    let mut present = table.present(alternatives).into_iter();
    let Some((first, key, value)) = present.next() else {
        let is_one = |key: &str| alternatives.iter().copied().flatten().any(|one| one.name == key);
        if let Some((name, meant, value)) = table.misspelt(known).find(|(_, meant, _)| is_one(meant)) {
            return Some((meant, name.span, value));
        }
        let names: Vec<_> = alternatives.iter().copied().flatten().map(|key| format!("`{}`", key.name)).collect();
        r.missing(table, &format!("{what} (one of {})", names.join(", ")));
        return None;
    };
    for (name, ..) in present {
        let message = format!("{} has a second {what}, `{}`", table.title, name.text);
        let wrong = Diagnostic::new(message).at(name.span).label(format!("expected one {what}"));
        r.push(wrong.help(format!("it already has `{}`", first.text)));
    }
    Some((key.name, first.span, value))
}
