//! How far sources were read, in their own words: logged with each block, or alone where no record is behind a change. A receiver
//! that takes over gets what was logged with the last block before it.

use super::Cx;
use super::job::Job;
use super::wire::{position_changes, receiver_key};
use crate::record::{JobRecord, ReceiverKey};
use tidemill_common::ids::WorkerId;
use tidemill_proto::control::{self as pb, driver_message};

impl Job {
    pub(crate) fn on_positions_changed(&mut self, cx: &mut Cx<'_>, worker: WorkerId, message: pb::PositionsChanged) {
        let Some(key) = message.receiver.as_ref().map(receiver_key) else { return };
        let running_here = self.receivers.get(&key).is_some_and(|receiver| receiver.worker == Some(worker));
        let logged = self.durable.receivers.get(&key).cloned().unwrap_or_default();
        let changes = position_changes(message.changes).filter(|_| running_here && logged.epoch == message.epoch);
        let Some(changes) = changes else {
            self.count_fenced();
            return;
        };
        if message.offset != logged.next_offset {
            // It has lost what came before, or is not told yet what it has: the receiver says it again.
            self.ask_for_blocks(cx, key, worker, logged.next_offset);
            return;
        }
        // A driver may have logged it whose answer got lost; then it changes nothing.
        self.record(cx, JobRecord::Positions(key, changes));
        let (receiver, epoch, number) = (message.receiver, message.epoch, message.number);
        cx.send(worker, driver_message::Kind::PositionsLogged(pb::PositionsLogged { receiver, epoch, number }));
    }

    /// What a receiver that starts has to know.
    pub(crate) fn positions(&self, key: ReceiverKey) -> Vec<pb::Position> {
        let positions = self.durable.positions.get(&key);
        let position =
            |(name, position): (&str, &[u8])| pb::Position { name: name.into(), position: position.to_vec().into() };
        positions.into_iter().flat_map(|positions| positions.iter()).map(position).collect()
    }
}
