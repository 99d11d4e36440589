//! The acknowledged line protocol, as text: see `docs/line-protocol.md`.

use std::fmt;
use std::str::FromStr;

/// No line of the conversation (as opposed to the stream's lines) is longer, in bytes, newline included.
pub const MAX_CONTROL_LINE: usize = 64;

/// What the receiver says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FromReceiver {
    /// First: index of the next line it wants; all before it are held.
    Resume(u64),
    /// All lines before this index are held.
    Held(u64),
}

/// What the sender says before its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FromSender {
    /// Lines follow, from this index on.
    From(u64),
    /// The wanted line is not to be had; the nearest one that is.
    Gap(u64),
}

/// A line that is not part of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a line of the protocol TIDEMILL 1")]
pub struct NotProtocol;

impl fmt::Display for FromReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resume(offset) => write!(f, "TIDEMILL 1 RESUME {offset}"),
            Self::Held(offset) => write!(f, "HELD {offset}"),
        }
    }
}

impl fmt::Display for FromSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(offset) => write!(f, "TIDEMILL 1 FROM {offset}"),
            Self::Gap(offset) => write!(f, "TIDEMILL 1 GAP {offset}"),
        }
    }
}

impl FromStr for FromReceiver {
    type Err = NotProtocol;

    fn from_str(line: &str) -> Result<Self, NotProtocol> {
        let words: Vec<&str> = line.trim_end().split(' ').collect();
        match words[..] {
            ["TIDEMILL", "1", "RESUME", offset] => Ok(Self::Resume(number(offset)?)),
            ["HELD", offset] => Ok(Self::Held(number(offset)?)),
            _ => Err(NotProtocol),
        }
    }
}

impl FromStr for FromSender {
    type Err = NotProtocol;

    fn from_str(line: &str) -> Result<Self, NotProtocol> {
        let words: Vec<&str> = line.trim_end().split(' ').collect();
        match words[..] {
            ["TIDEMILL", "1", "FROM", offset] => Ok(Self::From(number(offset)?)),
            ["TIDEMILL", "1", "GAP", offset] => Ok(Self::Gap(number(offset)?)),
            _ => Err(NotProtocol),
        }
    }
}

fn number(text: &str) -> Result<u64, NotProtocol> {
    text.parse().map_err(|_| NotProtocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_written() {
        for line in [FromReceiver::Resume(0), FromReceiver::Held(u64::MAX)] {
            assert!(line.to_string().len() < MAX_CONTROL_LINE);
            assert_eq!(format!("{line}\r\n").parse(), Ok(line));
        }
        for line in [FromSender::From(7), FromSender::Gap(u64::MAX)] {
            assert!(line.to_string().len() < MAX_CONTROL_LINE);
            assert_eq!(format!("{line}\n").parse(), Ok(line));
        }
        assert_eq!("James,iPad Cover,7.49".parse::<FromSender>(), Err(NotProtocol));
        assert_eq!("TIDEMILL 2 FROM 7".parse::<FromSender>(), Err(NotProtocol));
        assert_eq!("HELD many".parse::<FromReceiver>(), Err(NotProtocol));
    }
}
