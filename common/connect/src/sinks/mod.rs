//! The sinks that come with Tidemill.

pub mod files;
#[cfg(feature = "http")]
pub mod http;

use crate::registry::Connectors;

/// All of them, in the order of the documentation. A new one is one line here.
pub(crate) fn register(connectors: &mut Connectors) {
    connectors.built_in_sink(files::Json);
    connectors.built_in_sink(files::Text);
    connectors.built_in_sink(files::Csv);
    connectors.built_in_sink(files::Parquet);
    connectors.built_in_sink(files::Object);
    #[cfg(feature = "http")]
    connectors.built_in_sink(http::Http);
}
