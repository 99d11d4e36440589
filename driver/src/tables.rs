//! Looks at the files of tables, and tells the loop when one of them has another content.
//!
//! A file is looked at by its time and length (an object's tag is part of its time), and read when one of them is another; then it is checked here, off the
//! loop. After a start all are read once, so what has changed meanwhile is found.

use crate::ask::Loop;
use crate::core::{Event, WatchedTable};
use crate::record::TableContent;
use crate::shell::Input;
use crate::submit::MAX_ATTACHMENT_BYTES;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tidemill_common::ids::JobId;
use tidemill_plan::{content_hash, read_table};
use tidemill_store::Entry;
use tokio_util::sync::CancellationToken;

/// No file is looked at more often.
const BEAT: Duration = Duration::from_millis(100);

/// What the last look at a file has found.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    /// A content that can be used.
    Good(Entry, u64),
    /// One that cannot.
    Bad(Entry),
    /// No file, and why not.
    Nothing(String),
}

/// Looks until the driver stops.
pub(crate) async fn watch(driver: Loop, stop: CancellationToken) {
    let mut seen: HashMap<(JobId, u32), (Instant, Option<Seen>)> = HashMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(BEAT) => {}
        }
        let Ok(tables) = driver.ask(|answer| Input::Tables { answer }).await else { return };
        seen.retain(|key, _| tables.iter().any(|table| (table.job, table.table) == *key));
        for table in tables {
            let (job, number) = (table.job, table.table);
            let before = match seen.remove(&(job, number)) {
                Some((at, before)) if at.elapsed() < table.interval => {
                    seen.insert((job, number), (at, before));
                    continue;
                }
                before => before.and_then(|(_, before)| before),
            };
            // A look that panicked is taken again.
            let (now, found) = tokio::task::spawn_blocking(move || look(&table, before)).await.unwrap_or_default();
            seen.insert((job, number), (Instant::now(), now));
            let Some(found) = found else { continue };
            if driver.0.send(Input::Event(Event::Table { job, table: number, found })).await.is_err() {
                return;
            }
        }
    }
}

/// Looks at a file: what is there, and what is new about it.
fn look(table: &WatchedTable, before: Option<Seen>) -> (Option<Seen>, Option<Result<TableContent, String>>) {
    let stamp = match tidemill_store::stamp(&table.file) {
        Ok(stamp) => stamp,
        Err(error) => {
            let now = Some(Seen::Nothing(error.to_string()));
            let found = (now != before).then(|| Err(error.to_string()));
            return (now, found);
        }
    };
    match before {
        Some(Seen::Good(ref at, hash)) if *at == stamp && hash == table.hash && !table.wrong => return (before, None),
        Some(Seen::Bad(ref at)) if *at == stamp => return (before, None),
        _ => {}
    }
    let content = read(table);
    // One that is being written is looked at again.
    if tidemill_store::stamp(&table.file).ok().as_ref() != Some(&stamp) {
        return (None, None);
    }
    match content {
        Ok(content) => {
            let known = content.hash == table.hash && !table.wrong;
            (Some(Seen::Good(stamp, content.hash)), (!known).then_some(Ok(content)))
        }
        Err(wrong) => (Some(Seen::Bad(stamp)), Some(Err(wrong))),
    }
}

/// The content, if the table can be made of it.
fn read(table: &WatchedTable) -> Result<TableContent, String> {
    let bytes = tidemill_store::read(&table.file, MAX_ATTACHMENT_BYTES as u64).map_err(|error| error.to_string())?;
    let hash = content_hash(&bytes);
    if hash != table.hash {
        read_table(&table.def, bytes.clone()).map_err(|wrong| format!("{}: {wrong}", table.file))?;
    }
    Ok(TableContent { hash, bytes })
}
