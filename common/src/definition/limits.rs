//! How large a definition may be: the one list of its bounds, and what is refused before anything else is looked at.
//!
//! What a definition holds is walked, copied, compared and shown many times, by whoever compiles it: the driver for all
//! jobs, and every worker. Bounds keep that within the time and the stack there is.

use super::Span;
use super::reader::{Reader, Value};
use crate::diag::Diagnostic;
use toml::de::{DeTable, DeValue};

/// Of the text of a definition, in bytes.
pub const MAX_DEFINITION_BYTES: usize = 16 << 20;
/// Of the name of a job, source, stream, model, table or output, in bytes.
pub const MAX_NAME_BYTES: usize = 100;
/// Of the name of a column or of any other key, in bytes.
pub const MAX_KEY_BYTES: usize = 255;
/// Of a text: an expression, a query, a path, a header; not of a record in a queue. In bytes.
pub const MAX_TEXT_BYTES: usize = 1 << 20;
/// Columns of a source, a table or a stream; entries of any other table of a definition.
pub const MAX_COLUMNS: usize = 10_000;
/// Elements of a list.
pub const MAX_ELEMENTS: usize = 100_000;
/// Sources of a job.
pub const MAX_SOURCES: usize = 100;
/// Streams of a job.
pub const MAX_STREAMS: usize = 1_000;
/// Models of a job.
pub const MAX_MODELS: usize = 100;
/// Tables of a job.
pub const MAX_TABLES: usize = 100;
/// Outputs of a job.
pub const MAX_OUTPUTS: usize = 1_000;
/// Words, numbers, texts and signs of an expression or a query.
pub const MAX_SQL_TOKENS: usize = 100_000;
/// Operators that work on each other's results, as in `x + x + x`, and what is nested, in an expression or a query.
pub const MAX_SQL_DEPTH: usize = 1_000;
/// Parts of an expression, or of an expression of a query, where what is computed of a column of a subquery counts with
/// all that this is computed of: so large the planner may make it.
pub const MAX_SQL_PARTS: usize = 200_000;
/// Streams, tables and subqueries that a query reads; a part of a `with` counts, with all it reads, as often as it is
/// named.
pub const MAX_RELATIONS: usize = 200;
/// Sets of keys that one `group by` may make of `cube`, `rollup` and `grouping sets`, all combined.
pub const MAX_GROUPING_SETS: usize = 4_096;

/// The tables and lists whose number is bounded, with what one of them is called.
const NUMBERS: [(&str, &str, usize); 5] = [
    ("source", "sources", MAX_SOURCES),
    ("stream", "streams", MAX_STREAMS),
    ("model", "models", MAX_MODELS),
    ("table", "tables", MAX_TABLES),
    ("output", "outputs", MAX_OUTPUTS),
];

/// Refuses a definition that is too long to be read.
pub fn length(text: &str) -> Result<(), Diagnostic> {
    let message = format!("the definition is longer than {MAX_DEFINITION_BYTES} bytes");
    (text.len() <= MAX_DEFINITION_BYTES).then_some(()).ok_or_else(|| Diagnostic::new(message))
}

/// Notes everything in the document that there is too much of.
pub fn check<'t>(r: &mut Reader<'t>, document: &'t Value<'t>) {
    if let DeValue::Table(job) = document.get_ref() {
        for (key, what, most) in NUMBERS {
            if let Some(value) = job.get(key) {
                number(r, value, what, most);
            }
        }
    }
    // Values are nested as deep as TOML's reader allows.
    let mut rest = vec![document];
    while let Some(value) = rest.pop() {
        match value.get_ref() {
            DeValue::Table(table) => {
                check_table(r, table, value.span());
                rest.extend(table.iter().filter(|(key, _)| key.get_ref() != "batches").map(|(_, value)| value));
            }
            DeValue::Array(items) => {
                if items.len() > MAX_ELEMENTS {
                    r.push(too_many(items.len(), "elements in one list", MAX_ELEMENTS).at(items[MAX_ELEMENTS].span()));
                }
                rest.extend(items.iter());
            }
            DeValue::String(text) if text.len() > MAX_TEXT_BYTES => {
                r.push(too_long("this text", text.len(), MAX_TEXT_BYTES).at(value.span()));
            }
            _ => {}
        }
    }
}

/// How many tables or elements there are, and where the first stands that is too many.
fn number(r: &mut Reader<'_>, value: &Value<'_>, what: &str, most: usize) {
    let (count, place) = match value.get_ref() {
        DeValue::Table(table) if table.len() > most => {
            let mut places: Vec<Span> = table.keys().map(|key| key.span()).collect();
            places.sort_by_key(|place| place.start);
            (places.len(), places.swap_remove(most))
        }
        DeValue::Array(items) if items.len() > most => (items.len(), items[most].span()),
        _ => return,
    };
    r.push(too_many(count, what, most).at(place));
}

fn check_table(r: &mut Reader<'_>, table: &DeTable<'_>, place: Span) {
    if table.len() > MAX_COLUMNS {
        r.push(too_many(table.len(), "entries in one table", MAX_COLUMNS).at(place));
    }
    for key in table.keys().filter(|key| key.get_ref().len() > MAX_KEY_BYTES) {
        r.push(too_long("this name", key.get_ref().len(), MAX_KEY_BYTES).at(key.span()));
    }
}

fn too_many(found: usize, what: &str, most: usize) -> Diagnostic {
    Diagnostic::new(format!("there are {found} {what}; there can be {most}")).label("one too many")
}

fn too_long(what: &str, bytes: usize, most: usize) -> Diagnostic {
    Diagnostic::new(format!("{what} has {bytes} bytes; it can have {most}")).label("too long")
}
