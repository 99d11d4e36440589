//! Simulated time and messages: a queue of events, with random delays that keep the order of each channel.

use crate::links::Entry;
use crate::machine::Timer;
use crate::receiving::Block;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::cmp::Ordering;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::ops::Range;
use tidemill_common::ids::{BatchId, JobId};
use tidemill_driver::core::{Commit, SessionId};
use tidemill_proto::control::{self as pb, driver_message, worker_message};

/// A process: where it runs, and which start of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Proc {
    pub(crate) slot: usize,
    pub(crate) start: u32,
}

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Ev {
    DriverTick { term: u64 },
    DriverStart,
    DriverGoesOn { term: u64 },
    ToDriver { term: u64, session: SessionId, what: FromWorker },
    ToWorker { proc: Proc, session: SessionId, what: FromDriver },
    Committed { term: u64, job: JobId, batch: BatchId, outputs: Vec<Commit>, ok: bool },
    Timer { proc: Proc, timer: Timer },
    Peer { from: Proc, from_id: u64, to_id: u64, message: PeerMessage },
    PeerReply { to: Proc, reply: PeerReply },
    MachineStart { slot: usize },
    MachineGoesOn { slot: usize },
    Heal { pair: (usize, usize) },
    Fault,
    Kill { slot: usize },
    Destroy { slot: usize },
    Script,
}

#[expect(clippy::large_enum_variant, reason = "nearly all of them are messages")]
#[derive(Debug)]
pub(crate) enum FromWorker {
    Hello(Box<pb::Hello>),
    Says(worker_message::Kind),
    Gone,
}

#[derive(Debug)]
pub(crate) enum FromDriver {
    Says(driver_message::Kind),
    Gone,
}

/// A request between workers.
#[derive(Debug)]
pub(crate) enum PeerMessage {
    PutBlock { job: u64, block: Block },
    Follow { job: u64, request: u64, entries: Vec<Entry> },
}

/// Its answer.
#[derive(Debug)]
pub(crate) enum PeerReply {
    PutBlock { job: u64, block: Block, peer: u64, ok: bool },
    Follow { job: u64, peer: u64, request: u64, result: FollowResult },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum FollowResult {
    Ok,
    StateVersion,
    NotNow,
}

/// What keeps its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Channel {
    Up(SessionId),
    Down(SessionId),
}

struct Queued {
    at: u64,
    number: u64,
    ev: Ev,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// Time, chance, and what is under way.
pub(crate) struct Net {
    /// Microseconds since the start.
    pub(crate) now: u64,
    pub(crate) rng: SmallRng,
    pub(crate) delay: Range<u64>,
    /// Machines that cannot reach each other.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    queue: BinaryHeap<Queued>,
    number: u64,
    last: HashMap<Channel, u64>,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: 0,
            rng: SmallRng::seed_from_u64(seed),
            delay: 50..2_000,
            cut: BTreeSet::new(),
            queue: BinaryHeap::new(),
            number: 0,
            last: HashMap::new(),
        }
    }

    /// Chance, in percent.
    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    pub(crate) fn pick(&mut self, range: Range<u64>) -> u64 {
        self.rng.random_range(range)
    }

    fn travel(&mut self) -> u64 {
        let delay = self.pick(self.delay.clone());
        if self.chance(1) { delay * 20 } else { delay }
    }

    pub(crate) fn at(&mut self, at: u64, ev: Ev) {
        self.number += 1;
        self.queue.push(Queued { at: at.max(self.now), number: self.number, ev });
    }

    pub(crate) fn after(&mut self, delay: u64, ev: Ev) {
        self.at(self.now + delay, ev);
    }

    pub(crate) fn timer(&mut self, proc: Proc, delay: u64, timer: Timer) {
        self.after(delay, Ev::Timer { proc, timer });
    }

    fn in_order(&mut self, channel: Channel, ev: Ev) {
        let at = (self.now + self.travel()).max(self.last.get(&channel).copied().unwrap_or(0));
        self.last.insert(channel, at);
        self.at(at, ev);
    }

    pub(crate) fn send_to_driver(&mut self, term: u64, session: SessionId, what: FromWorker) {
        self.in_order(Channel::Up(session), Ev::ToDriver { term, session, what });
    }

    pub(crate) fn send_to_worker(&mut self, proc: Proc, session: SessionId, what: FromDriver) {
        self.in_order(Channel::Down(session), Ev::ToWorker { proc, session, what });
    }

    pub(crate) fn peer(&mut self, from: Proc, from_id: u64, to_id: u64, message: PeerMessage) {
        let delay = self.travel();
        self.after(delay, Ev::Peer { from, from_id, to_id, message });
    }

    pub(crate) fn reply(&mut self, to: Proc, reply: PeerReply) {
        let delay = self.travel();
        self.after(delay, Ev::PeerReply { to, reply });
    }

    /// Takes the next event, up to a time.
    pub(crate) fn next(&mut self, until: u64) -> Option<Ev> {
        if self.queue.peek().is_none_or(|queued| queued.at > until) {
            self.now = self.now.max(until);
            return None;
        }
        let Queued { at, ev, .. } = self.queue.pop()?;
        self.now = at;
        Some(ev)
    }
}
