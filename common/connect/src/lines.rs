//! Bytes in, whole records out, as lines of blocks: finds where records end as bytes come, and cuts blocks behind the
//! last one.
//!
//! No record is looked at by itself; the work per byte is a few vectorised searches.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use memchr::memchr;
use std::io;
use tidemill_rows::records::{self, BYTE_ORDER_MARK, Framing, MAX_RECORD, Scanner, push_bad, push_record};
use tokio::io::{AsyncRead, AsyncReadExt};

/// One read asks for at most this many bytes.
const READ: usize = 1 << 20;

/// The least room worth a read.
const MIN_READ: usize = 16 << 10;

/// Bytes kept of a record that is too long.
const SAMPLE: usize = 1 << 10;
const TOO_LONG: &str = "longer than 8 MiB";

/// Records on their way into a block.
pub(crate) struct LineBuffer {
    buf: BytesMut,
    /// Bytes up to and with the last end of a record.
    whole: usize,
    /// Records in them.
    records: u64,
    /// A block is at most this long, but for a single long record.
    block_bytes: usize,
    max_record: usize,
    scanner: Scanner,
    /// Nothing was seen yet of a file or connection, but perhaps a part of the mark that it may begin with.
    fresh: bool,
    /// Records that are to be left out.
    skip: u64,
    /// How a record begins that is too long, while what follows of it is dropped.
    too_long: Option<Vec<u8>>,
}

/// Whole records, each one line, with how many they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) records: u64,
    pub(crate) bytes: Bytes,
}

impl LineBuffer {
    pub(crate) fn new(block_bytes: usize, framing: Framing) -> Self {
        Self {
            buf: BytesMut::new(),
            whole: 0,
            records: 0,
            block_bytes: block_bytes.clamp(1, MAX_RECORD),
            max_record: MAX_RECORD,
            scanner: Scanner::new(framing),
            fresh: false,
            skip: 0,
            too_long: None,
        }
    }

    /// A file or a connection begins, of which the first `skip` records are left out. It may begin with a byte order mark.
    pub(crate) fn begin(&mut self, skip: u64) {
        self.discard_partial();
        (self.fresh, self.skip) = (true, skip);
    }

    /// Whether records are left out.
    pub(crate) fn is_skipping(&self) -> bool {
        self.skip > 0
    }

    /// Whole records waiting to be cut.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Whether a block is due for its size: cut before reading on.
    pub(crate) fn is_full(&self) -> bool {
        self.records > 0 && self.buf.len() >= self.block_bytes
    }

    /// Reads once, at most so many bytes (not 0); 0 at the end of the stream. Cancel safe.
    pub(crate) async fn read_from(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
        at_most: usize,
    ) -> io::Result<usize> {
        let room = self.room().min(at_most);
        let start = self.buf.len();
        let read = reader.read_buf(&mut (&mut self.buf).limit(room)).await?;
        self.take_in(start);
        Ok(read)
    }

    /// Takes bytes from memory. Stops where a block is full; returns how many bytes were taken.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() && !self.is_full() {
            let room = self.room().min(bytes.len() - taken);
            let start = self.buf.len();
            self.buf.extend_from_slice(&bytes[taken..taken + room]);
            self.take_in(start);
            taken += room;
        }
        taken
    }

    /// Takes a record that is given as such, whatever is in it.
    pub(crate) fn push(&mut self, record: &[u8]) {
        let mut line = Vec::with_capacity(record.len() + 1);
        match record.len() <= self.max_record {
            true => push_record(record, &mut line),
            false => push_bad(TOO_LONG, record, &mut line),
        }
        self.keep(&line);
    }

    /// Makes room for a read that cannot push a block beyond its size.
    fn room(&mut self) -> usize {
        let len = self.buf.len();
        let most = if len < self.block_bytes { self.block_bytes } else { self.max_record + 1 };
        let room = most.saturating_sub(len).clamp(1, READ);
        if self.buf.capacity() - len < room.min(MIN_READ) {
            self.buf.reserve(room);
        }
        room
    }

    /// Accounts for the bytes from `start` on.
    fn take_in(&mut self, mut start: usize) {
        if self.fresh {
            // All that is there since it began.
            start = self.whole;
            let new = &self.buf[start..];
            if new.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(new) {
                return;
            }
            self.fresh = false;
            if new.starts_with(BYTE_ORDER_MARK) {
                self.remove(start, BYTE_ORDER_MARK.len());
            }
        }
        if self.skip > 0 {
            let (records, bytes) = self.scanner.scan(&mut self.buf[start..], self.skip);
            self.skip -= records;
            let left_out = if self.skip > 0 { self.buf.len() - start } else { bytes };
            self.remove(start, left_out);
        }
        if let Some(begun) = self.too_long.take() {
            // Before `start` are whole records only: what there was of the long one is dropped.
            let (records, bytes) = self.scanner.scan(&mut self.buf[start..], 1);
            if records == 0 {
                self.buf.truncate(start);
                self.too_long = Some(begun);
                return;
            }
            let rest = self.buf.split_off(start + bytes);
            self.buf.truncate(start);
            self.keep_too_long(&begun);
            start = self.buf.len();
            self.buf.extend_from_slice(&rest);
        }
        let (records, bytes) = self.scanner.scan(&mut self.buf[start..], u64::MAX);
        if records > 0 {
            self.records += records;
            self.whole = start + bytes;
        }
        if self.buf.len() - self.whole > self.max_record {
            let begun = &self.buf[self.whole..];
            self.too_long = Some(records::text(&begun[..begun.len().min(SAMPLE)]).into_owned());
            self.buf.truncate(self.whole);
        }
    }

    fn remove(&mut self, start: usize, bytes: usize) {
        let rest = self.buf.split_off(start + bytes);
        self.buf.truncate(start);
        self.buf.extend_from_slice(&rest);
    }

    /// Ends a record that is too long: a bad one takes its place.
    fn keep_too_long(&mut self, begun: &[u8]) {
        let mut line = Vec::new();
        push_bad(TOO_LONG, begun, &mut line);
        self.keep(&line);
    }

    fn keep(&mut self, line: &[u8]) {
        self.buf.extend_from_slice(line);
        self.whole = self.buf.len();
        self.records += 1;
    }

    /// All whole records, each a line that ends in `\n` (a `\r` before it is taken away).
    pub(crate) fn cut(&mut self) -> Option<Cut> {
        if self.records == 0 {
            return None;
        }
        let records = std::mem::take(&mut self.records);
        let whole = std::mem::take(&mut self.whole);
        let bytes = if memchr(b'\r', &self.buf[..whole]).is_some() {
            let bytes = without_cr(&self.buf[..whole]);
            self.buf.advance(whole);
            bytes
        } else if whole < self.buf.capacity() / 2 {
            // A small block must not keep a large buffer alive.
            let bytes = Bytes::copy_from_slice(&self.buf[..whole]);
            self.buf.advance(whole);
            bytes
        } else {
            self.buf.split_to(whole).freeze()
        };
        Some(Cut { records, bytes })
    }

    /// The stream ended properly: what there is of a record is one.
    pub(crate) fn end_record(&mut self) {
        if let Some(begun) = self.too_long.take() {
            self.keep_too_long(&begun);
        } else if self.skip == 0 && self.buf.len() > self.whole {
            self.keep(b"\n");
        }
        self.discard_partial();
    }

    /// Drops the part of a record at the end. True if there was one.
    pub(crate) fn discard_partial(&mut self) -> bool {
        let partial = self.buf.len() > self.whole || self.too_long.is_some();
        self.buf.truncate(self.whole);
        self.too_long = None;
        self.fresh = false;
        self.scanner.restart();
        partial
    }
}

/// The lines with `\n` for `\r\n`.
fn without_cr(lines: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(lines.len());
    let mut rest = lines;
    while let Some(at) = memchr(b'\r', rest) {
        let ends_line = rest.get(at + 1) == Some(&b'\n');
        out.extend_from_slice(&rest[..if ends_line { at } else { at + 1 }]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use memchr::memchr_iter;
    use proptest::prelude::*;

    const CSV: Framing = Framing::Csv { delimiter: b',' };

    fn buffer(block_bytes: usize, max_record: usize, framing: Framing) -> LineBuffer {
        let mut lines = LineBuffer::new(block_bytes.min(max_record), framing);
        lines.max_record = max_record;
        lines.scanner = Scanner::new(framing).with_max_record(max_record);
        lines
    }

    /// Appends all of it, cutting where a block is full.
    fn push(lines: &mut LineBuffer, mut bytes: &[u8], cuts: &mut Vec<Cut>) {
        while !bytes.is_empty() {
            let taken = lines.append(bytes);
            bytes = &bytes[taken..];
            if lines.is_full() {
                cuts.extend(lines.cut());
            }
        }
    }

    fn bad(begun: &[u8]) -> Vec<u8> {
        let mut line = Vec::new();
        push_bad(TOO_LONG, begun, &mut line);
        line
    }

    /// What should come out, record by record.
    fn expected(text: &[u8], max_record: usize, framing: Framing, skip: usize) -> Vec<u8> {
        let mut text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text).to_vec();
        let (mut out, mut rest) = (Vec::new(), &mut text[..]);
        let mut scanner = Scanner::new(framing).with_max_record(max_record);
        for number in 0.. {
            let (records, end) = scanner.scan(rest, 1);
            let end = if records == 0 { rest.len() } else { end };
            let (record, after) = rest.split_at_mut(end);
            let record = record.strip_suffix(b"\n").unwrap_or(record);
            if number >= skip && (records > 0 || !record.is_empty()) {
                if record.len() <= max_record {
                    out.extend_from_slice(record);
                    out.push(b'\n');
                } else {
                    out.extend(bad(&records::text(&record[..max_record + 1])));
                }
            }
            if records == 0 {
                break;
            }
            rest = after;
        }
        without_cr(&out).to_vec()
    }

    #[test]
    fn a_block_is_cut_behind_its_last_whole_line() {
        let mut lines = buffer(10, 100, Framing::Lines);
        assert_eq!(lines.append(b"one\ntwo\nthree\nfour"), 10);
        assert!(lines.is_full());
        let cut = lines.cut().unwrap();
        assert_eq!((cut.records, &cut.bytes[..]), (2, &b"one\ntwo\n"[..]));
        assert!(!lines.is_full());
        assert_eq!(lines.append(b"ree\n"), 4);
        assert_eq!(lines.cut().unwrap().bytes, "three\n");
        assert_eq!(lines.cut(), None);
    }

    #[test]
    fn an_unterminated_record_is_one_or_nothing() {
        let mut lines = buffer(100, 100, CSV);
        lines.append(b"one\n\"two\n2");
        assert!(lines.discard_partial());
        assert!(!lines.discard_partial());
        lines.append(b"\"three\n3");
        lines.end_record();
        lines.append(b"\"four\n4\"\nfive\n");
        assert_eq!(&lines.cut().unwrap().bytes[..], b"one\n\"three\xff3\n\"four\xff4\"\nfive\n");
    }

    #[test]
    fn a_mark_is_dropped_only_where_something_begins() {
        for framing in [Framing::Lines, CSV] {
            let mut lines = buffer(100, 100, framing);
            lines.begin(0);
            for byte in "\u{feff}\"a\"\n\u{feff}b\nc".as_bytes() {
                lines.append(&[*byte]);
            }
            lines.end_record();
            lines.begin(1);
            lines.append("\u{feff}header\n\u{feff}\n".as_bytes());
            lines.begin(0);
            lines.append(b"\xef\xbb");
            lines.end_record();
            lines.begin(0);
            lines.append(b"d\n");
            let expected = "\"a\"\n\u{feff}b\nc\n\u{feff}\n".as_bytes();
            assert_eq!(lines.cut().unwrap().bytes, [expected, b"\xef\xbb\nd\n"].concat());
        }
    }

    #[tokio::test]
    async fn a_long_line_takes_no_more_memory_than_allowed() {
        let text = [vec![b'x'; 3 * MAX_RECORD], b"\nnext\n".to_vec()].concat();
        let mut lines = LineBuffer::new(1 << 20, Framing::Lines);
        let mut reader = &text[..];
        while lines.read_from(&mut reader, usize::MAX).await.unwrap() > 0 {
            assert!(lines.buf.capacity() <= 3 * MAX_RECORD);
        }
        assert_eq!(lines.cut().unwrap().bytes, [bad(&[b'x'; SAMPLE]), b"next\n".to_vec()].concat());
    }

    #[test]
    fn an_open_quote_takes_one_record_with_it_and_no_more() {
        let mut text = b"a,\"open\n".to_vec();
        text.extend(b"good,1\n".repeat(MAX_RECORD / 7 + 1));
        text.extend(b"after,1\n");
        let (mut lines, mut cuts) = (LineBuffer::new(1 << 20, CSV), Vec::new());
        push(&mut lines, &text, &mut cuts);
        cuts.extend(lines.cut());
        let out: Vec<u8> = cuts.iter().flat_map(|cut| cut.bytes.to_vec()).collect();
        assert!(out.starts_with(&bad(&text[..SAMPLE])) && out.ends_with(b"after,1\n"));
        assert!(out.len() < 4 * SAMPLE, "{}", out.len());
    }

    #[test]
    fn a_small_block_does_not_keep_its_buffer() {
        let mut lines = LineBuffer::new(MAX_RECORD, Framing::Lines);
        lines.append(&[b'x'; 1 << 20]);
        lines.discard_partial();
        lines.append(b"one\n");
        let before = lines.buf.capacity();
        let cut = lines.cut().unwrap();
        assert_eq!(cut.bytes, "one\n");
        assert!(lines.buf.try_reclaim(before));
    }

    proptest! {
        #[test]
        fn records_come_out_as_they_went_in(
            text in proptest::collection::vec(prop_oneof![
                2 => Just(b'\n'), 1 => Just(b'\r'), 3 => Just(b'"'), 3 => Just(b','), 8 => Just(b'a'), 1 => any::<u8>()
            ], 0..400),
            mark: bool,
            pieces in proptest::collection::vec(1_usize..40, 1..50),
            cut_after in proptest::collection::vec(any::<bool>(), 1..50),
            block_bytes in 1_usize..60,
            max_record in 1_usize..40,
            csv: bool,
            skip in 0_usize..5,
        ) {
            let framing = if csv { CSV } else { Framing::Lines };
            let text = if mark { [BYTE_ORDER_MARK, &text].concat() } else { text };
            let mut lines = buffer(block_bytes, max_record, framing);
            lines.begin(skip as u64);
            let (mut cuts, mut rest) = (Vec::new(), &text[..]);
            for (length, cut) in pieces.iter().cycle().zip(cut_after.iter().cycle()) {
                let (piece, after) = rest.split_at((*length).min(rest.len()));
                push(&mut lines, piece, &mut cuts);
                if *cut {
                    cuts.extend(lines.cut());
                }
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            lines.end_record();
            cuts.extend(lines.cut());
            for cut in &cuts {
                prop_assert_eq!(cut.bytes.last(), Some(&b'\n'));
                prop_assert_eq!(memchr_iter(b'\n', &cut.bytes).count() as u64, cut.records);
                prop_assert!(cut.bytes.len() <= block_bytes.max(max_record) + 1 + bad(&[b'x'; 40]).len());
            }
            let out: Vec<u8> = cuts.iter().flat_map(|cut| cut.bytes.to_vec()).collect();
            prop_assert_eq!(out, expected(&text, max_record, framing, skip));
        }
    }
}
