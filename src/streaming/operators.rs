//! Operators of [`DStream`] over windows, over two streams, and over lists and orders.

use super::DStream;
use super::text::Toml;
use std::time::Duration;

fn table<const N: usize>(keys: [(&str, Toml); N]) -> Toml {
    Toml::Table(keys.map(|(key, value)| (key.to_string(), value)).to_vec())
}

impl DStream {
    /// The rows of the last `length`, every `slide`; both are multiples of the batch interval.
    pub fn window(&self, length: Duration, slide: Duration) -> Self {
        self.operator("window", table([("length", length.into()), ("slide", slide.into())]))
    }

    /// Aggregates per key over a window. Sums of doubles do not drift, however long it runs.
    pub fn reduce_by_key_and_window(
        &self,
        key: &[&str],
        aggregates: &[(&str, &str)],
        length: Duration,
        slide: Duration,
    ) -> Self {
        let keys = [
            ("key", Toml::texts(key)),
            ("aggregates", Toml::named(aggregates)),
            ("length", length.into()),
            ("slide", slide.into()),
        ];
        let made = self.operator("reduce_by_key_and_window", table(keys));
        made.check_some("reduce_by_key_and_window", key.len(), "key column");
        made.check_some("reduce_by_key_and_window", aggregates.len(), "aggregate");
        made
    }

    /// Aggregates over a window; no row for an empty one.
    pub fn reduce_by_window(&self, aggregates: &[(&str, &str)], length: Duration, slide: Duration) -> Self {
        let keys = [("aggregates", Toml::named(aggregates)), ("length", length.into()), ("slide", slide.into())];
        let made = self.operator("reduce_by_window", table(keys));
        made.check_some("reduce_by_window", aggregates.len(), "aggregate");
        made
    }

    /// The rows of the batches from one time to another, both included, once; times are since 1970.
    pub fn slice(&self, from: Duration, to: Duration) -> Self {
        self.operator("slice", table([("from", from.into()), ("to", to.into())]))
    }

    /// The number of rows in a window, column `count`.
    pub fn count_by_window(&self, length: Duration, slide: Duration) -> Self {
        self.operator("count_by_window", table([("length", length.into()), ("slide", slide.into())]))
    }

    /// How often each row occurs in a window.
    pub fn count_by_value_and_window(&self, length: Duration, slide: Duration) -> Self {
        self.operator("count_by_value_and_window", table([("length", length.into()), ("slide", slide.into())]))
    }

    /// Per key, the lists of its rows in a window.
    pub fn group_by_key_and_window(&self, key: &[&str], length: Duration, slide: Duration) -> Self {
        let keys = [("key", Toml::texts(key)), ("length", length.into()), ("slide", slide.into())];
        let made = self.operator("group_by_key_and_window", table(keys));
        made.check_some("group_by_key_and_window", key.len(), "key column");
        made
    }

    /// Pairs of rows of this stream and another with the same key.
    pub fn join(&self, other: &Self, on: &[&str]) -> Self {
        self.with_key("join", other, on)
    }

    /// Pairs, and rows of this stream without a partner.
    pub fn left_outer_join(&self, other: &Self, on: &[&str]) -> Self {
        self.with_key("left_outer_join", other, on)
    }

    /// Pairs, and rows of the other stream without a partner.
    pub fn right_outer_join(&self, other: &Self, on: &[&str]) -> Self {
        self.with_key("right_outer_join", other, on)
    }

    /// Pairs, and all rows without a partner.
    pub fn full_outer_join(&self, other: &Self, on: &[&str]) -> Self {
        self.with_key("full_outer_join", other, on)
    }

    /// The rows of this stream that have a partner in the other.
    pub fn semi(&self, other: &Self, on: &[&str]) -> Self {
        self.with_key("semi", other, on)
    }

    /// The rows of this stream that have no partner in the other.
    pub fn anti(&self, other: &Self, on: &[&str]) -> Self {
        self.with_key("anti", other, on)
    }

    /// Per key, the lists of the rows of both streams.
    pub fn cogroup(&self, other: &Self, on: &[&str]) -> Self {
        self.with_key("cogroup", other, on)
    }

    fn with_key(&self, operator: &'static str, other: &Self, on: &[&str]) -> Self {
        let made = self.together(operator, &[other], table([("on", Toml::texts(on))]));
        made.check_some(operator, on.len(), "key column");
        made
    }

    /// Pairs of rows of this stream and another with the same key, in batches no further apart than that.
    pub fn join_within(&self, other: &Self, on: &[&str], within: Duration) -> Self {
        self.with_key_within("join", other, on, within)
    }

    /// Those, and rows of this stream that have had no partner when their time is over.
    pub fn left_outer_join_within(&self, other: &Self, on: &[&str], within: Duration) -> Self {
        self.with_key_within("left_outer_join", other, on, within)
    }

    fn with_key_within(&self, operator: &'static str, other: &Self, on: &[&str], within: Duration) -> Self {
        let made = self.together(operator, &[other], table([("on", Toml::texts(on)), ("within", within.into())]));
        made.check_some(operator, on.len(), "key column");
        made
    }

    /// Per key, the lists of its rows.
    pub fn group_by_key(&self, key: &[&str]) -> Self {
        let made = self.operator("group_by_key", table([("key", Toml::texts(key))]));
        made.check_some("group_by_key", key.len(), "key column");
        made
    }

    /// Spark's other name for [`reduce_by_key`](Self::reduce_by_key).
    pub fn combine_by_key(&self, key: &[&str], aggregates: &[(&str, &str)]) -> Self {
        self.reduce_by_key(key, aggregates)
    }

    /// How often each row occurs in the batch.
    pub fn count_by_value(&self) -> Self {
        self.operator("count_by_value", true)
    }

    /// The rows in order; a `-` before a column is for greatest first.
    pub fn sort(&self, by: &[&str]) -> Self {
        let made = self.operator("sort", table([("by", Toml::texts(by))]));
        made.check_some("sort", by.len(), "column");
        made
    }

    /// The `k` rows with the most of some columns.
    pub fn top_k(&self, k: u64, by: &[&str]) -> Self {
        let made = self.operator("top_k", table([("k", k.into()), ("by", Toml::texts(by))]));
        made.check_some("top_k", by.len(), "column");
        made
    }

    /// The `k` rows of every key with the most of some columns.
    pub fn top_k_per(&self, key: &[&str], k: u64, by: &[&str]) -> Self {
        let made = self.operator("top_k", table([("k", k.into()), ("by", Toml::texts(by)), ("per", Toml::texts(key))]));
        made.check_some("top_k", key.len(), "key column");
        made.check_some("top_k", by.len(), "column");
        made
    }

    /// The same rows, spread over all key groups by their values.
    pub fn repartition(&self) -> Self {
        self.operator("repartition", true)
    }

    /// The same rows, spread over the key groups; those with the same values of these columns stay together.
    pub fn repartition_by(&self, columns: &[&str]) -> Self {
        let made = self.operator("repartition", table([("by", Toml::texts(columns))]));
        made.check_some("repartition", columns.len(), "column");
        made
    }
}
