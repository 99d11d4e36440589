//! Decoders of this crate, for tests that give them any bytes: each function panics when its decoder does not do as it should.

use crate::lines::LineBuffer;
use crate::parts::{read_part, write_part};
use crate::sources::socket::protocol::{FromReceiver, FromSender};
use std::io::Cursor;
use tidemill_rows::records::Framing;

/// Reads a line of the acknowledged line protocol, from either end.
pub fn conversation(bytes: &[u8]) {
    let line = String::from_utf8_lossy(bytes);
    if let Ok(said) = line.parse::<FromSender>() {
        assert_eq!(said.to_string().parse(), Ok(said));
    }
    if let Ok(said) = line.parse::<FromReceiver>() {
        assert_eq!(said.to_string().parse(), Ok(said));
    }
}

/// Cuts a stream into blocks of whole records. Which records there are does not depend on how it comes.
pub fn lines(bytes: &[u8]) {
    let Some((first, stream)) = bytes.split_first() else { return };
    let piece = usize::from(first % 16) + 1;
    let skip = u64::from(first / 16);
    for framing in [Framing::Lines, Framing::Csv { delimiter: b',' }, Framing::Block] {
        let whole = cut(stream, stream.len().max(1), 1 << 20, framing, skip);
        assert_eq!(cut(stream, piece, 1 << 20, framing, skip), whole);
        assert_eq!(cut(stream, piece, 16, framing, skip), whole);
        assert_eq!(whole.1.iter().filter(|byte| **byte == b'\n').count() as u64, whole.0);
    }
}

/// How many records there are, and what is in all blocks.
fn cut(stream: &[u8], piece: usize, block_bytes: usize, framing: Framing, skip: u64) -> (u64, Vec<u8>) {
    let (mut lines, mut records, mut all) = (LineBuffer::new(block_bytes, framing), 0, Vec::new());
    lines.begin(skip);
    let mut take = |lines: &mut LineBuffer| {
        if let Some(cut) = lines.cut() {
            records += cut.records;
            all.extend_from_slice(&cut.bytes);
        }
    };
    for mut piece in stream.chunks(piece) {
        while !piece.is_empty() {
            piece = &piece[lines.append(piece)..];
            if lines.is_full() {
                take(&mut lines);
            }
        }
    }
    lines.end_record();
    take(&mut lines);
    (records, all)
}

/// Reads what a task brings for an output; what reads to its end is written as it was.
pub fn part(bytes: &[u8]) {
    let Ok(rows) = read_part(Cursor::new(bytes)) else { return };
    let mut all = Vec::new();
    for row in rows {
        let Ok(row) = row else { return };
        all.push(row);
    }
    let mut written = Vec::new();
    write_part(&mut written, &all).expect("rows that were read can be written");
    assert_eq!(bytes.get(..written.len()), Some(&written[..]));
}

#[cfg(test)]
mod tests {
    use crate::parts::{PartRow, write_part};
    use tidemill_common::testkit::{Decoder, has_target};

    fn run(name: &str, decode: fn(&[u8]), seeds: Vec<Vec<u8>>, most_bytes: u64) {
        let peak = |run: &mut dyn FnMut()| allocation_counter::measure(run).bytes_max;
        assert!(has_target("tidemill_connect", name));
        Decoder { name, decode, seeds, most_bytes, one_in: 1, peak }.run();
    }

    #[test]
    fn conversation() {
        let lines =
            ["TIDEMILL 1 FROM 17\n", "TIDEMILL 1 GAP 0\r\n", "TIDEMILL 1 RESUME 18446744073709551615\n", "HELD 5\n"];
        run("conversation", super::conversation, lines.map(|line| line.as_bytes().to_vec()).to_vec(), 1 << 20);
    }

    #[test]
    fn lines() {
        let streams = ["\x07a,1\nb,2\r\n\"c\n\"\"d\",3\n\ne", "\x10\u{feff}a,1\n\"b", "\x22\n\n\"\"\"\n\",\"\n"];
        run("lines", super::lines, streams.map(|stream| stream.as_bytes().to_vec()).to_vec(), 8 << 20);
    }

    #[test]
    fn part() {
        let row = |lane, order, key: &[u8], row: &[u8]| PartRow { lane, order, key: key.to_vec(), row: row.to_vec() };
        let written = |rows: &[PartRow]| {
            let mut bytes = Vec::new();
            write_part(&mut bytes, rows).unwrap();
            bytes
        };
        let seeds = vec![written(&[]), written(&[row(0, 7, b"", b"a"), row(1, 0, b"key", b"")])];
        run("part", super::part, seeds, 1 << 20);
    }
}
