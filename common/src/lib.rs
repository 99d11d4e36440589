//! What every part of Tidemill shares and that needs neither I/O nor a clock: ids, the job definition
//! with its diagnostics, sizes and durations as people write them.

pub mod definition;
pub mod diag;
pub mod frame;
#[cfg(any(test, feature = "testkit"))]
#[doc(hidden)]
pub mod fuzz;
pub mod ids;
pub mod location;
pub mod positions;
pub mod terminal;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
pub mod units;
