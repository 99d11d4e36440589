//! What the simulated jobs compute, on plain values: sums of floats that depend on the order of addition.
//!
//! Workers and oracle share [`Shape::run_unit`]; what the simulation proves is which units ran on which
//! input and which state, not the arithmetic.

use crate::models;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tidemill_common::ids::{ExchangeId, OutputIdx, SourceIdx};
use tidemill_common::job::{FileFormat, FilePlace, FileSink};
use tidemill_driver::core::topology::{OutputKind, OutputShape, SourceShape, StageShape, Topology};
use tidemill_plan::arrow::datatypes::Schema;
use tidemill_plan::{FileOutput, Placement, Rhythm};

/// Keys with a value each.
pub(crate) type Rows = Vec<(u32, f64)>;
/// State of a key group at a stage.
pub(crate) type State = BTreeMap<u32, f64>;

/// Distinct keys of the sources.
const KEYS: u64 = 13;

/// What a stage does with its rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Op {
    /// Sum per key, in order of arrival.
    Sum,
    /// Adds to the state of the key; all keys come out.
    Running,
    /// One row: the number of rows and their sum.
    Total,
}

/// Where rows of a stage go.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// By key, after the key was taken modulo the number.
    Hash(u32, u32),
    /// All to one unit.
    Gather(u32),
    Output(u32),
}

/// One stage: its operation and its branches.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub(crate) op: Op,
    pub(crate) targets: Vec<Target>,
}

/// A job's shape, for the driver and for those who compute.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) topology: Arc<Topology>,
    pub(crate) stages: Vec<Stage>,
}

/// What a unit brings.
#[derive(Debug, Default)]
pub(crate) struct Brought {
    pub(crate) state: Option<State>,
    /// Per exchange, the rows of every key group (of a gather: one share).
    pub(crate) pieces: BTreeMap<u32, Vec<Rows>>,
    pub(crate) outputs: BTreeMap<u32, Rows>,
}

/// Shapes there are.
pub(crate) const SHAPES: u32 = 7;

impl Shape {
    /// One of [`SHAPES`] shapes.
    pub(crate) fn new(number: u32, key_groups: u32, receivers: u32, limit: u32) -> Self {
        use Op::{Running, Sum, Total};
        use Placement::{KeyGroups, Single};
        use Target::{Gather, Hash, Output};
        let rows = |limit| OutputKind::Rows { limit };
        let sink = FileSink { place: FilePlace::Directory("out".into()), format: FileFormat::Json, roll: None };
        let files = || OutputKind::Files(FileOutput::new(&sink, Arc::new(Schema::empty()), Path::new("")));
        let mut build = Builder { stages: Vec::new(), shapes: Vec::new() };
        let outputs =
            match number {
                // Rows and files straight from the splits.
                0 => {
                    build.source(0, vec![Output(0), Output(1)]);
                    vec![rows(Some(limit)), files()]
                }
                // A sum per key and batch.
                1 => {
                    build.source(0, vec![Hash(0, 100)]).stage(KeyGroups, &[0], Sum, vec![Output(0)]);
                    vec![rows(None)]
                }
                // Running sums, and their sum.
                2 => {
                    build
                        .source(0, vec![Hash(0, 100)])
                        .stage(KeyGroups, &[0], Running, vec![Output(0), Gather(1)])
                        .stage(Single, &[1], Total, vec![Output(1)]);
                    vec![rows(Some(limit)), rows(None)]
                }
                // Two stages with state, by different keys.
                3 => {
                    build
                        .source(0, vec![Hash(0, 100)])
                        .stage(KeyGroups, &[0], Running, vec![Output(0), Hash(1, 5)])
                        .stage(KeyGroups, &[1], Running, vec![Output(1)]);
                    vec![files(), rows(None)]
                }
                // A count.
                4 => {
                    build.source(0, vec![Gather(0)]).stage(Single, &[0], Total, vec![Output(0)]);
                    vec![rows(None)]
                }
                // Two sources, two states beside each other, joined by a third stage.
                5 => {
                    build
                        .source(0, vec![Hash(0, 100)])
                        .source(1, vec![Hash(1, 100), Hash(4, 7)])
                        .stage(KeyGroups, &[0, 4], Running, vec![Hash(2, 100)])
                        .stage(KeyGroups, &[1], Running, vec![Hash(3, 100), Output(0)])
                        .stage(KeyGroups, &[2, 3], Sum, vec![Output(1)]);
                    vec![files(), rows(None)]
                }
                // A chain of stateless exchanges with state at the end.
                _ => {
                    build
                        .source(0, vec![Hash(0, 100)])
                        .stage(KeyGroups, &[0], Sum, vec![Hash(1, 6)])
                        .stage(KeyGroups, &[1], Sum, vec![Hash(2, 4), Output(0)])
                        .stage(KeyGroups, &[2], Running, vec![Output(1)]);
                    vec![files(), files()]
                }
            };
        build.finish(key_groups, receivers, outputs)
    }

    /// The key group of a key.
    pub(crate) fn group(&self, key: u32) -> u32 {
        (key.wrapping_mul(0x9E37_79B9) >> 16) % self.topology.key_groups
    }

    /// Runs a unit.
    pub(crate) fn run_unit(&self, stage: usize, rows: &Rows, state: Option<&State>) -> Brought {
        let mut brought = Brought::default();
        let mut sums = State::new();
        let out: Rows = match self.stages[stage].op {
            Op::Sum => {
                rows.iter().for_each(|(key, value)| *sums.entry(*key).or_default() += value);
                sums.into_iter().collect()
            }
            Op::Running => {
                let mut state = state.cloned().unwrap_or_default();
                rows.iter().for_each(|(key, value)| *state.entry(*key).or_default() += value);
                let rows = state.iter().map(|(key, value)| (*key, *value)).collect();
                brought.state = Some(state);
                rows
            }
            Op::Total => vec![(rows.len() as u32, rows.iter().map(|(_, value)| value).sum())],
        };
        for target in &self.stages[stage].targets {
            match target {
                Target::Output(output) => {
                    brought.outputs.insert(*output, out.clone());
                }
                Target::Gather(exchange) => {
                    brought.pieces.insert(*exchange, vec![out.clone()]);
                }
                Target::Hash(exchange, modulus) => {
                    let mut shares = vec![Rows::new(); self.topology.key_groups as usize];
                    for (key, value) in &out {
                        let key = key % modulus;
                        shares[self.group(key) as usize].push((key, *value));
                    }
                    brought.pieces.insert(*exchange, shares);
                }
            }
        }
        brought
    }

    /// The share of a piece that a unit reads.
    pub(crate) fn share(&self, stage: usize, piece: &[Rows], group: u32) -> Rows {
        let number = if self.topology.stages[stage].placement == Placement::Single { 0 } else { group as usize };
        piece.get(number).cloned().unwrap_or_default()
    }

    /// Stages that keep state.
    pub(crate) fn stateful(&self) -> impl Iterator<Item = u32> + '_ {
        let stages = self.topology.stages.iter().enumerate();
        stages.filter(|(_, stage)| stage.stateful).map(|(number, _)| number as u32)
    }

    /// Whether rows of an output carry keys.
    pub(crate) fn keyed(&self, stage: usize) -> bool {
        self.topology.stages[stage].placement == Placement::KeyGroups
    }
}

struct Builder {
    stages: Vec<Stage>,
    shapes: Vec<StageShape>,
}

impl Builder {
    fn source(&mut self, source: u32, targets: Vec<Target>) -> &mut Self {
        self.push(Placement::Splits, Some(SourceIdx(source)), &[], Op::Sum, targets)
    }

    fn stage(&mut self, placement: Placement, inputs: &[u32], op: Op, targets: Vec<Target>) -> &mut Self {
        self.push(placement, None, inputs, op, targets)
    }

    fn push(
        &mut self,
        placement: Placement,
        source: Option<SourceIdx>,
        inputs: &[u32],
        op: Op,
        targets: Vec<Target>,
    ) -> &mut Self {
        let output = |target: &Target| match target {
            Target::Output(output) => Some(OutputIdx(*output)),
            _ => None,
        };
        self.shapes.push(StageShape {
            placement,
            source,
            inputs: inputs.iter().map(|exchange| ExchangeId(*exchange)).collect(),
            stateful: op == Op::Running,
            input: Rhythm::EveryBatch,
            rhythm: Rhythm::EveryBatch,
            consumers: Vec::new(),
            outputs: targets.iter().filter_map(output).collect(),
            models: if self.shapes.is_empty() { models::asked() } else { Vec::new() },
        });
        self.stages.push(Stage { op, targets });
        self
    }

    fn finish(mut self, key_groups: u32, receivers: u32, outputs: Vec<OutputKind>) -> Shape {
        let exchange = |target: &Target| match target {
            Target::Hash(exchange, _) | Target::Gather(exchange) => Some(*exchange as usize),
            Target::Output(_) => None,
        };
        let mut exchange_from = BTreeMap::new();
        for (number, stage) in self.stages.iter().enumerate() {
            for exchange in stage.targets.iter().filter_map(exchange) {
                exchange_from.insert(exchange, number);
            }
        }
        for consumer in 0..self.shapes.len() {
            for exchange in self.shapes[consumer].inputs.clone() {
                let consumers = &mut self.shapes[exchange_from[&(exchange.0 as usize)]].consumers;
                if !consumers.contains(&consumer) {
                    consumers.push(consumer);
                }
            }
        }
        let sources = self.shapes.iter().filter_map(|stage| stage.source);
        let sources = sources
            .map(|source| SourceShape { name: format!("s{source}"), receivers, one_block_per_batch: false })
            .collect();
        let output = |(number, kind)| OutputShape { name: format!("o{number}"), kind, rhythm: Rhythm::EveryBatch };
        let topology = Topology {
            tables: Vec::new(),
            models: models::shapes(models::home(self.stages.iter().map(|stage| stage.op))),
            exchange_from: exchange_from.into_values().collect(),
            key_groups,
            sources,
            outputs: outputs.into_iter().enumerate().map(output).collect(),
            stages: self.shapes,
        };
        Shape { topology: Arc::new(topology), stages: self.stages }
    }
}

/// A record of a source; `None` for one that does not parse.
pub(crate) fn record(source: u32, receiver: u32, offset: u64) -> Option<(u32, f64)> {
    let mut x = offset ^ (u64::from(source) << 40) ^ (u64::from(receiver) << 32) ^ 0x5DEE_CE66;
    for _ in 0..3 {
        x = (x ^ (x >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    }
    x ^= x >> 29;
    let key = (x % KEYS) as u32;
    match (x >> 8) % 16 {
        0 => None,
        1 | 2 => Some((key, 1e16)),
        3 | 4 => Some((key, -1e16)),
        _ => Some((key, ((x >> 20) % 1000) as f64 / 7.0)),
    }
}

/// The rows of a block, and how many of its records do not parse.
pub(crate) fn block_rows(source: u32, receiver: u32, first_offset: u64, records: u64) -> (Rows, u64) {
    let rows: Rows =
        (first_offset..first_offset + records).filter_map(|offset| record(source, receiver, offset)).collect();
    let bad = records - rows.len() as u64;
    (rows, bad)
}

/// A row as it is shown: bit by bit.
pub(crate) fn show(row: &(u32, f64)) -> String {
    format!("{}:{:016x}", row.0, row.1.to_bits())
}
