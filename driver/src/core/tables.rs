//! Tables that follow their files: a new content is logged, told to the workers, and seen from the next batch on.
//!
//! As with imported models, every worker is told the content before any task that needs it, and kept is what batches that
//! may run again have seen ([`record`](crate::record)).

use super::job::Job;
use super::run::BatchRun;
use super::{Core, Cx};
use crate::record::{JobRecord, TableContent};
use crate::submit::MAX_ATTACHMENT_BYTES;
use std::sync::Arc;
use std::time::Duration;
use tidemill_common::ids::{BatchId, JobId, WorkerId};
use tidemill_common::location::Location;
use tidemill_job::TableDef;
use tidemill_plan::content_hash;
use tidemill_proto::client as client_pb;
use tidemill_proto::control::{self as pb, driver_message};

/// Bytes of new contents of tables that a job may need at once.
const RELOADED_BYTES: usize = 64 << 20;

/// The file of a table of a running job.
#[derive(Debug, Clone)]
pub struct WatchedTable {
    /// The job.
    pub job: JobId,
    /// The table, by its position among those of the job.
    pub table: u32,
    /// How it is read.
    pub def: Arc<TableDef>,
    /// The file.
    pub file: Location,
    /// How often it is looked at.
    pub interval: Duration,
    /// The content that the job has.
    pub hash: u64,
    /// Whether the last look has found something wrong.
    pub wrong: bool,
}

/// What is known of a table beside the log.
#[derive(Debug)]
pub(crate) struct TableState {
    /// The content it was submitted with.
    submitted: u64,
    /// Its length in bytes.
    submitted_bytes: usize,
    /// What is wrong with its file; empty for nothing.
    wrong: String,
}

impl TableState {
    /// Of the tables of a job: the last ones of its files.
    pub(crate) fn of_job(tables: usize, attachments: &[Vec<u8>]) -> Vec<Self> {
        let files = &attachments[attachments.len().saturating_sub(tables)..];
        let state =
            |file: &Vec<u8>| Self { submitted: content_hash(file), submitted_bytes: file.len(), wrong: String::new() };
        files.iter().map(state).collect()
    }
}

impl Core {
    /// The files to look at.
    pub fn watched_tables(&self) -> Vec<WatchedTable> {
        self.jobs.values().flat_map(Job::watched_tables).collect()
    }
}

impl Job {
    fn watched_tables(&self) -> impl Iterator<Item = WatchedTable> {
        self.topology.tables.iter().zip(&self.tables).enumerate().filter_map(|(number, (shape, state))| {
            let (file, interval) = shape.watched.clone()?;
            let (job, table, def) = (self.durable.id, number as u32, shape.def.clone());
            let hash = self.durable.newest_content(table).map_or(state.submitted, |content| content.hash);
            Some(WatchedTable { job, table, def, file, interval, hash, wrong: !state.wrong.is_empty() })
        })
    }

    /// Somebody has looked at the file of a table, and found another content or something wrong.
    pub(crate) fn on_table(&mut self, cx: &mut Cx<'_>, table: u32, found: Result<TableContent, String>) {
        let found = found.and_then(|content| self.has_room(table, content));
        let Some(state) = self.tables.get_mut(table as usize) else { return };
        match found {
            Ok(content) => {
                state.wrong.clear();
                let known = self.durable.newest_content(table).map_or(state.submitted, |content| content.hash);
                if content.hash != known {
                    self.record(cx, JobRecord::Reloaded { table, content });
                }
            }
            Err(wrong) => {
                tracing::warn!(job = self.durable.id.0, table, wrong, "a table keeps its content");
                state.wrong = wrong;
            }
        }
    }

    /// The content, if there is room for it beside all others.
    fn has_room(&self, table: u32, content: TableContent) -> Result<TableContent, String> {
        let size = |(number, state): (usize, &TableState)| match number as u32 {
            same if same == table => content.bytes.len(),
            other => self.durable.newest_content(other).map_or(state.submitted_bytes, |content| content.bytes.len()),
        };
        let other_files = self.durable.attachments.len().saturating_sub(self.tables.len());
        let other_files: usize = self.durable.attachments.iter().take(other_files).map(Vec::len).sum();
        let all = other_files + self.tables.iter().enumerate().map(size).sum::<usize>();
        if all > MAX_ATTACHMENT_BYTES {
            return Err(format!("the files of the job have {all} bytes now; at most 32 MiB are taken"));
        }
        if self.durable.reloaded_bytes() + content.bytes.len() > RELOADED_BYTES {
            return Err(
                "contents that batches may need again have 64 MiB already; it is taken after a checkpoint".into()
            );
        }
        Ok(content)
    }

    /// Tells everyone the contents that take effect with a batch that was just frozen.
    pub(crate) fn tell_tables(&self, cx: &mut Cx<'_>, batch: BatchId) {
        for message in self.table_messages().filter(|message| message.batch == batch.0) {
            cx.send_all(&driver_message::Kind::ReloadedTable(message));
        }
    }

    /// Tells a worker that joins all that tasks may need.
    pub(crate) fn tell_all_tables(&self, cx: &mut Cx<'_>, worker: WorkerId) {
        for message in self.table_messages() {
            cx.send(worker, driver_message::Kind::ReloadedTable(message));
        }
    }

    fn table_messages(&self) -> impl Iterator<Item = pb::ReloadedTable> {
        self.durable.reloaded().map(|(table, batch, content)| pb::ReloadedTable {
            job: self.durable.id.0,
            table,
            batch: batch.0,
            bytes: content.bytes.clone(),
        })
    }

    /// What a batch sees of the tables that are no more as they were submitted.
    pub(crate) fn tables_at(&self, run: &BatchRun) -> Vec<pb::TableAt> {
        let at = |table| Some(pb::TableAt { table, since: self.durable.reloaded_at(table, run.batch)?.0 });
        (0..self.tables.len() as u32).filter_map(at).collect()
    }

    pub(crate) fn table_status(&self) -> Vec<client_pb::TableStatus> {
        let status = |(number, (shape, state)): (usize, (&super::topology::TableShape, &TableState))| {
            let since = self.durable.reloaded_at(number as u32, self.durable.last_frozen).unwrap_or_default();
            let (name, wrong) = (shape.def.name.text.clone(), state.wrong.clone());
            client_pb::TableStatus { name, since: since.0, wrong }
        };
        self.topology.tables.iter().zip(&self.tables).enumerate().map(status).collect()
    }
}
