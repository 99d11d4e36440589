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
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * scale;
    if !bytes.is_finite() || !(0.0..=1e15).contains(&bytes) {
        return Err(wrong());
    }
    Ok(bytes.round() as u64)
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
    fn sizes() {
        assert_eq!(parse_size("64KiB"), Ok(65536));
        assert_eq!(parse_size("4 MiB"), Ok(4 << 20));
        assert_eq!(parse_size("10"), Ok(10));
        assert!(parse_size("4 pounds").is_err());
    }
}
