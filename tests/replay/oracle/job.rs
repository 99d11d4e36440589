//! The jobs that can be evaluated: streams of a few operators.

use super::totals::Aggregate;

/// What a filter asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Condition {
    NAbove(i64),
    XBelow(f64),
    NotA,
}

/// A stream's operator.
#[derive(Debug, Clone)]
pub(crate) enum Operator {
    /// `n + add`, half of `x`.
    Select {
        add: i64,
    },
    Filter(Condition),
    /// Words of `t` become `k`.
    FlatMap,
    ReduceByKey {
        n: Option<Aggregate>,
        x: Aggregate,
    },
    Distinct,
    /// `count_by_value`; the count becomes `n`.
    CountByValue,
    /// `group_by_key`; of the lists of a key, the first `n` and the last `x`.
    GroupByKey,
    Count,
    Reduce {
        n: Aggregate,
        x: Aggregate,
    },
    Update(Update),
    Map(Map),
    /// All state of the stream that is read.
    Snapshots,
    /// All inputs, one after the other.
    Union,
    /// A join by `k` of two inputs, and what becomes of a pair: see [`paired`]. Rows wait for so many batches.
    Join(JoinKind, Option<i64>),
    /// By `n` (greatest first, if so), then `x`; so many rows.
    Sort {
        descending: bool,
        limit: Option<usize>,
    },
    /// The rows with the greatest `n` of every `k`.
    TopK(usize),
    Window(Sliding),
    /// `reduce_by_key_and_window`
    ReduceByKeyAndWindow {
        n: Option<Aggregate>,
        x: Aggregate,
        sliding: Sliding,
        keep: bool,
    },
}

/// Length and slide of a window, in firings of its input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sliding {
    pub(crate) length: i64,
    pub(crate) slide: i64,
}

/// How often each stream fires: every so many batches. All that it reads does so together.
pub(crate) fn slides(streams: &[Stream]) -> Vec<i64> {
    let mut slides: Vec<i64> = Vec::new();
    for stream in streams {
        let input = stream.from[0].map_or(1, |from| slides[from]);
        slides.push(match stream.operator {
            Operator::Window(sliding) | Operator::ReduceByKeyAndWindow { sliding, .. } => sliding.slide * input,
            _ => input,
        });
    }
    slides
}

/// The joins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum JoinKind {
    Inner,
    LeftOuter,
    RightOuter,
    FullOuter,
    Semi,
    Anti,
}

/// `update_state_by_key`: `n` counts records, or calls; `x` adds up.
#[derive(Debug, Clone)]
pub(crate) struct Update {
    pub(crate) every_key: bool,
    pub(crate) emit_all: bool,
    pub(crate) count_calls: bool,
    pub(crate) drop_over: Option<i64>,
}

/// `map_with_state`: `n` counts records, `x` adds up.
#[derive(Debug, Clone)]
pub(crate) struct Map {
    pub(crate) per_record: bool,
    pub(crate) remove_over: Option<i64>,
    /// In batches, which are a second long.
    pub(crate) timeout: Option<u64>,
    /// Rows of records come out if `n` is above: that of the record, or of the state if there is one row per key.
    pub(crate) emit_over: Option<i64>,
}

/// A stream: what it reads (streams, or the source) and its operator.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) from: Vec<Option<usize>>,
    pub(crate) operator: Operator,
}

/// Whether all rows of a stream (or of the source) have a key.
pub(super) fn keyed(streams: &[Stream], of: Option<usize>) -> bool {
    let Some(stream) = of.map(|of| &streams[of]) else {
        return false;
    };
    match stream.operator {
        Operator::Select { .. } | Operator::Filter(_) | Operator::FlatMap | Operator::Union => {
            stream.from.iter().all(|from| keyed(streams, *from))
        }
        Operator::Sort { .. } | Operator::Count | Operator::Reduce { .. } => false,
        _ => true,
    }
}
