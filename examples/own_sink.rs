//! A kind of sink of one's own, which job definitions name as a key of `[[output]]`:
//!
//! ```text
//! cargo run --example own_sink -- local examples/jobs/own_sink.toml --batches 5
//! ```

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use tidemill::connect::definition::{Key, Reader, Shape, Value};
use tidemill::connect::rows::{RowError, arrow::array::RecordBatch, rows_to_json};
use tidemill::connect::{Commit, CommitError, Delivery, SinkConfig, SinkConnector};

/// All rows in one file. Behind each batch stands its marker, so that a batch which comes again is known.
struct Ledger;

/// What a definition says of it.
#[derive(Debug, Clone, PartialEq)]
struct LedgerConfig {
    path: String,
}

const KEYS: &[Key] = &[Key::new("path", Shape::Text, "The file.").required()];

impl SinkConnector for Ledger {
    type Config = LedgerConfig;

    const KEY: &'static [Key; 1] = &[Key::new("ledger", Shape::Table(KEYS), "Appends rows to a file, exactly once.")];
    const DELIVERY: Delivery = Delivery::ExactlyOnce;

    fn read<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<LedgerConfig> {
        let table = r.table(value, "`ledger`", value.span(), &[KEYS])?;
        let path = table.get("path").and_then(|value| r.text(value));
        Some(LedgerConfig { path: path?.text })
    }
}

impl SinkConfig for LedgerConfig {
    fn encode(&self, rows: &RecordBatch) -> Result<Vec<Vec<u8>>, RowError> {
        Ok(rows_to_json(rows)?.into_iter().map(String::into_bytes).collect())
    }

    fn place(&self) -> Option<&str> {
        Some(&self.path)
    }

    async fn commit(&self, commit: Arc<Commit>) -> Result<(), CommitError> {
        let path = commit.base_dir.join(&self.path);
        let written = tokio::task::spawn_blocking(move || {
            append(&path, &commit).map_err(|error| CommitError::passing(format!("{}: {error}", path.display())))
        });
        written.await.map_err(CommitError::lasting)?
    }
}

fn append(path: &Path, commit: &Commit) -> io::Result<()> {
    let marker = format!("# {}\n", commit.marker()).into_bytes();
    let before = fs::read(path).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(Vec::new()),
        _ => Err(error),
    })?;
    let lines = || before.split_inclusive(|byte| *byte == b'\n');
    if lines().any(|line| line == marker) {
        return Ok(());
    }
    let mut rows = Vec::new();
    for row in commit.rows(Path::new(""))? {
        rows.extend(row?);
        rows.push(b'\n');
    }
    rows.extend(marker);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = File::options().create(true).truncate(false).write(true).open(path)?;
    // What stands behind the last marker was cut short by a crash.
    let (mut end, mut whole) = (0, 0);
    for line in lines() {
        end += line.len() as u64;
        if line.starts_with(b"# ") && line.ends_with(b"\n") {
            whole = end;
        }
    }
    file.set_len(whole)?;
    file.seek(SeekFrom::Start(whole))?;
    file.write_all(&rows)?;
    if commit.sync { file.sync_all() } else { Ok(()) }
}

fn main() -> std::process::ExitCode {
    tidemill::app().sink(Ledger).run()
}
