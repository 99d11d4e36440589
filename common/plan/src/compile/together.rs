//! Operators over several streams: `union`.

use super::Compiler;
use super::expr::type_name;
use super::stages::Rows;
use datafusion::arrow::datatypes::Schema;
use tidemill_common::diag::Diagnostic;
use tidemill_common::job::Name;

impl Compiler<'_> {
    /// `union`: the lanes of all inputs.
    pub(super) fn union(&mut self, inputs: Vec<Rows>, from: &[Name]) -> Option<Rows> {
        let schemas: Vec<_> = inputs.iter().map(Rows::schema).collect();
        let wrong = schemas.iter().zip(from).skip(1).filter_map(|(schema, name)| {
            let differs = difference(&schemas[0], schema, [&from[0].text, &name.text])?;
            let wrong = Diagnostic::new(differs).at(name.span.clone()).label("has other columns");
            Some(wrong.help("a union takes streams with the same columns in the same order: `select` makes them so"))
        });
        let wrong: Vec<_> = wrong.collect();
        let fine = wrong.is_empty();
        self.report(wrong);
        fine.then(|| Rows(inputs.into_iter().flat_map(|rows| rows.0).collect()))
    }
}

/// The first difference between the columns of two streams of these names.
fn difference(one: &Schema, other: &Schema, names: [&String; 2]) -> Option<String> {
    for (number, (a, b)) in one.fields().iter().zip(other.fields()).enumerate() {
        let column = number + 1;
        if a.name() != b.name() {
            let called = format!("`{}` in `{}` and `{}` in `{}`", a.name(), names[0], b.name(), names[1]);
            return Some(format!("column {column} is called {called}"));
        }
        if a.data_type() != b.data_type() {
            let (a_type, b_type) = (type_name(a.data_type()), type_name(b.data_type()));
            return Some(format!("`{}` is a {a_type} in `{}` and a {b_type} in `{}`", a.name(), names[0], names[1]));
        }
    }
    let count = |schema: &Schema| schema.fields().len();
    (count(one) != count(other))
        .then(|| format!("`{}` has {} columns and `{}` has {}", names[0], count(one), names[1], count(other)))
}
