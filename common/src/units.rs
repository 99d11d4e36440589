//! Durations and sizes as people write them: `250ms`, `10s`, `5min`, `64KiB`, `4MiB`.

use std::time::Duration;

/// Reads a duration: a whole or decimal number and one of `ms`, `s`, `min`, `h` (`us` too).
///
/// # Errors
/// Says what was expected when the text is not a positive duration of whole microseconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_number(text);
    let scale_us = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "min" | "m" => 60e6,
        "h" => 3600e6,
        _ => return Err(format!("`{text}` is not a duration; write for example \"250ms\", \"10s\" or \"5min\"")),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| format!("`{text}` is not a duration; write for example \"250ms\", \"10s\" or \"5min\""))?;
    let micros = number * scale_us;
    if !(1.0..=1e15).contains(&micros) {
        return Err(format!("`{text}` is out of range; a duration is between 1us and 30 years"));
    }
    Ok(Duration::from_micros(micros.round() as u64))
}

/// Reads a size in bytes: a number and one of `B`, `KiB`, `MiB`, `GiB` (or `KB`, `MB`, `GB` for powers of ten).
///
/// # Errors
/// Says what was expected when the text is not a size.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size; write for example \"64KiB\", \"4MiB\" or \"1GiB\"");
    let (number, unit) = split_number(text);
    let scale = match unit {
        "" | "B" => 1.0,
        "KB" | "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" | "K" => 1024.0,
        "MiB" | "M" => 1024.0 * 1024.0,
        "GiB" | "G" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * scale;
    if !bytes.is_finite() || !(0.0..=1e15).contains(&bytes) {
        return Err(wrong());
    }
    Ok(bytes.round() as u64)
}

/// Reads a point in time, in milliseconds since 1970 UTC: a date and time as in RFC 3339, or the time since 1970 as a duration.
///
/// # Errors
/// Says what was expected when the text is neither, or not in whole milliseconds.
pub fn parse_time(text: &str) -> Result<i64, String> {
    let (number, unit) = split_number(text);
    if unit.chars().all(|c| c.is_ascii_alphabetic()) {
        if number.parse() == Ok(0.0) {
            return Ok(0);
        }
        let micros = parse_duration(text)?.as_micros();
        return match micros % 1000 {
            0 => Ok((micros / 1000) as i64),
            _ => Err(format!("`{text}` is not in whole milliseconds")),
        };
    }
    let wrong = || format!("`{text}` is not a time; write for example \"2026-01-31T12:00:00Z\" or \"1500s\"");
    let time: toml::value::Datetime = text.trim().parse().map_err(|_| wrong())?;
    let (Some(date), Some(clock), Some(offset)) = (time.date, time.time, time.offset) else {
        return Err(wrong());
    };
    let minutes = match offset {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i64::from(minutes),
    };
    let (second, nanosecond) = (clock.second.unwrap_or(0), clock.nanosecond.unwrap_or(0));
    if nanosecond % 1_000_000 != 0 {
        return Err(format!("`{text}` is not in whole milliseconds"));
    }
    let days = days_since_1970(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let minutes = (days * 24 + i64::from(clock.hour)) * 60 + i64::from(clock.minute) - minutes;
    Ok((minutes * 60 + i64::from(second)) * 1000 + i64::from(nanosecond / 1_000_000))
}

/// Of a date in the Gregorian calendar; years begin in March, so that leap days come last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn split_number(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("1.5 s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("5min"), Ok(Duration::from_secs(300)));
        assert!(parse_duration("10").is_err());
        assert!(parse_duration("0s").is_err());
        assert!(parse_duration("-1s").is_err());
    }

    #[test]
    fn times() {
        assert_eq!(parse_time("0s"), Ok(0));
        assert_eq!(parse_time("1.5s"), Ok(1500));
        assert_eq!(parse_time("1970-01-01T00:00:00Z"), Ok(0));
        assert_eq!(parse_time("2000-02-29T12:34:56.789Z"), Ok(951_827_696_789));
        assert_eq!(parse_time("2026-01-31T12:00:00+02:30"), Ok(1_769_851_800_000));
        assert_eq!(parse_time("1969-12-31T23:59:59Z"), Ok(-1000));
        for wrong in ["", "noon", "1", "-1s", "10us", "2026-01-31", "2026-01-31T12:00:00", "2026-01-31T12:00:00.0001Z"]
        {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("64KiB"), Ok(65536));
        assert_eq!(parse_size("4 MiB"), Ok(4 << 20));
        assert_eq!(parse_size("2G"), Ok(2 << 30));
        assert_eq!(parse_size("10"), Ok(10));
        assert!(parse_size("4 pounds").is_err());
    }
}
