//! The lines of a file, from any of them on.

use memchr::memchr_iter;
use std::fs::File;
use std::io::{self, Read, SeekFrom};
use std::path::PathBuf;
use tokio::io::{AsyncBufReadExt, AsyncSeekExt, BufReader};

/// Lines between two whose places are remembered.
const MARK_EVERY: u64 = 1 << 14;
const BUFFER: usize = 1 << 20;

/// A file with the places of some of its lines. It must not change while it is sent.
#[derive(Debug)]
pub(super) struct LineFile {
    path: PathBuf,
    lines: u64,
    /// Where line `i * MARK_EVERY` starts, in bytes.
    marks: Vec<u64>,
}

/// A place in the file, at the start of a line.
pub(super) struct FileCursor {
    reader: BufReader<tokio::fs::File>,
}

impl LineFile {
    /// Reads it once, to count.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let mut file = File::open(&path)?;
        let mut buffer = vec![0; BUFFER];
        let (mut lines, mut marks, mut place, mut terminated) = (0, vec![0], 0, true);
        loop {
            let read = file.read(&mut buffer)?;
            let Some(last) = buffer[..read].last() else { break };
            terminated = *last == b'\n';
            for newline in memchr_iter(b'\n', &buffer[..read]) {
                lines += 1;
                if lines % MARK_EVERY == 0 {
                    marks.push(place + newline as u64 + 1);
                }
            }
            place += read as u64;
        }
        Ok(Self { path, lines: lines + u64::from(!terminated), marks })
    }

    /// How many lines it has; an unterminated last one counts.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    pub(super) async fn at(&self, line: u64) -> io::Result<FileCursor> {
        let mark = (line / MARK_EVERY).min(self.marks.len() as u64 - 1);
        let mut file = tokio::fs::File::open(&self.path).await?;
        file.seek(SeekFrom::Start(self.marks[mark as usize])).await?;
        let mut cursor = FileCursor { reader: BufReader::with_capacity(BUFFER, file) };
        let mut skip = line - mark * MARK_EVERY;
        let mut passed_by = Vec::new();
        while skip > 0 {
            passed_by.clear();
            match cursor.read(skip, &mut passed_by).await? {
                0 => break,
                lines => skip -= lines,
            }
        }
        Ok(cursor)
    }
}

impl FileCursor {
    /// Appends at most `most` lines, and at least one unless at the end; returns how many.
    pub(super) async fn read(&mut self, most: u64, out: &mut Vec<u8>) -> io::Result<u64> {
        loop {
            let bytes = self.reader.fill_buf().await?;
            if bytes.is_empty() {
                let unterminated = out.last().is_some_and(|byte| *byte != b'\n');
                if unterminated {
                    out.push(b'\n');
                }
                return Ok(u64::from(unterminated));
            }
            let (lines, end) = memchr_iter(b'\n', bytes)
                .take(usize::try_from(most).unwrap_or(usize::MAX))
                .fold((0, bytes.len()), |(lines, _), newline| (lines + 1, newline + 1));
            out.extend_from_slice(&bytes[..end]);
            self.reader.consume(end);
            if lines > 0 {
                return Ok(lines);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[tokio::test]
    async fn reads_from_any_line() {
        let mut text = String::new();
        for line in 0..(2 * MARK_EVERY + 10) {
            text += &format!("line {line}\n");
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.trim_end().as_bytes()).unwrap();
        let lines = LineFile::open(file.path().to_owned()).unwrap();
        assert_eq!(lines.lines(), 2 * MARK_EVERY + 10);
        for from in [0, 1, MARK_EVERY - 1, MARK_EVERY, 2 * MARK_EVERY + 9, 2 * MARK_EVERY + 10] {
            let mut cursor = lines.at(from).await.unwrap();
            let mut out = Vec::new();
            while cursor.read(1000, &mut out).await.unwrap() > 0 {}
            let rest: String = text.split_inclusive('\n').skip(from as usize).collect();
            assert!(String::from_utf8(out).unwrap() == rest, "from line {from}");
        }
    }
}
