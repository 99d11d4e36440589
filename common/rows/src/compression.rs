//! Compressed files of lines: told by their names and first bytes when they are read, piece by piece both ways, so that
//! what is behind a small file takes no memory.

mod blocks;

use blocks::Blocks;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::fmt;
use std::io::{self, BufRead, BufReader, Cursor, Read, Write};

/// How files are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// Zstandard, RFC 8878.
    Zstd,
    /// LZ4 frames; in Parquet LZ4_RAW.
    Lz4,
    /// Snappy frames; in Parquet plain.
    Snappy,
    /// Brotli, RFC 7932.
    Brotli,
}

impl Compression {
    /// What the name of such a file ends in.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
            Self::Lz4 => ".lz4",
            Self::Snappy => ".sz",
            Self::Brotli => ".br",
        }
    }

    /// How a file of this name is compressed, if its name says so.
    pub fn of_name(name: &str) -> Option<Self> {
        let (_, suffix) = name.rsplit_once('.')?;
        match suffix.to_ascii_lowercase().as_str() {
            "gz" | "gzip" => Some(Self::Gzip),
            "zst" | "zstd" => Some(Self::Zstd),
            "lz4" => Some(Self::Lz4),
            "sz" | "snappy" => Some(Self::Snappy),
            "br" => Some(Self::Brotli),
            _ => None,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Snappy => "snappy",
            Self::Brotli => "brotli",
        })
    }
}

/// Bytes looked at at once.
const BUFFER: usize = 64 << 10;
/// Bytes by which a kind is told.
const HEAD: usize = 10;
/// Quality and window of brotli, as its own tool writes by default but for the time that takes.
const BROTLI: (u32, u32) = (5, 22);

/// What is in a file of a name: as it is, or decompressed.
///
/// | name | kind |
/// |---|---|
/// | `.gz` | gzip, of one member or several |
/// | `.zst` | Zstandard |
/// | `.lz4` | LZ4 frames, or the blocks that Hadoop and Spark write |
/// | `.sz`, `.snappy` | Snappy frames, or the blocks that Hadoop and Spark write |
/// | `.br` | Brotli |
///
/// gzip, Zstandard and Snappy frames are no text in any encoding that sources take, so they are told without a name too.
///
/// # Errors
/// Those of the file; [`io::ErrorKind::InvalidData`] if its name says one thing and its bytes another.
pub fn decompressed<'a>(name: &str, mut file: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut head = Vec::with_capacity(HEAD);
    file.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    let (named, found) = (Compression::of_name(name), of_bytes(&head));
    let from = BufReader::with_capacity(BUFFER, Cursor::new(head.clone()).chain(file));
    Ok(match (named, found) {
        // Nothing is nothing, whatever it is called.
        (_, _) if head.is_empty() => Box::new(from),
        (Some(Compression::Gzip) | None, Some(Compression::Gzip)) => Box::new(MultiGzDecoder::new(from)),
        (Some(Compression::Zstd) | None, Some(Compression::Zstd)) => {
            Box::new(zstd::stream::read::Decoder::with_buffer(from)?)
        }
        // A frame that is skipped, which a text could begin as.
        (Some(Compression::Zstd), None) if matches!(head[..], [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]) => {
            Box::new(zstd::stream::read::Decoder::with_buffer(from)?)
        }
        (Some(Compression::Snappy) | None, Some(Compression::Snappy)) => Box::new(snap::read::FrameDecoder::new(from)),
        (Some(Compression::Lz4), Some(Compression::Lz4)) => Box::new(Lz4Frames::new(from)),
        (Some(Compression::Snappy), None) => Box::new(Blocks::snappy(from)),
        (Some(Compression::Lz4), None) => Box::new(Blocks::lz4(from)),
        // Which may begin with any bytes.
        (Some(Compression::Brotli), _) => Box::new(brotli::Decompressor::new(from, BUFFER)),
        (None, _) => Box::new(from),
        (Some(named), _) => {
            let message = format!("its name says {named}, and its bytes do not");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
    })
}

fn of_bytes(head: &[u8]) -> Option<Compression> {
    match head {
        [0x1f, 0x8b, ..] => Some(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Compression::Zstd),
        [0x04, 0x22, 0x4d, 0x18, ..] => Some(Compression::Lz4),
        [0xff, 0x06, 0, 0, b's', b'N', b'a', b'P', b'p', b'Y'] => Some(Compression::Snappy),
        _ => None,
    }
}

/// The decoder ends with a frame; a file may have several. It also ends where the file does between two blocks, and does not
/// say so.
struct Lz4Frames<R: BufRead> {
    frames: lz4_flex::frame::FrameDecoder<Watched<R>>,
    done: bool,
}

impl<R: BufRead> Lz4Frames<R> {
    fn new(file: R) -> Self {
        Self { frames: lz4_flex::frame::FrameDecoder::new(Watched { file, wanted_more: false }), done: false }
    }
}

impl<R: BufRead> Read for Lz4Frames<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !self.done && !into.is_empty() {
            let read = self.frames.read(into)?;
            if read > 0 {
                return Ok(read);
            }
            let file = self.frames.get_mut();
            if file.wanted_more {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the last frame has no end"));
            }
            self.done = file.file.fill_buf()?.is_empty();
        }
        Ok(0)
    }
}

/// A file that knows whether its reader wanted more than there is.
struct Watched<R> {
    file: R,
    wanted_more: bool,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into)?;
        self.wanted_more |= read == 0 && !into.is_empty();
        Ok(read)
    }
}

/// A file of lines that is being written. What was written before it ends as a stream of its own, so that another one
/// can be appended (but for Brotli, which has no such streams).
pub enum Compressor<W: Write> {
    /// Not compressed.
    Plain(W),
    /// gzip.
    Gzip(GzEncoder<W>),
    /// Zstandard.
    Zstd(zstd::stream::write::Encoder<'static, W>),
    /// LZ4 frames.
    Lz4(Box<lz4_flex::frame::FrameEncoder<W>>),
    /// Snappy frames.
    Snappy(Box<snap::write::FrameEncoder<W>>),
    /// Brotli.
    Brotli(Box<brotli::CompressorWriter<Latch<W>>>),
}

/// The encoder of Brotli does not tell what fails at its end.
pub struct Latch<W> {
    out: W,
    failed: Option<io::Error>,
}

impl<W: Write> Write for Latch<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes).inspect_err(|error| self.failed = Some(io::Error::new(error.kind(), error.to_string())))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W: Write> Compressor<W> {
    /// Writes to `out`, compressed if so.
    pub fn new(compression: Option<Compression>, out: W) -> io::Result<Self> {
        Ok(match compression {
            None => Self::Plain(out),
            Some(Compression::Gzip) => Self::Gzip(GzEncoder::new(out, flate2::Compression::default())),
            Some(Compression::Zstd) => {
                let mut encoder = zstd::stream::write::Encoder::new(out, zstd::DEFAULT_COMPRESSION_LEVEL)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
            Some(Compression::Lz4) => {
                let info = lz4_flex::frame::FrameInfo::new().content_checksum(true);
                Self::Lz4(Box::new(lz4_flex::frame::FrameEncoder::with_frame_info(info, out)))
            }
            Some(Compression::Snappy) => Self::Snappy(Box::new(snap::write::FrameEncoder::new(out))),
            Some(Compression::Brotli) => {
                let (quality, window) = BROTLI;
                let out = Latch { out, failed: None };
                Self::Brotli(Box::new(brotli::CompressorWriter::new(out, BUFFER, quality, window)))
            }
        })
    }

    /// Ends the stream and gives back what was written to.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Lz4(encoder) => encoder.finish().map_err(io::Error::other),
            Self::Snappy(encoder) => encoder.into_inner().map_err(|error| io::Error::other(error.to_string())),
            Self::Brotli(encoder) => {
                let Latch { out, failed } = encoder.into_inner();
                failed.map_or(Ok(out), Err)
            }
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
            Self::Lz4(encoder) => encoder.write(bytes),
            Self::Snappy(encoder) => encoder.write(bytes),
            Self::Brotli(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
            Self::Lz4(encoder) => encoder.flush(),
            Self::Snappy(encoder) => encoder.flush(),
            Self::Brotli(encoder) => encoder.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Compression; 5] =
        [Compression::Gzip, Compression::Zstd, Compression::Lz4, Compression::Snappy, Compression::Brotli];

    fn compressed(compression: Compression, text: &[u8]) -> Vec<u8> {
        let mut out = Compressor::new(Some(compression), Vec::new()).unwrap();
        out.write_all(text).unwrap();
        out.finish().unwrap()
    }

    fn read(name: &str, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompressed(name, bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    fn text() -> Vec<u8> {
        (0..20_000).flat_map(|line| format!("line {line}\n").into_bytes()).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let text = text();
        for compression in ALL {
            let bytes = compressed(compression, &text);
            let name = format!("a.csv{}", compression.suffix());
            assert!(bytes.len() < text.len() / 2, "{compression}");
            assert!(read(&name, &bytes).unwrap() == text, "{compression}");
            if compression != Compression::Brotli {
                let two = [compressed(compression, b"a\n"), compressed(compression, b"b\n")].concat();
                assert_eq!(read(&name, &two).unwrap(), b"a\nb\n", "{compression}");
            }
        }
        assert_eq!(read("a.csv", b"a\n").unwrap(), b"a\n");
        assert_eq!(read("a.gz", b"").unwrap(), b"");
    }

    #[test]
    fn what_is_cut_short_is_told() {
        let text = text();
        for compression in ALL {
            let bytes = compressed(compression, &text);
            let name = format!("a{}", compression.suffix());
            assert!(read(&name, &bytes[..bytes.len() / 2]).is_err(), "{compression}");
        }
    }

    /// Snappy frames have no end, and gzip, Zstandard and Brotli know of theirs.
    #[test]
    fn lz4_cut_between_blocks_is_told() {
        let small = lz4_flex::frame::BlockSize::Max64KB;
        let info = lz4_flex::frame::FrameInfo::new().block_size(small).content_checksum(true);
        let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&text()).unwrap();
        let frame = encoder.finish().unwrap();
        let length = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap()) & !(1 << 31);
        let mut at = 7;
        let mut blocks = 0;
        while length(at) > 0 {
            for cut in [at, at + 1, at + 3, at + 4] {
                let error = read("a.lz4", &frame[..cut]).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{cut}: {error}");
            }
            (at, blocks) = (at + 4 + length(at) as usize, blocks + 1);
        }
        assert!(blocks > 2);
        for cut in 4..7 {
            assert!(read("a.lz4", &frame[..cut]).is_err(), "{cut}");
        }
        for cut in at..frame.len() {
            assert!(read("a.lz4", &frame[..cut]).is_err(), "{cut}");
            assert!(read("a.lz4", &[&frame[..], &frame[..cut]].concat()).is_err(), "{cut}");
        }
        let two = [&frame[..], &frame[..]].concat();
        assert_eq!(read("a.lz4", &two).unwrap().len(), 2 * text().len());
    }

    #[test]
    fn bytes_tell_a_kind_without_a_name_or_against_it() {
        for compression in [Compression::Gzip, Compression::Zstd, Compression::Snappy] {
            assert_eq!(read("part-00000", &compressed(compression, b"a\n")).unwrap(), b"a\n");
        }
        let wrong = read("a.csv.gz", b"user,price\n").unwrap_err();
        assert_eq!(wrong.to_string(), "its name says gzip, and its bytes do not");
        assert!(read("a.zst", &compressed(Compression::Gzip, b"a")).is_err());
        assert!(read("a.br", b"user,price\nana,1\n").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0..5_usize, cut in 0..200_usize) {
            for name in ["a", "a.gz", "a.zst", "a.lz4", "a.sz", "a.br"] {
                let _ = read(name, &bytes).map(|out| out.len());
            }
            let mut damaged = compressed(ALL[kind], &bytes);
            if let Some(byte) = damaged.get_mut(cut) {
                *byte ^= 0x10;
            }
            let _ = read(&format!("a{}", ALL[kind].suffix()), &damaged);
        }
    }
}
