//! Keys that people bring along from Spark, and what there is here in their place.

use tidemill_common::definition::Hints;

const COMPUTED_ONCE: &str = "leave it out: a stream that several read is computed once per batch";
const KEPT: &str = "leave it out: what stands behind an exchange is kept in memory, and on disk when that is full, until \
                    the batch is complete; `replication` of the job says how many copies blocks and state have";

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
