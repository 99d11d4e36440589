//! The connectors that a process knows.

use crate::source::{AnyConnector, Description, Records, Source, SourceConnector};
use crate::sources;
use std::fmt;
use std::sync::Arc;
use tidemill_common::definition::{Reader, Table};

/// All connectors that a process knows. Cheap to clone; by default those that come with Tidemill.
#[derive(Clone)]
pub struct Connectors {
    sources: Vec<Arc<dyn AnyConnector>>,
}

/// Why a connector was not registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The name is not lower-case letters, digits and `_`, or begins with a digit.
    #[error("`{0}` is not a name for a connector: lower-case letters, digits and `_`, not beginning with a digit")]
    Name(&'static str),
    /// A connector of that name is there already.
    #[error("there are two connectors called `{0}`")]
    Twice(&'static str),
}

impl Default for Connectors {
    fn default() -> Self {
        let mut connectors = Self { sources: Vec::new() };
        sources::register(&mut connectors);
        connectors
    }
}

impl fmt::Debug for Connectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.sources().map(|source| source.name)).finish()
    }
}

impl Connectors {
    /// Registers a kind of source.
    ///
    /// # Errors
    /// When its name cannot be used.
    pub fn source<C: SourceConnector>(&mut self, connector: C) -> Result<(), RegisterError> {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if C::NAME.is_empty() || !C::NAME.chars().all(good) || C::NAME.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(RegisterError::Name(C::NAME));
        }
        if self.sources().any(|source| source.name == C::NAME) {
            return Err(RegisterError::Twice(C::NAME));
        }
        self.built_in(connector);
        Ok(())
    }

    pub(crate) fn built_in<C: SourceConnector>(&mut self, connector: C) {
        self.sources.push(Arc::new(connector));
    }

    /// What there is to say of the kinds of sources, in their order.
    pub fn sources(&self) -> impl Iterator<Item = Description> {
        self.sources.iter().map(|connector| connector.description())
    }

    /// Reads what a definition says of a source of this kind; none after noting what is wrong.
    pub fn read_source<'t>(
        &self,
        name: &str,
        r: &mut Reader<'t>,
        table: &Table<'t>,
        records: &Records,
    ) -> Option<Source> {
        let connector = self.sources.iter().find(|connector| connector.description().name == name)?;
        Source::read(connector, r, table, records)
    }
}
