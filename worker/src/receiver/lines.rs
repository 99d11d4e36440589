//! Bytes in, whole lines out: counts newlines as bytes come and cuts blocks behind the last one.
//!
//! No line is looked at by itself; the work per byte is two vectorised searches.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use memchr::{memchr, memchr_iter, memrchr};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// A longer line, in bytes without its newline, is not kept.
pub(crate) const MAX_LINE: usize = 8 << 20;

/// One read asks for at most this many bytes.
const READ: usize = 1 << 20;

/// The least room worth a read.
const MIN_READ: usize = 16 << 10;

/// What takes the place of a line over [`MAX_LINE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Oversized {
    /// Nothing.
    Drop,
    /// An empty line, so that the positions of the lines after it stay those of the sender.
    Blank,
}

/// Lines on their way into a block.
pub(crate) struct LineBuffer {
    buf: BytesMut,
    /// Bytes up to and with the last newline.
    whole: usize,
    /// Newlines in them.
    records: u64,
    /// A block is at most this long, but for a single long line.
    block_bytes: usize,
    max_line: usize,
    on_oversized: Oversized,
    /// Inside an oversized line, whose beginning is dropped already.
    skipping: bool,
    oversized: u64,
}

/// Whole lines with how many they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) records: u64,
    pub(crate) bytes: Bytes,
}

impl LineBuffer {
    pub(crate) fn new(block_bytes: usize, on_oversized: Oversized) -> Self {
        Self {
            buf: BytesMut::new(),
            whole: 0,
            records: 0,
            block_bytes: block_bytes.clamp(1, MAX_LINE),
            max_line: MAX_LINE,
            on_oversized,
            skipping: false,
            oversized: 0,
        }
    }

    /// Whole lines waiting to be cut.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Lines that were too long, so far.
    pub(crate) fn oversized(&self) -> u64 {
        self.oversized
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

    /// Makes room for a read that cannot push a block beyond its size.
    fn room(&mut self) -> usize {
        let len = self.buf.len();
        let most = if len < self.block_bytes { self.block_bytes } else { self.max_line + 1 };
        let room = most.saturating_sub(len).clamp(1, READ);
        if self.buf.capacity() - len < room.min(MIN_READ) {
            self.buf.reserve(room);
        }
        room
    }

    /// Accounts for the bytes from `start` on.
    fn take_in(&mut self, start: usize) {
        if self.skipping {
            // The part before `start` is whole lines only: what belonged to the long line is gone.
            let Some(end) = memchr(b'\n', &self.buf[start..]) else {
                self.buf.truncate(start);
                return;
            };
            self.skipping = false;
            self.drop_oversized(start, end);
        }
        let new = &self.buf[start..];
        if let Some(last) = memrchr(b'\n', new) {
            self.records += memchr_iter(b'\n', &new[..=last]).count() as u64;
            self.whole = start + last + 1;
        }
        if self.buf.len() - self.whole > self.max_line {
            self.oversized += 1;
            self.skipping = true;
            self.buf.truncate(self.whole);
        }
    }

    /// Drops the rest of an oversized line, whose newline is `end` bytes behind `start`.
    fn drop_oversized(&mut self, start: usize, end: usize) {
        let rest = self.buf.split_off(start);
        self.buf.extend_from_slice(match self.on_oversized {
            Oversized::Drop => &rest[end + 1..],
            Oversized::Blank => &rest[end..],
        });
    }

    /// All whole lines, each ending in `\n` (a `\r` before it is taken away).
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

    /// The stream ended properly: an unterminated last line is a record.
    pub(crate) fn end_line(&mut self) {
        if self.buf.len() > self.whole {
            let start = self.buf.len();
            self.buf.put_u8(b'\n');
            self.take_in(start);
        }
        self.discard_partial();
    }

    /// Drops the part of a line at the end. True if there was one.
    pub(crate) fn discard_partial(&mut self) -> bool {
        let partial = self.buf.len() > self.whole || self.skipping;
        self.buf.truncate(self.whole);
        self.skipping = false;
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
    use proptest::prelude::*;

    fn buffer(block_bytes: usize, max_line: usize, on_oversized: Oversized) -> LineBuffer {
        let mut lines = LineBuffer::new(block_bytes.min(max_line), on_oversized);
        lines.max_line = max_line;
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

    /// What should come out, line by line.
    fn expected(text: &[u8], max_line: usize, on_oversized: Oversized) -> Vec<u8> {
        let mut out = Vec::new();
        let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        let last = lines.pop().unwrap();
        for line in lines {
            if line.len() <= max_line {
                out.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
                out.push(b'\n');
            } else if on_oversized == Oversized::Blank {
                out.push(b'\n');
            }
        }
        if !last.is_empty() && last.len() <= max_line {
            out.extend_from_slice(last.strip_suffix(b"\r").unwrap_or(last));
            out.push(b'\n');
        }
        out
    }

    #[test]
    fn a_block_is_cut_behind_its_last_whole_line() {
        let mut lines = buffer(10, 100, Oversized::Drop);
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
    fn an_unterminated_line_is_a_record_or_nothing() {
        let mut lines = buffer(100, 100, Oversized::Drop);
        lines.append(b"one\ntwo");
        assert!(lines.discard_partial());
        assert!(!lines.discard_partial());
        lines.append(b"three");
        lines.end_line();
        assert_eq!(lines.cut().unwrap().bytes, "one\nthree\n");
    }

    #[tokio::test]
    async fn a_long_line_takes_no_more_memory_than_allowed() {
        let text = [vec![b'x'; 3 * MAX_LINE], b"\nnext\n".to_vec()].concat();
        for (on_oversized, left) in [(Oversized::Drop, "next\n"), (Oversized::Blank, "\nnext\n")] {
            let mut lines = LineBuffer::new(1 << 20, on_oversized);
            let mut reader = &text[..];
            while lines.read_from(&mut reader, usize::MAX).await.unwrap() > 0 {
                assert!(lines.buf.capacity() <= 3 * MAX_LINE);
            }
            assert_eq!(lines.oversized(), 1);
            assert_eq!(lines.cut().unwrap().bytes, left);
        }
    }

    #[test]
    fn a_small_block_does_not_keep_its_buffer() {
        let mut lines = LineBuffer::new(MAX_LINE, Oversized::Drop);
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
        fn lines_come_out_as_they_went_in(
            text in proptest::collection::vec(prop_oneof![
                2 => Just(b'\n'), 1 => Just(b'\r'), 8 => Just(b'a'), 4 => any::<u8>()
            ], 0..400),
            pieces in proptest::collection::vec(1_usize..40, 1..50),
            cut_after in proptest::collection::vec(any::<bool>(), 1..50),
            block_bytes in 1_usize..60,
            max_line in 1_usize..40,
            blank: bool,
        ) {
            let on_oversized = if blank { Oversized::Blank } else { Oversized::Drop };
            let mut lines = buffer(block_bytes, max_line, on_oversized);
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
            lines.end_line();
            cuts.extend(lines.cut());
            for cut in &cuts {
                prop_assert_eq!(cut.bytes.last(), Some(&b'\n'));
                prop_assert_eq!(memchr_iter(b'\n', &cut.bytes).count() as u64, cut.records);
                prop_assert!(cut.bytes.len() <= block_bytes.max(max_line) + 1);
            }
            let out: Vec<u8> = cuts.iter().flat_map(|cut| cut.bytes.to_vec()).collect();
            prop_assert_eq!(out, expected(&text, max_line, on_oversized));
        }
    }
}
