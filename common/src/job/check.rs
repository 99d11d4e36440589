//! What a definition says across its tables: who reads whom, and which names are taken.

use super::reader::Reader;
use super::{Name, OutputDef, Sink, SourceDef, StreamDef};
use crate::diag::Diagnostic;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// A source, stream or output that may have mistakes of its own; what is known of it is still checked.
pub(super) struct Draft<T> {
    pub(super) name: Option<Name>,
    /// What it reads.
    pub(super) from: Option<Name>,
    /// None if something is wrong with it.
    pub(super) def: Option<T>,
}

/// Checks names and references.
pub(super) fn references(
    r: &mut Reader<'_>,
    sources: &[Draft<SourceDef>],
    streams: &[Draft<StreamDef>],
    outputs: &[Draft<OutputDef>],
) {
    let source_names = sources.iter().flat_map(|draft| &draft.name);
    let names: Vec<&Name> = source_names.chain(streams.iter().flat_map(|draft| &draft.name)).collect();
    taken_twice(r, &names);
    let from = streams.iter().flat_map(|draft| &draft.from);
    for from in from.chain(outputs.iter().flat_map(|draft| &draft.from)) {
        known(r, from, &names);
    }
    circles(r, streams);
    outputs_taken_twice(r, outputs);
    directories_taken_twice(r, outputs);
    if outputs.is_empty() {
        let nothing = Diagnostic::new("nothing to execute: the job has no output");
        r.push(nothing.help("add an `[[output]]` with `from` and `print = true`"));
    }
}

fn taken_twice(r: &mut Reader<'_>, names: &[&Name]) {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name.text.as_str()) {
            let message = format!("there is a source and a stream called `{}`", name.text);
            let wrong = Diagnostic::new(message).at(name.span.clone()).label("second time");
            r.push(wrong.help("streams and sources share their names"));
        }
    }
}

fn outputs_taken_twice(r: &mut Reader<'_>, outputs: &[Draft<OutputDef>]) {
    let mut seen = HashSet::new();
    for name in outputs.iter().flat_map(|draft| &draft.name) {
        if !seen.insert(name.text.as_str()) {
            let message = format!("there are two outputs called `{}`", name.text);
            let wrong = Diagnostic::new(message).at(name.span.clone()).label("second time");
            r.push(wrong.help("give one of them another `name`"));
        }
    }
}

/// Two outputs in one directory would take each other's batches for their own.
fn directories_taken_twice(r: &mut Reader<'_>, outputs: &[Draft<OutputDef>]) {
    let mut seen = HashSet::new();
    for output in outputs.iter().filter_map(|draft| draft.def.as_ref()) {
        if let Sink::Files(files) = &output.sink
            && !seen.insert(files.place.root(Path::new("")))
        {
            let wrong = Diagnostic::new(format!("two outputs write to `{}`", files.place.text()));
            let wrong = wrong.at(output.name.span.clone()).label("the second one");
            r.push(wrong.help("give each output a directory of its own"));
        }
    }
}

fn known(r: &mut Reader<'_>, from: &Name, names: &[&Name]) {
    if !names.iter().any(|name| name.text == from.text) {
        let message = format!("there is no source or stream called `{}`", from.text);
        let unknown = Diagnostic::new(message).at(from.span.clone()).label("unknown");
        r.push(unknown.did_you_mean(&from.text, names.iter().map(|name| name.text.as_str())));
    }
}

/// Notes every circle of streams once, at its first stream in the file.
fn circles(r: &mut Reader<'_>, streams: &[Draft<StreamDef>]) {
    let parents: HashMap<&str, &Name> =
        streams.iter().filter_map(|draft| Some((draft.name.as_ref()?.text.as_str(), draft.from.as_ref()?))).collect();
    let mut done: HashSet<&str> = HashSet::new();
    for start in streams.iter().flat_map(|draft| &draft.name) {
        let mut path = vec![start.text.as_str()];
        let mut at = start.text.as_str();
        while let Some(from) = parents.get(at).filter(|_| !done.contains(at)) {
            at = from.text.as_str();
            if let Some(first) = path.iter().position(|name| *name == at) {
                let mut circle = path[first..].to_vec();
                circle.push(at);
                let message = format!("streams read each other in a circle: {}", circle.join(" from "));
                let wrong = Diagnostic::new(message).label("expected a source in the end");
                r.push(wrong.at(from.span.clone()));
                break;
            }
            path.push(at);
        }
        done.extend(path);
    }
}
