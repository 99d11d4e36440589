//! What the simulated jobs compute, on plain values: sums of floats that depend on the order of addition.
//!
//! Workers and oracle share [`Shape::run_unit`]; what the simulation proves is which units ran on which
//! input and which state, not the arithmetic.

use std::collections::BTreeMap;
use std::sync::Arc;
use tidemill_common::ids::OutputIdx;
use tidemill_driver::core::topology::Topology;
use tidemill_plan::{BatchContext, Placement};

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

impl Shape {
    /// The key group of a key.
    pub(crate) fn group(&self, key: u32) -> u32 {
        (key.wrapping_mul(0x9E37_79B9) >> 16) % self.topology.key_groups
    }

    /// Runs a unit; it brings nothing but state in a batch in which the stage does not fire.
    pub(crate) fn run_unit(&self, stage: usize, batch: &BatchContext, rows: &Rows, state: Option<&State>) -> Brought {
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
        let fires = self.topology.stages[stage].rhythm.fires(batch).is_some();
        for target in self.stages[stage].targets.iter().filter(|_| fires) {
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

    /// Which lane of an output a stage feeds.
    pub(crate) fn lane(&self, stage: usize, output: u32) -> u32 {
        let before = self.topology.stages[..stage].iter();
        before.filter(|stage| stage.outputs.contains(&OutputIdx(output))).count() as u32
    }

    /// The stage that feeds a lane of an output.
    pub(crate) fn of_lane(&self, output: u32, lane: u32) -> Option<usize> {
        let stages = self.topology.stages.iter().enumerate();
        let feeding = stages.filter(|(_, stage)| stage.outputs.contains(&OutputIdx(output)));
        feeding.map(|(number, _)| number).nth(lane as usize)
    }

    /// Whether rows of an output carry keys.
    pub(crate) fn keyed(&self, stage: usize) -> bool {
        self.topology.stages[stage].placement == Placement::KeyGroups
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
