//! What the system says of this process, under the names that all programs use.

use crate::{Gauge, metric};

metric! {
    static RESIDENT: Gauge = Gauge::new(
        "process_resident_memory_bytes",
        "Resident memory of the process; 0 where the system does not tell.",
    );
}

/// Resident memory of this process, in bytes; 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

pub(crate) fn look() {
    RESIDENT.set(resident_bytes() as f64);
}
