//! A plain evaluator: one thread, ordinary maps, rows as structs. What it says is what `tidemill replay` has to print.
//!
//! It knows what the engine promises (`docs/architecture.md`): a batch is cut into blocks of 4 records; sums are
//! added up per unit first (a block, or a key group) and then in the order of units; keyed rows come by key.

mod late;
mod window;

use late::Late;
use std::collections::{BTreeMap, BTreeSet};
use twox_hash::XxHash3_64;
use window::{Frame, Panes};

/// Records in a block of a replay.
const BLOCK: usize = 4;
/// Of the hash that makes key groups.
const SEED: u64 = 0x7469_6465_6d69_6c6c;

/// A record of the source, or none if it cannot be read.
pub(crate) type Record = Option<Row>;

/// A row of any stream; a stream has some of these columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) k: Option<String>,
    pub(crate) n: Option<i64>,
    pub(crate) x: Option<f64>,
    pub(crate) t: Option<String>,
    /// The encoded key it was last divided by.
    key: Vec<u8>,
}

impl Row {
    pub(crate) fn new(k: Option<&str>, n: Option<i64>, x: Option<f64>, t: Option<&str>) -> Self {
        Self { k: k.map(str::to_string), n, x, t: t.map(str::to_string), key: Vec::new() }
    }

    fn json(&self, columns: &[Column]) -> String {
        let text = |text: &Option<String>| text.as_ref().map_or("null".into(), |text| format!("{text:?}"));
        let value = |column: &Column| match column {
            Column::K => text(&self.k),
            Column::N => self.n.map_or("null".into(), |n| n.to_string()),
            Column::X => self.x.map_or("null".into(), |x| format!("{x:?}")),
            Column::T => text(&self.t),
        };
        let fields: Vec<_> = columns.iter().map(|c| format!("\"{}\":{}", c.name(), value(c))).collect();
        format!("{{{}}}", fields.join(","))
    }
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Column {
    K,
    N,
    X,
    T,
}

impl Column {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::K => "k",
            Self::N => "n",
            Self::X => "x",
            Self::T => "t",
        }
    }
}

/// An aggregate over a column.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn fold<T: Copy + PartialOrd + std::ops::Add<Output = T>>(self, a: Option<T>, b: Option<T>) -> Option<T> {
        let (Some(a), Some(b)) = (a, b) else { return a.or(b) };
        Some(match self {
            Self::Sum => a + b,
            Self::Min => {
                if b < a {
                    b
                } else {
                    a
                }
            }
            Self::Max => {
                if b > a {
                    b
                } else {
                    a
                }
            }
        })
    }
}

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
fn keyed(streams: &[Stream], of: Option<usize>) -> bool {
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

/// A job and its state.
pub(crate) struct Oracle<'a> {
    key_groups: u64,
    streams: &'a [Stream],
    batch: i64,
    states: Vec<BTreeMap<Vec<u8>, Row>>,
    /// The batch of each key's last record.
    updated: Vec<BTreeMap<Vec<u8>, i64>>,
    panes: Vec<Panes>,
    late: Vec<Late>,
    slides: Vec<i64>,
}

/// The rows of a stream in one batch: lane by lane (several only in a union), in each unit by unit.
#[derive(Clone)]
struct Rows {
    columns: Vec<Column>,
    lanes: Vec<Vec<Vec<Row>>>,
}

impl Rows {
    fn units(&self) -> impl Iterator<Item = &Vec<Row>> {
        self.lanes.iter().flatten()
    }

    fn units_mut(&mut self) -> impl Iterator<Item = &mut Vec<Row>> {
        self.lanes.iter_mut().flatten()
    }

    /// All rows as they come out: lane by lane, in each keyed ones by key, others as they are.
    fn in_order(&self) -> Vec<&Row> {
        let mut all = Vec::new();
        for lane in &self.lanes {
            let mut rows: Vec<&Row> = lane.iter().flatten().collect();
            rows.sort_by(|a, b| a.key.cmp(&b.key));
            all.extend(rows);
        }
        all
    }
}

impl<'a> Oracle<'a> {
    pub(crate) fn new(key_groups: u64, streams: &'a [Stream]) -> Self {
        let (states, updated) = (vec![BTreeMap::new(); streams.len()], vec![BTreeMap::new(); streams.len()]);
        let panes = streams.iter().map(|_| Panes::default()).collect();
        let late = streams.iter().map(|_| Late::default()).collect();
        Self { key_groups, streams, batch: 0, states, updated, panes, late, slides: slides(streams) }
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
                let state = &mut self.states[number];
                let touched = totals(&input, by_k, Totals { n: None, x: Aggregate::Sum });
                let rows = update_state(update, state, touched);
                self.keyed(vec![Column::K, Column::N, Column::X], rows)
            }
            Operator::Map(map) => {
                let rows = self.map_state(number, map, &input);
                self.keyed(vec![Column::K, Column::N, Column::X], rows)
            }
            Operator::Snapshots => {
                let from = self.streams[number].from[0].expect("it reads a stream with state");
                self.keyed(vec![Column::K, Column::N, Column::X], self.states[from].clone())
            }
        }
    }

    /// Visits the keys in order, each with its records.
    fn map_state(&mut self, number: usize, map: &Map, input: &Rows) -> Vec<(Vec<u8>, Row)> {
        let (state, updated, now) = (&mut self.states[number], &mut self.updated[number], self.batch);
        let mut visits: BTreeMap<Vec<u8>, Vec<Row>> = BTreeMap::new();
        if let Some(timeout) = map.timeout {
            let quiet = updated.iter().filter(|(_, last)| now - **last > timeout as i64);
            visits.extend(quiet.map(|(key, _)| (key.clone(), Vec::new())));
        }
        if map.per_record {
            for row in input.units().flatten() {
                visits.entry(by_k(row)).or_default().push(row.clone());
            }
        } else {
            let touched = totals(input, by_k, Totals { n: None, x: Aggregate::Sum });
            visits.extend(touched.into_iter().map(|(key, row)| (key, vec![row])));
        }
        let mut out = Vec::new();
        for (key, records) in visits {
            if records.is_empty() {
                out.extend(state.remove(&key).map(|row| (key.clone(), row)));
                updated.remove(&key);
                continue;
            }
            for record in records {
                let mut row = state.remove(&key).unwrap_or(Row { k: record.k.clone(), ..Row::default() });
                let records = if map.per_record { Some(1) } else { record.n };
                row.n = Some(row.n.unwrap_or(0) + records.unwrap_or(0));
                row.x = Some(row.x.unwrap_or(0.0) + record.x.unwrap_or(0.0));
                let n = if map.per_record { record.n } else { row.n };
                if map.emit_over.is_none_or(|over| n.is_some_and(|n| n > over)) {
                    out.push((key.clone(), row.clone()));
                }
                updated.insert(key.clone(), now);
                if map.remove_over.is_some_and(|over| row.n > Some(over)) {
                    updated.remove(&key);
                } else {
                    state.insert(key.clone(), row);
                }
            }
        }
        out
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

fn single(columns: Vec<Column>, row: Option<Row>) -> Rows {
    Rows { columns, lanes: vec![vec![row.into_iter().collect()]] }
}

/// Rows as they leave.
fn output(rows: &Rows) -> Vec<String> {
    rows.in_order().into_iter().map(|row| row.json(&rows.columns)).collect()
}

/// Rows of two streams by `k`, which is never null in a pair: in the order of the left side, then of the right one;
/// right rows without a partner at the end.
fn join(kind: JoinKind, left: &Rows, right: &Rows) -> Vec<Row> {
    let right: Vec<&Row> = right.units().flatten().collect();
    let (mut joined, mut met) = (Vec::new(), vec![false; right.len()]);
    for row in left.units().flatten() {
        let partners: Vec<_> = (0..right.len()).filter(|&at| row.k.is_some() && right[at].k == row.k).collect();
        match kind {
            JoinKind::Semi if partners.is_empty() => {}
            JoinKind::Anti if !partners.is_empty() => {}
            JoinKind::Semi | JoinKind::Anti => joined.push(Row { key: by_k(row), ..row.clone() }),
            JoinKind::LeftOuter | JoinKind::FullOuter if partners.is_empty() => joined.push(paired(Some(row), None)),
            _ => joined.extend(partners.iter().map(|&at| paired(Some(row), Some(right[at])))),
        }
        partners.into_iter().for_each(|at| met[at] = true);
    }
    if matches!(kind, JoinKind::RightOuter | JoinKind::FullOuter) {
        let alone = right.into_iter().zip(met).filter(|(_, met)| !met);
        joined.extend(alone.map(|(row, _)| paired(None, Some(row))));
    }
    joined
}

/// `k`, ten times the left `n` (0 without one) and the right one, the left `x`.
fn paired(left: Option<&Row>, right: Option<&Row>) -> Row {
    let n = |row: Option<&Row>| row.and_then(|row| row.n).unwrap_or(0);
    let k = left.or(right).and_then(|row| row.k.clone());
    let row = Row { k, n: Some(10 * n(left) + n(right)), x: left.and_then(|row| row.x), t: None, key: Vec::new() };
    Row { key: by_k(&row), ..row }
}

fn select(mut input: Rows, add: i64) -> Rows {
    for row in input.units_mut().flatten() {
        row.n = row.n.map(|n| n + add);
        row.x = row.x.map(|x| x * 0.5);
    }
    input
}

fn filter(mut input: Rows, condition: Condition) -> Rows {
    for unit in input.units_mut() {
        unit.retain(|row| match condition {
            Condition::NAbove(than) => row.n.is_some_and(|n| n > than),
            Condition::XBelow(than) => row.x.is_some_and(|x| x < than),
            Condition::NotA => row.k.as_ref().is_some_and(|k| k != "a"),
        });
    }
    input
}

/// Empty pieces at the end are left out, but a text without a space is a piece even if it is empty.
fn flat_map(input: &Rows) -> Rows {
    let words = |text: &str| {
        let mut words: Vec<String> = text.split(' ').map(str::to_string).collect();
        while text.contains(' ') && words.last().is_some_and(String::is_empty) {
            words.pop();
        }
        words
    };
    let rows = |row: &Row| {
        let words = row.t.as_deref().map_or(Vec::new(), words);
        let row = row.clone();
        words.into_iter().map(move |word| Row { k: Some(word), t: None, ..row.clone() })
    };
    let unit = |unit: &Vec<Row>| unit.iter().flat_map(rows).collect();
    let lanes = input.lanes.iter().map(|lane| lane.iter().map(unit).collect());
    Rows { columns: vec![Column::N, Column::X, Column::K], lanes: lanes.collect() }
}

/// Aggregates of `n` (a count without one) and `x`.
#[derive(Clone, Copy)]
struct Totals {
    n: Option<Aggregate>,
    x: Aggregate,
}

/// Adds up per unit, then over the units in their order; other columns are those of the first row.
fn totals(input: &Rows, key: impl Fn(&Row) -> Vec<u8>, of: Totals) -> BTreeMap<Vec<u8>, Row> {
    let mut merged = BTreeMap::new();
    for unit in input.units() {
        let mut partial = BTreeMap::new();
        for row in unit {
            let n = if of.n.is_some() { row.n } else { Some(1) };
            add(&mut partial, key(row), Row { n, ..row.clone() }, of);
        }
        for (key, row) in partial {
            add(&mut merged, key, row, of);
        }
    }
    merged
}

fn add(into: &mut BTreeMap<Vec<u8>, Row>, key: Vec<u8>, row: Row, of: Totals) {
    let Some(total) = into.get_mut(&key) else {
        into.insert(key, row);
        return;
    };
    total.n = of.n.unwrap_or(Aggregate::Sum).fold(total.n, row.n);
    total.x = of.x.fold(total.x, row.x);
}

fn update_state(
    update: &Update,
    state: &mut BTreeMap<Vec<u8>, Row>,
    touched: BTreeMap<Vec<u8>, Row>,
) -> BTreeMap<Vec<u8>, Row> {
    let mut updated: BTreeSet<Vec<u8>> = touched.keys().cloned().collect();
    if update.every_key {
        updated.extend(state.keys().cloned());
    }
    for key in updated {
        let (records, sum) = touched.get(&key).map_or((0, None), |row| (row.n.unwrap_or(0), row.x));
        let known = state.entry(key.clone()).or_insert_with(|| Row { k: touched[&key].k.clone(), ..Row::default() });
        known.n = Some(known.n.unwrap_or(0) + if update.count_calls { 1 } else { records });
        known.x = Some(known.x.unwrap_or(0.0) + sum.unwrap_or(0.0));
        if update.drop_over.is_some_and(|most| known.n > Some(most)) {
            state.remove(&key);
        }
    }
    let comes_out = |key: &Vec<u8>| update.emit_all || touched.contains_key(key);
    state.iter().filter(|(key, _)| comes_out(key)).map(|(key, row)| (key.clone(), row.clone())).collect()
}

fn by_k(row: &Row) -> Vec<u8> {
    let mut key = Vec::new();
    encode_text(row.k.as_deref(), true, &mut key);
    key
}

fn by_all(row: &Row, columns: &[Column]) -> Vec<u8> {
    let mut key = Vec::new();
    for (i, column) in columns.iter().enumerate() {
        let last = i + 1 == columns.len();
        match column {
            Column::K => encode_text(row.k.as_deref(), last, &mut key),
            Column::T => encode_text(row.t.as_deref(), last, &mut key),
            Column::N => encode_bits(row.n.map(|n| n as u64 ^ 1 << 63), &mut key),
            Column::X => encode_bits(row.x.map(ordered_bits), &mut key),
        }
    }
    key
}

fn ordered_bits(x: f64) -> u64 {
    let bits = x.to_bits();
    if x.is_sign_negative() { !bits } else { bits ^ 1 << 63 }
}

fn encode_bits(bits: Option<u64>, key: &mut Vec<u8>) {
    key.push(u8::from(bits.is_some()));
    key.extend(bits.into_iter().flat_map(u64::to_be_bytes));
}

/// Texts here hold no zero byte, so none has to be escaped.
fn encode_text(text: Option<&str>, last: bool, key: &mut Vec<u8>) {
    key.push(u8::from(text.is_some()));
    let Some(text) = text else { return };
    key.extend_from_slice(text.as_bytes());
    if !last {
        key.extend_from_slice(&[0, 0]);
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
