//! A plain evaluator: one thread, ordinary maps, rows as structs. What it says is what `tidemill replay` has to print.
//!
//! It knows what the engine promises (`docs/architecture.md`): a batch is cut into blocks of 4 records; sums are
//! added up per unit first (a block, or a key group) and then in the order of units; keyed rows come by key.

mod job;
mod late;
mod operators;
mod rows;
mod state;
mod totals;
mod window;

pub(crate) use job::{Condition, JoinKind, Map, Operator, Sliding, Stream, Update, slides};
pub(crate) use rows::{Column, Row};
pub(crate) use totals::Aggregate;

use job::keyed;
use late::Late;
use operators::{filter, flat_map, join, select};
use rows::{Rows, by_all, by_k, ordered_bits, output, single};
use state::State;
use std::collections::BTreeMap;
use totals::{Totals, totals};
use twox_hash::XxHash3_64;
use window::{Frame, Panes};

/// Records in a block of a replay.
const BLOCK: usize = 4;
/// Of the hash that makes key groups.
const SEED: u64 = 0x7469_6465_6d69_6c6c;

/// A record of the source, or none if it cannot be read.
pub(crate) type Record = Option<Row>;

/// A job and its state.
pub(crate) struct Oracle<'a> {
    key_groups: u64,
    streams: &'a [Stream],
    batch: i64,
    states: Vec<State>,
    panes: Vec<Panes>,
    late: Vec<Late>,
    slides: Vec<i64>,
}

impl<'a> Oracle<'a> {
    pub(crate) fn new(key_groups: u64, streams: &'a [Stream]) -> Self {
        let states = streams.iter().map(|_| State::default()).collect();
        let panes = streams.iter().map(|_| Panes::default()).collect();
        let late = streams.iter().map(|_| Late::default()).collect();
        Self { key_groups, streams, batch: 0, states, panes, late, slides: slides(streams) }
    }

    /// Runs a batch; gives back the JSON rows of every stream that fires.
    pub(crate) fn batch(&mut self, records: &[Record]) -> Vec<Option<Vec<String>>> {
        self.batch += 1;
        let units = records.chunks(BLOCK).map(|block| block.iter().flatten().cloned().collect()).collect();
        let source = Rows { columns: vec![Column::K, Column::N, Column::X, Column::T], lanes: vec![units] };
        let mut all: Vec<Option<Rows>> = Vec::new();
        for (number, stream) in self.streams.iter().enumerate() {
            let rows = |from: Option<usize>| from.map_or(Some(&source), |from| all[from].as_ref()).cloned();
            let rows = match self.over_window(number, stream) {
                // Right over a window, some operators have a form of their own.
                Some((frame, from)) => {
                    rows(from).and_then(|input| self.folded(number, &stream.operator, frame, &input))
                }
                None => {
                    let inputs: Option<Vec<_>> = stream.from.iter().map(|from| rows(*from)).collect();
                    inputs.and_then(|inputs| self.stream(number, stream, inputs))
                }
            };
            all.push(rows);
        }
        all.into_iter().map(|rows| rows.map(|rows| output(&rows))).collect()
    }

    /// The window that a stream is computed over without looking at its rows, and what that reads.
    fn over_window(&self, number: usize, stream: &Stream) -> Option<(Frame, Option<usize>)> {
        let slide = |from: Option<usize>| from.map_or(1, |from| self.slides[from]);
        let frame = |of: usize, from, sliding: Sliding| {
            let step = slide(from);
            (Frame { length: sliding.length * step, slide: self.slides[of], step }, from)
        };
        match (&stream.operator, stream.from[0]) {
            (Operator::ReduceByKeyAndWindow { sliding, .. }, from) => Some(frame(number, from, *sliding)),
            (Operator::ReduceByKey { .. } | Operator::Reduce { .. } | Operator::Count, Some(window)) => {
                let under = &self.streams[window];
                match under.operator {
                    Operator::Window(sliding) => Some(frame(window, under.from[0], sliding)),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn folded(&mut self, number: usize, operator: &Operator, frame: Frame, input: &Rows) -> Option<Rows> {
        let (batch, panes) = (self.batch, &mut self.panes[number]);
        let keyed = vec![Column::K, Column::N, Column::X];
        match operator {
            Operator::ReduceByKeyAndWindow { n, x, keep, .. } => {
                let mut totals = panes.totals(batch, frame, input, by_k, Totals { n: *n, x: *x })?;
                if *keep {
                    panes.keep(&mut totals, n.is_none());
                }
                Some(self.keyed(keyed, totals))
            }
            Operator::ReduceByKey { n, x } => {
                let totals = panes.totals(batch, frame, input, by_k, Totals { n: *n, x: *x })?;
                Some(self.keyed(keyed, totals))
            }
            Operator::Reduce { n, x } => {
                let total = panes.totals(batch, frame, input, |_| Vec::new(), Totals { n: Some(*n), x: *x })?;
                Some(single(vec![Column::N, Column::X], total.into_values().next()))
            }
            _ => {
                let counted = Totals { n: None, x: Aggregate::Max };
                let total = panes.totals(batch, frame, input, |_| Vec::new(), counted)?;
                let count = total.into_values().next().and_then(|row| row.n).unwrap_or(0);
                Some(single(vec![Column::N], Some(Row::new(None, Some(count), None, None))))
            }
        }
    }

    /// A stream whose input fires.
    fn stream(&mut self, number: usize, stream: &Stream, mut inputs: Vec<Rows>) -> Option<Rows> {
        if let Operator::Window(sliding) = stream.operator {
            let input = inputs.remove(0);
            let step = stream.from[0].map_or(1, |from| self.slides[from]);
            let frame = Frame { length: sliding.length * step, slide: self.slides[number], step };
            let columns = input.columns.clone();
            let rows = self.panes[number].window(self.batch, frame, input, keyed(self.streams, stream.from[0]))?;
            return Some(self.in_groups(columns, rows));
        }
        Some(self.of_batch(number, &stream.operator, inputs))
    }

    fn of_batch(&mut self, number: usize, operator: &Operator, mut inputs: Vec<Rows>) -> Rows {
        let input = inputs.remove(0);
        match operator {
            Operator::Window(_) | Operator::ReduceByKeyAndWindow { .. } => input,
            Operator::Union => {
                let lanes = inputs.into_iter().flat_map(|other| other.lanes);
                Rows { columns: input.columns, lanes: input.lanes.into_iter().chain(lanes).collect() }
            }
            Operator::Join(kind, within) => {
                let columns = match kind {
                    JoinKind::Semi | JoinKind::Anti => input.columns.clone(),
                    _ => vec![Column::K, Column::N, Column::X],
                };
                let rows = match within {
                    None => join(*kind, &input, &inputs[0]),
                    Some(within) => self.late[number].join(self.batch, *kind, *within, [&input, &inputs[0]]),
                };
                self.in_groups(columns, rows)
            }
            Operator::Sort { descending, limit } => {
                let mut rows: Vec<Row> = input.in_order().into_iter().cloned().collect();
                rows.sort_by(|a, b| {
                    let n = a.n.cmp(&b.n);
                    let n = if *descending { n.reverse() } else { n };
                    n.then(a.x.map(ordered_bits).cmp(&b.x.map(ordered_bits)))
                });
                rows.truncate(limit.unwrap_or(usize::MAX));
                let rows = rows.into_iter().map(|row| Row { key: Vec::new(), ..row }).collect();
                Rows { columns: input.columns, lanes: vec![vec![rows]] }
            }
            Operator::TopK(k) => {
                let mut of_key: BTreeMap<Vec<u8>, Vec<Row>> = BTreeMap::new();
                for row in input.units().flatten() {
                    of_key.entry(by_k(row)).or_default().push(row.clone());
                }
                let mut rows = Vec::new();
                for (key, mut of_key) in of_key {
                    of_key.sort_by_key(|row| std::cmp::Reverse(row.n));
                    rows.extend(of_key.into_iter().take(*k).map(|row| Row { key: key.clone(), ..row }));
                }
                self.in_groups(input.columns, rows)
            }
            Operator::Select { add } => select(input, *add),
            Operator::Filter(condition) => filter(input, *condition),
            Operator::FlatMap => flat_map(&input),
            Operator::ReduceByKey { n, x } => {
                let totals = totals(&input, by_k, Totals { n: *n, x: *x });
                self.keyed(vec![Column::K, Column::N, Column::X], totals)
            }
            Operator::Distinct => {
                let columns = input.columns.clone();
                let first =
                    totals(&input, |row| by_all(row, &columns), Totals { n: Some(Aggregate::Min), x: Aggregate::Min });
                self.keyed(columns, first)
            }
            Operator::CountByValue => {
                let columns = input.columns.clone();
                let kept = |row: &Row| Row { n: None, ..row.clone() };
                let values: Vec<_> = input.units().flatten().map(|row| (by_all(row, &columns), kept(row))).collect();
                let mut counts: BTreeMap<Vec<u8>, Row> = BTreeMap::new();
                for (key, row) in values {
                    let counted = counts.entry(key).or_insert(row);
                    counted.n = Some(counted.n.unwrap_or(0) + 1);
                }
                self.keyed(vec![Column::K, Column::N, Column::X], counts)
            }
            Operator::GroupByKey => {
                let mut groups: BTreeMap<Vec<u8>, Row> = BTreeMap::new();
                for row in input.units().flatten() {
                    groups.entry(by_k(row)).or_insert_with(|| row.clone()).x = row.x;
                }
                self.keyed(vec![Column::K, Column::N, Column::X], groups)
            }
            Operator::Count => {
                let count = input.units().flatten().count() as i64;
                single(vec![Column::N], Some(Row::new(None, Some(count), None, None)))
            }
            Operator::Reduce { n, x } => {
                let total = totals(&input, |_| Vec::new(), Totals { n: Some(*n), x: *x });
                single(vec![Column::N, Column::X], total.into_values().next())
            }
            Operator::Update(update) => {
                let rows = self.states[number].update(update, &input);
                self.keyed(vec![Column::K, Column::N, Column::X], rows)
            }
            Operator::Map(map) => {
                let rows = self.states[number].map(self.batch, map, &input);
                self.keyed(vec![Column::K, Column::N, Column::X], rows)
            }
            Operator::Snapshots => {
                let from = self.streams[number].from[0].expect("it reads a stream with state");
                self.keyed(vec![Column::K, Column::N, Column::X], self.states[from].of_key.clone())
            }
        }
    }

    /// Puts rows into their key groups, each by key.
    fn keyed(&self, columns: Vec<Column>, rows: impl IntoIterator<Item = (Vec<u8>, Row)>) -> Rows {
        self.in_groups(columns, rows.into_iter().map(|(key, row)| Row { key, ..row }).collect())
    }

    /// Puts rows that have a key into its group, each by key and otherwise in their order.
    fn in_groups(&self, columns: Vec<Column>, mut rows: Vec<Row>) -> Rows {
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        let mut units = vec![Vec::new(); self.key_groups as usize];
        for row in rows {
            let group = XxHash3_64::oneshot_with_seed(SEED, &row.key) % self.key_groups;
            units[group as usize].push(row);
        }
        Rows { columns, lanes: vec![units] }
    }
}

#[test]
fn sums_are_per_block_first() {
    let row = |x| Some(Row::new(Some("a"), Some(1), Some(x), None));
    let streams = [Stream { from: vec![None], operator: Operator::ReduceByKey { n: None, x: Aggregate::Sum } }];
    let mut oracle = Oracle::new(4, &streams);
    let sum = |x: &str| vec![Some(vec![format!("{{\"k\":\"a\",\"n\":6,\"x\":{x}}}")])];
    assert_eq!(oracle.batch(&[row(1e16), row(1.0), row(-1e16), row(0.0), row(0.0), row(1.0)]), sum("1.0"));
    assert_eq!(oracle.batch(&[row(1e16), row(0.0), row(0.0), row(0.0), row(-1e16), row(1.0)]), sum("0.0"));
}
