//! Reading `[stream.NAME]`.

use super::draft::Draft;
use super::foreign;
use super::keys;
use super::learn;
use super::parse::exactly_one;
use super::{
    Emit, FlatMapEach, JoinKind, MapWithState, Name, NamedSql, Operator, Per, StateColumn, StreamDef, UpdateKeys,
    UpdateStateByKey,
};
use super::{order, together};
use tidemill_common::definition::read_type;
use tidemill_common::definition::{Reader, Table, Value, optional};
use tidemill_common::diag::Diagnostic;

/// Reads a stream.
pub(super) fn read<'t>(r: &mut Reader<'t>, table: &Table<'t>, name: &Name) -> Draft<StreamDef> {
    r.check_known(table, &[keys::STREAM, keys::OPERATORS], foreign::STREAM);
    r.check_required(table, &[keys::STREAM], &[keys::STREAM, keys::OPERATORS]);
    let from = table.get("from").and_then(|v| r.names(v));
    let known = [keys::STREAM, keys::OPERATORS];
    let operator = exactly_one(r, table, &[keys::OPERATORS], "operator", &known).and_then(|(key, span, value)| {
        let operator = read_operator(r, key, value)?;
        Some((operator, key, span))
    });
    let def = match (from.clone(), operator) {
        (Some(from), Some((operator, key, operator_span))) => {
            together::check_inputs(r, key, operator.inputs(), &from);
            Some(StreamDef { name: name.clone(), from, operator, operator_span })
        }
        _ => None,
    };
    Draft { name: Some(name.clone()), from: from.unwrap_or_default(), def }
}

fn read_operator<'t>(r: &mut Reader<'t>, key: &str, value: &'t Value<'t>) -> Option<Operator> {
    match key {
        "select" => read_columns(r, value).map(Operator::Select),
        "filter" => r.sql(value).map(Operator::Filter),
        "flat_map" => read_flat_map(r, value),
        "reduce_by_key" | "combine_by_key" => read_reduce_by_key(r, key, value),
        "count" => r.only_true(value).map(|()| Operator::Count),
        "reduce" => read_columns(r, value).map(Operator::Reduce),
        "distinct" => r.only_true(value).map(|()| Operator::Distinct),
        "sql" => r.sql(value).map(Operator::Sql),
        "union" => r.only_true(value).map(|()| Operator::Union),
        "batch_map" => read_batch_map(r, value),
        "map_with_state" => read_map_with_state(r, value),
        "state_snapshots" => r.only_true(value).map(|()| Operator::StateSnapshots),
        "join" => together::read_join(r, key, value, JoinKind::Inner),
        "left_outer_join" => together::read_join(r, key, value, JoinKind::LeftOuter),
        "right_outer_join" => together::read_join(r, key, value, JoinKind::RightOuter),
        "full_outer_join" => together::read_join(r, key, value, JoinKind::FullOuter),
        "semi" => together::read_join(r, key, value, JoinKind::Semi),
        "anti" => together::read_join(r, key, value, JoinKind::Anti),
        "cogroup" => together::read_cogroup(r, value),
        "group_by_key" => order::read_group_by_key(r, value),
        "count_by_value" => r.only_true(value).map(|()| Operator::CountByValue),
        "sort" => order::read_sort(r, value),
        "top_k" => order::read_top_k(r, value),
        "repartition" => order::read_repartition(r, value),
        "train" => learn::read_train(r, value),
        "evaluate" => learn::read_evaluate(r, value),
        "ab_test" => learn::read_ab_test(r, value),
        "choose" => learn::read_choose(r, value),
        "detect_drift" => learn::read_detect_drift(r, value),
        "update_state_by_key" => read_update_state(r, value),
        window => super::window::read(r, window, value),
    }
}

/// `{ column = "expression", .. }`, not empty.
pub(super) fn read_columns<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Vec<NamedSql>> {
    each_column(r, value, |r, name, value| Some(NamedSql { name, sql: r.sql(value)? }))
}

/// Reads every entry of a table of columns; none if one of them is wrong or there is none.
fn each_column<'t, T>(
    r: &mut Reader<'t>,
    value: &'t Value<'t>,
    mut read: impl FnMut(&mut Reader<'t>, Name, &'t Value<'t>) -> Option<T>,
) -> Option<Vec<T>> {
    let entries = r.entries(value)?;
    if entries.is_empty() {
        r.push(Diagnostic::new("expected at least one column").at(value.span()));
        return None;
    }
    let columns: Vec<_> = entries
        .into_iter()
        .map(|(name, value)| {
            let named = r.check_column(&name);
            read(r, name, value).filter(|_| named)
        })
        .collect();
    columns.into_iter().collect()
}

fn read_flat_map<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Operator> {
    let table = r.table(value, "`flat_map`", value.span(), &[keys::FLAT_MAP])?;
    let each = read_each(r, &table);
    let name = table.get("as").and_then(|v| r.column(v));
    let keep = match table.get("keep") {
        Some(value) => r.columns(value),
        None => Some(Vec::new()),
    };
    let (name, keep) = (name?, keep?);
    let distinct = r.distinct_columns(keep.iter().chain([&name]));
    let each = each?;
    distinct.then_some(Operator::FlatMap { each, name, keep })
}

fn read_each<'t>(r: &mut Reader<'t>, table: &Table<'t>) -> Option<FlatMapEach> {
    match (table.get("split"), table.get("unnest"), table.get("by")) {
        (Some(text), None, by) => {
            let text = r.sql(text);
            let Some(by) = by else {
                r.missing(table, "`by`");
                return None;
            };
            let by = r.text(by)?;
            if by.text.is_empty() {
                let wrong = Diagnostic::new("`by` is empty").at(by.span);
                r.push(wrong.label("expected what separates the pieces"));
                return None;
            }
            Some(FlatMapEach::Split { text: text?, by: by.text })
        }
        (None, Some(list), None) => r.sql(list).map(FlatMapEach::Unnest),
        (None, Some(_), Some(_)) => {
            let wrong = Diagnostic::new("`by` goes with `split`, not with `unnest`");
            r.push(wrong.at(table.key_span("by")));
            None
        }
        (Some(_), Some(_), _) => {
            let wrong = Diagnostic::new("`split` and `unnest` exclude each other");
            r.push(wrong.at(table.key_span("unnest")));
            None
        }
        (None, None, _) => {
            r.missing(table, "`split` (or `unnest`)");
            None
        }
    }
}

fn read_reduce_by_key<'t>(r: &mut Reader<'t>, key: &str, value: &'t Value<'t>) -> Option<Operator> {
    let table = r.table(value, &format!("`{key}`"), value.span(), &[keys::REDUCE_BY_KEY])?;
    let key = table.get("key").and_then(|v| r.columns(v));
    let aggregates = table.get("aggregates").and_then(|v| read_columns(r, v));
    let (key, aggregates) = (key?, aggregates?);
    let names = key.iter().chain(aggregates.iter().map(|aggregate| &aggregate.name));
    r.distinct_columns(names).then_some(Operator::ReduceByKey { key, aggregates })
}

fn read_batch_map<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Operator> {
    let table = r.table(value, "`batch_map`", value.span(), &[keys::BATCH_MAP])?;
    r.text(table.get("function")?).map(Operator::BatchMap)
}

fn read_update_state<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Operator> {
    let table = r.table(value, "`update_state_by_key`", value.span(), &[keys::UPDATE_STATE])?;
    let key = table.get("key").and_then(|v| r.columns(v));
    let state = table.get("state").and_then(|v| each_column(r, v, read_state_column));
    let update = match table.get("update") {
        Some(value) => r.choice(value, keys::UPDATE_KEYS),
        None => Some(UpdateKeys::EveryKey),
    };
    let initial = table.get("initial").map(|v| r.text(v));
    let drop_when = table.get("drop_when").map(|v| r.sql(v));
    let emit = match table.get("emit") {
        Some(value) => r.choice(value, keys::EMIT),
        None => Some(Emit::All),
    };
    let (key, state) = (key?, state?);
    let distinct = r.distinct_columns(key.iter().chain(state.iter().map(|column| &column.name)));
    let operator = UpdateStateByKey {
        key,
        state,
        update: update?,
        initial: optional(initial)?,
        drop_when: optional(drop_when)?,
        emit: emit?,
    };
    distinct.then_some(Operator::UpdateStateByKey(Box::new(operator)))
}

fn read_map_with_state<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Operator> {
    let table = r.table(value, "`map_with_state`", value.span(), &[keys::MAP_WITH_STATE])?;
    let key = table.get("key").and_then(|v| r.columns(v));
    let per = match table.get("per") {
        Some(value) => r.choice(value, keys::PER),
        None => Some(Per::Record),
    };
    let state = table.get("state").and_then(|v| each_column(r, v, read_state_column));
    let emit = table.get("emit").map(|v| read_columns(r, v));
    let emit_when = table.get("emit_when").map(|v| r.sql(v));
    let remove_when = table.get("remove_when").map(|v| r.sql(v));
    let timeout = table.get("timeout").map(|v| r.duration(v));
    let initial = table.get("initial").map(|v| r.text(v));
    let (key, state) = (key?, state?);
    let distinct = r.distinct_columns(key.iter().chain(state.iter().map(|column| &column.name)));
    let operator = MapWithState {
        key,
        per: per?,
        state,
        emit: optional(emit)?,
        emit_when: optional(emit_when)?,
        remove_when: optional(remove_when)?,
        timeout: optional(timeout)?,
        initial: optional(initial)?,
    };
    distinct.then_some(Operator::MapWithState(Box::new(operator)))
}

fn read_state_column<'t>(r: &mut Reader<'t>, name: Name, value: &'t Value<'t>) -> Option<StateColumn> {
    if !value.get_ref().is_table() {
        return Some(StateColumn { name, data_type: None, update: r.sql(value)? });
    }
    let title = format!("state column `{}`", name.text);
    let table = r.table(value, &title, value.span(), &[keys::STATE_COLUMN])?;
    let data_type = table.get("type").map(|v| read_type(r, v));
    let update = table.get("update").and_then(|v| r.sql(v));
    Some(StateColumn { name, data_type: optional(data_type)?, update: update? })
}
