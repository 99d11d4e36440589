//! Reading operators that group, order or spread the rows of one stream as they are.

use super::{Name, Operator, SortKey, keys};
use tidemill_common::definition::{Reader, Value, optional};

pub(super) fn read_group_by_key<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Operator> {
    let table = r.table(value, "`group_by_key`", value.span(), &[keys::GROUP_BY_KEY])?;
    let key = table.get("key").and_then(|v| r.columns(v));
    let values = table.get("values").map(|v| r.columns(v));
    let (key, values) = (key?, optional(values)?);
    let distinct = r.distinct_columns(key.iter().chain(values.iter().flatten()));
    distinct.then_some(Operator::GroupByKey { key, values })
}

pub(super) fn read_sort<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Operator> {
    let table = r.table(value, "`sort`", value.span(), &[keys::SORT])?;
    let by = table.get("by").and_then(|v| r.sort_keys(v));
    let descending = table.get("descending").map(|v| r.boolean(v));
    let limit = table.get("limit").map(|v| r.count(v, keys::POSITIVE));
    let (by, descending, limit) = (by?, optional(descending)?, optional(limit)?);
    Some(Operator::Sort { by: sort_keys(by, descending == Some(true)), limit })
}

pub(super) fn read_top_k<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Operator> {
    let table = r.table(value, "`top_k`", value.span(), &[keys::TOP_K])?;
    let k = table.get("k").and_then(|v| r.count(v, keys::POSITIVE));
    let by = table.get("by").and_then(|v| r.sort_keys(v));
    let per = table.get("per").map(|v| r.columns(v));
    let (k, by, per) = (k?, by?, optional(per)?);
    Some(Operator::TopK { k, by: sort_keys(by, true), per: per.unwrap_or_default() })
}

/// Columns with whether there was a `-` before them.
fn sort_keys(by: Vec<(Name, bool)>, turned: bool) -> Vec<SortKey> {
    by.into_iter().map(|(column, minus)| SortKey { column, descending: minus != turned }).collect()
}

pub(super) fn read_repartition<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Operator> {
    if value.get_ref().is_bool() {
        r.only_true(value)?;
        return Some(Operator::Repartition { by: Vec::new() });
    }
    let table = r.table(value, "`repartition`", value.span(), &[keys::REPARTITION])?;
    let by = optional(table.get("by").map(|v| r.columns(v)))?;
    Some(Operator::Repartition { by: by.unwrap_or_default() })
}
