//! Files of frames: a header says what the file is, and every frame proves itself.
//!
//! The file's header is 24 bytes: `TIDEMILL` | kind, 4 bytes | version u32 | 4 zeros | crc32 of these 20. The version is
//! that of all bodies in the file, and is read before any of them. A frame has a header of 16 bytes, `length u32 | kind u8 |
//! 3 zeros | crc32 of the body | crc32 of these 12`, and a body. Numbers are little-endian.
//!
//! A length that is wrong shows in the header's own checksum. So a frame that a crash has torn is told from one that was
//! damaged later: of a torn one the rest is missing, or zeros where a disk lost power before it wrote, and nothing follows.

/// Bytes of a file's header.
pub const FILE_HEADER: usize = 24;
/// Bytes of a frame's header.
pub const FRAME_HEADER: usize = 16;
/// Longest body, in bytes.
pub const MAX_BODY: usize = 1 << 30;

const MAGIC: [u8; 8] = *b"TIDEMILL";
/// What a disk writes at once at the least.
const SECTOR: usize = 512;

/// The header of a file.
pub fn file_header(kind: [u8; 4], version: u32) -> [u8; FILE_HEADER] {
    let mut header = [0; FILE_HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&kind);
    header[12..16].copy_from_slice(&version.to_le_bytes());
    let crc = crc32fast::hash(&header[..20]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// What the beginning of a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileHeader {
    /// It is of this kind and version.
    Of([u8; 4], u32),
    /// It began as a file of frames, but its header is damaged or cut off.
    Damaged,
    /// It is no file of frames.
    Other,
}

/// Reads the header of a file.
pub fn read_file_header(bytes: &[u8]) -> FileHeader {
    let begun = bytes.len().min(MAGIC.len());
    let Some(header) = bytes.first_chunk::<FILE_HEADER>() else {
        return if bytes[..begun] == MAGIC[..begun] { FileHeader::Damaged } else { FileHeader::Other };
    };
    if crc32fast::hash(&header[..20]) == u32_at(header, 20) {
        let kind = [header[8], header[9], header[10], header[11]];
        return if header[..8] == MAGIC { FileHeader::Of(kind, u32_at(header, 12)) } else { FileHeader::Other };
    }
    // One bit may be wrong anywhere.
    let wrong = header[..8].iter().zip(MAGIC).filter(|(found, wanted)| **found != *wanted).count();
    if wrong <= 2 { FileHeader::Damaged } else { FileHeader::Other }
}

/// The header of a frame, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the body is.
    pub kind: u8,
    /// Bytes of the body.
    pub length: usize,
    crc: u32,
}

impl FrameHeader {
    /// The header of a frame with this body; `None` if the body is longer than [`MAX_BODY`].
    pub fn of(kind: u8, body: &[u8]) -> Option<Self> {
        (body.len() <= MAX_BODY).then(|| Self { kind, length: body.len(), crc: crc32fast::hash(body) })
    }

    /// As bytes.
    pub fn to_bytes(self) -> [u8; FRAME_HEADER] {
        let mut header = [0; FRAME_HEADER];
        header[..4].copy_from_slice(&(self.length as u32).to_le_bytes());
        header[4] = self.kind;
        header[8..12].copy_from_slice(&self.crc.to_le_bytes());
        let crc = crc32fast::hash(&header[..12]);
        header[12..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// Reads a header; `None` unless it is whole.
    pub fn read(header: &[u8; FRAME_HEADER]) -> Option<Self> {
        let (length, crc) = (u32_at(header, 0) as usize, u32_at(header, 8));
        let whole = crc32fast::hash(&header[..12]) == u32_at(header, 12) && length <= MAX_BODY;
        (whole && header[5..8] == [0; 3]).then_some(Self { kind: header[4], length, crc })
    }

    /// Whether this is the body that was written.
    pub fn proves(&self, body: &[u8]) -> bool {
        body.len() == self.length && crc32fast::hash(body) == self.crc
    }
}

/// Appends a frame; false, and nothing appended, if the body is longer than [`MAX_BODY`].
pub fn push(out: &mut Vec<u8>, kind: u8, body: &[u8]) -> bool {
    let Some(header) = FrameHeader::of(kind, body) else { return false };
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(body);
    true
}

/// What stands at some place of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// A whole frame.
    Whole {
        /// What the body is.
        kind: u8,
        /// The body.
        body: &'a [u8],
        /// Where it ends.
        end: usize,
    },
    /// The end of the file.
    End,
    /// The beginning of a frame that a crash kept from being written; nothing follows.
    Torn,
    /// Something else.
    Damaged {
        /// What is wrong.
        what: &'static str,
        /// Where it ends, if its header is whole.
        end: Option<usize>,
        /// Where the next whole frame begins, if one follows.
        next: Option<usize>,
    },
}

/// Reads the frame that begins at byte `at`.
pub fn step(bytes: &[u8], at: usize) -> Step<'_> {
    let rest = bytes.get(at..).unwrap_or_default();
    if rest.is_empty() {
        return Step::End;
    }
    if let Some((kind, body)) = whole(rest) {
        return Step::Whole { kind, body, end: at + FRAME_HEADER + body.len() };
    }
    let header = rest.first_chunk().and_then(FrameHeader::read);
    let end = at + header.map_or(FRAME_HEADER, |header| FRAME_HEADER + header.length);
    let next = next_whole(bytes, at + 1);
    if next.is_none() && is_torn(bytes, at, end) {
        return Step::Torn;
    }
    let known_end = header.map(|_| end).filter(|end| *end <= bytes.len());
    let what = match header {
        None => "the header of an entry does not match its checksum",
        Some(_) if end > bytes.len() => "an entry is cut off, and others follow it",
        Some(_) => "an entry does not match its checksum",
    };
    Step::Damaged { what, end: known_end, next }
}

/// The frame at the beginning of these bytes, if it is whole.
fn whole(rest: &[u8]) -> Option<(u8, &[u8])> {
    let (header, after) = rest.split_first_chunk::<FRAME_HEADER>()?;
    let header = FrameHeader::read(header)?;
    let body = after.get(..header.length)?;
    header.proves(body).then_some((header.kind, body))
}

fn next_whole(bytes: &[u8], from: usize) -> Option<usize> {
    (from..bytes.len().saturating_sub(FRAME_HEADER - 1)).find(|at| whole(&bytes[*at..]).is_some())
}

/// Whether the bytes from `at` are a frame up to `end` that was not written to its end: either the file ends within it, or
/// all is zeros from its beginning, or from where a sector begins in it, to the end of the file.
pub fn is_torn(bytes: &[u8], at: usize, end: usize) -> bool {
    if end > bytes.len() {
        return true;
    }
    let zeros = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
    let from = if zeros <= at { at } else { zeros.next_multiple_of(SECTOR) };
    from < end
}

/// Whether the last byte before `end` is zero, and all behind it to the end of the file. Where no body ends with a zero, a frame
/// for which this holds was not written to its end.
pub fn ends_in_zeros(bytes: &[u8], end: usize) -> bool {
    let from = end.saturating_sub(1).min(bytes.len());
    from < bytes.len() && bytes[from..].iter().all(|byte| *byte == 0)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(bodies: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = file_header(*b"test", 3).to_vec();
        let mut ends = vec![bytes.len()];
        for body in bodies {
            assert!(push(&mut bytes, 7, body));
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    /// Where reading from the first frame on ends, and how.
    fn read(bytes: &[u8]) -> (usize, Step<'_>) {
        let mut at = FILE_HEADER;
        loop {
            match step(bytes, at) {
                Step::Whole { end, .. } => at = end,
                other => return (at, other),
            }
        }
    }

    fn any_bodies() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let body = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            (0..2000_usize).prop_map(|length| vec![0; length]),
            prop::collection::vec(any::<u8>(), 500..1500),
        ];
        prop::collection::vec(body, 1..6)
    }

    #[test]
    fn headers_tell_kind_and_version() {
        let header = file_header(*b"test", 3);
        assert_eq!(read_file_header(&header), FileHeader::Of(*b"test", 3));
        assert_eq!(read_file_header(&header[..20]), FileHeader::Damaged);
        assert_eq!(read_file_header(b"PAR1 and more than twenty-four bytes"), FileHeader::Other);
        for bit in 0..FILE_HEADER * 8 {
            let mut header = header;
            header[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read_file_header(&header), FileHeader::Damaged, "bit {bit}");
        }
    }

    proptest! {
        /// A file that is cut off anywhere is whole up to the frame that the cut is in.
        #[test]
        fn a_cut_is_a_torn_tail(bodies in any_bodies(), cut in any::<prop::sample::Index>()) {
            let (bytes, ends) = file(&bodies);
            let cut = FILE_HEADER + cut.index(bytes.len() - FILE_HEADER + 1);
            let (at, last) = read(&bytes[..cut]);
            let whole = ends.iter().copied().filter(|end| *end <= cut).max().unwrap();
            prop_assert_eq!(at, whole);
            prop_assert_eq!(last, if whole == cut { Step::End } else { Step::Torn });
        }

        /// Power was lost before the last sectors were written.
        #[test]
        fn a_tail_of_zeros_is_torn(bodies in any_bodies(), cut in any::<prop::sample::Index>()) {
            let (mut bytes, ends) = file(&bodies);
            let from = (FILE_HEADER + cut.index(bytes.len() - FILE_HEADER)).next_multiple_of(SECTOR);
            prop_assume!(from < bytes.len());
            bytes[from..].fill(0);
            let (at, last) = read(&bytes);
            let before = ends.iter().copied().filter(|end| *end <= from).max().unwrap();
            // Zeros may be what was to be written.
            prop_assert!(at >= before);
            prop_assert!(matches!(last, Step::Torn | Step::End), "{last:?}");
        }

        /// One wrong bit never hides a whole frame that is followed by others.
        #[test]
        fn a_flipped_bit_is_damage(bodies in any_bodies(), bit in any::<prop::sample::Index>()) {
            let (mut bytes, ends) = file(&bodies);
            let bit = FILE_HEADER * 8 + bit.index((bytes.len() - FILE_HEADER) * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let (at, last) = read(&bytes);
            let frame = ends.iter().copied().filter(|end| *end <= bit / 8).max().unwrap();
            let end = ends.iter().copied().find(|end| *end > bit / 8).unwrap();
            prop_assert_eq!(at, frame);
            match last {
                Step::Damaged { next, .. } => {
                    prop_assert_eq!(next, (end < bytes.len()).then_some(end));
                }
                // The last frame alone may look torn: when it ends with a sector of zeros.
                Step::Torn => prop_assert_eq!(end, bytes.len()),
                other => prop_assert!(false, "{other:?}"),
            }
        }

        #[test]
        fn noise_does_not_panic(noise in prop::collection::vec(any::<u8>(), 0..3000), at in 0..3000_usize) {
            read_file_header(&noise);
            step(&noise, at);
        }
    }
}
