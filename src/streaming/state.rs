//! Operators of [`DStream`] that remember: state per key.

use super::DStream;
use super::text::Toml;
use std::time::Duration;

impl DStream {
    /// Running state per key: the key columns, and the state's columns with their updates, for example
    /// `[("total", "coalesce(state.total, 0.0) + sum(price)")]`, or a [`StateUpdate`].
    pub fn update_state_by_key(&self, key: &[&str], state: impl Into<StateUpdate>) -> Self {
        let StateUpdate { columns, keys } = state.into();
        self.stateful("update_state_by_key", key, columns, keys)
    }

    /// State per key that is visited with every record: what comes out is one row per record, unless
    /// [`MapWithState`] says otherwise. Spark's `mapWithState`.
    pub fn map_with_state(&self, key: &[&str], state: impl Into<MapWithState>) -> Self {
        let MapWithState { columns, keys } = state.into();
        self.stateful("map_with_state", key, columns, keys)
    }

    /// Every key of this stream, which has state, with that state after each batch.
    pub fn state_snapshots(&self) -> Self {
        self.operator("state_snapshots", true)
    }

    fn stateful(
        &self,
        operator: &'static str,
        key: &[&str],
        columns: Vec<(String, Toml)>,
        keys: Vec<(String, Toml)>,
    ) -> Self {
        let count = columns.len();
        let mut table = vec![("key".to_string(), Toml::texts(key)), ("state".to_string(), Toml::Table(columns))];
        table.extend(keys);
        let made = self.operator(operator, Toml::Table(table));
        made.check_some(operator, key.len(), "key column");
        made.check_some(operator, count, "state column");
        made
    }
}

fn columns(columns: &[(&str, &str)]) -> Vec<(String, Toml)> {
    columns.iter().map(|(name, update)| (name.to_string(), Toml::from(*update))).collect()
}

fn typed(column: &str, data_type: &str, update: &str) -> (String, Toml) {
    (column.to_string(), Toml::named(&[("type", data_type), ("update", update)]))
}

/// The state of `update_state_by_key`.
#[derive(Debug, Clone, Default)]
pub struct StateUpdate {
    columns: Vec<(String, Toml)>,
    keys: Vec<(String, Toml)>,
}

impl<const N: usize> From<[(&str, &str); N]> for StateUpdate {
    fn from(columns: [(&str, &str); N]) -> Self {
        Self::new(&columns)
    }
}

impl StateUpdate {
    /// Columns with their updates.
    pub fn new(updates: &[(&str, &str)]) -> Self {
        Self { columns: columns(updates), keys: Vec::new() }
    }

    /// One more column, with its type declared.
    pub fn typed(mut self, column: &str, data_type: &str, update: &str) -> Self {
        self.columns.push(typed(column, data_type, update));
        self
    }

    fn with(mut self, key: &str, value: &str) -> Self {
        self.keys.push((key.to_string(), value.into()));
        self
    }

    /// Updates only keys with records in the batch; by default every key, as in Spark.
    pub fn touched(self) -> Self {
        self.with("update", "touched")
    }

    /// Gives only what records have changed; by default all keys, as in Spark.
    pub fn emit_changed(self) -> Self {
        self.with("emit", "changed")
    }

    /// Drops a key whose new state makes this true.
    pub fn drop_when(self, condition: &str) -> Self {
        self.with("drop_when", condition)
    }

    /// A csv or JSON-lines file with the state to begin with, relative to the current directory.
    pub fn initial(self, path: &str) -> Self {
        self.with("initial", path)
    }
}

/// The state of `map_with_state`.
#[derive(Debug, Clone, Default)]
pub struct MapWithState {
    columns: Vec<(String, Toml)>,
    keys: Vec<(String, Toml)>,
}

impl<const N: usize> From<[(&str, &str); N]> for MapWithState {
    fn from(columns: [(&str, &str); N]) -> Self {
        Self::new(&columns)
    }
}

impl MapWithState {
    /// Columns with their updates, which see the record and `state`.
    pub fn new(updates: &[(&str, &str)]) -> Self {
        Self { columns: columns(updates), keys: Vec::new() }
    }

    /// One more column, with its type declared.
    pub fn typed(mut self, column: &str, data_type: &str, update: &str) -> Self {
        self.columns.push(typed(column, data_type, update));
        self
    }

    fn with(mut self, key: &str, value: impl Into<Toml>) -> Self {
        self.keys.push((key.to_string(), value.into()));
        self
    }

    /// Changes the state once per key and batch, with aggregates; by default with every record.
    pub fn per_key(self) -> Self {
        self.with("per", "key")
    }

    /// What comes out; by default key and state columns.
    pub fn emit(self, columns: &[(&str, &str)]) -> Self {
        self.with("emit", Toml::named(columns))
    }

    /// A row comes out only when this is true.
    pub fn emit_when(self, condition: &str) -> Self {
        self.with("emit_when", condition)
    }

    /// Forgets a key when this is true.
    pub fn remove_when(self, condition: &str) -> Self {
        self.with("remove_when", condition)
    }

    /// Forgets a key that has had no record for longer than this, in the first batch of which that is true.
    pub fn timeout(self, idle: Duration) -> Self {
        self.with("timeout", idle)
    }

    /// A csv or JSON-lines file with the state to begin with, relative to the current directory.
    pub fn initial(self, path: &str) -> Self {
        self.with("initial", path)
    }
}
