//! Files that appear in a directory, on a file system or in an object store, each read once.
//!
//! What makes it once is the position of each file (`progress.rs`), which is logged with the records: read, or open since
//! some record. A receiver that starts again first reads on in the file that is open, then takes what is new. Names are
//! compared, not times, so a file that becomes visible late is not lost.

mod list;
mod progress;
mod read;
#[cfg(test)]
mod tests;
mod watch;

pub use list::{Directory, FileEntry};
pub use progress::{LOOKED_AT, Progress, Stamp};

use crate::delivery::Delivery;
use crate::intake::Intake;
use crate::receiver::ReceiverError;
use crate::source::{Context, Ended, Payload, Records, SourceConfig, SourceConnector};
use read::Content;
use std::time::Duration;
use tidemill_common::definition::{FileContent, FormatKind, Key, Name, Reader, Shape, Table, only_for};
use tidemill_common::diag::Diagnostic;
use tidemill_common::location::Location;
use watch::Watched;

/// Files that may be known at once; each costs memory here and in the driver.
const MAX_FILES: usize = 100_000;

/// Files that appear in a directory.
#[derive(Debug)]
pub struct Files;

/// What a definition says of a watched directory.
#[derive(Debug, Clone, PartialEq)]
pub struct FilesConfig {
    /// The directory, relative to the job file.
    pub path: String,
    /// Which names count: `*` is any text, `?` any character. Default `*`.
    pub pattern: String,
    /// Whether files that are there when it is first looked at are left out. Default false.
    pub new_files_only: bool,
    /// How often it is looked at. Default 1 s.
    pub poll_interval: Duration,
    /// What is in the files.
    pub content: FileContent,
}

impl SourceConfig for FilesConfig {
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }
}

impl SourceConnector for Files {
    type Config = FilesConfig;

    const NAME: &'static str = "files";
    const DOC: &'static str = "Files that appear in a directory, each read once, by modification time and name.";
    const KEYS: &'static [Key] = &[
        Key::new("path", Shape::Text, "A directory, relative to the job file, or its URL in an object store.")
            .required(),
        Key::new("pattern", Shape::Text, "Names that count, with * and ?. Default: all."),
        Key::new("new_files_only", Shape::Flag, "Whether files that are there at first are left out. Default false."),
        Key::new("poll_interval", Shape::Duration, "How often the directory is looked at. Default 1s."),
        Key::new("header", Shape::Flag, "Whether csv files begin with a line of names. Default false."),
    ];
    const PAYLOAD: Payload = Payload::Files;

    fn read<'t>(r: &mut Reader<'t>, table: &Table<'t>, records: &Records) -> Option<FilesConfig> {
        let path = table.get("path").and_then(|v| r.location(v, "a directory"));
        let pattern = match table.get("pattern") {
            Some(value) => r.text(value).filter(|pattern| check_pattern(r, pattern)).map(|pattern| pattern.text),
            None => Some("*".to_owned()),
        };
        let new_files_only = r.flag(table, "new_files_only");
        let poll_interval = match table.get("poll_interval") {
            Some(value) => r.duration(value),
            None => Some(Duration::from_secs(1)),
        };
        let header = r.flag(table, "header");
        if records.format.is_some_and(|format| format != FormatKind::Csv) {
            only_for(r, table, "header", "format = \"csv\"");
        }
        let content = match records.format? {
            FormatKind::Parquet => FileContent::Parquet,
            _ => FileContent::Lines { header: header? },
        };
        Some(FilesConfig {
            path: path?.text,
            pattern: pattern?,
            new_files_only: new_files_only?,
            poll_interval: poll_interval?,
            content,
        })
    }

    async fn run(config: &FilesConfig, context: Context, intake: &mut Intake) -> Result<Ended, ReceiverError> {
        let watched = Watched {
            directory: Location::resolve(&context.base_dir, &config.path).into(),
            pattern: config.pattern.clone(),
            new_files_only: config.new_files_only,
            poll_interval: config.poll_interval,
            max_files: MAX_FILES,
            content: match config.content {
                FileContent::Lines { header } => Content::Lines { header },
                FileContent::Parquet => Content::Parquet(context.schema),
            },
        };
        watch::run(intake, watched).await?;
        Ok(Ended::Stopped)
    }
}

fn check_pattern(r: &mut Reader<'_>, pattern: &Name) -> bool {
    let good = !pattern.text.is_empty() && !pattern.text.contains('/');
    if !good {
        let wrong = Diagnostic::new(format!("`{}` is not a pattern of file names", pattern.text));
        r.push(wrong.at(pattern.span.clone()).label("expected a name without `/`, with `*` and `?`"));
    }
    good
}
