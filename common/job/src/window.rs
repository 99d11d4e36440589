//! Reading the operators over windows.

use super::keys::{self, Key};
use super::stream::read_columns;
use super::{Frame, Operator};
use tidemill_common::definition::{Reader, Table, Value, optional};
use tidemill_common::diag::Diagnostic;

/// Reads the operator with this key.
pub(super) fn read<'t>(r: &mut Reader<'t>, key: &str, value: &'t Value<'t>) -> Option<Operator> {
    match key {
        "reduce_by_key_and_window" => read_reduce_by_key(r, value),
        "reduce_by_window" => read_reduce(r, value),
        "group_by_key_and_window" => read_group_by_key(r, value),
        "slice" => read_slice(r, value),
        "count_by_window" => read_plain(r, key, value).map(Operator::CountByWindow),
        "count_by_value_and_window" => read_plain(r, key, value).map(Operator::CountByValueAndWindow),
        _ => read_plain(r, key, value).map(Operator::Window),
    }
}

fn table<'t>(r: &mut Reader<'t>, key: &str, value: &'t Value<'t>, known: &'static [Key]) -> Option<Table<'t>> {
    r.table(value, &format!("`{key}`"), value.span(), &[known])
}

/// `{ length = "30s", slide = "10s" }`
fn read_plain<'t>(r: &mut Reader<'t>, key: &str, value: &'t Value<'t>) -> Option<Frame> {
    let table = table(r, key, value, keys::WINDOW)?;
    read_frame(r, &table)
}

fn read_frame<'t>(r: &mut Reader<'t>, table: &Table<'t>) -> Option<Frame> {
    let length = table.get("length").and_then(|v| r.period(v));
    let slide = table.get("slide").map(|v| r.period(v));
    Some(Frame { length: length?, slide: optional(slide)? })
}

fn read_reduce_by_key<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Operator> {
    let table = table(r, "reduce_by_key_and_window", value, keys::REDUCE_BY_KEY_AND_WINDOW)?;
    let key = table.get("key").and_then(|v| r.columns(v));
    let aggregates = table.get("aggregates").and_then(|v| read_columns(r, v));
    let frame = read_frame(r, &table);
    let keep_zero_keys = table.get("keep_zero_keys").map(|v| r.boolean(v));
    let (key, aggregates, frame) = (key?, aggregates?, frame?);
    let keep_zero_keys = optional(keep_zero_keys)?.unwrap_or(false);
    let names = key.iter().chain(aggregates.iter().map(|aggregate| &aggregate.name));
    let distinct = r.distinct_columns(names);
    distinct.then_some(Operator::ReduceByKeyAndWindow { key, aggregates, frame, keep_zero_keys })
}

fn read_reduce<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Operator> {
    let table = table(r, "reduce_by_window", value, keys::REDUCE_BY_WINDOW)?;
    let aggregates = table.get("aggregates").and_then(|v| read_columns(r, v));
    let frame = read_frame(r, &table);
    Some(Operator::ReduceByWindow { aggregates: aggregates?, frame: frame? })
}

fn read_group_by_key<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Operator> {
    let table = table(r, "group_by_key_and_window", value, keys::GROUP_BY_KEY_AND_WINDOW)?;
    let key = table.get("key").and_then(|v| r.columns(v));
    let values = table.get("values").map(|v| r.columns(v));
    let frame = read_frame(r, &table);
    let (key, values, frame) = (key?, optional(values)?, frame?);
    let distinct = r.distinct_columns(key.iter().chain(values.iter().flatten()));
    distinct.then_some(Operator::GroupByKeyAndWindow { key, values, frame })
}

fn read_slice<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Operator> {
    let table = table(r, "slice", value, keys::SLICE)?;
    let from = table.get("from").and_then(|v| r.time(v));
    let to = table.get("to").and_then(|v| r.time(v));
    let (from_ms, to_ms) = (from?, to?);
    if from_ms > to_ms {
        let wrong = Diagnostic::new("this slice ends before it begins").at(table.key_span("to"));
        r.push(wrong.label("`to` is earlier than `from`"));
        return None;
    }
    Some(Operator::Slice { from_ms, to_ms })
}
