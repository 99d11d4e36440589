//! Decoders of this crate, for tests that give them any bytes: each function panics when its decoder does not do as it should.

use crate::frame::{self, FILE_HEADER, FRAME_HEADER, Step};
use crate::location::Location;
use crate::units;
use std::path::Path;

/// Reads what stands in a definition as text: durations, sizes, times and places.
pub fn values(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = (units::parse_duration(&text), units::parse_size(&text), units::parse_time(&text));
    if let Ok(location) = Location::parse(&text) {
        if matches!(location, Location::Object(_)) {
            assert_eq!(Location::parse(&location.to_string()).as_ref(), Ok(&location));
        }
        let _ = (location.split(), Location::resolve(Path::new("/base"), &text));
    }
}

/// Goes through a file of frames, to its end and over all that is damaged.
pub fn frames(bytes: &[u8]) {
    frame::read_file_header(bytes);
    let mut at = FILE_HEADER;
    loop {
        let next = match frame::step(bytes, at) {
            Step::Whole { end, .. } => Some(end),
            Step::Damaged { next, .. } => next,
            Step::End | Step::Torn => None,
        };
        let Some(next) = next else { return };
        assert!(at < next && next <= bytes.len());
        at = next;
    }
}

/// These bytes as a file of frames of a kind and version, with checksums that are right; lengths are kept as far as they fit.
pub fn sealed(bytes: &[u8], kind: [u8; 4], version: u32) -> Vec<u8> {
    let mut file = frame::file_header(kind, version).to_vec();
    let mut rest = bytes.get(FILE_HEADER..).unwrap_or_default();
    while let Some((header, after)) = rest.split_first_chunk::<FRAME_HEADER>() {
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let (body, after) = after.split_at(length.min(after.len()));
        frame::push(&mut file, header[4], body);
        rest = after;
    }
    file
}

/// The same for files of before there were frames: `length u32 | crc32 u32 | body`.
pub fn sealed_records(bytes: &[u8]) -> Vec<u8> {
    let (mut file, mut rest) = (Vec::new(), bytes);
    while let Some((header, after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let (body, after) = after.split_at(length.min(after.len()));
        file.extend((body.len() as u32).to_le_bytes());
        file.extend(crc32fast::hash(body).to_le_bytes());
        file.extend_from_slice(body);
        rest = after;
    }
    file
}

#[cfg(test)]
mod tests {
    use crate::frame::{file_header, push};
    use crate::testkit::{Decoder, has_target};

    fn run(name: &str, decode: fn(&[u8]), seeds: Vec<Vec<u8>>) {
        let peak = |run: &mut dyn FnMut()| allocation_counter::measure(run).bytes_max;
        assert!(has_target("tidemill_common", name));
        Decoder { name, decode, seeds, most_bytes: 1 << 20, one_in: 1, peak }.run();
    }

    #[test]
    fn values() {
        let texts = [
            "250ms",
            "1h",
            "1.5 s",
            "64 MiB",
            "8GB",
            "2024-05-06T07:08:09Z",
            "2024-05-06",
            "s3://bucket/a/b",
            "file:///a",
            "../a/*.csv",
        ];
        run("values", super::values, texts.map(|text| text.as_bytes().to_vec()).to_vec());
    }

    #[test]
    fn frames() {
        let file = |bodies: &[&[u8]]| {
            let mut bytes = file_header(*b"test", 3).to_vec();
            assert!(bodies.iter().all(|body| push(&mut bytes, 7, body)));
            bytes
        };
        run("frames", super::frames, vec![file(&[b"one", b"", b"three"]), file(&[&[0; 1200], b"two"]), file(&[])]);
    }
}
