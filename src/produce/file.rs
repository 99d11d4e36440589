//! The lines of a file, from any of them on, and when they are due.

use super::pace::Timing;
use super::recorded::{TimeColumn, Timekeeper};
use super::{FileConfig, FilePace};
use flate2::read::MultiGzDecoder;
use memchr::memchr_iter;
use std::fs::File;
use std::io::{self, BufRead, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, AsyncSeekExt, BufReader};

/// Lines between two whose places are remembered.
const MARK_EVERY: u64 = 1 << 14;
const BUFFER: usize = 1 << 20;

/// A file with the places of some of its lines. It must not change while it is sent.
#[derive(Debug)]
pub(super) struct LineFile {
    path: PathBuf,
    /// Holds the file that `path` names, if it was unpacked for this.
    _unpacked: Option<NamedTempFile>,
    lines: u64,
    /// Where line `i * MARK_EVERY` starts, in bytes.
    marks: Vec<u64>,
}

/// A place in the file, at the start of a line.
pub(super) struct FileCursor {
    reader: BufReader<tokio::fs::File>,
}

impl LineFile {
    /// Reads it once, to count its lines and to see when they are due.
    pub(super) fn open(config: &FileConfig) -> io::Result<(Self, Timing)> {
        let unpacked =
            if config.path.extension().is_some_and(|end| end == "gz") { Some(unpack(&config.path)?) } else { None };
        let path = unpacked.as_ref().map_or(&*config.path, NamedTempFile::path).to_owned();
        let mut reader = io::BufReader::with_capacity(BUFFER, File::open(&path)?);
        let mut line = Vec::new();
        let named =
            matches!(&config.pace, FilePace::Recorded(recorded) if matches!(recorded.column, TimeColumn::Named(_)));
        let header = config.header || named;
        let mut place = if header { reader.read_until(b'\n', &mut line)? as u64 } else { 0 };
        let mut times = match &config.pace {
            FilePace::Recorded(recorded) => Some(recorded.start(&String::from_utf8_lossy(&line))?),
            FilePace::Even(_) => None,
        };
        let (mut lines, mut marks) = (0, vec![place]);
        while config.records.is_none_or(|records| lines < records) {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)?;
            if read == 0 {
                break;
            }
            lines += 1;
            place += read as u64;
            if lines % MARK_EVERY == 0 {
                marks.push(place);
            }
            if let Some(times) = &mut times {
                times.take(lines + u64::from(header), &String::from_utf8_lossy(&line))?;
            }
        }
        let timing = match &config.pace {
            FilePace::Even(pace) => Timing::Pace(*pace, 0),
            FilePace::Recorded(_) => Timing::Recorded(Arc::new(times.map(Timekeeper::finish).unwrap_or_default())),
        };
        Ok((Self { path, _unpacked: unpacked, lines, marks }, timing))
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

/// A file without its compression.
fn unpack(path: &Path) -> io::Result<NamedTempFile> {
    let mut unpacked = NamedTempFile::new()?;
    io::copy(&mut MultiGzDecoder::new(File::open(path)?), &mut unpacked)?;
    Ok(unpacked)
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
    use super::super::{Pace, Recorded};
    use super::*;
    use std::io::Write;

    fn config(path: &Path) -> FileConfig {
        let pace = FilePace::Even(Pace::Unlimited);
        FileConfig { path: path.to_owned(), header: false, records: None, pace, acknowledge: false }
    }

    async fn all(file: &LineFile) -> String {
        let (mut cursor, mut out, mut lines) = (file.at(0).await.unwrap(), Vec::new(), 0);
        while lines < file.lines() {
            lines += cursor.read(file.lines() - lines, &mut out).await.unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn a_header_is_not_sent_nor_more_than_asked_for() {
        let mut packed = tempfile::Builder::new().suffix(".csv.gz").tempfile().unwrap();
        let mut encoder = flate2::write::GzEncoder::new(&mut packed, flate2::Compression::fast());
        encoder.write_all(b"id,time\n1,100\n2,101\n3,soon\n").unwrap();
        encoder.finish().unwrap();
        let plain = config(packed.path());
        assert_eq!(all(&LineFile::open(&plain).unwrap().0).await, "id,time\n1,100\n2,101\n3,soon\n");
        let column = TimeColumn::Named("time".into());
        let pace = FilePace::Recorded(Recorded { column, delimiter: b',', format: None, speed_up: 2.0 });
        let timed = FileConfig { records: Some(2), pace, ..plain.clone() };
        let (file, timing) = LineFile::open(&timed).unwrap();
        assert_eq!(all(&file).await, "1,100\n2,101\n");
        let Timing::Recorded(schedule) = timing else { panic!() };
        assert_eq!([schedule.due_at(0), schedule.due_at(1), schedule.due_at(2)], [Some(0), Some(500), None]);
        let wrong = LineFile::open(&FileConfig { records: None, ..timed }).err().unwrap().to_string();
        assert!(wrong.starts_with("line 4, column 2: `soon` is not a time"), "{wrong}");
    }

    #[tokio::test]
    async fn reads_from_any_line() {
        let mut text = String::new();
        for line in 0..(2 * MARK_EVERY + 10) {
            text += &format!("line {line}\n");
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.trim_end().as_bytes()).unwrap();
        let lines = LineFile::open(&config(file.path())).unwrap().0;
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
