//! What a definition says in vain: no mistakes, but hardly what was meant.

use super::{JobDef, Operator};
use std::collections::HashSet;
use tidemill_common::diag::{Diagnostic, Diagnostics};

/// Sources, streams and tables that nothing reads.
pub fn warnings(def: &JobDef) -> Diagnostics {
    let from_streams = def.streams.iter().flat_map(|stream| &stream.from);
    let from_outputs = def.outputs.iter().filter(|output| !output.of_model).map(|output| &output.from);
    let read: HashSet<&str> = from_streams.chain(from_outputs).map(|name| name.text.as_str()).collect();
    let mut found = Diagnostics::new();
    for source in &def.sources {
        let bad = source.bad_stream();
        let bad_is_read = bad.as_ref().is_some_and(|bad| read.contains(bad.text.as_str()));
        if !read.contains(source.name.text.as_str()) && !bad_is_read {
            let warning = format!(
                "nothing reads the source `{}`: its records are received and never looked at",
                source.name.text
            );
            found.push(Diagnostic::warning(warning).at(source.name.span.clone()));
        } else if let Some(bad) = bad.filter(|_| !bad_is_read) {
            let warning = format!("nothing reads `{}`: bad records are counted, and go nowhere", bad.text);
            found.push(Diagnostic::warning(warning).at(bad.span).help("add an `[[output]]` that reads it"));
        }
    }
    for stream in def.streams.iter().filter(|stream| !read.contains(stream.name.text.as_str())) {
        // A model is asked by its name, and a champion answers under one.
        if !matches!(stream.operator, Operator::Train(_) | Operator::Choose(_)) {
            let warning = format!("nothing reads the stream `{}`, so it is not computed", stream.name.text);
            found.push(Diagnostic::warning(warning).at(stream.name.span.clone()));
        }
    }
    for table in def.tables.iter().filter(|table| !read.contains(table.name.text.as_str())) {
        let warning = format!("nothing reads the table `{}`", table.name.text);
        found.push(Diagnostic::warning(warning).at(table.name.span.clone()));
    }
    found
}
