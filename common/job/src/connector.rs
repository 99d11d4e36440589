//! What a source is: how records get in, and how they are read.

use super::{Format, Name};
use serde::{Deserialize, Serialize};
use tidemill_connect::Source;
use tidemill_rows::records::Framing;

/// Where records come from.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceDef {
    /// The source's name.
    pub name: Name,
    /// How records get in.
    pub connector: Source,
    /// How a record is read.
    pub format: Format,
    /// What ends a record in what its receivers get.
    pub framing: Framing,
    /// What happens to a record that does not parse.
    pub on_bad_record: OnBadRecord,
    /// Most records per second that each of its receivers reads. Default none.
    pub max_rate: Option<u64>,
}

/// What happens to a record that does not parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnBadRecord {
    /// Count it, keep the first few as samples, go on.
    Skip {
        /// With more of them the job fails.
        at_most: Option<MaxBadRecords>,
    },
    /// Count it, and make a row of [`SourceDef::bad_stream`] of it.
    DeadLetter {
        /// With more of them the job fails.
        at_most: Option<MaxBadRecords>,
    },
    /// Fail the job.
    Fail,
}

impl SourceDef {
    /// The stream of its bad records, which others can read, if there is one.
    pub fn bad_stream(&self) -> Option<Name> {
        let kept = matches!(self.on_bad_record, OnBadRecord::DeadLetter { .. });
        kept.then(|| Name { text: bad_stream_of(&self.name.text), span: self.name.span.clone() })
    }
}

/// How the stream of the bad records of a source is called.
pub(super) fn bad_stream_of(source: &str) -> String {
    format!("{source}_bad")
}

impl OnBadRecord {
    /// Any number of them is left out.
    pub const SKIP: Self = Self::Skip { at_most: None };

    /// How many there may be.
    pub fn at_most(self) -> Option<MaxBadRecords> {
        match self {
            Self::Skip { at_most } | Self::DeadLetter { at_most } => at_most,
            Self::Fail => None,
        }
    }
}

/// How many records of a source may be bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MaxBadRecords {
    /// So many as long as the job runs.
    Count(u64),
    /// So many of a thousand.
    PerMille(u64),
}
