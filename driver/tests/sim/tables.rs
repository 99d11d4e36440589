//! Tables of the simulated jobs, whose files change. A content is a number, in text.
//!
//! Every job has two. Once there is a new content, its number is added to every value of every stage.

use crate::world::World;
use std::sync::Arc;
use std::time::Duration;
use tidemill_common::location::Location;
use tidemill_driver::core::Event;
use tidemill_driver::core::topology::TableShape;
use tidemill_driver::record::TableContent;
use tidemill_job::{FileContent, Format, Name, TableDef};

/// The tables of a job.
pub(crate) fn shapes() -> Vec<TableShape> {
    let shape = |name: &str| {
        let name = Name { text: name.to_string(), span: 0..0 };
        let (content, format) = (FileContent::Lines { header: false }, Format::Text);
        let def = TableDef { path: name.clone(), name, content, format, reload: None };
        let file = Location::Local(def.path.text.clone().into());
        TableShape { watched: Some((file, Duration::from_secs(1))), def: Arc::new(def) }
    };
    vec![shape("prices"), shape("names")]
}

/// The contents with which a job is submitted.
pub(crate) fn submitted() -> Vec<Vec<u8>> {
    shapes().iter().map(|_| b"0".to_vec()).collect()
}

/// The number that a content is.
pub(crate) fn value(bytes: &[u8]) -> f64 {
    std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).expect("a number")
}

impl World {
    /// Somebody has looked at the file of a table: it has changed, maybe back to what it was, or cannot be read.
    pub(crate) fn reload(&mut self) {
        let watched = self.driver.core.as_ref().map_or(Vec::new(), |core| core.watched_tables());
        if watched.is_empty() {
            return;
        }
        let table = &watched[self.net.pick(0..watched.len() as u64) as usize];
        let found = if self.net.chance(10) {
            Err("line 1: not a number".to_string())
        } else {
            let text = (self.net.pick(0..4) as f64 / 3.0).to_string();
            Ok(TableContent { hash: tidemill_plan::content_hash(text.as_bytes()), bytes: text.into() })
        };
        self.feed(Event::Table { job: table.job, table: table.table, found });
    }
}
