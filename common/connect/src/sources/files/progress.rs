//! The position of a file: what a receiver that starts again has to know of it.

use super::list::FileEntry;

/// The position under this name, which no file has, says that the directory was looked at.
pub const LOOKED_AT: &str = ".";

/// Layout of a position: version, 0 for read or 1 for open, size, time, and the offset if it is open; numbers have 8 bytes,
/// the lowest first.
const VERSION: u8 = 1;
const READ: u8 = 0;
const OPEN: u8 = 1;

/// By what a file is told from others of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// When it was changed last, in nanoseconds since 1970.
    pub modified_ns: i64,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It was read to its end, or is not to be read.
    Read(Stamp),
    /// Not all of its records may have come in.
    Open {
        /// The file.
        stamp: Stamp,
        /// Offset of its first record.
        first_offset: u64,
    },
}

impl From<&FileEntry> for Stamp {
    fn from(file: &FileEntry) -> Self {
        Self { size: file.size, modified_ns: file.modified_ns }
    }
}

impl Progress {
    /// The file as it was.
    pub fn stamp(&self) -> Stamp {
        match self {
            Self::Read(stamp) | Self::Open { stamp, .. } => *stamp,
        }
    }

    /// As a position.
    pub fn to_bytes(self) -> Vec<u8> {
        let Stamp { size, modified_ns } = self.stamp();
        let mut bytes = vec![VERSION, if matches!(self, Self::Open { .. }) { OPEN } else { READ }];
        bytes.extend(size.to_le_bytes());
        bytes.extend(modified_ns.to_le_bytes());
        if let Self::Open { first_offset, .. } = self {
            bytes.extend(first_offset.to_le_bytes());
        }
        bytes
    }

    /// From a position; none if it is none of this version.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let stamp = Stamp { size: number(2)?, modified_ns: number(10)?.cast_signed() };
        match (bytes.first_chunk()?, bytes.len()) {
            ([VERSION, READ], 18) => Some(Self::Read(stamp)),
            ([VERSION, OPEN], 26) => Some(Self::Open { stamp, first_offset: number(18)? }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_as_it_was_written_and_nothing_else_does() {
        let stamp = Stamp { size: 7 << 40, modified_ns: -3 };
        for progress in [Progress::Read(stamp), Progress::Open { stamp, first_offset: u64::MAX }] {
            let bytes = progress.to_bytes();
            assert_eq!(Progress::from_bytes(&bytes), Some(progress));
            assert!((0..bytes.len()).all(|length| Progress::from_bytes(&bytes[..length]).is_none()));
            assert_eq!(Progress::from_bytes(&[&bytes[..], &[0]].concat()), None);
            assert_eq!(Progress::from_bytes(&[&[2], &bytes[1..]].concat()), None);
        }
    }
}
