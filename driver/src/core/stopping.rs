//! Stopping a job: receivers drain, batches run at their ticks until nothing waits, then it ends.

use super::job::Job;
use super::wire::receiver_ref;
use super::{Cx, RequestId};
use crate::record::{Ending, ReceiverKey};
use tidemill_proto::control::{self as pb, driver_message};

/// A drain may take this many batch intervals.
const DEADLINE_INTERVALS: u64 = 10;
/// But is given at least this long, for the sake of very short intervals.
const DEADLINE_AT_LEAST_US: u64 = 5_000_000;

/// A stop that is under way.
#[derive(Debug)]
pub(crate) struct Stopping {
    pub(crate) requests: Vec<RequestId>,
    pub(crate) deadline_us: u64,
}

impl Job {
    pub(crate) fn stop(&mut self, cx: &mut Cx<'_>, request: RequestId, at_once: bool) {
        let interval_us = self.settings.batch_interval.as_micros() as u64;
        let deadline_us = cx.now.mono_us + (DEADLINE_INTERVALS * interval_us).max(DEADLINE_AT_LEAST_US);
        let first = self.stopping.is_none();
        let stopping = self.stopping.get_or_insert_with(|| Stopping { requests: Vec::new(), deadline_us });
        stopping.requests.push(request);
        self.receivers_due = true;
        if first {
            let running: Vec<ReceiverKey> = self.receivers.keys().copied().collect();
            for key in running {
                self.stop_receiver(cx, key, !at_once);
            }
        }
        if at_once {
            self.end(cx, self.ending_with("stopped without waiting"));
        }
    }

    pub(crate) fn stop_receiver(&mut self, cx: &mut Cx<'_>, key: ReceiverKey, drain: bool) {
        let Some(receiver) = self.receivers.get_mut(&key) else { return };
        if let Some(worker) = receiver.worker.filter(|_| !receiver.draining) {
            receiver.draining = true;
            let message = pb::StopReceiver { receiver: Some(receiver_ref(self.durable.id, key)), drain };
            cx.send(worker, driver_message::Kind::StopReceiver(message));
        }
    }

    pub(crate) fn advance_stopping(&mut self, cx: &mut Cx<'_>) {
        let Some(stopping) = &self.stopping else { return };
        let late = cx.now.mono_us >= stopping.deadline_us;
        let nothing_left = self.run.is_none() && self.durable.completed == self.durable.last_frozen;
        if nothing_left && self.is_drained() {
            self.end(cx, Ending::Stopped);
        } else if late {
            self.end(cx, self.ending_with("the drain did not finish in ten batch intervals"));
        }
    }

    /// Whether no receiver runs and all that was received is in a batch.
    pub(crate) fn is_drained(&self) -> bool {
        self.receivers.values().all(|receiver| receiver.worker.is_none())
            && self.durable.waiting.values().all(|queue| queue.is_empty())
    }

    fn ending_with(&self, what: &str) -> Ending {
        let waiting: u64 = self.durable.waiting.values().flatten().map(|block| block.records).sum();
        let frozen = self.durable.frozen.range(self.durable.completed.next()..);
        let in_batches: u64 = frozen.flat_map(|(_, frozen)| &frozen.blocks).map(|block| block.records).sum();
        let reading = self.receivers.values().filter(|receiver| receiver.worker.is_some()).count();
        Ending::StoppedIncomplete(format!(
            "{what}: {waiting} received records were in no batch yet, {in_batches} were in a batch that was not complete, {reading} receivers were still draining"
        ))
    }
}
