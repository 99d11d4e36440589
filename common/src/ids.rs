//! Newtype ids. None of them carries meaning beyond identity and order.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A submitted job, numbered by the driver from 1. Never reused.
    JobId(u64)
);
id!(
    /// A worker's registration with the driver; a worker that comes back gets a new one. Never reused, so it is its own epoch.
    WorkerId(u64)
);
id!(
    /// A batch of a job, counted from 1. Version *n* of a state is the state after batch *n*; 0 is the initial state.
    BatchId(u64)
);
id!(
    /// Position of a source in the job definition, from 0.
    SourceIdx(u32)
);
id!(
    /// Position of an output in the job definition, from 0.
    OutputIdx(u32)
);
id!(
    /// A stage of a compiled job, in topological order from 0.
    StageId(u32)
);
id!(
    /// An exchange between two stages of a compiled job, from 0.
    ExchangeId(u32)
);
id!(
    /// A share of the key space, `0..key_groups`; part of the job's state format for ever.
    KeyGroup(u32)
);
id!(
    /// One attempt to run some units of a stage; unique within a driver term.
    TaskId(u64)
);
id!(
    /// A start of the driver: raised in the log every time.
    Term(u64)
);

impl BatchId {
    /// The batch after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The batch before this one; batch 0 (the initial state) is its own predecessor.
    pub fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}
