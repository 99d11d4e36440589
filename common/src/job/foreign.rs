//! Keys that people bring along from Spark, and what there is here in their place.

/// A key that is none here, and what to do instead.
pub(super) type Hints = &'static [(&'static str, &'static str)];

const COMPUTED_ONCE: &str = "leave it out: a stream that several read is computed once per batch";
const KEPT: &str = "leave it out: what stands behind an exchange is kept in memory, and on disk when that is full, until \
                    the batch is complete; `replication` of the job says how many copies blocks and state have";

/// What other engines call keys, and what they are called here. Spark's names of operators are here in snake case.
pub(super) const ALIASES: &[(&str, &str)] = &[
    ("map", "select"),
    ("transform", "sql"),
    ("where", "filter"),
    ("join_within", "join"),
    ("inner_join", "join"),
    ("semi_join", "semi"),
    ("left_semi_join", "semi"),
    ("anti_join", "anti"),
    ("left_anti_join", "anti"),
    ("foreachRDD", "for_each_batch"),
    ("foreach_rdd", "for_each_batch"),
    ("window", "length"),
    ("window_duration", "length"),
    ("size", "length"),
    ("slide_duration", "slide"),
    ("kind", "connector"),
    ("type", "connector"),
    ("schema", "columns"),
    ("separator", "delimiter"),
];

/// Connectors that there are elsewhere.
pub(super) const CONNECTORS: Hints = &[
    ("kafka", "there is no source for Kafka yet; a receiver in Rust (`connector = \"receiver\"`) can be one"),
    ("http", "there is no source over HTTP yet; a receiver in Rust (`connector = \"receiver\"`) can be one"),
    ("file", "did you mean `files`? It reads the files of a directory"),
    ("tcp", "did you mean `socket`?"),
];

/// In `[stream.NAME]`.
pub(super) const STREAM: Hints = &[
    ("cache", COMPUTED_ONCE),
    ("persist", COMPUTED_ONCE),
    ("unpersist", COMPUTED_ONCE),
    ("storage_level", KEPT),
    ("remember", "leave it out: to see rows of earlier batches, put a `window` over the stream"),
    ("checkpoint", "leave it out: all state is written to disk every `checkpoint_interval`, a key of the job"),
];

/// In `[source.NAME]`.
pub(super) const SOURCE: Hints =
    &[("storage_level", "leave it out: `replication` and `durability` of the job say how received blocks are held")];
