//! State operators that go key by key: a key is visited with what is known of it and its records of the batch.

use crate::error::PlanError;
use crate::plan::BatchContext;
use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use datafusion::arrow::datatypes::{Fields, SchemaRef};

/// The hidden last column of a state that ends with time (bigint, milliseconds since 1970 UTC): the time of the batch
/// with the key's last record, or of a join with the oldest row that waits. Null for initial state until the first
/// visit has dated it.
pub const UPDATED_COLUMN: &str = "__updated";

/// Keys, what is known of them, and their records. A key without records is *quiet*: it times out, or stays as it is.
#[derive(Debug, Clone)]
pub struct Visit {
    /// The key columns, a row per key.
    pub keys: Vec<ArrayRef>,
    /// The stored columns, a row per key; null where there is no state.
    pub stored: Vec<ArrayRef>,
    /// Whether there is state, by key. Never null.
    pub known: BooleanArray,
    /// What the head gives behind its keys, a row per record: all records of the first key, then those of the second.
    pub records: Vec<ArrayRef>,
    /// How many records each key has.
    pub counts: Vec<usize>,
}

/// What a [`Visit`] comes to.
#[derive(Debug, Clone)]
pub struct Mapped {
    /// The stored columns, a row per key.
    pub stored: Vec<ArrayRef>,
    /// The keys that have no state any more. Never null.
    pub removed: BooleanArray,
    /// The rows that come out: in the order of the keys, for each in the order of its records.
    pub rows: RecordBatch,
    /// The key of each of these rows, as its position among the keys.
    pub row_keys: UInt32Array,
}

/// A state operator that goes key by key. A key does not see the others.
pub trait KeyVisits: Send + Sync {
    /// The key columns: the first ones of the rows that come in.
    fn key_fields(&self) -> &Fields;

    /// What partitions hold; the last one is [`UPDATED_COLUMN`] where keys can be due.
    fn stored_fields(&self) -> &Fields;

    /// The columns of what comes out.
    fn emitted(&self) -> &SchemaRef;

    /// A key whose [`UPDATED_COLUMN`] is before this time, in milliseconds, or null, is due: it has to be visited without
    /// records, too. None where keys are never due.
    fn due_before(&self, ctx: &BatchContext) -> Option<i64>;

    /// Changes the state of keys and says what comes out.
    ///
    /// # Errors
    /// When an expression fails on the data.
    fn visit(&self, visit: &Visit, ctx: &BatchContext) -> Result<Mapped, PlanError>;
}
