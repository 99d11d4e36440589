//! What is in tables: how a file is read, and which of several contents a batch sees.
//!
//! A table is planned with the content it was submitted with. When its file changes, the rows of later batches are put
//! beside the plan, each with the batch from which on they are there; a run takes those of its own batch. So the same
//! prepared plan runs over every content, and a batch that runs again sees what it saw.

use crate::decode::{SourcePlan, arrow_type};
use crate::error::PlanError;
use bytes::Bytes;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tidemill_common::ids::BatchId;
use tidemill_job::{FileContent, Format, JobDef, OnBadRecord, TableDef};
use tidemill_rows::decompressed;
use tidemill_rows::records::{self, Framing};
use tidemill_rows::{ParquetRows, parquet_rows};
use twox_hash::XxHash3_64;

/// Bytes of a decompressed file at most.
const MAX_LINES: u64 = 256 << 20;

/// Tells a content from others.
pub fn content_hash(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// The columns that a table declares.
pub(crate) fn table_schema(table: &TableDef) -> SchemaRef {
    let columns = match &table.format {
        Format::Csv { columns, .. } | Format::Json { columns } => &columns[..],
        Format::Text => &[],
    };
    let fields = columns.iter().map(|c| Field::new(&c.name.text, arrow_type(c.data_type), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The rows of a table whose file has this content.
///
/// # Errors
/// What is wrong with the content, and in which line.
pub fn read_table(table: &TableDef, bytes: Bytes) -> Result<Vec<RecordBatch>, String> {
    let schema = table_schema(table);
    let header = match table.content {
        FileContent::Parquet => return parquet_table(bytes, &schema),
        FileContent::Lines { header } => header,
    };
    let framing = match table.format {
        Format::Csv { delimiter, .. } => Framing::Csv { delimiter },
        Format::Json { .. } | Format::Text => Framing::Lines,
    };
    let block = records::block_of(&lines_of(&table.path.text, &bytes)?, framing);
    let rows = if header { records::split_first(&block).1 } else { &block };
    let name = &table.name.text;
    let source = SourcePlan::from_parts(name, table.format.clone(), schema.as_ref().clone(), OnBadRecord::Fail);
    let decoded = source.decode(rows).map_err(|error| error.to_string())?;
    match decoded.bad.samples.first() {
        Some(bad) => {
            let line = records::line_of(&block, bad.line + u64::from(header));
            Err(format!("line {line}: {}", bad.reason))
        }
        None => Ok(decoded.batches),
    }
}

/// What is in a file of lines, which may be compressed.
fn lines_of(name: &str, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut lines = Vec::new();
    let read = decompressed(name, bytes).and_then(|file| file.take(MAX_LINES + 1).read_to_end(&mut lines));
    match read {
        Ok(read) if read as u64 > MAX_LINES => {
            Err(format!("more than {} MiB when it is decompressed", MAX_LINES >> 20))
        }
        Ok(_) => Ok(lines),
        Err(error) => Err(error.to_string()),
    }
}

fn parquet_table(bytes: Bytes, schema: &SchemaRef) -> Result<Vec<RecordBatch>, String> {
    let (mut batches, mut before) = (Vec::new(), 0);
    for rows in parquet_rows(bytes, schema)? {
        let ParquetRows { rows, bad } = rows?;
        if let Some(bad) = bad.first() {
            return Err(format!("row {}: {}", before + bad.row + 1, bad.reason));
        }
        before += rows.num_rows();
        batches.push(rows);
    }
    Ok(batches)
}

/// Contents that tables have got since their job was submitted.
pub struct Tables {
    def: Arc<JobDef>,
    /// By table and the first batch that sees it.
    contents: Mutex<BTreeMap<(usize, BatchId), Arc<Content>>>,
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").finish_non_exhaustive()
    }
}

impl Tables {
    pub(crate) fn new(def: Arc<JobDef>) -> Self {
        Self { def, contents: Mutex::default() }
    }

    /// The table has this content from a batch on. It is read when it is first needed.
    pub fn put(&self, table: usize, since: BatchId, bytes: Bytes) {
        let content = Content { def: self.def.clone(), table, bytes: Mutex::new(bytes), rows: OnceLock::new() };
        self.locked().insert((table, since), Arc::new(content));
    }

    /// Batches up to this one never run again: what only they have seen goes.
    pub fn settle(&self, through: BatchId) {
        let mut contents = self.locked();
        let settled: BTreeMap<usize, BatchId> = contents.keys().filter(|(_, at)| *at <= through).copied().collect();
        contents.retain(|(table, at), _| settled.get(table).is_none_or(|last| at >= last));
    }

    /// Since which batch the table has the content that a batch sees; 0 for the one it was submitted with.
    pub fn since(&self, table: usize, batch: BatchId) -> BatchId {
        let contents = self.locked();
        contents.range((table, BatchId(0))..=(table, batch)).next_back().map_or(BatchId(0), |((_, since), _)| *since)
    }

    /// What a batch sees.
    pub(crate) fn at(&self, batch: BatchId) -> TablesAt {
        let contents = self.locked();
        let until = contents.iter().filter(|((_, since), _)| *since <= batch);
        TablesAt(until.map(|((table, _), content)| (*table, content.clone())).collect())
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<(usize, BatchId), Arc<Content>>> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A content, and its rows once somebody has read it.
struct Content {
    def: Arc<JobDef>,
    table: usize,
    /// Given up for the rows.
    bytes: Mutex<Bytes>,
    rows: OnceLock<Result<Arc<Vec<RecordBatch>>, String>>,
}

impl Content {
    fn rows(&self) -> Result<Arc<Vec<RecordBatch>>, PlanError> {
        let read = self.rows.get_or_init(|| {
            let bytes = std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner));
            let table = self.def.tables.get(self.table).ok_or("the job has no such table")?;
            read_table(table, bytes).map(Arc::new)
        });
        // Whoever has sent it has read it before.
        read.clone().map_err(|wrong| PlanError::Internal(format!("new content of table {}: {wrong}", self.table)))
    }
}

/// What tables have in the batch of a run, by number, if it is not what they were planned with. An extension of the session
/// configuration of that run.
pub(crate) struct TablesAt(BTreeMap<usize, Arc<Content>>);

impl TablesAt {
    /// The rows of a table; none if they are as planned.
    pub(crate) fn rows(&self, table: usize) -> Result<Option<Arc<Vec<RecordBatch>>>, PlanError> {
        self.0.get(&table).map(|content| content.rows()).transpose()
    }
}
