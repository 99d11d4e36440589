//! What a seed stands for: machines, jobs, faults.

use crate::compute::Shape;
use crate::net::Net;
use crate::shapes::{SHAPES, Sizes};
use std::time::Duration;
use tidemill_job::{Backpressure, Durability, OnUnderReplicated, Settings};

/// How bad it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing happens.
    Calm,
    /// Only what a job must survive: every block keeps a holder.
    Survivable,
    /// Anything.
    Brutal,
}

/// A job.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) shape: Shape,
    pub(crate) settings: Settings,
    /// Most records of a block.
    pub(crate) block_records: u64,
    /// Where sources end.
    pub(crate) limit: Option<u64>,
}

impl Spec {
    pub(crate) fn durable(&self) -> bool {
        self.settings.durability == Durability::Disk
    }
}

/// Habits of the workers.
#[derive(Debug, Default)]
pub(crate) struct Knobs {
    /// Tasks of a thousand that fail out of the blue.
    pub(crate) task_failures: u64,
    /// Block intervals of a hundred in which a receiver fails.
    pub(crate) receiver_failures: u32,
    /// Keyed rows of a task come as one, under the order tag of its first unit.
    pub(crate) merged_rows: bool,
    /// The longest that a worker takes to make the plan of a job.
    pub(crate) preparing_us: u64,
}

/// A whole run.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) mode: Mode,
    pub(crate) machines: usize,
    pub(crate) refuser: Option<usize>,
    pub(crate) specs: Vec<Spec>,
    pub(crate) knobs: Knobs,
    /// Faults happen up to this time, in microseconds.
    pub(crate) faults_until: u64,
    /// Mean time between faults.
    pub(crate) fault_every: u64,
    /// A stop in the midst of it all.
    pub(crate) early_stop: Option<(u64, bool)>,
}

impl Scenario {
    pub(crate) fn new(net: &mut Net) -> Self {
        let mode = match net.pick(0..10) {
            0 => Mode::Calm,
            1..7 => Mode::Survivable,
            _ => Mode::Brutal,
        };
        let machines = net.pick(1..6) as usize;
        let jobs = if net.chance(15) { 2 } else { 1 };
        let faulty = mode != Mode::Calm;
        let specs = (0..jobs).map(|_| spec(net, mode)).collect();
        let knobs = Knobs {
            task_failures: if faulty { [0, 0, 8, 50][net.pick(0..4) as usize] } else { 0 },
            receiver_failures: if faulty { [0, 0, 1, 6][net.pick(0..4) as usize] } else { 0 },
            merged_rows: net.chance(70),
            preparing_us: one_of(net, &[1_000, 1_000, 20_000, 150_000]),
        };
        Self {
            mode,
            machines,
            refuser: (machines > 1 && net.chance(6)).then(|| net.pick(0..machines as u64) as usize),
            specs,
            knobs,
            faults_until: net.pick(1_000_000..3_500_000),
            fault_every: net.pick(60_000..700_000),
            early_stop: net.chance(12).then(|| (net.pick(600_000..3_000_000), net.chance(25))),
        }
    }
}

fn one_of(net: &mut Net, choices: &[u64]) -> u64 {
    choices[net.pick(0..choices.len() as u64) as usize]
}

fn spec(net: &mut Net, mode: Mode) -> Spec {
    let batch_ms = one_of(net, &[50, 100, 100, 200, 400]);
    let key_groups = net.pick(1..7) as u32;
    // A single copy of the state with blocks on disk: every loss of a worker leads back to a checkpoint.
    let durability = if net.chance(35) { Durability::Disk } else { Durability::Replicated };
    let copies: &[u64] = if durability == Durability::Disk { &[1, 1, 2] } else { &[1, 2, 2, 2, 3] };
    let replication = one_of(net, copies) as u32;
    let settings = Settings {
        batch_interval: Duration::from_millis(batch_ms),
        block_interval: Duration::from_millis((batch_ms / 2).max(40)),
        block_bytes: 1 << 20,
        replication,
        durability,
        on_under_replicated: match net.pick(0..10) {
            0..3 => OnUnderReplicated::Pause,
            3 if mode != Mode::Survivable => OnUnderReplicated::Fail,
            _ => OnUnderReplicated::Continue,
        },
        key_groups,
        checkpoint_interval: Duration::from_millis(one_of(net, &[100, 400, 1_500, 4_000])),
        cut_at_records: net.chance(15).then_some(12),
        cut_at_bytes: net.chance(10).then_some(150),
        max_batch_bytes: one_of(net, &[1_000, 1 << 30, 1 << 30]),
        max_task_failures: 20,
        backpressure: net.chance(30).then(Backpressure::default),
    };
    let (shape, receivers, limit) = (net.pick(0..u64::from(SHAPES)), net.pick(1..4) as u32, net.pick(1..12) as u32);
    let slide_ms = batch_ms as i64 * net.pick(2..5) as i64;
    Spec {
        shape: Shape::new(shape as u32, &Sizes { key_groups, receivers, limit, slide_ms }),
        settings,
        block_records: net.pick(1..9),
        limit: net.chance(20).then(|| net.pick(1..60)),
    }
}
