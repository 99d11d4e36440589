//! `batch_map`: a registered function over all rows of a unit.

use super::Compiler;
use super::stages::{Lane, Part};
use crate::exec::OverExec;
use crate::registry::FunctionKind;
use tidemill_common::diag::Diagnostic;
use tidemill_job::Name;

impl Compiler<'_> {
    /// `batch_map`. What comes out has no key any more; per key group, the order of its rows is that of the groups.
    pub(super) fn batch_map(&mut self, input: Lane, function: &Name) -> Option<Lane> {
        self.registered(FunctionKind::BatchMap, function)?;
        let found = self.functions.find_batch_map(&function.text)?.clone();
        let rows = self.checked(input.visible())?;
        let plan = self.checked(OverExec::try_new(rows, found))?;
        let part = Part::Branch { keyed: false };
        Some(Lane { plan, part, ..input })
    }

    /// Notes that a function is used; none, with a mistake, if nobody registered it.
    pub(super) fn registered(&mut self, kind: FunctionKind, function: &Name) -> Option<()> {
        let known = self.functions.known().find(|known| known.kind == kind && known.name == function.text);
        let known = self.reported(known.ok_or_else(|| self.unknown(kind, function)))?;
        self.uses.add(known);
        Some(())
    }

    fn unknown(&self, kind: FunctionKind, function: &Name) -> Diagnostic {
        let wrong = Diagnostic::new(format!("there is no {} function called `{}`", kind.name(), function.text));
        let wrong = wrong.at(function.span.clone()).label("unknown");
        let names: Vec<_> = self.functions.names(kind).collect();
        if names.is_empty() {
            return wrong.help("functions in Rust are known to the program that registers them; use that one");
        }
        wrong.did_you_mean(&function.text, names)
    }
}
