//! What a definition says across its tables: who reads whom, and which names are taken.

use super::connector::bad_stream_of;
use super::draft::Draft;
use super::{ModelDef, Name, Operator, OutputDef, SourceDef, Span, StreamDef, TableDef, Target};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use tidemill_common::definition::Reader;
use tidemill_common::diag::Diagnostic;
use tidemill_common::location::Location;

/// Checks names and references.
pub(super) fn references(
    r: &mut Reader<'_>,
    sources: &[Draft<SourceDef>],
    streams: &[Draft<StreamDef>],
    tables: &[Draft<TableDef>],
    models: &[Draft<ModelDef>],
    outputs: &[Draft<OutputDef>],
) {
    let source_names = sources.iter().flat_map(|draft| &draft.name);
    let bad = bad_streams(sources);
    let names: Vec<&Name> = source_names.chain(streams.iter().flat_map(|draft| &draft.name)).chain(&bad).collect();
    taken_twice(r, &names);
    taken_by_tables(r, &bad, tables);
    let readable: Vec<&Name> = names.iter().copied().chain(tables.iter().flat_map(|draft| &draft.name)).collect();
    for from in streams.iter().flat_map(|draft| &draft.from) {
        known(r, from, &readable);
    }
    for from in outputs.iter().flat_map(|draft| &draft.from) {
        known(r, from, &names);
    }
    circles(r, streams);
    outputs_taken_twice(r, outputs);
    directories_taken_twice(r, models, outputs);
    if outputs.is_empty() {
        let nothing = Diagnostic::new("nothing to execute: the job has no output");
        r.push(nothing.help("add an `[[output]]` with `from` and `print = true`"));
    }
}

/// Checks what is said about models.
pub(super) fn models(
    r: &mut Reader<'_>,
    models: &[Draft<ModelDef>],
    streams: &[Draft<StreamDef>],
    outputs: &[Draft<OutputDef>],
) {
    let names: Vec<&Name> = models.iter().flat_map(|draft| &draft.name).collect();
    let mut trained: Vec<&Name> = Vec::new();
    let mut twice = Vec::new();
    for def in streams.iter().filter_map(|draft| draft.def.as_ref()) {
        if let Operator::Train(train) = &def.operator {
            model_known(r, &train.model, &names);
            if trained.iter().any(|other| other.text == train.model.text) {
                twice.push(&train.model);
            }
            trained.push(&train.model);
        }
    }
    choices(r, &names, streams);
    for def in outputs.iter().filter_map(|draft| draft.def.as_ref()).filter(|def| def.of_model) {
        let known = model_known(r, &def.from, &names);
        if known && !trained.iter().any(|name| name.text == def.from.text) {
            untrained(r, &def.from.text, &def.from.span);
        }
    }
    for def in models.iter().filter_map(|draft| draft.def.as_ref()) {
        if let Some(save) = def.save.as_ref().filter(|_| !trained.iter().any(|name| name.text == def.name.text)) {
            untrained(r, &def.name.text, &save.path.span);
        }
    }
    for name in twice {
        let wrong = Diagnostic::new(format!("two streams train the model `{}`", name.text));
        let wrong = wrong.at(name.span.clone()).label("the second one");
        r.push(wrong.help("make them one with a stream of their own: `union = true`"));
    }
}

/// A champion that is published answers under a name of its own, for models of the job.
fn choices(r: &mut Reader<'_>, models: &[&Name], streams: &[Draft<StreamDef>]) {
    let mut taken: HashSet<&str> = models.iter().map(|name| name.text.as_str()).collect();
    for def in streams.iter().filter_map(|draft| draft.def.as_ref()) {
        let Operator::Choose(choose) = &def.operator else { continue };
        let Some(name) = &choose.publish else { continue };
        for loss in &choose.losses {
            model_known(r, &loss.name, models);
        }
        if !taken.insert(&name.text) {
            let wrong = Diagnostic::new(format!("there is another model called `{}`", name.text));
            r.push(wrong.at(name.span.clone()).help("the champion answers under a name of its own"));
        }
    }
}

/// Nothing comes of a model that does not learn.
fn untrained(r: &mut Reader<'_>, model: &str, place: &Span) {
    let wrong = Diagnostic::new(format!("no stream trains the model `{model}`"));
    r.push(wrong.at(place.clone()).help("add a stream with `train`"));
}

fn model_known(r: &mut Reader<'_>, name: &Name, names: &[&Name]) -> bool {
    let known = names.iter().any(|known| known.text == name.text);
    if !known {
        let wrong = Diagnostic::new(format!("there is no model called `{}`", name.text));
        let wrong = wrong.at(name.span.clone()).label("unknown");
        r.push(wrong.did_you_mean(&name.text, names.iter().map(|name| name.text.as_str())));
    }
    known
}

/// The streams of bad records. A source that is wrong somewhere may have one: then nobody who reads it is wrong.
fn bad_streams(sources: &[Draft<SourceDef>]) -> Vec<Name> {
    let of_source = |draft: &Draft<SourceDef>| match (&draft.def, &draft.name) {
        (Some(def), _) => def.bad_stream(),
        (None, Some(name)) => Some(Name { text: bad_stream_of(&name.text), span: name.span.clone() }),
        (None, None) => None,
    };
    sources.iter().filter_map(of_source).collect()
}

fn taken_by_tables(r: &mut Reader<'_>, bad: &[Name], tables: &[Draft<TableDef>]) {
    for name in tables.iter().flat_map(|draft| &draft.name) {
        if bad.iter().any(|bad| bad.text == name.text) {
            let message = format!("`{}` is the stream of the bad records of a source", name.text);
            let wrong = Diagnostic::new(message).at(name.span.clone()).label("second time");
            r.push(wrong.help("give the table another name"));
        }
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

/// Two outputs in one directory would take each other's batches for their own, two models each other's `latest.json`.
fn directories_taken_twice(r: &mut Reader<'_>, models: &[Draft<ModelDef>], outputs: &[Draft<OutputDef>]) {
    let mut seen = HashSet::new();
    for save in models.iter().filter_map(|draft| draft.def.as_ref()?.save.as_ref()) {
        if !seen.insert(save.root(Path::new(""))) {
            let wrong = Diagnostic::new(format!("two models are saved in `{}`", save.path.text));
            let wrong = wrong.at(save.path.span.clone()).label("the second one");
            r.push(wrong.help("give each model a directory of its own"));
        }
    }
    for output in outputs.iter().filter_map(|draft| draft.def.as_ref()) {
        if let Target::Sink(sink) = &output.target
            && let Some(place) = sink.place()
            && !seen.insert(Location::resolve(Path::new(""), place))
        {
            let wrong = Diagnostic::new(format!("two outputs write to `{place}`"));
            let wrong = wrong.at(output.name.span.clone()).label("the second one");
            r.push(wrong.help("give each output a place of its own"));
        }
    }
}

fn known(r: &mut Reader<'_>, from: &Name, names: &[&Name]) {
    // To look for the nearest name takes long.
    if !r.full() && !names.iter().any(|name| name.text == from.text) {
        let message = format!("there is no source or stream called `{}`", from.text);
        let unknown = Diagnostic::new(message).at(from.span.clone()).label("unknown");
        r.push(unknown.did_you_mean(&from.text, names.iter().map(|name| name.text.as_str())));
    }
}

/// Notes every circle of streams once, where it closes when one follows the streams from the first in the file on.
fn circles(r: &mut Reader<'_>, streams: &[Draft<StreamDef>]) {
    let known = |draft| -> Option<(&str, &[Name])> {
        let Draft { name, from, .. }: &Draft<StreamDef> = draft;
        Some((&name.as_ref()?.text, from))
    };
    let inputs: HashMap<&str, &[Name]> = streams.iter().filter_map(known).collect();
    let of = |name: &str| inputs.get(name).copied().unwrap_or_default();
    let mut done: HashSet<&str> = HashSet::new();
    for start in streams.iter().flat_map(|draft| &draft.name) {
        if done.contains(start.text.as_str()) {
            continue;
        }
        // The way down to where we are, each stream with the inputs that are still to be followed.
        let mut path: Vec<(&str, std::slice::Iter<'_, Name>)> = vec![(&start.text, of(&start.text).iter())];
        while let Some((at, rest)) = path.last_mut() {
            let Some(from) = rest.next() else {
                done.insert(at);
                path.pop();
                continue;
            };
            if let Some(first) = path.iter().position(|(name, _)| *name == from.text) {
                let names: Vec<_> = path[first..].iter().map(|(name, _)| *name).chain([from.text.as_str()]).collect();
                let message = format!("streams read each other in a circle: {}", names.join(" from "));
                let wrong = Diagnostic::new(message).label("expected a source in the end");
                r.push(wrong.at(from.span.clone()));
            } else if !done.contains(from.text.as_str()) {
                path.push((&from.text, of(&from.text).iter()));
            }
        }
    }
}
