//! How fast sources are read, and reading what says so.

use super::keys;
use tidemill_common::definition::{Reader, Table, Value, optional};

/// Spark's `spark.streaming.backpressure`: a PID controller that finds the rate at which a source is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backpressure {
    /// Weight of the difference to the rate of the last batch. Default 1.
    pub proportional: f64,
    /// Weight of what has gathered while the batch was late. Default 0.2.
    pub integral: f64,
    /// Weight of the change of the difference. Default 0.
    pub derived: f64,
    /// The least rate of a source, in records per second. Default 100.
    pub min_rate: u64,
    /// Rate of each receiver before there is an estimate, in records per second. Default none.
    pub initial_rate: Option<u64>,
}

impl Default for Backpressure {
    fn default() -> Self {
        Self { proportional: 1.0, integral: 0.2, derived: 0.0, min_rate: 100, initial_rate: None }
    }
}

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
