//! The connectors that a process knows.

use crate::sink::{AnySinkConnector, Sink, SinkConnector};
use crate::source::{AnyConnector, Description, Records, Source, SourceConnector};
use crate::{sinks, sources};
use std::fmt;
use std::sync::Arc;
use tidemill_common::definition::{Key, Reader, Table, Value};

/// All connectors that a process knows. Cheap to clone; by default those that come with Tidemill.
#[derive(Clone)]
pub struct Connectors {
    sources: Vec<Arc<dyn AnyConnector>>,
    sinks: Vec<Arc<dyn AnySinkConnector>>,
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
        let mut connectors = Self { sources: Vec::new(), sinks: Vec::new() };
        sources::register(&mut connectors);
        sinks::register(&mut connectors);
        connectors
    }
}

impl fmt::Debug for Connectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sinks = self.sinks().map(|key| key[0].name);
        f.debug_list().entries(self.sources().map(|source| source.name)).entries(sinks).finish()
    }
}

impl Connectors {
    /// Registers a kind of source.
    ///
    /// # Errors
    /// When its name cannot be used.
    pub fn source<C: SourceConnector>(&mut self, connector: C) -> Result<(), RegisterError> {
        check_name(C::NAME)?;
        if self.sources().any(|source| source.name == C::NAME) {
            return Err(RegisterError::Twice(C::NAME));
        }
        self.built_in(connector);
        Ok(())
    }

    pub(crate) fn built_in<C: SourceConnector>(&mut self, connector: C) {
        self.sources.push(Arc::new(connector));
    }

    /// Registers a kind of sink. `taken` are other keys of an output.
    ///
    /// # Errors
    /// When its key cannot be used.
    pub fn sink<C: SinkConnector>(&mut self, connector: C, taken: &[&'static [Key]]) -> Result<(), RegisterError> {
        let name = C::KEY[0].name;
        check_name(name)?;
        let sinks = self.sinks().flatten();
        if taken.iter().copied().flatten().chain(sinks).any(|key| key.name == name) {
            return Err(RegisterError::Twice(name));
        }
        self.built_in_sink(connector);
        Ok(())
    }

    pub(crate) fn built_in_sink<C: SinkConnector>(&mut self, connector: C) {
        self.sinks.push(Arc::new(connector));
    }

    /// The keys of `[[output]]` that name a kind of sink, in their order.
    pub fn sinks(&self) -> impl Iterator<Item = &'static [Key; 1]> {
        self.sinks.iter().map(|connector| connector.key())
    }

    /// Reads what a definition says of a sink of this kind; none after noting what is wrong.
    pub fn read_sink<'t>(&self, name: &str, r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Sink> {
        self.sinks.iter().find(|connector| connector.key()[0].name == name)?.read(r, value)
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

fn check_name(name: &'static str) -> Result<(), RegisterError> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.is_empty() || !name.chars().all(good) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(RegisterError::Name(name));
    }
    Ok(())
}
