//! Mistakes in a job definition: what is wrong, where, what was expected, and what may have been meant.

use crate::definition::Span;
use crate::definition::limits::MAX_KEY_BYTES;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use std::fmt;

/// How bad it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Severity {
    /// The definition cannot be used.
    #[default]
    Error,
    /// It can, but hardly does what was meant.
    Warning,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// Where, in bytes of the definition; none for a mistake without a place.
    pub span: Option<Span>,
    /// What stands beside the caret: what was expected there.
    pub label: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A mistake without a place yet.
    pub fn new(message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: shortened(message.into()), span: None, label: None, help: None }
    }

    /// A warning without a place yet.
    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::new(message) }
    }

    /// Says where.
    #[must_use]
    pub fn at(mut self, span: Span) -> Self {
        self.span = Some(span);
        self
    }

    /// Says what was expected there.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(shortened(label.into()));
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(shortened(help.into()));
        self
    }

    /// Asks "did you mean ..?" when one of `candidates` is near to `name`.
    #[must_use]
    pub fn did_you_mean<'a>(self, name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(name, candidates) {
            Some(near) => self.help(format!("did you mean `{near}`?")),
            None => self,
        }
    }

    fn render(&self, file_name: &str, text: &str, renderer: &Renderer) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(self.message.as_str());
        let mut group = match &self.span {
            Some(span) if !text.is_empty() => {
                let line = Line::of(text, span);
                let caret = AnnotationKind::Primary.span(line.span).label(self.label.as_deref());
                let snippet = Snippet::source(line.text).line_start(line.number).path(file_name);
                title.element(snippet.annotation(caret))
            }
            _ => title.elements(self.label.as_deref().map(|label| Level::NOTE.message(label))),
        };
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group])
    }
}

/// The longest text of a mistake, in bytes: texts repeat names, which may be of any length.
const MAX_MESSAGE_BYTES: usize = 1000;

fn shortened(mut text: String) -> String {
    if text.len() > MAX_MESSAGE_BYTES {
        text.truncate(floor_char_boundary(&text, MAX_MESSAGE_BYTES));
        text.push('…');
    }
    text
}

/// The line a span begins in, with the part of the span that lies in it.
struct Line<'t> {
    number: usize,
    text: &'t str,
    span: Span,
}

impl<'t> Line<'t> {
    /// Takes any span, also one that lies outside `text` or between the bytes of a character.
    fn of(text: &'t str, span: &Span) -> Self {
        let start = floor_char_boundary(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let end = floor_char_boundary(text, span.end).clamp(start, line_end);
        Self {
            number: text[..line_start].matches('\n').count() + 1,
            text: &text[line_start..line_end],
            span: start - line_start..end - line_start,
        }
    }
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0)
}

/// Nobody reads more mistakes than this at once.
const MAX_DIAGNOSTICS: usize = 100;

/// The mistakes found in one definition; the first 100.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// None so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one, if there are not too many yet.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if !self.is_full() {
            self.0.push(diagnostic);
        }
    }

    /// Whether there are so many that no more is added.
    pub fn is_full(&self) -> bool {
        self.0.len() >= MAX_DIAGNOSTICS
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// In the order they were found.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// Adds those of `other`, if there are not too many yet.
    pub fn extend(&mut self, other: Diagnostics) {
        other.0.into_iter().for_each(|diagnostic| self.push(diagnostic));
    }

    /// All of them for a person to read, in the order of their places, with the line and a caret.
    /// `text` is the definition as it was parsed.
    pub fn render(&self, file_name: &str, text: &str, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut sorted: Vec<_> = self.iter().collect();
        sorted.sort_by_key(|diagnostic| diagnostic.span.as_ref().map_or(0, |span| span.start));
        let rendered: Vec<_> = sorted.into_iter().map(|d| d.render(file_name, text, &renderer)).collect();
        rendered.join("\n\n")
    }
}

/// The messages alone, for a log or an error without the text at hand.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{}", diagnostic.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

/// The candidate that `name` was most likely meant to be, if any is near enough:
/// at most one edit for every three characters, or alike from the beginning on.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // To compare takes time by the product of the lengths; nobody means a name that is longer.
    let comparable = |name: &str| name.len() <= MAX_KEY_BYTES;
    let name = Some(name).filter(|name| comparable(name))?.to_lowercase();
    candidates
        .into_iter()
        .filter(|candidate| comparable(candidate))
        .filter_map(|candidate| {
            let other = candidate.to_lowercase();
            let length = name.chars().count().max(other.chars().count());
            let edits = strsim::damerau_levenshtein(&name, &other);
            let alike = strsim::jaro_winkler(&name, &other);
            let near = edits <= length.div_ceil(3) && edits < length || alike >= 0.88;
            near.then_some((candidate, edits, alike))
        })
        .min_by(|a, b| a.1.cmp(&b.1).then(b.2.total_cmp(&a.2)))
        .map(|(candidate, ..)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nearest_name() {
        let keys = ["batch_interval", "block_interval", "name", "replication"];
        assert_eq!(nearest("batch_intervall", keys), Some("batch_interval"));
        assert_eq!(nearest("batchinterval", keys), Some("batch_interval"));
        assert_eq!(nearest("Name", keys), Some("name"));
        assert_eq!(nearest("replicas", keys), Some("replication"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest("x", ["y"]), None);
        assert_eq!(nearest("", keys), None);
    }

    #[test]
    fn rendered_with_line_and_caret_in_order_of_place() {
        let text = "name = \"a\"\nbatch = 3\n";
        let mut diagnostics = Diagnostics::new();
        diagnostics.push(Diagnostic::new("unknown key `batch`").at(11..16).label("not a key").help("try another"));
        diagnostics.push(Diagnostic::new("`a` is short").at(8..9));
        let expected = "\
error: `a` is short
 --> job.toml:1:9
  |
1 | name = \"a\"
  |         ^

error: unknown key `batch`
 --> job.toml:2:1
  |
2 | batch = 3
  | ^^^^^ not a key
  |
  = help: try another";
        assert_eq!(diagnostics.render("job.toml", text, false), expected);
        assert!(diagnostics.render("job.toml", text, true).contains("\u{1b}["));
    }

    #[test]
    fn bounded() {
        let mut diagnostics = Diagnostics::new();
        (0..1000).for_each(|_| diagnostics.push(Diagnostic::new("wrong")));
        diagnostics.extend(diagnostics.clone());
        assert_eq!(diagnostics.len(), MAX_DIAGNOSTICS);
    }

    #[test]
    fn no_place_and_no_text() {
        let mut diagnostics = Diagnostics::new();
        diagnostics.push(Diagnostic::new("nothing to execute").label("no output"));
        diagnostics.push(Diagnostic::new("missing key `name`").at(0..0));
        let rendered = diagnostics.render("job.toml", "", false);
        assert!(rendered.contains("nothing to execute") && rendered.contains("no output"));
        assert!(rendered.contains("missing key `name`"));
    }

    proptest! {
        #[test]
        fn any_span_renders(text in "(?s).{0,60}", start in 0usize..90, length in 0usize..90) {
            let mut diagnostics = Diagnostics::new();
            diagnostics.push(Diagnostic::new("wrong").at(start..start + length).label("here"));
            prop_assert!(diagnostics.render("job.toml", &text, false).contains("wrong"));
        }
    }
}
