//! What operators with state are.

use super::{ColumnType, Name, NamedSql, Sql};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// `updateStateByKey`.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateStateByKey {
    /// Key columns.
    pub key: Vec<Name>,
    /// State columns, in order.
    pub state: Vec<StateColumn>,
    /// Which keys are updated. Default `every_key`, as in Spark.
    pub update: UpdateKeys,
    /// A CSV (with header) or JSON-lines file of key and state columns, relative to the job file.
    pub initial: Option<Name>,
    /// A key whose *new* state makes this true is dropped (Spark: the function returns None).
    pub drop_when: Option<Sql>,
    /// What comes out. Default `all`, as in Spark.
    pub emit: Emit,
}

/// A state column.
#[derive(Debug, Clone, PartialEq)]
pub struct StateColumn {
    /// Its name.
    pub name: Name,
    /// Its type, where it is not to be inferred.
    pub data_type: Option<ColumnType>,
    /// Its update expression over `state.*`, key columns and aggregates of the batch.
    pub update: Sql,
}

/// Which keys an update runs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateKeys {
    /// Every known key, in every batch.
    EveryKey,
    /// Only keys with records in the batch.
    Touched,
}

/// Which keys a state operator emits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Emit {
    /// All keys, in every batch.
    All,
    /// Keys whose state was updated in this batch by records (and not dropped).
    Changed,
}

/// `mapWithState`. Expressions see `state.*` (in updates before the change, elsewhere after it), `old.*` (before it),
/// key columns, `state_exists` and `timing_out`, and a record's columns or aggregates over the records of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct MapWithState {
    /// Key columns.
    pub key: Vec<Name>,
    /// How often the state of a key changes. Default `record`, as in Spark.
    pub per: Per,
    /// State columns, in order.
    pub state: Vec<StateColumn>,
    /// What comes out. Default: key and state columns.
    pub emit: Option<Vec<NamedSql>>,
    /// A row comes out when this is true. Default: always.
    pub emit_when: Option<Sql>,
    /// The key is forgotten when this is true (Spark: `state.remove()`).
    pub remove_when: Option<Sql>,
    /// A key without records for longer than this is forgotten.
    pub timeout: Option<Duration>,
    /// A CSV (with header) or JSON-lines file of key and state columns, relative to the job file.
    pub initial: Option<Name>,
}

/// How often the state of a key changes in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Per {
    /// With every record, in order.
    Record,
    /// Once, with aggregates over its records.
    Key,
}
