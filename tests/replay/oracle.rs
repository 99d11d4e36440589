//! A plain evaluator: one thread, ordinary maps, rows as structs. What it says is what `tidemill replay` has to print.
//!
//! It knows what the engine promises (`docs/architecture.md`): a batch is cut into blocks of 4 records; sums are
//! added up per unit first (a block, or a key group) and then in the order of units; keyed rows come by key.

mod window;

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
    Count,
    Reduce {
        n: Aggregate,
        x: Aggregate,
    },
    Update(Update),
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

/// How often each stream fires: every so many batches.
pub(crate) fn slides(streams: &[Stream]) -> Vec<i64> {
    let mut slides: Vec<i64> = Vec::new();
    for stream in streams {
        let input = stream.from.map_or(1, |from| slides[from]);
        slides.push(match stream.operator {
            Operator::Window(sliding) | Operator::ReduceByKeyAndWindow { sliding, .. } => sliding.slide * input,
            _ => input,
        });
    }
    slides
}

/// `update_state_by_key`: `n` counts records, or calls; `x` adds up.
#[derive(Debug, Clone)]
pub(crate) struct Update {
    pub(crate) every_key: bool,
    pub(crate) emit_all: bool,
    pub(crate) count_calls: bool,
    pub(crate) drop_over: Option<i64>,
}

/// A stream: what it reads (a stream, or the source) and its operator.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) from: Option<usize>,
    pub(crate) operator: Operator,
}

/// A job and its state.
pub(crate) struct Oracle<'a> {
    key_groups: u64,
    streams: &'a [Stream],
    states: Vec<BTreeMap<Vec<u8>, Row>>,
    panes: Vec<Panes>,
    slides: Vec<i64>,
    batch: i64,
}

/// The rows of a stream in one batch, unit by unit.
#[derive(Clone)]
struct Rows {
    columns: Vec<Column>,
    units: Vec<Vec<Row>>,
}

impl<'a> Oracle<'a> {
    pub(crate) fn new(key_groups: u64, streams: &'a [Stream]) -> Self {
        let panes = streams.iter().map(|_| Panes::default()).collect();
        let states = vec![BTreeMap::new(); streams.len()];
        Self { key_groups, streams, states, panes, slides: slides(streams), batch: 0 }
    }

    /// Runs a batch; gives back the JSON rows of every stream that fires.
    pub(crate) fn batch(&mut self, records: &[Record]) -> Vec<Option<Vec<String>>> {
        self.batch += 1;
        let units = records.chunks(BLOCK).map(|block| block.iter().flatten().cloned().collect()).collect();
        let source = Rows { columns: vec![Column::K, Column::N, Column::X, Column::T], units };
        let mut all: Vec<Option<Rows>> = Vec::new();
        for (number, stream) in self.streams.iter().enumerate() {
            let rows = match self.over_window(number, stream) {
                // Right over a window, some operators have a form of their own.
                Some((frame, from)) => {
                    let input = from.map_or(Some(&source), |from| all[from].as_ref()).cloned();
                    input.and_then(|input| self.folded(number, &stream.operator, frame, &input))
                }
                None => {
                    let input = stream.from.map_or(Some(&source), |from| all[from].as_ref()).cloned();
                    input.and_then(|input| self.stream(number, stream, input))
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
        match (&stream.operator, stream.from) {
            (Operator::ReduceByKeyAndWindow { sliding, .. }, from) => Some(frame(number, from, *sliding)),
            (Operator::ReduceByKey { .. } | Operator::Reduce { .. } | Operator::Count, Some(window)) => {
                let under = &self.streams[window];
                match under.operator {
                    Operator::Window(sliding) => Some(frame(window, under.from, sliding)),
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
    fn stream(&mut self, number: usize, stream: &Stream, input: Rows) -> Option<Rows> {
        if let Operator::Window(sliding) = stream.operator {
            let step = stream.from.map_or(1, |from| self.slides[from]);
            let frame = Frame { length: sliding.length * step, slide: self.slides[number], step };
            return self.panes[number].window(self.batch, frame, input);
        }
        Some(self.of_batch(number, &stream.operator, input))
    }

    fn of_batch(&mut self, number: usize, operator: &Operator, input: Rows) -> Rows {
        match operator {
            Operator::Window(_) | Operator::ReduceByKeyAndWindow { .. } => input,
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
            Operator::Count => {
                let count = input.units.iter().flatten().count() as i64;
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
        }
    }

    /// Puts rows into their key groups, each by key.
    fn keyed(&self, columns: Vec<Column>, rows: BTreeMap<Vec<u8>, Row>) -> Rows {
        let mut units = vec![Vec::new(); self.key_groups as usize];
        for (key, row) in rows {
            let group = XxHash3_64::oneshot_with_seed(SEED, &key) % self.key_groups;
            units[group as usize].push(Row { key, ..row });
        }
        Rows { columns, units }
    }
}

fn single(columns: Vec<Column>, row: Option<Row>) -> Rows {
    Rows { columns, units: vec![row.into_iter().collect()] }
}

/// Rows as they leave: keyed ones by key, others as they are.
fn output(rows: &Rows) -> Vec<String> {
    let mut all: Vec<&Row> = rows.units.iter().flatten().collect();
    all.sort_by(|a, b| a.key.cmp(&b.key));
    all.into_iter().map(|row| row.json(&rows.columns)).collect()
}

fn select(mut input: Rows, add: i64) -> Rows {
    for row in input.units.iter_mut().flatten() {
        row.n = row.n.map(|n| n + add);
        row.x = row.x.map(|x| x * 0.5);
    }
    input
}

fn filter(mut input: Rows, condition: Condition) -> Rows {
    for unit in &mut input.units {
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
    let units = input.units.iter().map(|unit| unit.iter().flat_map(rows).collect()).collect();
    Rows { columns: vec![Column::N, Column::X, Column::K], units }
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
    for unit in &input.units {
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
    let streams = [Stream { from: None, operator: Operator::ReduceByKey { n: None, x: Aggregate::Sum } }];
    let mut oracle = Oracle::new(4, &streams);
    let sum = |x: &str| vec![Some(vec![format!("{{\"k\":\"a\",\"n\":6,\"x\":{x}}}")])];
    assert_eq!(oracle.batch(&[row(1e16), row(1.0), row(-1e16), row(0.0), row(0.0), row(1.0)]), sum("1.0"));
    assert_eq!(oracle.batch(&[row(1e16), row(0.0), row(0.0), row(0.0), row(-1e16), row(1.0)]), sum("0.0"));
}
