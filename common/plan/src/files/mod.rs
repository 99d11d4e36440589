//! Rows on their way into files, in two steps: a task encodes its rows, each for itself, into a *part*
//! ([`write_part`]); the driver merges the parts of a batch into one order ([`merge`]) and writes files of the
//! output's format ([`RowWriter`]). So the files hold no trace of how many tasks there were (INV-1).

mod encoding;
mod parts;
mod writer;

pub use encoding::RowEncoding;
pub use parts::{PartRow, merge, read_part, write_part};
pub use writer::RowWriter;

use std::path::{Path, PathBuf};
use tidemill_common::location::Location;
use tidemill_job::{FilePlace, FileSink, Roll};

/// A file output of a compiled job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOutput {
    /// Where its files are.
    pub place: FilePlace,
    /// What relative paths are relative to.
    pub base_dir: PathBuf,
    /// One set of files for all batches.
    pub roll: Option<Roll>,
    /// How its rows are written.
    pub encoding: RowEncoding,
}

impl FileOutput {
    /// The output of these columns that `sink` describes.
    pub fn new(sink: &FileSink, schema: crate::arrow::datatypes::SchemaRef, base_dir: &Path) -> Self {
        Self {
            place: sink.place.clone(),
            base_dir: base_dir.to_path_buf(),
            roll: sink.roll,
            encoding: RowEncoding::new(sink.format.clone(), schema).compressed(sink.compression),
        }
    }

    /// What no other output may have.
    pub fn root(&self) -> Location {
        self.place.root(&self.base_dir)
    }

    /// The directory that holds all that is written.
    pub fn folder(&self) -> Location {
        self.place.folder(&self.base_dir)
    }
}
