//! What connectors promise.

use std::fmt;

/// How often a record or a row arrives, whatever fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Once. A source goes back to where the log is; a sink is not changed by a batch that is committed again.
    ExactlyOnce,
    /// Once or more, each time the same. A sink that remembers [markers](crate::Commit::marker) has it once.
    AtLeastOnce,
    /// Once, or not at all: what a source had read and nothing had logged is lost with its receiver.
    AtMostOnce,
    /// Once, as long as the other side keeps what it was not told to be held, and goes back to it.
    Acknowledged,
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ExactlyOnce => "exactly once",
            Self::AtLeastOnce => "at least once",
            Self::AtMostOnce => "at most once",
            Self::Acknowledged => "exactly once, if the sender goes back",
        })
    }
}
