//! Reading what says how fast sources are read.

use super::Backpressure;
use super::keys;
use super::reader::{Reader, Table, Value};
use super::stream::optional;

/// `true`, or a table of what differs from the defaults.
pub(super) fn read_backpressure<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Backpressure> {
    let defaults = Backpressure::default();
    if value.get_ref().is_bool() {
        r.only_true(value)?;
        return Some(defaults);
    }
    let table = r.table(value, "`backpressure`", value.span(), &[keys::BACKPRESSURE])?;
    let mut weight = |key: &str, default| match table.get(key) {
        Some(value) => r.number(value),
        None => Some(default),
    };
    let proportional = weight("proportional", defaults.proportional);
    let integral = weight("integral", defaults.integral);
    let derived = weight("derived", defaults.derived);
    let min_rate = table.get("min_rate").map(|v| r.count(v, keys::POSITIVE));
    let initial_rate = table.get("initial_rate").map(|v| r.count(v, keys::POSITIVE));
    Some(Backpressure {
        proportional: proportional?,
        integral: integral?,
        derived: derived?,
        min_rate: optional(min_rate)?.unwrap_or(defaults.min_rate),
        initial_rate: optional(initial_rate)?,
    })
}

/// `max_rate` of a source; the outer option is none for a mistake.
pub(super) fn read_max_rate<'t>(r: &mut Reader<'t>, table: &Table<'t>) -> Option<Option<u64>> {
    optional(table.get("max_rate").map(|v| r.count(v, keys::POSITIVE)))
}
