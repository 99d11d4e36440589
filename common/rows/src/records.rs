//! Where the records of a stream end, and how a block holds them.
//!
//! A block is lines: every record is followed by a line feed. What a line cannot hold is written with bytes that no
//! UTF-8 text has: a line break within a record (`LINE_BREAK`), and that a record is bad (`BAD`). What comes from
//! outside has neither: `FOREIGN`, which no text has either, stands for both. So whoever looks at a block need not
//! tell records apart once more, and cannot do it otherwise.

use memchr::{memchr, memchr_iter, memchr2, memchr2_iter, memrchr};
use std::borrow::Cow;

/// A longer record, in bytes, is a bad one.
pub const MAX_RECORD: usize = 8 << 20;
/// U+FEFF, with which files of some programs begin.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A line break within a record.
const LINE_BREAK: u8 = 0xff;
/// Stands before the reason why a record is bad, which is where a record begins, and before its text.
const BAD: u8 = 0xfe;
/// Stands for these two where they come from outside.
const FOREIGN: u8 = 0xfd;
/// Why a record is bad with `"a"b`. Readers take that for one text, and do not agree which.
const BEHIND_QUOTE: &str = "a field goes on behind its closing quote (a quote within quotes is written twice)";
/// Bytes that are kept of the text of a bad record.
const BAD_TEXT: usize = 1 << 10;

/// What ends a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A line feed; these are the lines of a block already.
    Block,
    /// A line feed.
    Lines,
    /// A line feed outside of quotes, as in RFC 4180.
    Csv {
        /// What separates the fields.
        delimiter: u8,
    },
}

/// Where in a csv record a scanner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before a field: a quote is the beginning of a quoted one.
    Before,
    /// In a field where a quote is a character as others.
    Plain,
    Quoted,
    /// Behind a quote in a quoted field: a second one is a character, all else is behind the field.
    Quote,
}

/// Finds the ends of records in bytes that come piece by piece. Where they are does not depend on the pieces.
#[derive(Debug, Clone)]
pub struct Scanner {
    framing: Framing,
    /// Line breaks behind so many bytes of a record end it, quotes or not: an open quote must not take all that follows.
    max_record: usize,
    place: Place,
    /// Bytes of the record that has not ended.
    length: usize,
}

impl Scanner {
    /// One that is at the beginning of a record.
    pub fn new(framing: Framing) -> Self {
        Self { framing, max_record: MAX_RECORD, place: Place::Before, length: 0 }
    }

    /// One with another bound.
    pub fn with_max_record(self, max_record: usize) -> Self {
        Self { max_record, ..self }
    }

    /// Goes through the next bytes, up to the end of the `most`-th record, and makes lines of a block of them. Gives back
    /// how many records end there, and how many bytes of `bytes` these are.
    pub fn scan(&mut self, bytes: &mut [u8], most: u64) -> (u64, usize) {
        if self.framing != Framing::Block {
            clean(bytes);
        }
        match self.framing {
            Framing::Csv { delimiter } if memchr(b'"', bytes).is_some() || self.place == Place::Quoted => {
                self.scan_quoted(bytes, delimiter, most)
            }
            Framing::Csv { delimiter } => {
                let (records, end) = scan_lines(bytes, most);
                if let Some(last) = bytes[end..].last() {
                    self.place = if *last == delimiter { Place::Before } else { Place::Plain };
                } else if records > 0 {
                    self.place = Place::Before;
                }
                self.length = if records > 0 { bytes.len() - end } else { self.length + bytes.len() };
                if records == most {
                    self.restart();
                }
                (records, end)
            }
            Framing::Block | Framing::Lines => scan_lines(bytes, most),
        }
    }

    fn scan_quoted(&mut self, bytes: &mut [u8], delimiter: u8, most: u64) -> (u64, usize) {
        // `begin` is where the record that is looked at begins, as far as it is in these bytes; `at` is what is next.
        let (mut records, mut begin, mut at, mut before) = (0, 0, 0, self.length);
        while at < bytes.len() && records < most {
            let found = match self.place {
                Place::Before | Place::Quote => Some(0),
                Place::Plain => memchr2(delimiter, b'\n', &bytes[at..]),
                Place::Quoted => memchr2(b'"', b'\n', &bytes[at..]),
            };
            let Some(found) = found else { break };
            at += found;
            let byte = bytes[at];
            let quoted = self.place == Place::Quoted;
            if byte == b'\n' && quoted && before + at - begin < self.max_record {
                bytes[at] = LINE_BREAK;
            } else if byte == b'\n' {
                (records, before, begin, self.place) = (records + 1, 0, at + 1, Place::Before);
            } else {
                self.place = match self.place {
                    Place::Before | Place::Quote if byte == b'"' => Place::Quoted,
                    Place::Quoted => Place::Quote,
                    _ if byte == delimiter => Place::Before,
                    _ => Place::Plain,
                };
            }
            at += 1;
        }
        self.length = before + if records == most { 0 } else { bytes.len() - begin };
        (records, begin)
    }

    /// The next byte begins a record, however the last one ended.
    pub fn restart(&mut self) {
        (self.place, self.length) = (Place::Before, 0);
    }
}

/// Records that end in line feeds, up to `most`, and how many bytes they are.
fn scan_lines(bytes: &[u8], most: u64) -> (u64, usize) {
    let Some(last) = memrchr(b'\n', bytes) else { return (0, 0) };
    let records = memchr_iter(b'\n', &bytes[..=last]).count() as u64;
    if records <= most {
        return (records, last + 1);
    }
    let end = most.checked_sub(1).and_then(|nth| memchr_iter(b'\n', bytes).nth(nth as usize));
    (most, end.map_or(0, |end| end + 1))
}

/// Takes away what only blocks have.
fn clean(bytes: &mut [u8]) {
    let mut rest = bytes;
    while let Some(at) = memchr2(LINE_BREAK, BAD, rest) {
        rest[at] = FOREIGN;
        rest = &mut rest[at + 1..];
    }
}

/// Appends a record that is given as such to a block.
pub fn push_record(record: &[u8], block: &mut Vec<u8>) {
    let start = block.len();
    block.extend_from_slice(record);
    clean(&mut block[start..]);
    hide_line_breaks(&mut block[start..]);
    block.push(b'\n');
}

/// Appends a bad record to a block. Of its text only the beginning is kept.
pub fn push_bad(reason: &str, text: &[u8], block: &mut Vec<u8>) {
    block.push(BAD);
    block.extend_from_slice(reason.replace('\n', " ").as_bytes());
    block.push(BAD);
    push_record(&text[..text.len().min(BAD_TEXT)], block);
}

fn hide_line_breaks(bytes: &mut [u8]) {
    for byte in bytes {
        if *byte == b'\n' {
            *byte = LINE_BREAK;
        }
    }
}

/// Whether there is a line break within a record of a block.
pub fn has_line_break(records: &[u8]) -> bool {
    memchr(LINE_BREAK, records).is_some()
}

/// The text of records of a block, with its line breaks.
pub fn text(records: &[u8]) -> Cow<'_, [u8]> {
    if !has_line_break(records) {
        return Cow::Borrowed(records);
    }
    let shown = |byte: &u8| if *byte == LINE_BREAK { b'\n' } else { *byte };
    Cow::Owned(records.iter().map(shown).collect())
}

/// Why a record of a block is bad, and its text, if that is known already.
pub fn known_bad(record: &[u8]) -> Option<(Cow<'_, str>, &[u8])> {
    let record = record.strip_prefix(&[BAD])?;
    let end = memchr(BAD, record)?;
    Some((String::from_utf8_lossy(&record[..end]), &record[end + 1..]))
}

/// Whether a record of a block, without its line feed, is quoted as csv is. Readers forgive more, and take one field for
/// another then: what is quoted wrongly must not get that far.
pub fn check_quotes(record: &[u8], delimiter: u8) -> Result<(), &'static str> {
    if !has_line_break(record) && memchr(b'"', record).is_none() {
        return Ok(());
    }
    let mut place = Place::Before;
    for byte in record {
        place = match place {
            Place::Before | Place::Quote if *byte == b'"' => Place::Quoted,
            Place::Quoted if *byte == b'"' => Place::Quote,
            Place::Quoted => Place::Quoted,
            _ if *byte == LINE_BREAK => return Err("a line break outside of quotes"),
            _ if *byte == delimiter => Place::Before,
            Place::Quote => return Err(BEHIND_QUOTE),
            Place::Before | Place::Plain => Place::Plain,
        };
    }
    if place == Place::Quoted { Err("a quoted field does not end") } else { Ok(()) }
}

/// The fields of a csv record of a block, as they are written.
pub fn fields(record: &[u8], delimiter: u8) -> impl Iterator<Item = &[u8]> {
    let mut place = Place::Before;
    record.split(move |byte| {
        place = match place {
            Place::Before | Place::Quote if *byte == b'"' => Place::Quoted,
            Place::Quoted if *byte == b'"' => Place::Quote,
            Place::Quoted => Place::Quoted,
            _ if *byte == delimiter => Place::Before,
            _ => Place::Plain,
        };
        place == Place::Before
    })
}

/// All of a file as lines of a block, without the mark that it may begin with.
pub fn block_of(file: &[u8], framing: Framing) -> Vec<u8> {
    let mut block = file.strip_prefix(BYTE_ORDER_MARK).unwrap_or(file).to_vec();
    let (_, end) = Scanner::new(framing).scan(&mut block, u64::MAX);
    if end < block.len() {
        block.push(b'\n');
    }
    block
}

/// The first record of a block, without its line feed, and what follows it.
pub fn split_first(block: &[u8]) -> (&[u8], &[u8]) {
    memchr(b'\n', block).map_or((block, &[]), |end| (&block[..end], &block[end + 1..]))
}

/// The line of a file, from 1, in which a record of its block begins.
pub fn line_of(block: &[u8], record: u64) -> u64 {
    let begin = record.checked_sub(1).and_then(|last| memchr_iter(b'\n', block).nth(last as usize));
    let before = begin.map_or(0, |end| end + 1);
    1 + memchr2_iter(b'\n', LINE_BREAK, &block[..before]).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CSV: Framing = Framing::Csv { delimiter: b',' };

    /// The records of a text that comes in pieces of these lengths.
    fn records(text: &[u8], framing: Framing, pieces: &[usize], max_record: usize) -> Vec<Vec<u8>> {
        let mut scanner = Scanner::new(framing).with_max_record(max_record);
        let (mut buffer, mut begin, mut seen, mut rest, mut found) = (Vec::new(), 0, 0, text, Vec::new());
        for piece in pieces.iter().cycle().take_while(|_| !text.is_empty()) {
            let (piece, after) = rest.split_at((*piece).min(rest.len()));
            buffer.extend_from_slice(piece);
            while seen < buffer.len() {
                let (records, bytes) = scanner.scan(&mut buffer[seen..], 1);
                seen = if records == 0 { buffer.len() } else { seen + bytes };
                if records > 0 {
                    found.push(buffer[begin..seen].to_vec());
                    begin = seen;
                }
            }
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        found
    }

    /// Byte by byte, as RFC 4180 says it: a quote at the beginning of a field opens it, and what is in an odd number of
    /// quotes from there on is quoted.
    fn plain_ends(text: &[u8], max_record: usize) -> Vec<usize> {
        let (mut ends, mut begin, mut field, mut quotes) = (Vec::new(), 0, 0, 0);
        for (at, byte) in text.iter().enumerate() {
            let opened = text.get(field) == Some(&b'"');
            let behind = opened && quotes > 0 && quotes % 2 == 0;
            match byte {
                b'"' if opened && (!behind || text[at - 1] == b'"') => quotes += 1,
                b'\n' if !opened || quotes % 2 == 0 || at - begin >= max_record => {
                    ends.push(at + 1);
                    (begin, field, quotes) = (at + 1, at + 1, 0);
                }
                b',' if !opened || quotes % 2 == 0 => (field, quotes) = (at + 1, 0),
                // What is behind the closing quote is a plain field.
                _ if behind => (field, quotes) = (at, 0),
                _ => {}
            }
        }
        ends
    }

    #[test]
    fn a_quoted_line_break_ends_no_record() {
        let text = b"a,\"b\nc\"\"\n\",\"\"\n5\" pipe,\"x\"\n\"\n,\n";
        let found = records(text, CSV, &[1], MAX_RECORD);
        assert_eq!(found, [&b"a,\"b\xffc\"\"\xff\",\"\"\n"[..], b"5\" pipe,\"x\"\n"]);
        assert_eq!(records(text, Framing::Lines, &[3], MAX_RECORD).len(), 6);
        assert_eq!(text_of(&found[0]), "a,\"b\nc\"\"\n\",\"\"\n");
    }

    fn text_of(record: &[u8]) -> String {
        String::from_utf8(text(record).into_owned()).unwrap()
    }

    #[test]
    fn an_open_quote_ends_at_the_bound() {
        let found = records(b"\"open,1\nb,2\nc,3\nd,4\n", CSV, &[1], 10);
        assert_eq!(found, [&b"\"open,1\xffb,2\n"[..], b"c,3\n", b"d,4\n"]);
    }

    #[test]
    fn what_is_quoted_wrongly_is_told() {
        let wrong = |record: &[u8]| check_quotes(record, b',').unwrap_err();
        assert_eq!(wrong(b"a,\"b"), "a quoted field does not end");
        assert_eq!(wrong(b"a\xffb"), "a line break outside of quotes");
        for behind in [&b"\"a\xffb\" c"[..], b"\"x\"y,6", b"\"a\" ,b", b"a,\"b\\\"c\"", b"\"a\"\"\"b"] {
            assert_eq!(wrong(behind), BEHIND_QUOTE);
        }
        for good in [&b"a,5\" pipe"[..], b"a\"b\"", b"\"a\xff\"\"b\",", b"", b"\"\",\"\""] {
            assert_eq!(check_quotes(good, b','), Ok(()));
        }
    }

    #[test]
    fn bad_records_and_lines_of_files() {
        let mut block = Vec::new();
        push_bad("no\ngood", b"1\xfe\n2", &mut block);
        push_record(b"x\ny", &mut block);
        assert_eq!(memchr_iter(b'\n', &block).count(), 2);
        let end = memchr(b'\n', &block).unwrap();
        let (reason, bad) = known_bad(&block[..end]).unwrap();
        assert_eq!((reason.as_ref(), text(bad).as_ref()), ("no good", &b"1\xfd\n2"[..]));
        assert_eq!(known_bad(&block[end + 1..]), None);
        let file = block_of(b"\xef\xbb\xbf\"a\nb\",1\nc,2", CSV);
        assert_eq!(file, b"\"a\xffb\",1\nc,2\n");
        assert_eq!([0, 1, 2].map(|record| line_of(&file, record)), [1, 3, 4]);
    }

    proptest! {
        #[test]
        fn records_do_not_depend_on_pieces(
            bytes in prop::collection::vec(prop_oneof![
                3 => Just(b'\n'), 4 => Just(b'"'), 3 => Just(b','), 3 => Just(b'a'), 1 => Just(b'\r'), 1 => any::<u8>()
            ], 0..200),
            pieces in prop::collection::vec(1_usize..20, 1..10),
            max_record in 1_usize..60,
        ) {
            for framing in [Framing::Lines, CSV] {
                let found = records(&bytes, framing, &pieces, max_record);
                prop_assert_eq!(&found, &records(&bytes, framing, &[bytes.len().max(1)], max_record));
                for record in &found {
                    // One line, and nothing but that line.
                    prop_assert_eq!(memchr(b'\n', record), Some(record.len() - 1));
                    prop_assert_eq!(known_bad(record), None);
                }
            }
            let found = records(&bytes, CSV, &pieces, max_record);
            let mut end = 0;
            let ends: Vec<usize> = found.iter().map(|record| { end += record.len(); end }).collect();
            prop_assert_eq!(ends, plain_ends(&bytes, max_record));
        }

        /// What several records at once are is what they are one by one.
        #[test]
        fn many_at_once(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'"'), Just(b','), Just(b'a')], 0..100),
            cut in any::<prop::sample::Index>(),
        ) {
            let cut = cut.index(bytes.len() + 1);
            for framing in [Framing::Block, CSV] {
                let mut scanner = Scanner::new(framing);
                let mut all = bytes.clone();
                let (first, second) = all.split_at_mut(cut);
                let records_found = scanner.scan(first, u64::MAX).0 + scanner.scan(second, u64::MAX).0;
                let one_by_one = records(&bytes, framing, &[7], MAX_RECORD);
                prop_assert_eq!(records_found, one_by_one.len() as u64);
                let lines: Vec<u8> = one_by_one.concat();
                prop_assert_eq!(&all[..lines.len()], &lines[..]);
            }
        }

        #[test]
        fn given_records_stay_what_they_are(record in "[a-c\n\r\"\u{feff}]{0,12}") {
            let mut block = Vec::new();
            push_record(record.as_bytes(), &mut block);
            prop_assert_eq!(block.pop(), Some(b'\n'));
            prop_assert_eq!(text_of(&block), record);
        }
    }
}
