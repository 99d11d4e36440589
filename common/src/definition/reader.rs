//! Reading a spanned TOML tree: every function gives a value, or none after noting what is wrong and where.

use super::alias::{ALIASES, Hints};
use super::key::{Choices, Key, RECEIVERS, words};
use super::limits::{MAX_KEY_BYTES, MAX_NAME_BYTES};
use super::{Name, Period, Span, Sql};
use crate::diag::{Diagnostic, Diagnostics, nearest};
use crate::location::{Location, WrongLocation};
use crate::units::{parse_duration, parse_size, parse_time};
use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value with its place.
pub type Value<'t> = Spanned<DeValue<'t>>;

/// What a job's name may hold beside letters and digits.
pub const JOB_NAME_MARKS: &str = "_-.";
/// What the name of a source, stream or output may hold beside letters and digits.
pub const NAME_MARKS: &str = "_-";

/// Collects what is wrong while the tree is read.
pub struct Reader<'t> {
    text: &'t str,
    /// Lines with syntax errors; if there are any, nothing can be said about what is missing.
    broken: HashSet<usize>,
    /// What is wrong so far.
    pub diagnostics: Diagnostics,
}

/// A table of the definition with the keys that are known there.
pub struct Table<'t> {
    /// How the table is called in messages.
    pub title: String,
    /// Where to point for a mistake of the table as a whole.
    pub span: Span,
    entries: &'t DeTable<'t>,
}

impl<'t> Table<'t> {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&'t Value<'t>> {
        self.entries.get(key)
    }

    /// The place of a key; the table's own if it is not there.
    pub fn key_span(&self, key: &str) -> Span {
        self.entries.get_key_value(key).map_or(self.span.clone(), |(key, _)| key.span())
    }

    /// Those that are not among `keys`, in the order they were written.
    pub fn others(&self, keys: &'static [Key]) -> Vec<(Name, &'t Value<'t>)> {
        let ours = |name: &Name| keys.iter().any(|key| key.name == name.text);
        in_order(self.entries).into_iter().filter(|(name, _)| !ours(name)).collect()
    }

    /// Those of `keys` that are there, in the order they were written.
    pub fn present(&self, keys: &[&'static [Key]]) -> Vec<(Name, &'static Key, &'t Value<'t>)> {
        let find = |name: &str| keys.iter().copied().flatten().find(|key| key.name == name);
        in_order(self.entries)
            .into_iter()
            .filter_map(|(name, value)| find(&name.text).map(|key| (name, key, value)))
            .collect()
    }

    /// The entries whose keys are not among `known`, with the known key that each was meant to be, where there is one.
    pub fn misspelt(&self, known: &[&'static [Key]]) -> impl Iterator<Item = (Name, &'static str, &'t Value<'t>)> {
        in_order(self.entries).into_iter().filter_map(|(name, value)| {
            let meant = meant(&name.text, known)?;
            Some((name, meant, value))
        })
    }
}

/// The known key that another one was most likely meant to be.
fn meant(unknown: &str, known: &[&'static [Key]]) -> Option<&'static str> {
    let names = || known.iter().copied().flatten().map(|key| key.name);
    if names().any(|name| name == unknown) {
        return None;
    }
    let alias = ALIASES.iter().find(|(alias, name)| *alias == unknown && names().any(|known| known == *name));
    alias.map(|(_, name)| *name).or_else(|| nearest(unknown, names()))
}

fn did_you_mean(meant: &str) -> String {
    format!("did you mean `{meant}`?")
}

/// The number of the line in which a span begins, from 0.
fn line_of(text: &str, span: &Span) -> usize {
    text.bytes().take(span.start).filter(|byte| *byte == b'\n').count()
}

/// The entries of a table as they were written.
fn in_order<'t>(table: &'t DeTable<'t>) -> Vec<(Name, &'t Value<'t>)> {
    let mut entries: Vec<_> =
        table.iter().map(|(key, value)| (Name { text: key.get_ref().to_string(), span: key.span() }, value)).collect();
    entries.sort_by_key(|(key, _)| key.span.start);
    entries
}

impl<'t> Reader<'t> {
    /// Of the syntax errors of a line only the first is kept: the others mostly follow from it.
    pub fn new(text: &'t str, syntax_errors: Vec<toml::de::Error>) -> Self {
        let mut diagnostics = Diagnostics::new();
        let mut broken = HashSet::new();
        for error in syntax_errors {
            let span = error.span().unwrap_or(0..0);
            if broken.insert(line_of(text, &span)) {
                let message = format!("this is not TOML: {}", error.message());
                diagnostics.push(Diagnostic::new(message).at(span));
            }
        }
        Self { text, broken, diagnostics }
    }

    /// Whether no mistake would be noted any more.
    pub fn full(&self) -> bool {
        self.diagnostics.is_full()
    }

    /// Whether the whole text could be read as TOML.
    pub fn complete(&self) -> bool {
        self.broken.is_empty()
    }

    /// Notes a mistake, unless it follows from a syntax error on the same line.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let start = diagnostic.span.clone().unwrap_or(0..0);
        if self.complete() || !self.broken.contains(&line_of(self.text, &start)) {
            self.diagnostics.push(diagnostic);
        }
    }

    /// Notes that a key is missing.
    pub fn missing(&mut self, table: &Table<'_>, what: &str) {
        if self.complete() {
            let message = format!("{} has no {what}", table.title);
            self.push(Diagnostic::new(message).at(table.span.clone()));
        }
    }

    fn wrong_type(&mut self, value: &Value<'_>, expected: &str) {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        let message = format!("expected {expected}, found {found}");
        self.push(Diagnostic::new(message).at(value.span()).label(format!("not {expected}")));
    }

    /// A table whose keys are among `known`; says which are unknown, and which required ones are missing.
    pub fn table(
        &mut self,
        value: &'t Value<'t>,
        title: &str,
        span: Span,
        known: &[&'static [Key]],
    ) -> Option<Table<'t>> {
        let table = self.any_table(value, title, span)?;
        self.check_known(&table, known, &[]);
        self.check_required(&table, known, known);
        Some(table)
    }

    /// A table whose keys are checked later.
    pub fn any_table(&mut self, value: &'t Value<'t>, title: &str, span: Span) -> Option<Table<'t>> {
        let DeValue::Table(entries) = value.get_ref() else {
            self.wrong_type(value, "a table");
            return None;
        };
        Some(Table { title: title.to_owned(), span, entries })
    }

    /// Says which keys are not among `known`, and of those that `foreign` has what to do instead.
    pub fn check_known(&mut self, table: &Table<'t>, known: &[&'static [Key]], foreign: Hints) {
        let names = || known.iter().copied().flatten().map(|key| key.name);
        for (key, _) in in_order(table.entries) {
            if !names().any(|name| name == key.text) {
                let instead =
                    foreign.iter().find(|(name, _)| *name == key.text).map(|(_, instead)| (*instead).to_owned());
                let meant = || meant(&key.text, known).map(did_you_mean);
                let help = instead.or_else(meant);
                self.unknown(table, key, help);
            }
        }
    }

    fn unknown(&mut self, table: &Table<'t>, key: Name, help: Option<String>) {
        let message = format!("unknown key `{}` in {}", key.text, table.title);
        let unknown = Diagnostic::new(message).at(key.span).label("unknown key");
        self.push(match help {
            Some(help) => unknown.help(help),
            None => unknown,
        });
    }

    /// The same as [`check_required`](Self::check_required) for a table that takes other keys beside its `own`: what a required
    /// one was meant to be is unknown.
    pub fn check_open(&mut self, table: &Table<'t>, own: &'static [Key]) {
        let lacks = |name: &str| own.iter().any(|key| key.required && key.name == name) && table.get(name).is_none();
        for (key, meant, _) in table.misspelt(&[own]).filter(|(_, meant, _)| lacks(meant)) {
            self.unknown(table, key, Some(did_you_mean(meant)));
        }
        self.check_required(table, &[own], &[own]);
    }

    /// Says which required ones of some keys are missing, but for those that an unknown key was meant to be; all keys that
    /// there may be are `known`.
    pub fn check_required(&mut self, table: &Table<'t>, keys: &[&'static [Key]], known: &[&'static [Key]]) {
        for key in keys.iter().copied().flatten() {
            if key.required
                && table.get(key.name).is_none()
                && !table.misspelt(known).any(|(_, meant, _)| meant == key.name)
            {
                self.missing(table, &format!("`{}`", key.name));
            }
        }
    }

    /// The entries of a table whose keys are free, in the order they were written.
    pub fn entries(&mut self, value: &'t Value<'t>) -> Option<Vec<(Name, &'t Value<'t>)>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(in_order(table)),
            _ => {
                self.wrong_type(value, "a table");
                None
            }
        }
    }

    /// The elements of a list.
    pub fn array(&mut self, value: &'t Value<'t>) -> Option<&'t [Value<'t>]> {
        match value.get_ref() {
            DeValue::Array(items) => Some(items),
            _ => {
                self.wrong_type(value, "an array");
                None
            }
        }
    }

    /// A text.
    pub fn string(&mut self, value: &'t Value<'t>) -> Option<&'t str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(value, "a string");
        }
        text
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, value: &Value<'_>) -> Option<bool> {
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong_type(value, "a boolean");
        }
        flag
    }

    /// The flag behind a key; false if it is not there.
    pub fn flag(&mut self, table: &Table<'t>, key: &str) -> Option<bool> {
        table.get(key).map_or(Some(false), |value| self.boolean(value))
    }

    /// How many `receivers` a source has; 1 if that is not said.
    pub fn receivers(&mut self, table: &Table<'t>) -> Option<u32> {
        table.get("receivers").map_or(Some(1), |value| self.small_count(value, RECEIVERS))
    }

    /// A key that is only ever written as `key = true`.
    pub fn only_true(&mut self, value: &Value<'_>) -> Option<()> {
        let flag = self.boolean(value)?;
        if !flag {
            let wrong = Diagnostic::new("only `true` makes sense here").at(value.span());
            self.push(wrong.help("leave the key out if it is not wanted"));
        }
        flag.then_some(())
    }

    /// A whole number within `range`.
    pub fn count(&mut self, value: &Value<'_>, range: RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(integer) = value.get_ref() else {
            self.wrong_type(value, "an integer");
            return None;
        };
        let number =
            u64::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|number| range.contains(number));
        if number.is_none() {
            let message = format!("`{integer}` is out of range");
            let between = match *range.end() {
                end if end == i64::MAX as u64 => format!("expected {} or more", range.start()),
                end => format!("expected {} to {end}", range.start()),
            };
            self.push(Diagnostic::new(message).at(value.span()).label(between));
        }
        number
    }

    /// Like [`Reader::count`] for ranges that fit 32 bits.
    pub fn small_count(&mut self, value: &Value<'_>, range: RangeInclusive<u64>) -> Option<u32> {
        self.count(value, range).and_then(|count| u32::try_from(count).ok())
    }

    /// A number that is not negative, written with a point or without.
    pub fn number(&mut self, value: &Value<'_>) -> Option<f64> {
        let number = match value.get_ref() {
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str().parse::<f64>(),
            DeValue::Float(float) => float.as_str().parse(),
            _ => {
                self.wrong_type(value, "a number");
                return None;
            }
        };
        let number = number.ok().filter(|number| number.is_finite() && *number >= 0.0);
        if number.is_none() {
            let wrong = Diagnostic::new("this number is out of range").at(value.span());
            self.push(wrong.label("expected 0 or more"));
        }
        number
    }

    /// A duration such as `10s`.
    pub fn duration(&mut self, value: &'t Value<'t>) -> Option<Duration> {
        self.measure(value, "a duration such as \"10s\"", parse_duration)
    }

    /// A duration with its place.
    pub fn period(&mut self, value: &'t Value<'t>) -> Option<Period> {
        Some(Period { duration: self.duration(value)?, span: self.inside(value) })
    }

    /// A point in time, in milliseconds since 1970 UTC.
    pub fn time(&mut self, value: &'t Value<'t>) -> Option<i64> {
        self.measure(value, "a time such as \"2026-01-31T12:00:00Z\", or the time since 1970", parse_time)
    }

    /// A size in bytes, never 0.
    pub fn size(&mut self, value: &'t Value<'t>) -> Option<u64> {
        self.measure(value, "a size such as \"4MiB\"", |text| match parse_size(text)? {
            0 => Err(format!("`{text}` is no size at all; it must be at least one byte")),
            size => Ok(size),
        })
    }

    fn measure<T>(
        &mut self,
        value: &'t Value<'t>,
        expected: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(value, &format!("{expected} in quotes"));
            return None;
        };
        parse(text)
            .map_err(|wrong| {
                self.push(Diagnostic::new(wrong).at(self.inside(value)).label(format!("expected {expected}")))
            })
            .ok()
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&mut self, value: &'t Value<'t>, choices: Choices<T>) -> Option<T> {
        self.choice_or(value, choices, &[])
    }

    /// The same; of words that `foreign` has it says what to do instead.
    pub fn choice_or<T: Copy>(&mut self, value: &'t Value<'t>, choices: Choices<T>, foreign: Hints) -> Option<T> {
        let chosen = self.word(value, &words(choices), foreign)?;
        choices.get(chosen).map(|(_, choice)| *choice)
    }

    /// Which of these words it is.
    pub fn word(&mut self, value: &'t Value<'t>, words: &[&str], foreign: Hints) -> Option<usize> {
        let text = self.string(value)?;
        let found = words.iter().position(|word| *word == text);
        if found.is_none() {
            let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
            let wrong = Diagnostic::new(format!("`{text}` is not among the choices"))
                .at(self.inside(value))
                .label(format!("expected {}", quoted.join(" or ")));
            self.push(match foreign.iter().find(|(word, _)| *word == text) {
                Some((_, instead)) => wrong.help(*instead),
                None => wrong.did_you_mean(text, words.iter().copied()),
            });
        }
        found
    }

    /// A text with its place, inside the quotes.
    pub fn text(&mut self, value: &'t Value<'t>) -> Option<Name> {
        let text = self.string(value)?.to_owned();
        Some(Name { text, span: self.inside(value) })
    }

    /// The path of something on a file system or the URL of something in an object store.
    pub fn location(&mut self, value: &'t Value<'t>, expected: &str) -> Option<Name> {
        let path = self.text(value)?;
        let Err(wrong) = Location::parse(&path.text) else { return Some(path) };
        let help = match &wrong {
            WrongLocation::Empty => format!("expected {expected}"),
            WrongLocation::Scheme(_) => {
                "there are paths, and object stores: `s3://`, `gs://`, `az://`, `abfs://` and `abfss://`".into()
            }
            WrongLocation::NoBucket => "a URL is `s3://bucket/some/key`".into(),
            WrongLocation::Key(_) => "no part of a URL is empty, `.` or `..`".into(),
        };
        let wrong = Diagnostic::new(wrong.to_string()).help(help).at(path.span);
        self.push(wrong.label("expected a path or a URL"));
        None
    }

    /// An expression or query, not empty.
    pub fn sql(&mut self, value: &'t Value<'t>) -> Option<Sql> {
        let Name { text, span } = self.text(value)?;
        if text.trim().is_empty() {
            self.push(Diagnostic::new("this expression is empty").at(span).label("expected SQL"));
            return None;
        }
        Some(Sql { text, span })
    }

    /// The name of a source, stream or output, as a value.
    pub fn name(&mut self, value: &'t Value<'t>) -> Option<Name> {
        let name = self.text(value)?;
        self.check_name(&name, NAME_MARKS).then_some(name)
    }

    /// One name of a source or stream, or an array of them; not empty.
    pub fn names(&mut self, value: &'t Value<'t>) -> Option<Vec<Name>> {
        let names: Vec<_> = match value.get_ref() {
            DeValue::String(_) => vec![self.name(value)],
            DeValue::Array(items) => items.iter().map(|item| self.name(item)).collect(),
            _ => {
                self.wrong_type(value, "a name or an array of names");
                return None;
            }
        };
        if names.is_empty() {
            self.push(Diagnostic::new("expected at least one name").at(value.span()));
            return None;
        }
        names.into_iter().collect()
    }

    /// Whether this is a name of letters, digits and the given marks.
    pub fn check_name(&mut self, name: &Name, marks: &str) -> bool {
        let text = name.text.as_str();
        let good = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c))
            && text.len() <= MAX_NAME_BYTES;
        if !good {
            let marks: Vec<_> = marks.chars().map(|mark| format!("`{mark}`")).collect();
            let expected = format!("expected letters (a-z), digits, {}", marks.join(", "));
            let wrong = Diagnostic::new(format!("`{text}` cannot be a name"));
            self.push(wrong.at(name.span.clone()).label(expected).help(format!(
                "a name begins with a letter, a digit or `_` and has at most {MAX_NAME_BYTES} characters"
            )));
        }
        good
    }

    /// The name of a column, as a value.
    pub fn column(&mut self, value: &'t Value<'t>) -> Option<Name> {
        let name = self.text(value)?;
        self.check_column(&name).then_some(name)
    }

    /// Whether this may name a column.
    pub fn check_column(&mut self, name: &Name) -> bool {
        let good = !name.text.is_empty() && !name.text.starts_with("__") && name.text.len() <= MAX_KEY_BYTES;
        if !good {
            let message = format!("`{}` cannot name a column", name.text);
            let expected = "expected any text of at most 255 bytes that is not empty and does not begin with `__`";
            self.push(Diagnostic::new(message).at(name.span.clone()).label(expected));
        }
        good
    }

    /// One column, or an array of them; not empty, none twice.
    pub fn columns(&mut self, value: &'t Value<'t>) -> Option<Vec<Name>> {
        let names = match value.get_ref() {
            DeValue::String(_) => vec![self.column(value)],
            DeValue::Array(items) => items.iter().map(|item| self.column(item)).collect(),
            _ => {
                self.wrong_type(value, "a column name or an array of them");
                return None;
            }
        };
        if names.is_empty() {
            self.push(Diagnostic::new("expected at least one column").at(value.span()));
            return None;
        }
        let names: Vec<Name> = names.into_iter().collect::<Option<_>>()?;
        self.distinct_columns(names.iter()).then_some(names)
    }

    /// One column to sort by, or an array of them; each with whether there is a `-` before it.
    pub fn sort_keys(&mut self, value: &'t Value<'t>) -> Option<Vec<(Name, bool)>> {
        let items = match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![value],
        };
        if items.is_empty() {
            self.push(Diagnostic::new("expected at least one column").at(value.span()));
            return None;
        }
        let keys = items.into_iter().map(|item| {
            let Name { text, span } = self.text(item)?;
            let (name, minus) = match text.strip_prefix('-') {
                Some(rest) => (Name { text: rest.to_string(), span: span.start + 1..span.end }, true),
                None => (Name { text, span }, false),
            };
            self.check_column(&name).then_some((name, minus))
        });
        let keys = keys.collect::<Vec<_>>().into_iter().collect::<Option<Vec<_>>>()?;
        self.distinct_columns(keys.iter().map(|(name, _)| name)).then_some(keys)
    }

    /// Notes columns that bear the name of an earlier one.
    pub fn distinct_columns<'n>(&mut self, names: impl Iterator<Item = &'n Name>) -> bool {
        let mut seen = HashSet::new();
        let mut distinct = true;
        for name in names {
            if !seen.insert(name.text.as_str()) {
                distinct = false;
                let message = format!("column `{}` is there twice", name.text);
                self.push(Diagnostic::new(message).at(name.span.clone()).label("second time"));
            }
        }
        distinct
    }

    /// The place of a string's text, without its quotes.
    pub fn inside(&self, value: &Value<'_>) -> Span {
        let span = value.span();
        let written = self.text.get(span.clone()).unwrap_or_default();
        let quotes = match written {
            w if w.starts_with("\"\"\"") || w.starts_with("'''") => 3,
            w if w.starts_with(['"', '\'']) => 1,
            _ => return span,
        };
        if written.len() < 2 * quotes {
            return span;
        }
        // TOML drops a line break right behind three quotes.
        let body = &written[quotes..];
        let skipped = match quotes {
            3 if body.starts_with("\r\n") => 2,
            3 if body.starts_with('\n') => 1,
            _ => 0,
        };
        span.start + quotes + skipped..span.end - quotes
    }
}
