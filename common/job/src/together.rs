//! Reading operators over several streams, and whether a stream reads as many as its operator takes.

use super::{Inputs, JoinKind, Name, On, Operator, keys};
use tidemill_common::definition::{Reader, Value, optional};
use tidemill_common::diag::Diagnostic;

/// Whether the operator behind this key can read so many streams.
pub(super) fn check_inputs(r: &mut Reader<'_>, key: &str, inputs: Inputs, from: &[Name]) {
    let wrong = match (inputs, from) {
        (Inputs::One, [_, second, ..]) => {
            let wrong = Diagnostic::new(format!("`{key}` reads one stream, not {}", from.len()));
            let wrong = wrong.at(second.span.clone()).label("one too many");
            wrong.help("make them one with a stream of their own: `union = true`")
        }
        (Inputs::Several, [only]) => {
            let wrong = Diagnostic::new(format!("`{key}` reads two streams or more, not one"));
            let wrong = wrong.at(only.span.clone()).label("expected a list");
            wrong.help(format!("name the others too: `from = [\"{}\", \"..\"]`", only.text))
        }
        (Inputs::Two, [_, _, third, ..]) => {
            let wrong = Diagnostic::new(format!("`{key}` reads two streams, not {}", from.len()));
            let wrong = wrong.at(third.span.clone()).label("one too many");
            wrong.help("use the result in a stream of its own with the next")
        }
        (Inputs::Two, [only]) => {
            let wrong = Diagnostic::new(format!("`{key}` reads two streams, not one"));
            let wrong = wrong.at(only.span.clone()).label("expected a list of two");
            wrong.help(format!("name the other too: `from = [\"{}\", \"..\"]`", only.text))
        }
        _ => return check_distinct(r, key, inputs, from),
    };
    r.push(wrong);
}

/// Operators that go by the names of what they read cannot read one of them twice.
fn check_distinct(r: &mut Reader<'_>, key: &str, inputs: Inputs, from: &[Name]) {
    if inputs == Inputs::Several {
        return;
    }
    for (number, name) in from.iter().enumerate() {
        if from[..number].iter().any(|other| other.text == name.text) {
            let wrong = Diagnostic::new(format!("`{key}` reads `{}` twice", name.text));
            let wrong = wrong.at(name.span.clone()).label("second time");
            r.push(
                wrong.help("columns go by the names of their streams: give one of the two another name by a stream"),
            );
        }
    }
}

/// A join of this kind.
pub(super) fn read_join<'t>(r: &mut Reader<'t>, key: &str, value: &'t Value<'t>, kind: JoinKind) -> Option<Operator> {
    let table = r.table(value, &format!("`{key}`"), value.span(), &[keys::JOIN])?;
    let on = table.get("on").and_then(|v| read_on(r, v));
    let within = table.get("within").map(|v| r.period(v));
    Some(Operator::Join { kind, on: on?, within: optional(within)? })
}

pub(super) fn read_cogroup<'t>(r: &mut Reader<'t>, value: &'t Value<'t>) -> Option<Operator> {
    let table = r.table(value, "`cogroup`", value.span(), &[keys::COGROUP])?;
    read_on(r, table.get("on")?).map(Operator::Cogroup)
}

/// `on = columns` or `on = { left = columns, right = columns }`
fn read_on<'t>(r: &mut Reader<'t>, on: &'t Value<'t>) -> Option<On> {
    if !on.get_ref().is_table() {
        let left = r.columns(on)?;
        return Some(On { right: left.clone(), left });
    }
    let table = r.table(on, "`on`", on.span(), &[keys::ON])?;
    let left = table.get("left").and_then(|v| r.columns(v));
    let right = table.get("right").and_then(|v| r.columns(v));
    let (left, right) = (left?, right?);
    if left.len() != right.len() {
        let count = |columns: &[Name]| match columns.len() {
            1 => "one column".to_string(),
            many => format!("{many} columns"),
        };
        let wrong = Diagnostic::new(format!("`left` has {} and `right` has {}", count(&left), count(&right)));
        r.push(wrong.at(table.key_span("right")).label("expected as many as in `left`"));
        return None;
    }
    Some(On { left, right })
}
