//! Lines of a block.

use std::borrow::Cow;

/// Drops every carriage return that stands before a line feed or at the end.
pub(super) fn without_carriage_returns(block: &[u8]) -> Cow<'_, [u8]> {
    if !block.contains(&b'\r') {
        return Cow::Borrowed(block);
    }
    let mut out = Vec::with_capacity(block.len());
    for (i, &byte) in block.iter().enumerate() {
        if byte != b'\r' || !matches!(block.get(i + 1), None | Some(b'\n')) {
            out.push(byte);
        }
    }
    Cow::Owned(out)
}

/// Lines without their line feeds, also the blank ones; nothing after the last line feed is no line.
pub(super) fn of_text(text: &str) -> impl Iterator<Item = &str> {
    let text = text.strip_suffix('\n').map_or((!text.is_empty()).then_some(text), Some);
    text.into_iter().flat_map(|text| text.split('\n'))
}

/// How many lines are not empty.
pub(super) fn count_not_blank(text: &[u8]) -> usize {
    let ends = text.iter().filter(|&&byte| byte == b'\n').count();
    let open = usize::from(text.last().is_some_and(|&byte| byte != b'\n'));
    let blank = text.windows(2).filter(|pair| *pair == b"\n\n").count();
    let first_blank = usize::from(text.first() == Some(&b'\n'));
    ends + open - blank - first_blank
}

/// Whether there is nothing but white space.
pub(super) fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// Neighbouring lines, to be halved. A part that halves gives back may hold blank lines, but they do not count.
pub(super) struct Lines<'a> {
    text: &'a [u8],
    /// Number of the line, where it starts, and where it ends (with its line feed).
    places: Cow<'a, [(u64, usize, usize)]>,
}

impl<'a> Lines<'a> {
    /// The lines that are records.
    pub(super) fn new(text: &'a [u8], is_record: fn(&[u8]) -> bool) -> Self {
        let mut places = Vec::new();
        let mut start = 0;
        for (number, line) in text.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let end = start + line.len();
            if is_record(line) {
                places.push((number as u64, start, end));
            }
            start = end;
        }
        Self { text, places: Cow::Owned(places) }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// From the first to the last of them.
    pub(super) fn text(&self) -> &'a [u8] {
        match (self.places.first(), self.places.last()) {
            (Some(&(_, start, _)), Some(&(_, _, end))) => &self.text[start..end],
            _ => &[],
        }
    }

    /// Number of the first line.
    pub(super) fn first_line(&self) -> u64 {
        self.places.first().map_or(0, |place| place.0)
    }

    /// Two halves, of two lines or more.
    pub(super) fn split(&self) -> Option<(Lines<'_>, Lines<'_>)> {
        if self.places.len() < 2 {
            return None;
        }
        let (first, second) = self.places.split_at(self.places.len() / 2);
        let half = |places| Lines { text: self.text, places: Cow::Borrowed(places) };
        Some((half(first), half(second)))
    }
}
