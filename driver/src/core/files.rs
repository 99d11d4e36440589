//! Sources that watch a directory: which file is read next is in the log before it is read, so that a receiver that
//! takes over reads the same files in the same order, and none twice.

use super::Cx;
use super::job::Job;
use super::wire::receiver_key;
use crate::record::{FileChoice, JobRecord, ReceiverKey, SourceFile};
use tidemill_common::ids::WorkerId;
use tidemill_proto::control::{self as pb, driver_message};

impl Job {
    pub(crate) fn on_choose_files(&mut self, cx: &mut Cx<'_>, worker: WorkerId, message: pb::ChooseFiles) {
        let Some(key) = message.receiver.as_ref().map(receiver_key) else { return };
        let running_here = self.receivers.get(&key).is_some_and(|receiver| receiver.worker == Some(worker));
        let current = self.durable.receivers.get(&key).is_some_and(|logged| logged.epoch == message.epoch);
        if !running_here || !current {
            self.counters.fenced += 1;
            return;
        }
        let (receiver, number) = (message.receiver, message.number);
        let choice = FileChoice {
            file: message.file.map(|file| (from_wire(file), message.first_offset)),
            skipped: message.skipped.into_iter().map(from_wire).collect(),
            gone: message.gone,
        };
        // It may have been logged by a driver whose answer got lost.
        if !self.durable.files.get(&key).is_some_and(|files| files.has(&choice)) {
            self.record(cx, JobRecord::Files(key, choice));
        }
        let answer = pb::FilesChosen { receiver, epoch: message.epoch, number };
        cx.send(worker, driver_message::Kind::FilesChosen(answer));
    }

    /// What a receiver that starts has to know.
    pub(crate) fn source_files(&self, key: ReceiverKey) -> Option<pb::SourceFiles> {
        let files = self.durable.files.get(&key)?;
        let known = files.known.iter().map(|(name, (size, modified_ns))| pb::SourceFile {
            name: name.clone(),
            size: *size,
            modified_ns: *modified_ns,
        });
        let open = files.open.iter().map(|(file, first_offset)| {
            let SourceFile { name, size, modified_ns } = file.clone();
            pb::OpenFile { file: Some(pb::SourceFile { name, size, modified_ns }), first_offset: *first_offset }
        });
        Some(pb::SourceFiles { started: true, known: known.collect(), open: open.collect() })
    }
}

fn from_wire(file: pb::SourceFile) -> SourceFile {
    let pb::SourceFile { name, size, modified_ns } = file;
    SourceFile { name, size, modified_ns }
}
