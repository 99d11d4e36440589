//! The blocks that Hadoop's codecs for Snappy and LZ4 write, and so does Spark: the length of what is in a block, then
//! chunks of it, each compressed and with its length before it. Lengths have four bytes, the highest first.

use std::io::{self, Read};

/// Longest block or chunk that is believed.
const MAX: u32 = 64 << 20;

/// Decompresses one chunk to at most so many bytes.
type Decompress = fn(&[u8], usize) -> io::Result<Vec<u8>>;

pub(super) struct Blocks<R> {
    from: R,
    decompress: Decompress,
    /// Bytes of the block that are in later chunks.
    left: usize,
    chunk: io::Cursor<Vec<u8>>,
}

impl<R: Read> Blocks<R> {
    pub(super) fn snappy(from: R) -> Self {
        Self { from, decompress: snappy, left: 0, chunk: io::Cursor::default() }
    }

    pub(super) fn lz4(from: R) -> Self {
        Self { from, decompress: lz4, left: 0, chunk: io::Cursor::default() }
    }

    /// The next length; none at the end of the file.
    fn length(&mut self) -> io::Result<Option<u32>> {
        let mut bytes = Vec::with_capacity(4);
        self.from.by_ref().take(4).read_to_end(&mut bytes)?;
        match <[u8; 4]>::try_from(bytes).map(u32::from_be_bytes) {
            Ok(length) if length <= MAX => Ok(Some(length)),
            Ok(_) => Err(damaged()),
            Err(none) if none.is_empty() => Ok(None),
            Err(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl<R: Read> Read for Blocks<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.chunk.read(into)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            if self.left == 0 {
                match self.length()? {
                    Some(length) => self.left = length as usize,
                    None => return Ok(0),
                }
                continue;
            }
            let length = self.length()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let mut compressed = Vec::new();
            self.from.by_ref().take(length.into()).read_to_end(&mut compressed)?;
            if compressed.len() < length as usize {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let chunk = (self.decompress)(&compressed, self.left)?;
            if chunk.is_empty() {
                return Err(damaged());
            }
            self.left = self.left.checked_sub(chunk.len()).ok_or_else(damaged)?;
            self.chunk = io::Cursor::new(chunk);
        }
    }
}

fn snappy(chunk: &[u8], most: usize) -> io::Result<Vec<u8>> {
    match snap::raw::decompress_len(chunk) {
        Ok(length) if length <= most => snap::raw::Decoder::new().decompress_vec(chunk).map_err(io::Error::other),
        Ok(_) => Err(damaged()),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn lz4(chunk: &[u8], most: usize) -> io::Result<Vec<u8>> {
    lz4_flex::block::decompress(chunk, most).map_err(io::Error::other)
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its name says that it is compressed, and its bytes do not")
}

#[cfg(test)]
mod tests {
    use super::super::decompressed;
    use super::*;

    fn block(chunks: &[(usize, Vec<u8>)]) -> Vec<u8> {
        let length: usize = chunks.iter().map(|(length, _)| length).sum();
        let mut out = (length as u32).to_be_bytes().to_vec();
        for (_, chunk) in chunks {
            out.extend((chunk.len() as u32).to_be_bytes());
            out.extend(chunk);
        }
        out
    }

    fn read(name: &str, bytes: &[u8]) -> io::Result<String> {
        let mut out = String::new();
        decompressed(name, bytes)?.read_to_string(&mut out)?;
        Ok(out)
    }

    #[test]
    fn blocks_of_chunks() {
        let snappy = |text: &str| (text.len(), snap::raw::Encoder::new().compress_vec(text.as_bytes()).unwrap());
        let file = [block(&[snappy("one\n"), snappy("two\n")]), block(&[]), block(&[snappy("three\n")])].concat();
        assert_eq!(read("part-00000.snappy", &file).unwrap(), "one\ntwo\nthree\n");
        let lz4 = |text: &str| (text.len(), lz4_flex::block::compress(text.as_bytes()));
        let file = [block(&[lz4("one\n"), lz4("two\n")]), block(&[lz4("three\n")])].concat();
        assert_eq!(read("part-00000.lz4", &file).unwrap(), "one\ntwo\nthree\n");
        for cut in [3, 6, 12] {
            assert!(read("part-00000.lz4", &file[..cut]).is_err());
        }
        assert!(read("a.snappy", b"user,price\n").is_err());
        // A chunk that claims more than its block.
        assert!(read("a.snappy", &block(&[(2, snappy("one\n").1)])).is_err());
    }
}
