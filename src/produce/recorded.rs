//! The pace at which records happened: when each line of a file is due, told from one of its columns.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use std::io;

/// Numbers from here on are milliseconds since 1970, smaller ones seconds: as seconds this is the year 5138.
const LEAST_MILLIS: i64 = 100_000_000_000;

/// Where the time of a record stands, and how fast time goes by.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The column with the time.
    pub column: TimeColumn,
    /// Between columns; a character of ASCII.
    pub delimiter: u8,
    /// How a time is written, in the words of `strftime`; without it an ISO 8601 date with or without a time, or
    /// seconds or milliseconds since 1970.
    pub format: Option<String>,
    /// How many seconds of the records go by in a second; positive.
    pub speed_up: f64,
}

/// A column of a file of lines.
#[derive(Debug, Clone, PartialEq)]
pub enum TimeColumn {
    /// Its name in the first line, which is then no record.
    Named(String),
    /// Its position, from 0.
    At(usize),
}

/// When the lines of a file are due, in milliseconds after the first. A line that happened before one that stands before
/// it is due together with that.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// Rising times, and how many lines are due by then: one for each millisecond in which some are.
    steps: Vec<(u64, u64)>,
}

/// Reads the times of lines, one after the other.
pub(super) struct Timekeeper {
    recorded: Recorded,
    column: usize,
    first_ms: Option<i64>,
    lines: u64,
    schedule: Schedule,
}

impl Recorded {
    /// Starts with the first line of the file, which is a record unless it has the name of the column.
    ///
    /// # Errors
    /// When it does not have that name, or there is no speed.
    pub(super) fn start(&self, header: &str) -> io::Result<Timekeeper> {
        if !(self.speed_up > 0.0 && self.speed_up.is_finite()) {
            return Err(invalid(format!("a speed-up of {}: how many seconds go by in one, above 0", self.speed_up)));
        }
        let column = match &self.column {
            TimeColumn::At(column) => *column,
            TimeColumn::Named(name) => {
                let names: Vec<_> = fields(header, self.delimiter).collect();
                let found = names.iter().position(|column| column == name);
                found
                    .ok_or_else(|| invalid(format!("line 1 has no column `{name}`, but these: {}", names.join(", "))))?
            }
        };
        Ok(Timekeeper { recorded: self.clone(), column, first_ms: None, lines: 0, schedule: Schedule::default() })
    }

    fn parse(&self, text: &str) -> Option<i64> {
        let text = text.trim();
        if let Some(format) = &self.format {
            let zoned = DateTime::parse_from_str(text, format).map(|time| time.timestamp_millis());
            let plain = || NaiveDateTime::parse_from_str(text, format).map(|time| time.and_utc().timestamp_millis());
            return zoned.or_else(|_| plain()).ok().or_else(|| midnight(NaiveDate::parse_from_str(text, format).ok()?));
        }
        if let Ok(number) = text.parse::<i64>() {
            let millis = if number.abs() >= LEAST_MILLIS { Some(number) } else { number.checked_mul(1000) };
            return millis;
        }
        if let Ok(zoned) = DateTime::parse_from_rfc3339(text) {
            return Some(zoned.timestamp_millis());
        }
        let text = text.replace('T', " ");
        let plain = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"];
        let plain = plain.iter().find_map(|format| NaiveDateTime::parse_from_str(&text, format).ok());
        plain.map(|time| time.and_utc().timestamp_millis()).or_else(|| midnight(text.parse().ok()?))
    }
}

impl Timekeeper {
    /// Takes the next record, which stands in this line of the file (from 1).
    ///
    /// # Errors
    /// When it has no time in its column.
    pub(super) fn take(&mut self, number: u64, line: &str) -> io::Result<()> {
        let column = self.column + 1;
        let text = fields(line, self.recorded.delimiter).nth(self.column);
        let text = text.ok_or_else(|| invalid(format!("line {number} has no column {column}, where its time is")))?;
        let time_ms = self.recorded.parse(&text);
        let time_ms = time_ms.ok_or_else(|| {
            let expected = match &self.recorded.format {
                Some(format) => format!("a time as `{format}`"),
                None => "a time as `2026-01-31T12:00:00`, or seconds or milliseconds since 1970".to_string(),
            };
            invalid(format!("line {number}, column {column}: `{text}` is not {expected}"))
        })?;
        let after_ms = time_ms.saturating_sub(*self.first_ms.get_or_insert(time_ms)).max(0);
        let due = (after_ms as f64 / self.recorded.speed_up) as u64;
        self.lines += 1;
        match self.schedule.steps.last_mut() {
            Some((last, lines)) if due <= *last => *lines = self.lines,
            _ => self.schedule.steps.push((due, self.lines)),
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Schedule {
        self.schedule
    }
}

impl Schedule {
    /// How many lines are due so many milliseconds after the first.
    pub(super) fn due_by(&self, after_ms: u64) -> u64 {
        let passed = self.steps.partition_point(|(due, _)| *due <= after_ms);
        passed.checked_sub(1).map_or(0, |last| self.steps[last].1)
    }

    /// How many milliseconds after the first this line is due; none behind the last.
    pub(super) fn due_at(&self, line: u64) -> Option<u64> {
        self.steps.get(self.steps.partition_point(|(_, lines)| *lines <= line)).map(|(due, _)| *due)
    }
}

/// The columns of a line; `"` around one keeps delimiters in it, and `""` stands for one there.
fn fields(line: &str, delimiter: u8) -> impl Iterator<Item = String> {
    let mut rest = Some(line.trim_end_matches(['\r', '\n']));
    std::iter::from_fn(move || {
        let text = rest?;
        let mut quoted = false;
        let end = text.bytes().position(|byte| {
            quoted ^= byte == b'"';
            byte == delimiter && !quoted
        });
        rest = end.map(|end| &text[end + 1..]);
        let field = &text[..end.unwrap_or(text.len())];
        let inner = field.strip_prefix('"').and_then(|field| field.strip_suffix('"'));
        Some(inner.map_or_else(|| field.to_string(), |inner| inner.replace("\"\"", "\"")))
    })
}

fn midnight(date: NaiveDate) -> Option<i64> {
    date.and_hms_opt(0, 0, 0).map(|time| time.and_utc().timestamp_millis())
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(format: Option<&str>, speed_up: f64) -> Recorded {
        Recorded { column: TimeColumn::At(1), delimiter: b',', format: format.map(str::to_string), speed_up }
    }

    #[test]
    fn times_in_many_forms() {
        let parse = |text: &str| recorded(None, 1.0).parse(text);
        let noon = Some(1_357_041_600_000);
        for text in [
            "1357041600",
            "1357041600000",
            "2013-01-01T12:00",
            "2013-01-01 12:00",
            " 2013-01-01 12:00:00.000 ",
            "2013-01-01T12:00:00Z",
            "2013-01-01T07:00:00-05:00",
        ] {
            assert_eq!(parse(text), noon, "{text}");
        }
        assert_eq!(parse("2013-01-01"), Some(1_356_998_400_000));
        assert_eq!([parse(""), parse("noon"), parse("12:00"), parse("99999999999999999999")], [None; 4]);
        assert_eq!(recorded(Some("%d.%m.%Y %H:%M"), 1.0).parse("01.01.2013 12:00"), noon);
        assert_eq!(recorded(Some("%d.%m.%Y"), 1.0).parse("01.01.2013"), Some(1_356_998_400_000));
    }

    #[test]
    fn lines_are_due_at_their_pace() {
        let mut times = recorded(None, 10.0).start("").unwrap();
        for (number, line) in ["a,100", "b,100", "\"c,c\",110", "d,105", "e,140"].iter().enumerate() {
            times.take(number as u64 + 1, line).unwrap();
        }
        let schedule = times.finish();
        assert_eq!([0, 999, 1000, 3999, 4000].map(|ms| schedule.due_by(ms)), [2, 2, 4, 4, 5]);
        let due = [Some(0), Some(0), Some(1000), Some(1000), Some(4000), None];
        assert_eq!([0, 1, 2, 3, 4, 5].map(|line| schedule.due_at(line)), due);
    }

    #[test]
    fn mistakes_name_line_and_column() {
        let mut times = recorded(None, 1.0).start("").unwrap();
        let wrong = |result: io::Result<()>| result.unwrap_err().to_string();
        assert_eq!(wrong(times.take(7, "a")), "line 7 has no column 2, where its time is");
        let expected =
            "line 8, column 2: `soon` is not a time as `2026-01-31T12:00:00`, or seconds or milliseconds since 1970";
        assert_eq!(wrong(times.take(8, "a,soon,b")), expected);
        let named = Recorded { column: TimeColumn::Named("when".into()), ..recorded(None, 1.0) };
        assert_eq!(
            named.start("id,time\n").err().unwrap().to_string(),
            "line 1 has no column `when`, but these: id, time"
        );
        assert_eq!(named.start("id,\"when\"").unwrap().column, 1);
        assert!(recorded(None, 0.0).start("").is_err());
    }
}
