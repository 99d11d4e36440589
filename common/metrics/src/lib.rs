//! Metrics: each is one `static`, declared with [`metric!`](crate::metric!) beside the code that counts.
//!
//! ```
//! use tidemill_metrics::{Counter, Family, metric};
//!
//! metric! {
//!     static BLOCKS_SEALED: Counter = Counter::new("doc_blocks_sealed_total", "Blocks that receivers have sealed.");
//!     static REFUSALS: Family<Counter, 1> = Counter::new("doc_refusals_total", "Requests refused.").by(["reason"]);
//! }
//!
//! BLOCKS_SEALED.add(1);
//! REFUSALS.of(["fenced"]).add(1);
//! let page = tidemill_metrics::page(|_| true);
//! assert!(page.contains("\ndoc_blocks_sealed_total 1\n"));
//! assert!(page.contains("\ndoc_refusals_total{reason=\"fenced\"} 1\n"));
//! ```
//!
//! The linker gathers the statics ([`linkme`]): no list is kept by hand, nothing runs before `main`, and a metric is on the
//! [page] from the start, whether it was touched or not. A value is an atomic: to count decides nothing and reads no
//! clock, so code that has to be deterministic may count.

mod family;
mod metric;
pub mod process;
mod text;

#[doc(hidden)]
pub use linkme;

pub use family::{Family, MAX_SETS, OTHER};
pub use metric::{Cell, Counter, Gauge, Histogram, Kind, MAX_BOUNDS, Metric, SECONDS};
pub use text::{CONTENT_TYPE, page};

/// A metric that was declared, and where.
#[derive(Clone, Copy)]
pub struct Entry {
    /// The static.
    pub metric: &'static dyn Metric,
    /// The module it is declared in, such as `tidemill_worker::tasks`.
    pub module: &'static str,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("metric", &self.metric.name()).field("module", &self.module).finish()
    }
}

/// What the linker has gathered.
#[doc(hidden)]
#[linkme::distributed_slice]
pub static ENTRIES: [Entry];

/// All metrics of this program, by name.
pub fn all() -> Vec<Entry> {
    let mut all = ENTRIES.to_vec();
    all.sort_by_key(|entry| entry.metric.name());
    all
}

/// Declares metrics: statics of type [`Counter`], [`Gauge`], [`Histogram`], or a [`Family`] of these by labels.
#[macro_export]
macro_rules! metric {
    ($($(#[$attribute:meta])* $visibility:vis static $name:ident: $kind:ty = $value:expr;)+) => {
        $(
            $(#[$attribute])*
            $visibility static $name: $kind = $value;
            // The entry is put where the linker gathers it, which counts as unsafe; it is a plain reference.
            #[allow(unsafe_code)]
            const _: () = {
                #[$crate::linkme::distributed_slice($crate::ENTRIES)]
                #[linkme(crate = $crate::linkme)]
                static ENTRY: $crate::Entry = $crate::Entry { metric: &$name, module: module_path!() };
            };
        )+
    };
}
