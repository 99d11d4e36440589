//! Every key a definition may hold: the one list behind the parser, the JSON Schema and the check of the documentation.
//! Here is what keys are made of, the words of choices, bounds, and the keys of the job itself.

mod operator;
mod sink;
mod source;

pub(super) use operator::*;
pub(super) use sink::*;
pub(super) use source::*;

pub(super) use tidemill_common::definition::{
    Choices, FILE_FORMATS, FORMATS, FormatKind, Key, NOT_NEGATIVE, POSITIVE, Shape, TABLE_FORMATS, TableKind, words,
};

use super::{DriftAction, Durability, Emit, OnBadRecord, OnUnderReplicated, Per, UpdateKeys};
use std::ops::RangeInclusive;

pub(super) const DURABILITY: Choices<Durability> =
    &[("replicated", Durability::Replicated), ("disk", Durability::Disk)];
pub(super) const ON_UNDER_REPLICATED: Choices<OnUnderReplicated> = &[
    ("continue", OnUnderReplicated::Continue),
    ("pause", OnUnderReplicated::Pause),
    ("fail", OnUnderReplicated::Fail),
];
pub(super) const ON_BAD_RECORD: Choices<OnBadRecord> = &[
    ("skip", OnBadRecord::SKIP),
    ("dead_letter", OnBadRecord::DeadLetter { at_most: None }),
    ("fail", OnBadRecord::Fail),
];
pub(super) const UPDATE_KEYS: Choices<UpdateKeys> =
    &[("every_key", UpdateKeys::EveryKey), ("touched", UpdateKeys::Touched)];
pub(super) const EMIT: Choices<Emit> = &[("all", Emit::All), ("changed", Emit::Changed)];
pub(super) const DRIFT_ACTION: Choices<DriftAction> =
    &[("warn", DriftAction::Warn), ("reset", DriftAction::Reset), ("replace", DriftAction::Replace)];
pub(super) const PER: Choices<Per> = &[("record", Per::Record), ("key", Per::Key)];

pub(super) const BLOCK_BYTES: RangeInclusive<u64> = 1 << 10..=8 << 20;
pub(super) const REPLICATION: RangeInclusive<u64> = 1..=8;
pub(super) const KEY_GROUPS: RangeInclusive<u64> = 1..=4096;
pub(super) const TASK_FAILURES: RangeInclusive<u64> = 1..=100;
pub(super) const PER_MILLE: RangeInclusive<u64> = 0..=1000;
pub(super) const PRINT_ROWS: RangeInclusive<u64> = 1..=10_000;
pub(super) const KEEP: RangeInclusive<u64> = 1..=1000;

pub(super) const JOB: &[Key] = &[
    Key::new("name", Shape::JobName, "The job's name.").required(),
    Key::new("batch_interval", Shape::Duration, "Length of a batch, in whole milliseconds.").required(),
    Key::new(
        "block_interval",
        Shape::Duration,
        "How often receivers seal a block. Default: the smaller of 200ms and half the batch interval.",
    ),
    Key::new("block_bytes", Shape::Size, "A block is sealed early at this size. Default 4MiB."),
    Key::new("replication", Shape::Count(REPLICATION), "Copies of blocks and state, counting the original. Default 2."),
    Key::new(
        "durability",
        Shape::Choice(|| words(DURABILITY)),
        "What the log and the blocks survive. Default replicated.",
    ),
    Key::new(
        "on_under_replicated",
        Shape::Choice(|| words(ON_UNDER_REPLICATED)),
        "What to do while fewer copies exist than asked for. Default continue.",
    ),
    Key::new(
        "key_groups",
        Shape::Count(KEY_GROUPS),
        "Shares of the key space; fixed for the life of the state. Default 64.",
    ),
    Key::new(
        "checkpoint_interval",
        Shape::Duration,
        "How often state is written to disk. Default: the larger of 5s and the batch interval.",
    ),
    Key::new(
        "cut_at_records",
        Shape::Count(POSITIVE),
        "A batch is cut early when this many records wait. Default: never.",
    ),
    Key::new("cut_at_bytes", Shape::Size, "A batch is cut early when this many bytes wait. Default: never."),
    Key::new(
        "max_batch_bytes",
        Shape::Size,
        "At most this much goes into one batch; the rest waits for the next. Default 1GiB.",
    ),
    Key::new(
        "max_task_failures",
        Shape::Count(TASK_FAILURES),
        "A unit of work may fail this often before the job fails. Default 4.",
    ),
    Key::new(
        "backpressure",
        Shape::TrueOrTable(BACKPRESSURE),
        "Sources are read as fast as batches can take it. Default: as fast as blocks can be held.",
    ),
    Key::new("source", Shape::Named(TableKind::Source), "Where records come from."),
    Key::new("model", Shape::Named(TableKind::Model), "What learns."),
    Key::new("stream", Shape::Named(TableKind::Stream), "What is computed."),
    Key::new("output", Shape::List(TableKind::Output), "Where results go."),
    Key::new("table", Shape::Named(TableKind::Table), "Rows from files, the same for every batch."),
];

/// Keys of `backpressure`.
pub(super) const BACKPRESSURE: &[Key] = &[
    Key::new("proportional", Shape::Number, "Weight of the difference to the last batch's rate. Default 1."),
    Key::new("integral", Shape::Number, "Weight of what has gathered while a batch was late. Default 0.2."),
    Key::new("derived", Shape::Number, "Weight of the change of the difference. Default 0."),
    Key::new("min_rate", Shape::Count(POSITIVE), "The least rate of a source, in records per second. Default 100."),
    Key::new("initial_rate", Shape::Count(POSITIVE), "Rate of each receiver at first. Default: no bound."),
];

/// Keys of every model; the others are parameters of its family.
pub(super) const MODEL: &[Key] = &[
    Key::new("kind", Shape::Text, "The family.").required(),
    Key::new("initial", Shape::Text, "An exported model to begin with."),
    Key::new("keep", Shape::Count(KEEP), "Published versions that the driver keeps. Default 10."),
    Key::new("save", Shape::Table(SAVE), "Files that it is saved in."),
];

/// Keys of `save`.
pub(super) const SAVE: &[Key] = &[
    Key::new("path", Shape::Text, "A directory, relative to the job file, or its URL in an object store.").required(),
    Key::new("every", Shape::Count(POSITIVE), "Whenever it has learnt so many batches more. Default 1."),
];
