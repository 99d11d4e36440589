//! Readers of libraries that panic over some bytes that make no sense.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a reader gives; `None` if it panics. It must not be used again then.
pub fn caught<T>(read: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(read)).ok()
}
